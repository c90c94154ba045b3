"""SAELens, version 6 and the layouts before it: `cfg.json` and `sae_weights.safetensors` in a folder.

Its encoder matrix is [d, F]. BatchTopK and Matryoshka dictionaries are saved for inference, as JumpReLU; checkpoints of
their training hold one threshold.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from sae_cli.artifacts.foreign_files import ForeignFiles, as_float, unreadable
from sae_cli.dictionaries.base import Dictionary
from sae_cli.dictionaries.normalization import Normalization
from sae_cli.documents import Document, Facts
from sae_cli.errors import RequestError
from sae_cli.runs.formats.format import Claim, Imported, Outgoing, Written
from sae_cli.runs.formats.places import HEADS, transformer_lens, transformer_lens_model
from sae_cli.runs.formats.weights import (
    Weights,
    assemble,
    beginning,
    cannot,
    count,
    inner,
    number,
    row_norms,
    text,
    whole,
    with_center,
)

CONFIG, WEIGHTS, SPARSITY = "cfg.json", "sae_weights.safetensors", "sparsity.safetensors"
_WRITTEN_AS = "6.54.0"
_RENAMED = {"hook_point": "hook_name", "activation_fn_str": "activation_fn", "hook_point_layer": "hook_layer"}
_ARCHITECTURES = {
    "standard": "relu",
    "topk": "topk",
    "jumprelu": "jump_relu",
    "gated": "gated",
    "batchtopk": "batch_topk",
    "matryoshka_batchtopk": "matryoshka",
}
_OF_TRAINING = ("batchtopk", "matryoshka_batchtopk")
"""Found in checkpoints only."""
_NORMALIZATIONS = {"layer_norm": Normalization.layer_norm, "constant_norm_rescale": Normalization.rms_norm}
_NORMALIZED = {
    "covariance_whitening": "activations are whitened by a matrix that its files do not hold",
    "expected_average_only_in": "activations are scaled by a factor that its files do not hold",
}
_BY_HEADS = "hook_z"
_LEAST = 1e-10
"""Added to a frequency before its logarithm is taken."""


class SaeLens:
    """See the module."""

    name = "saelens"
    marks = (WEIGHTS,)
    alone = False

    def recognise(self, files: ForeignFiles) -> bool:
        return files.has(CONFIG) and files.has(WEIGHTS)

    def read(self, files: ForeignFiles) -> Imported:
        path = files.folder / CONFIG
        config, metadata = _config(files.json(CONFIG))
        architecture = text(config, "architecture") or "standard"
        if architecture not in _ARCHITECTURES:
            known = ", ".join(_ARCHITECTURES)
            raise cannot(path, f"a dictionary of architecture={architecture!r}", f"this version has {known}")
        normalized = config.get("normalize_activations") or "none"
        normalization = _NORMALIZATIONS.get(str(normalized))
        by_one_factor = normalized == "expected_average_only_in" and _is_old(metadata)
        if normalized != "none" and not (normalization or by_one_factor):
            why = _NORMALIZED.get(str(normalized), "it is not known here")
            raise cannot(path, f"normalize_activations={normalized!r}", why)
        folded = beginning(normalization)
        if by_one_factor:
            folded.append("normalize_activations: its versions before 6 folded the factor when they saved; check L0")
        weights = Weights.of(files, WEIGHTS)
        subtracts = config.get("apply_b_dec_to_input", True) is True
        dictionary = _dictionary(weights, architecture, config, path, subtracts, normalization, folded)
        hook = text(metadata, "hook_name")
        if (head := metadata.get("hook_head_index")) is not None:
            raise cannot(path, f"hook_head_index={head!r}", "dictionaries of one head have no place here")
        if hook and (config.get("reshape_activations") == _BY_HEADS or hook.endswith(_BY_HEADS)):
            folded.append("reads the heads of the attention one after another (hook_z)")
        return Imported(
            dictionary=dictionary,
            model=text(metadata, "model_name"),
            hook=hook,
            claims=_claims(files, config, architecture, dictionary),
            folded=tuple(folded),
            bos=bos if isinstance(bos := metadata.get("prepend_bos"), bool) else None,
        )

    def write(self, outgoing: Outgoing) -> Written:
        hook = transformer_lens(outgoing.hook, outgoing.layer)
        if hook is None:
            raise RequestError(f"to=saelens: expected a hook point that TransformerLens has, found {outgoing.hook}")
        dictionary, folded = _as_theirs(outgoing.dictionary)
        tensors = {name: each for name, each in dictionary.tensors().items() if name in _WRITTEN}
        tensors["W_enc"] = dictionary.W_enc.T.contiguous()
        config: Document = {
            "architecture": _NAMES[dictionary.architecture],
            "d_in": dictionary.d_in,
            "d_sae": dictionary.n_features,
            "dtype": "float32",
            "device": "cpu",
            "apply_b_dec_to_input": dictionary.b_pre is None,
            "normalize_activations": _normalize_activations(dictionary.normalization),
            "reshape_activations": _BY_HEADS if outgoing.hook == HEADS else "none",
            "metadata": {
                "sae_lens_version": _WRITTEN_AS,
                "model_name": transformer_lens_model(outgoing.model),
                "hook_name": hook,
                "prepend_bos": outgoing.bos,
                **({"context_size": outgoing.context} if outgoing.context else {}),
            },
        }
        if dictionary.architecture == "topk":
            k = int(tensors.pop("k"))
            config |= {"k": k, "rescale_acts_by_decoder_norm": False}
        files = {WEIGHTS: tensors}
        if outgoing.frequency is not None:
            files[SPARSITY] = {"sparsity": (outgoing.frequency.double() + _LEAST).log10().float()}
        return Written(documents={CONFIG: config}, tensors=files, folded=folded)


_NAMES = {
    "relu": "standard",
    "topk": "topk",
    "jump_relu": "jumprelu",
    "batch_topk": "jumprelu",
    "matryoshka": "jumprelu",
    "gated": "gated",
}
_WRITTEN = frozenset({"W_dec", "b_enc", "b_dec", "threshold", "b_gate", "r_mag", "b_mag", "k"})


def _normalize_activations(normalization: Normalization | None) -> str:
    return next((name for name, each in _NORMALIZATIONS.items() if each is normalization), "none")


def _as_theirs(dictionary: Dictionary) -> tuple[Dictionary, tuple[str, ...]]:
    """With `b_dec` subtracted from the input, or nothing: they know no other center."""
    if dictionary.b_pre is None or not dictionary.b_pre.any():
        return dictionary, ()
    return with_center(dictionary, subtracts=False)


def _config(found: Document) -> tuple[Facts, Facts]:
    """The settings of the dictionary, and those of where it belongs; flat before version 6."""
    config = {_RENAMED.get(key, key): value for key, value in found.items()}
    metadata = inner(config, "metadata")
    version = text(metadata, "sae_lens_version") or text(config, "sae_lens_version")
    if metadata and version:
        return config, metadata
    if config.get("activation_fn") == "topk":
        config |= {"architecture": "topk", "k": inner(config, "activation_fn_kwargs").get("k")}
    if isinstance(normalised := config.get("normalize_activations"), bool):
        config["normalize_activations"] = "expected_average_only_in" if normalised else "none"
    return config, config


def _is_old(metadata: Facts) -> bool:
    found = re.match(r"(\d+)\.", text(metadata, "sae_lens_version") or "0.")
    return found is not None and int(found[1]) < 6


def _dictionary(
    weights: Weights,
    architecture: str,
    config: Facts,
    path: Path,
    subtracts: bool,
    normalization: Normalization | None,
    folded: list[str],
) -> Dictionary:
    W_enc, W_dec = weights.take("W_enc", "d F").T, weights.take("W_dec", "F d")
    tensors = {"b_dec": weights.take("b_dec", "d")}
    if "scaling_factor" in weights.names and not bool((weights.take("scaling_factor", "F") == 1).all()):
        raise cannot(weights.path, "a scaling_factor other than 1", "it applies in a mode of its tool only")
    if architecture == "gated":
        tensors |= {name: weights.take(name, "F") for name in ("b_gate", "r_mag", "b_mag")}
        weights.drop("b_enc")
    else:
        tensors["b_enc"] = weights.take("b_enc", "F")
    if architecture == "jumprelu":
        log = "log_threshold" in weights.names
        tensors["threshold"] = weights.take("log_threshold", "F").exp() if log else weights.take("threshold", "F")
    if architecture == "topk":
        tensors["k"] = count(whole(path, "k", config.get("k")))
    if architecture in _OF_TRAINING:
        tensors["threshold"] = weights.take("topk_threshold", "").expand(len(W_dec)).clone()
    if architecture == "matryoshka_batchtopk":
        tensors["group_sizes"] = _group_sizes(path, config, len(W_dec))
    if architecture in ("topk", *_OF_TRAINING) and config.get("rescale_acts_by_decoder_norm") is True:
        norms = row_norms(W_dec)
        W_enc, W_dec = W_enc * norms[:, None], W_dec / norms[:, None]
        tensors["b_enc"] = tensors["b_enc"] * norms
        folded.append("rescale_acts_by_decoder_norm: decoder norms into the encoder")
    weights.finish()
    kind = _ARCHITECTURES[architecture]
    return assemble(weights.path, kind, subtracts, normalization, W_enc=W_enc, W_dec=W_dec, **tensors)


def _group_sizes(path: Path, config: Facts, n_features: int) -> Tensor:
    """How many features each nested dictionary has more than the one before; the last has all."""
    widths: object = config.get("matryoshka_widths")
    if not isinstance(widths, list) or not widths:
        raise unreadable(path, "matryoshka_widths, a list of widths", "none")
    ends = [whole(path, "matryoshka_widths", each) for each in cast("list[object]", widths)]
    ends += [] if ends[-1] == n_features else [n_features]
    return torch.tensor([float(end - start) for start, end in zip([0, *ends], ends, strict=False)])


def _claims(files: ForeignFiles, config: Facts, architecture: str, dictionary: Dictionary) -> tuple[Claim, ...]:
    claims: list[Claim] = []
    if architecture == "topk":
        claims.append(Claim("k", float(dictionary.get_buffer("k")), CONFIG))
    if architecture in _OF_TRAINING and (k := number(config.get("k"))) is not None:
        claims.append(Claim("l0", k, f"k in {CONFIG}"))
    if files.has(SPARSITY):
        found = files.tensors(SPARSITY).get("sparsity")
        if found is not None and found.shape == (dictionary.n_features,):
            logs: Tensor = as_float(files.folder / SPARSITY, "sparsity", found)
            claims.append(Claim("l0", float(torch.pow(10, logs.double()).sum()), SPARSITY))
    return tuple(claims)
