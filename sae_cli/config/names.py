"""The name of a run: a function of its configuration alone, so that the same command finds the same run.

    runs/train/demo/mlp_out.3/relu-F2048-l1_1-seed0[-1f0c93ab]

What people ask for most is spelt out; the hash stands for every other setting that changes the result
and differs from its default. Names use `[A-Za-z0-9._/-]` only, so that they can be given back as
overrides. Execution settings (device, verify, …) are no part of a name.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from sae_cli.config.commands import (
    CommandConfig,
    CompareConfig,
    EvalConfig,
    FeaturesConfig,
    HarvestConfig,
    PruneConfig,
    RandomizeConfig,
    TrainConfig,
)
from sae_cli.config.data import SyntheticData
from sae_cli.config.effects import refuse_without_effect
from sae_cli.config.hook import LogitMode, LogitUpdateHook
from sae_cli.config.paths import PathKind, absolute
from sae_cli.config.settings import flatten, is_execution, result_settings
from sae_cli.config.stored import trained_with
from sae_cli.errors import RequestError

_PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_NAMED_GROUPS = ("model", "hook", "sae")
"""Groups whose choice shows in a name; what they set is their default."""

_MOST_PLACES = 4
"""Hook points that the name of an evaluation of several dictionaries spells out."""

_ABSENT = "(absent)"


def baseline_choices(config: CommandConfig, choices: Mapping[str, Any]) -> list[str]:
    """The group choices, as overrides, whose settings count as defaults when `config` is named."""
    groups = ("sae",) if _is_synthetic(config) else _NAMED_GROUPS
    chosen = [f"{group}={choices[group]}" for group in groups if isinstance(choices.get(group), str)]
    return ["data=synthetic", *chosen] if _is_synthetic(config) else chosen


def run_directory(config: CommandConfig, baseline: Mapping[str, Any]) -> Path:
    """Where the run of this configuration lives.

    Args:
        config: the typed configuration.
        baseline: the flattened settings of the same command with `baseline_choices` and nothing else.

    Raises:
        RequestError: `name` would leave `runs_dir`, or a setting that is asked for has no effect.
    """
    refuse_without_effect(config, baseline)
    if isinstance(config, FeaturesConfig) or (isinstance(config, EvalConfig) and not config.together()):
        if config.name is not None:
            what = "an evaluation lives in its" if isinstance(config, EvalConfig) else "sheets live in their"
            raise RequestError(f"name={config.name}: {what} run; leave name out")
        return Path(config.run)
    if config.name is not None:
        return Path(config.runs_dir, *_name_parts("name", config.name))
    where, what, shown = _description(config)
    difference = _off_default(config, baseline, shown)
    return Path(config.runs_dir, where, what + (f"-{_sha256(difference)[:8]}" if difference else ""))


def evaluation_name(config: EvalConfig | FeaturesConfig, baseline: Mapping[str, Any]) -> str:
    """The folder of an evaluation below `eval/`, or of sheets below `features/`: `default`, or a hash of what is off
    its default."""
    difference = _off_default(config, baseline, {"run"})
    return _sha256(difference)[:8] if difference else "default"


class _Description(NamedTuple):
    """What a run's name spells out: the folder, the run in it, and the settings that these two show."""

    where: str
    what: str
    shown: set[str]


def _description(config: CommandConfig) -> _Description:
    match config:
        case HarvestConfig():
            where, shown = _activations(config)
            what = f"T{config.tokens}-{config.dtype.value}"
            return _Description(f"harvest/{where}", what, shown | {"tokens", "dtype"})
        case TrainConfig():
            where, shown = _activations(config)
            key = config.sae.sparsity_setting()
            sparsity = f"l1_{_number(config.l1)}" if key == "l1" else f"k{config.k}"
            what = f"{config.sae.architecture}-F{config.dict_size}-{sparsity}-seed{config.seed}"
            return _Description(f"train/{where}", what, shown | {"sae.architecture", "dict_size", key, "seed"})
        case PruneConfig():
            return _pruned(config)
        case RandomizeConfig():
            kept = "".join(f"-keep_{part.value}" for part in config.keep)
            what = f"{config.scheme.value}{kept}-seed{config.seed}"
            return _Description(
                f"randomize-weights/{_model(config)}", what, {_model_key(config), "scheme", "keep", "seed"}
            )
        case EvalConfig():
            return _together(config)
        case CompareConfig():
            what = f"{_last_part(config.a)}-{_sha256(result_settings(config))[:8]}"
            return _Description("compare", what, set(flatten(config)))
    raise AssertionError(type(config))


