"""Activations on disk: the shards of a harvest run.

Shard i of a run is two files: `activations-…` with `activations` [n, d], `tokens`, `position` and
`document` [n] of the masked positions, and `rows-…` with the token rows [r, T] they come from.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch

from sae_cli.artifacts.run_directory import FinishedRun, Run
from sae_cli.data.activations import ActivationBlock
from sae_cli.data.packing import TokenRows
from sae_cli.data.shards import check_shards
from sae_cli.kernels import loops
from sae_cli.tensor_types import Float, Int, Tensor

ACTIVATIONS, ROWS = "activations", "rows"


class ShardPlan(NamedTuple):
    """How a harvest is cut into files.

    Attributes:
        rows: rows of tokens in all.
        rows_a_shard: rows in every shard but the last.
        per_row: activations that a row gives.
    """

    rows: int
    rows_a_shard: int
    per_row: int

    @classmethod
    def of(cls, tokens: int, shard_tokens: int, per_row: int) -> ShardPlan:
        """Whole rows for at least `tokens` activations, in shards of about `shard_tokens`."""
        return cls(-(-tokens // per_row), max(1, shard_tokens // per_row), per_row)

    @property
    def shards(self) -> int:
        return -(-self.rows // self.rows_a_shard)

    @property
    def tokens(self) -> int:
        return self.rows * self.per_row

    def file_names(self, shard: int) -> tuple[str, str]:
        """The names of a shard's two files."""
        suffix = f"{shard:05d}-of-{self.shards:05d}.safetensors"
        return f"{ACTIVATIONS}-{suffix}", f"{ROWS}-{suffix}"


class ShardWriter:
    """Collects rows and their activations and writes a shard whenever one is full.

    A shard is written in a thread while the next one is collected; leaving the context waits for the last.
    """

    def __init__(self, run: Run, plan: ShardPlan, dtype: torch.dtype, first_shard: int = 0) -> None:
        self.run, self.plan, self.dtype = run, plan, dtype
        self.rows_added = first_shard * plan.rows_a_shard
        self._shard = first_shard
        self._rows: list[TokenRows] = []
        self._blocks: list[ActivationBlock] = []
        self._thread = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._thread.shutdown()
        if kind is None:
            self._wait()

    def add(self, rows: TokenRows, block: ActivationBlock) -> None:
        """Add some rows with the activations of all of them; rows past the plan's end are left out."""
        done = 0
        while done < len(rows.tokens) and not self.full:
            part = slice(done, done + self._room())
            self._rows.append(TokenRows(rows.tokens[part], rows.document[part]))
            self._blocks.append(block.select(slice(part.start * self.plan.per_row, part.stop * self.plan.per_row)))
            done += len(self._rows[-1].tokens)
            self.rows_added += len(self._rows[-1].tokens)
            if not self._room():
                self._finish_shard()

    @property
    def full(self) -> bool:
        return self._shard == self.plan.shards

    def _room(self) -> int:
        """Rows that still fit into the current shard."""
        return min((self._shard + 1) * self.plan.rows_a_shard, self.plan.rows) - self.rows_added

    def _finish_shard(self) -> None:
        self._wait()
        self._writing = self._thread.submit(self._write, self._shard, self._rows, self._blocks)
        self._shard += 1
        self._rows, self._blocks = [], []

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()

    def _write(self, shard: int, rows: list[TokenRows], blocks: list[ActivationBlock]) -> None:
        block = ActivationBlock.join(blocks)
        tokens = torch.cat([torch.from_numpy(each.tokens) for each in rows])
        document = torch.cat([torch.from_numpy(each.document) for each in rows])
        activations_name, rows_name = self.plan.file_names(shard)
        self.run.write_tensors(rows_name, {"tokens": tokens, "document": document})
        self.run.write_tensors(activations_name, vars(block) | {"activations": block.activations.to(self.dtype)})
        self.run.save_progress()


class HarvestedActivations:
    """Random access to the activations of a harvest run, which stay on disk.

    Hashes are not compared: call `FinishedRun.check_files` first.
    """

    def __init__(self, run: FinishedRun) -> None:
        check_shards(run, run.file_names(ACTIVATIONS))
        self._shards = [run.map_tensor(name, "activations") for name in run.file_names(ACTIVATIONS)]
        self._ends = np.cumsum([len(shard) for shard in self._shards])

    def fetch(self, numbers: Int[Tensor, " N"]) -> Float[Tensor, "N D"]:
        """The activations with these numbers, counted in the order in which they were made, in float32."""
        wanted, out = numbers.numpy(), torch.empty(len(numbers), self._shards[0].shape[1])
        shard_of = np.searchsorted(self._ends, wanted, side="right")
        for number in np.flatnonzero(np.bincount(shard_of)):
            shard, (places,) = self._shards[number], (shard_of == number).nonzero()
            rows = wanted[places] - (self._ends[number] - len(shard))
            if shard.dtype is torch.float32:
                loops.copy_rows(shard.numpy(), rows, places, out.numpy())
            else:
                out[torch.from_numpy(places)] = shard[torch.from_numpy(rows)].float()
        return out


def harvested_blocks(run: FinishedRun) -> Iterator[ActivationBlock]:
    """The activations of a harvest run in the order they were made, in float32, one block a shard.

    Hashes are not compared again: call `FinishedRun.check_files` first.
    """
    check_shards(run, run.file_names(ACTIVATIONS))
    for name in run.file_names(ACTIVATIONS):
        tensors = run.read_tensors(name, verify=False)
        yield ActivationBlock(**tensors | {"activations": _as_float32(tensors["activations"])})


def complete_shards(run: Run, plan: ShardPlan) -> int:
    """How many shards an earlier attempt has finished, counted from the first."""
    shard = 0
    while shard < plan.shards and all(name in run.manifest.files for name in plan.file_names(shard)):
        shard += 1
    return shard


def _as_float32(tensor: Tensor) -> Tensor:
    return tensor.to(torch.float32)
