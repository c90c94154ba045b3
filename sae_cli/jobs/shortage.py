"""What a finished job must not keep to itself: it had less than was asked for, or the same again."""

from __future__ import annotations

from sae_cli.errors import JobError
from sae_cli.terminal import console


def warn_if_dropped(dropped: int, n: int) -> None:
    """Of n activations some were left out because they were not finite.

    Raises:
        JobError: all of them.
    """
    if dropped == n:
        raise JobError(
            f"expected some finite activations, found none among {n:,}: with non_finite=drop nothing is left; look at "
            "the model's weights and model.dtype"
        )
    if dropped:
        console.warn(f"{dropped:,} of {n:,} activations were NaN or infinite and were left out (non_finite=drop)")


def warn_if_repeated(epochs: float) -> None:
    """The text ran out and was read again."""
    if epochs > 1:
        console.warn(f"the text was read {epochs:g} times: it is shorter than tokens=; give more text or lower tokens=")


def warn_if_short(key: str, wanted: int, found: int, what: str) -> None:
    """There were fewer activations than a setting asks for."""
    if found < wanted:
        console.warn(f"{key}={wanted:,}: {what} gives {found:,} activations; all figures are of these")
