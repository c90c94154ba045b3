"""`sae train`."""

from __future__ import annotations

from sae_cli.cli.command import stage_command

train = stage_command(
    "train",
    stage="sae_cli.commands.train",
    summary="Train a dictionary: sae train model=demo layer=3 l1=1 dict_size=2048",
)
