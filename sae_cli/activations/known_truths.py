"""The activations with a known truth that a configuration asks for."""

from __future__ import annotations

from sae_cli.activations.compositional import CompositionalActivations
from sae_cli.activations.synthetic import SyntheticActivations
from sae_cli.activations.synthsaebench import BenchActivations
from sae_cli.activations.truth import Truth
from sae_cli.config.data import BenchData, CompositionalData, SyntheticData, TruthData


def truth_of(config: TruthData) -> Truth:
    """The truth of a source.

    Raises:
        RequestError: it cannot be made.
    """
    match config:
        case SyntheticData():
            return SyntheticActivations.of(config)
        case BenchData():
            return BenchActivations.of(config)
        case CompositionalData():
            return CompositionalActivations.of(config)
    raise AssertionError(type(config))