def _activations(config: HarvestConfig | TrainConfig) -> tuple[str, set[str]]:
    """The part of the name that says which activations, and the settings that it shows."""
    if isinstance(config.data, SyntheticData):
        return f"synthetic/d{config.data.d}", {"data.d"}
    hook = config.hook.point.value
    if isinstance(config.hook, LogitUpdateHook) and config.hook.mode is not LogitMode.exact:
        hook += f"-{config.hook.mode.value}"
    if config.hook.has_layer:
        hook += f".{config.layer}"
    return f"{_model(config)}/{hook}", {_model_key(config), "hook.point", "hook.mode", "layer"}


def _pruned(config: PruneConfig) -> _Description:
    """Beside each other under the name of what was pruned; what was pruned twice says so in one part."""
    limits = {name: getattr(config, name) for name in ("max_freq", "target_l0", "top_n", "min_freq")}
    done = [f"{name}_{_number(value)}" for name, value in limits.items() if value is not None]
    done += ["recenter"] if config.recenter else []
    done += [f"finetune_{config.finetune_tokens}"] if config.finetune_tokens else []
    what, shown = "-".join(done), {"run", *limits, "recenter", "finetune_tokens"}
    path, root = Path(absolute(config.run, PathKind.here)), Path(os.path.abspath(config.runs_dir))
    parts = path.relative_to(root).parts if path.is_relative_to(root) else ()
    if len(parts) > 2 and parts[0] == "train":
        return _Description("/".join(("prune-high-freq", *parts[1:])), what, shown)
    if len(parts) > 2 and parts[0] == "prune-high-freq":
        return _Description("/".join(parts[:-1]), f"{parts[-1]}-{what}", shown)
    return _Description(f"prune-high-freq/{_last_part(config.run)}-{_sha256(str(path))[:8]}", what, shown)


def _together(config: EvalConfig) -> _Description:
    """By the places of the dictionaries, where these are few enough to name."""
    trained = sorted(
        (trained_with(Path(run)) for run in config.run), key=lambda each: (each.layer, each.hook.point.value)
    )
    places = [f"{each.hook.point.value}.{each.layer}" for each in trained]
    what = "-".join(places) if len(places) <= _MOST_PLACES else f"{len(places)}_dictionaries"
    where = "synthetic" if _is_synthetic(trained[0]) else _model(trained[0])
    return _Description(f"eval/{where}", f"{what}-{_sha256(result_settings(config))[:8]}", set(flatten(config)))


def _model_key(config: HarvestConfig | TrainConfig | RandomizeConfig) -> str:
    """The setting that the model's part of a name shows."""
    return "model.name" if config.model.name else "model.path"


def _last_part(path: str) -> str:
    """The last part of a path in the characters of names."""
    last = re.sub(r"[^A-Za-z0-9._-]+", "_", path.rstrip("/").rpartition("/")[2])
    return last.lstrip(".") or "run"


def _model(config: HarvestConfig | TrainConfig | RandomizeConfig) -> str:
    if config.model.name:
        return "-".join(_name_parts("model.name", config.model.name, several=False))
    path = absolute(config.model.path)
    return f"{_last_part(path)}-{_sha256(path)[:8]}"


def _off_default(config: CommandConfig, baseline: Mapping[str, Any], shown: Iterable[str]) -> dict[str, Any]:
    """Result-affecting settings that differ from the baseline, without those that the name shows."""
    given = flatten(config)
    settings = result_settings(config)
    known = {*settings, *baseline}  # what is in neither is as if it did not exist
    off = {key: settings.get(key) for key in known if given.get(key, _ABSENT) != baseline.get(key)}
    return {key: value for key, value in off.items() if not is_execution(key) and key not in shown}


def _is_synthetic(config: CommandConfig) -> bool:
    return isinstance(config, HarvestConfig | TrainConfig) and isinstance(config.data, SyntheticData)


def _name_parts(key: str, name: str, several: bool = True) -> list[str]:
    parts = name.split("/")
    if (len(parts) > 1 and not several) or not all(_PART.fullmatch(part) for part in parts):
        allowed = "letters, digits and . _ -" + (", parts separated by /" if several else "")
        raise RequestError(f"{key}={name}: a name is made of {allowed}; no part is empty or begins with a dot")
    return parts


def _number(value: float) -> str:
    """The shortest decimal that reads back as `value`: 1, 0.3, 0.0001."""
    text = format(Decimal(repr(float(value))), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _sha256(value: Any) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
