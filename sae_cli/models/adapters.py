"""Adapters of fine-tuning (LoRA and its relatives): found beside a model or in a folder of their own, and merged into
the weights that they change, so that everything after that sees one plain model."""

from __future__ import annotations

import json
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from safetensors import SafetensorError

from sae_cli.artifacts.json_document import parse_json
from sae_cli.errors import JobError, RequestError, is_out_of_memory
from sae_cli.escaping import brief
from sae_cli.models.sources import ADAPTER_CONFIG, Origin, Source, is_hub_id, model_source

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WITHOUT_ADAPTER = {"subfolder": "no adapter"}
"""Given to transformers as `adapter_kwargs`: where it looks for an adapter of its own, and finds none."""

_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_NAME = "default"
_LARGEST_ERROR = 1e-3
"""Of logits of the merged model, relative to the largest one of the model with its adapter beside it."""


class Adapter(NamedTuple):
    """An adapter, the model that it changes, and its kind as peft names it (`LORA`)."""

    source: Source
    base: Source
    kind: str


def find_adapter(source: Source) -> Adapter | None:
    """The adapter that is in a model folder or hub repository, or is all that is there.

    Raises:
        RequestError: there is one, but not what it takes to merge it.
        JobError: its configuration is damaged.
    """
    file = _config_file(source)
    if file is None:
        return None
    config = _read(source, file)
    kind, task, name = config.get("peft_type"), config.get("task_type"), config.get("base_model_name_or_path")
    if find_spec("peft") is None:
        raise RequestError(
            f"model.path={source.path}: there is an adapter of fine-tuning beside the model ({ADAPTER_CONFIG}, "
            f"{brief(str(kind))}), which takes peft to be merged: pip install 'sae-cli[peft]', or give the path of the "
            "model without the adapter"
        )
    if task not in (None, "CAUSAL_LM"):
        raise RequestError(
            f"model.path={source.path}: expected an adapter of a causal language model, found task_type={task!r} in "
            f"{ADAPTER_CONFIG}; choose another model"
        )
    return Adapter(source, _base(source, name, config.get("revision")), brief(str(kind)))


