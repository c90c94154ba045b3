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
from sae_cli.config.data import NonFinite, SyntheticData
from sae_cli.config.split import Split
from sae_cli.data.activations import ActivationBlock, take
from sae_cli.data.harvested import HarvestedActivations
from sae_cli.data.non_finite import LEAVE_OUT, finite_block, refused
from sae_cli.data.sharing import SharedStream
from sae_cli.data.shuffle import ShuffleBuffer, ShuffledBatches, ShuffledFetches
from sae_cli.data.synthetic import SyntheticActivations
from sae_cli.models import Site
from sae_cli.stages import build
from sae_cli.stages.harvest_search import epochs_of_a_part, find_harvest
from sae_cli.stages.live_activations import LiveActivations


@dataclass(frozen=True)
class ActivationSource:
    """What one dictionary is trained on.

    Attributes:
        batches: the training activations, shuffled.
        held_out: the first n held-out activations, float32 [n, d].
        facts: for the manifest: where activations come from, and how rows were made.
        epochs: how often the text is read for so many activations.
        parents: the runs that it comes from: a harvest, a model.
    """

    batches: Batches
    held_out: Callable[[int], torch.Tensor]
    facts: dict[str, Any]
    epochs: Callable[[int], float]
    parents: tuple[FinishedRun, ...] = ()


class Batches:
    """One reader's view of shuffled batches; ask for `sample` before the first of them."""

    def __init__(self, shuffled: SharedShuffle) -> None:
        self._shuffled = shuffled
        self._reader = shuffled.batches.reader()

    @property
    def sample(self) -> torch.Tensor:
        """The first activations of the stream, as many as the shuffle buffer holds."""
        return self._shuffled.source.first

    def __iter__(self) -> Iterator[torch.Tensor]:
        return self._reader


class SharedShuffle:
    """Shuffled batches that are begun when they are first needed, and may have several readers."""

    def __init__(self, begin: Callable[[], ShuffledBatches]) -> None:
        self._begin = begin
        self.batches = SharedStream(self._stream())

    @cached_property
    def source(self) -> ShuffledBatches:
        return self._begin()

    def _stream(self) -> Iterator[torch.Tensor]:
        yield from self.source


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
        self._checked: set[Path] = set()
        self._shuffles: dict[tuple[object, _Cut], SharedShuffle] = {}

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
            batches=self._stream(config, site, live.blocks(site)),
            held_out=lambda n: _finite_held_out(live.held_out(n)[site], config),
            facts={"source": "live", **live.facts},
            epochs=live.epochs,
            parents=live.parents,
        )

    def _from_disk(
        self, config: TrainConfig, live: LiveActivations, site: Site, harvest: FinishedRun
    ) -> ActivationSource:
        console.log(f"reading activations from {harvest.directory}")
        if harvest.directory not in self._checked:
            harvest.check_files(config.verify)
            self._checked.add(harvest.directory)
        return ActivationSource(
            batches=self._store(config, harvest),
            held_out=lambda n: _finite_held_out(live.held_out(n)[site], config),
            facts={"source": "harvest", **live.facts},
            epochs=lambda tokens: epochs_of_a_part(harvest, tokens),
            parents=(harvest, *live.parents),
        )

    def _synthetic(self, config: TrainConfig, data: SyntheticData) -> ActivationSource:
        if self._truth is None:
            self._truth = build.synthetic(data)
        truth = self._truth
        return ActivationSource(
            batches=self._stream(config, "synthetic", truth.blocks(Split.train)),
            held_out=lambda n: ActivationBlock.join(list(take(truth.blocks(Split.held_out), n))).activations,
            facts={"source": "synthetic"},
            epochs=lambda tokens: 1,
        )

    def _stream(self, config: TrainConfig, key: object, blocks: Iterator[ActivationBlock]) -> Batches:
        if config.non_finite is NonFinite["raise"]:
            blocks = refused(blocks, "training activations", LEAVE_OUT)
        return self._shared(
            config,
            (key, config.non_finite),
            lambda cut: ShuffleBuffer(take(blocks, cut.tokens), cut.buffer, cut.batch_size, cut.seed),
        )

    def _store(self, config: TrainConfig, harvest: FinishedRun) -> Batches:
        def begin(cut: _Cut) -> ShuffledBatches:
            activations = HarvestedActivations(harvest, config.non_finite)
            return ShuffledFetches(activations.fetch, cut.tokens, cut.buffer, cut.batch_size, cut.seed)

        return self._shared(config, (harvest.directory, config.non_finite), begin)

    def _shared(self, config: TrainConfig, key: object, begin: Callable[[_Cut], ShuffledBatches]) -> Batches:
        cut = _Cut(config.tokens, config.train.shuffle_buffer, config.train.batch_size, config.data.seed)
        if (key, cut) not in self._shuffles:
            self._shuffles[key, cut] = SharedShuffle(lambda: begin(cut))
        return Batches(self._shuffles[key, cut])


def _finite_held_out(block: ActivationBlock, config: TrainConfig) -> torch.Tensor:
    return finite_block(block, "held-out activations", config.non_finite).activations
