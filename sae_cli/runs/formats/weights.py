"""From the tensors of a foreign file to a dictionary of ours, each looked at on the way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from sae_cli.artifacts.foreign_files import ForeignFiles, Scalar, as_float, unreadable
from sae_cli.dictionaries.base import Dictionary
from sae_cli.dictionaries.files import architecture_class
from sae_cli.dictionaries.normalization import Normalization
from sae_cli.documents import Facts, is_document
from sae_cli.errors import JobError, RequestError
from sae_cli.tensor_types import Float

MEAN_UNKNOWN = "the mean of its training activations is not known: b_dec stands in for it"
_NORMALIZED_MEAN_UNKNOWN = "the mean of its training activations is not known: 0 stands in for it"


def beginning(normalization: Normalization | None) -> list[str]:
    """What is said of every dictionary that is imported."""
    return [MEAN_UNKNOWN if normalization is None else _NORMALIZED_MEAN_UNKNOWN]


def refuse_normalized(to: str, dictionary: Dictionary, *known: Normalization) -> None:
    """A `RequestError` for a dictionary that normalizes tokens in a way that a format cannot say."""
    found = dictionary.normalization
    if found is not None and found not in known:
        expected = f"a dictionary without normalization{''.join(f', or of {each.value}' for each in known)}"
        raise RequestError(f"to={to}: expected {expected}, found one that has {found.value}; use to=saelens")


class Weights:
    """The tensors of one file, each taken once, in float32, of shapes that fit each other.

    Args:
        path: of the file, for messages.
        tensors: in it.
    """

    def __init__(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        self.path, self._left = path, dict(tensors)
        self._sizes: dict[str, int] = {}

    @classmethod
    def of(cls, files: ForeignFiles, name: str) -> Weights:
        """Those of the file of this name."""
        return cls(files.folder / name, files.tensors(name))

    @property
    def names(self) -> set[str]:
        """What has not been taken yet."""
        return set(self._left)

    def take(self, name: str, dims: str) -> Tensor:
        """The tensor of this name, with dimensions as `F d`: a letter stands for one size in the whole file.

        Raises:
            JobError: there is none, it has another shape, or it is not of finite numbers.
        """
        if name not in self._left:
            raise unreadable(self.path, f"the tensor {name}", ", ".join(sorted(self._left)) or "none")
        tensor, letters = self._left.pop(name), dims.split()
        if not letters and tensor.numel() == 1:
            tensor = tensor.reshape(())
        fits = tensor.ndim == len(letters) and 0 not in tensor.shape
        if not fits or any(self._sizes.setdefault(each, n) != n for each, n in zip(letters, tensor.shape, strict=True)):
            known = "".join(f", {each}={self._sizes[each]}" for each in letters if each in self._sizes)
            raise unreadable(self.path, f"{name} of shape [{', '.join(letters)}]{known}", str(list(tensor.shape)))
        return as_float(self.path, name, tensor)

    def autoencoder(
        self, W_enc: str, W_dec: str, b_enc: str, b_dec: str, dims: tuple[str, str] = ("F d", "d F")
    ) -> dict[str, Tensor]:
        """The four tensors of a plain dictionary by our names, both matrices as [F, d].

        Args:
            W_enc, W_dec, b_enc, b_dec: what they are called in the file.
            dims: of the two matrices there.

        Raises:
            JobError: one is missing or unfit, or there is a tensor besides them.
        """
        matrices = {"W_enc": (W_enc, dims[0]), "W_dec": (W_dec, dims[1])}
        found = {name: self.take(*each).T if each[1] == "d F" else self.take(*each) for name, each in matrices.items()}
        found |= {"b_enc": self.take(b_enc, "F"), "b_dec": self.take(b_dec, "d")}
        self.finish()
        return found

    def drop(self, *names: str) -> None:
        """Leave out what is not needed to use the dictionary."""
        for name in names:
            self._left.pop(name, None)

    def finish(self) -> None:
        """A `JobError` if there is a tensor that nothing is known of: the dictionary may be another than it seems."""
        if self._left:
            raise unreadable(self.path, "no other tensors than its format has", ", ".join(sorted(self._left)))


def assemble(
    path: Path, architecture: str, subtracts: bool, normalization: Normalization | None = None, /, **tensors: Tensor
) -> Dictionary:
    """The dictionary of these tensors, in our convention.

    Args:
        path: of the file, for messages.
        architecture: by its name here.
        subtracts: whether b_dec is subtracted from the input; else nothing is.
        normalization: of every token before the encoder.
        tensors: W_enc [F, d], W_dec [F, d], b_dec [d] and those of the architecture.

    Raises:
        JobError: its values are such as no dictionary has.
    """
    W_enc, b_dec, kind = tensors["W_enc"], tensors["b_dec"], architecture_class(architecture)
    mean = b_dec.clone() if normalization is None else torch.zeros_like(b_dec)
    found = {name: each.contiguous() for name, each in tensors.items()} | {"activation_mean": mean}
    if not subtracts:
        found["b_pre"] = torch.zeros(W_enc.shape[1])
    if (complaint := kind.complaint(found)) is not None:
        raise unreadable(path, *complaint)
    return kind(found, normalization)


def whole(path: Path, name: str, value: object, at_least: int = 1) -> int:
    """A whole number that a source states; a `JobError` where it is none."""
    if isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex():
        value = value.item()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or value < at_least:
        raise unreadable(path, f"{name}, a whole number from {at_least}", repr(value))
    return value


def count(k: int) -> Tensor:
    """k, as a TopK dictionary has it."""
    return torch.tensor([float(k)])


def row_norms(W_dec: Float[Tensor, "F d"]) -> Float[Tensor, " F"]:
    """The lengths of decoder rows, never 0."""
    return W_dec.square().sum(dim=1).sqrt().clamp_min(1e-30)


def text(facts: Facts | Mapping[str, Scalar], *names: str) -> str | None:
    """The first of these entries that is a text."""
    return next((found for name in names if isinstance(found := facts.get(name), str) and found), None)


def inner(facts: Facts, name: str) -> Facts:
    """An object inside of another; an empty one where there is none."""
    found = facts.get(name)
    return found if is_document(found) else {}


def number(value: object) -> float | None:
    """A number that float32 can hold; None for anything else."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if abs(value) <= torch.finfo(torch.float32).max else None


