"""What replacing activations does to the language model: cross-entropy, KL, loss recovered.

Every figure is a ratio of sums over tokens, with a standard error from the differences between documents.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, runtime_checkable

import torch

from sae_cli.metrics.reconstruction_rows import bits, fvu, l0
from sae_cli.metrics.row_sums import NO_ESTIMATE, Estimate, OfTotals, RowPlaces, RowSums, SumsOfRows
from sae_cli.tensor_types import Bool, Float, Int, Tensor

ALL_PATHS = ("sae", "zero", "mean")
"""What stands at the hook: the reconstruction, zeros, the mean of the training activations."""

DIRECT_PATH = tuple(f"{name}_direct" for name in ALL_PATHS)
"""The same, with the change carried straight to the logits and everything in between left alone."""


LOGITS_AT_ONCE = 2**23
"""Logits of one condition that are in memory."""
_EXACT = 60.0
"""Log-partition functions closer to 0 than this may be had from a sum of exponentials in float32."""


@runtime_checkable
class LogitsAt(Protocol):
    """Logits of rows of text [B, T], some positions at a time: what they are made of may be held as it is until then.

    Attributes:
        n_logits: V.
    """

    n_logits: int

    def __call__(self, where: Int[Tensor, " N"]) -> Float[Tensor, "N V"]:
        """Those at positions that are numbered row after row, in float32."""
        ...


@dataclass(frozen=True)
class Predictions:
    """What a language model predicts of rows of text, under every condition.

    Attributes:
        tokens: the rows.
        n_bytes: bytes of text that each token stands for.
        clean: the logits with the hook untouched.
        replaced: those of each of the conditions.
        counted: positions whose predictions are read.
        places: which rows these are.
        domains: number of the domain that each token belongs to; a loss belongs to that of the predicted token.
        known: what `LossSums.add` has found for conditions, on the same rows, which need not be run again.
    """

    tokens: Int[Tensor, "B T"]
    n_bytes: Int[Tensor, "B T"]
    clean: LogitsAt
    replaced: Iterable[tuple[str, LogitsAt]]
    counted: Bool[Tensor, "B T"]
    places: RowPlaces
    domains: Int[Tensor, "B T"] | None = None
    known: Mapping[str, Float[Tensor, "N 2"]] = field(default_factory=dict[str, Tensor])


class LossSums:
    """Sums of losses over the tokens of each row of text, and of each domain in each row.

    Args:
        conditions: the replacements that are measured: `ALL_PATHS`, `DIRECT_PATH`, both, or none for the model alone.

    Attributes:
        columns: what is summed: tokens, bytes, and the losses of every condition.
        pooled: over all tokens.
        by_domain: over the tokens of each domain, by its number; a row counts where it has such tokens.
    """

    def __init__(self, conditions: Sequence[str] = ALL_PATHS) -> None:
        self.conditions = tuple(conditions)
        losses = (f"{loss}_{condition}" for loss in ("ce", "kl") for condition in conditions)
        self.columns = ("tokens", "bytes", "ce_clean", *losses)
        self.pooled = RowSums(self.columns)
        self.by_domain: dict[int, RowSums] = {}

    @property
    def rows(self) -> int:
        """Rows of text."""
        return self.pooled.rows

    @property
    def total(self) -> Float[Tensor, " C"]:
        """Σ over all tokens, one for each column, float64."""
        return self.pooled.total

    def add(self, seen: Predictions) -> dict[str, Float[Tensor, "N 2"]]:
        """Add rows; returns the cross-entropy and the KL of each condition at each position that is looked at.

        The loss is read at the counted ones of positions 0 … T-2, which have a next token; KL at the same positions.
        """
        counted, replaced = seen.counted[:, :-1].cpu(), dict(seen.replaced)
        rows, positions = counted.nonzero(as_tuple=True)
        where = rows * seen.tokens.shape[1] + positions
        n_bytes = seen.n_bytes[rows, positions + 1].double()
        at_once = max(1, LOGITS_AT_ONCE // seen.clean.n_logits)
        parts = zip(where.split(at_once), seen.tokens[rows, positions + 1].split(at_once), strict=True)
        wanted = [name for name in self.conditions if name not in seen.known]
        of_clean, made = (
            torch.cat(each)
            for each in zip(
                *(_losses(seen.clean, [replaced[name] for name in wanted], *part) for part in parts), strict=True
            )
        )
        by_name = {**seen.known, **dict(zip(wanted, made.unbind(dim=1), strict=True))}
        conditions = [by_name[name] for name in self.conditions]
        of_tokens = [of_clean, *(each[:, 0] for each in conditions), *(each[:, 1] for each in conditions)]
        losses = torch.zeros(*counted.shape, len(self.columns), dtype=torch.float64)
        losses[counted] = torch.stack([torch.ones_like(n_bytes), n_bytes, *of_tokens], dim=1)
        self.pooled.add(SumsOfRows(_over_positions(losses), seen.places))
        if seen.domains is not None:
            self._add_domains(losses, seen.domains[:, 1:], counted, seen.places)
        return {name: by_name[name] for name in self.conditions}

    def _add_domains(
        self,
        losses: Float[Tensor, "B S C"],
        domains: Int[Tensor, "B S"],
        counted: Bool[Tensor, "B S"],
        places: RowPlaces,
    ) -> None:
        for domain in domains[counted].unique().tolist():
            among = (domains == domain) & counted
            rows = among.any(dim=1)
            sums = self.by_domain.setdefault(domain, RowSums(self.columns))
            sums.add(SumsOfRows(_over_positions(losses[rows] * among[rows, :, None]), places.select(rows)))

    def merge(self, other: LossSums) -> LossSums:
        """The sums of both parts, whose domains have the same numbers."""
        assert self.conditions == other.conditions
        merged = LossSums(self.conditions)
        merged.pooled = self.pooled.merge(other.pooled)
        nothing = RowSums(self.columns)
        for domain in {**self.by_domain, **other.by_domain}:
            parts = (each.by_domain.get(domain, nothing) for each in (self, other))
            merged.by_domain[domain] = RowSums.merge(*parts)
        return merged

    def results(self) -> dict[str, float | None]:
        """Every loss figure by its name, each with its standard error `<name>_se` and interval `_low`, `_high`."""
        return estimates(self.pooled)

    def domain_results(self) -> dict[int, dict[str, float | None]]:
        """The main figures of each domain by its number, with their standard errors, the largest domain first."""
        wanted = {f"{name}{path}" for name in _OF_DOMAINS for path in _PATHS} | {"ce_clean"}
        means = {name: partial(_mean, name) for name in self.columns if name in wanted}
        chosen = {name: figure for name, figure in _figures(self.conditions).items() if name in wanted}
        found: dict[int, dict[str, float | None]] = {}
        for domain, sums in self.by_domain.items():
            tokens, n_bytes = (int(sums.column(name).sum()) for name in ("tokens", "bytes"))
            size = {
                "tokens": tokens,
                "rows": sums.rows,
                "documents": sums.documents,
                "bytes_per_token": n_bytes / tokens if n_bytes else None,
            }
            found[domain] = size | _estimates(sums, means | chosen)
        return dict(sorted(found.items(), key=lambda item: -(item[1]["tokens"] or 0)))


def recovered_above(rows: RowSums, baseline: RowSums) -> dict[str, float | None]:
    """`recovered_above` with its error and interval: of the loss that a baseline leaves, the share that a dictionary
    recovers, (CE baseline - CE dictionary) / (CE baseline - CE clean); on the direct path where there is no other.

    Args:
        rows: of the dictionary.
        baseline: of the same rows of text.
    """
    column = "ce_sae" if "ce_sae" in rows.columns else "ce_sae_direct"
    columns = {"ce_sae": rows.column(column), "ce_clean": rows.column("ce_clean"), "worst": baseline.column(column)}
    both = RowSums.of(rows.places, **columns)
    harm = both.estimate(lambda s: s["worst"] - s["ce_clean"])
    found = both.estimate(partial(_recovered, "worst", "ce_sae")) if is_harm(harm.value, harm.se) else NO_ESTIMATE
    return named({"recovered_above": found})


_PATHS = ("", "_direct")
_OF_DOMAINS = ("ce_sae", "ce_zero", "ce_increase", "zero_ablation_effect", "loss_recovered")

EFFECTS = {
    f"{recovered}{path}": f"{ablation}_ablation_effect{path}"
    for path in _PATHS
    for recovered, ablation in (("loss_recovered", "zero"), ("loss_recovered_mean", "mean"))
}
"""Loss recovered, of each kind, is a share of this effect, and exists only where `is_harm` holds for that."""


def is_harm(effect: float | None, se: float | None) -> bool:
    """Whether an ablation raises the loss: by more than twice the standard error of its effect, if that is known."""
    return effect is not None and effect > 2 * (se or 0)


def estimates(sums: RowSums) -> dict[str, float | None]:
    """Every figure that follows from such sums of rows, by its name, with its error and interval."""
    return _estimates(sums, figures_of(sums.columns))


def figures_of(columns: Sequence[str]) -> dict[str, OfTotals]:
    """Every figure that follows from these columns, by its name."""
    conditions = [name.removeprefix("kl_") for name in columns if name.startswith("kl_")]
    means = {name: partial(_mean, name) for name in columns if name.startswith(("ce_", "kl_"))}
    of_codes = {"l0": l0, "fvu": fvu} if "variance" in columns else {}
    if "bits" in columns:
        of_codes["bits"] = bits
    return {**of_codes, **means, **_figures(conditions)} if means else of_codes


def exists(name: str, sums: RowSums) -> bool:
    """Whether a figure has a meaning: a share of an effect only where the effect clearly raises the loss."""
    if (effect := EFFECTS.get(name)) is None:
        return True
    found = sums.estimate(figures_of(sums.columns)[effect])
    return is_harm(found.value, found.se)


def _estimates(sums: RowSums, figures: Mapping[str, OfTotals]) -> dict[str, float | None]:
    found = {name: sums.estimate(figure) for name, figure in figures.items()}
    for name, effect in EFFECTS.items():
        if name in found and not is_harm(found[effect].value, found[effect].se):
            found[name] = NO_ESTIMATE
    return named(found)


def named(found: Mapping[str, Estimate]) -> dict[str, float | None]:
    """Estimates as reports have them: `<name>`, `<name>_se`, `<name>_low` and `<name>_high`."""
    return {
        f"{name}{part}": value
        for name, each in found.items()
        for part, value in zip(("", "_se", "_low", "_high"), each, strict=True)
    }


def _figures(conditions: Sequence[str]) -> dict[str, OfTotals]:
    """Every figure that these conditions allow, but for the means."""
    found: dict[str, OfTotals] = {"bits_per_byte_clean": partial(_bits_per_byte, "ce_clean")}
    for path in _PATHS:
        names = {name: f"ce_{name}{path}" for name in ALL_PATHS if f"{name}{path}" in conditions}
        effects = {"sae": "ce_increase", "zero": "zero_ablation_effect", "mean": "mean_ablation_effect"}
        found |= {f"{effects[name]}{path}": partial(_increase, column) for name, column in names.items()}
        for name, recovered in (("zero", "loss_recovered"), ("mean", "loss_recovered_mean")):
            if "sae" in names and name in names:
                found[f"{recovered}{path}"] = partial(_recovered, names[name], names["sae"])
        if "sae" in names:
            found[f"bits_per_byte_sae{path}"] = partial(_bits_per_byte, names["sae"])
    return found


def _mean(column: str, s: Mapping[str, Tensor]) -> Tensor:
    return s[column] / s["tokens"]


def _increase(column: str, s: Mapping[str, Tensor]) -> Tensor:
    return (s[column] - s["ce_clean"]) / s["tokens"]


def _recovered(worst: str, column: str, s: Mapping[str, Tensor]) -> Tensor:
    return (s[worst] - s[column]) / (s[worst] - s["ce_clean"])


def _bits_per_byte(column: str, s: Mapping[str, Tensor]) -> Tensor:
    return s[column] / s["bytes"] / math.log(2)


def _over_positions(losses: Float[Tensor, "B S C"]) -> Float[Tensor, "B C"]:
    """Sums that do not depend on what else is summed beside them."""
    return losses.transpose(1, 2).contiguous().sum(dim=2)


def _losses(
    clean: LogitsAt, conditions: Sequence[LogitsAt], where: Int[Tensor, " N"], targets: Int[Tensor, " N"]
) -> tuple[Float[Tensor, " N"], Float[Tensor, "N K 2"]]:
    """Cross-entropy of the clean run, and cross-entropy and KL of each of K conditions, at some positions.

    Logits are counted from log Z of the clean run, so that p = exp(c). With their own log-partition functions z, which
    is 0 for the clean run but for rounding: CE = z_q - q[target], and KL = Σ p·c - z_c - Σ p·q + z_q.
    """
    c = clean(where)
    log_z = c.logsumexp(dim=-1, keepdim=True)
    target = targets.to(c.device)[:, None]
    c = c - log_z
    p = c.exp()
    z, negentropy = p.sum(dim=-1).log(), torch.linalg.vecdot(p, c)
    of_clean, found = z - c.gather(-1, target)[:, 0], []
    for logits in conditions:
        q = torch.sub(logits(where), log_z, out=c)
        at_target, expected = q.gather(-1, target)[:, 0], torch.linalg.vecdot(p, q)
        z_q = q.exp_().sum(dim=-1).log()
        if not bool((z_q.abs() < _EXACT).all()):
            z_q = (logits(where) - log_z).logsumexp(dim=-1)
        found.append(torch.stack([z_q - at_target, (negentropy - z) - (expected - z_q)], dim=1))
    of_conditions = torch.stack(found, dim=1) if found else of_clean.new_zeros(len(of_clean), 0, 2)
    return of_clean.double().cpu(), of_conditions.double().cpu()
