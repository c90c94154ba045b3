"""What every command takes, and what commands of one kind share; each command says here what it is.

`config/commands/` has a file for each of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import ClassVar

from omegaconf import MISSING

from sae_cli.config.data import DataConfig, NonFinite, TruthData
from sae_cli.config.hook import HookConfig
from sae_cli.config.idle import Idle
from sae_cli.config.model import ModelConfig
from sae_cli.config.naming import RunName, model_part
from sae_cli.config.roles import PathKind, number, place, setting
from sae_cli.config.several import OneOrSeveral
from sae_cli.documents import Document


@dataclass(kw_only=True)
class CommandConfig:
    """What every command takes.

    A command of its own overrides below what is not so for it.

    Attributes:
        name: the run directory, relative to `runs_dir`; null for one derived from the settings.
        runs_dir: where runs live.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        overwrite: replace a run of the same name that has other settings, or was finished.
        verify: check the hash of every file that is read.
        model_rows: rows of tokens a forward pass of the language model.
    """

    command: ClassVar[str]
    """Its name on the command line, in manifests, and of its primary configuration."""

    held_in_memory: ClassVar[tuple[str, ...]] = ("model_rows", "features.tokens", "eval.tokens")
    """The settings that say how much it holds in memory, those that matter most first."""

    on_data_of_run: ClassVar[bool] = False
    """Whether it measures a run on that run's own `data`, but for what is asked for otherwise."""

    own_data: ClassVar[tuple[str, ...]] = ()
    """The settings of `data` that are not taken over from that run."""

    lives: ClassVar[str] = "it lives in its"
    """What lies inside another run, for the line that says so."""

    name: str | None = setting(None, execution=True)
    runs_dir: str = place(PathKind.here, "runs", execution=True)
    device: str = setting("auto", execution=True)
    overwrite: bool = setting(False, execution=True)
    verify: bool = setting(True, execution=True)
    model_rows: int = number(16, at_least=1, execution=True)

    def run_name(self) -> RunName:
        """Where its run lies, unless that is inside another; what is off its default is added as a hash."""
        return RunName(self.command, "default", set())

    def inside(self) -> str | None:
        """The run that its own lies inside; None for one that lies by itself."""
        return None

    def called(self) -> str | None:
        """What its run inside another is called; None where its settings say so."""
        return None

    @property
    def is_synthetic(self) -> bool:
        """Whether it reads activations that are made, without a language model."""
        return False

    def normalized(self, settings: Document) -> Document:
        """Its settings that change the result, flattened, without what makes no difference."""
        return settings

    def idle(self) -> Iterator[Idle]:
        """The settings that change nothing beside the others, asked for or not."""
        for each in fields(self):
            if hasattr(group := getattr(self, each.name), "idle"):
                yield from group.idle()

    def contradictions(self) -> Iterator[str]:
        """For each contradiction among its settings, the setting, what was expected and what was found."""
        data = getattr(self, "data", None)
        return data.contradictions(held_out=True) if isinstance(data, DataConfig) else iter(())


@dataclass(kw_only=True)
class StreamConfig(CommandConfig):
    """What commands share that read the activations of one model at one hook point on one text."""

    model: ModelConfig = MISSING
    hook: HookConfig = MISSING
    data: DataConfig = MISSING

    @property
    def is_synthetic(self) -> bool:
        return isinstance(self.data, TruthData)

    def normalized(self, settings: Document) -> Document:
        # A run that would have stopped at activations that are not finite has no result to differ in.
        raises = settings.get("non_finite") == NonFinite["raise"].value
        without = {"layer": not self.hook.has_layer, "non_finite": raises}
        return {key: value for key, value in settings.items() if not without.get(key)}

    def idle(self) -> Iterator[Idle]:
        if isinstance(self.data, TruthData):
            for key in ("model", "hook", "layer"):
                yield Idle(
                    key,
                    f"with {self.data.called}, which makes activations itself",
                    "leave model, hook and layer out",
                )
        yield from self.model.idle()
        yield from self.data.idle()
        yield from self.hook.idle()

    def stream_part(self, layer: int) -> tuple[str, set[str]]:
        """The part of a name that says which activations, and the settings that it shows."""
        if isinstance(self.data, TruthData):
            return self.data.run_part()
        model, key = model_part(self.model)
        hook = self.hook.label() + (f".{layer}" if self.hook.has_layer else "")
        return f"{model}/{hook}", {key, "hook.point", "hook.mode", "hook.path", "hook.side", "layer"}


@dataclass(kw_only=True)
class MeasuringConfig(CommandConfig):
    """What commands share that measure a dictionary, and leave what they find inside its run.

    Attributes:
        run: the dictionary's run directory; a list of several where the command takes that.
        data: another corpus than the one the dictionary was trained on; null for the same.
    """

    on_data_of_run: ClassVar[bool] = True

    run: OneOrSeveral = place(PathKind.here)
    data: DataConfig | None = None

    def inside(self) -> str | None:
        return None if isinstance(self.run, list) else self.run
