"""Settings that have no effect beside others: whoever asks for one is told, instead of a run whose name promises it.

A setting at its default was not asked for. Those that depend on one schema alone are refused by that schema.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, NamedTuple

from sae_cli.config.commands import (
    CommandConfig,
    FeaturesConfig,
    HarvestConfig,
    TrainConfig,
)
from sae_cli.config.data import DataConfig, HfData, RecordData, SyntheticData
from sae_cli.config.hook import HookPoint, LogitUpdateHook
from sae_cli.config.model import ModelConfig
from sae_cli.config.paths import absolute, is_absolute
from sae_cli.config.sae import GatedSae, JumpPenalty, JumpReluSae, ReluSae, SaeConfig, TopKSae
from sae_cli.config.settings import flatten, unused_sparsity
from sae_cli.errors import RequestError

_OF_A_MODEL = ("model", "hook", "layer")
_OF_SYNTHETIC = ("seed",)
"""Settings of all data that data=synthetic has a use for."""


class Idle(NamedTuple):
    """A setting without effect.

    Attributes:
        key: its dotted key, or the name of a group none of whose settings has an effect.
        beside: what makes it so.
        instead: what to do.
        shown: it with its value, as it is typed, where it was asked for.
    """

    key: str
    beside: str
    instead: str
    shown: str = ""

    def is_of(self, key: str) -> bool:
        """Whether this setting, or the choice of this group, is it."""
        return key == self.key or key.startswith(f"{self.key}.")


def refuse_without_effect(config: CommandConfig, baseline: Mapping[str, Any]) -> None:
    """Refuse a setting that was asked for and would change nothing.

    Args:
        config: of a command.
        baseline: the flattened settings of the same command with its group choices and nothing else.

    Raises:
        RequestError: there is one.
    """
    for idle in asked_without_effect(config, baseline):
        raise RequestError(f"{idle.shown} has no effect {idle.beside}: {idle.instead}")


def asked_without_effect(config: CommandConfig, baseline: Mapping[str, Any]) -> list[Idle]:
    """Those without effect that were asked for: they differ from the baseline."""
    settings = flatten(config)
    found = []
    for idle in without_effect(config):
        for key in filter(idle.is_of, settings):
            value = settings[key]
            if value != baseline.get(key, _default(config, key)):
                found.append(idle._replace(shown=f"{key}={f'{value:g}' if isinstance(value, float) else value}"))
                break
    return found


def without_effect(config: CommandConfig) -> Iterator[Idle]:
    """The settings that change nothing beside the others, asked for or not."""
    if _is_synthetic(config):
        for key in _OF_A_MODEL:
            yield Idle(key, "with data=synthetic, which makes activations itself", "leave model, hook and layer out")
    model, data = getattr(config, "model", None), getattr(config, "data", None)
    if isinstance(model, ModelConfig):
        yield from _of_model(model)
    if isinstance(data, DataConfig):
        yield from _of_data(data)
    if isinstance(config, HarvestConfig | TrainConfig):
        yield from _of_hook(config)
    if isinstance(config, TrainConfig):
        yield from _of_training(config)
    if isinstance(config, FeaturesConfig):
        yield from _of_contexts(config)


def _of_model(model: ModelConfig) -> Iterator[Idle]:
    if is_absolute(absolute(model.path)):
        yield Idle("model.revision", f"on {model.path}, which has no revisions", "leave it out, or give a hub id")


def _of_data(data: DataConfig) -> Iterator[Idle]:
    if isinstance(data, RecordData) and data.tokens:
        yield Idle("data.chat", "with data.tokens=true, which is no text", "give one of the two")
    match data:
        case SyntheticData():
            for each in fields(DataConfig):
                if each.name not in _OF_SYNTHETIC:
                    yield Idle(f"data.{each.name}", "with data=synthetic, which has no text", "leave it out")
            yield Idle("activations", "with data=synthetic, which is made while it is read", "leave it out")
        case HfData() if is_absolute(absolute(data.path)):
            yield Idle("data.revision", f"on {data.path}, which has no revisions", "leave it out, or give a hub id")


def _of_hook(config: HarvestConfig | TrainConfig) -> Iterator[Idle]:
    hook = config.hook
    if not hook.has_layer:
        beside = f"with hook={hook.point.value}: the logits belong to no layer"
        yield Idle("layer", beside, "leave layer out")
    if isinstance(hook, LogitUpdateHook) and hook.point is not HookPoint.logit_update:
        yield Idle("hook.mode", f"with hook.point={hook.point.value}", f"give hook={hook.point.value}")


def _of_training(config: TrainConfig) -> Iterator[Idle]:
    sae, used = config.sae, config.sae.sparsity_setting()
    yield Idle(unused_sparsity(config), f"with sae={sae.architecture}", f"give {used}=")
    yield Idle("sae.architecture", "by itself", f"give sae={sae.architecture}")
    yield from _of_penalty(sae, config.l1)
    if isinstance(sae, TopKSae) and not sae.aux_coefficient:
        yield Idle("sae.aux_k", "with sae.aux_coefficient=0", "leave it out")
    elif isinstance(sae, TopKSae) and sae.aux_k == 0:
        yield Idle("sae.aux_k", "at 0", "give sae.aux_coefficient=0 for no auxiliary loss")


def _of_penalty(sae: SaeConfig, l1: float) -> Iterator[Idle]:
    if isinstance(sae, JumpReluSae) and sae.penalty is JumpPenalty.tanh:
        yield Idle("sae.l0_coefficient", "with sae.penalty=tanh", "give l1=")
    if isinstance(sae, JumpReluSae) and sae.penalty is JumpPenalty.l0_target and not sae.l0_coefficient:
        yield Idle("k", "with sae.l0_coefficient=0", "leave it out")
        yield Idle("sae.sparsity_warmup", "with sae.l0_coefficient=0", "leave it out")
    if isinstance(sae, ReluSae | GatedSae) and not l1:
        yield Idle("sae.sparsity_warmup", "with l1=0", "leave it out")


def _of_contexts(config: FeaturesConfig) -> Iterator[Idle]:
    if not config.contexts.bands:
        yield Idle("contexts.per_band", "with contexts.bands=0", "leave it out")
    if not config.contexts.bands or not config.contexts.per_band:
        yield Idle("contexts.seed", "without random contexts (contexts.bands, contexts.per_band)", "leave it out")


def _default(config: CommandConfig, key: str) -> Any:
    """Of a setting that the baseline does not have, because its group has no choice there."""
    holder: Any = config
    *groups, name = key.split(".")
    for group in groups:
        holder = getattr(holder, group)
    found = next(each for each in fields(holder) if each.name == name)
    return found.default_factory() if callable(found.default_factory) else found.default


def _is_synthetic(config: CommandConfig) -> bool:
    return isinstance(config, HarvestConfig | TrainConfig) and isinstance(config.data, SyntheticData)
