"""Models in a GGUF file, as llama.cpp reads them: their weights, mostly quantized, become plain numbers when loaded."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from sae_cli.errors import JobError, RequestError, denied
from sae_cli.escaping import brief
from sae_cli.models.sources import GGUF, Source

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

_MAGIC = b"GGUF"
_NEEDED = ("gguf", "accelerate")
_BAR = "tqdm"
_MARKS, _OF_CONFIG = ("hf_quantizer", "is_quantized", "quantization_method"), "quantization_config"
_DAMAGED = (
    *(ValueError, KeyError, IndexError, TypeError, OverflowError, NotImplementedError, EOFError, RuntimeError),
    struct.error,
)
"""What transformers and gguf raise at a file that is cut, or holds what they do not know."""


def gguf_config(source: Source) -> PretrainedConfig:
    """The configuration that a GGUF file holds.

    Raises:
        RequestError: a package that reads such files is not installed.
        JobError: the file is damaged, or of a model that transformers cannot read from such a file.
    """
    _check(source)
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(source.folder, local_files_only=True, **gguf_options(source))
    except OSError as error:
        raise denied(error, source.location) or _damaged(source, error) from error
    except _DAMAGED as error:
        raise _damaged(source, error) from error


def gguf_options(source: Source) -> dict[str, str]:
    """What `from_pretrained` is given besides the folder; nothing where the model is no such file."""
    path = Path(source.location)
    return {"gguf_file": path.name} if path.suffix == GGUF and path.is_file() else {}


@contextmanager
def no_bar_of_gguf() -> Iterator[None]:
    """Keeps the progress bar that transformers draws for such a file off stderr; it has no setting for it."""
    from transformers import modeling_gguf_pytorch_utils as reading

    drawn = getattr(reading, _BAR)
    setattr(reading, _BAR, partial(drawn, disable=True))
    try:
        yield
    finally:
        setattr(reading, _BAR, drawn)


def made_plain(hf: PreTrainedModel) -> None:
    """Take away the mark that transformers leaves on a model from such a file: its weights are plain numbers by now."""
    for name in _MARKS:
        hf.__dict__.pop(name, None)
    if hasattr(hf.config, _OF_CONFIG):
        delattr(hf.config, _OF_CONFIG)


def _check(source: Source) -> None:
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise RequestError(
            f"model.path={source.path}: a GGUF file takes what is not installed here, {' and '.join(missing)}: "
            "pip install 'sae-cli[gguf]'"
        )
    try:
        with open(source.location, "rb") as file:
            found = file.read(len(_MAGIC))
    except OSError as error:
        raise denied(error, source.location) or _damaged(source, error) from error
    if found != _MAGIC:
        raise JobError(
            f"model.path={source.path}: expected a GGUF file, which begins with {_MAGIC.decode()}, found {found!r}; "
            "download it again"
        )


def _damaged(source: Source, error: Exception) -> JobError:
    why = brief(str(error).strip().splitlines()[0]) if str(error).strip() else type(error).__name__
    return JobError(
        f"model.path={source.path}: expected a whole GGUF file of a model that transformers reads, found {why}; "
        "download it again, or give the model as a Hugging Face folder"
    )
