"""Configuration into objects: the one place where the two meet."""

from __future__ import annotations

import torch

from sae_cli.config.data import DataConfig, HfData, StdlibData, SyntheticData, TextData
from sae_cli.config.hook import HookConfig
from sae_cli.config.model import ModelConfig
from sae_cli.config.split import Split
from sae_cli.data.documents import Corpus
from sae_cli.data.hub import HubCorpus
from sae_cli.data.packing import PackingPolicy
from sae_cli.data.rows import RowStream
from sae_cli.data.stdlib import StdlibCorpus
from sae_cli.data.synthetic import MOST_FREQUENT, SyntheticActivations
from sae_cli.data.text import TextCorpus
from sae_cli.errors import RequestError
from sae_cli.models import LanguageModel, Site, load_language_model

_LONGEST_DEFAULT_CONTEXT = 1024


def device(name: str) -> torch.device:
    """`auto` is the GPU if there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(name)
    except RuntimeError as error:
        raise RequestError(f"device={name}: expected auto, cpu, cuda or cuda:N") from error
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise RequestError(f"device={name}: this machine has {torch.cuda.device_count()} CUDA devices")
    return chosen


def language_model(config: ModelConfig, on: torch.device) -> LanguageModel:
    return load_language_model(
        config.path,
        revision=config.revision,
        dtype=getattr(torch, config.dtype.value),
        device=on,
        trust_remote_code=config.trust_remote_code,
    )


def site(hook: HookConfig, layer: int, model: LanguageModel) -> Site:
    """The place in the model that is named; refused where the model has no such place."""
    chosen = Site(hook.point, layer)
    model.check_site(chosen)
    return chosen


def corpus(config: DataConfig) -> Corpus:
    match config:
        case StdlibData():
            return StdlibCorpus(config.tests, config.exclude, config.held_out_fraction)
        case TextData():
            if not config.path:
                raise RequestError("data.path= is empty: expected a file, a folder or a glob of text")
            return TextCorpus(config.path, config.column, config.domain, config.held_out_fraction)
        case HfData():
            return HubCorpus(
                config.path,
                config.subset,
                config.split,
                config.column,
                config.domain,
                config.revision,
                config.shuffle_documents,
                config.held_out_fraction,
            )
    raise AssertionError(type(config))


def synthetic(config: SyntheticData) -> SyntheticActivations:
    if config.mean_active >= (most := MOST_FREQUENT * config.n_features):
        raise RequestError(
            f"data.mean_active={config.mean_active:g}: expected below {most:g}, "
            f"half of data.n_features={config.n_features}"
        )
    return SyntheticActivations(
        d=config.d,
        n_features=config.n_features,
        mean_active=config.mean_active,
        frequency_exponent=config.frequency_exponent,
        correlation=config.correlation,
        noise=config.noise,
        seed=config.seed,
    )


def packing_policy(config: DataConfig, model: LanguageModel) -> PackingPolicy:
    """The context (at most what the model was made for), the BOS and the separator."""
    context = config.context or min(model.max_context, _LONGEST_DEFAULT_CONTEXT)
    if not 2 <= context <= model.max_context:
        raise RequestError(f"data.context={context}: expected 2 to {model.max_context} for this model")
    tokenizer = model.tokenizer
    return PackingPolicy(
        context=context,
        bos_id=_token_id(tokenizer.bos_token_id) if config.bos else None,
        separator_id=_token_id(tokenizer.eos_token_id),
    )


def _token_id(value: object) -> int | None:
    """A special token's id, or None where the tokenizer has none (0 is an id)."""
    return value if isinstance(value, int) else None


def row_stream(config: DataConfig, model: LanguageModel, split: Split) -> RowStream:
    return RowStream(corpus(config), model.tokenizer, packing_policy(config, model), split, config.seed)
