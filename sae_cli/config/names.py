"""The name of a run: a function of its configuration alone, so that the same command finds the same run.

    runs/train/demo/mlp_out.2/relu-F2048-l1_1-seed0[-1f0c93ab]

What people ask for most is spelt out, as the command's schema says (`run_name`); the hash stands for every other
setting that changes the result and differs from its default. Names use `[A-Za-z0-9._/-]` only, so that they can be
given back as overrides. Execution settings (device, verify, …) are no part of a name.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sae_cli.config.command import CommandConfig, StreamConfig
from sae_cli.config.effects import refuse_without_effect
from sae_cli.config.inheritance import DATA, schema_name
from sae_cli.config.naming import name_parts, short_hash
from sae_cli.config.settings import execution_settings, flatten, result_settings
from sae_cli.documents import Document, Facts
from sae_cli.errors import RequestError

_NAMED_GROUPS = ("model", "hook", "sae")
"""Groups whose choice shows in a name; what they set is their default."""

_ABSENT = "(absent)"


def baseline_choices(config: CommandConfig, choices: Facts) -> list[str]:
    """The group choices, as overrides, whose settings count as defaults when `config` is named."""
    groups = ("sae",) if config.is_synthetic else _NAMED_GROUPS
    chosen = [f"{group}={choices[group]}" for group in groups if isinstance(choices.get(group), str)]
    if isinstance(config, StreamConfig) and config.is_synthetic:
        return [f"{DATA}={schema_name(config.data)}", *chosen]
    return chosen


def run_directory(config: CommandConfig, baseline: Facts) -> Path:
    """Where the run of this configuration lives, or the run that it lives in.

    Args:
        config: the typed configuration.
        baseline: the flattened settings of the same command with `baseline_choices` and nothing else.

    Raises:
        RequestError: `name` would leave `runs_dir`, or a setting that is asked for has no effect.
    """
    refuse_without_effect(config, baseline)
    if (outer := config.inside()) is not None:
        if config.name is not None:
            raise RequestError(f"name={config.name}: {config.lives} run; leave name out")
        return Path(outer)
    if config.name is not None:
        return Path(config.runs_dir, *name_parts("name", config.name))
    where, what, shown = config.run_name()
    difference = _off_default(config, baseline, shown)
    return Path(config.runs_dir, where, what + (f"-{short_hash(difference)}" if difference else ""))


def measurement_name(config: CommandConfig, baseline: Facts) -> str:
    """The folder of an evaluation below `eval/`, or of feature pages below `features/`: `default`, or a hash of what is
    off its default; or as it is asked to be called."""
    if (called := config.called()) is not None:
        return called
    difference = _off_default(config, baseline, {"run"})
    return short_hash(difference) if difference else "default"


def _off_default(config: CommandConfig, baseline: Facts, shown: Iterable[str]) -> Document:
    """Result-affecting settings that differ from the baseline, without those that the name shows."""
    given = flatten(config)
    settings = result_settings(config)
    known = {*settings, *baseline} - execution_settings(type(config)) - {*shown}  # what is in neither does not exist
    return {key: settings.get(key) for key in known if given.get(key, _ABSENT) != baseline.get(key)}
