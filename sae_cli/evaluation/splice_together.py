"""Splicing several dictionaries into their language model at once: each reads what the earlier ones leave."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch

from sae_cli.activations.non_finite import check_positions
from sae_cli.dictionaries.base import Dictionary
from sae_cli.evaluation.encode import measure
from sae_cli.evaluation.held_out import HeldOutRows
from sae_cli.metrics.encoded import Encoded
from sae_cli.metrics.language_loss import LossSums, Predictions
from sae_cli.metrics.reconstruction import ReconstructionSums
from sae_cli.models import LanguageModel, Outputs, Site, Target
from sae_cli.models.hooks import recorder
from sae_cli.models.targets import Seen
from sae_cli.tensor_types import Activations, Bool, Float, Int, SiteActivations, Tensor

StandIn = Callable[[Site, Float[Tensor, "N D"]], Float[Tensor, "N D"]]
"""From the activations that arrive at a site, at the counted positions, to what takes their place."""


class JointSplicer:
    """Runs rows of tokens clean and with stand-ins at all sites at once, and adds what comes out to the sums.

    Positions that are not counted keep the activations that arrive there in every condition: the first of each row
    cannot see any that was replaced. What a logit hook needs of the end of the model is that of the clean run.

    Attributes:
        alone: the reconstruction of the clean run's activations, for each site.
        together: that of the activations that arrive with the other dictionaries in place.
        losses: with x̂, 0 and x̄_train at all sites.
    """

    def __init__(self, model: LanguageModel, dictionaries: Mapping[Site, Dictionary]) -> None:
        self.model, self.dictionaries = model, dictionaries
        self.targets = {site: model.target(site) for site in dictionaries}
        self.alone, self.together = (
            {site: ReconstructionSums(origin=each.activation_mean) for site, each in dictionaries.items()}
            for _ in range(2)
        )
        self.losses = LossSums()

    @property
    def tokens(self) -> int:
        """Positions whose activations were read."""
        return next(iter(self.alone.values())).n

    @torch.no_grad()
    def add(self, rows: HeldOutRows) -> None:
        """Add rows of text."""
        tokens, counted = rows.tokens, rows.counted.to(self.model.device)
        seen: dict[Site, SiteActivations] = {}
        taps = {tap for target in self.targets.values() for tap in target.needed}
        clean = self.model.outputs(tokens, {tap: recorder(seen, tap) for tap in taps})
        for site, target in self.targets.items():
            x = target.read(seen).float()
            check_positions(x, tokens, counted, f"held-out activations of {site.label}")
            self._reconstructed(self.alone, site, x[counted])
        conditions = self._conditions(tokens, counted, seen)
        self.losses.add(Predictions(*rows.text, clean, conditions, rows.counted, rows.places, rows.domains))

    def _conditions(
        self, tokens: Int[Tensor, "B T"], counted: Bool[Tensor, "B T"], seen: Seen
    ) -> Iterator[tuple[str, Outputs]]:
        stand_ins: dict[str, StandIn] = {
            "sae": partial(self._reconstructed, self.together),
            "zero": lambda site, x: torch.zeros_like(x),
            "mean": lambda site, x: self.dictionaries[site].activation_mean.expand_as(x),
        }
        for name, stand_in in stand_ins.items():
            visitors = {
                place: partial(_replace, target, seen, counted, partial(stand_in, site))
                for site, target in self.targets.items()
                if (place := target.replaced)
            }
            yield name, self.model.outputs(tokens, visitors)

    def _reconstructed(
        self, sums: Mapping[Site, ReconstructionSums], site: Site, x: Float[Tensor, "N D"]
    ) -> Float[Tensor, "N D"]:
        measure([encoded := Encoded(self.dictionaries[site], x)], sums[site])
        return encoded.reconstruction

    def of_site(self, site: Site) -> dict[str, float | None]:
        """Figures of one dictionary as it reads the spliced model, and, named `<name>_alone`, the clean one."""
        found = {"": self.together[site].results(), "_alone": self.alone[site].results()}
        return {f"{name}{where}": figures[name] for where, figures in found.items() for name in _SHOWN}


_SHOWN = ("l0", "mse", "fvu")


def _replace(
    target: Target,
    seen: Seen,
    counted: Bool[Tensor, "B T"],
    stand_in: Callable[[Activations], Activations],
    there: Activations,
) -> Activations:
    """What takes the place of the activations [B, T, D] that arrive where the target is replaced."""
    assert target.replaced is not None
    arrived = {**seen, target.replaced: there}
    x = target.read(arrived).float()
    put = target.put(x.index_put((counted,), stand_in(x[counted])), arrived)
    return torch.where(counted[..., None], put.to(there.dtype), there)
