"""What Hydra and OmegaConf complain about, as one line with the nearest valid name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from sae_cli.config.compose import Composed, Composer, options
from sae_cli.config.groups import GROUPS
from sae_cli.config.location import ADDED_GROUPS
from sae_cli.errors import RequestError


@contextmanager
def request_errors(composer: Composer, command: str, overrides: Sequence[Override]) -> Iterator[None]:
    """Within it, whatever is wrong with a configuration is a `RequestError`. Not for running jobs."""
    try:
        yield
    except MissingConfigException as error:
        raise RequestError(_no_option(error)) from error
    except ValueError as error:  # Hydra's word for `model=null`
        empty = [each for each in overrides if each.value() is None and each.key_or_group in composer.groups()]
        raise RequestError(_no_choice(empty[0], composer) if empty else _one_line(error)) from error
    except (AssertionError, AttributeError) as error:  # OmegaConf's words for a key below a null
        below = _below_null(composer, command, overrides)
        if not below:
            raise
        raise RequestError(below) from error
    except (HydraException, OmegaConfBaseException) as error:
        if foreign := _of_other_commands(composer, command, overrides):
            added = foreign.partition("=")[0] in ADDED_GROUPS.get(command, ())
            instead = f"add it with a +: +{foreign}" if added else "--cfg job prints what it has"
            raise RequestError(f"{foreign}: sae {command} has no such choice; {instead}") from error
        key = re.match(r"Could not override '([^']+)'", str(error))
        if key:
            raise RequestError(no_key(key[1], composer, command, overrides)) from error
        twice = re.match(r"Multiple values for (\S+)\. To override", str(error))
        if twice:
            raise RequestError(f"+{twice[1]}=…: {twice[1]} is chosen already; leave the + out") from error
        raise RequestError(_one_line(error)) from error


def no_key(key: str, composer: Composer, command: str, overrides: Sequence[Override]) -> str:
    """That a key does not exist, and which one may have been meant."""
    composed = _with_choices(composer, command, overrides)
    settings = composed.hydra if key.startswith("hydra.") else composed.settings
    keys = list(_keys(settings, "hydra." if key.startswith("hydra.") else ""))
    parent, _, last = key.rpartition(".")
    siblings = [each for each in keys if each.rpartition(".")[0] == parent]
    meant = _nearest(last, siblings) or ("" if siblings and parent else _nearest(last, keys))
    if meant:
        return f"unknown key {key}: did you mean {meant}?"
    if parent and siblings:
        choice = composed.hydra.runtime.choices.get(parent)
        names = ", ".join(each.rpartition(".")[2] for each in siblings)
        return f"unknown key {key}: {f'{parent}={choice}' if choice else parent} has {names}"
    return f"unknown key {key}: `sae {command} --cfg job` prints all keys"


def nearest_name(name: str, names: Iterable[str]) -> str:
    """`: did you mean …?` with the nearest name, else `; there is …` with all of them."""
    names = list(names)
    close = get_close_matches(name, names, n=1)
    return f": did you mean {close[0]}?" if close else f"; there is {', '.join(names) or 'none'}"


def _nearest(last: str, keys: Sequence[str]) -> str:
    """The key whose last part is nearest to `last`; empty when none is near."""
    by_last = {key.rpartition(".")[2]: key for key in reversed(keys)}
    close = get_close_matches(last, by_last, n=1)
    return by_last[close[0]] if close else ""


def _keys(settings: Any, prefix: str = "") -> Iterator[str]:
    for key in settings:
        yield f"{prefix}{key}"
        node = settings._get_node(key)
        if isinstance(node, DictConfig) and not node._is_none() and not node._is_missing():
            yield from _keys(node, f"{prefix}{key}.")


def _no_option(error: MissingConfigException) -> str:
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    if not group:
        return _one_line(error)
    return f"no option {name} for {group}{nearest_name(name, options(error.options or ()))}"


def _with_choices(composer: Composer, command: str, overrides: Sequence[Override]) -> Composed:
    """The configuration with the group options that were asked for and the command has, and nothing else."""
    groups = composer.compose(command).hydra.runtime.choices
    chosen = [each for each in overrides if each.key_or_group in groups and not each.is_sweep_override()]
    return composer.compose(command, [text for each in chosen if (text := each.input_line)])


def _of_other_commands(composer: Composer, command: str, overrides: Sequence[Override]) -> str:
    """The first override that chooses from a group that other commands have; empty if there is none.

    What is added with a `+` from a folder of the user's own need not be in a group that the command has.
    """
    groups = set(composer.groups()) - set(composer.compose(command).hydra.runtime.choices)
    added = {*GROUPS, *(name for names in ADDED_GROUPS.values() for name in names)} - {*ADDED_GROUPS.get(command, ())}
    chosen = [each for each in overrides if each.key_or_group in (groups & added if each.is_add() else groups)]
    return next((text for each in chosen if (text := each.input_line)), "")


def _below_null(composer: Composer, command: str, overrides: Sequence[Override]) -> str:
    settings = _with_choices(composer, command, overrides).settings
    for override in overrides:
        parent = override.key_or_group.rpartition(".")[0]
        if parent in settings and settings[parent] is None:
            return f"{override.input_line}: {parent} is null; choose one with {parent}=… as well"
    return ""


def _no_choice(override: Override, composer: Composer) -> str:
    known = options(composer.loader.get_group_options(override.key_or_group))
    return f"{override.input_line}: expected an option of {override.key_or_group}; there is {', '.join(known)}"


def _one_line(error: Exception) -> str:
    """Hydra's own words without its stack of explanations; the useful part is often in the cause."""
    text = str(error) or str(error.__cause__)
    if in_a_file := re.match(r"In '([^']+)': \w+ raised while composing config:\n(.*)\n\s*full_key: (\S+)", text):
        return f"{in_a_file[1]}.yaml: {in_a_file[3]}: {in_a_file[2]}"
    override = re.match(r"Error merging override (.*)", text)
    if override and error.__cause__ is not None:
        text = f"{override[1]}: {error.__cause__}"
    return text.strip().partition("\n")[0].strip()
