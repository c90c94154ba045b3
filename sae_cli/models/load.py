"""Loading language models and tokenizers, with one clear line for everything that can be wrong with them."""

from __future__ import annotations

import copy
import logging
from collections.abc import Container, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from sae_cli.artifacts.hub_errors import refusal_of
from sae_cli.errors import JobError, RequestError, denied, is_out_of_memory
from sae_cli.escaping import brief
from sae_cli.models.adapters import WITHOUT_ADAPTER, Adapter, find_adapter, merge
from sae_cli.models.any_model import model_class
from sae_cli.models.architectures import FAMILIES, is_supported, supported_family, unsupported
from sae_cli.models.gguf import gguf_config, gguf_options, made_plain, no_bar_of_gguf
from sae_cli.models.language_model import LanguageModel
from sae_cli.models.plain_config import plain_config, quantization
from sae_cli.models.sources import AS_INITIALIZED, Origin, Source, model_run, model_source, tokenizer_source
from sae_cli.models.weight_files import check_weight_files
from sae_cli.terminal import console

# transformers takes seconds to import: that waits until a model or a tokenizer is loaded, which a run that is found
# finished never does.
if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
_INVALID_CONFIG = (StrictDataclassError, ValueError, TypeError, KeyError, AttributeError)
_DAMAGED_WEIGHTS = (SafetensorError, UnpicklingError, EOFError, RuntimeError, ValueError, KeyError)


def load_language_model(
    path: str,
    *,
    revision: str | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    trust_remote_code: bool = False,
    any_model: bool = False,
) -> LanguageModel:
    """A language model, in evaluation mode, frozen, and computing in `dtype` on `device`.

    An adapter (LoRA) that is there is merged into the weights.

    Args:
        path: a hub id, a local folder or GGUF file, or `embedded:<name>` for a model shipped with this package.
        revision: branch, tag or commit on the hub.
        trust_remote_code: run Python code that comes with the model.
        any_model: take one whose family is in no table too, of which the modules can be reached by their paths.

    Raises:
        RequestError: there is no such model, its architecture is not supported, its weights are quantized, or it
            needs its own code.
        JobError: its files are damaged.
    """
    source = model_source(path, revision)
    if run := model_run(path, revision):
        run.check_files(verify=True)
    with _quiet():
        adapter, base, config = _what_to_load(source, trust_remote_code, any_model)
        # What is merged is added up in float32, whatever it is rounded to after that.
        hf = _load_weights(base, config, torch.float32 if adapter else dtype, trust_remote_code)
        if adapter:
            hf = merge(hf, adapter, dtype)
    tokenizer = partial(load_tokenizer, path, revision=revision, trust_remote_code=trust_remote_code)
    return LanguageModel(hf.to(torch.device(device)), tokenizer)  # pyright: ignore[reportArgumentType]


def check_language_model(path: str, *, revision: str | None = None) -> None:
    """Refuse, before weights are read, a model that `load_language_model` would refuse for what its config says."""
    with _quiet():
        _what_to_load(model_source(path, revision), trust_remote_code=False, any_model=False)


def heads_path(path: str, layer: int, *, revision: str | None = None) -> str | None:
    """The path of the last linear map of an attention, whose input is the heads one after another; None where the
    family of the model is not known. No weights are read.

    Args:
        path, revision: of the model, as of `load_language_model`.
        layer: the block.

    Raises:
        RequestError: there is no such model.
        JobError: its files are damaged.
    """
    with _quiet():
        _, _, config = _what_to_load(model_source(path, revision), trust_remote_code=False, any_model=True)
    if not is_supported(config):
        return None
    family = supported_family(config)
    return f"{family.blocks}.{layer}.{family.attn_heads}"


