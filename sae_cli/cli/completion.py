"""Tab completion of overrides.

What is asked for most is answered without Hydra, whose import alone takes longer than a shell may wait: group
options by their files, groups and top-level keys by the command's schema. The rest is Hydra's own completion.

Bash splits words at `=` and replaces only what follows it; zsh and fish keep `model=de` whole.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import typer

from sae_cli.config.location import ADDED_GROUPS, option_files

_SHELL = "_SAE_COMPLETE"


def step_past_equals_sign() -> None:
    """In bash, `model=<TAB>` asks for completions of the word `=`; ask for those of the empty word after it."""
    if os.environ.get(_SHELL) == "complete_bash" and _bash_words()[-1] == "=":
        os.environ["COMP_CWORD"] = str(int(os.environ["COMP_CWORD"]) + 1)


def complete_override(context: typer.Context, incomplete: str) -> list[str]:
    """Candidates for the word at the cursor, in the form in which the shell replaces it."""
    if os.environ.get(_SHELL) == "complete_bash":
        words = _join_at_equals_signs(_bash_words())
        given, word = words[:-1], words[-1]
        # What is before the last `=` is on the command line already.
        offset = word.rfind("=") + 1
    else:
        given, word, offset = context.params.get("overrides") or [], incomplete, 0
    command = context.command.name or ""
    found = candidates(command, [each for each in given if "=" in each], word, context.params.get("config_dir"))
    return [each[offset:] for each in found]


def candidates(command: str, given: Sequence[str], word: str, config_dir: Path | None = None) -> list[str]:
    """Whole overrides that begin with `word`, given those before it.

    A lone `key=` brings its values along, so that the shell adds no space after it.
    """
    found = _query(command, given, word, config_dir)
    if len(found) == 1 and found[0] != word and found[0].endswith(("=", ".", "/")):
        found += _query(command, given, found[0], config_dir)
    return list(dict.fromkeys(found))


def _query(command: str, given: Sequence[str], word: str, config_dir: Path | None) -> list[str]:
    if word.startswith("+"):
        return _added(command, word, config_dir)
    group, equals, _ = word.partition("=")
    if equals and (options := option_files(group, config_dir)):
        return [override for option in options if (override := f"{group}={option}").startswith(word)]
    if not equals and "." not in word:
        found = [name for name in _top_level(command, config_dir) if name.startswith(word)]
        if found:
            return found
    return _query_hydra(command, given, word, config_dir)


def _added(command: str, word: str, config_dir: Path | None) -> list[str]:
    """`+group=` for the groups whose options are added to the command, or the options of one."""
    groups = [f"+{name}" for name in ADDED_GROUPS.get(command, ())]
    options = [f"{group}={option}" for group in groups for option in option_files(group[1:], config_dir)]
    offered = options if "=" in word else [f"{group}=" for group in groups]
    return [each for each in offered if each.startswith(word)]


def _top_level(command: str, config_dir: Path | None) -> list[str]:
    """`key=` for the command's settings and groups, `key.` for what has settings of its own."""
    from sae_cli.config.commands import schema_of

    names = []
    for field in fields(schema_of(command)):
        is_group = bool(option_files(field.name, config_dir))
        is_node = is_group or is_dataclass(field.type)
        names += [f"{field.name}."] * is_node + [f"{field.name}="] * (is_group or not is_node)
    return sorted(names)


def _query_hydra(command: str, given: Sequence[str], word: str, config_dir: Path | None) -> list[str]:
    from hydra.errors import HydraException
    from hydra.plugins.completion_plugin import DefaultCompletionPlugin
    from omegaconf.errors import OmegaConfBaseException

    from sae_cli.config.compose import Composer
    from sae_cli.config.store import BASE
    from sae_cli.errors import RequestError

    try:
        plugin = DefaultCompletionPlugin(Composer(config_dir).loader)
        found = plugin._query(command, " ".join([*given, word]))
    except (HydraException, OmegaConfBaseException, RequestError):
        return []  # what was typed so far is not valid: there is nothing to offer
    hidden = () if word.startswith("hydra") else ("hydra",)
    return [each for each in found if not each.startswith(hidden) and BASE not in each]


def _bash_words() -> list[str]:
    """The words after the command's name, up to the one at the cursor (empty where a new one begins)."""
    words = os.environ["COMP_WORDS"].split("\n")
    cursor = int(os.environ["COMP_CWORD"])
    return [*words, *[""] * (cursor + 1 - len(words))][: cursor + 1]


def _join_at_equals_signs(words: Sequence[str]) -> list[str]:
    joined: list[Any] = [""]
    glue = True
    for word in words:
        if word == "=" or glue:
            joined[-1] += word
        else:
            joined.append(word)
        glue = word == "="
    return joined
