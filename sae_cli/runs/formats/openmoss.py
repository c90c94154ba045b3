"""OpenMOSS (llamascopium): `config.json` and `sae_weights.safetensors`; and Llama Scope, `hyperparams.json` and
`checkpoints/final.safetensors`, of before.

Nothing is subtracted from the input. Trained with `norm_activation: dataset-wise`, a dictionary reads s·x, s = √d over
the data's mean norm n: W_E (s x) + b_E > θ is (W_E) x + b_E/s > θ/s, and its features are in units of x then.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sae_cli.artifacts.foreign_files import ForeignFiles, unreadable
from sae_cli.dictionaries.normalization import Normalization
from sae_cli.documents import Document, Facts
from sae_cli.errors import RequestError
from sae_cli.runs.formats.format import Claim, Imported, Outgoing, Written
from sae_cli.runs.formats.places import HEADS, transformer_lens
from sae_cli.runs.formats.weights import (
    Weights,
    assemble,
    beginning,
    cannot,
    count,
    inner,
    number,
    refuse_normalized,
    row_norms,
    text,
    whole,
    with_center,
)

CONFIG, WEIGHTS = "config.json", "sae_weights.safetensors"
OLD_CONFIG, OLD_WEIGHTS = "hyperparams.json", "checkpoints/final.safetensors"
_ACTIVATIONS = {"relu": "relu", "topk": "topk", "jumprelu": "jump_relu"}
_LOG_THRESHOLDS = ("activation_function.log_jumprelu_threshold", "log_jumprelu_threshold")
_NORM = "dataset_average_activation_norm"


class OpenMoss:
    """What llamascopium writes."""

    name = "openmoss"
    marks = (WEIGHTS,)
    alone = False

    def recognise(self, files: ForeignFiles) -> bool:
        return files.has(CONFIG) and files.has(WEIGHTS)

    def read(self, files: ForeignFiles) -> Imported:
        path, config = files.folder / CONFIG, files.json(CONFIG)
        _refuse(files, config)
        weights = Weights.of(files, WEIGHTS)
        act = text(config, "act_fn") or "relu"
        if act not in _ACTIVATIONS:
            raise cannot(path, f"act_fn={act!r}", f"this version has {', '.join(_ACTIVATIONS)}")
        long = "encoder.weight" in weights.names
        W_enc = weights.take("encoder.weight", "F d") if long else weights.take("W_E", "d F").T
        W_dec = weights.take("decoder.weight", "d F").T if long else weights.take("W_D", "F d")
        b_enc, b_dec = weights.take("encoder.bias" if long else "b_E", "F"), torch.zeros(W_dec.shape[1])
        if (bias := "decoder.bias" if long else "b_D") in weights.names:
            b_dec = weights.take(bias, "d")
        tensors, folded = (
            {"W_enc": W_enc, "W_dec": W_dec, "b_enc": b_enc, "b_dec": b_dec},
            beginning(_normalization(config)),
        )
        log = next((each for each in _LOG_THRESHOLDS if each in weights.names), None)
        if act == "jumprelu":
            if log is None:
                raise unreadable(weights.path, f"the tensor {_LOG_THRESHOLDS[0]}", ", ".join(sorted(weights.names)))
            tensors["threshold"] = weights.take(log, "F").exp()
        norm = _norm(weights, config)
        weights.finish()
        if act == "topk":
            tensors["k"] = count(whole(path, "top_k", config.get("top_k")))
        tensors = _ungated(tensors, config, folded)
        return _imported(files, config, weights, _ACTIVATIONS[act], tensors, norm, folded)

    def write(self, outgoing: Outgoing) -> Written:
        given, hook = outgoing.dictionary, None
        if outgoing.hook != HEADS:  # which its hook_z has by heads
            hook = transformer_lens(outgoing.hook, outgoing.layer)
        acts = {"relu": "relu", "topk": "topk", "jump_relu": "jumprelu", "batch_topk": "jumprelu"}
        if given.architecture not in acts:
            raise RequestError(f"to=openmoss: expected one of {', '.join(acts)}, found {given.architecture}")
        if hook is None:
            raise RequestError(f"to=openmoss: expected a hook point that TransformerLens has, found {outgoing.hook}")
        refuse_normalized("openmoss", given, Normalization.rms_norm)
        dictionary, folded = with_center(given, subtracts=False)
        tensors = {
            "W_E": dictionary.W_enc.T.contiguous(),
            "b_E": dictionary.b_enc,
            "W_D": dictionary.W_dec,
            "b_D": dictionary.b_dec,
        }
        if acts[given.architecture] == "jumprelu":
            threshold = dictionary.get_buffer("threshold")
            if not bool((threshold > 0).all()):
                raise RequestError("to=openmoss: expected thresholds above 0, whose logarithms it stores")
            tensors[_LOG_THRESHOLDS[0]] = threshold.log()
        config: Document = {
            "sae_type": "sae",
            "hook_point_in": hook,
            "hook_point_out": hook,
            "d_model": given.d_in,
            "expansion_factor": given.n_features / given.d_in,
            "act_fn": acts[given.architecture],
            "top_k": int(given.get_buffer("k")) if given.architecture == "topk" else outgoing.k or 0,
            "norm_activation": "token-wise" if given.normalization else "inference",
            "sparsity_include_decoder_norm": False,
            "use_decoder_bias": True,
            "dtype": "torch.float32",
            "model_name": outgoing.model,
        }
        return Written(documents={CONFIG: config}, tensors={WEIGHTS: tensors}, folded=folded)


class LlamaScope:
    """The release of 2024: one threshold for all features."""

    name = "llama_scope"
    marks = (OLD_WEIGHTS,)
    alone = False

    def recognise(self, files: ForeignFiles) -> bool:
        return files.has(OLD_CONFIG) and files.has(OLD_WEIGHTS)

    def read(self, files: ForeignFiles) -> Imported:
        path, config = files.folder / OLD_CONFIG, files.json(OLD_CONFIG)
        _refuse(files, config)
        weights = Weights.of(files, OLD_WEIGHTS)
        tensors = weights.autoencoder("encoder.weight", "decoder.weight", "encoder.bias", "decoder.bias")
        threshold = number(config.get("jump_relu_threshold"))
        if threshold is None:
            raise unreadable(path, "jump_relu_threshold", repr(config.get("jump_relu_threshold")))
        tensors["threshold"] = torch.full_like(tensors["b_enc"], threshold)
        norm, folded = number(inner(config, _NORM).get("in")), beginning(_normalization(config))
        tensors = _ungated(tensors, config, folded)
        return _imported(files, config, weights, "jump_relu", tensors, norm, folded)


def _refuse(files: ForeignFiles, config: Facts) -> None:
    kind, read, written = text(config, "sae_type"), text(config, "hook_point_in"), text(config, "hook_point_out")
    if kind not in (None, "sae"):
        raise cannot(files.folder, f"sae_type={kind!r}", "this version has dictionaries of one place")
    if written is not None and written != read:
        raise cannot(files.folder, f"a transcoder from {read} to {written}", "that is no pair of hooks here")
    if text(config, "norm_activation") == "batch-wise":
        why = "activations are scaled by the mean norm of the batch that they are read in"
        raise cannot(files.folder, "norm_activation='batch-wise'", why)
    if config.get("use_glu_encoder") is True:
        raise cannot(files.folder, "a gated linear unit", "dictionaries have one encoder here")


def _normalization(config: Facts) -> Normalization | None:
    return Normalization.rms_norm if text(config, "norm_activation") == "token-wise" else None


def _norm(weights: Weights, config: Facts) -> float | None:
    """The mean norm of the activations that it was trained on."""
    hook, found = text(config, "hook_point_in"), None
    for name in sorted(weights.names):
        if name.startswith(_NORM):
            value = float(weights.take(name, ""))
            found = value if found is None or name == f"{_NORM}.{hook}" else found
    return found


def _ungated(tensors: dict[str, Tensor], config: Facts, folded: list[str]) -> dict[str, Tensor]:
    """Where z·‖W_D‖ is held against the threshold, decoder norms go into the encoder."""
    if config.get("sparsity_include_decoder_norm") is not True:
        return tensors
    norms = row_norms(tensors["W_dec"])
    folded.append("sparsity_include_decoder_norm: decoder norms into the encoder")
    return tensors | {
        "W_enc": tensors["W_enc"] * norms[:, None],
        "b_enc": tensors["b_enc"] * norms,
        "W_dec": tensors["W_dec"] / norms[:, None],
    }


def _imported(
    files: ForeignFiles,
    config: Facts,
    weights: Weights,
    architecture: str,
    tensors: dict[str, Tensor],
    norm: float | None,
    folded: list[str],
) -> Imported:
    dictionary = assemble(weights.path, architecture, False, _normalization(config), **tensors)
    if text(config, "norm_activation") == "dataset-wise":
        if norm is None or not 0 < norm < float("inf"):
            raise unreadable(weights.path, f"{_NORM} above 0, for norm_activation=dataset-wise", repr(norm))
        scale = dictionary.d_in**0.5 / norm
        dictionary = dictionary.in_units_divided_by(scale, scale)
        folded.append(f"norm_activation=dataset-wise: its scale, {scale:.6g}, into biases and thresholds")
    claims = (Claim("k", float(dictionary.get_buffer("k")), CONFIG),) if architecture == "topk" else ()
    return Imported(
        dictionary=dictionary,
        model=text(config, "model_name", "model"),
        hook=text(config, "hook_point_in"),
        claims=claims,
        folded=tuple(folded),
    )
