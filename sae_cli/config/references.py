"""Reference models by name: the options of the group `model`, folders and hub ids, each perhaps `@revision`."""

from __future__ import annotations

import os
import re
from difflib import get_close_matches
from functools import cache
from typing import NamedTuple

from omegaconf import OmegaConf

from sae_cli.config.location import conf_dir, option_files
from sae_cli.config.model import LAST_STEP, WITH_CHECKPOINTS, ModelConfig
from sae_cli.errors import RequestError

_STEP = re.compile(r"step(\d+)")
_PYTHIA, _LAST_STEP_OF_PYTHIA = "EleutherAI/pythia-", 143_000


class Reference(NamedTuple):
    """A reference as it was asked for, and the model that it names."""

    name: str
    model: ModelConfig


def reference(text: str) -> Reference:
    """The reference that `text` names: `demo-s`, `pythia70m@step1000`, a folder, `owner/name@revision`.

    Raises:
        RequestError: there is no such option of the group `model`, or what it names has no revisions.
    """
    name, at, revision = (text, "", "") if os.path.exists(text) else text.partition("@")
    if at and not revision:
        raise RequestError(f"references={text}: expected a revision after the @, found none")
    path = _options().get(name, name)
    if path == name and not _is_path(name):
        raise RequestError(f"references={text}: no model option {name}{_nearest(name)}")
    if revision and os.path.isdir(os.path.expanduser(path)):
        raise RequestError(f"references={text}: {path} has no revisions; leave @{revision} out")
    return Reference(text, ModelConfig(path=path, name=name if path != name else "", revision=revision or None))


def training_step(model: ModelConfig) -> int | None:
    """The step of its training that a checkpoint is of, where its revision or folder is called `step<N>`."""
    called = model.revision or os.path.basename(model.path.rstrip("/"))
    if step := _STEP.fullmatch(called):
        return int(step[1])
    if model.path == WITH_CHECKPOINTS:
        return LAST_STEP
    return _LAST_STEP_OF_PYTHIA if model.revision in (None, "main") and model.path.startswith(_PYTHIA) else None


@cache
def _options() -> dict[str, str]:
    """The path of each model option that has one."""
    files = {name: conf_dir() / "model" / f"{name}.yaml" for name in option_files("model")}
    paths = {name: OmegaConf.select(OmegaConf.load(file), "path") for name, file in files.items()}
    return {name: path for name, path in paths.items() if path is not None}


def _is_path(text: str) -> bool:
    return "/" in text or text.startswith((".", "~", "embedded:")) or os.path.isdir(text)


def _nearest(name: str) -> str:
    close = get_close_matches(name, options := _options(), n=1)
    meant = f": did you mean {close[0]}?" if close else f"; there is {', '.join(options)}."
    return f"{meant} Other models are given as a folder or as owner/name"
