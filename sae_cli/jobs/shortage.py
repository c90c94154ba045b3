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


def say_if_thinned(wanted: int, found: int, documents: int, per_document: int | None) -> None:
    """Held-out text that gives fewer positions than are asked for, because documents give no more than they may."""
    if per_document is None:
        warn_if_short("eval.tokens", wanted, found, "the held-out text")
    elif found < wanted:
        console.log(
            f"eval.tokens={wanted:,}: at most {per_document} rows (eval.rows_per_document) of each of {documents:,} "
            f"held-out documents give {found:,}"
        )


def warn_if_short(key: str, wanted: int, found: int, what: str) -> None:
    """There were fewer activations than a setting asks for."""
    if found < wanted:
        console.warn(f"{key}={wanted:,}: {what} gives {found:,} activations; all figures are of these")
