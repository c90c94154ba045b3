"""Dictionaries that are one file of PyTorch and say little of themselves: Qwen Scope, OpenAI's of GPT-2, Goodfire's.

The name of the file, or of the repository, says where they belong.
"""

from __future__ import annotations

import re

from torch import Tensor

from sae_cli.artifacts.foreign_files import PICKLES, ForeignFiles
from sae_cli.dictionaries.normalization import Normalization
from sae_cli.errors import JobError
from sae_cli.runs.formats.format import Claim, Imported
from sae_cli.runs.formats.weights import MEAN_UNKNOWN, Weights, assemble, beginning, cannot, count, whole

_QWEN_FILE = re.compile(r"layer(\d+)\.sae\.pt")
_QWEN_REPOSITORY = re.compile(r"(?:.*--)?SAE-Res-(.+)-W\d+K-L0_(\d+)")
_OPENAI_PLACES = {
    "resid_post_mlp": "hook_resid_post",
    "resid_delta_mlp": "hook_mlp_out",
    "resid_delta_attn": "hook_attn_out",
    "mlp_post_act": "mlp.hook_post",
}
_VERSION = re.compile(r"_v\d+(_\d+k)?$")
_STATISTICS = ("stats_last_nonzero", "latents_activation_frequency", "latents_mean_square")


class QwenScope:
    """TopK; nothing is subtracted from the input. k is in the name of the repository."""

    name = "qwen_scope"
    marks = ("layer*.sae.pt",)
    alone = True

    def recognise(self, files: ForeignFiles) -> bool:
        return files.file is not None and _QWEN_FILE.fullmatch(files.file) is not None

    def read(self, files: ForeignFiles) -> Imported:
        name, layer = _only(files), _QWEN_FILE.fullmatch(_only(files))
        parts = files.folder.absolute().parts
        repository = next((found for each in parts if (found := _QWEN_REPOSITORY.fullmatch(each))), None)
        weights = Weights.of(files, name)
        tensors = weights.autoencoder("W_enc", "W_dec", "b_enc", "b_dec")
        if repository is None:
            raise cannot(weights.path, "a TopK dictionary without k", "it is in its repository's name, …-L0_<k>")
        k = whole(weights.path, "k", int(repository[2]))
        return Imported(
            dictionary=assemble(weights.path, "topk", False, k=count(k), **tensors),
            model=f"Qwen/{repository[1]}",
            hook=f"layers.{layer[1]}" if layer else None,
            claims=(Claim("k", float(k), "its repository's name"),),
            folded=(MEAN_UNKNOWN,),
        )


class OpenAi:
    """ReLU or TopK, `pre_bias` is subtracted from the input; those with TopK normalize every token before that."""

    name = "openai"
    marks = ("autoencoders/*.pt",)
    alone = True

    def recognise(self, files: ForeignFiles) -> bool:
        return _holds(files, "pre_bias", "latent_bias")

    def read(self, files: ForeignFiles) -> Imported:
        name = _only(files)
        architecture, normalization, k = _activation_of(files, name)
        weights = Weights.of(files, name)
        weights.drop(*_STATISTICS)
        tensors = weights.autoencoder("encoder.weight", "decoder.weight", "latent_bias", "pre_bias")
        layer, parts = name.partition(".")[0], files.folder.absolute().parts
        place = next((found for each in parts if (found := _OPENAI_PLACES.get(_VERSION.sub("", each)))), None)
        return Imported(
            dictionary=assemble(weights.path, architecture, True, normalization, **tensors, **k),
            model="gpt2-small" if place or "gpt2-small" in parts else None,
            hook=f"blocks.{layer}.{place}" if place and layer.isdigit() else None,
            claims=tuple(Claim("k", float(each), f"activation_state_dict in {name}") for each in k.values()),
            folded=tuple(beginning(normalization)),
            bos=False,
        )


def _activation_of(files: ForeignFiles, name: str) -> tuple[str, Normalization | None, dict[str, Tensor]]:
    """The architecture; what every token is normalized by, which goes with TopK; and k, where there is one."""
    path, scalars = files.folder / name, files.scalars(name)
    match scalars.get("activation", "ReLU"):
        case "ReLU":
            return "relu", None, {}
        case "TopK":
            if (after := scalars.get("activation_state_dict.postact_fn", "ReLU")) != "ReLU":
                raise cannot(path, f"TopK with postact_fn={after!r}", "its features may be negative")
            k = whole(path, "k in activation_state_dict", scalars.get("activation_state_dict.k"))
            return "topk", Normalization.layer_norm, {"k": count(k)}
        case other:
            raise cannot(path, f"activation={other!r}", "this version has ReLU and TopK")


class Goodfire:
    """ReLU; nothing is subtracted from the input."""

    name = "goodfire"
    marks = ("*.pt", "*.pth")
    alone = True

    def recognise(self, files: ForeignFiles) -> bool:
        return _holds(files, "encoder_linear.weight", "decoder_linear.weight")

    def read(self, files: ForeignFiles) -> Imported:
        weights = Weights.of(files, _only(files))
        encoder, decoder = "encoder_linear", "decoder_linear"
        tensors = weights.autoencoder(f"{encoder}.weight", f"{decoder}.weight", f"{encoder}.bias", f"{decoder}.bias")
        return Imported(dictionary=assemble(weights.path, "relu", False, **tensors), folded=(MEAN_UNKNOWN,))


def _pickles(files: ForeignFiles) -> list[str]:
    return [name for name in files.names() if name.endswith(PICKLES)]


def _only(files: ForeignFiles) -> str:
    found = _pickles(files)
    if len(found) != 1:
        raise JobError(f"{files.address}: expected one file of PyTorch, found {', '.join(found[:6]) or 'none'}")
    return found[0]


def _holds(files: ForeignFiles, *names: str) -> bool:
    """Whether the one pickle there has these tensors; one that cannot be read has none."""
    if len(found := _pickles(files)) != 1:
        return False
    try:
        return set(names) <= set(files.tensors(found[0]))
    except JobError:
        return False
