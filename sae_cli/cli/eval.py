"""`sae eval`: a bare path is the run."""

from __future__ import annotations

from sae_cli.cli.command import stage_command

evaluate = stage_command(
    "eval",
    stage="sae_cli.commands.evaluate",
    summary="Evaluate a dictionary: sae eval runs/train/demo/mlp_out.3/relu-F2048-l1_1-seed0",
    on_a_run=True,
)
