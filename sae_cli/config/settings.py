"""The settings of a configuration as plain values, and which of them change a result.

Execution settings (device, verify, …) do not: two configurations that differ in these only are the same run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from enum import Enum
from typing import Any

from omegaconf import OmegaConf

from sae_cli.config.commands import (
    EXECUTION_SETTINGS,
    CommandConfig,
    EvalConfig,
    HarvestConfig,
    TrainConfig,
)
from sae_cli.config.paths import absolute, with_absolute_paths
from sae_cli.config.references import reference

_ADDED = {"data.tokens": False, "data.chat": False}
"""Settings that earlier runs do not have, with the values at which a run is what it was without them."""


def flatten(settings: Any) -> dict[str, Any]:
    """Dotted keys to plain JSON values: enums by value, lists as they are.

    Args:
        settings: a configuration as dataclasses, an OmegaConf node or a nested dict.
    """
    if OmegaConf.is_config(settings):
        nested: Any = OmegaConf.to_container(settings, resolve=True)
    else:
        nested = settings if isinstance(settings, Mapping) else asdict(settings)
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat.update({f"{key}.{inner}": leaf for inner, leaf in flatten(value).items()})
        elif isinstance(value, list):
            flat[key] = [_plain(each) for each in value]
        else:
            flat[key] = _plain(value)
    return flat


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def result_settings(config: CommandConfig) -> dict[str, Any]:
    """Every setting that changes the result, flattened; paths are absolute."""
    flat = flatten(with_absolute_paths(config))
    settings = {key: value for key, value in flat.items() if not is_execution(key)}
    if isinstance(config, EvalConfig) and config.together():
        settings["run"] = sorted(settings["run"])
    if isinstance(config, HarvestConfig | TrainConfig) and not config.hook.has_layer:
        del settings["layer"]
    if settings.get("non_finite") == "raise":
        del settings["non_finite"]  # a run that would have stopped has no result to differ in
    settings = {key: value for key, value in settings.items() if key not in _ADDED or value != _ADDED[key]}
    if isinstance(config, EvalConfig):
        settings["references"] = sorted({_model(each) for each in config.references})
    if isinstance(config, TrainConfig):
        del settings[unused_sparsity(config)]
    return settings


def _model(name: str) -> str:
    """A reference by what it is, not by what it is called."""
    model = reference(name).model
    return absolute(model.path) + (f"@{model.revision}" if model.revision else "")


def is_execution(key: str) -> bool:
    return any(key == setting or key.startswith(f"{setting}.") for setting in EXECUTION_SETTINGS)


def unused_sparsity(config: TrainConfig) -> str:
    return "k" if config.sae.sparsity_setting() == "l1" else "l1"