def cannot(path: Path, what: str, why: str) -> JobError:
    """The line for a dictionary that this version cannot represent exactly."""
    return JobError(f"{path}: {what} cannot be imported: {why}")


def with_center(dictionary: Dictionary, subtracts: bool) -> tuple[Dictionary, tuple[str, ...]]:
    """The same dictionary with `b_dec` subtracted from its input, or with nothing; and what was folded for that.

    x is centered by c: W_enc (x - c) + b = W_enc (x - c') + (b + W_enc (c' - c)), the same up to rounding.
    """
    center = dictionary.center
    wanted = dictionary.b_dec if subtracts else torch.zeros_like(center)
    if torch.equal(center, wanted):
        return dictionary, ()
    shift: Float[Tensor, " F"] = (dictionary.W_enc.double() @ (wanted - center).double()).float()
    if dictionary.architecture == "gated":
        biases = {
            "b_gate": dictionary.get_buffer("b_gate") + shift,
            "b_mag": dictionary.get_buffer("b_mag") + dictionary.get_buffer("r_mag").exp() * shift,
        }
    else:
        biases = {"b_enc": dictionary.b_enc + shift}
    into = "b_dec" if subtracts else "nothing"
    return dictionary.replace(**biases, b_pre=wanted.clone()), (
        f"what is subtracted from the input, into the encoder's bias: {into} is left",
    )
