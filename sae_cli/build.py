"""Configuration into objects: the one place where the two meet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from sae_cli.config.commands.train import TrainConfig
from sae_cli.config.data import DataConfig, HfData, InstalledData, RecordData, StdlibData, TextData
from sae_cli.config.hook import HookPoint, LogitUpdateHook, ModuleHook, SiteConfig
from sae_cli.config.model import ModelConfig
from sae_cli.config.sae import (
    BatchTopKSae,
    DecoderNorm,
    GatedSae,
    JumpPenalty,
    JumpReluSae,
    MatryoshkaSae,
    ReluSae,
    TopKSae,
    group_sizes,
)
from sae_cli.config.split import Split
from sae_cli.dictionaries.auxiliary import AuxiliaryLoss
from sae_cli.dictionaries.batch_topk import BatchTopKObjective
from sae_cli.dictionaries.gated import GatedObjective
from sae_cli.dictionaries.jump_relu import JumpReluObjective
from sae_cli.dictionaries.matryoshka import MatryoshkaObjective
from sae_cli.dictionaries.objective import MakeObjective, tied_encoder_scale
from sae_cli.dictionaries.relu import ReluObjective
from sae_cli.dictionaries.topk import TopKObjective
from sae_cli.errors import RequestError
from sae_cli.escaping import brief
from sae_cli.models import LanguageModel, Site, chat_renderer, load_language_model
from sae_cli.text.content import Chats, Content, TokenIds, plain_text
from sae_cli.text.documents import Corpus
from sae_cli.text.domains import OnlyDomains
from sae_cli.text.hub import HubCorpus
from sae_cli.text.installed import InstalledCorpus
from sae_cli.text.local_text import TextCorpus
from sae_cli.text.packing import PackingPolicy
from sae_cli.text.rows import RowStream
from sae_cli.text.stdlib import StdlibCorpus

_LONGEST_DEFAULT_CONTEXT = 1024


def device(name: str) -> torch.device:
    """`auto` is the GPU if there is one. A GPU is made the current one, which is where kernels are launched.

    Raises:
        RequestError: there is no such device, or nothing here runs on it.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(name)
    except RuntimeError as error:
        raise RequestError(f"device={name}: expected auto, cpu, cuda or cuda:N") from error
    if chosen.type not in ("cpu", "cuda"):
        raise RequestError(f"device={name}: expected auto, cpu, cuda or cuda:N, found {chosen.type}; use cpu there")
    if chosen.type == "cuda":
        if (chosen.index or 0) >= (there := torch.cuda.device_count()):
            raise RequestError(f"device={name}: this machine has {there} CUDA devices")
        torch.cuda.set_device(chosen)
    return chosen


def language_model(
    config: ModelConfig, data: DataConfig, on: torch.device, places: Sequence[SiteConfig] = ()
) -> LanguageModel:
    """The model as this data meets it.

    Args:
        config: names the model; of any family where all places are modules that are named by their paths.
        data: the text.
        on: where it runs.
        places: that are read or written.
    """
    model = load_language_model(
        config.path,
        revision=config.revision,
        dtype=getattr(torch, config.dtype.value),
        device=on,
        trust_remote_code=config.trust_remote_code,
        any_model=bool(places) and all(each.hook.point is HookPoint.module for each in places),
    )
    if data.gaussian_embeddings:
        model.replace_embeddings(data.seed)
    return model


def site(named: SiteConfig, model: LanguageModel) -> Site:
    """The place in the model that is named; refused where the model has no such place."""
    hook, layer = named
    if isinstance(hook, ModuleHook) and hook.point is HookPoint.module:
        chosen = Site.of_module(hook.path, hook.side)
        model.check_site(chosen)
        return chosen
    mode = hook.mode if isinstance(hook, LogitUpdateHook) else None
    chosen = Site(hook.point, model.n_layers - 1 if layer is None else layer, mode)
    model.check_site(chosen)
    return chosen


