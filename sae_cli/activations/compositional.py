"""Activations of objects that are made of attributes: two dictionaries explain them, and the truth is the smaller."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from sae_cli.activations.truth import TruthActivations, tight_frame
from sae_cli.config.data import CompositionalData
from sae_cli.seeds import generator
from sae_cli.tensor_types import Bool, Float, Int, Tensor


@dataclass(frozen=True)
class CompositionalActivations(TruthActivations):
    """Each token is one of many objects; an object is one value of each attribute, and nothing else.

    Object i comes with a probability proportional to (i + 1)^-exponent. Every value of every attribute has a direction,
    and a token is the sum of its object's, each with a magnitude uniform in [.5, 1.5], plus noise. So `attributes`
    features fire on every token, while a dictionary with a feature for each of the commonest objects needs one: a
    penalty for sparsity favors it over the truth.

    Attributes: as the fields of `sae_cli.config.data.CompositionalData`.
    """

    d: int
    attributes: int
    values: int
    objects: int
    exponent: float
    noise: float
    seed: int

    @classmethod
    def of(cls, config: CompositionalData) -> CompositionalActivations:
        """Those that a configuration asks for."""
        return cls(
            d=config.d,
            attributes=config.attributes,
            values=config.values,
            objects=config.objects,
            exponent=config.frequency_exponent,
            noise=config.noise,
            seed=config.seed,
        )

    @property
    def n_features(self) -> int:
        return self.attributes * self.values

    @property
    def stream(self) -> str:
        return "compositional activations"

    def directions(self) -> Float[Tensor, "F D"]:
        """Of the values of the first attribute, then of the second, and so on."""
        return self._directions

    def features_of_objects(self) -> Int[Tensor, "O A"]:
        """The features that fire for each object."""
        chosen = torch.randint(self.values, (self.objects, self.attributes), generator=generator("objects", self.seed))
        return chosen + self.values * torch.arange(self.attributes)

    def popularity(self) -> Float[Tensor, " O"]:
        """The probability of each object, float64."""
        weights = torch.arange(1, self.objects + 1, dtype=torch.float64) ** -self.exponent
        return weights / weights.sum()

    def frequencies(self) -> Float[Tensor, " F"]:
        found = torch.zeros(self.n_features, dtype=torch.float64)
        return found.index_add(0, self._objects.flatten(), self.popularity().repeat_interleave(self.attributes))

    def coded(self, numbers: torch.Generator) -> tuple[Float[Tensor, "N D"], Bool[Tensor, "N F"]]:
        drawn = torch.multinomial(self._popularity, self.size, replacement=True, generator=numbers)
        features = self._objects[drawn]
        magnitude = 0.5 + torch.rand(self.size, self.attributes, generator=numbers)
        activations = torch.einsum("na,nad->nd", magnitude, self._directions[features])
        activations += self.noise * torch.randn(activations.shape, generator=numbers)
        return activations, torch.zeros(self.size, self.n_features, dtype=torch.bool).scatter_(1, features, True)

    @cached_property
    def _directions(self) -> Float[Tensor, "F D"]:
        return tight_frame(torch.randn(self.n_features, self.d, generator=generator("attributes", self.seed)))

    @cached_property
    def _objects(self) -> Int[Tensor, "O A"]:
        return self.features_of_objects()

    @cached_property
    def _popularity(self) -> Float[Tensor, " O"]:
        return self.popularity()
