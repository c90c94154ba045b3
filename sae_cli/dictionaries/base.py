"""What every dictionary is, whatever its architecture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from sae_cli.errors import JobError
from sae_cli.kernels.codes import Codes
from sae_cli.tensor_types import Float, Int


class Dictionary(nn.Module, ABC):
    """A sparse autoencoder: x̂ = decode(encode(x)), features are rows.

    Attributes:
        W_enc: encoder directions [F, d].
        b_enc: encoder biases [F].
        W_dec: decoder directions [F, d].
        b_dec: what is added to the output and, unless there is a `b_pre`, subtracted from the input [d].
        b_pre: what is subtracted from the input [d], where the output's bias was changed and codes were not to be.
        activation_mean: the mean of the activations it was trained on [d], in its own units.
    """

    architecture: ClassVar[str]
    tensor_names: ClassVar[tuple[str, ...]] = ("W_enc", "b_enc", "W_dec", "b_dec", "activation_mean")
    in_activation_units: ClassVar[frozenset[str]] = frozenset({"b_enc", "b_dec", "b_pre", "activation_mean"})
    per_feature: ClassVar[frozenset[str]] = frozenset({"W_enc", "b_enc", "W_dec"})

    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor
    b_pre: Tensor | None
    activation_mean: Tensor

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        if missing := [name for name in self.tensor_names if name not in tensors]:
            raise JobError(
                f"a {self.architecture} dictionary needs the tensors {', '.join(missing)}; found {', '.join(tensors)}"
            )
        n_features, width = tensors["W_enc"].shape
        for name, shape in self.shapes(n_features, width).items():
            if tuple(tensors[name].shape) != shape:
                raise JobError(f"{name}: expected shape {shape}, found {tuple(tensors[name].shape)}")
        for name in self.tensor_names:
            self.register_buffer(name, tensors[name].float())
        b_pre = tensors.get("b_pre")
        if b_pre is not None and b_pre.shape != (width,):
            raise JobError(f"b_pre: expected shape {(width,)}, found {tuple(b_pre.shape)}")
        self.register_buffer("b_pre", None if b_pre is None else b_pre.float())

    @classmethod
    def shapes(cls, n_features: int, width: int) -> dict[str, tuple[int, ...]]:
        """The shapes of its tensors, those that follow from its size."""
        F, d = n_features, width
        return {"W_enc": (F, d), "b_enc": (F,), "W_dec": (F, d), "b_dec": (d,), "activation_mean": (d,)}

    @classmethod
    def complaint(cls, tensors: Mapping[str, Tensor]) -> tuple[str, str] | None:
        """What is expected of the values of its own tensors and what is found instead, where that is so."""
        return None

    @property
    def n_features(self) -> int:
        return self.W_enc.shape[0]

    @property
    def width(self) -> int:
        return self.W_enc.shape[1]

    @property
    def centre(self) -> Tensor:
        """What is subtracted from the input [d]."""
        return self.b_dec if self.b_pre is None else self.b_pre

    @property
    def encoder_bias(self) -> Tensor:
        """What decides, with W_enc, whether a feature is active [F]."""
        return self.b_enc

    @abstractmethod
    def encode(self, x: Float[Tensor, "*N D"]) -> Float[Tensor, "*N F"]:
        """Feature activations, non-negative, in the units of x."""

    def codes(self, x: Float[Tensor, "N D"]) -> Codes:
        """The positive entries of `encode(x)`, on the CPU."""
        return Codes.of_dense(self.encode(x))

    def decode(self, f: Float[Tensor, "*N F"]) -> Float[Tensor, "*N D"]:
        """x̂ = W_decᵀ f + b_dec."""
        return f @ self.W_dec + self.b_dec

    def forward(self, x: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
        return self.decode(self.encode(x))

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by its name, as on disk."""
        tensors = {name: getattr(self, name) for name in self.tensor_names}
        return tensors if self.b_pre is None else {**tensors, "b_pre": self.b_pre}

    def keep(self, features: Int[Tensor, " K"]) -> Dictionary:
        """The dictionary of these features alone."""
        return self.replace(**{name: getattr(self, name)[features] for name in self.per_feature})

    def replace(self, **tensors: Tensor) -> Dictionary:
        """The same dictionary with other tensors in some places."""
        return type(self)({**self.tensors(), **tensors})

    def for_inputs_divided_by(self, scale: float) -> Dictionary:
        """The same dictionary for x / scale, decoder rows as they are: scaled training back to raw units.

        A dictionary trained on s·x becomes one for x with `for_inputs_divided_by(s)`: whatever is in
        units of activations is divided, directions are kept.
        """
        return type(self)(
            {name: t / scale if name in self.in_activation_units else t for name, t in self.tensors().items()}
        )

    def decoder_norms(self) -> Float[Tensor, " F"]:
        return self.W_dec.norm(dim=1)

    @torch.no_grad()
    def de_projection(self) -> Float[Tensor, " F"]:
        """Encoder row · decoder row: about 1 for a working feature, whatever its scale."""
        return (self.W_enc * self.W_dec).sum(dim=1)

    @torch.no_grad()
    def de_cosine(self) -> Float[Tensor, " F"]:
        """The cosine of encoder row and decoder row."""
        return torch.nn.functional.cosine_similarity(self.W_enc, self.W_dec, dim=1)