def objective(config: TrainConfig, width: int) -> MakeObjective:
    """How an architecture's training begins.

    Args:
        config: of the training.
        width: of what is written.
    """
    sae, features = config.sae, config.dict_size
    unit = sae.decoder_norm is DecoderNorm.unit
    short = tied_encoder_scale(features, width)
    match sae:
        case ReluSae():
            return lambda start: ReluObjective(start.read * short, start.written, start.b_dec, unit, config.l1)
        case GatedSae():
            return lambda start: GatedObjective(start.read * short, start.written, start.b_dec, unit, config.l1)
        case JumpReluSae():
            length = width**0.5  # of the mean activation, once scaled
            weight = sae.l0_coefficient * width if sae.penalty is JumpPenalty.l0_target else config.l1
            return lambda start: JumpReluObjective(
                start.read * short,
                start.written,
                start.b_dec,
                unit,
                penalty=sae.penalty.value,
                coefficient=weight,
                target=config.k,
                bandwidth=sae.bandwidth * length,
                threshold=sae.threshold * length,
            )
        case MatryoshkaSae():
            sizes = group_sizes(sae.fractions, features)
            auxiliary = _auxiliary(sae, width)
            return lambda start: MatryoshkaObjective(
                start.read, start.written, start.b_dec, unit, config.k, auxiliary, sizes
            )
        case BatchTopKSae():
            auxiliary = _auxiliary(sae, width)
            return lambda start: BatchTopKObjective(start.read, start.written, start.b_dec, unit, config.k, auxiliary)
        case TopKSae():
            auxiliary = _auxiliary(sae, width)
            return lambda start: TopKObjective(start.read, start.written, start.b_dec, unit, config.k, auxiliary)
    raise AssertionError(f"no objective for {type(sae).__name__}")


def _auxiliary(sae: TopKSae, width: int) -> AuxiliaryLoss:
    return AuxiliaryLoss(sae.aux_coefficient, sae.aux_k or max(1, width // 2))


def corpus(config: DataConfig, content: Content = plain_text) -> Corpus:
    """The text; `content` says how the fields of records become documents."""
    whole = _whole_corpus(config, content)
    return OnlyDomains(whole, config.domains) if config.domains else whole


def _whole_corpus(config: DataConfig, content: Content) -> Corpus:
    match config:
        case StdlibData():
            return StdlibCorpus(config.tests, config.exclude, config.held_out_fraction)
        case InstalledData():
            return InstalledCorpus(config.prose, config.exclude, config.held_out_fraction)
        case TextData():
            if not config.path:
                raise RequestError("data.path= is empty: expected a file, a folder or a glob of text")
            return TextCorpus(config.path, config.column, config.domain, config.held_out_fraction, content)
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
                content,
            )
    raise AssertionError(type(config))


def packing_policy(config: DataConfig, model: LanguageModel) -> PackingPolicy:
    """The context (at most what the model was made for), the BOS and the separator."""
    context = config.context or min(model.max_context, _LONGEST_DEFAULT_CONTEXT)
    if not 2 <= context <= model.max_context:
        raise RequestError(f"data.context={context}: expected 2 to {model.max_context} for this model")
    tokenizer = model.tokenizer
    return PackingPolicy(
        context=context,
        bos_id=_token_id(tokenizer.bos_token_id) if config.bos else None,
        separator_ids=_separator(config.separator, tokenizer),
    )


def _separator(asked: str, tokenizer: Any) -> tuple[int, ...]:
    """The tokens after every document.

    Raises:
        RequestError: the tokenizer has none for what is asked.
    """
    if asked == "none":
        return ()
    if asked in ("eos", "bos"):
        found = _token_id(getattr(tokenizer, f"{asked}_token_id"))
        if found is None and asked == "bos":
            raise RequestError("data.separator=bos: the model's tokenizer has no BOS token; give eos, none or a text")
        return () if found is None else (found,)
    text = asked.replace("\\n", "\n").replace("\\t", "\t")
    ids = tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
    if not ids or tokenizer.unk_token_id in ids:
        raise RequestError(
            f'data.separator="{brief(asked)}": expected eos, bos, none, or a text that the tokenizer has '
            f"tokens for, found {'only part of it' if ids else 'none'}"
        )
    return tuple(ids)


def _token_id(value: object) -> int | None:
    """A special token's id, or None where the tokenizer has none (0 is an id)."""
    return value if isinstance(value, int) else None


def row_stream(config: DataConfig, model: LanguageModel, split: Split) -> RowStream:
    documents = corpus(config, _content(config, model))
    return RowStream(documents, model.tokenizer, packing_policy(config, model), split, config.seed)


def _content(config: DataConfig, model: LanguageModel) -> Content:
    """What the fields of records hold.

    Raises:
        RequestError: the model's tokenizer cannot write chats.
    """
    match config:
        case RecordData(tokens=True):
            return TokenIds(model.vocab_size)
        case RecordData(chat=True):
            return Chats(chat_renderer(model.tokenizer))
    return plain_text
