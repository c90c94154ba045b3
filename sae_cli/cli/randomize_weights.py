"""`sae randomize-weights`."""

from __future__ import annotations

from sae_cli.cli.command import stage_command

randomize_weights = stage_command(
    "randomize-weights",
    stage="sae_cli.commands.randomize",
    summary="Write the model with random weights: sae randomize-weights keep=[embed] seed=0",
)
