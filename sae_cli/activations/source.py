"""Where training runs get their activations: a harvest on disk, the live model, or a known truth.

Runs that are opened together share what they can: the model and its forward passes, the reading of a harvest,
the shuffling.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import torch

from sae_cli.activations.blocks import ActivationBlock, take
from sae_cli.activations.columns import AUTOENCODER, Columns
from sae_cli.activations.harvest_search import epochs_of_a_part, find_harvest
from sae_cli.activations.harvested import HarvestedActivations
from sae_cli.activations.known_truths import truth_of
from sae_cli.activations.live import LiveActivations
from sae_cli.activations.non_finite import LEAVE_OUT, finite_block, refused
from sae_cli.activations.sharing import SharedStream
from sae_cli.activations.shuffle import ShuffleBuffer, ShuffledBatches, ShuffledFetches, ShufflePlan
from sae_cli.activations.truth import Truth
from sae_cli.artifacts.files import FileRecord
from sae_cli.artifacts.run_directory import Run
from sae_cli.artifacts.stored_run import FinishedRun, UnfinishedRun
from sae_cli.config.commands.train import TrainConfig
from sae_cli.config.data import NonFinite, TruthData
from sae_cli.config.split import Split
from sae_cli.documents import Facts
from sae_cli.models import Site
from sae_cli.state import State, number
from sae_cli.tensor_types import Float, Tensor
from sae_cli.terminal import console


@dataclass(frozen=True)
class ActivationSource:
    """What one dictionary is trained on.

    Attributes:
        batches: the training activations, shuffled.
        held_out: the first n held-out activations, float32 [n, d]; like the batches, of what is read and written.
        facts: for the manifest: where activations come from, and how rows were made.
        epochs: how often the text is read for so many activations.
        parents: the runs that it comes from: a harvest, a model.
        held_out_facts: for the manifest, once `held_out` was called: the hash of its tokens.
        columns: which of the numbers of a token are read, and which are to be written.
        coordinates: what else a dictionary's file must say of how activations are computed (`Target.coordinates`).
    """

    batches: Batches
    held_out: Callable[[int], Float[Tensor, "N C"]]
    facts: Facts
    epochs: Callable[[int], float]
    parents: tuple[FinishedRun, ...] = ()
    held_out_facts: Callable[[], Facts] = dict
    columns: Columns = AUTOENCODER
    coordinates: Callable[[], dict[str, Tensor]] = dict


MakeShuffle = Callable[[State | None], ShuffledBatches]
"""From the state in which an earlier one was left, if there was one."""


@dataclass(frozen=True)
class SavedBatches:
    """Where an earlier attempt stood in its batches.

    Attributes:
        attempt: the run as it was left.
        drawn: batches that had been drawn from the window.
        pending: those of them that it had not trained on, because others of its sweep were ahead [m, batch_size, d].
        resume: makes the shuffling anew from its state, which is read then; a `JobError` if that does not fit.
    """

    attempt: UnfinishedRun
    drawn: int
    pending: Float[Tensor, "*_"]
    resume: Callable[[MakeShuffle], ShuffledBatches]


class Batches:
    """One reader's view of shuffled batches; ask for `sample` before the first of them."""

    def __init__(self, shuffled: SharedShuffle, pending: Iterable[Float[Tensor, "B C"]] = ()) -> None:
        self._shuffled = shuffled
        self._pending = deque(pending)
        self._reader = shuffled.batches.reader()

    @property
    def sample(self) -> Float[Tensor, "N C"]:
        """The activations that the shuffle buffer holds: at first those at the beginning of the stream."""
        return self._shuffled.source.window

    def __iter__(self) -> Iterator[Float[Tensor, "B C"]]:
        while self._pending:
            yield self._pending.popleft()
        yield from self._reader

    def state(self) -> dict[str, Tensor]:
        """`drawn` and `pending` of `SavedBatches`."""
        pending = [*self._pending, *self._reader.waiting]
        return {
            "drawn": number(self._shuffled.source.drawn),
            "pending": torch.stack(pending) if pending else torch.zeros(0),
        }

    def save_shuffle(self, run: Run, name: str) -> None:
        """Write the state of the shuffling into a run; runs that share it share the file too."""
        self._shuffled.save(run, name)


class _SavedShuffle(NamedTuple):
    drawn: int
    path: Path
    record: FileRecord


class SharedShuffle:
    """Shuffled batches that are begun when they are first needed, and may have several readers."""

    def __init__(self, begin: Callable[[], ShuffledBatches]) -> None:
        self._begin = begin
        self._saved: _SavedShuffle | None = None
        self.batches = SharedStream(lambda _: self.source)

    @cached_property
    def source(self) -> ShuffledBatches:
        return self._begin()

    def save(self, run: Run, name: str) -> None:
        """Write its state into a run, or link the file that another run has of it."""
        if self._saved and self._saved.drawn == self.source.drawn:
            with suppress(OSError):
                return run.link_file(name, self._saved.path, self._saved.record)
        run.write_tensors(name, self.source.state())
        self._saved = _SavedShuffle(self.source.drawn, run.directory / name, run.manifest.files[name])
        return None


