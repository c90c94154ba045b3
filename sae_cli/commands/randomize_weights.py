"""`sae randomize-weights`: a run that is a model folder, with random numbers for weights."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TypedDict

import torch

from sae_cli.artifacts.stored_run import FinishedRun
from sae_cli.config.commands.randomize_weights import RandomizeConfig
from sae_cli.config.edits import ModelPart, RandomScheme
from sae_cli.edits.randomize import is_tied, randomize
from sae_cli.jobs.once import Claim, once
from sae_cli.jobs.result import StageResult
from sae_cli.models import load_language_model, model_identity
from sae_cli.models.load import fresh_model, save_model
from sae_cli.runs.stored_figures import shows_stored
from sae_cli.terminal import console

_WEIGHTS_FILE = "weights.json"


class _TensorReport(TypedDict):
    """A `ChangedTensor` as it is in the file."""

    name: str
    shape: list[int]
    kept: bool
    mean: list[float]
    std: list[float]


def run(config: RandomizeConfig, directory: Path) -> StageResult:
    """Randomize the weights of `config.model` and write it as a Hugging Face folder."""
    return _result(once(Claim(config, directory), _randomize))


def _randomize(claim: Claim[RandomizeConfig]) -> FinishedRun:
    config, chosen = claim.config, claim.config.model
    model = load_language_model(
        chosen.path,
        revision=chosen.revision,
        dtype=getattr(torch, chosen.dtype.value),
        trust_remote_code=chosen.trust_remote_code,
    )
    fresh = fresh_model(model.hf, config.seed) if config.scheme is RandomScheme.reinit else None
    keep = [part.value for part in config.keep]
    if is_tied(model.hf, model.parts) and (ModelPart.embed in config.keep) != (ModelPart.unembed in config.keep):
        console.warn("the embedding and the unembedding of this model are one tensor: both are kept")
    report = [asdict(each) for each in randomize(model.hf, model.parts, fresh, config.scheme.value, keep, config.seed)]
    with claim.open() as claimed:
        claimed.write_json(_WEIGHTS_FILE, report)
        with tempfile.TemporaryDirectory(dir=claim.directory, prefix=".model-") as folder:
            save_model(model, Path(folder))
            for file in sorted(Path(folder).iterdir()):
                claimed.take_file(file)
        return claimed.finish(
            model=model_identity(chosen.path, chosen.revision),
            changed=sum(not each["kept"] for each in report),
            kept=sum(each["kept"] for each in report),
            seconds=claim.seconds(),
        )


@shows_stored
def _result(finished: FinishedRun) -> StageResult:
    report: list[_TensorReport] = finished.read_json(_WEIGHTS_FILE)
    rows = [
        (each["name"], "x".join(map(str, each["shape"])), *_statistics(each), "kept" if each["kept"] else "random")
        for each in report
    ]
    facts = finished.manifest.facts
    return StageResult(
        directory=finished.directory,
        title="randomize-weights",
        document={"command": "randomize-weights", "facts": facts, "weights": report},
        table=[*rows, ("run", str(finished.directory))],
        header=("tensor", "shape", "mean before", "after", "std before", "after", ""),
    )


def _statistics(tensor: _TensorReport) -> list[str]:
    return [f"{value:.3g}" for value in (*tensor["mean"], *tensor["std"])]
