"""Splicing a dictionary into its language model: the clean pass, and passes with something else at the hook."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import torch

from sae_cli.activations.non_finite import check_positions
from sae_cli.config.hook import HookPoint
from sae_cli.dictionaries.base import Dictionary
from sae_cli.evaluation.direct_effects import DirectEffects
from sae_cli.evaluation.encode import measure
from sae_cli.evaluation.held_out import HeldOutRows
from sae_cli.evaluation.token_means import TokenMeans
from sae_cli.metrics.code_length import CodeBook, mean_contribution
from sae_cli.metrics.directions import NullSpace
from sae_cli.metrics.encoded import Encoded
from sae_cli.metrics.language_loss import ALL_PATHS, DIRECT_PATH, LossSums, Predictions, estimates
from sae_cli.metrics.mapped_error import MappedErrorSums, Replaced
from sae_cli.metrics.reconstruction import ReconstructionSums
from sae_cli.metrics.reconstruction_rows import EncodedRows, ReconstructionRows
from sae_cli.metrics.row_sums import RowSums
from sae_cli.models import LanguageModel, MappedTarget, Outputs, Site, Visitor, Wires
from sae_cli.models.hooks import recorder, stand_in
from sae_cli.tensor_types import Bool, Float, Int, SiteActivations, Tensor


class CleanRun(NamedTuple):
    """What a run without any change leaves.

    Attributes:
        outputs: the end of the model; None of one that does not predict the next token.
        seen: the activations at the places that the target needs.
        x: what the dictionary reads.
        y: what it is to write; of an autoencoder x itself.
        counted: positions whose activations are replaced and measured.
        replaced: from a replacement to the end that it leads to; None where nothing can be replaced.
    """

    outputs: Outputs | None
    seen: dict[Site, Float[Tensor, "B T _"]]
    x: Float[Tensor, "B T D"]
    y: Float[Tensor, "B T E"]
    counted: Bool[Tensor, "B T"]
    replaced: Callable[[Visitor], Outputs] | None

    def instead(self, values: Float[Tensor, "N E"] | Float[Tensor, " E"]) -> Float[Tensor, "B T E"]:
        """The activations with such values at the counted positions."""
        return self.y.index_put((self.counted,), values.to(self.y.dtype))


class Shared(NamedTuple):
    """A clean run of some rows of text, and what does not depend on a dictionary.

    Attributes:
        rows: of text.
        run: see `CleanRun`.
        ends: ends of the model with something else in the activations' place, by a name.
        losses: with constants in their place, by what `LossSums.add` calls each condition, under the mean of the
            training activations, which is one of the constants.
    """

    rows: HeldOutRows
    run: CleanRun
    ends: dict[str, Outputs]
    losses: dict[bytes, dict[str, Float[Tensor, "N 2"]]]


class CleanRuns:
    """Clean runs for dictionaries of one place that read a text in step: each is made for the first of them."""

    def __init__(self) -> None:
        self._last: Shared | None = None

    def of(self, rows: HeldOutRows, make: Callable[[], CleanRun]) -> Shared:
        """The clean run of these rows, which is made unless it was the last."""
        if self._last is None or self._last.rows is not rows:
            self._last = None  # before the next one takes memory
            self._last = Shared(rows, make(), {}, {})
        return self._last


class Splicer:
    """Runs rows of tokens clean and with stand-ins where a dictionary writes, and adds what comes out to the sums.

    Positions that are not counted keep their own activations in every condition.

    Attributes:
        source, target: what the dictionary reads, and what it writes.
        reconstruction: of the activations that it is to write.
        by_row: the same for each row of text.
        losses: with ŷ, 0 and ȳ_train in their place, on the paths that are known: the direct one, and all where
            something can be replaced. Nothing of a model that does not predict the next token.
        direct: what is found on the direct path; None where that is not known.
        unseen: the activations' part in the null space, where there is one.
    """

    def __init__(
        self,
        model: LanguageModel,
        wires: Wires,
        dictionary: Dictionary | TokenMeans,
        null_space: NullSpace | None = None,
        book: CodeBook | None = None,
        clean: CleanRuns | None = None,
    ) -> None:
        self.model, self.dictionary = model, dictionary
        self._clean = clean or CleanRuns()
        self.source, self.target = map(model.target, wires)
        self.direct = DirectEffects(model, self.target) if isinstance(self.target, MappedTarget) else None
        self.reconstruction = ReconstructionSums(origin=dictionary.activation_mean)
        self.by_row = ReconstructionRows(dictionary.activation_mean, book)
        self.on_all_paths = self.target.replaced is not None or wires.writes.hook is HookPoint.logits
        self.losses = LossSums((ALL_PATHS if self.on_all_paths else ()) + (DIRECT_PATH if self.direct else ()))
        self.unseen = MappedErrorSums(null_space.projector()) if null_space else None

    @torch.no_grad()
    def add(self, seen: HeldOutRows) -> None:
        """Add rows of text."""
        shared = self._shared(seen)
        run = shared.run
        encoded = self._encoded(run, seen.tokens)
        measure([encoded], self.reconstruction)
        self.by_row.add(EncodedRows(encoded, run.counted.nonzero()[:, 0], seen.places))
        reconstructed = run.instead(encoded.reconstruction)
        self._add_errors(run, reconstructed)
        if run.outputs is None:
            return
        mean = self.dictionary.activation_mean
        known = shared.losses.setdefault(mean.cpu().numpy().tobytes(), {})
        stand_ins = {"sae": reconstructed}
        if not known:
            stand_ins |= {"zero": run.instead(torch.zeros_like(mean)), "mean": run.instead(mean)}
        conditions = chain(self._all_paths(run, stand_ins), self._direct_path(run, stand_ins))
        places = (seen.counted, seen.places, seen.domains)
        found = self.losses.add(Predictions(*seen.text, run.outputs, conditions, *places, known))
        known.update((name, losses) for name, losses in found.items() if not name.startswith("sae"))

    @torch.no_grad()
    def add_instead(
        self, seen: HeldOutRows, ways: Sequence[Callable[[Encoded], SiteActivations]], sums: LossSums
    ) -> None:
        """Add the losses of rows of text with something else in the activations' place: on all paths where there are
        such, else on the direct one. What the first way leads to stands for the clean run; the conditions are the
        numbers of the others."""
        run = self._shared(seen).run
        encoded = self._encoded(run, seen.tokens)
        stand_ins = {str(i): run.instead(way(encoded)) for i, way in enumerate(ways)}
        if self.target.replaced:
            found = self._all_paths(run, stand_ins)
        else:
            direct = self._direct_path(run, stand_ins)
            found = ((name.removesuffix("_direct"), outputs) for name, outputs in direct if name.endswith("_direct"))
        _, first = next(found)
        sums.add(Predictions(*seen.text, first, found, seen.counted, seen.places))

    @torch.no_grad()
    def mean_contribution(self, seen: HeldOutRows) -> float:
        """Of a feature where it fires in the first of these rows."""
        tokens = seen.tokens[:1]
        return mean_contribution(self._encoded(self._clean_run(tokens, seen.counted[:1]), tokens))

    def _shared(self, seen: HeldOutRows) -> Shared:
        return self._clean.of(seen, lambda: self._clean_run(seen.tokens, seen.counted))

    def _encoded(self, run: CleanRun, tokens: Int[Tensor, "B T"]) -> Encoded:
        if isinstance(self.dictionary, TokenMeans):
            return self.dictionary.encoded(tokens, run.y, run.counted)
        return Encoded(self.dictionary, run.x[run.counted], run.y[run.counted])

    def _clean_run(self, tokens: Int[Tensor, "B T"], counted: Bool[Tensor, "B T"]) -> CleanRun:
        seen: dict[Site, SiteActivations] = {}
        places, clean, replaced = {*self.source.taps, *self.target.needed}, None, None
        watched = {place: recorder(seen, place) for place in places}
        if not self.model.predicts:
            seen = self.model.capture(tokens, [*places])
        elif self.target.replaced is None:
            clean = self.model.outputs(tokens, watched)
        else:
            clean, replaced = self.model.branches(tokens, self.target.replaced, watched)
        x = self.source.read(seen).float()
        y = x if self.source is self.target else self.target.read(seen).float()
        counted = counted.to(x.device)
        check_positions(x, tokens, counted, "held-out activations")
        if y is not x:
            check_positions(y, tokens, counted, "held-out activations")
        return CleanRun(clean, seen, x, y, counted, replaced)

    def _all_paths(self, run: CleanRun, stand_ins: dict[str, SiteActivations]) -> Iterator[tuple[str, Outputs]]:
        if run.replaced is None or self.target.replaced is None:
            return
        there = run.seen[self.target.replaced]
        for name, values in stand_ins.items():
            put = self.target.put(values, run.seen).to(there.dtype)
            yield name, run.replaced(stand_in(torch.where(run.counted[..., None], put, there)))

    def _direct_path(self, run: CleanRun, stand_ins: dict[str, SiteActivations]) -> Iterator[tuple[str, Outputs]]:
        if self.direct and run.outputs is not None:
            yield from self.direct.outputs(run.seen, run.outputs, run.y, stand_ins, run.counted)

    def _add_errors(self, run: CleanRun, reconstructed: Float[Tensor, "B T E"]) -> None:
        """The reconstruction error, seen from other spaces."""
        if self.unseen:
            self.unseen.add(Replaced(run.y[run.counted], reconstructed[run.counted]))
        if self.direct:
            self.direct.add_errors(run.seen, run.y, reconstructed, run.counted)

    def results(self) -> dict[str, float | None]:
        """Every figure by its name."""
        mapped = self.direct.results() if self.direct else {}
        unseen = self.unseen.results().variance_sum if self.unseen else None
        null_space = {} if unseen is None else {"nullspace_variance": unseen / self.reconstruction.variance_sum}
        return {**self.reconstruction.results(), **mapped, **null_space, **estimates(self.rows())}

    def rows(self) -> RowSums:
        """All sums of each row of text: figures, their errors and differences between dictionaries follow from them."""
        of_codes = self.by_row.results()
        return self.losses.pooled.beside(of_codes) if self.model.predicts else of_codes
