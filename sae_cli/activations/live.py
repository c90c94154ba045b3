"""Activations of a running model on text, at as many sites as are asked for, from one forward pass."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator
from functools import cache, cached_property
from itertools import islice
from math import ceil
from typing import NamedTuple

import torch

from sae_cli import build
from sae_cli.activations.ahead import prefetched
from sae_cli.activations.blocks import FIRST_POSITION, ActivationBlock, drop, live_blocks
from sae_cli.activations.non_finite import LEAVE_OUT, is_finite, refusal
from sae_cli.activations.sharing import SharedStream
from sae_cli.activations.text_read import FIRST_ROWS, text_facts, text_record
from sae_cli.artifacts.stored_run import FinishedRun
from sae_cli.config.commands.harvest import HarvestConfig
from sae_cli.config.commands.train import TrainConfig
from sae_cli.config.hook import SiteConfig
from sae_cli.config.settings import flatten
from sae_cli.config.split import Split
from sae_cli.documents import Document
from sae_cli.jobs.once import Claim
from sae_cli.models import LanguageModel, Site, model_identity, model_run
from sae_cli.tensor_types import Rows, SiteActivations
from sae_cli.terminal import console
from sae_cli.terminal.progress import FIRST_ESTIMATE, progress
from sae_cli.text.packing import TokenRows
from sae_cli.text.provenance import TextRecord, tokens_hash
from sae_cli.text.rows import RowStream


class Pass(NamedTuple):
    """What one forward pass gives: its number, rows of tokens, the activations at each site, and whether they are
    finite, where that was looked at."""

    number: int
    rows: TokenRows
    blocks: dict[Site, ActivationBlock]
    finite: dict[Site, bool]


class LiveActivations:
    """The training activations of one model on one text.

    Every site is named with `watch`, and every reader made, before the first pass.

    Args:
        config: names the model and the text.
        device: where the model runs.
        stays: activations stay there; else they come to the CPU.
    """

    def __init__(self, config: HarvestConfig | TrainConfig, device: torch.device, stays: bool = False) -> None:
        console.log(f"loading the model {config.model.path}")
        place = SiteConfig.of(config.hook, config.layer)
        self.model = build.language_model(config.model, config.data, device, [place])
        self.stream = build.row_stream(config.data, self.model, Split.train)
        self._held_out = build.row_stream(config.data, self.model, Split.held_out)
        self._config = config
        self._sites: list[Site] = []
        # On a GPU the next pass runs while dictionaries train on this one; on a CPU they would only disturb each other.
        on_gpu = device.type == "cuda"
        self._queue = torch.cuda.Stream(device) if on_gpu else None
        self.device = device
        self.stays = stays and device.type != "cpu"
        self._passes = SharedStream(lambda first: prefetched(self._run(first)) if on_gpu else self._run(first))
        self.forward_seconds = 0.0
        self.held_out_sha256 = ""
        self.held_out = cache(self._held_out_activations)

    def watch(self, config: HarvestConfig | TrainConfig) -> Site:
        """Take the hook point of this configuration into the passes to come."""
        site = build.site(SiteConfig.of(config.hook, config.layer), self.model)
        if site not in self._sites:
            self._sites.append(site)
        return site

    @cached_property
    def facts(self) -> Document:
        """For the manifest: the model, and how text becomes rows. Shows the first rows to the user."""
        config = self._config.model
        return {
            "model": model_identity(config.path, config.revision),
            **_describe_rows(self.stream, self.model),
            **text_facts(self.text),
        }

    @cached_property
    def text(self) -> TextRecord | None:
        """The text as it is now."""
        return text_record(self._config.data)

    @property
    def parents(self) -> tuple[FinishedRun, ...]:
        """The run that the model is from, where it is from one."""
        run = model_run(self._config.model.path, self._config.model.revision)
        return (run,) if run else ()

    def passes(self, first: int = 0) -> Iterator[Pass]:
        """The passes from number `first` on, without end; all readers share them."""
        return self._passes.reader(first)

    def _run(self, first: int) -> Iterator[Pass]:
        rows = islice(enumerate(self.stream.forever(self._config.model_rows)), first, None)
        for number, block in prefetched(rows):
            # All of it in the queue, and waited for in the thread that makes passes: whoever trains on them need not.
            with torch.cuda.stream(self._queue):
                blocks = next(live_blocks([block], self.capture))
                finite = {site: is_finite(each.activations) for site, each in blocks.items()} if self.stays else {}
                self._wait()
            yield Pass(number, block, blocks, finite)

    def blocks(self, site: Site, first: int = 0, refuse: bool = False) -> Iterator[ActivationBlock]:
        """The activations at one site from number `first` on; all readers share the forward passes.

        Args:
            site: one that is watched.
            first: see above.
            refuse: let activations that are not finite be an error; the others `refused` looks at.
        """
        a_pass = self._config.model_rows * (self.stream.policy.context - FIRST_POSITION)
        passes = self.passes(first // a_pass)
        blocks = (self._handed_over(each, site, refuse) for each in passes)
        return drop(blocks, first % a_pass)

    def _handed_over(self, done: Pass, site: Site, refuse: bool) -> ActivationBlock:
        """The activations of a pass, for the thread that trains on them."""
        block = done.blocks[site]
        if refuse and not done.finite.get(site, True):
            raise refusal("training activations", block, LEAVE_OUT)
        if block.activations.is_cuda:  # their memory is not given away before this thread's work on them is done
            block.activations.record_stream(torch.cuda.current_stream(block.activations.device))
        return block

    def capture(self, rows: Rows) -> dict[Site, SiteActivations]:
        """Token ids [B, T] to float32 activations [B, T, d] at the watched sites, which have arrived."""
        before = time.monotonic()
        with torch.cuda.stream(self._queue):
            captured = self.model.capture(rows, self._sites)
            at_rest = {site: self._at_rest(activations) for site, activations in captured.items()}
        self._wait()
        self.forward_seconds += time.monotonic() - before
        return at_rest

    def _at_rest(self, activations: SiteActivations) -> SiteActivations:
        if not self.stays:
            return activations.float().cpu()
        kept = activations.float()
        if kept.is_cuda:  # it may be read outside of the queue, and is not given away before that is done
            kept.record_stream(torch.cuda.default_stream(kept.device))
        return kept

    def _wait(self) -> None:
        """Until what is in the queue has been done, where activations stay on the device."""
        if self.stays and self._queue:
            self._queue.synchronize()

    def epochs(self, tokens: int) -> float:
        """How often the text is read for so many activations: 1 where it does not run out."""
        per_pass = (self.stream.policy.context - FIRST_POSITION) * self._config.model_rows
        return self.stream.epochs(self._config.model_rows, ceil(tokens / per_pass))

    def _held_out_activations(self, n: int) -> dict[Site, ActivationBlock]:
        """The first n held-out activations at each watched site, or as many as there are."""
        per_row = self._held_out.policy.context - FIRST_POSITION
        rows = self._held_out.one_epoch(self._config.model_rows)
        read, passes = list(islice(rows, ceil(n / per_row / self._config.model_rows))), []
        with progress(n, "held-out activations", first=FIRST_ESTIMATE) as advance:
            for blocks in live_blocks(read, self.capture):
                passes.append(blocks)
                advance(next(iter(blocks.values())).n)
        if not passes:
            raise self._held_out.too_little()
        self.held_out_sha256 = tokens_hash(each.tokens for each in read)
        return {site: ActivationBlock.join([each[site] for each in passes]).select(slice(n)) for site in self._sites}

    @cached_property
    def seconds_a_pass(self) -> float:
        """How long a forward pass takes."""
        rows = torch.from_numpy(next(self.stream.forever(self._config.model_rows)).tokens)
        self.capture(rows)  # the first pass is slower
        started = time.monotonic()
        self.capture(rows)
        return time.monotonic() - started


def stream_key(claim: Claim[HarvestConfig] | Claim[TrainConfig]) -> Hashable:
    """Equal for jobs that can share a `LiveActivations`."""
    config = claim.config
    settings = flatten(config)
    named = (settings[key] for key in sorted(settings) if key.startswith(("model.", "data.")))
    return (*map(str, named), config.device, config.model_rows)


def _describe_rows(stream: RowStream, model: LanguageModel) -> Document:
    """Shows how the first rows begin, so that a wrong tokenizer is seen."""
    policy = stream.policy
    first = next(stream.one_epoch(rows=2), None)
    if first is None:
        raise stream.too_little()
    for row in first.tokens:
        console.log(f"a row begins: {model.tokenizer.decode(row[:24])!r}")
    return {
        FIRST_ROWS: tokens_hash([first.tokens]),
        "context": policy.context,
        "bos_id": policy.bos_id,
        "separator_ids": list(policy.separator_ids),
        "positions": "all but the first of each row",
    }
