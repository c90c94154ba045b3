"""Which entries of a product can matter, found on a GPU by products in bfloat16 with a bound of each one's error."""

# Triton takes plain numbers for its compile-time constants, whatever their annotations say.
# pyright: reportArgumentType=false

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton

from sae_cli.kernels import triton_select as loops
from sae_cli.kernels.screening import BFLOAT16_ERROR
from sae_cli.tensor_types import Bool, Float, Int, Tensor

SCREEN = {"BLOCK_N": 64, "BLOCK_F": 128, "BLOCK_D": 64, "num_warps": 8}
"""Tiles of `screen`: the largest whose products stay in registers on NVIDIA's and whose products fit into the 64 KiB of
shared memory of AMD's MI200 and MI300."""
_NEIGHBOURS = 64  # features whose maximum is looked at
MAXIMA = {"BLOCK_N": 128, "BLOCK_F": _NEIGHBOURS, "BLOCK_D": 64, "num_warps": 4}
PLACES = {"CHUNK": 1024, "BLOCK_F": SCREEN["BLOCK_F"], "num_warps": 4}
ROW_LIMITS = {"BLOCK_N": 16, "BLOCK": 256, "num_warps": 4}
BINS = 2048  # of positive float32 numbers by their first 12 bits
BATCH_LIMIT = {"BINS": BINS, "BLOCK": 1024, "num_warps": 4}
HISTOGRAM = {"BLOCK": 1024, "num_warps": 4}


@dataclass
class Rounded:
    """A matrix in bfloat16 with the ‖·‖₄ of each row; for Triton's interpreter, which cannot multiply that, its values
    in float32.

    Attributes:
        source: the matrix that it is of.
        version: of the source, which torch counts up when it writes into it; what a kernel writes is not counted.
        matrix, norms: [R, d] and [R].
    """

    source: Float[Tensor, "R D"]
    version: int
    matrix: Tensor
    norms: Float[Tensor, " R"]

    @classmethod
    def of(cls, source: Float[Tensor, "R D"]) -> Rounded:
        matrix = source.bfloat16()
        norms = torch.linalg.vector_norm(source, ord=4, dim=1)
        return cls(source, source._version, matrix if source.is_cuda else matrix.float(), norms)

    def is_of(self, source: Float[Tensor, "*_"]) -> bool:
        """Whether this is that matrix as it is now."""
        return self.source is source and self.version == source._version


class Screen:
    """Looks at a batch and marks entries (see `triton_select`).

    Args:
        x: what is read.
        W: the encoder's rows, rounded.
        b: the encoder's bias.
        among: which features are looked at; None for all.
    """

    def __init__(
        self, x: Float[Tensor, "N D"], W: Rounded, b: Float[Tensor, " F"], among: Bool[Tensor, " F"] | None = None
    ) -> None:
        of_x = Rounded.of(x.contiguous())
        self._inputs = (of_x.matrix, W.matrix, b.contiguous(), of_x.norms * BFLOAT16_ERROR, W.norms)
        self._n, self._features, self._width = len(x), len(b), x.shape[1]
        self._device = x.device
        # How many rows and features are listed, and the features: none of it known to the host.
        self._numbers, self._all = self._integers(2).fill_(self._n), self._integers(1)
        self._rows, self._among = self._all, self._all
        self._listed = {"ROWS": False, "FEATURES": among is not None}
        if among is not None:
            self._among = _first_marked(among)
            self._numbers[1:] = among.sum()
        self._tiles = triton.cdiv(self._features, SCREEN["BLOCK_F"])
        self._words = self._integers(self._n * self._tiles * SCREEN["BLOCK_F"] // 32)
        self._counts, self._sure = self._integers(self._n * self._tiles), self._integers(self._n * self._tiles)

    def _integers(self, n: int) -> Int[Tensor, " N"]:
        return torch.zeros(n, dtype=torch.int32, device=self._device)

    def mark(self, limits: Float[Tensor, " N"], sure: bool = False) -> None:
        """Mark the entries that may reach the limits: of the listed rows, if there are any, else of all."""
        grid = triton.cdiv(self._n, SCREEN["BLOCK_N"]), self._tiles
        loops.screen[grid](
            *self._inputs, limits, self._rows, self._among, self._numbers, self._words, self._counts, self._sure,
            self._n, self._features, D=self._width, SURE=sure, **self._listed, **SCREEN,
        )  # fmt: skip

    def sure(self) -> Int[Tensor, " N"]:
        """How many entries of each row are no smaller than its limit for sure."""
        return self._sure.view(self._n, self._tiles).sum(dim=1)

    def list_rows(self, wanted: Bool[Tensor, " N"]) -> None:
        """Look at these rows only from now on."""
        self._rows = _first_marked(wanted)
        self._numbers[:1] = wanted.sum()
        self._listed["ROWS"] = True

    def _maxima(self) -> Float[Tensor, "N _"]:
        """A lower bound of the largest of every few neighbors of the listed rows."""
        grid = triton.cdiv(self._n, MAXIMA["BLOCK_N"]), triton.cdiv(self._features, _NEIGHBOURS)
        maxima = torch.empty(self._n, grid[1], device=self._device)
        loops.block_maxima[grid](
            *self._inputs, self._rows, self._among, self._numbers, maxima, self._n, self._features, D=self._width,
            **self._listed, **MAXIMA,
        )  # fmt: skip
        return maxima

    def lower_rows(self, limits: Float[Tensor, " N"], k: int) -> None:
        """Set the listed rows' limits to what at least k of each row's entries reach: k maxima are k entries."""
        maxima = self._maxima()
        programs = triton.cdiv(self._n, ROW_LIMITS["BLOCK_N"])
        loops.row_limits[programs,](maxima, self._rows, self._numbers, limits, k, maxima.shape[1], **ROW_LIMITS)

    def lower_all(self, limits: Float[Tensor, " N"], wanted: int) -> None:
        """If the rows are listed, set all limits to one that as many entries of the batch reach."""
        maxima, histogram = self._maxima().view(-1), self._integers(BINS)
        programs = triton.cdiv(len(maxima), HISTOGRAM["BLOCK"])
        loops.add_to_histogram[programs,](maxima, self._numbers, histogram, len(maxima), **HISTOGRAM)
        programs = triton.cdiv(self._n, BATCH_LIMIT["BLOCK"])
        loops.batch_limit[programs,](histogram, self._numbers, limits, wanted, self._n, **BATCH_LIMIT)

    def number(self) -> Int[Tensor, " O"]:
        """Where the entries of each tile begin, and after all their number."""
        return torch.nn.functional.pad(self._counts.cumsum(0), (1, 0))

    def places(
        self, offsets: Int[Tensor, " O"], room: int
    ) -> tuple[Int[Tensor, " N1"], Int[Tensor, " E"], Int[Tensor, " E"]]:
        """Where the marked entries of each row begin, and rows and columns of as many as there is room for."""
        rows, columns = self._integers(room), self._integers(room)
        grid = self._n, triton.cdiv(self._features, PLACES["CHUNK"])
        words = self._tiles * SCREEN["BLOCK_F"] // 32
        loops.places[grid](
            self._words, offsets, self._among, rows, columns, room, self._features, TILES=self._tiles, WORDS=words,
            FEATURES=self._listed["FEATURES"], **PLACES,
        )  # fmt: skip
        return offsets[:: self._tiles].clamp_max(room), rows, columns


def _first_marked(marked: Bool[Tensor, " N"]) -> Int[Tensor, " N"]:
    """The numbers of what is marked, ascending, and then the others."""
    return (~marked).to(torch.uint8).argsort(stable=True).int()
