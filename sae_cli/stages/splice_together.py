"""Splicing several dictionaries into their language model at once: each reads what the earlier ones leave."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sae_cli.data.activations import FIRST_POSITION
from sae_cli.data.token_bytes import token_byte_lengths
from sae_cli.dictionaries.base import Dictionary
from sae_cli.metrics.language_loss import LossSums
from sae_cli.metrics.reconstruction import ReconstructionSums
from sae_cli.models import LanguageModel, Site

StandIn = Callable[[Site, Tensor], Tensor]
"""From the activations [N, D] that arrive at a site to what takes their place."""


class JointSplicer:
    """Runs rows of tokens clean and with stand-ins at all sites at once, and adds what comes out to the sums.

    Positions outside the mask keep their own activations in every condition: the first of each row cannot see any
    that was replaced.

    Attributes:
        alone: the reconstruction of the clean run's activations, for each site.
        together: that of the activations that arrive with the other dictionaries in place.
        losses: with x̂, 0 and x̄_train at all sites.
    """

    def __init__(self, model: LanguageModel, dictionaries: Mapping[Site, Dictionary]) -> None:
        self.model, self.dictionaries = model, dictionaries
        self.token_bytes = token_byte_lengths(model.tokenizer, model.vocab_size)
        self.alone, self.together = (
            {site: ReconstructionSums(origin=each.activation_mean) for site, each in dictionaries.items()}
            for _ in range(2)
        )
        self.losses = LossSums()

    @torch.no_grad()
    def add(self, tokens: Tensor, domains: Tensor) -> None:
        """Add rows of tokens [B, T], each with the number of its domain [B, T]."""
        clean = self._logits(tokens, partial(self._watched, self.alone))
        self.losses.add(tokens, self.token_bytes, clean.cpu(), self._conditions(tokens), FIRST_POSITION, domains)

    def _conditions(self, tokens: Tensor) -> Iterator[tuple[str, Tensor]]:
        stand_ins: dict[str, StandIn] = {
            "sae": partial(self._reconstructed, self.together),
            "zero": lambda site, x: torch.zeros_like(x),
            "mean": lambda site, x: self.dictionaries[site].activation_mean.expand_as(x),
        }
        for name, stand_in in stand_ins.items():
            yield name, self._logits(tokens, stand_in).cpu()

    def _logits(self, tokens: Tensor, stand_in: StandIn) -> Tensor:
        return self.model.logits(tokens, {site: partial(_replace, stand_in, site) for site in self.dictionaries})

    def _watched(self, sums: Mapping[Site, ReconstructionSums], site: Site, x: Tensor) -> Tensor:
        self._reconstructed(sums, site, x)
        return x

    def _reconstructed(self, sums: Mapping[Site, ReconstructionSums], site: Site, x: Tensor) -> Tensor:
        dictionary = self.dictionaries[site]
        f = dictionary.encode(x)
        reconstructed = dictionary.decode(f)
        sums[site].add(x, reconstructed, f, dictionary.decoder_norms())
        return reconstructed

    def of_site(self, site: Site) -> dict[str, Any]:
        """Figures of one dictionary as it reads the spliced model, and, named `<name>_alone`, the clean one."""
        found = {"": self.together[site].results(), "_alone": self.alone[site].results()}
        return {f"{name}{where}": figures[name] for where, figures in found.items() for name in _SHOWN}


_SHOWN = ("l0", "mse", "fvu")


def _replace(stand_in: StandIn, site: Site, x: Tensor) -> Tensor:
    """What takes the place of the activations [B, T, D]."""
    masked = x[:, FIRST_POSITION:].float()
    values = stand_in(site, masked.flatten(0, 1)).view_as(masked)
    return torch.cat([x[:, :FIRST_POSITION], values.to(x.dtype)], dim=1)
