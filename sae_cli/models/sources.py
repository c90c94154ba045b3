"""Where a model comes from: a folder, the Hugging Face hub, or this package."""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from sae_cli.artifacts.manifest import MANIFEST
from sae_cli.artifacts.stored_run import FinishedRun, read_run
from sae_cli.config.stored import CONFIG_FILE
from sae_cli.errors import RequestError

EMBEDDED_MODELS = Path(__file__).parent / "embedded"
_FILES_OF_A_RUN = (MANIFEST, CONFIG_FILE)
_EMBEDDED_PREFIX = "embedded:"
_CHECKPOINT = re.compile(r"step(\d+)")
AS_INITIALIZED = "step0"
"""The checkpoint of an embedded model that needs no weights: they follow from the seed."""
ADAPTER_CONFIG = "adapter_config.json"
GGUF = ".gguf"
"""How the name of a file of llama.cpp ends."""
_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")


def is_hub_id(name: str) -> bool:
    """Whether the hub could have a model of this name."""
    return bool(_HUB_ID.fullmatch(name))


class Origin(Enum):
    embedded = "embedded"
    folder = "folder"
    gguf = "gguf"
    hub = "hub"


class Source(NamedTuple):
    """What transformers is asked for: `location` is a folder, a GGUF file or a hub id, `path` and `revision` are what
    the user gave."""

    path: str
    location: str
    origin: Origin
    revision: str | None

    @property
    def folder(self) -> str:
        """The folder that the model lies in, or its hub id."""
        return str(Path(self.location).parent) if self.origin is Origin.gguf else self.location


def model_source(path: str, revision: str | None = None) -> Source:
    """The source that `path` names: a hub id, a local folder or GGUF file, or `embedded:<name>`.

    A folder that is there goes before a hub id of the same name.

    Raises:
        RequestError: no such folder or embedded model, a folder without `config.json` or an adapter, or a revision of
            one of these.
    """
    if path.startswith(_EMBEDDED_PREFIX):
        return _embedded(path, revision)
    folder = Path(path).expanduser()
    if folder.suffix == GGUF and folder.is_file():
        _refuse_revision(path, revision)
        return Source(path, str(folder.resolve()), Origin.gguf, None)
    if folder.exists() or not is_hub_id(path):
        _check_folder(path, folder)
        _refuse_revision(path, revision)
        return Source(path, str(folder.resolve()), Origin.folder, None)
    return Source(path, path, Origin.hub, revision)


def model_identity(path: str, revision: str | None = None) -> str:
    """How a manifest names the model: `embedded:demo`, `folder:/abs/path`, `file:/abs/model.gguf` or
    `hub:owner/name@revision`.

    It names the place, not the content of the weights.
    """
    source = model_source(path, revision)
    match source.origin:
        case Origin.embedded:
            return source.path + (f"@{source.revision}" if source.revision else "")
        case Origin.folder:
            return f"folder:{source.location}"
        case Origin.gguf:
            return f"file:{source.location}"
        case Origin.hub:
            return f"hub:{source.location}@{source.revision or 'main'}"


def model_run(path: str, revision: str | None = None) -> FinishedRun | None:
    """The run that the model at `path` is part of, if it was made by `sae randomize-weights`.

    Raises:
        JobError: it is unfinished, or damaged.
    """
    source = model_source(path, revision)
    folder = Path(source.location)
    if source.origin is not Origin.folder or not all((folder / name).is_file() for name in _FILES_OF_A_RUN):
        return None
    return read_run(folder, "randomize-weights")


def _embedded_folder(path: str) -> Path:
    name = path.removeprefix(_EMBEDDED_PREFIX)
    names = sorted(config.parent.name for config in EMBEDDED_MODELS.glob("*/config.json"))
    if name not in names:
        raise RequestError(
            f"model.path={path}: no embedded model has this name; expected one of {', '.join(names)} "
            f"(in {EMBEDDED_MODELS}), found {name!r}; choose one of these or give a folder or a hub id"
        )
    return EMBEDDED_MODELS / name


def _embedded(path: str, revision: str | None) -> Source:
    """An embedded model, or a checkpoint of its training."""
    folder = _embedded_folder(path)
    if revision is None:
        return Source(path, str(folder), Origin.embedded, None)
    found = (_CHECKPOINT.fullmatch(each.name) for each in folder.iterdir())
    steps = sorted(int(each[1]) for each in found if each)
    if not steps:
        _refuse_revision(path, revision)
    if revision == AS_INITIALIZED:
        return Source(path, str(folder), Origin.embedded, revision)
    if revision not in (known := [f"step{step}" for step in steps]):
        raise RequestError(
            f"model.revision={revision}: expected {AS_INITIALIZED}, {', '.join(known)} of {path}, found {revision!r}; "
            "leave it out for the end of its training"
        )
    return Source(path, str(folder / revision), Origin.embedded, revision)


def tokenizer_source(source: Source) -> Source:
    """Where the tokenizer of a model is: embedded ones that bring none have that of `demo`."""
    if source.origin is not Origin.embedded or Path(source.location, "tokenizer.json").is_file():
        return source
    return source._replace(location=str(EMBEDDED_MODELS / "demo"))


def tokenizer_location(path: str, revision: str | None = None) -> str:
    """The folder, or the hub id, that transformers loads the tokenizer of a model from; errors as `model_source`."""
    return tokenizer_source(model_source(path, revision)).location


def _refuse_revision(path: str, revision: str | None) -> None:
    if revision is not None:
        raise RequestError(
            f"model.revision={revision}: {path} has no revisions, and what is there would be taken for one; leave it "
            "out, or give a hub id"
        )


def _check_folder(path: str, folder: Path) -> None:
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing there"
        raise RequestError(
            f"model.path={path}: expected a model folder at {folder.absolute()}, found {found}; "
            "correct the path, or give a GGUF file or a hub id such as EleutherAI/pythia-70m"
        )
    if not any((folder / name).is_file() for name in ("config.json", ADAPTER_CONFIG)):
        raise RequestError(
            f"model.path={path}: expected config.json in {folder.absolute()}, found none; give the folder that "
            "`save_pretrained` or a download from the hub has written"
        )
