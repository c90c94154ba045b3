"""Objects that are made of attributes: an atom for each object, and a part for each attribute, both explain them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sae_cli.activations.truth import BLOCK, CodedBlock, Truth, block_of, random_unit_rows
from sae_cli.config.data import CompositionalData
from sae_cli.config.split import Split
from sae_cli.kernels.codes import Codes
from sae_cli.seeds import generator
from sae_cli.tensor_types import Float, Int, Tensor


@dataclass(frozen=True)
class CompositionalActivations(Truth):
    """Each token shows one of `n_objects` objects, at one strength s, uniform in [0.5, 1.5].

    An object has one of `values` attributes in each of `slots` places (a color, a shape, …), no two objects the same,
    and its activation is s times the sum of the directions of its attributes, plus noise. Object i is shown in
    proportion to (i + 1)^-frequency_exponent. The truth are the attributes; attribute `slot · values + value` is
    feature of that number. A dictionary with a feature for each object explains the same activations with an L0 of 1.

    Attributes: as the fields of `sae_cli.config.data.CompositionalData`.
    """

    n_objects: int
    slots: int
    values: int
    frequency_exponent: float
    noise: float

    @classmethod
    def of(cls, config: CompositionalData) -> CompositionalActivations:
        """Those that a configuration asks for."""
        return cls(
            d=config.d,
            seed=config.seed,
            n_objects=config.n_objects,
            slots=config.slots,
            values=config.values,
            frequency_exponent=config.frequency_exponent,
            noise=config.noise,
        )

    def directions(self) -> Float[Tensor, "A D"]:
        return random_unit_rows(self.slots * self.values, self.d, self.seed)

    def objects(self) -> Int[Tensor, "O S"]:
        """The attributes of each object, in the order of slots [n_objects, slots]."""
        numbers = generator("true objects", self.seed)
        combination = torch.randperm(self.values**self.slots, generator=numbers)[: self.n_objects]
        return torch.stack(
            [slot * self.values + combination // self.values**slot % self.values for slot in range(self.slots)], dim=1
        )

    def object_frequencies(self) -> Float[Tensor, " O"]:
        """The share of tokens that shows each object, float64 [n_objects]."""
        weights = torch.arange(1, self.n_objects + 1, dtype=torch.float64) ** -self.frequency_exponent
        return weights / weights.sum()

    def frequencies(self) -> Float[Tensor, " A"]:
        """The sum over the objects that have an attribute."""
        shares = self.object_frequencies()[:, None].expand(-1, self.slots)
        return torch.zeros(self.slots * self.values).double().index_add(0, self.objects().flatten(), shares.flatten())

    def coded_block(self, split: Split, number: int) -> CodedBlock:
        numbers = generator("compositional activations", self.seed, split.value, number)
        shown = torch.multinomial(self.object_frequencies(), BLOCK, replacement=True, generator=numbers)
        strength = 0.5 + torch.rand(BLOCK, generator=numbers)
        columns = self.objects()[shown].flatten()
        starts = torch.arange(0, BLOCK * self.slots + 1, self.slots)
        codes = Codes(starts, columns, strength.repeat_interleave(self.slots), self.slots * self.values)
        activations = codes.to_dense(codes.values) @ self.directions()
        activations += self.noise * torch.randn(activations.shape, generator=numbers)
        return CodedBlock(block_of(activations, number), codes)
