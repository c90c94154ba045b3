"""Foreign dictionaries with damage in them: each becomes a dictionary or one line, in bounded memory."""

from __future__ import annotations

import argparse
import io
import random
import resource
import shutil
import tempfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from mutations import mutate, rewrite

from sae_cli.artifacts.foreign_files import ForeignFiles
from sae_cli.errors import SaeError
from sae_cli.runs import formats

_MEMORY = 512 << 20
"""More than any input may take, beyond what the process has when it begins."""


def read(address: Path) -> str:
    """The architecture of what is read, or nothing where one line says why not."""
    try:
        files = ForeignFiles(address)
        found = formats.read(files)[1].dictionary
    except SaeError as error:
        assert str(error).isprintable() and len(str(error)) < 2000, str(error)
        return ""
    assert all(each.isfinite().all() for each in found.tensors().values())
    return found.architecture


def damaged(path: Path, content: bytes, rng: random.Random) -> bytes:
    """The content of a file after an accident, or as somebody writes it who means something else."""
    if rng.random() < 0.5:
        return mutate(content, rng)
    if path.suffix in (".json", ".safetensors"):
        return rewrite(content, rng)
    # An archive whose parts are damaged and whose checksums are right.
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(written, "w") as new:
        entries = old.infolist()
        chosen = rng.choice(entries)
        for each in entries:
            inner = old.read(each)
            new.writestr(each.filename, mutate(inner, rng) if each is chosen else inner)
    return written.getvalue()


def attack(addresses: list[Path], inputs: int, seed: int = 0) -> Counter[str]:
    """How many inputs were read as what.

    Args:
        addresses: of sound dictionaries, each in a folder of its own.
        inputs: how many damaged ones are tried.
        seed: of the damage.
    """
    rng, ends = random.Random(seed), Counter[str]()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(inputs):
        address = rng.choice(addresses)
        folder = address if address.is_dir() else address.parent
        path = rng.choice(sorted(each for each in folder.rglob("*") if each.is_file()))
        content = path.read_bytes()
        path.write_bytes(damaged(path, content, rng))
        try:
            ends[read(address)] += 1
        finally:
            path.write_bytes(content)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < _MEMORY
    return ends


def make(root: Path) -> list[Path]:
    """Sound dictionaries of every format, small."""
    from sae_cli.artifacts.tensors import write_tensors
    from sae_cli.dictionaries.files import architecture_class
    from sae_cli.runs.formats import writable
    from sae_cli.runs.formats.format import Outgoing

    F, d, addresses = 6, 4, []
    for to, architecture in (
        ("saelens", "topk"), ("saelens", "gated"), ("saelens", "jump_relu"), ("dictionary_learning", "relu"),
        ("dictionary_learning", "matryoshka"), ("sparsify", "topk"), ("openmoss", "jump_relu"),
    ):  # fmt: skip
        kind, folder = architecture_class(architecture), root / f"{to}-{architecture}"
        shapes = {"k": (1,), **kind.shapes(F, d, d)}
        tensors = {name: torch.rand(shapes.get(name, (2,))) + 0.1 for name in kind.tensor_names}
        fixed = {"k": torch.tensor([2.0]), "group_sizes": torch.tensor([2.0, 4.0]), "threshold": torch.full((F,), 0.5)}
        dictionary = kind(tensors | {name: each for name, each in fixed.items() if name in tensors})
        written = writable(to).write(Outgoing(dictionary, "a/b", "mlp_out", 1, 2, torch.rand(F), {"l0": 2, "fvu": 0.1}))
        folder.mkdir()
        for name, document in written.documents.items():
            from sae_cli.artifacts.files import write_json

            write_json(folder / name, document)
        for name, each in written.tensors.items():
            write_tensors(folder / name, each)
        for name, each in written.pickles.items():
            torch.save(dict(each), folder / name)
        addresses.append(folder / "layers.1.mlp" if to == "sparsify" else folder)
    return addresses + _others(root, F, d)


def _others(root: Path, F: int, d: int) -> list[Path]:
    from sae_cli.artifacts.tensors import write_tensors

    of = {"W_enc": torch.rand(d, F), "W_dec": torch.rand(F, d), "b_enc": torch.rand(F), "b_dec": torch.rand(d)}
    of["threshold"] = torch.rand(F)
    first, second, qwen, openai, fire, llama = (
        root / name for name in ("layer_1", "layer_2", "SAE-Res-a-W1K-L0_2", "openai", "fire", "llama")
    )
    for folder in (first, second, qwen, openai, fire, llama):
        folder.mkdir()
    np.savez(first / "params.npz", **{name: each.numpy() for name, each in of.items()})  # pyright: ignore[reportArgumentType]
    write_tensors(second / "params.safetensors", {name.lower(): each for name, each in of.items()})
    (second / "config.json").write_text('{"architecture": "jump_relu", "hf_hook_point_in": "layers.1"}')
    linear = {"encoder.weight": torch.rand(F, d), "decoder.weight": torch.rand(d, F)}
    biases = {"encoder.bias": of["b_enc"], "decoder.bias": of["b_dec"]}
    torch.save({**of, "W_enc": torch.rand(F, d), "W_dec": torch.rand(d, F)} | {}, qwen / "layer1.sae.pt")
    state = {name: each for name, each in of.items() if name.startswith("b_")}
    torch.save({"W_enc": linear["encoder.weight"], "W_dec": linear["decoder.weight"], **state}, qwen / "layer1.sae.pt")
    torch.save({**linear, "latent_bias": of["b_enc"], "pre_bias": of["b_dec"], "activation": "ReLU"}, openai / "1.pt")
    torch.save({name.replace(".", "_linear."): each for name, each in {**linear, **biases}.items()}, fire / "a.pth")
    (llama / "checkpoints").mkdir()
    write_tensors(llama / "checkpoints" / "final.safetensors", {**linear, **biases})
    (llama / "hyperparams.json").write_text(
        '{"jump_relu_threshold": 0.5, "norm_activation": "dataset-wise", "hook_point_in": "blocks.1.hook_mlp_out",'
        ' "dataset_average_activation_norm": {"in": 3.0, "out": 3.0}}'
    )
    return [first, second, qwen / "layer1.sae.pt", openai / "1.pt", fire / "a.pth", llama]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000)
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        ends = attack(make(folder), asked.inputs)
        print(f"{sum(ends.values()):,} inputs, {ends.pop('', 0):,} of them one line; read: {dict(ends)}")
    finally:
        shutil.rmtree(folder)
