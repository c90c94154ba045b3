"""sparsify (EleutherAI): `cfg.json` and `sae.safetensors` in a folder that is called as its hookpoint."""

from __future__ import annotations

from sae_cli.artifacts.foreign_files import ForeignFiles
from sae_cli.documents import Document
from sae_cli.errors import RequestError
from sae_cli.runs.formats.format import Claim, Imported, Outgoing, Written
from sae_cli.runs.formats.places import module_path, site_of
from sae_cli.runs.formats.weights import (
    MEAN_UNKNOWN,
    Weights,
    assemble,
    cannot,
    count,
    refuse_normalized,
    text,
    whole,
    with_center,
)

CONFIG, WEIGHTS, TOP = "cfg.json", "sae.safetensors", "config.json"
_ABOVE = ("../", "../../")


class Sparsify:
    """See the module."""

    name = "sparsify"
    marks = (WEIGHTS,)
    alone = False

    def recognise(self, files: ForeignFiles) -> bool:
        return files.has(CONFIG) and files.has(WEIGHTS)

    def read(self, files: ForeignFiles) -> Imported:
        path, config = files.folder / CONFIG, files.json(CONFIG)
        activation = text(config, "activation") or "topk"
        if activation != "topk":
            raise cannot(path, f"activation={activation!r}", "one feature of each group is active, not the largest k")
        if config.get("signed") is True:
            raise cannot(path, "signed=true", "its features may be negative")
        if config.get("transcode") is True:
            raise cannot(path, "transcode=true", "it writes elsewhere than it reads, at places that it does not name")
        weights = Weights.of(files, WEIGHTS)
        if "W_skip" in weights.names:
            raise cannot(files.folder / WEIGHTS, "W_skip", "dictionaries have no linear path here")
        k = whole(path, "k", config.get("k"))
        tensors = weights.autoencoder("encoder.weight", "W_dec", "encoder.bias", "b_dec", dims=("F d", "F d"))
        top = next((f"{above}{TOP}" for above in _ABOVE if files.has(f"{above}{TOP}")), None)
        return Imported(
            dictionary=assemble(weights.path, "topk", True, k=count(k), **tensors),
            model=text(files.json(top), "model") if top else None,
            hook=_hookpoint(files),
            claims=(Claim("k", float(k), CONFIG),),
            folded=(MEAN_UNKNOWN,),
        )

    def write(self, outgoing: Outgoing) -> Written:
        given, hook = outgoing.dictionary, module_path(outgoing.hook, outgoing.layer, outgoing.model)
        if given.architecture != "topk":
            raise RequestError(f"to=sparsify: expected a topk dictionary, found {given.architecture}")
        if hook is None:
            raise RequestError(f"to=sparsify: expected the output of a module, found hook={outgoing.hook}")
        refuse_normalized("sparsify", given)
        dictionary, folded = with_center(given, subtracts=True)
        config: Document = {
            "activation": "topk",
            "expansion_factor": max(1, given.n_features // given.d_in),
            "normalize_decoder": False,
            "num_latents": given.n_features,
            "k": int(given.get_buffer("k")),
            "multi_topk": False,
            "skip_connection": False,
            "transcode": False,
            "d_in": given.d_in,
        }
        tensors = {
            "encoder.weight": dictionary.W_enc,
            "encoder.bias": dictionary.b_enc,
            "W_dec": dictionary.W_dec,
            "b_dec": dictionary.b_dec,
        }
        top: Document = {"model": outgoing.model, "hookpoints": [hook]}
        documents = {TOP: top, f"{hook}/{CONFIG}": config}
        return Written(documents=documents, tensors={f"{hook}/{WEIGHTS}": tensors}, folded=folded)


def _hookpoint(files: ForeignFiles) -> str | None:
    """Of the name of the folder, or of the one above where that is called `seed<n>`."""
    folder = files.folder.absolute()
    names = (folder.name, folder.parent.name, f"{folder.parent.name}.{folder.name}")
    return next((name for name in names if site_of(name) is not None), folder.name)
