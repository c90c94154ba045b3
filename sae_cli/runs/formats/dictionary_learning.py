"""dictionary_learning: `ae.pt`, a state dict of PyTorch, beside `config.json`; `checkpoints/ae_<step>.pt` too.

Weights are in units of raw activations, but in the `ae.pt` of a training that was interrupted: there biases and
threshold are to be multiplied by its `norm_factor`.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from sae_cli.artifacts.foreign_files import ForeignFiles, Scalar, unreadable
from sae_cli.config.hook import HookPoint
from sae_cli.dictionaries.base import Dictionary
from sae_cli.documents import Document, Facts
from sae_cli.errors import RequestError
from sae_cli.runs.formats.format import Claim, Imported, Outgoing, Written
from sae_cli.runs.formats.weights import (
    MEAN_UNKNOWN,
    Weights,
    assemble,
    cannot,
    count,
    inner,
    number,
    refuse_normalized,
    text,
    whole,
    with_center,
)

WEIGHTS, CONFIG, RESULTS = "ae.pt", "config.json", "eval_results.json"
_CHECKPOINT = re.compile(r"ae_\d+\.pt")
_ABOVE = "../"
_STATE = "ae."
_TIMES = frozenset({"b_enc", "b_dec", "threshold", "b_gate", "b_mag"})
"""In units of activations."""
_OF_RESULTS = {"l0": "l0", "fvu": "frac_variance_explained", "loss_recovered": "frac_recovered"}
"""What our figures are called in `eval_results.json`; theirs in place of FVU is 1 less it."""
_SUBMODULES = {
    HookPoint.resid.value: "resid_post",
    HookPoint.mlp_out.value: "mlp_out",
    HookPoint.attn_out.value: "attention_out",
}


class DictionaryLearning:
    """See the module."""

    name = "dictionary_learning"
    marks = (WEIGHTS,)
    alone = False

    def recognise(self, files: ForeignFiles) -> bool:
        name = _weights_file(files)
        return name is not None and _config_file(files, name) is not None

    def read(self, files: ForeignFiles) -> Imported:
        name = _weights_file(files)
        assert name is not None, "it was recognised"
        config_file = _config_file(files, name)
        trainer: Facts = inner(files.json(config_file), "trainer") if config_file else {}
        tensors, scale = files.tensors(name), 1.0
        folded = [MEAN_UNKNOWN]
        if any(each.startswith(_STATE) for each in tensors) and name == "ae.pt":
            scale = _norm_factor(files, name)
            tensors = {key.removeprefix(_STATE): each for key, each in tensors.items() if key.startswith(_STATE)}
            folded.append(f"norm_factor={scale:g} of an interrupted training: into the biases and the threshold")
        weights = Weights(files.folder / name, tensors)
        dictionary = _dictionary(weights, text(trainer, "dict_class"), scale)
        layer, submodule = trainer.get("layer"), text(trainer, "submodule_name")
        if submodule is None and type(layer) is int:
            submodule = f"resid_post_layer_{layer}"
        return Imported(
            dictionary=dictionary,
            model=text(trainer, "lm_name"),
            hook=submodule,
            claims=_claims(files, trainer, dictionary),
            folded=tuple(folded),
        )

    def write(self, outgoing: Outgoing) -> Written:
        if outgoing.hook not in _SUBMODULES or outgoing.layer < 0:
            raise RequestError(
                f"to=dictionary_learning: expected a hook point of the residual stream, {', '.join(_SUBMODULES)}, "
                f"found {outgoing.hook}"
            )
        refuse_normalized("dictionary_learning", outgoing.dictionary)
        name, tensors, folded = _as_theirs(outgoing)
        trainer: Document = {
            "dict_class": name,
            "trainer_class": "sae",
            "activation_dim": outgoing.dictionary.d_in,
            "dict_size": outgoing.dictionary.n_features,
            "layer": outgoing.layer,
            "lm_name": outgoing.model,
            "submodule_name": f"{_SUBMODULES[outgoing.hook]}_layer_{outgoing.layer}",
            **({"k": int(tensors["k"])} if "k" in tensors else {}),
        }
        buffer: Document = {"d_submodule": outgoing.dictionary.d_in, "io": "out", "ctx_len": outgoing.context}
        documents: dict[str, Document] = {CONFIG: {"trainer": trainer, "buffer": buffer}}
        if outgoing.figures:
            of_ours = outgoing.figures.items()
            theirs: Document = {_OF_RESULTS[name]: 1 - value if name == "fvu" else value for name, value in of_ours}
            documents[RESULTS] = theirs
        return Written(documents=documents, pickles={WEIGHTS: tensors}, folded=folded)


def _weights_file(files: ForeignFiles) -> str | None:
    if files.file is None:
        return WEIGHTS if files.has(WEIGHTS) else None
    return files.file if files.file == WEIGHTS or _CHECKPOINT.fullmatch(files.file) else None


def _config_file(files: ForeignFiles, name: str) -> str | None:
    places = [CONFIG] if name == WEIGHTS else [CONFIG, _ABOVE + CONFIG]
    return next((each for each in places if files.has(each)), None)


def _norm_factor(files: ForeignFiles, name: str) -> float:
    found: Scalar | Tensor | None = files.scalars(name).get("norm_factor")
    if found is None and (held := files.tensors(name).get("norm_factor")) is not None and held.numel() == 1:
        found = float(held)
    scale = number(found)
    if scale is None:
        return 1.0  # trained without a scale
    if not 0 < scale < float("inf"):
        raise unreadable(files.folder / name, "norm_factor above 0", f"{scale:g}")
    return scale


def _dictionary(weights: Weights, stated: str | None, scale: float) -> Dictionary:
    kind = _class_of(weights, stated)
    linear = "encoder.weight" in weights.names
    if linear:
        W_enc, W_dec = weights.take("encoder.weight", "F d"), weights.take("decoder.weight", "d F").T
    else:
        W_enc, W_dec = weights.take("W_enc", "d F").T, weights.take("W_dec", "F d")
    architecture, subtracts, names = _CLASSES[kind]
    tensors = {ours: weights.take(theirs, "d" if ours == "b_dec" else "F") for ours, theirs in names.items()}
    if architecture in ("topk", "batch_topk", "matryoshka"):
        k = whole(weights.path, "k", weights.take("k", ""))
        threshold = weights.take("threshold", "") if "threshold" in weights.names else torch.tensor(-1.0)
        if architecture == "topk":
            tensors["k"] = count(k)
        else:
            tensors["threshold"] = threshold.expand(len(W_enc)).clone()
    if architecture == "matryoshka":
        tensors["group_sizes"] = weights.take("group_sizes", "G")
    weights.finish()
    if scale != 1:
        tensors = {
            name: each * scale if name in _TIMES and not (name == "threshold" and bool((each < 0).all())) else each
            for name, each in tensors.items()
        }
    return assemble(weights.path, architecture, subtracts, W_enc=W_enc, W_dec=W_dec, **tensors)


_CLASSES = {
    "AutoEncoder": ("relu", True, {"b_enc": "encoder.bias", "b_dec": "bias"}),
    "AutoEncoderNew": ("relu", False, {"b_enc": "encoder.bias", "b_dec": "decoder.bias"}),
    "GatedAutoEncoder": (
        "gated",
        True,
        {"b_gate": "gate_bias", "r_mag": "r_mag", "b_mag": "mag_bias", "b_dec": "decoder_bias"},
    ),
    "AutoEncoderTopK": ("topk", True, {"b_enc": "encoder.bias", "b_dec": "b_dec"}),
    "BatchTopKSAE": ("batch_topk", True, {"b_enc": "encoder.bias", "b_dec": "b_dec"}),
    "MatryoshkaBatchTopKSAE": ("matryoshka", True, {"b_enc": "b_enc", "b_dec": "b_dec"}),
    "JumpReluAutoEncoder": ("jump_relu", False, {"b_enc": "b_enc", "b_dec": "b_dec", "threshold": "threshold"}),
}
"""Of each class the architecture here, whether it subtracts its bias from the input, and what its biases are called."""


def _class_of(weights: Weights, stated: str | None) -> str:
    """By what its configuration says, else by the names of its tensors."""
    if stated is not None:
        if stated not in _CLASSES:
            raise cannot(weights.path, f"a dictionary of class {stated!r}", f"known are {', '.join(_CLASSES)}")
        return stated
    names = weights.names
    signs = {
        "MatryoshkaBatchTopKSAE": "group_sizes",
        "GatedAutoEncoder": "gate_bias",
        "BatchTopKSAE": "k",
        "JumpReluAutoEncoder": "W_enc",
        "AutoEncoder": "bias",
    }
    return next((kind for kind, sign in signs.items() if sign in names), "AutoEncoderNew")


def _claims(files: ForeignFiles, trainer: Facts, dictionary: Dictionary) -> tuple[Claim, ...]:
    claims: list[Claim] = []
    if dictionary.architecture == "topk":
        claims.append(Claim("k", float(dictionary.get_buffer("k")), WEIGHTS))
    elif dictionary.architecture in ("batch_topk", "matryoshka") and (k := number(trainer.get("k"))) is not None:
        claims.append(Claim("l0", k, f"k in {CONFIG}"))
    if files.file is None and files.has(RESULTS):
        found = files.json(RESULTS)
        for ours, theirs in _OF_RESULTS.items():
            if (value := number(found.get(theirs))) is not None:
                claims.append(Claim(ours, 1 - value if ours == "fvu" else value, RESULTS))
    return tuple(claims)


def _as_theirs(outgoing: Outgoing) -> tuple[str, dict[str, Tensor], tuple[str, ...]]:
    """The class, its state dict, and what was folded."""
    given, architecture = outgoing.dictionary, outgoing.dictionary.architecture
    plain = given.b_pre is not None and not given.b_pre.any()
    new = architecture == "relu" and plain
    dictionary, folded = with_center(given, subtracts=not (new or architecture == "jump_relu"))
    kind = "AutoEncoderNew" if new else next(name for name, each in _CLASSES.items() if each[0] == architecture)
    tensors = {theirs: getattr(dictionary, ours) for ours, theirs in _CLASSES[kind][2].items()}
    if architecture in ("jump_relu", "matryoshka"):
        tensors |= {"W_enc": dictionary.W_enc.T, "W_dec": dictionary.W_dec}
    else:
        tensors |= {"encoder.weight": dictionary.W_enc, "decoder.weight": dictionary.W_dec.T}
    if architecture in ("topk", "batch_topk", "matryoshka"):
        if outgoing.k is None:
            raise RequestError(f"to=dictionary_learning: expected a {architecture} dictionary whose k is known")
        threshold = torch.tensor(-1.0) if architecture == "topk" else _one_threshold(dictionary)
        tensors |= {"k": torch.tensor(outgoing.k, dtype=torch.int32), "threshold": threshold}
    if architecture == "matryoshka":
        tensors["group_sizes"] = dictionary.get_buffer("group_sizes").long()
    return kind, {name: each.contiguous().clone() for name, each in tensors.items()}, folded


def _one_threshold(dictionary: Dictionary) -> Tensor:
    threshold = dictionary.get_buffer("threshold")
    if not bool((threshold == threshold[0]).all()):
        raise RequestError("to=dictionary_learning: expected one threshold for all features, found several")
    return threshold[0].clone()
