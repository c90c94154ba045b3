"""Activations on disk: the shards of a harvest run.

Shard i of a run is two files: `activations-…` with `activations` [n, d], `tokens`, `position` and
`document` [n] of the masked positions, and `rows-…` with the token rows [r, T] they come from. Where activations
that are not finite were left out, n is smaller than the rows would give.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields, replace
from typing import NamedTuple

import numpy as np
import torch

from sae_cli.activations.blocks import FIRST_POSITION, ActivationBlock
from sae_cli.activations.non_finite import LEAVE_OUT, is_finite, refusal
from sae_cli.activations.shards import check_shards
from sae_cli.artifacts.files import damaged
from sae_cli.artifacts.run_directory import Run
from sae_cli.artifacts.stored_run import FinishedRun
from sae_cli.artifacts.tensors import map_tensor, write_tensors
from sae_cli.config.data import NonFinite
from sae_cli.errors import JobError
from sae_cli.kernels import loops
from sae_cli.tensor_types import Float, Int, Tensor
from sae_cli.text.packing import TokenRows

ACTIVATIONS, ROWS = "activations", "rows"

_FEW = 100
"""Shards until which the manifest takes no time to speak of."""
_MOST_WRITERS = 4
_SELDOM = 20
"""How many times as long as writing it takes passes before it is written again."""


def writers() -> int:
    """Shards that are written at once: one for two cores, up to four."""
    return max(1, min(_MOST_WRITERS, (os.cpu_count() or 1) // 2))


class ShardPlan(NamedTuple):
    """How a harvest is cut into files.

    Attributes:
        rows: rows of tokens in all.
        rows_per_shard: rows in every shard but the last.
        per_row: activations that a row gives.
    """

    rows: int
    rows_per_shard: int
    per_row: int

    @classmethod
    def of(cls, tokens: int, shard_tokens: int, per_row: int) -> ShardPlan:
        """Whole rows for at least `tokens` activations, in shards of about `shard_tokens`."""
        return cls(-(-tokens // per_row), max(1, shard_tokens // per_row), per_row)

    @property
    def shards(self) -> int:
        return -(-self.rows // self.rows_per_shard)

    @property
    def tokens(self) -> int:
        return self.rows * self.per_row

    def file_names(self, shard: int) -> tuple[str, str]:
        """The names of a shard's two files."""
        suffix = f"{shard:05d}-of-{self.shards:05d}.safetensors"
        return f"{ACTIVATIONS}-{suffix}", f"{ROWS}-{suffix}"


class ShardWriter:
    """Collects rows and their activations and writes a shard whenever one is full.

    Shards are written in as many threads as `writers` says while the next one is collected, and noted in their order;
    leaving the context waits for the last. The manifest, which lists all of them, is written again after each while
    they are few, and then so seldom that it takes a twentieth of the time at most.

    Args:
        run: that is being written.
        plan: how it is cut.
        dtype: number format of the activations.
        first_shard: the first that is not there yet.
        non_finite: what is done with activations that are not finite in that format; a `JobError` with `raise`.
    """

    def __init__(
        self,
        run: Run,
        plan: ShardPlan,
        dtype: torch.dtype,
        first_shard: int = 0,
        non_finite: NonFinite = NonFinite["raise"],
    ) -> None:
        self.run, self.plan, self.dtype, self.non_finite = run, plan, dtype, non_finite
        self.rows_added = first_shard * plan.rows_per_shard
        self._shard = first_shard
        self._rows: list[TokenRows] = []
        self._blocks: list[ActivationBlock] = []
        self._at_once = writers()
        self._threads = ThreadPoolExecutor(self._at_once)
        self._writing: deque[Future[None]] = deque()
        self._unsaved, self._save_from = False, 0.0

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._threads.shutdown()
        if kind is None:
            self._wait(0)
        if self._unsaved:
            self.run.save_progress()

    def add(self, rows: TokenRows, block: ActivationBlock) -> None:
        """Add some rows with the activations of all of them; rows past the plan's end are left out."""
        done = 0
        while done < len(rows.tokens) and not self.full:
            part = slice(done, done + self._room())
            self._rows.append(rows.select(part))
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
        return min((self._shard + 1) * self.plan.rows_per_shard, self.plan.rows) - self.rows_added

    def _finish_shard(self) -> None:
        self._wait(self._at_once - 1)
        before = self._writing[-1] if self._writing else None
        self._writing.append(self._threads.submit(self._write, self._shard, self._rows, self._blocks, before))
        self._shard += 1
        self._rows, self._blocks = [], []

    def _wait(self, for_all_but: int) -> None:
        """Until no more shards than these are being written."""
        while len(self._writing) > for_all_but:
            self._writing.popleft().result()

    def _write(
        self, shard: int, rows: list[TokenRows], blocks: list[ActivationBlock], before: Future[None] | None
    ) -> None:
        """Write a shard, and note it once the one before it is."""
        activations_name, rows_name = self.plan.file_names(shard)
        block = self._finite(ActivationBlock.join(blocks), activations_name)
        tokens = torch.cat([torch.from_numpy(each.tokens) for each in rows])
        document = torch.cat([torch.from_numpy(each.document) for each in rows])
        folder, files = self.run.directory, {}
        files[rows_name] = write_tensors(folder / rows_name, {"tokens": tokens, "document": document})
        files[activations_name] = write_tensors(folder / activations_name, vars(block))
        if before:
            before.result()
        for name, record in files.items():
            self.run.note_file(name, record)
        self._unsaved = True
        if shard < _FEW or time.monotonic() >= self._save_from:
            started = time.monotonic()
            self.run.save_progress()
            self._unsaved, self._save_from = False, started + _SELDOM * (time.monotonic() - started)

    def _finite(self, block: ActivationBlock, name: str) -> ActivationBlock:
        """The block in the shard's format, without what is not finite there."""
        stored = replace(block, activations=block.activations.to(self.dtype))
        if is_finite(stored.activations):
            return stored
        if self.non_finite is NonFinite.drop:
            return stored.select(stored.activations.isfinite().all(dim=1))
        overflow = is_finite(block.activations)
        raise refusal(str(self.run.directory / name), stored, _overflow(self.dtype) if overflow else LEAVE_OUT, "row")


