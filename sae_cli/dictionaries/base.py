"""What every dictionary is, whatever its architecture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from sae_cli.dictionaries.normalization import Normalization
from sae_cli.errors import JobError
from sae_cli.kernels.codes import Codes
from sae_cli.tensor_types import Float, Int


class Dictionary(nn.Module, ABC):
    """A sparse dictionary: ŷ = decode(encode(x)), features are rows; an autoencoder's y is x.

    Attributes:
        W_enc: encoder directions [F, d_in].
        b_enc: encoder biases [F].
        W_dec: decoder directions [F, d_out].
        b_dec: what is added to the output and, unless there is a `b_pre`, subtracted from the input [d_out].
        b_pre: what is subtracted from the input [d_in]: of a dictionary that writes elsewhere than it reads, and where
            the output's bias was changed and codes were not to be.
        activation_mean: the mean of what it was trained to write [d_out], in its own units.
        normalization: what is done to each token's activation before all of this, and undone after it; then features,
            and all but `activation_mean`, are in units of what is normalized. None for nothing.
    """

    architecture: ClassVar[str]
    tensor_names: ClassVar[tuple[str, ...]] = ("W_enc", "b_enc", "W_dec", "b_dec", "activation_mean")
    in_activation_units: ClassVar[frozenset[str]] = frozenset({"b_enc", "b_dec", "activation_mean"})
    """The tensors in units of what is written; `b_pre` is in those of what is read."""
    per_feature: ClassVar[frozenset[str]] = frozenset({"W_enc", "b_enc", "W_dec"})

    W_enc: Float[Tensor, "F D"]
    b_enc: Float[Tensor, " F"]
    W_dec: Float[Tensor, "F E"]
    b_dec: Float[Tensor, " E"]
    b_pre: Float[Tensor, " D"] | None
    activation_mean: Float[Tensor, " E"]

    def __init__(self, tensors: Mapping[str, Tensor], normalization: Normalization | None = None) -> None:
        super().__init__()
        self.normalization = normalization
        if missing := [name for name in self.tensor_names if name not in tensors]:
            raise JobError(
                f"a {self.architecture} dictionary needs the tensors {', '.join(missing)}; found {', '.join(tensors)}"
            )
        n_features, d_in = tensors["W_enc"].shape
        d_out = tensors["W_dec"].shape[-1] if tensors.get("b_pre") is not None else d_in
        for name, shape in self.shapes(n_features, d_in, d_out).items():
            if tuple(tensors[name].shape) != shape:
                raise JobError(f"{name}: expected shape {shape}, found {tuple(tensors[name].shape)}")
        for name in self.tensor_names:
            self.register_buffer(name, tensors[name].float())
        b_pre = tensors.get("b_pre")
        if b_pre is not None and b_pre.shape != (d_in,):
            raise JobError(f"b_pre: expected shape {(d_in,)}, found {tuple(b_pre.shape)}")
        self.register_buffer("b_pre", None if b_pre is None else b_pre.float())
        if normalization and d_out != d_in:
            raise JobError(f"{normalization.value}: expected a dictionary that writes what it reads, found another")

    @classmethod
    def shapes(cls, n_features: int, d_in: int, d_out: int) -> dict[str, tuple[int, ...]]:
        """The shapes of its tensors, those that follow from its size."""
        F = n_features
        written = {"W_dec": (F, d_out), "b_dec": (d_out,), "activation_mean": (d_out,)}
        return {"W_enc": (F, d_in), "b_enc": (F,), **written}

    @classmethod
    def complaint(cls, tensors: Mapping[str, Tensor]) -> tuple[str, str] | None:
        """What is expected of the values of its own tensors and what is found instead, where that is so."""
        return None

    @property
    def n_features(self) -> int:
        return self.W_enc.shape[0]

    @property
    def d_in(self) -> int:
        """Width of what it reads."""
        return self.W_enc.shape[1]

    @property
    def d_out(self) -> int:
        """Width of what it writes."""
        return self.W_dec.shape[1]

    @property
    def center(self) -> Float[Tensor, " D"]:
        """What is subtracted from the input [d_in]."""
        return self.b_dec if self.b_pre is None else self.b_pre

    @property
    def encoder_bias(self) -> Float[Tensor, " F"]:
        """What decides, with W_enc, whether a feature is active [F]."""
        return self.b_enc

    @abstractmethod
    def encode(self, x: Float[Tensor, "*N D"]) -> Float[Tensor, "*N F"]:
        """Feature activations, non-negative, in the units of what is written."""

    def codes(self, x: Float[Tensor, "N D"]) -> Codes:
        """The positive entries of `encode(x)`, on the CPU."""
        return Codes.of_dense(self.encode(x))

    def centered(self, x: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
        """What W_enc is applied to: x, normalized where that is so, less `center`."""
        return (self.normalization.apply(x) if self.normalization else x) - self.center

    def decode(self, f: Float[Tensor, "*N F"], x: Float[Tensor, "*N D"] | None = None) -> Float[Tensor, "*N E"]:
        """ŷ = W_decᵀ f + b_dec, scaled back by what x was normalized by.

        Args:
            f: features.
            x: what they are of; only a dictionary that normalizes every token needs it.

        Raises:
            ValueError: it is needed and not given.
        """
        y = f @ self.W_dec + self.b_dec
        if self.normalization is None:
            return y
        if x is None:
            raise ValueError(
                f"each token's activation is {self.normalization.described}: expected decode(f, x) with the "
                "activations x that f is of, found decode(f)"
            )
        return self.normalization.undo(y, x)

    def written_by(self, feature: int, f: Float[Tensor, "*N F"], x: Float[Tensor, "*N D"]) -> Float[Tensor, "*N E"]:
        """What one feature adds to ŷ."""
        added = f[..., feature, None] * self.W_dec[feature]
        return added * self.normalization.of(x).scale if self.normalization else added

    def forward(self, x: Float[Tensor, "*N D"]) -> Float[Tensor, "*N E"]:
        return self.decode(self.encode(x), x)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by its name, as on disk."""
        tensors = {name: getattr(self, name) for name in self.tensor_names}
        return tensors if self.b_pre is None else {**tensors, "b_pre": self.b_pre}

    def keep(self, features: Int[Tensor, " K"]) -> Dictionary:
        """The dictionary of these features alone."""
        return self.replace(**{name: getattr(self, name)[features] for name in self.per_feature})

    def replace(self, **tensors: Tensor) -> Dictionary:
        """The same dictionary with other tensors in some places."""
        return type(self)({**self.tensors(), **tensors}, self.normalization)

    def without_normalization(self) -> Dictionary:
        """The same tensors, with x as it is."""
        return type(self)(self.tensors())

    def in_units_divided_by(self, read: float, written: float) -> Dictionary:
        """The same dictionary for x / read and y / written, decoder rows as they are: from scaled to raw units.

        A dictionary that was trained to make written·y of read·x becomes one that makes y of x: whatever is in units of
        activations is divided, and encoder rows take up the ratio of the two. One that normalizes every token has no
        units of activations.
        """
        assert self.normalization is None, "a dictionary that normalizes every token has no units to change"
        tensors = {name: t / written if name in self.in_activation_units else t for name, t in self.tensors().items()}
        if self.b_pre is not None:
            tensors["b_pre"] = self.b_pre / read
        if read != written:
            tensors["W_enc"] = self.W_enc * (read / written)
        return type(self)(tensors)

    def decoder_norms(self) -> Float[Tensor, " F"]:
        return self.W_dec.norm(dim=1)

    @torch.no_grad()
    def de_projection(self) -> Float[Tensor, " F"]:
        """Encoder row · decoder row, of an autoencoder: about 1 for a working feature, whatever its scale."""
        return (self.W_enc * self.W_dec).sum(dim=1)

    @torch.no_grad()
    def de_cosine(self) -> Float[Tensor, " F"]:
        """The cosine of encoder row and decoder row, of an autoencoder."""
        return torch.nn.functional.cosine_similarity(self.W_enc, self.W_dec, dim=1)
