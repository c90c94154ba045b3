"""Gemma Scope: `params.npz` in `layer_L/width_W/average_l0_N` (the first), `params.safetensors` with `config.json` in
`layer_L_width_W_l0_S` (the second).

JumpReLU, nothing is subtracted from the input. The first says nothing of itself but in its path and repository.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch

from sae_cli.artifacts.foreign_files import ForeignFiles
from sae_cli.dictionaries.base import Dictionary
from sae_cli.runs.formats.format import Claim, Imported
from sae_cli.runs.formats.weights import MEAN_UNKNOWN, Weights, assemble, cannot, text

FIRST, SECOND, CONFIG = "params.npz", "params.safetensors", "config.json"
_REPOSITORY = re.compile(r"gemma-scope-(2b|9b|27b)-(pt|it)-(res|mlp|att|transcoders)(-.*)?")
_HOOKS = {"res": "hook_resid_post", "mlp": "hook_mlp_out", "att": "attn.hook_z", "transcoders": "ln2.hook_normalized"}
_LAYER = re.compile(r"layer_(\d+)")
_L0 = re.compile(r"average_l0_(\d+(?:\.\d+)?)")
_EMBEDDING = "embedding"


class GemmaScope:
    """The first release."""

    name = "gemma_scope"
    marks = (FIRST,)
    alone = False

    def recognise(self, files: ForeignFiles) -> bool:
        return FIRST in files.names()

    def read(self, files: ForeignFiles) -> Imported:
        parts, folded = files.folder.absolute().parts, [MEAN_UNKNOWN]
        repository = next((found for each in parts if (found := _REPOSITORY.fullmatch(_repository(each)))), None)
        layer = next((found[1] for each in reversed(parts) if (found := _LAYER.fullmatch(each))), None)
        l0 = next((found[1] for each in reversed(parts) if (found := _L0.fullmatch(each))), None)
        if repository and repository[3] == "transcoders":
            raise cannot(
                files.folder, "a transcoder", "it reads the normalised input of the MLP, which is no hook here"
            )
        weights = Weights.of(files, FIRST)
        dictionary = _dictionary(weights, "")
        of_embeddings = _EMBEDDING in parts[-3:]
        if of_embeddings:
            scale = dictionary.d_in**0.5
            written = {name: getattr(dictionary, name) * scale for name in ("W_dec", "b_dec", "activation_mean")}
            dictionary = dictionary.replace(W_enc=dictionary.W_enc / scale, **written)
            folded.append(f"embeddings are read without the factor √d: encoder ÷ {scale:g}, decoder × {scale:g}")
        hook = f"blocks.{layer}.{_HOOKS[repository[3]]}" if repository and layer is not None else None
        return Imported(
            dictionary=dictionary,
            model=f"google/gemma-2-{repository[1]}{'-it' if repository[2] == 'it' else ''}" if repository else None,
            hook="hook_embed" if of_embeddings else hook,
            claims=(Claim("l0", float(l0), "average_l0 in its path"),) if l0 else (),
            folded=tuple(folded),
            bos=True,
        )


class GemmaScope2:
    """The second release."""

    name = "gemma_scope_2"
    marks = (SECOND,)
    alone = False

    def recognise(self, files: ForeignFiles) -> bool:
        return SECOND in files.names()

    def read(self, files: ForeignFiles) -> Imported:
        config = files.json(CONFIG) if files.has(CONFIG) else {}
        hook, out = text(config, "hf_hook_point_in"), text(config, "hf_hook_point_out")
        if (kind := text(config, "architecture")) not in (None, "jump_relu"):
            raise cannot(files.folder / CONFIG, f"architecture={kind!r}", "this version has jump_relu")
        if out is not None and out != hook:
            raise cannot(files.folder / CONFIG, f"a transcoder from {hook} to {out}", "that is no pair of hooks here")
        weights = Weights.of(files, SECOND)
        if "affine_skip_connection" in weights.names:
            raise cannot(weights.path, "affine_skip_connection", "dictionaries have no linear path here")
        layer = _LAYER.match(files.folder.absolute().name)
        if hook is None and layer and files.folder.absolute().parent.name.startswith("resid_post"):
            hook = f"layers.{layer[1]}"
        return Imported(
            dictionary=_dictionary(weights, "lower"),
            model=text(config, "model_name"),
            hook=hook,
            folded=(MEAN_UNKNOWN,),
            bos=True,
        )


def _dictionary(weights: Weights, case: str) -> Dictionary:
    enc, dec = ("w_enc", "w_dec") if case == "lower" else ("W_enc", "W_dec")
    tensors = {
        "W_enc": weights.take(enc, "d F").T,
        "W_dec": weights.take(dec, "F d"),
        "b_enc": weights.take("b_enc", "F"),
        "b_dec": weights.take("b_dec", "d"),
        "threshold": weights.take("threshold", "F"),
    }
    weights.finish()
    assert all(each.dtype is torch.float32 for each in tensors.values())
    return assemble(Path(weights.path), "jump_relu", False, **tensors)


def _repository(part: str) -> str:
    """The repository's name in a part of a path, which may be that of the hub's cache."""
    return part.rpartition("--")[2] or part
