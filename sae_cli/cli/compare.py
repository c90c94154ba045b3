"""`sae compare`."""

from __future__ import annotations

from sae_cli.cli.command import stage_command

compare = stage_command(
    "compare",
    stage="sae_cli.commands.compare",
    summary="Compare the directions of dictionaries: sae compare a=RUN b=[RUN,RUN]",
)
