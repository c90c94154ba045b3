"""`sae import`: a dictionary of another tool as a run of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from sae_cli.config.command import CommandConfig
from sae_cli.config.data import DataConfig
from sae_cli.config.evaluation import EvaluationConfig, FeaturePassConfig
from sae_cli.config.hook import HookConfig
from sae_cli.config.idle import Idle
from sae_cli.config.location import HUB
from sae_cli.config.model import ModelConfig
from sae_cli.config.naming import RunName, last_part, short_hash
from sae_cli.config.paths import absolute
from sae_cli.config.roles import PathKind, number, place, setting, settings


@dataclass(kw_only=True)
class ImportConfig(CommandConfig):
    """`sae import`: a dictionary of another tool as a run of its own; a bare address means `source=ADDRESS`.

    Attributes:
        source: a folder, a file, or `hf:org/repo[/path][@revision]`; a folder of many is one run for each.
        format: whose format it is; null for the one that recognises it.
        model: whose activations it is of; null for what the source says.
        hook: where in the model; likewise.
        layer: likewise.
        data: the text that it is measured on, now and by later commands; null for the model's own.
        check: measure it, and end with exit code 1 where it is not what its source says of it.
    """

    command: ClassVar[str] = "import"

    source: str = place(PathKind.named)
    format: str | None = None
    model: ModelConfig | None = None
    hook: HookConfig | None = None
    layer: int | None = number(None, at_least=-1, ordinal=True)
    data: DataConfig | None = None
    check: bool = setting(True, execution=True)
    eval: EvaluationConfig = settings(EvaluationConfig, execution=True)
    features: FeaturePassConfig = settings(FeaturePassConfig, execution=True)

    def run_name(self) -> RunName:
        """By where it came from: the repository or folder, then the path in it."""
        if self.source.startswith(HUB):
            address, _, revision = self.source.removeprefix(HUB).partition("@")
            parts = address.strip("/").split("/")
            what = "-".join(map(last_part, parts[2:])) or last_part(parts[-1])
            name = "-".join(map(last_part, parts[:2]))
            return RunName(f"{self.command}/{name}", what + (f"-{last_part(revision)}" if revision else ""), {"source"})
        path = absolute(self.source, PathKind.here)
        where = last_part(path.rstrip("/").rpartition("/")[0]) or "here"
        return RunName(f"{self.command}/{where}", f"{last_part(path)}-{short_hash(path)}", {"source"})

    def idle(self) -> Iterator[Idle]:
        for group in (self.model, self.hook, self.data):
            if group is not None:
                yield from group.idle()
        if not self.check:
            yield Idle("eval", "with check=false, which measures nothing", "leave it out")
            yield Idle("features", "with check=false, which measures nothing", "leave it out")
