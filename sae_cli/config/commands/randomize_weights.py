"""`sae randomize-weights`: the model with random numbers for weights."""

from dataclasses import dataclass
from typing import ClassVar

from omegaconf import MISSING

from sae_cli.config.command import CommandConfig
from sae_cli.config.edits import ModelPart, RandomScheme
from sae_cli.config.model import ModelConfig
from sae_cli.config.naming import RunName, model_part
from sae_cli.config.roles import number, settings


@dataclass(kw_only=True)
class RandomizeConfig(CommandConfig):
    """`sae randomize-weights`: the model with random numbers for weights, as a model folder.

    Attributes:
        scheme: where the numbers come from.
        keep: parts that keep their weights.
        seed: of the numbers.
    """

    command: ClassVar[str] = "randomize-weights"
    held_in_memory: ClassVar[tuple[str, ...]] = ("model.path", "model.dtype")

    model: ModelConfig = MISSING
    scheme: RandomScheme = RandomScheme.reinit
    keep: list[ModelPart] = settings(list)
    seed: int = number(0, at_least=0, ordinal=True)

    def __post_init__(self) -> None:
        self.keep = sorted(set(self.keep), key=lambda part: part.value)

    def run_name(self) -> RunName:
        model, key = model_part(self.model)
        kept = "".join(f"-keep_{part.value}" for part in self.keep)
        what = f"{self.scheme.value}{kept}-seed{self.seed}"
        return RunName(f"{self.command}/{model}", what, {key, "scheme", "keep", "seed"})
