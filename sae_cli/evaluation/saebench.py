"""SAEBench's core protocol: one pass over held-out text in its batches, with its sums and ours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import reduce
from itertools import count
from typing import NamedTuple

import torch

from sae_cli.activations.blocks import FIRST_POSITION
from sae_cli.config.evaluation import EvaluationConfig
from sae_cli.dictionaries.base import Dictionary
from sae_cli.dictionaries.gated import GatedDictionary
from sae_cli.documents import Facts
from sae_cli.errors import JobError, RequestError
from sae_cli.evaluation.encode import measure
from sae_cli.evaluation.held_out import HeldOutRows, HeldOutText, check_losses
from sae_cli.evaluation.splice import CleanRun, CleanRuns, Shared, Splicer
from sae_cli.evaluation.subject import ModelSubject
from sae_cli.metrics.encoded import Encoded
from sae_cli.metrics.language_loss import LossSums, Predictions
from sae_cli.metrics.reconstruction_rows import EncodedRows
from sae_cli.metrics.row_sums import RowPlaces
from sae_cli.metrics.saebench import (
    BenchBatch,
    BenchSums,
    DensitySums,
    EncodedText,
    LastPositions,
    LastPositionSums,
    loss_figures,
)
from sae_cli.metrics.similarity import nearest_others
from sae_cli.models import Outputs
from sae_cli.models.hooks import stand_in
from sae_cli.tensor_types import Float, Tensor
from sae_cli.text.provenance import TokensHash

_THEIRS = ("sae", "everywhere")
"""What their losses are of: the reconstruction, and zeros at every position, those that are left out too."""

OURS = {
    "kl_div_with_sae": "kl_sae",
    "kl_div_with_ablation": "kl_zero",
    "ce_loss_with_ablation": "ce_zero",
    "ce_loss_score": "loss_recovered",
    "explained_variance": "explained_variance",
    "explained_variance_legacy": "explained_variance",
    "mse": "mse",
    "relative_reconstruction_bias": "reconstruction_bias",
    "l1": "l1",
}
"""For each of their figures that we define otherwise, ours of the same positions."""


class Benchmarked(NamedTuple):
    """Their figures, ours of the same positions, numbers of each feature, and what was read."""

    figures: dict[str, float | None]
    ours: dict[str, float | None]
    tensors: dict[str, Tensor]
    text: Facts


class BenchText:
    """The batches of a text, and what the model makes of them without a dictionary: once, for all dictionaries of one
    place that read them in step.

    Args:
        subject: the model, the place and the text, whose rows have the benchmark's length.
        evaluation: which rows and positions.
        batch_rows: rows a batch.
    """

    def __init__(self, subject: ModelSubject, evaluation: EvaluationConfig, batch_rows: int) -> None:
        self.subject = subject
        self.text = HeldOutText(subject.model, subject.data, subject.model_rows, evaluation, batch_rows)
        self._batch_rows = batch_rows
        self._read: list[list[HeldOutRows]] = []
        self._more = whole_batches(self.text.blocks(), batch_rows)
        self.clean = CleanRuns()

    def batches(self) -> Iterator[list[HeldOutRows]]:
        """Each batch in parts that the model can take; as often as it is asked for."""
        for number in count():
            if number == len(self._read):
                if (batch := next(self._more, None)) is None:
                    return
                self._read.append([*in_parts(batch, self.text.rows_at_once)])
            yield self._read[number]


class CoreBenchmark:
    """SAEBench's core figures of a dictionary.

    Args:
        text: that it is measured on.
        dictionary: of the place whose text this is.

    Raises:
        RequestError: nothing can be replaced at this place.
    """

    def __init__(self, text: BenchText, dictionary: Dictionary) -> None:
        text.subject.check(dictionary)
        self._text, self._dictionary, self._splicer = text, dictionary, CoreSplicer(text, dictionary)
        self._sums, self._hash = BenchSums(dictionary.d_out), TokensHash()

    def batches(self) -> Iterator[int]:
        """Measure on one batch after another; yields how many positions each has held."""
        for parts in self._text.batches():
            self._sums.add(reduce(BenchBatch.then, [self._splicer.add_part(rows) for rows in parts]))
            for rows in parts:
                self._hash.add(rows.tokens.numpy())
            yield sum(len(rows.tokens) * (rows.tokens.shape[1] - FIRST_POSITION) for rows in parts)

    def results(self) -> Benchmarked:
        """Everything that was measured.

        Raises:
            JobError: there was no position to measure on, or a loss was not finite.
        """
        text, splicer = self._text.text, self._splicer
        if not self._sums.batches:
            raise JobError(f"no position of the held-out text is left: {text.positions()}; give other eval.exclude=")
        check_losses(splicer.losses, "the model and the dictionary in it")
        text.say_if_short(splicer.reconstruction.n, splicer.losses.pooled.documents)
        tensors = {**splicer.density.tensors(), **weights(self._dictionary)}
        found = self._sums.results()
        losses = loss_figures(splicer.losses.pooled.beside(splicer.last.results()))
        about = {
            "positions": text.positions(),
            "tokens": splicer.reconstruction.n,
            "loss_tokens": int(splicer.losses.total[0]),
            "rows": splicer.losses.rows,
            "batches": self._sums.batches,
            "documents": splicer.losses.pooled.documents,
            "tokens_sha256": self._hash.hexdigest(),
        }
        theirs = {key: each for key, each in found.items() if not key.startswith("reconstruction_bias")}
        figures = {**losses, **theirs, **splicer.density.results(), **summaries(tensors)}
        ours = {**splicer.results(), **{key: found[key] for key in found if key not in theirs}}
        return Benchmarked(figures, _with_errors(ours), tensors, about)


class CoreSplicer(Splicer):
    """Runs rows clean, with the reconstruction, and with zeros: at the positions that are counted, as ours, and at
    every position, as theirs.

    Attributes:
        density: of features.
        last: KL at last positions.
    """

    def __init__(self, text: BenchText, dictionary: Dictionary) -> None:
        subject = text.subject
        subject.model.check_predicts("sae bench")
        super().__init__(subject.model, subject.wires, dictionary, clean=text.clean)
        if self.target.replaced is None:
            raise RequestError(
                f"hook={subject.site.hook.value}: expected a hook point where activations can be replaced, found one "
                "that acts on the logits alone; sae eval measures it"
            )
        self.losses = LossSums(("sae", "zero", "everywhere"))
        self.density, self.last = DensitySums(dictionary.n_features), LastPositionSums(_THEIRS)

    @torch.no_grad()
    def add_part(self, seen: HeldOutRows) -> BenchBatch:
        """Add rows; what is summed by batches is handed back."""
        shared = self._shared(seen)
        run, encoded = shared.run, self._encoded(shared.run, seen.tokens)
        row = run.counted.nonzero()[:, 0]
        measure([encoded], self.reconstruction)
        self.by_row.add(EncodedRows(encoded, row, seen.places))
        self.density.add(EncodedText(encoded, row, len(seen.tokens)))
        assert run.outputs is not None, "the model predicts"
        conditions = {"sae": self._spliced(run, encoded), **self._without(shared)}
        known = shared.losses.setdefault(b"", {})
        about = Predictions(*seen.text, run.outputs, conditions.items(), seen.counted, seen.places, known=known)
        known.update((name, losses) for name, losses in self.losses.add(about).items() if name != "sae")
        at_last = torch.arange(len(seen.tokens)) * seen.tokens.shape[1] + seen.tokens.shape[1] - 1
        at_end = {name: outputs(at_last) for name, outputs in conditions.items()}
        self.last.add(LastPositions(run.outputs(at_last), at_end, seen.counted[:, -1], seen.places))
        return BenchBatch.of(encoded, row, seen.places)

    def _spliced(self, run: CleanRun, encoded: Encoded) -> Outputs:
        """The end of the model with the reconstruction in it."""
        return dict(self._all_paths(run, {"sae": run.instead(encoded.reconstruction)}))["sae"]

    def _without(self, shared: Shared) -> dict[str, Outputs]:
        """The end of the model with zeros at the positions that are counted, and at all."""
        if not shared.ends:
            zeros = torch.zeros_like(shared.run.y)
            shared.ends.update(self._all_paths(shared.run, {"zero": zeros}))
            all_counted = bool(shared.run.counted.all())
            shared.ends["everywhere"] = shared.ends["zero"] if all_counted else self._everywhere(shared.run, zeros)
        return shared.ends

    def _everywhere(self, run: CleanRun, values: Float[Tensor, "B T E"]) -> Outputs:
        assert self.target.replaced is not None and run.replaced is not None
        there = run.seen[self.target.replaced]
        return run.replaced(stand_in(self.target.put(values, run.seen).to(there.dtype)))


def whole_batches(blocks: Iterable[HeldOutRows], rows: int) -> Iterator[HeldOutRows]:
    """Batches of so many rows; what is left at the end is left out, unless there is nothing else."""
    left: HeldOutRows | None = None
    found = False
    for block in blocks:
        left = block if left is None else _together(left, block)
        while left is not None and len(left.tokens) >= rows:
            yield _select(left, slice(rows))
            found, left = True, _select(left, slice(rows, None))
    if left is not None and not found:
        yield left


def in_parts(batch: HeldOutRows, rows: int) -> Iterator[HeldOutRows]:
    """At most so many rows at once."""
    return (_select(batch, slice(i, i + rows)) for i in range(0, len(batch.tokens), rows))


def _select(rows: HeldOutRows, part: slice) -> HeldOutRows:
    tokens, counted, domains, n_bytes, (document, number) = rows
    places = RowPlaces(document[part], number[part])
    return HeldOutRows(tokens[part], counted[part], domains[part], n_bytes[part], places)


def _together(one: HeldOutRows, other: HeldOutRows) -> HeldOutRows:
    return HeldOutRows(
        tokens=torch.cat([one.tokens, other.tokens]),
        counted=torch.cat([one.counted, other.counted]),
        domains=torch.cat([one.domains, other.domains]),
        n_bytes=torch.cat([one.n_bytes, other.n_bytes]),
        places=one.places.then(other.places),
    )


@torch.no_grad()
def weights(dictionary: Dictionary) -> dict[str, Tensor]:
    """What their featurewise figures say of the weights of each feature [F]."""
    bias = dictionary.b_mag if isinstance(dictionary, GatedDictionary) else dictionary.encoder_bias
    found = {
        "encoder_bias": bias,
        "encoder_norm": dictionary.W_enc.norm(dim=1),
        "encoder_decoder_cosine_sim": dictionary.de_cosine(),
    }
    if dictionary.n_features > 1:
        for name, rows in (("encoder", dictionary.W_enc), ("decoder", dictionary.W_dec)):
            every = torch.arange(dictionary.n_features)
            found[f"max_{name}_cosine_sim"] = nearest_others(rows.cpu(), every, 1)[1][:, 0]
    return {name: each.cpu() for name, each in found.items()}


def summaries(tensors: dict[str, Tensor]) -> dict[str, float | None]:
    """Means of the largest cosines, as theirs; medians of the other numbers of features."""
    means = {f"average_max_{name}_cosine_sim": tensors.get(f"max_{name}_cosine_sim") for name in ("encoder", "decoder")}
    medians = {f"{name}_median": values for name, values in tensors.items() if not name.startswith("max_")}
    found = {name: None if values is None else float(values.double().mean()) for name, values in means.items()}
    return found | {name: _median(values[values.isfinite()]) for name, values in medians.items()}


def _median(values: Float[Tensor, " N"]) -> float | None:
    return float(values.double().median()) if len(values) else None


def _with_errors(ours: dict[str, float | None]) -> dict[str, float | None]:
    """Those that stand beside theirs; explained variance has the error of FVU."""
    if (fvu := ours.get("fvu_low")) is not None:
        ours["explained_variance_high"] = 1 - fvu
        ours["explained_variance_low"] = 1 - (ours["fvu_high"] or 0.0)
    ours["explained_variance_se"] = ours.get("fvu_se")
    names = [f"{key}{part}" for key in (*OURS.values(), "fvu") for part in ("", "_se", "_low", "_high")]
    return {name: ours[name] for name in dict.fromkeys(names) if name in ours}
