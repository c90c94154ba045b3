"""From the settings of a known truth to its activations."""

from __future__ import annotations

from sae_cli.activations.compositional import CompositionalActivations
from sae_cli.activations.hierarchy import HierarchyActivations
from sae_cli.activations.synthetic import SyntheticActivations
from sae_cli.activations.truth import TruthActivations
from sae_cli.config.data import CompositionalData, HierarchyData, SyntheticData, TruthData
from sae_cli.errors import RequestError


def known_truth(config: TruthData) -> TruthActivations:
    """The activations that a configuration asks for.

    Raises:
        RequestError: settings that contradict each other, or domains.
    """
    if config.domains:
        raise RequestError(f"data.domains={config.domains}: data=synthetic has no documents; leave domains out")
    match config:
        case HierarchyData():
            return HierarchyActivations.of(config)
        case CompositionalData():
            return CompositionalActivations.of(config)
        case SyntheticData():
            return SyntheticActivations.of(config)
        case _:
            raise TypeError(f"{type(config).__name__} is no known truth")
