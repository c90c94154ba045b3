"""Where training runs get their activations: a harvest on disk, the live model, or a known truth.

Runs that are opened together share what they can: the model and its forward passes, the reading of a harvest,
the shuffling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sae_cli import console
from sae_cli.artifacts.run_directory import FinishedRun
from sae_cli.config.commands import TrainConfig
from sae_cli.config.data import SyntheticData
from sae_cli.config.split import Split
from sae_cli.data.activations import ActivationBlock, take
from sae_cli.data.harvested import harvested_blocks
from sae_cli.data.sharing import SharedStream
from sae_cli.data.shuffle import ShuffleBuffer
from sae_cli.data.synthetic import SyntheticActivations
from sae_cli.models import Site
from sae_cli.stages import build
from sae_cli.stages.harvest_search import find_harvest
from sae_cli.stages.live_activations import LiveActivations


@dataclass(frozen=True)
class ActivationSource:
    """What one dictionary is trained on.

    Attributes:
        batches: the training activations, shuffled.
        held_out: the first n held-out activations, float32 [n, d].
        facts: for the manifest: where activations come from, and how rows were made.
        parent: the harvest run, where there is one.
    """

    batches: Batches
    held_out: Callable[[int], torch.Tensor]
    facts: dict[str, Any]
    parent: FinishedRun | None = None


class Batches:
    """One reader's view of a shuffle buffer; ask for `sample` before the first batch."""

    def __init__(self, buffer: SharedBuffer) -> None:
        self._buffer = buffer
        self._reader = buffer.batches.reader()

    @property
    def sample(self) -> torch.Tensor:
        """The first activations of the stream, as many as the shuffle buffer holds."""
        return self._buffer.filled.contents.activations

    def __iter__(self) -> Iterator[ActivationBlock]:
        return self._reader


class SharedBuffer:
    """A shuffle buffer that is filled when it is first needed, and may have several readers."""

    def __init__(self, blocks: Callable[[], Iterator[ActivationBlock]], cut: _Cut) -> None:
        self._blocks, self._cut = blocks(), cut
        self.batches = SharedStream(self._stream())

    @cached_property
    def filled(self) -> ShuffleBuffer:
        cut = self._cut
        return ShuffleBuffer(take(self._blocks, cut.tokens), cut.buffer, cut.batch_size, cut.seed)

    def _stream(self) -> Iterator[ActivationBlock]:
        yield from self.filled


class _Cut(NamedTuple):
    """How a stream is cut into shuffled batches."""

    tokens: int
    buffer: int
    batch_size: int
    seed: int


class ActivationSources:
    """The sources of training runs that share model and text; open all before one is read.

    Args:
        device: where the model runs.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._live: LiveActivations | None = None
        self._truth: SyntheticActivations | None = None
        self._harvests: dict[Path, SharedStream[ActivationBlock]] = {}
        self._buffers: dict[tuple[object, _Cut], SharedBuffer] = {}

    def open(self, config: TrainConfig, settings: dict[str, Any]) -> ActivationSource:
        """The source of one run; nothing is written.

        Raises:
            RequestError: a model, layer, corpus or harvest that does not exist or does not fit.
            JobError: the harvest is damaged.
        """
        if isinstance(config.data, SyntheticData):
            return self._synthetic(config, config.data)
        if self._live is None:
            self._live = LiveActivations(config, self._device)
        live, site = self._live, self._live.watch(config)
        harvest = find_harvest(config, settings)
        if harvest is None:
            return self._from_model(config, live, site)
        return self._from_disk(config, live, site, harvest)

    def _from_model(self, config: TrainConfig, live: LiveActivations, site: Site) -> ActivationSource:
        return ActivationSource(
            batches=self._batches(config, site, lambda: live.blocks(site)),
            held_out=lambda n: live.held_out(n)[site],
            facts={"source": "live", **live.facts},
        )

    def _from_disk(
        self, config: TrainConfig, live: LiveActivations, site: Site, harvest: FinishedRun
    ) -> ActivationSource:
        console.log(f"reading activations from {harvest.directory}")
        if harvest.directory not in self._harvests:
            harvest.check_files(config.verify)
            self._harvests[harvest.directory] = SharedStream(harvested_blocks(harvest))
        shared = self._harvests[harvest.directory]
        return ActivationSource(
            batches=self._batches(config, harvest.directory, shared.reader),
            held_out=lambda n: live.held_out(n)[site],
            facts={"source": "harvest", **live.facts},
            parent=harvest,
        )

    def _synthetic(self, config: TrainConfig, data: SyntheticData) -> ActivationSource:
        if self._truth is None:
            self._truth = build.synthetic(data)
        truth = self._truth
        return ActivationSource(
            batches=self._batches(config, "synthetic", lambda: truth.blocks(Split.train)),
            held_out=lambda n: ActivationBlock.join(list(take(truth.blocks(Split.held_out), n))).activations,
            facts={"source": "synthetic"},
        )

    def _batches(self, config: TrainConfig, stream: object, blocks: Callable[[], Iterator[ActivationBlock]]) -> Batches:
        cut = _Cut(config.tokens, config.train.shuffle_buffer, config.train.batch_size, config.data.seed)
        if (stream, cut) not in self._buffers:
            self._buffers[stream, cut] = SharedBuffer(blocks, cut)
        return Batches(self._buffers[stream, cut])
