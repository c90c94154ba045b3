"""`sae harvest`: run text through the model and write the activations at one hook point to disk."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from sae_cli import build
from sae_cli.activations.blocks import FIRST_POSITION
from sae_cli.activations.harvested import (
    ACTIVATIONS,
    ROWS,
    ShardPlan,
    ShardWriter,
    complete_shards,
    count_activations,
    writers,
)
from sae_cli.activations.live import LiveActivations, Pass, stream_key
from sae_cli.activations.text_read import check_same_text, warn_if_text_changed
from sae_cli.artifacts.run_directory import Run
from sae_cli.artifacts.stored_run import FinishedRun, UnfinishedRun
from sae_cli.config.commands.harvest import HarvestConfig
from sae_cli.config.data import TruthData
from sae_cli.errors import JobError, RequestError
from sae_cli.jobs.estimate import Estimate, expect_memory, require_disk
from sae_cli.jobs.once import Claim, once
from sae_cli.jobs.result import StageResult
from sae_cli.jobs.shortage import warn_if_dropped, warn_if_repeated
from sae_cli.jobs.side_by_side import Group, Job, Outcome, Step, Work, run_all, run_one
from sae_cli.runs.file_names import COORDINATES_FILE
from sae_cli.runs.stored_figures import shows_stored
from sae_cli.terminal import console

MOST_SHARDS = 20_000
"""As many as a manifest can list: more would pass the size to which JSON is read."""


def run(config: HarvestConfig, directory: Path) -> StageResult:
    """Write at least `config.tokens` activations, in whole rows."""
    return run_one(Claim(config, directory), HarvestGroup())


def run_together(requests: Sequence[tuple[HarvestConfig, Path]]) -> list[Outcome]:
    """Write several harvests; those of one model and text come from the same forward passes."""
    return run_all([Claim(*each) for each in requests], stream_key, HarvestGroup)


class HarvestGroup(Group[Claim[HarvestConfig]]):
    """Harvests that share model and text."""

    def __init__(self) -> None:
        self._live: LiveActivations | None = None

    def make(self, request: Claim[HarvestConfig]) -> Job | StageResult:
        made = once(request, self._begin, partial(warn_if_text_changed, data=request.config.data))
        return made if isinstance(made, Job) else _result(made)

    def _begin(self, claim: Claim[HarvestConfig]) -> Job:
        if isinstance(data := claim.config.data, TruthData):
            raise RequestError(f"{data.called} is made while it is read: train on it directly, without a harvest")
        if self._live is None:
            self._live = LiveActivations(claim.config, build.device(claim.config.device))
        return Harvest(claim, self._live)


class Harvest(Job):
    """The activations at one hook point: from the first row of text to the last shard."""

    title = "harvest"

    def __init__(self, claim: Claim[HarvestConfig], live: LiveActivations) -> None:
        self._claim, self.live = claim, live
        self.directory, self.config = claim.directory, (config := claim.config)
        self.site = live.watch(config)
        self.plan = ShardPlan.of(config.tokens, config.shard_tokens, live.stream.policy.context - FIRST_POSITION)
        if self.plan.shards > MOST_SHARDS:
            raise RequestError(
                f"shard_tokens={config.shard_tokens:,}: makes {self.plan.shards:,} shards of tokens={config.tokens:,}, "
                f"expected at most {MOST_SHARDS:,}; raise it"
            )
        self.width = live.model.width(self.site)

    @contextmanager
    def open(self) -> Iterator[Work]:
        """Claim the run and write the shards that it has not."""
        facts, needs = self.live.facts, self._estimate()
        require_disk(self.directory, needs.disk)
        expect_memory(needs.memory)
        attempt = self._claim.attempt()
        keep = _sound_shards(attempt, self.config.verify) if attempt else ()
        if attempt and keep:
            check_same_text(attempt, facts)
        with self._claim.open(self.live.parents, attempt, keep) as run:
            run.manifest.facts.update(facts)
            if coordinates := self.live.model.target(self.site).coordinates():
                run.write_tensors(COORDINATES_FILE, coordinates)
            first = complete_shards(run, self.plan)
            writer = ShardWriter(run, self.plan, getattr(torch, self.config.dtype.value), first, self.config.non_finite)
            there = writer.rows_added * self.plan.per_row
            if there:
                console.log(f"resuming after {there:,} activations that are there already")
            passes = self.live.passes(writer.rows_added // self.config.model_rows)
            with writer:
                yield Work(steps=self._write(writer, passes), tokens=self.plan.tokens - there, needs=needs)
            self.finished = self._finish(run, self.plan.tokens - there)

    def _write(self, writer: ShardWriter, passes: Iterator[Pass]) -> Iterator[Step]:
        """The loop: forward passes become shards."""
        self._started, self._forward_before = time.monotonic(), self.live.forward_seconds
        # Passes begin where an uninterrupted harvest begins them: the last bits of an activation can depend on
        # the rows that it is computed with.
        skip, per_row = writer.rows_added % self.config.model_rows, self.plan.per_row
        while not writer.full:
            each = next(passes)
            new = each.blocks[self.site].select(slice(skip * per_row, None))
            writer.add(each.rows.select(slice(skip, None)), new)
            skip = 0
            yield Step(tokens=new.n)

    def _finish(self, run: Run, made: int) -> FinishedRun:
        """Complete the run, for which this attempt has made so many activations."""
        seconds, forward = time.monotonic() - self._started, self.live.forward_seconds - self._forward_before
        left = count_activations(run)
        warn_if_dropped(self.plan.tokens - left, self.plan.tokens)
        warn_if_repeated(epochs := self.live.epochs(self.plan.tokens))
        return run.finish(
            **self.live.facts,
            seconds=seconds,
            tokens_per_second=made / seconds,
            forward_tokens_per_second=made / forward if forward else 0.0,
            tokens=left,
            dropped=self.plan.tokens - left,
            epochs=epochs,
            rows=self.plan.rows,
            width=self.width,
        )

    def _estimate(self) -> Estimate:
        width, item = self.width, getattr(torch, self.config.dtype.value).itemsize
        origin = 3 * torch.int64.itemsize
        at_once = 1 + min(writers(), self.plan.shards - 1)  # some are written, one collected
        shard = at_once * min(self.plan.rows, self.plan.rows_per_shard) * self.plan.per_row
        return Estimate(
            disk=self.plan.tokens * (width * item + origin),
            memory=shard * (width * (4 + item) + 2 * origin) + sum(p.nbytes for p in self.live.model.hf.parameters()),
            reading=self.live.seconds_a_pass * self.plan.rows / self.config.model_rows,
        )

    def result(self) -> StageResult:
        return _result(self.finished)


def _sound_shards(attempt: UnfinishedRun, verify: bool) -> list[str]:
    """The shards that an earlier attempt has written and that are still what was written."""
    sound = []
    for name in attempt.file_names(ACTIVATIONS) + attempt.file_names(ROWS):
        try:
            attempt.check_file(name, verify)
        except JobError as error:
            console.warn(f"{error}: it is made again")
        else:
            sound.append(name)
    return sound


@shows_stored
def _result(finished: FinishedRun) -> StageResult:
    facts = finished.manifest.facts
    shards = finished.file_names(ACTIVATIONS)
    return StageResult(
        directory=finished.directory,
        title="harvest",
        document={
            "run": str(finished.directory),
            "command": "harvest",
            "facts": facts,
            "figures": {"tokens": facts["tokens"], "tokens_per_second": facts["tokens_per_second"]},
        },
        table=[
            ("model", facts["model"]),
            ("activations", f"{facts['tokens']:,} of width {facts['width']}, {len(shards)} shards"),
            (
                "speed",
                f"{facts['tokens_per_second']:,.0f} tokens/s "
                f"(bare forward pass {facts['forward_tokens_per_second']:,.0f})",
            ),
            ("run", str(finished.directory)),
        ],
    )
