"""What a stream of activations carries for each token, and which of it a dictionary reads and is to write."""

from __future__ import annotations

from typing import NamedTuple

from sae_cli.tensor_types import Float, Tensor

_ALL = slice(None)


class Columns(NamedTuple):
    """The columns of [N, C] that are read and those that are to be written; of an autoencoder all of them are both.

    Shuffling, sharing and storing move whole rows, so that x and y of one token stay together.
    """

    read: slice = _ALL
    written: slice = _ALL

    @classmethod
    def side_by_side(cls, read: int) -> Columns:
        """The first so many columns are read, the others are written."""
        return cls(slice(read), slice(read, None))

    def pair(self, carried: Float[Tensor, "N C"]) -> tuple[Float[Tensor, "N D"], Float[Tensor, "N E"]]:
        """x and y of each token; y is x itself where the same columns are both."""
        x = carried[:, self.read]
        return x, x if self.written == self.read else carried[:, self.written]

    def widths(self, carried: int) -> tuple[int, int]:
        """How many numbers are read and written, of as many as are carried."""
        read, written = (len(range(carried)[columns]) for columns in self)
        return read, written


AUTOENCODER = Columns()