class HarvestedActivations:
    """Random access to the activations of a harvest run, which stay on disk.

    Hashes are not compared: call `FinishedRun.check_files` first.

    Args:
        run: the harvest.
        non_finite: with `raise`, what is fetched must be finite.
    """

    def __init__(self, run: FinishedRun, non_finite: NonFinite = NonFinite.drop) -> None:
        self._run, self._names, self._non_finite = run, run.file_names(ACTIVATIONS), non_finite
        check_shards(run, self._names)
        self._shards = [run.map_tensor(name, "activations") for name in self._names]
        self._ends = np.cumsum([len(shard) for shard in self._shards])

    def fetch(self, numbers: Int[Tensor, " N"]) -> Float[Tensor, "N D"]:
        """The activations with these numbers, counted in the order in which they were made, in float32.

        Raises:
            JobError: some are not finite, and must be.
        """
        out = self._fetch(numbers)
        if self._non_finite is NonFinite["raise"] and not is_finite(out):
            raise self._refusal(numbers[~out.isfinite().all(dim=1)])
        return out

    def _refusal(self, broken: Int[Tensor, " K"]) -> JobError:
        """The line that names the shard that the first of these numbers is in, and all of its broken rows."""
        shard = int(np.searchsorted(self._ends, int(broken.min()), side="right"))
        tensors = self._run.read_tensors(self._names[shard], verify=False)
        return refusal(str(self._run.directory / self._names[shard]), ActivationBlock(**tensors), LEAVE_OUT, "row")

    def _fetch(self, numbers: Int[Tensor, " N"]) -> Float[Tensor, "N D"]:
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


def harvested_rows(run: FinishedRun, rows: int) -> Iterator[tuple[TokenRows, ActivationBlock]]:
    """The rows of text of a harvest from which nothing was left out, `rows` at a time, with their activations.

    Hashes are not compared again: call `FinishedRun.check_files` first.

    Raises:
        JobError: the shards are not what a harvest writes.
    """
    check_shards(run, run.file_names(ACTIVATIONS))
    for name, rows_name in zip(run.file_names(ACTIVATIONS), run.file_names(ROWS), strict=True):
        sizes = run.expect(rows_name, {"tokens": "I64 R T", "document": "I64 R T"})
        text = {key: each.numpy() for key, each in run.read_tensors(rows_name, verify=False).items()}
        block = ActivationBlock(**{field.name: run.map_tensor(name, field.name) for field in fields(ActivationBlock)})
        per_row, left_over = divmod(block.n, sizes["R"])
        if left_over or per_row != sizes["T"] - FIRST_POSITION:
            raise damaged(run.directory / name, f"the activations of {sizes['R']} rows of text", f"{block.n:,}")
        for i in range(0, sizes["R"], rows):
            part = TokenRows(text["tokens"][i : i + rows], text["document"][i : i + rows])
            yield part, block.select(slice(i * per_row, (i + rows) * per_row))


def complete_shards(run: Run, plan: ShardPlan) -> int:
    """How many shards an earlier attempt has finished, counted from the first."""
    shard = 0
    while shard < plan.shards and all(name in run.manifest.files for name in plan.file_names(shard)):
        shard += 1
    return shard


def count_activations(run: Run) -> int:
    """How many activations the shards written so far hold."""
    names = [name for name in run.manifest.files if name.startswith(ACTIVATIONS)]
    return sum(len(map_tensor(run.directory / name, "position")) for name in names)


def _overflow(dtype: torch.dtype) -> str:
    name, most = str(dtype).removeprefix("torch."), torch.finfo(dtype).max
    return (
        f"they were finite before they became {name}, which ends at {most:g}: harvest with dtype=bfloat16 or float32, "
        "or leave them out with non_finite=drop"
    )
