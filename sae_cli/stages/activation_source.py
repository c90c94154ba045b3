"""Where a training run's activations come from: a harvest on disk, the live model, or a known truth."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sae_cli import console
from sae_cli.artifacts.manifest import MANIFEST, read_manifest
from sae_cli.artifacts.run_directory import FinishedRun, read_run
from sae_cli.config.commands import TrainConfig
from sae_cli.config.data import SyntheticData
from sae_cli.config.model import Dtype
from sae_cli.config.split import Split
from sae_cli.data.activations import ActivationBlock, live_blocks, take
from sae_cli.data.harvested import harvested_blocks
from sae_cli.data.rows import RowStream
from sae_cli.errors import JobError, RequestError
from sae_cli.models import LanguageModel, Site, model_identity
from sae_cli.stages import build

# A harvest serves a training run if these settings are the same in both.
_SHARED_SETTINGS = ("model.", "hook.", "data.", "layer")


@dataclass(frozen=True)
class ActivationSource:
    """A stream of training activations and a way to some held-out ones.

    Attributes:
        blocks: starts the stream from the beginning; it has at least the tokens asked for.
        held_out: the first n held-out activations, float32 [n, d].
        facts: for the manifest: where activations come from, and how rows were made.
        parent: the harvest run, where there is one.
    """

    blocks: Callable[[], Iterator[ActivationBlock]]
    held_out: Callable[[int], torch.Tensor]
    facts: dict[str, Any]
    parent: FinishedRun | None = None


def open_source(config: TrainConfig, settings: dict[str, Any], device: torch.device) -> ActivationSource:
    """The source of a training run; nothing is written.

    Raises:
        RequestError: a model, layer, corpus or harvest that does not exist or does not fit.
        JobError: the harvest is damaged.
    """
    if isinstance(config.data, SyntheticData):
        return _synthetic_source(config.data)
    model = build.language_model(config.model, device)
    site = build.site(config.hook, config.layer, model)
    harvest = _harvest(config, settings)
    live = _live_source(config, model, site)
    if harvest is None:
        return live
    console.log(f"reading activations from {harvest.directory}")
    harvest.check_files(config.verify)
    return ActivationSource(
        blocks=lambda: harvested_blocks(harvest),
        held_out=live.held_out,
        facts=live.facts | {"source": "harvest"},
        parent=harvest,
    )


def capture_at(model: LanguageModel, site: Site) -> Callable[[torch.Tensor], torch.Tensor]:
    """Token ids [B, T] to float32 activations [B, T, d] at one site, on the CPU."""
    return lambda rows: model.capture(rows, [site])[site].float().cpu()


def describe_rows(stream: RowStream, model: LanguageModel) -> dict[str, Any]:
    """What the manifest says of how text became rows; shows the first rows, so a wrong tokenizer is seen."""
    policy = stream.policy
    first = next(stream.one_epoch(rows=2), None)
    if first is None:
        raise JobError(
            f"too little {stream.split.value} text: not one row of {policy.context} tokens; "
            "give more text or lower data.context="
        )
    for row in first.tokens:
        console.log(f"a row begins: {model.tokenizer.decode(row[:24])!r}")
    return {
        "context": policy.context,
        "bos_id": policy.bos_id,
        "separator_id": policy.separator_id,
        "positions": "all but the first of each row",
    }


def _live_source(config: TrainConfig, model: LanguageModel, site: Site) -> ActivationSource:
    stream = build.row_stream(config.data, model, Split.train)
    held_out = build.row_stream(config.data, model, Split.held_out)
    capture = capture_at(model, site)

    def held_out_activations(n: int) -> torch.Tensor:
        blocks = list(take(live_blocks(held_out.one_epoch(config.model_rows), capture), n))
        if not blocks:
            raise JobError("too little held-out text: not one row; give more text or raise data.held_out_fraction=")
        return ActivationBlock.join(blocks).activations

    return ActivationSource(
        blocks=lambda: live_blocks(stream.forever(config.model_rows), capture),
        held_out=held_out_activations,
        facts={
            "source": "live",
            "model": model_identity(config.model.path, config.model.revision),
            **describe_rows(stream, model),
        },
    )


def _synthetic_source(data: SyntheticData) -> ActivationSource:
    truth = build.synthetic(data)
    return ActivationSource(
        blocks=lambda: truth.blocks(Split.train),
        held_out=lambda n: ActivationBlock.join(list(take(truth.blocks(Split.held_out), n))).activations,
        facts={"source": "synthetic"},
    )


def _harvest(config: TrainConfig, settings: dict[str, Any]) -> FinishedRun | None:
    """The harvest named by `activations=`, or else a complete float32 one that fits, or else None."""
    if config.activations is not None:
        harvest = read_run(config.activations, "harvest")
        _check_fits(harvest, config, settings)
        return harvest
    for directory in _run_directories(Path(config.runs_dir)):
        manifest = read_manifest(directory)
        if (
            manifest.command == "harvest"
            and manifest.status == "complete"
            and manifest.settings["dtype"] == Dtype.float32.value
            and manifest.facts["tokens"] >= config.tokens
            and not _misfits(manifest.settings, settings)
        ):
            return FinishedRun(directory, manifest)
    return None


def _check_fits(harvest: FinishedRun, config: TrainConfig, settings: dict[str, Any]) -> None:
    where = f"activations={config.activations}"
    if misfits := _misfits(harvest.manifest.settings, settings):
        raise RequestError(f"{where}: harvested with other settings: {'; '.join(misfits)}")
    if (held := harvest.manifest.facts["tokens"]) < config.tokens:
        raise RequestError(
            f"{where}: expected at least tokens={config.tokens:,}, found {held:,}; lower tokens= or harvest more"
        )


def _misfits(harvested: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    return [
        f"{key}: harvested {harvested.get(key)}, wanted {wanted.get(key)}"
        for key in sorted({*harvested, *wanted})
        if key.startswith(_SHARED_SETTINGS) and harvested.get(key) != wanted.get(key)
    ]


def _run_directories(runs_dir: Path) -> Iterator[Path]:
    """Every run under a folder, in order of name; runs are not searched for runs inside them."""
    for folder, subfolders, files in os.walk(runs_dir):
        if MANIFEST in files:
            subfolders.clear()
            yield Path(folder)
        subfolders.sort()
