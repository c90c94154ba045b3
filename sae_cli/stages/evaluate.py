"""`sae eval`: every metric of a dictionary: reconstruction and losses on held-out text, features on more."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sae_cli import console
from sae_cli.artifacts.files import write_json
from sae_cli.artifacts.run_directory import FinishedRun, Run, finished_run, open_run, read_run
from sae_cli.config.commands import EvalConfig, TrainConfig
from sae_cli.config.data import DataConfig, SyntheticData
from sae_cli.config.names import result_settings
from sae_cli.config.split import Split
from sae_cli.config.stored import CONFIG_FILE, as_yaml, read_config
from sae_cli.data.activations import FIRST_POSITION, ActivationBlock, live_blocks, take
from sae_cli.data.packing import TokenRows
from sae_cli.dictionaries.base import Dictionary
from sae_cli.dictionaries.files import load_dictionary
from sae_cli.errors import JobError
from sae_cli.metrics import VERSION
from sae_cli.metrics.features import FeatureSums
from sae_cli.metrics.reconstruction import ReconstructionSums
from sae_cli.metrics.recovery import max_cosine_similarity
from sae_cli.models import LanguageModel, Site
from sae_cli.stages import build
from sae_cli.stages.estimate import Estimate, announce
from sae_cli.stages.result import StageResult
from sae_cli.stages.splice import Splicer

EVAL_FILE, FEATURES_FILE = "eval.json", "features.safetensors"
DEFAULT = "default"
# Largest logits tensor [B, T, V] and feature matrix [n, F] made at once, in elements.
_LOGITS_AT_ONCE = 2**22
_FEATURES_AT_ONCE = 2**24


def run(config: EvalConfig, directory: Path, evaluation_name: str) -> StageResult:
    """Evaluate the dictionary in `directory`; the results go into its folder `eval/<evaluation_name>`."""
    trained = read_run(directory, "train")
    settings = {key: value for key, value in result_settings(config).items() if key != "run"}
    folder = directory / "eval" / evaluation_name
    if finished := finished_run(folder, settings, config.overwrite):
        console.log(f"found finished: {folder}")
        return _result(trained, finished)
    trained_with: TrainConfig = read_config(directory, "train")
    device = build.device(config.device)
    dictionary = load_dictionary(trained, config.verify).to(device)
    started = time.monotonic()
    subject = _subject(config, trained_with, device)

    with open_run(folder, "eval", settings) as claimed:
        claimed.write_text(CONFIG_FILE, as_yaml(config))
        claimed.add_parent(trained)
        report = subject.measure(dictionary, claimed) | {"metrics_version": VERSION}
        claimed.write_json(EVAL_FILE, report)
        finished = claimed.finish(seconds=time.monotonic() - started)
    if evaluation_name == DEFAULT:
        write_json(directory / EVAL_FILE, report)
    return _result(trained, finished)


@dataclass(frozen=True)
class ModelSubject:
    """Evaluation of a dictionary on the language model whose activations it reads."""

    model: LanguageModel
    site: Site
    data: DataConfig
    config: EvalConfig

    def measure(self, dictionary: Dictionary, claimed: Run) -> dict[str, Any]:
        """The content of `eval.json`; writes `features.safetensors` on the way."""
        if dictionary.width != (width := self.model.width(self.site)):
            raise JobError(f"the dictionary has width {dictionary.width}, but {self.site.hook.value} has {width}")
        features = self._count_features(dictionary)
        claimed.write_tensors(FEATURES_FILE, _feature_tensors(features, dictionary))
        splicer = self._splice(dictionary)
        return {
            **splicer.results(),
            **features.summary(),
            "features": dictionary.n_features,
            "tokens": splicer.reconstruction.n,
            "loss_tokens": int(splicer.losses.total[0]),
            "rows": splicer.losses.rows,
            "positions": "all but the first of each row",
            "split": Split.held_out.value,
            "feature_split": self.config.features.split.value,
        }

    def _count_features(self, dictionary: Dictionary) -> FeatureSums:
        wanted = self.config.features
        stream = build.row_stream(self.data, self.model, wanted.split)
        rows = stream.one_epoch(self.config.model_rows)
        blocks = (each[self.site] for each in live_blocks(rows, self._capture))
        return count_features(dictionary, take(blocks, wanted.tokens), wanted.tokens)

    def _capture(self, rows: Tensor) -> dict[Site, Tensor]:
        captured = self.model.capture(rows, [self.site])
        return {site: activations.float().cpu() for site, activations in captured.items()}

    def _splice(self, dictionary: Dictionary) -> Splicer:
        stream = build.row_stream(self.data, self.model, Split.held_out)
        context = stream.policy.context
        at_once = max(1, min(self.config.model_rows, _LOGITS_AT_ONCE // (context * self.model.vocab_size)))
        rows_wanted = -(-self.config.eval.tokens // (context - FIRST_POSITION))
        splicer = Splicer(self.model, self.site, dictionary)
        with console.progress(rows_wanted * (context - FIRST_POSITION), "losses") as advance:
            for rows in _first_rows(stream.one_epoch(at_once), rows_wanted):
                splicer.add(torch.from_numpy(rows.tokens))
                advance(len(rows.tokens) * (context - FIRST_POSITION))
        if not splicer.losses.rows:
            raise JobError("too little held-out text: not one row; give more text or raise data.held_out_fraction=")
        return splicer


@dataclass(frozen=True)
class SyntheticSubject:
    """Evaluation of a dictionary on activations with a known truth: there is no language model."""

    data: SyntheticData
    config: EvalConfig

    def measure(self, dictionary: Dictionary, claimed: Run) -> dict[str, Any]:
        truth = build.synthetic(self.data)
        wanted = self.config.features
        features = count_features(dictionary, take(truth.blocks(wanted.split), wanted.tokens), wanted.tokens)
        claimed.write_tensors(FEATURES_FILE, _feature_tensors(features, dictionary))
        reconstruction = ReconstructionSums(origin=dictionary.activation_mean)
        for block in take(truth.blocks(Split.held_out), self.config.eval.tokens):
            x = block.activations.to(dictionary.W_dec.device)
            f = dictionary.encode(x)
            reconstruction.add(x, dictionary.decode(f), f, dictionary.decoder_norms())
        alive = dictionary.W_dec[features.count.to(dictionary.W_dec.device) > 0].cpu()
        to_truth = max_cosine_similarity(truth.directions(), alive) if len(alive) else torch.zeros(1)
        return {
            **reconstruction.results(),
            **features.summary(),
            "mmcs_truth_to_dictionary": float(to_truth.mean()),
            "truth_recovered_0.9": float((to_truth > 0.9).float().mean()),
            "features": dictionary.n_features,
            "tokens": reconstruction.n,
            "split": Split.held_out.value,
            "feature_split": wanted.split.value,
        }


def _subject(config: EvalConfig, trained_with: TrainConfig, device: torch.device) -> ModelSubject | SyntheticSubject:
    data = config.data or trained_with.data
    if isinstance(data, SyntheticData):
        return SyntheticSubject(data, config)
    model = build.language_model(trained_with.model, device)
    n_parameters = sum(p.nbytes for p in model.hf.parameters())
    announce([Estimate(memory=n_parameters + 4 * (_LOGITS_AT_ONCE + _FEATURES_AT_ONCE))])
    return ModelSubject(model, build.site(trained_with.hook, trained_with.layer, model), data, config)


@torch.no_grad()
def count_features(dictionary: Dictionary, blocks: Iterator[ActivationBlock], tokens: int) -> FeatureSums:
    """Counts and sums of every feature over a stream of activations, in bounded memory."""
    sums = FeatureSums.empty(dictionary.n_features)
    at_once = max(1, _FEATURES_AT_ONCE // dictionary.n_features)
    with console.progress(tokens, "features") as advance:
        for block in blocks:
            for x in block.activations.to(dictionary.W_dec.device).split(at_once):
                sums.add(dictionary.encode(x))
            advance(block.n)
    if not sums.n:
        raise JobError("no activations to count features on: the text does not fill one row")
    return sums


def _feature_tensors(features: FeatureSums, dictionary: Dictionary) -> dict[str, Tensor]:
    return features.tensors() | {"b_enc": dictionary.encoder_bias, "de_projection": dictionary.de_projection()}


def _first_rows(blocks: Iterator[TokenRows], n: int) -> Iterator[TokenRows]:
    for block in blocks:
        if n <= 0:
            return
        yield TokenRows(block.tokens[:n], block.document[:n])
        n -= len(block.tokens)


def _result(trained: FinishedRun, finished: FinishedRun) -> StageResult:
    report = finished.read_json(EVAL_FILE)
    figures = {key: report[key] for key in ("l0", "fvu", "loss_recovered", "mmcs_truth_to_dictionary") if key in report}
    return StageResult(
        directory=trained.directory,
        title="eval",
        document={"run": str(trained.directory), "command": "eval", "eval": report, "figures": figures},
        table=_table(trained, report, finished.directory),
    )


def _table(trained: FinishedRun, report: dict[str, Any], folder: Path) -> list[tuple[str, str]]:
    settings, facts = trained.manifest.settings, trained.manifest.facts
    rows = [
        ("dictionary", f"{settings['sae.architecture']}, {report['features']:,} features of width {facts['width']}"),
        ("trained on", f"{facts['tokens']:,} activations ({facts['source']})"),
        ("held-out tokens", f"{report['tokens']:,}"),
        ("L0", f"{report['l0']:.1f}"),
        ("FVU", f"{report['fvu']:.4f}"),
    ]
    if "mmcs_truth_to_dictionary" in report:
        rows.append(("MMCS truth -> dictionary", f"{report['mmcs_truth_to_dictionary']:.4f}"))
    for key, label in (
        ("loss_recovered", "loss recovered (zero)"),
        ("loss_recovered_mean", "loss recovered (mean)"),
        ("loss_recovered_direct", "loss recovered (zero, direct path)"),
        ("ce_clean", "CE clean, nats"),
        ("ce_increase", "CE increase, nats"),
        ("zero_ablation_effect", "CE increase by zero, nats"),
        ("kl_sae", "KL, nats"),
    ):
        if report.get(key) is not None:
            rows.append((label, f"{report[key]:.4f} ± {report[key + '_se'] or 0:.4f}"))
    rows += [
        ("alive / dead", f"{report['alive']:,} / {report['dead']:,} (of {report['feature_tokens']:,} tokens)"),
        ("on > 1 % / > 10 % of tokens", f"{report['dense_1']:,} / {report['dense_10']:,}"),
        ("run", str(trained.directory)),
        ("evaluation", str(folder)),
    ]
    return rows
