"""What replacing activations does to the language model: cross-entropy, KL, loss recovered.

Every figure is a ratio of sums over tokens. Its standard error comes from the differences between
rows of text (the rows, not the tokens, are the independent draws), by the delta method.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F

from sae_cli.tensor_types import Float, Int, Tensor

Figure = Callable[[Mapping[str, Tensor]], Tensor]
"""A figure as a function of the totals by column."""

ALL_PATHS = ("sae", "zero", "mean")
"""What stands at the hook: the reconstruction, zeros, the mean of the training activations."""

DIRECT_PATH = tuple(f"{name}_direct" for name in ALL_PATHS)
"""The same, with the change carried straight to the logits and everything in between left alone."""


class LossSums:
    """Sums over rows of text, and of the products of rows' sums: all that means and errors need.

    Args:
        conditions: the replacements that are measured, `ALL_PATHS` and perhaps `DIRECT_PATH`.

    Attributes:
        columns: what is summed: tokens, bytes, and the losses of every condition.
        rows: rows of text.
        total: Σ over rows of the row's sums, one for each column [C], float64.
        products: Σ over rows of the outer product of the row's sums with themselves [C, C].
    """

    def __init__(self, conditions: Sequence[str] = ALL_PATHS) -> None:
        self.conditions = tuple(conditions)
        losses = (f"{loss}_{condition}" for loss in ("ce", "kl") for condition in conditions)
        self.columns = ("tokens", "bytes", "ce_clean", *losses)
        columns = len(self.columns)
        self.rows = 0
        self.total = torch.zeros(columns, dtype=torch.float64)
        self.products = torch.zeros(columns, columns, dtype=torch.float64)

    def add(
        self,
        tokens: Int[Tensor, "B T"],
        token_bytes: Int[Tensor, " V"],
        clean: Float[Tensor, "B T V"],
        replaced: Iterable[tuple[str, Float[Tensor, "B T V"]]],
        first: int,
    ) -> None:
        """Add rows, given the logits of every condition.

        The loss is read at positions `first` … T-2, those whose prediction depends on a replaced
        activation and has a next token; KL at the same positions.

        Args:
            tokens: the rows.
            token_bytes: length in bytes of each token of the vocabulary.
            clean: logits with the hook untouched.
            replaced: each of the conditions with its logits; taken one by one, so that they may be made so.
            first: the first replaced position.
        """
        targets = tokens[:, 1:]
        columns = {
            "tokens": torch.full((len(tokens),), tokens.shape[1] - 1 - first),
            "bytes": token_bytes[targets[:, first:]].sum(dim=1),
        }
        clean = _log_softmax(clean)
        p = clean.exp()
        columns["ce_clean"] = _row_sums(_surprise(clean, targets)[:, first:])
        negentropy = torch.linalg.vecdot(p, clean)
        for condition, logits in replaced:
            log_q = _log_softmax(logits)
            columns[f"ce_{condition}"] = _row_sums(_surprise(log_q, targets)[:, first:])
            columns[f"kl_{condition}"] = _row_sums((negentropy - torch.linalg.vecdot(p, log_q))[:, first:-1])
        per_row = torch.stack([columns[name].double().cpu() for name in self.columns], dim=1)
        self.rows += len(per_row)
        self.total += per_row.sum(dim=0)
        self.products += per_row.T @ per_row

    def merge(self, other: LossSums) -> LossSums:
        """The sums of both parts."""
        merged = LossSums(self.conditions)
        merged.rows = self.rows + other.rows
        merged.total = self.total + other.total
        merged.products = self.products + other.products
        return merged

    def results(self) -> dict[str, float | None]:
        """Every loss figure by its name, each with its standard error `<name>_se`."""
        results: dict[str, float | None] = {}
        for name, function in self._figures().items():
            results[name], results[f"{name}_se"] = self._figure(function)
        return results

    def _figures(self) -> dict[str, Figure]:
        means = {name: partial(_mean, name) for name in self.columns if name.startswith(("ce_", "kl_"))}
        return means | _FIGURES | (_DIRECT_FIGURES if "sae_direct" in self.conditions else {})

    def _figure(self, function: Figure) -> tuple[float | None, float | None]:
        """A function of the totals and its standard error: variance of ∇g · (row sums) over rows."""
        total = self.total.clone().requires_grad_(True)
        value = function(dict(zip(self.columns, total, strict=True)))
        if not torch.isfinite(value):
            return None, None
        (gradient,) = torch.autograd.grad(value, total)
        if self.rows < 2:
            return value.item(), None
        centred = self.products - torch.outer(self.total, self.total) / self.rows
        variance = float(gradient @ centred @ gradient) * self.rows / (self.rows - 1)
        return value.item(), math.sqrt(max(0.0, variance))


def _mean(name: str, s: Mapping[str, Tensor]) -> Tensor:
    return s[name] / s["tokens"]


def _recovered(baseline: str, s: Mapping[str, Tensor], path: str = "") -> Tensor:
    worst = s[f"ce_{baseline}{path}"]
    return (worst - s[f"ce_sae{path}"]) / (worst - s["ce_clean"])


_FIGURES: dict[str, Figure] = {
    "ce_increase": lambda s: (s["ce_sae"] - s["ce_clean"]) / s["tokens"],
    "zero_ablation_effect": lambda s: (s["ce_zero"] - s["ce_clean"]) / s["tokens"],
    "mean_ablation_effect": lambda s: (s["ce_mean"] - s["ce_clean"]) / s["tokens"],
    "loss_recovered": partial(_recovered, "zero"),
    "loss_recovered_mean": partial(_recovered, "mean"),
    "bits_per_byte_clean": lambda s: s["ce_clean"] / s["bytes"] / math.log(2),
    "bits_per_byte_sae": lambda s: s["ce_sae"] / s["bytes"] / math.log(2),
}
_DIRECT_FIGURES: dict[str, Figure] = {
    "loss_recovered_direct": partial(_recovered, "zero", path="_direct"),
    "loss_recovered_mean_direct": partial(_recovered, "mean", path="_direct"),
}


def _log_softmax(logits: Float[Tensor, "B T V"]) -> Float[Tensor, "B T V"]:
    return F.log_softmax(logits.float(), dim=-1)


def _surprise(log_p: Float[Tensor, "B T V"], targets: Int[Tensor, "B S"]) -> Float[Tensor, "B S"]:
    """-log p of each next token: positions 0 … T-2."""
    return -log_p[:, :-1].gather(-1, targets[..., None])[..., 0]


def _row_sums(values: Float[Tensor, "B S"]) -> Float[Tensor, " B"]:
    return values.double().sum(dim=1)
