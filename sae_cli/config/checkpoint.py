"""The group `checkpoint`: how much work a run that is stopped may lose."""

from dataclasses import dataclass

from sae_cli.config.roles import number


@dataclass(kw_only=True)
class CheckpointConfig:
    """What is saved while a run goes on.

    Attributes:
        every_seconds: time between two checkpoints; 0 for one after every step. More where writing one
            takes more than a twentieth of it.
    """

    every_seconds: float = number(300.0, at_least=0)
