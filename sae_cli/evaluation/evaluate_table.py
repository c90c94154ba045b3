"""What an evaluation of one dictionary has found out, as people and scripts read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sae_cli.artifacts.stored_run import FinishedRun
from sae_cli.config.hook import Basis
from sae_cli.dictionaries.card import Card
from sae_cli.documents import Document, Facts
from sae_cli.evaluation.loss_tables import domain_rows, held_out, loss_rows, reference_rows, with_interval
from sae_cli.jobs.result import StageResult
from sae_cli.metrics.catalogue import figures, shown
from sae_cli.metrics.figure import Group, In, Of
from sae_cli.metrics.report import AblationReport, EvaluationReport, Figures, RareReport, existing, figure
from sae_cli.runs.dictionary_run import DictionaryRun
from sae_cli.runs.file_names import EVAL_FILE
from sae_cli.runs.stored_figures import shows_stored
from sae_cli.terminal.plus_minus import plus_minus

_FIGURES = ("killed", "l0", "fvu", "loss_recovered", "mmcs_truth_to_dictionary", "mcc", "f1")
_SHOWN_OF_CONTROLS = ("fvu", "loss_recovered", "ce_increase")
_AGAINST_TRUTH = ("mcc", "uniqueness", "precision", "recall", "f1", "truth_recall_weighted")
BEFORE = (
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
"""Figures of a pruned dictionary that are shown beside those of what it was made of."""


@shows_stored
def result(source: DictionaryRun, finished: FinishedRun) -> StageResult:
    """What a finished evaluation has found out."""
    report: EvaluationReport = finished.read_json(EVAL_FILE)
    directory = source.run.directory
    rows = [
        *_table(source, report, report["rare"]),
        *_baseline_rows(report.get("baselines", {})),
        *_control_rows(report.get("controls", {})),
        *ablation_rows(report.get("ablation", [])),
        *domain_rows(report),
        *reference_rows(report),
    ]
    rows += [("run", str(directory)), ("evaluation", str(finished.directory))]
    header: tuple[str, ...] = ()
    if "before" in report:
        header, compared = _before_and_after(report["before"], report)
        rows = [*compared, *((label, "", value) for label, value in rows)]
    return StageResult(
        directory=directory,
        title="eval",
        document={"run": str(directory), "command": "eval", "eval": report, "figures": _most_telling(report)},
        table=rows,
        header=header,
    )


def _most_telling(report: Facts) -> Document:
    return {key: report[key] for key in _FIGURES if key in report}


def _before_and_after(before: Facts, report: Facts) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    known = figures(Of.EVALUATION)
    pruned = known["killed"]
    rows = [(pruned.label, "", pruned.text(existing(report, pruned.key)))]
    for key in BEFORE:
        if before.get(key) is not None or (key in before and report.get(key) is not None):
            rows.append((known[key].named, _shown(before[key]), _shown(report.get(key))))
    return ("", "before", "after"), rows


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _table(source: DictionaryRun, report: Facts, rare: RareReport) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        ("dictionary", f"{source.architecture()}, {report['features']:,} features of width {source.width()}"),
        *_training_rows(source.card),
        ("held-out tokens", held_out(report)),
        *_rows_of(report, Group.RECONSTRUCTION),
        *loss_rows(report),
        *_unknown(source.card, report),
        ("alive / dead", f"{report['alive']:,} / {report['dead']:,} (of {report['feature_tokens']:,} tokens)"),
        ("on > 1 % / > 10 % of tokens", f"{report['dense_1']:,} / {report['dense_10']:,}"),
        *_rows_of(report, Group.TRUTH),
        *_rows_of(report, Group.FEATURES),
    ]
    if report.get("token_entropy_median") is not None:
        entropy = figures(Of.EVALUATION)["token_entropy_median"]
        shares = f"{report['top1_share_median']:.2f} / {report['top3_share_median']:.2f}"
        rows.append((entropy.label, entropy.text(existing(report, entropy.key))))
        rows.append(("share of the top token / top 3", shares))
    if rare["rare"]["features"]:
        rows.append((f"rare (on < {rare['below']:g} of tokens)", _rare(rare)))
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


def _unknown(card: Card, report: Facts) -> list[tuple[str, ...]]:
    """What is not measured where only a module is known, or the model does not predict the next token."""
    if card.basis_of_writes is not Basis.module:
        return []
    losses = [] if "ce_clean" in report else [("losses", "none: the model does not predict the next token")]
    return [*losses, ("direct path, logit weights", "none: the way from a module to the logits is not known")]


def _training_rows(card: Card) -> list[tuple[str, ...]]:
    if card.tokens is None:
        return []
    return [("trained on", f"{card.tokens:,} activations" + (f" ({card.source})" if card.source else ""))]


def _rows_of(report: Facts, group: Group) -> list[tuple[str, ...]]:
    """The figures of a group that have a row of their own."""
    of_group = [each for each in shown(Of.EVALUATION, In.TABLE) if each.group is group]
    found = {each: figure(report, each.key) for each in of_group}
    return [
        (each.named, with_interval(report, each) if each.has_error else each.text(value))
        for each, value in found.items()
        if value is not None
    ]


def _rare(report: RareReport) -> str:
    rare, others = report["rare"], report["others"]
    parts = [f"{rare['features']:,}"]
    if "de_projection" in rare and "de_projection" in others:
        parts.append(f"D/E median {rare['de_projection']['q50']:.2f} (others {others['de_projection']['q50']:.2f})")
        of_rare, of_others = rare.get("encoder_alignment"), others.get("encoder_alignment")
        if of_rare is not None and of_others is not None:
            parts.append(f"mean cosine of encoder rows {of_rare:.3f} (others {of_others:.3f})")
    return ", ".join(parts)


def _baseline_rows(baselines: Mapping[str, Figures]) -> list[tuple[str, ...]]:
    rows, known = [], figures(Of.EVALUATION)
    for name, each in baselines.items():
        recovered, above, entropy = (
            each.get(key) for key in ("loss_recovered", "recovered_above", "token_entropy_median")
        )
        bits = "" if each.get("bits") is None else f"{each['bits']:.1f} bits, "
        parts = [f"L0 {each['l0']:.1f}, {bits}FVU {each['fvu']:.4f}"]
        if "loss_recovered" not in each:
            parts += [
                f"{known[key].short} {value:.4f}" for key in _AGAINST_TRUTH if (value := each.get(key)) is not None
            ]
        elif recovered is None:
            parts.append(f"no loss recovered, CE increase {_shown(each['ce_increase'])}")
        else:
            parts.append(f"loss recovered {plus_minus(recovered, each['loss_recovered_se'])}")
        if above is not None:
            low, high = each.get("recovered_above_low"), each.get("recovered_above_high")
            interval = "" if low is None or high is None else f" ({low:.4f} to {high:.4f})"
            shown = plus_minus(above, each["recovered_above_se"])
            parts.append(f"of what it leaves the dictionary recovers {shown}{interval}")
        if entropy is not None:
            parts.append(f"entropy {entropy:.2f} bits")
        rows.append((f"baseline {name}", ", ".join(parts)))
    return rows


def _control_rows(controls: Mapping[str, Figures]) -> list[tuple[str, ...]]:
    rows, known = [], figures(Of.EVALUATION)
    for path, each in controls.items():
        values = [(key, value) for key in ("l0", "bits", *_SHOWN_OF_CONTROLS) if (value := each.get(key)) is not None]
        rows.append((f"control {path}", ", ".join(f"{known[key].short} {known[key].text(v)}" for key, v in values)))
        for key in _SHOWN_OF_CONTROLS:
            if (more := each.get(f"{key}_more")) is not None:
                low, high = each.get(f"{key}_more_low"), each.get(f"{key}_more_high")
                interval = "" if low is None or high is None else f" ({low:+.4f} to {high:+.4f})"
                rows.append((f"  {known[key].short}, more than the control", f"{more:+.4f}{interval}, of these two"))
    return rows


def ablation_rows(taken_out: Sequence[AblationReport]) -> list[tuple[str, ...]]:
    """A line for each feature that was taken out."""
    rows = []
    for each in taken_out:
        if "mean_act" not in each:
            rows.append((f"without feature {each['feature']}", "fires on none of the tokens"))
            continue
        raises = " ".join(map(repr, each["raises"][:5]))
        increase = f"CE {plus_minus(each['ce_increase'] or 0.0, each['ce_increase_se'], sign='+')}"
        value = f"{increase} on its {each['tokens']:,} tokens; it raises {raises}"
        direct = f"; direct path cosine {each['cosine_direct']:.2f}" if "cosine_direct" in each else ""
        rows.append((f"without feature {each['feature']}", f"{value}{direct}"))
    return rows
