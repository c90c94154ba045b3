"""What a pass of a dictionary over activations sees."""

from __future__ import annotations

from functools import cached_property
from typing import Protocol, runtime_checkable

from sae_cli.tensor_types import Float, Int, Tensor


@runtime_checkable
class Coder(Protocol):
    """What metrics need of a dictionary."""

    def encode(self, x: Float[Tensor, "N D"], /) -> Float[Tensor, "N F"]: ...

    def decode(self, f: Float[Tensor, "N F"], x: Float[Tensor, "N D"], /) -> Float[Tensor, "N E"]: ...

    def decoder_norms(self) -> Float[Tensor, " F"]: ...


class Encoded:
    """N activations, their features and their reconstructions, each computed when it is first asked for.

    Args:
        dictionary: that reads them.
        x: what it reads, in raw units.
        target: what it is to write; x itself for an autoencoder.
        tokens: the token at each position, where there is a text.
    """

    def __init__(
        self,
        dictionary: Coder,
        x: Float[Tensor, "N D"],
        target: Float[Tensor, "N E"] | None = None,
        tokens: Int[Tensor, " N"] | None = None,
    ) -> None:
        self._dictionary = dictionary
        self.x = x
        self.target = x if target is None else target
        self.tokens = tokens

    @cached_property
    def f(self) -> Float[Tensor, "N F"]:
        """The features."""
        return self._dictionary.encode(self.x)

    @cached_property
    def reconstruction(self) -> Float[Tensor, "N E"]:
        """What the dictionary writes."""
        return self._dictionary.decode(self.f, self.x)

    @cached_property
    def decoder_norms(self) -> Float[Tensor, " F"]:
        """The length of each decoder row."""
        return self._dictionary.decoder_norms()
