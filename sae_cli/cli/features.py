"""`sae features`: a bare path is the run; `--show` prints sheets."""

from __future__ import annotations

from sae_cli.cli.command import stage_command

features = stage_command(
    "features",
    stage="sae_cli.stages.features",
    summary="Sheets of features, with contexts: sae features runs/train/demo/mlp_out.3/relu-F2048-l1_1-seed0",
    on_a_run=True,
)
