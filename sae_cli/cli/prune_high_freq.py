"""`sae prune-high-freq`: a bare path is the run."""

from __future__ import annotations

from sae_cli.cli.command import stage_command

prune_high_freq = stage_command(
    "prune-high-freq",
    stage="sae_cli.commands.prune",
    summary="Kill the most frequent features: sae prune-high-freq RUN max_freq=0.038",
    on_a_run=True,
)
