"""`sae eval`: every metric of a dictionary; of one that was pruned, beside those of what it was made of."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from sae_cli import build
from sae_cli.activations.text_read import check_served, measured_text, text_facts
from sae_cli.artifacts.files import damaged, take_file, write_json
from sae_cli.artifacts.lock import owner_of, wait_until_free
from sae_cli.artifacts.run_directory import finished_run, open_run
from sae_cli.artifacts.stored_run import FinishedRun
from sae_cli.artifacts.survey import EVALUATIONS
from sae_cli.config.commands import CompareConfig, EvalConfig, PruneConfig
from sae_cli.config.data import SyntheticData
from sae_cli.config.names import evaluation_name
from sae_cli.config.settings import flatten, result_settings
from sae_cli.config.stored import CONFIG_FILE, as_yaml
from sae_cli.dictionaries.files import load_dictionary
from sae_cli.errors import BusyError, RequestError
from sae_cli.evaluation import evaluate_together
from sae_cli.evaluation.held_out import LOGITS_AT_ONCE
from sae_cli.evaluation.loss_tables import LABELS, domain_rows, loss_rows, reference_rows
from sae_cli.evaluation.measure import FEATURES_AT_ONCE, Measurement
from sae_cli.evaluation.rare_features import rare_report
from sae_cli.evaluation.references import References
from sae_cli.evaluation.subject import ModelSubject, Subject, SyntheticSubject, make_subject
from sae_cli.jobs.estimate import Estimate, announce, expect_memory
from sae_cli.jobs.result import StageResult
from sae_cli.metrics import VERSION
from sae_cli.runs.definitions import VERSION_KEY
from sae_cli.runs.dictionary_run import PRUNE, DictionaryRun, pruned_from, read_dictionary_run
from sae_cli.runs.file_names import ABLATION_FILE, DEFAULT, EVAL_FILE, FEATURES_FILE
from sae_cli.runs.outside import can_keep, check_place, folder_of, root_of
from sae_cli.runs.parents import check_model, model_facts
from sae_cli.runs.stored_figures import old_definitions, shows_stored
from sae_cli.terminal import console
from sae_cli.terminal.plus_minus import plus_minus

_FEATURES = {"count": "I64 F", "frequency": "F32|F64 F", "de_projection": "F32|F64 F"}

_FACTS = ("tokens_sha256",)
_FIGURES = ("killed", "l0", "fvu", "loss_recovered", "mmcs_truth_to_dictionary")
_BEFORE = (
    "features",
    "l0",
    "mse",
    "fvu",
    "loss_recovered",
    "loss_recovered_mean",
    "loss_recovered_direct",
    "ce_increase",
    "kl_sae",
    "alive",
    "dense_10",
)


def run(config: EvalConfig, directory: Path, evaluation_name: str) -> StageResult:
    """Evaluate the dictionary in `directory`; the results go into its folder `eval/<evaluation_name>`.

    Several dictionaries at once are a run of their own, and `directory` is its place.
    """
    if config.together():
        return evaluate_together.run(config, directory)
    source = read_dictionary_run(directory)
    return _result(source, _evaluate(source, config, evaluation_name))


def settings_for(directory: Path, like: PruneConfig | CompareConfig) -> EvalConfig:
    """The evaluation of a run that another command asks for, with that command's own settings."""
    return EvalConfig(
        run=str(directory),
        runs_dir=like.runs_dir,
        device=like.device,
        verify=like.verify,
        model_rows=like.model_rows,
        eval=like.eval,
        features=like.features,
    )


def default_name(config: EvalConfig) -> str:
    """The name of an evaluation of these settings."""
    return evaluation_name(config, flatten(EvalConfig(run=config.run)))


def evaluation(source: DictionaryRun, config: EvalConfig, name: str, said: bool = False) -> FinishedRun:
    """The finished evaluation of a dictionary that another command needs, made if the run has none; if another process
    makes it, it is waited for.

    It is made in `config.out`; without that in the run, or below `config.runs_dir` where the run cannot be written.
    What is unlike the training of the dictionary is said, unless that was `said`.
    """
    while True:
        placed = _placed(source, config, name)
        try:
            return _evaluate(source, placed, name, said)
        except BusyError:
            if owner := owner_of(folder := folder_of(source.run, placed.out, EVALUATIONS, name)):
                console.log(f"waiting for process {owner.pid} on {owner.host}, which makes {folder}")
            wait_until_free(folder)


def _placed(source: DictionaryRun, config: EvalConfig, name: str) -> EvalConfig:
    """With `out` as it has to be: none where the run has this evaluation, and some where it cannot be written."""
    folder = folder_of(source.run, None, EVALUATIONS, name)
    with suppress(BusyError):  # it is being made
        if (finished := finished_run(folder, _settings(config), overwrite=False)) and not old_definitions(finished):
            return replace(config, out=None)
    if config.out is not None or can_keep(source.run, folder):
        return config
    out = str(Path(config.runs_dir, EVALUATIONS))
    console.log(f"{source.run.directory}: cannot be written; its evaluation is kept in {out}")
    return replace(config, out=out)


