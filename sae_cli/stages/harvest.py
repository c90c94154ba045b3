"""`sae harvest`: run text through the model and write the activations at one hook point to disk."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch

from sae_cli import console
from sae_cli.artifacts.run_directory import FinishedRun, Run, finished_run, open_run
from sae_cli.config.commands import HarvestConfig
from sae_cli.config.data import SyntheticData
from sae_cli.config.names import result_settings
from sae_cli.config.split import Split
from sae_cli.config.stored import CONFIG_FILE, as_yaml
from sae_cli.data.activations import FIRST_POSITION, live_blocks
from sae_cli.data.harvested import ACTIVATIONS, ROWS, ShardPlan, ShardWriter, complete_shards
from sae_cli.data.packing import TokenRows
from sae_cli.data.rows import RowStream
from sae_cli.errors import RequestError
from sae_cli.models import LanguageModel, Site, model_identity
from sae_cli.stages import build
from sae_cli.stages.activation_source import capture_at, describe_rows
from sae_cli.stages.estimate import announce, require_disk
from sae_cli.stages.result import StageResult


def run(config: HarvestConfig, directory: Path) -> StageResult:
    """Write at least `config.tokens` activations, in whole rows."""
    settings = result_settings(config)
    if finished := finished_run(directory, settings, config.overwrite):
        console.log(f"found finished: {directory}")
        return _result(finished)
    if isinstance(config.data, SyntheticData):
        raise RequestError("data=synthetic is made while it is read: train on it directly, without a harvest")

    model = build.language_model(config.model, build.device(config.device))
    site = build.site(config.hook, config.layer, model)
    stream = build.row_stream(config.data, model, Split.train)
    facts = {"model": model_identity(config.model.path, config.model.revision), **describe_rows(stream, model)}
    plan = ShardPlan.of(config.tokens, config.shard_tokens, stream.policy.context - FIRST_POSITION)
    _estimate(config, directory, model, site, stream, plan)

    with open_run(directory, "harvest", settings, keep=lambda name: name.startswith((ACTIVATIONS, ROWS))) as claimed:
        claimed.write_text(CONFIG_FILE, as_yaml(config))
        timing = _write_shards(claimed, config, model, site, stream, plan)
        finished = claimed.finish(**facts, **timing, tokens=plan.tokens, rows=plan.rows, width=model.width(site))
    return _result(finished)


def _write_shards(
    claimed: Run, config: HarvestConfig, model: LanguageModel, site: Site, stream: RowStream, plan: ShardPlan
) -> dict[str, float]:
    writer = ShardWriter(claimed, plan, getattr(torch, config.dtype.value), complete_shards(claimed, plan))
    if writer.rows_written:
        console.log(f"going on after {writer.rows_written * plan.per_row:,} activations that are there already")
    capture, started, forward_seconds = capture_at(model, site), time.monotonic(), 0.0

    def timed_capture(rows: torch.Tensor) -> torch.Tensor:
        nonlocal forward_seconds
        before = time.monotonic()
        activations = capture(rows)
        forward_seconds += time.monotonic() - before
        return activations

    first_row = writer.rows_written
    with console.progress(plan.tokens - first_row * plan.per_row, "harvest") as advance:
        for skip, rows in _rows_from(stream, config.model_rows, first_row):
            if writer.full:
                break
            (block,) = live_blocks([rows], timed_capture)
            new = block.select(slice(skip * plan.per_row, None))
            writer.add(TokenRows(rows.tokens[skip:], rows.document[skip:]), new)
            advance(new.n)
    seconds = time.monotonic() - started
    tokens = plan.tokens - first_row * plan.per_row
    return {
        "seconds": seconds,
        "tokens_per_second": tokens / seconds,
        "forward_tokens_per_second": tokens / forward_seconds if forward_seconds else 0.0,
    }


def _rows_from(stream: RowStream, model_rows: int, first_row: int) -> Iterator[tuple[int, TokenRows]]:
    """Blocks of rows from the one that holds `first_row` on, with the number of rows to skip in each.

    Blocks begin where an uninterrupted harvest begins them: the last bits of an activation can depend
    on the rows that it is computed with.
    """
    blocks = islice(stream.forever(model_rows), first_row // model_rows, None)
    for index, rows in enumerate(blocks):
        yield (first_row % model_rows if index == 0 else 0), rows


def _estimate(
    config: HarvestConfig, directory: Path, model: LanguageModel, site: Site, stream: RowStream, plan: ShardPlan
) -> None:
    width, item = model.width(site), getattr(torch, config.dtype.value).itemsize
    origin = 3 * torch.int64.itemsize
    disk = plan.tokens * (width * item + origin)
    shard = min(plan.rows, plan.rows_a_shard) * plan.per_row * (width * (4 + item) + 2 * origin)
    require_disk(directory, disk)
    rows = next(stream.forever(config.model_rows))
    capture = capture_at(model, site)
    capture(torch.from_numpy(rows.tokens))  # the first pass is slower
    started = time.monotonic()
    capture(torch.from_numpy(rows.tokens))
    seconds = (time.monotonic() - started) * plan.rows / len(rows.tokens)
    announce(disk, memory=shard + sum(p.nbytes for p in model.hf.parameters()), seconds=seconds)


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
