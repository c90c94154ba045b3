"""The direction that the encoder rows of another run's rare features have in common, to be kept out of a new one."""

from __future__ import annotations

from typing import NamedTuple

from sae_cli.artifacts.stored_run import FinishedRun
from sae_cli.config.commands.train import TrainConfig
from sae_cli.config.data import TruthData
from sae_cli.config.hook import LogitUpdateHook, ModuleHook
from sae_cli.config.inheritance import schema_name
from sae_cli.config.paths import with_absolute_paths
from sae_cli.dictionaries.card import Card
from sae_cli.dictionaries.files import load_dictionary
from sae_cli.errors import RequestError
from sae_cli.metrics.rare import common_direction, encoder_alignment, final_frequency
from sae_cli.runs.dictionary_run import DictionaryRun, card_of, read_density, read_dictionary_run
from sae_cli.runs.file_names import DENSITY_FILE
from sae_cli.tensor_types import Float, Tensor
from sae_cli.terminal import console

FORBIDDEN = "forbidden_direction"
"""In `sae.safetensors`: the direction that the encoder rows are orthogonal to [d]."""

_PLACE = ("model.path", "model.revision", "hook.point", "hook.mode", "hook.path", "hook.side", "layer")
_TRUTH = ("data.d", "data.n_features", "data.seed")
_LEVELS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


class Forbidden(NamedTuple):
    """What a training keeps out.

    Attributes:
        direction: of norm 1 [d].
        features: how many rare features it is the common direction of.
        alignment: mean pairwise cosine of their encoder rows.
        run: whose they are.
    """

    direction: Float[Tensor, " D"]
    features: int
    alignment: float
    run: FinishedRun


def forbidden(config: TrainConfig) -> Forbidden | None:
    """The common direction of the features that were rare at the end of the training of `train.forbid_direction`.

    Raises:
        RequestError: that run does not exist, belongs to other activations, or has fewer than two rare features.
    """
    if config.train.forbid_direction is None:
        return None
    source = _cluster_run(config, config.train.forbid_direction)
    frequency = final_frequency(read_density(source.run, config.verify))
    rare = (frequency > 0) & (frequency < config.train.forbid_below)
    if int(rare.sum()) < 2:
        raise RequestError(_too_few(config, frequency, int(rare.sum())))
    rows = load_dictionary(source.run, config.verify).W_enc[rare]
    alignment = encoder_alignment(rows)
    assert alignment is not None
    console.log(
        f"forbidden: the direction of {len(rows):,} features with a frequency below {config.train.forbid_below:g} "
        f"(mean cosine of their encoder rows {alignment:.3f}) of {source.run.directory}"
    )
    return Forbidden(common_direction(rows), len(rows), alignment, source.run)


def _cluster_run(config: TrainConfig, path: str) -> DictionaryRun:
    try:
        source = read_dictionary_run(path)
    except RequestError as error:
        raise RequestError(f"train.forbid_direction={error}") from error
    if DENSITY_FILE not in source.run.manifest.files:
        raise RequestError(
            f"train.forbid_direction={path}: expected a training run, which has {DENSITY_FILE}; found a "
            f"{source.run.manifest.command} run: give the one that it was made of"
        )
    kinds = {isinstance(config.data, TruthData), bool(source.card.truth)}
    keys = ("data",) if len(kinds) > 1 else _TRUTH if True in kinds else _PLACE
    ours, theirs = _belonging(card_of(config)), _belonging(source.card)
    if other := [f"{key}={theirs.get(key)}" for key in keys if theirs.get(key) != ours.get(key)]:
        wanted = ", ".join(f"{key}={ours[key]}" for key in keys if key in ours)
        raise RequestError(
            f"train.forbid_direction={path}: expected a run on the same activations, {wanted}; found {', '.join(other)}"
        )
    return source


def _belonging(card: Card) -> dict[str, object]:
    """What it belongs to, as settings."""
    if card.truth:
        settings = {f"data.{key}": value for key, value in vars(card.truth).items()}
        return {"data": schema_name(card.truth), **{key: settings[key] for key in _TRUTH if key in settings}}
    assert card.model
    (hook, layer), model = card.site, with_absolute_paths(card.model)
    place = {"model.path": model.path, "model.revision": model.revision, "hook.point": hook.point.value}
    place |= {"hook.mode": hook.mode.value} if isinstance(hook, LogitUpdateHook) else {}
    place |= {"hook.path": hook.path, "hook.side": hook.side.value} if isinstance(hook, ModuleHook) else {}
    return {"data": "text", **place, "layer": layer}


def _too_few(config: TrainConfig, frequency: Float[Tensor, " F"], found: int) -> str:
    firing = frequency[frequency > 0]
    levels = ", ".join(f"{int((firing < level).sum()):,} below {level:g}" for level in _LEVELS)
    return (
        f"train.forbid_direction={config.train.forbid_direction}: expected at least 2 features that fire with a "
        f"frequency below train.forbid_below={config.train.forbid_below:g}, found {found}; of its {len(frequency):,} "
        f"features {levels}, {int((frequency == 0).sum()):,} never fire: raise train.forbid_below"
    )


def check_width(source: Forbidden, width: int) -> None:
    """Refuse a direction of another width than the activations."""
    if len(source.direction) != width:
        raise RequestError(
            f"train.forbid_direction={source.run.directory}: expected a dictionary of width {width}, "
            f"found {len(source.direction)}"
        )