def _evaluate(source: DictionaryRun, config: EvalConfig, name: str, said: bool = False) -> FinishedRun:
    folder = folder_of(source.run, config.out, EVALUATIONS, name)
    settings, overwrite = _settings(config), config.overwrite
    if (finished := finished_run(folder, settings, overwrite)) and (old := old_definitions(finished)):
        console.log(f"{old}; measuring again")
        finished, overwrite = None, True
    if finished:
        check_served(finished, source, config.data, said)
        console.log(f"found finished: {folder}")
        return finished
    check_place(source.run, config.out, folder, "eval")
    if not isinstance(source.trained_with.data, SyntheticData):
        check_model(source)
    text = measured_text(source, config.data, said)
    started, before = time.monotonic(), _before(source.run, config, name)
    device = build.device(config.device)
    dictionary = load_dictionary(source.run, config.verify).to(device)
    subject = make_subject(source.trained_with, config.data, config.model_rows, device)
    if isinstance(subject, ModelSubject):
        n_parameters = sum(p.nbytes for p in subject.model.hf.parameters())
        needs = Estimate(memory=n_parameters + 4 * (LOGITS_AT_ONCE + FEATURES_AT_ONCE))
        announce([needs])
        expect_memory(needs.memory)
    references = _references(source, subject, config)
    measurement = Measurement(subject, config.eval, config.features, tuple(config.baselines), references)
    ablation = measurement.ablation(dictionary, config.ablate) if config.ablate else None

    with open_run(folder, "eval", settings, overwrite, [source.run]) as claimed:
        claimed.write_text(CONFIG_FILE, as_yaml(config))
        figures, tensors = measurement.of(dictionary)
        report = {**figures, **before, VERSION_KEY: VERSION}
        report["rare"] = rare_report(source.run, dictionary, tensors, config.features.rare_below)
        claimed.write_tensors(FEATURES_FILE, tensors)
        if ablation:
            report["ablation"], effects = ablation.results()
            claimed.write_tensors(ABLATION_FILE, effects)
        claimed.write_json(EVAL_FILE, report)
        if name == DEFAULT:
            # In the evaluation's own folder first: what is left there by a process that is killed, the next one clears.
            write_json(copy := folder / f".{EVAL_FILE}", report)
            take_file(copy, root_of(source.run, config.out) / EVAL_FILE)
        facts = text_facts(text) | model_facts(source) | {key: report[key] for key in _FACTS if key in report}
        return claimed.finish(**facts, seconds=time.monotonic() - started)


def _settings(config: EvalConfig) -> dict[str, Any]:
    """What makes an evaluation of a run another one."""
    return {key: value for key, value in result_settings(config).items() if key != "run"}


def read_features(finished: FinishedRun, n_features: int) -> dict[str, Tensor]:
    """The statistics of the features of a dictionary.

    Raises:
        JobError: they are damaged, or not of a dictionary of so many features.
    """
    sizes = finished.expect(FEATURES_FILE, _FEATURES, others=True)
    if sizes["F"] != n_features:
        raise damaged(finished.directory / FEATURES_FILE, f"{n_features} features", f"{sizes['F']}")
    return finished.read_tensors(FEATURES_FILE)


def _references(source: DictionaryRun, subject: Subject, config: EvalConfig) -> References | None:
    """The references that are asked for, which can be had."""
    if not config.references:
        return None
    if isinstance(subject, SyntheticSubject):
        raise RequestError("references are language models, and data=synthetic has none; leave references out")
    references = References.of(source.trained_with.model, config.references, config.model_rows)
    references.check(subject.data)
    return references


def _before(run: FinishedRun, config: EvalConfig, name: str) -> dict[str, Any]:
    """Of a pruned dictionary: the same evaluation of what it was made of."""
    parent = pruned_from(run)
    if parent is None:
        if run.manifest.command == PRUNE:
            made_of = run.manifest.parents[0].path
            console.warn(f"{made_of}: {run.directory} was made of it, and it is gone or has changed: no figures before")
        return {}
    same = replace(config, run=str(parent.directory), baselines=[], references=[], ablate=[], overwrite=False)
    before = evaluation(read_dictionary_run(parent.directory), same, default_name(same), said=True)
    report = before.read_json(EVAL_FILE)
    return {"before": {key: report[key] for key in _BEFORE if key in report}, "killed": run.fact("killed", int)}


@shows_stored
def _result(source: DictionaryRun, finished: FinishedRun) -> StageResult:
    report = finished.read_json(EVAL_FILE)
    figures = {key: report[key] for key in _FIGURES if key in report}
    directory = source.run.directory
    rows = [
        *_table(source, report),
        *_baseline_rows(report),
        *ablation_rows(report),
        *domain_rows(report),
        *reference_rows(report),
    ]
    rows += [("run", str(directory)), ("evaluation", str(finished.directory))]
    header: tuple[str, ...] = ()
    if "before" in report:
        header, compared = _before_and_after(report)
        rows = [*compared, *((label, "", value) for label, value in rows)]
    return StageResult(
        directory=directory,
        title="eval",
        document={"run": str(directory), "command": "eval", "eval": report, "figures": figures},
        table=rows,
        header=header,
    )


