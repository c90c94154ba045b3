"""The sums that SAEBench's core figures need (`sae_bench` 0.6.0, `evals/core`), by its formulas, not by ours.

Four of them depend on how rows are grouped into batches: means over a batch stand inside them. A batch here is one of
theirs, of `batch_rows` rows of text, whatever the number of rows that the model reads at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch

from sae_cli.metrics.encoded import Encoded
from sae_cli.metrics.language_loss import named
from sae_cli.metrics.row_sums import OfTotals, RowPlaces, RowSums, SumsOfRows
from sae_cli.tensor_types import Bool, Float, Int, Tensor

LEAST_NORM = 1e-4
"""Activations that are shorter stand undivided in `l2_ratio`."""
DENSE = {"1": 0.01, "10": 0.1}
"""Densities, in per cent, above which features are counted."""


class BenchBatch(NamedTuple):
    """What a dictionary makes of one batch of rows, position after position.

    Attributes:
        x: activations [N, D].
        reconstruction: what stands for them [N, D].
        active: features that are not 0 [N].
        total: Σᵢ fᵢ [N].
        row: the number of each position's row among these [N].
        places: which rows these are.
    """

    x: Float[Tensor, "N D"]
    reconstruction: Float[Tensor, "N D"]
    active: Float[Tensor, " N"]
    total: Float[Tensor, " N"]
    row: Int[Tensor, " N"]
    places: RowPlaces

    @classmethod
    def of(cls, encoded: Encoded, row: Int[Tensor, " N"], places: RowPlaces) -> BenchBatch:
        """Of what a pass has seen of these rows."""
        f, (x, reconstruction) = encoded.f, (encoded.target, encoded.reconstruction)
        return cls(
            x=x.double().cpu(),
            reconstruction=reconstruction.double().cpu(),
            active=(f != 0).sum(dim=1).double().cpu(),
            total=f.sum(dim=1, dtype=torch.float64).cpu(),
            row=row.cpu(),
            places=places,
        )

    def then(self, other: BenchBatch) -> BenchBatch:
        """These rows, and the others after them."""
        return BenchBatch(
            x=torch.cat([self.x, other.x]),
            reconstruction=torch.cat([self.reconstruction, other.reconstruction]),
            active=torch.cat([self.active, other.active]),
            total=torch.cat([self.total, other.total]),
            row=torch.cat([self.row, other.row + len(self.places.document)]),
            places=self.places.then(other.places),
        )


class BenchSums:
    """Sums of every row of text, and the bias of every batch.

    Attributes:
        rows: positions; the sums over them; and what is divided by the positions of the batch (`mse`, `square`), of
            which `batch` is this row's share.
        biases: Σ over batches of Σ‖x̂‖² / Σ x·x̂.
        batches: how many.
    """

    COLUMNS = (
        *("positions", "l0", "l1", "norm_in", "norm_out", "norm_ratio", "cosine", "cosine_positions", "legacy"),
        *("mse", "square", "batch", "output_square", "product"),
    )

    def __init__(self, width: int) -> None:
        self.width = width
        self.rows = RowSums(self.COLUMNS)
        self.biases, self.batches = 0.0, 0

    def add(self, seen: BenchBatch) -> None:
        """Add one batch; one without positions is passed over."""
        if not len(seen.x):
            return
        columns = torch.stack([each.double() for each in _of_positions(seen)], dim=1)
        sums = columns.new_zeros(len(seen.places.document), columns.shape[1]).index_add_(0, seen.row, columns)
        self.rows.add(SumsOfRows(sums, seen.places))
        of = dict(zip(self.COLUMNS, sums.sum(dim=0).tolist(), strict=True))
        self.biases += of["output_square"] / of["product"] if of["product"] else float("nan")
        self.batches += 1

    def merge(self, other: BenchSums) -> BenchSums:
        """The sums of both parts, each of whole batches."""
        merged = BenchSums(self.width)
        merged.rows = self.rows.merge(other.rows)
        merged.biases, merged.batches = self.biases + other.biases, self.batches + other.batches
        return merged

    def results(self) -> dict[str, float | None]:
        """Their figures by their names, those of sums over rows with errors; and ours of `reconstruction_bias`."""
        bias = self.biases / self.batches
        found = named({name: self.rows.estimate(figure) for name, figure in self._figures().items()})
        return {**found, "relative_reconstruction_bias": bias if bias == bias else None}

    def _figures(self) -> dict[str, OfTotals]:
        d = self.width

        def explained(s: Mapping[str, Tensor]) -> Tensor:
            square = s["square"] / s["batch"]
            return 1 - s["mse"] / s["batch"] / (square - (square / d).square())

        means = {"l0": "l0", "l1": "l1", "l2_norm_in": "norm_in", "l2_norm_out": "norm_out", "l2_ratio": "norm_ratio"}
        means |= {"mse": "mse", "explained_variance_legacy": "legacy"}
        return {
            "explained_variance": explained,
            "cossim": lambda s: s["cosine"] / s["cosine_positions"],
            "reconstruction_bias": lambda s: s["output_square"] / s["product"],
            **{name: _mean_of(column) for name, column in means.items()},
        }


def _mean_of(column: str) -> OfTotals:
    return lambda s: s[column] / s["positions"]


def _of_positions(seen: BenchBatch) -> list[Tensor]:
    """The columns of `BenchSums` at every position of one batch."""
    x, reconstruction = seen.x, seen.reconstruction
    n, one = len(x), torch.ones(len(x), dtype=torch.float64)
    norm_in, norm_out = x.norm(dim=1), reconstruction.norm(dim=1)
    error, product = (x - reconstruction).square().sum(dim=1), (x * reconstruction).sum(dim=1)
    directed = (norm_in > 0) & (norm_out > 0)
    return [
        *(one, seen.active, seen.total, norm_in, norm_out),
        norm_out / torch.where(norm_in < LEAST_NORM, 1.0, norm_in),
        torch.where(directed, product / (norm_in * norm_out), 0.0),
        directed,
        1 - error / (x - x.mean(dim=0)).square().sum(dim=1),
        *(error / n, norm_in.square() / n, one / n),
        *(norm_out.square(), product),
    ]


class EncodedText(NamedTuple):
    """Activations of rows of text, the row of each among them [N], and how many rows there are."""

    encoded: Encoded
    row: Int[Tensor, " N"]
    n_rows: int


class DensitySums:
    """On how many positions, and in how many rows of text, each feature is positive.

    Attributes:
        positions: how many there were.
        count, rows: int64 [F].
    """

    def __init__(self, n_features: int) -> None:
        self.positions = 0
        self.count, self.rows = torch.zeros(2, n_features, dtype=torch.int64)

    def add(self, seen: EncodedText) -> None:
        """Add rows, each whole."""
        fires: Bool[Tensor, "N F"] = seen.encoded.f > 0
        self.positions += len(fires)
        self.count = self.count + fires.sum(dim=0).cpu()
        row = seen.row.to(fires.device)
        of_row = torch.stack([fires[row == i].any(dim=0) for i in range(seen.n_rows)])
        self.rows = self.rows + of_row.sum(dim=0).cpu()

    def merge(self, other: DensitySums) -> DensitySums:
        """The counts of both parts."""
        merged = DensitySums(len(self.count))
        merged.positions = self.positions + other.positions
        merged.count, merged.rows = self.count + other.count, self.rows + other.rows
        return merged

    def tensors(self) -> dict[str, Tensor]:
        """Of each feature [F], float64: the share of positions, and positions in a row where it is positive in any
        (NaN where it is in none)."""
        return {
            "feature_density": self.count.double() / self.positions,
            "consistent_activation_heuristic": self.count.double() / self.rows,
        }

    def results(self) -> dict[str, float | None]:
        """Shares of features: alive, and above 1 and 10 per cent of positions; what share of all density is theirs."""
        density = self.tensors()["feature_density"]
        total = float(density.sum())
        found: dict[str, float | None] = {"frac_alive": float((density > 0).double().mean())}
        for name, least in DENSE.items():
            above = density > least
            found[f"freq_over_{name}_percent"] = float(above.double().mean())
            found[f"normalized_freq_over_{name}_percent"] = float(density[above].sum()) / total if total else 0.0
        return found


class LastPositions(NamedTuple):
    """Clean logits at the last position of rows [B, V], those of each condition, whether the position is counted."""

    clean: Float[Tensor, "B V"]
    replaced: Mapping[str, Float[Tensor, "B V"]]
    counted: Bool[Tensor, " B"]
    places: RowPlaces


class LastPositionSums:
    """KL at the last position of each row, which has no next token in it: theirs counts it, ours does not.

    Args:
        conditions: what stands in the activations' place.
    """

    def __init__(self, conditions: tuple[str, ...]) -> None:
        self.conditions = conditions
        self.rows = RowSums(("last", *(f"kl_last_{name}" for name in conditions)))

    def add(self, seen: LastPositions) -> None:
        """Add rows."""
        clean = seen.clean.float().log_softmax(dim=-1)
        kl = [
            (clean.exp() * (clean - seen.replaced[name].float().log_softmax(dim=-1))).sum(dim=-1)
            for name in self.conditions
        ]
        columns = torch.stack([torch.ones(len(clean), dtype=torch.float64), *(each.double().cpu() for each in kl)], 1)
        self.rows.add(SumsOfRows(columns.masked_fill(~seen.counted.cpu()[:, None], 0.0), seen.places))

    def merge(self, other: LastPositionSums) -> LastPositionSums:
        """The rows of both parts."""
        merged = LastPositionSums(self.conditions)
        merged.rows = self.rows.merge(other.rows)
        return merged

    def results(self) -> RowSums:
        """The sums of each row: `last` positions, and `kl_last_<condition>`."""
        return self.rows


def loss_figures(sums: RowSums) -> dict[str, float | None]:
    """Their losses, with errors, of the columns of `LossSums` beside those of `LastPositionSums`: `sae` is the
    reconstruction, `everywhere` zeros at every position."""

    def kl(condition: str) -> OfTotals:
        return lambda s: (s[f"kl_{condition}"] + s[f"kl_last_{condition}"]) / (s["tokens"] + s["last"])

    def ce(condition: str) -> OfTotals:
        return lambda s: s[f"ce_{condition}"] / s["tokens"]

    def share(column: str, clean: str | None) -> OfTotals:
        def figure(s: Mapping[str, Tensor]) -> Tensor:
            loss = {name: s[f"{column}_{name}"] for name in ("sae", "everywhere")}
            if clean is None:
                loss = {name: each + s[f"{column}_last_{name}"] for name, each in loss.items()}
            return (loss["everywhere"] - loss["sae"]) / (loss["everywhere"] - (s[clean] if clean else 0.0))

        return figure

    figures = {
        "kl_div_score": share("kl", None),
        "kl_div_with_ablation": kl("everywhere"),
        "kl_div_with_sae": kl("sae"),
        "ce_loss_score": share("ce", "ce_clean"),
        "ce_loss_with_ablation": ce("everywhere"),
        "ce_loss_with_sae": ce("sae"),
        "ce_loss_without_sae": ce("clean"),
    }
    return named({name: sums.estimate(figure) for name, figure in figures.items()})
