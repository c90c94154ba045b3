"""Dictionaries on disk: `sae.safetensors`, its tensors in raw activation units, and its header."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from torch import Tensor

from sae_cli.artifacts.files import damaged
from sae_cli.artifacts.run_directory import Run
from sae_cli.artifacts.safetensors_header import Header
from sae_cli.artifacts.stored_run import FinishedRun, read_run
from sae_cli.config.groups import GROUPS
from sae_cli.dictionaries.base import Dictionary
from sae_cli.dictionaries.normalization import Normalization
from sae_cli.documents import Facts
from sae_cli.errors import JobError
from sae_cli.escaping import brief

DICTIONARY_FILE = "sae.safetensors"
SNAPSHOTS = "snapshots/"
NORMALIZATION = "normalization"
"""In the header of a file: of what kind it is; no entry where there is none."""
_SNAPSHOT = re.compile(rf"{SNAPSHOTS}step-([0-9]{{8,}})\.safetensors")


def _class_of(architecture: str) -> type[Dictionary]:
    """The dictionary in the module that is called as its architecture."""
    module = import_module(f"sae_cli.dictionaries.{architecture}")
    kinds = (each for each in vars(module).values() if isinstance(each, type) and issubclass(each, Dictionary))
    return next(kind for kind in kinds if getattr(kind, "architecture", None) == architecture)


ARCHITECTURES: dict[str, type[Dictionary]] = {name: _class_of(name) for name in GROUPS["sae"]}


def architecture_class(architecture: str) -> type[Dictionary]:
    """The class of an architecture by its name in files and configurations."""
    if architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise JobError(f"unknown dictionary architecture {brief(architecture)!r}; this version of sae knows: {known}")
    return ARCHITECTURES[architecture]


def snapshot_file(step: int) -> str:
    """Where a training run keeps the dictionary as it stood after `step` steps; sorts by step."""
    return f"{SNAPSHOTS}step-{step:08d}.safetensors"


def saved_steps(run: FinishedRun) -> list[int]:
    """The steps that the run has snapshots of, ascending."""
    found = (_SNAPSHOT.fullmatch(name) for name in run.manifest.files)
    return sorted(int(match[1]) for match in found if match)


def save_dictionary(
    run: Run,
    dictionary: Dictionary,
    header: Facts,
    extra: Mapping[str, Tensor] | None = None,
    name: str = DICTIONARY_FILE,
) -> None:
    """Write the dictionary into a run.

    Args:
        run: that is being written.
        dictionary: in raw activation units.
        header: where it belongs: hook, layer, model, scale.
        extra: tensors that are not needed to use it.
        name: of the file.
    """
    tensors = {**dictionary.tensors(), **(extra or {})}
    found = dictionary.normalization
    normalized = {NORMALIZATION: found.value} if found else {}
    run.write_tensors(name, tensors, {**header, "architecture": dictionary.architecture, **normalized})


def load_dictionary(run: FinishedRun, verify: bool = True, name: str = DICTIONARY_FILE) -> Dictionary:
    """The dictionary of a finished run, or one of its snapshots by file name.

    Raises:
        JobError: the file is missing, damaged, or holds no dictionary that works.
    """
    path = run.directory / name
    kind = read_architecture(run, name)
    check_entries(path, kind, run.read_header(name))
    tensors = run.read_tensors(name, verify)
    check_values(path, kind, tensors)
    return kind(tensors, _normalization(run, name))


def check_entries(path: Path, kind: type[Dictionary], header: Header) -> None:
    """Look at the tensors of a dictionary before they are read: all there, float32, of shapes that fit.

    Raises:
        JobError: they are not.
    """
    entries = header.tensors
    if missing := [name for name in kind.tensor_names if name not in entries]:
        raise damaged(path, f"a {kind.architecture} dictionary with {', '.join(missing)}", ", ".join(entries) or "none")
    if len(size := entries["W_enc"].shape) != 2 or 0 in size:
        raise damaged(path, "W_enc of shape [features, width]", str(list(size)))
    n_features, d_in = size
    # Without a center of its own it is an autoencoder, which writes where it reads.
    d_out = entries["W_dec"].shape[-1] if "b_pre" in entries and entries["W_dec"].shape else d_in
    shapes = kind.shapes(n_features, d_in, d_out) | {"b_pre": (d_in,)}
    for name in (*kind.tensor_names, "b_pre"):
        if name in entries and entries[name].dtype != "F32":
            raise damaged(path, f"{name} in F32", entries[name].dtype)
        if name in entries and name in shapes and entries[name].shape != shapes[name]:
            raise damaged(path, f"{name} of shape {list(shapes[name])}", str(list(entries[name].shape)))


def check_values(path: Path, kind: type[Dictionary], tensors: Mapping[str, Tensor]) -> None:
    """Look at the numbers of a dictionary.

    Raises:
        JobError: one is NaN or infinite, or a tensor of whole numbers says what no dictionary can.
    """
    for name in (*kind.tensor_names, "b_pre"):
        if name in tensors and tensors[name].numel() and not all(end.isfinite() for end in tensors[name].aminmax()):
            raise damaged(path, f"{name} of finite numbers", "NaN or infinity")
    if (complaint := kind.complaint(tensors)) is not None:
        raise damaged(path, *complaint)


def read_architecture(run: FinishedRun, name: str = DICTIONARY_FILE) -> type[Dictionary]:
    """The class of a run's dictionary, by the header of its file.

    Raises:
        JobError: that names none, or one that is not known.
    """
    architecture = run.read_metadata(name).get("architecture")
    if not isinstance(architecture, str):
        raise damaged(run.directory / name, "a header that names the architecture", repr(architecture))
    return architecture_class(architecture)


def _normalization(run: FinishedRun, name: str) -> Normalization | None:
    found = run.read_metadata(name).get(NORMALIZATION)
    known = {each.value: each for each in Normalization}
    if found is not None and found not in known:
        expected = f"a header whose {NORMALIZATION} is one of {', '.join(known)}"
        raise damaged(run.directory / name, expected, brief(repr(found)))
    return known[found] if isinstance(found, str) else None


def load(run: str | Path) -> Dictionary:
    """The trained dictionary of a run directory: `load("runs/train/…").encode(x)`.

    Raises:
        sae_cli.errors.RequestError: there is no run there.
        sae_cli.errors.JobError: the run is unfinished, damaged, or holds no dictionary.
    """
    return load_dictionary(read_run(run))