def _before_and_after(report: dict[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    before = report["before"]
    rows = [("killed", "", f"{report['killed']:,}")]
    for key in _BEFORE:
        if before.get(key) is not None or (key in before and report.get(key) is not None):
            rows.append((LABELS.get(key, key), _shown(before[key]), _shown(report.get(key))))
    return ("", "before", "after"), rows


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _table(source: DictionaryRun, report: dict[str, Any]) -> list[tuple[str, ...]]:
    trained, facts = source.trained_with, source.run.manifest.facts
    rows: list[tuple[str, ...]] = [
        ("dictionary", f"{trained.sae.architecture}, {report['features']:,} features of width {facts['width']}"),
        ("trained on", f"{facts['tokens']:,} activations ({facts['source']})"),
        ("held-out tokens", f"{report['tokens']:,}"),
        ("L0", f"{report['l0']:.1f}"),
        ("FVU", f"{report['fvu']:.4f}"),
    ]
    if "mmcs_truth_to_dictionary" in report:
        rows.append(("MMCS truth -> dictionary", f"{report['mmcs_truth_to_dictionary']:.4f}"))
    rows += [
        *loss_rows(report),
        ("alive / dead", f"{report['alive']:,} / {report['dead']:,} (of {report['feature_tokens']:,} tokens)"),
        ("on > 1 % / > 10 % of tokens", f"{report['dense_1']:,} / {report['dense_10']:,}"),
    ]
    if report.get("token_entropy_median") is not None:
        shares = f"{report['top1_share_median']:.2f} / {report['top3_share_median']:.2f}"
        rows.append(("token entropy, bits (median)", f"{report['token_entropy_median']:.2f}"))
        rows.append(("share of the top token / top 3", shares))
    if report["rare"]["rare"]["features"]:
        rows.append((f"rare (on < {report['rare']['below']:g} of tokens)", _rare(report["rare"])))
    if report.get("logit_kurtosis_median") is not None:
        kurtosis = f"{report['logit_kurtosis_median']:.1f} / {report['logit_skew_median']:+.2f}"
        rows.append(("logit weights, kurtosis / skew", kurtosis))
    if report.get("fvu_logit") is not None:
        resid = "-" if report["fvu_resid"] is None else f"{report['fvu_resid']:.4f}"
        rows.append(("FVU in residual stream / logits", f"{resid} / {report['fvu_logit']:.4f}"))
    if report.get("nullspace") is not None:
        share = f"{report['nullspace']:.4f} (random {report['nullspace_floor']:.4f}, activations "
        rows.append(("null-space share", f"{share}{report['nullspace_variance']:.4f})"))
    return rows


def _rare(report: dict[str, Any]) -> str:
    rare, others = report["rare"], report["others"]
    parts = [f"{rare['features']:,}"]
    if others["features"]:
        parts.append(f"D/E median {rare['de_projection']['q50']:.2f} (others {others['de_projection']['q50']:.2f})")
        if rare["encoder_alignment"] is not None and others["encoder_alignment"] is not None:
            alignment = f"{rare['encoder_alignment']:.3f} (others {others['encoder_alignment']:.3f})"
            parts.append(f"mean cosine of encoder rows {alignment}")
    return ", ".join(parts)


def _baseline_rows(report: dict[str, Any]) -> list[tuple[str, ...]]:
    rows = []
    for name, each in report.get("baselines", {}).items():
        recovered = each["loss_recovered"]
        shown = f"no loss recovered, CE increase {_shown(each['ce_increase'])}"
        if recovered is not None:
            shown = f"loss recovered {plus_minus(recovered, each['loss_recovered_se'])}"
        value = f"L0 {each['l0']:.1f}, FVU {each['fvu']:.4f}, {shown}, "
        rows.append((f"baseline {name}", f"{value}entropy {each['token_entropy_median']:.2f} bits"))
    return rows


def ablation_rows(report: dict[str, Any]) -> list[tuple[str, ...]]:
    """A line for each feature that was taken out."""
    rows = []
    for each in report.get("ablation", []):
        if not each["tokens"]:
            rows.append((f"without feature {each['feature']}", "fires on none of the tokens"))
            continue
        raises = " ".join(map(repr, each["raises"][:5]))
        increase = f"CE {plus_minus(each['ce_increase'] or 0.0, each['ce_increase_se'], sign='+')}"
        value = f"{increase} on its {each['tokens']:,} tokens; it raises {raises}; direct path cosine "
        rows.append((f"without feature {each['feature']}", f"{value}{each['cosine_direct']:.2f}"))
    return rows
