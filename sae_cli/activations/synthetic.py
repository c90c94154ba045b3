"""Activations with a known ground truth, on which a dictionary can be marked right or wrong."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sae_cli.activations.truth import BLOCK, CodedBlock, Truth, block_of, random_unit_rows
from sae_cli.config.data import SyntheticData
from sae_cli.config.split import Split
from sae_cli.errors import RequestError
from sae_cli.kernels.codes import Codes
from sae_cli.seeds import generator
from sae_cli.tensor_types import Float, Tensor

MOST_FREQUENT = 0.5
"""No feature fires on a larger share of tokens."""

_GROUP = 8  # features that fire together when correlation > 0


@dataclass(frozen=True)
class SyntheticActivations(Truth):
    """Sparse non-negative sums of known unit directions, plus noise.

    Feature i fires on a token with probability proportional to (i + 1)^-frequency_exponent, at most 1/2,
    scaled so that `mean_active` fire on average, and then has a magnitude uniform in [0.5, 1.5]. Within groups
    of 8 the firing is correlated through a Gaussian copula, which leaves each frequency as it is.

    Attributes: as the fields of `sae_cli.config.data.SyntheticData`.
    """

    n_features: int
    mean_active: float
    frequency_exponent: float
    correlation: float
    noise: float

    @classmethod
    def of(cls, config: SyntheticData) -> SyntheticActivations:
        """Those that a configuration asks for.

        Raises:
            RequestError: more features at once than there can be, or domains.
        """
        if config.domains:
            raise RequestError(f"data.domains={config.domains}: data=synthetic has no documents; leave domains out")
        if config.mean_active >= (most := MOST_FREQUENT * config.n_features):
            raise RequestError(
                f"data.mean_active={config.mean_active:g}: expected below {most:g}, "
                f"half of data.n_features={config.n_features}"
            )
        return cls(
            d=config.d,
            n_features=config.n_features,
            mean_active=config.mean_active,
            frequency_exponent=config.frequency_exponent,
            correlation=config.correlation,
            noise=config.noise,
            seed=config.seed,
        )

    def directions(self) -> Float[Tensor, "F D"]:
        """The truth: unit rows [n_features, d]."""
        return random_unit_rows(self.n_features, self.d, self.seed)

    def frequencies(self) -> Float[Tensor, " F"]:
        """The probability that each feature fires on a token [n_features]."""
        weights = torch.arange(1, self.n_features + 1, dtype=torch.float64) ** -self.frequency_exponent
        capped = torch.zeros(self.n_features, dtype=torch.bool)
        while True:  # what the cap takes from the commonest goes to the others
            rest = (self.mean_active - MOST_FREQUENT * capped.sum()) / weights[~capped].sum()
            frequencies = torch.where(capped, MOST_FREQUENT, weights * rest)
            if not (over := frequencies > MOST_FREQUENT).any():
                return frequencies
            capped |= over

    def coded_block(self, split: Split, number: int) -> CodedBlock:
        numbers = generator("synthetic activations", self.seed, split.value, number)
        codes = self._codes(numbers)
        activations = codes @ self.directions()
        activations += self.noise * torch.randn(activations.shape, generator=numbers)
        return CodedBlock(block_of(activations, number), Codes.of_dense(codes))

    def _codes(self, generator: torch.Generator) -> Float[Tensor, "N F"]:
        """True feature activations [BLOCK, n_features]."""
        own = torch.randn(BLOCK, self.n_features, generator=generator)
        n_groups = -(-self.n_features // _GROUP)
        shared = torch.randn(BLOCK, n_groups, generator=generator).repeat_interleave(_GROUP, dim=1)
        latent = self.correlation**0.5 * shared[:, : self.n_features] + (1 - self.correlation) ** 0.5 * own
        threshold = torch.special.ndtri(1 - self.frequencies()).float()
        magnitude = 0.5 + torch.rand(BLOCK, self.n_features, generator=generator)
        return magnitude * (latent > threshold)
