"""The weight files of a model folder, looked at before transformers reads them: it may be a stranger's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_cli.artifacts.json_document import check_length, parse_json
from sae_cli.artifacts.safetensors_header import Header, parse_header

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_INDEX = "*.index.json"
_WEIGHTS = ("*.safetensors", "*.bin")
_PLAIN = ("F32", "BF16", "F16", "F64")
_SLACK = 16
"""A config may ask for so many numbers a byte of weights: embeddings may be tied, and numbers of four bits."""


def check_weight_files(folder: Path, config: PretrainedConfig) -> None:
    """Headers that fit their files, indices that stay in the folder, and a config that asks for no more than there is.

    Args:
        folder: of the weights; or a file that holds them and the config.
        config: of the model.

    Raises:
        ValueError: it is not so; one line says where.
        OSError: a file cannot be read.
    """
    named = getattr(config, "transformers_weights", None)
    if named is not None and not _is_name(named):
        raise ValueError(f"config.json that takes weights from {named!r}, outside the folder")
    for index in sorted(folder.glob(_INDEX)):
        _check_index(index)
    for weights in sorted(folder.glob("*.safetensors")):
        try:
            _check_numbers(parse_header(weights))
        except ValueError as error:
            raise ValueError(f"in {weights.name} {error}") from error
    _check_size(folder, config.get_text_config())


def _check_numbers(header: Header) -> None:
    """Quantized weights without a word on it in the config would be taken for numbers that they are not."""
    for name, tensor in header.tensors.items():
        if name.endswith(".weight") and tensor.dtype not in _PLAIN:
            raise ValueError(f"{name} of {tensor.dtype}, expected {', '.join(_PLAIN)}")


def _check_index(index: Path) -> None:
    check_length(index.stat().st_size)
    document = parse_json(index.read_bytes())
    places = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(places, dict):
        raise ValueError(f"{index.name} without a weight_map")
    for place in places.values():
        if not _is_name(place):
            raise ValueError(f"{index.name} that takes weights from {place!r}, outside the folder")


def _is_name(value: Any) -> bool:
    plain = isinstance(value, str) and value.isprintable() and not set(value) & set("/\\")
    return plain and value not in ("", ".", "..")


def _check_size(folder: Path, config: Any) -> None:
    names = ("hidden_size", "num_hidden_layers", "vocab_size")
    if not all(hasattr(config, name) for name in names):
        return  # a model without such sizes, which no table of families has
    files = [folder] if folder.is_file() else [file for pattern in _WEIGHTS for file in folder.glob(pattern)]
    held = sum(file.stat().st_size for file in files)
    sizes = {name: getattr(config, name) for name in names}
    for name, size in sizes.items():
        if type(size) is not int or size < 1:
            raise ValueError(f"{name}={size!r} in config.json")
    layers, width = sizes["num_hidden_layers"], sizes["hidden_size"]
    if held and width * (layers * width + sizes["vocab_size"]) > _SLACK * held:
        raise ValueError(f"{held:,} bytes of weights for {layers:,} layers of width {width:,}")
