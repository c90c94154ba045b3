"""What an evaluation on other data takes over from the run: all that the two sources share, unless it is asked for
otherwise."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import fields
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from sae_cli.config.data import DataConfig, RecordData, TruthData
from sae_cli.config.groups import GROUPS
from sae_cli.config.location import conf_dir
from sae_cli.config.paths import with_absolute_paths
from sae_cli.config.roles import TextRole, role_of
from sae_cli.config.settings import flatten
from sae_cli.documents import Document, Facts

DATA = "data"
_PLACE = "path"


def schema_name(data: DataConfig) -> str:
    """The source that a typed `data` is of: `text`, `hf` …"""
    return next(name for name, schema in GROUPS[DATA].items() if schema is type(data))


def same_text(one: DataConfig, other: DataConfig) -> bool:
    """Whether two configurations name one text, in which documents have the same keys."""
    return type(one) is type(other) and all(
        _absolute(one)[each.name] == _absolute(other)[each.name]
        for each in fields(one)
        if role_of(each).text is TextRole.source
    )


def other_settings(trained: DataConfig, data: DataConfig) -> Iterator[tuple[str, object, object]]:
    """Dotted key and both values of each setting that differs of those that two sources share."""
    one, other = _absolute(trained), _absolute(data)
    for key in _shared(trained, type(data), one.get(_PLACE) == other.get(_PLACE)):
        if one[key] != other[key] and not _is_part(key):
            yield f"{DATA}.{key}", one[key], other[key]


def inherit(settings: DictConfig, given: Collection[str], trained: DataConfig) -> None:
    """Take over from the training data, in place, what was not asked for otherwise.

    Args:
        settings: of an evaluation whose `data` is not null, as it was composed.
        given: dotted keys that were typed; `data` among them if a source was.
        trained: the data that the run's dictionary was trained on.
    """
    name, chosen = schema_of(settings.data), settings.data
    of_run, plain = _absolute(trained), plain_option(name)
    if issubclass(GROUPS[DATA][name], TruthData) != isinstance(trained, TruthData):
        return  # which is refused where the run is read
    kind = GROUPS[DATA][name]
    one_place = _alike(trained, kind) and (DATA not in given or _is_at(chosen, of_run))
    for key in _shared(trained, kind, one_place):
        whole = DATA in given and _is_part(key)  # a text that is asked for is read whole
        if f"{DATA}.{key}" not in given and not whole and _left_as_it_is(chosen, plain, key):
            OmegaConf.update(settings, f"{DATA}.{key}", of_run[key])


def schema_of(data: DictConfig) -> str:
    """The source that a composed `data` is of."""
    kind = OmegaConf.get_type(data)
    return next(name for name, schema in GROUPS[DATA].items() if schema is kind)


def plain_option(name: str) -> DictConfig:
    """The settings of the option of the group that is called as its source, and adds nothing to it."""
    file = OmegaConf.load(Path(conf_dir(), DATA, f"{name}.yaml"))
    assert isinstance(file, DictConfig)
    file.pop("defaults", None)
    option = OmegaConf.merge(OmegaConf.structured(GROUPS[DATA][name]), file)
    assert isinstance(option, DictConfig)
    return option


def _shared(trained: DataConfig, kind: type[DataConfig], one_place: bool) -> list[str]:
    """Names of the settings that two sources have in common: at one place all of one kind, or what their records hold;
    else how text becomes rows."""
    if not one_place or not _alike(trained, kind):
        return [each.name for each in fields(DataConfig)]
    return [each.name for each in fields(trained if kind is type(trained) else RecordData)]


def _is_part(key: str) -> bool:
    """Whether this setting of all sources says which part of the text is read."""
    return any(each.name == key and role_of(each).text is TextRole.part for each in fields(DataConfig))


def _alike(trained: DataConfig, kind: type[DataConfig]) -> bool:
    """Whether two sources can be of one text: of one kind, or both of records."""
    return kind is type(trained) or (isinstance(trained, RecordData) and issubclass(kind, RecordData))


def _absolute(data: DataConfig) -> Document:
    return flatten(with_absolute_paths(data))


def _is_at(chosen: DictConfig, of_run: Facts) -> bool:
    """Whether a source is where that of the run is, or says nothing of the place."""
    if _PLACE not in of_run or OmegaConf.is_missing(chosen, _PLACE):
        return True
    schema = GROUPS[DATA][schema_of(chosen)]
    return _absolute(schema(path=chosen[_PLACE]))[_PLACE] == of_run[_PLACE]


def _left_as_it_is(chosen: DictConfig, plain: DictConfig, key: str) -> bool:
    """Whether the option that was chosen says nothing of its own about a setting."""
    if OmegaConf.is_missing(chosen, key):
        return True
    return not OmegaConf.is_missing(plain, key) and chosen[key] == plain[key]