def merge(hf: PreTrainedModel, adapter: Adapter, dtype: torch.dtype) -> PreTrainedModel:
    """The model with the adapter merged into its weights, which are rounded to `dtype` after that.

    Buffers, such as the frequencies of rotary positions, stay in float32, as transformers leaves them.

    Raises:
        RequestError: an adapter of this kind cannot be merged.
        JobError: it is damaged, or does not fit the model.
    """
    folder = adapter.source.location
    if adapter.source.origin is not Origin.hub and not any((Path(folder) / name).is_file() for name in _WEIGHTS):
        raise _misfit(adapter, f"neither {' nor '.join(_WEIGHTS)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what matters of them is looked at
        merged = _plain(_attached(hf, adapter), adapter)
    for parameter in merged.parameters():
        parameter.data = parameter.data.to(dtype)
    return merged


def _attached(hf: PreTrainedModel, adapter: Adapter) -> Any:
    """The model with the adapter beside its weights, all of it from the file."""
    from peft import PeftConfig, get_peft_model, set_peft_model_state_dict
    from peft.utils import load_peft_weights

    folder, revision = adapter.source.location, adapter.source.revision
    try:
        config = PeftConfig.from_pretrained(folder, revision=revision)
        config.inference_mode = True
        attached: Any = get_peft_model(hf, config, adapter_name=_NAME)
        if not hasattr(attached, "merge_and_unload"):
            raise _no_change_of_weights(adapter)
        weights = load_peft_weights(folder, device="cpu", revision=revision)
        report = set_peft_model_state_dict(attached, weights, adapter_name=_NAME)
    except (SafetensorError, RuntimeError, ValueError, TypeError, KeyError, AttributeError, EOFError) as error:
        if is_out_of_memory(error):
            raise
        raise _misfit(adapter, f"{type(error).__name__}: {brief(' '.join(str(error).split()), 300)}") from error
    if missing := [key for key in report.missing_keys if _NAME in key.split(".")]:
        raise _misfit(adapter, f"no weights for {missing[0]} ({len(missing)} missing in all)")
    if unexpected := list(report.unexpected_keys):
        raise _misfit(adapter, f"weights of {unexpected[0]}, which the model does not have ({len(unexpected)} in all)")
    return attached.eval()


def _plain(attached: Any, adapter: Adapter) -> PreTrainedModel:
    """Merged, and compared with what it was merged from on a few tokens."""
    vocabulary = attached.config.get_text_config().vocab_size
    rows = torch.arange(8).remainder(vocabulary)[None]
    with torch.no_grad():
        before = attached(input_ids=rows, use_cache=False, return_dict=True).logits
        try:
            hf = attached.merge_and_unload()
        except (AttributeError, NotImplementedError, ValueError) as error:
            raise _no_change_of_weights(adapter) from error
        embeddings, unembedding = hf.get_input_embeddings(), hf.get_output_embeddings()
        hf.config.tie_word_embeddings = embeddings.weight is unembedding.weight
        after = hf(input_ids=rows, use_cache=False, return_dict=True).logits
    difference = float((after - before).abs().max() / before.abs().max())
    if not difference < _LARGEST_ERROR:
        raise RequestError(
            f"model.path={adapter.source.path}: the model with the adapter ({adapter.kind}) merged gives other logits "
            f"than with the adapter beside it (by {difference:.2g} of the largest one), as happens where embeddings "
            "are tied to an unembedding that it changes; save the merged model yourself and give its path"
        )
    return hf


def _config_file(source: Source) -> Path | None:
    if source.origin is not Origin.hub:
        file = Path(source.location) / ADAPTER_CONFIG
        return file if file.is_file() else None
    from transformers.utils.peft_utils import find_adapter_config_file

    try:
        found = find_adapter_config_file(source.location, revision=source.revision)
    except OSError:
        return None  # what is wrong is said when the config is asked for
    return None if found is None else Path(found)


def _read(source: Source, file: Path) -> dict[str, Any]:
    try:
        config = parse_json(file.read_bytes())
    except (ValueError, json.JSONDecodeError) as error:
        raise _damaged(source, str(error)) from error
    if not isinstance(config, dict) or not isinstance(config.get("peft_type"), str):
        raise _damaged(source, "no peft_type")
    return config


def _base(source: Source, name: Any, revision: Any) -> Source:
    """The model that an adapter changes: the one beside it, else the one that its configuration names.

    A relative path is one from the adapter's folder, wherever the command is given.
    """
    folder = Path(source.location)
    if source.origin is not Origin.hub and (folder / "config.json").is_file():
        return source
    if not isinstance(name, str) or not name:
        raise _damaged(source, "no base_model_name_or_path, and no model beside it")
    path = f"{brief(name)} (which the adapter {source.path} changes)"
    local = Path(name).expanduser()
    if source.origin is not Origin.hub and (folder / local).is_dir():
        return model_source(str(folder / local))._replace(path=path)
    if is_hub_id(name):
        return Source(path, name, Origin.hub, revision if isinstance(revision, str) and revision else None)
    raise RequestError(
        f"model.path={source.path}: an adapter of the model at {brief(name)}, expected that folder to be there, found "
        f"none; give its place as base_model_name_or_path in {folder / ADAPTER_CONFIG}"
    )


def _damaged(source: Source, found: str) -> JobError:
    return JobError(
        f"model.path={source.path}: expected a valid {ADAPTER_CONFIG} in {source.location}, found {brief(found)}; "
        "save or download the adapter again"
    )


def _no_change_of_weights(adapter: Adapter) -> RequestError:
    return RequestError(
        f"model.path={adapter.source.path}: expected an adapter that can be merged into weights, as LoRA can, found "
        f"{adapter.kind}; choose another model"
    )


def _misfit(adapter: Adapter, found: str) -> JobError:
    return JobError(
        f"model.path={adapter.source.path}: expected an adapter ({adapter.kind}) that fits the model in "
        f"{adapter.base.location}, found {found}; save or download the adapter again"
    )