class ActivationSources:
    """The sources of training runs that share model and text; open all before one is read.

    Args:
        device: where the model runs.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._live: LiveActivations | None = None
        self._truth: Truth | None = None
        self._checked: set[Path] = set()
        self._shuffles: dict[tuple[object, NonFinite, ShufflePlan, int], SharedShuffle] = {}

    def open(self, config: TrainConfig, settings: Facts, saved: SavedBatches | None = None) -> ActivationSource:
        """The source of one run; nothing is written.

        Args:
            config: of the run.
            settings: those of it that change the result.
            saved: where an earlier attempt stood, to go on from there.

        Raises:
            RequestError: a model, layer, corpus or harvest that does not exist or does not fit.
            JobError: the harvest is damaged.
        """
        if isinstance(config.data, TruthData):
            return self._synthetic(config, config.data, saved)
        if self._live is None:
            self._live = LiveActivations(config, self._device, stays=True)
        live, site = self._live, self._live.watch(config)
        harvest = find_harvest(config, settings, live.text, saved and saved.attempt)
        if harvest is None:
            return self._from_model(config, live, site, saved)
        return self._from_disk(config, live, site, harvest, saved)

    def _from_model(
        self, config: TrainConfig, live: LiveActivations, site: Site, saved: SavedBatches | None
    ) -> ActivationSource:
        return ActivationSource(
            batches=self._stream(config, site, _training_blocks(config, live, site), saved),
            held_out=lambda n: _finite_held_out(live.held_out(n)[site], config),
            facts={"source": "live", **live.facts},
            epochs=live.epochs,
            parents=live.parents,
            held_out_facts=lambda: {"held_out_sha256": live.held_out_sha256},
            coordinates=live.model.target(site).coordinates,
        )

    def _from_disk(
        self,
        config: TrainConfig,
        live: LiveActivations,
        site: Site,
        harvest: FinishedRun,
        saved: SavedBatches | None,
    ) -> ActivationSource:
        console.log(f"reading activations from {harvest.directory}")
        if harvest.directory not in self._checked:
            harvest.check_files(config.verify)
            self._checked.add(harvest.directory)
        return ActivationSource(
            batches=self._store(config, harvest, saved),
            held_out=lambda n: _finite_held_out(live.held_out(n)[site], config),
            facts={"source": "harvest", **live.facts},
            epochs=lambda tokens: epochs_of_a_part(harvest, tokens),
            parents=(harvest, *live.parents),
            held_out_facts=lambda: {"held_out_sha256": live.held_out_sha256},
            coordinates=live.model.target(site).coordinates,
        )

    def _synthetic(self, config: TrainConfig, data: TruthData, saved: SavedBatches | None) -> ActivationSource:
        if self._truth is None:
            self._truth = truth_of(data)
        truth = self._truth

        def blocks(first: int) -> Iterator[ActivationBlock]:
            found = truth.blocks(Split.train, first)
            refuse = config.non_finite is NonFinite["raise"]
            return refused(found, "training activations", LEAVE_OUT) if refuse else found

        return ActivationSource(
            batches=self._stream(config, "synthetic", blocks, saved),
            held_out=lambda n: ActivationBlock.join(list(take(truth.blocks(Split.held_out), n))).activations,
            facts={"source": "synthetic"},
            epochs=lambda tokens: 1,
        )

    def _stream(
        self,
        config: TrainConfig,
        key: object,
        blocks: Callable[[int], Iterator[ActivationBlock]],
        saved: SavedBatches | None,
    ) -> Batches:
        def prepare(plan: ShufflePlan) -> MakeShuffle:
            # Now, so that everyone who reads the model is known before the first pass.
            return partial(ShuffleBuffer, blocks(plan.arrived(saved.drawn) if saved else 0), plan)

        return self._shared(config, key, prepare, saved)

    def _store(self, config: TrainConfig, harvest: FinishedRun, saved: SavedBatches | None) -> Batches:
        def prepare(plan: ShufflePlan) -> MakeShuffle:
            return partial(ShuffledFetches, HarvestedActivations(harvest, config.non_finite).fetch, plan)

        return self._shared(config, harvest.directory, prepare, saved)

    def _shared(
        self,
        config: TrainConfig,
        key: object,
        prepare: Callable[[ShufflePlan], MakeShuffle],
        saved: SavedBatches | None,
    ) -> Batches:
        plan = ShufflePlan(config.tokens, config.train.shuffle_buffer, config.train.batch_size, config.data.seed)
        place = (key, config.non_finite, plan, saved.drawn if saved else 0)
        if place not in self._shuffles:
            make = prepare(plan)
            self._shuffles[place] = SharedShuffle(partial(saved.resume, make) if saved else partial(make, None))
        return Batches(self._shuffles[place], saved.pending if saved else ())


def _training_blocks(
    config: TrainConfig, live: LiveActivations, site: Site
) -> Callable[[int], Iterator[ActivationBlock]]:
    """Those of a running model, from a number on; with `raise` those that are not finite are an error."""
    refuse = config.non_finite is NonFinite["raise"]

    def blocks(first: int) -> Iterator[ActivationBlock]:
        found = live.blocks(site, first, refuse)
        # Where activations stay on a GPU, the thread that waits for the model has looked at them.
        return refused(found, "training activations", LEAVE_OUT) if refuse and not live.stays else found

    return blocks


def _finite_held_out(block: ActivationBlock, config: TrainConfig) -> Float[Tensor, "N C"]:
    return finite_block(block, "held-out activations", config.non_finite).activations
