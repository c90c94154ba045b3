"""`sae harvest`."""

from __future__ import annotations

from sae_cli.cli.command import stage_command

harvest = stage_command(
    "harvest",
    stage="sae_cli.commands.harvest",
    summary="Write activations to disk: sae harvest model=demo layer=3 tokens=750_000",
)