def load_tokenizer(
    path: str, *, revision: str | None = None, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """The tokenizer of the model at `path` (see `load_language_model`).

    Raises:
        RequestError: there is no such model, or it came without a tokenizer.
        JobError: the tokenizer's files are damaged.
    """
    source = tokenizer_source(model_source(path, revision))
    if not _brings_tokenizer(source) and (adapter := find_adapter(source)):
        source = adapter.base
    if not _brings_tokenizer(source):
        raise RequestError(
            f"model.path={path}: expected a tokenizer in {source.location} (one of {', '.join(_TOKENIZER_FILES)}), "
            "found none; save the model's tokenizer there with `save_pretrained`"
        )
    from transformers import AutoTokenizer

    try:
        with _quiet():
            return AutoTokenizer.from_pretrained(source.folder, **_options(source, trust_remote_code))
    except OSError as error:
        raise denied(error, source.location) or _unreachable(source, error) from error
    except (ValueError, TypeError, KeyError) as error:
        raise JobError(
            f"model.path={path}: expected a tokenizer that transformers reads in {source.location}, found "
            f"{_one_line(error)}; save or download the tokenizer again"
        ) from error


def _brings_tokenizer(source: Source) -> bool:
    folder = Path(source.location)
    return source.origin in (Origin.hub, Origin.gguf) or any((folder / name).exists() for name in _TOKENIZER_FILES)


def fresh_model(hf: PreTrainedModel, seed: int) -> PreTrainedModel:
    """A model of the same configuration and number format as its own initializer leaves it."""
    with torch.random.fork_rng(devices=[]), _quiet():
        torch.manual_seed(seed)
        fresh: Any = type(hf)(copy.deepcopy(hf.config))
    return fresh.to(dtype=hf.dtype)


def save_model(model: LanguageModel, folder: Path) -> None:
    """Write weights (safetensors), configuration and, if there is one, the tokenizer, as a Hugging Face folder."""
    with _quiet():
        model.hf.save_pretrained(folder)
        try:
            model.tokenizer.save_pretrained(folder)
        except RequestError as error:
            console.warn(f"no tokenizer is written: {error}")


def _what_to_load(
    source: Source, trust_remote_code: bool, any_model: bool
) -> tuple[Adapter | None, Source, PretrainedConfig]:
    """The adapter that is to be merged, if there is one, where the weights are, and their config."""
    adapter = find_adapter(source)
    base = adapter.base if adapter else source
    config = _load_config(base, trust_remote_code, any_model)
    if not any_model:
        supported_family(config)
    return adapter, base, config


def _load_config(source: Source, trust_remote_code: bool, any_model: bool) -> PretrainedConfig:
    """The model's config, refused before weights are read if the model needs what it cannot have."""
    from transformers import CONFIG_MAPPING, AutoConfig, PretrainedConfig

    if source.origin is Origin.gguf:
        return gguf_config(source)
    try:
        raw, _ = PretrainedConfig.get_config_dict(source.location, **_options(source, trust_remote_code))
    except OSError as error:
        if source.origin is not Origin.hub:
            raise denied(error, source.location) or _damaged_config(source, error) from error
        raise denied(error, source.location) or _unreachable(source, error) from error
    _check_model_type(source, raw, trust_remote_code, CONFIG_MAPPING if any_model else FAMILIES)
    _check_number_format(source, raw)
    try:
        if trust_remote_code and "auto_map" in raw:
            return AutoConfig.from_pretrained(source.location, **_options(source, trust_remote_code))
        config = CONFIG_MAPPING[raw["model_type"]].from_dict(plain_config(raw), name_or_path=source.location)
        assert isinstance(config, PretrainedConfig)
        return config
    except _INVALID_CONFIG as error:
        raise _damaged_config(source, error) from error


def _check_model_type(source: Source, raw: dict[str, Any], trust_remote_code: bool, known: Container[str]) -> None:
    model_type, has_own_code = raw.get("model_type", ""), "auto_map" in raw
    if model_type in known or (has_own_code and trust_remote_code):
        return
    if has_own_code:
        raise RequestError(
            f"model.path={source.path}: expected a model type that needs no code of its own, found {model_type!r}, "
            "which brings Python code to be run; read that code, and if you trust it say model.trust_remote_code=true"
        )
    if known is not FAMILIES:
        raise RequestError(
            f"model.path={source.path}: expected a model type that transformers has, found {model_type!r}; choose "
            "another model"
        )
    raise RequestError(f"model.path={source.path}: {unsupported(model_type)}")


def _check_number_format(source: Source, raw: dict[str, Any]) -> None:
    if method := quantization(raw):
        raise RequestError(
            f"model.path={source.path}: expected weights that are plain numbers, found weights quantized by {method}; "
            "give the model as it was before, or one saved after transformers' `dequantize()` (if its weights are "
            "plain, take the entry out of its config.json)"
        )


def _load_weights(
    source: Source, config: PretrainedConfig, dtype: torch.dtype, trust_remote_code: bool
) -> PreTrainedModel:
    if source.origin is Origin.embedded and source.revision == AS_INITIALIZED:
        return _initialized(config, dtype)
    try:
        if source.origin is not Origin.hub:
            check_weight_files(Path(source.location), config)
        loaded: Any = _loader(config).from_pretrained(
            source.folder,
            config=config,
            dtype=dtype,
            weights_only=True,
            output_loading_info=True,
            attn_implementation=None,
            adapter_kwargs=WITHOUT_ADAPTER,
            **_options(source, trust_remote_code),
        )
    except OSError as error:
        if is_out_of_memory(error):
            raise
        raise denied(error, source.location) or _unreachable(source, error) from error
    except ImportError as error:
        raise RequestError(
            f"model.path={source.path}: loading it takes what is not installed here: {_one_line(error)}"
        ) from error
    except _DAMAGED_WEIGHTS as error:
        if is_out_of_memory(error):
            raise
        raise denied(error, source.location) or JobError(
            f"model.path={source.path}: expected weights that fit the config in {source.location}, found "
            f"{_one_line(error)}; save or download the model again"
        ) from error
    hf, report = loaded
    if source.origin is Origin.gguf:
        made_plain(hf)
    # transformers fills what is missing with random numbers.
    if missing := sorted(report["missing_keys"]):
        raise JobError(
            f"model.path={source.path}: expected all weights of a {config.model_type} in {source.location}, found none "
            f"for {missing[0]} ({len(missing)} missing in all); save or download the model again"
        )
    if unused := sorted(report["unexpected_keys"]):
        console.warn(
            f"{source.location}: {len(unused)} weights have no place in a {config.model_type} with this config.json "
            f"and are left out: {', '.join(unused[:3])}{' …' if len(unused) > 3 else ''}"
        )
    return hf


def _loader(config: PretrainedConfig) -> Any:
    """What reads the weights."""
    from transformers import AutoModelForCausalLM

    own_code = type(config).__module__.startswith("transformers_modules")
    return AutoModelForCausalLM if own_code or is_supported(config) else model_class(config)


def _initialized(config: PretrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    """An embedded model as its training began (`scripts/train_demo_models.py`): from seed 0, kept in float16."""
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        hf = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return hf.half().to(dtype)


def _options(source: Source, trust_remote_code: bool) -> dict[str, Any]:
    """What every `from_pretrained` is given; a folder never makes it ask the hub."""
    options = {"trust_remote_code": trust_remote_code, "local_files_only": source.origin is not Origin.hub}
    options |= gguf_options(source)
    on_the_hub = source.origin is Origin.hub and source.revision is not None
    return {**options, "revision": source.revision} if on_the_hub else options


def _unreachable(source: Source, error: OSError) -> RequestError | JobError:
    if source.origin is Origin.hub and (refusal := refusal_of(error)) is not None:
        return refusal.about(f"model.path={source.path}")
    if source.origin is Origin.hub:
        return RequestError(
            f"model.path={source.path}: expected a local folder or a model on the hub "
            f"(revision {source.revision or 'main'}), found {_one_line(error)}; check the name and the network, or "
            "give the path of a downloaded folder"
        )
    return RequestError(
        f"model.path={source.path}: expected a complete model in {source.location}, found {_one_line(error)}; "
        "save or download the model again"
    )


def _damaged_config(source: Source, error: Exception) -> JobError:
    return JobError(
        f"model.path={source.path}: expected a valid config.json in {source.location}, found {_one_line(error)}; "
        "save or download the model again"
    )


def _one_line(error: Exception) -> str:
    """The first sentence of a message that may run over a page."""
    if type(error) is ValueError and "\n" not in str(error):
        return brief(str(error))
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:2])[:300].rstrip('.: ')}" if lines else type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps transformers' progress bars and loading reports off stderr."""
    from transformers.utils import logging as transformers_logging

    loggers = [logging.getLogger(name) for name in ("transformers", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    progress = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with no_bar_of_gguf():
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if progress:
            transformers_logging.enable_progress_bar()
