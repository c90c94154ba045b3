"""What it takes to train an architecture: parameters, and the gradients of its loss.

Gradients are written out rather than left to autograd, because a kernel can then compute them at the few
entries that are active. Everything is in scaled units (mean norm √d); sums are over dimensions and features,
losses are means over the tokens of a batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch

from sae_cli.dictionaries.base import Dictionary
from sae_cli.kernels.codes import Codes
from sae_cli.kernels.kernel import Kernel
from sae_cli.state import State
from sae_cli.tensor_types import Bool, Float, Int, Tensor


@dataclass(frozen=True)
class StepContext:
    """Where training is.

    Attributes:
        batch_size: tokens of the whole batch, over which the loss is a mean.
        sparsity: what the sparsity penalty's coefficient is multiplied by, 0 to 1.
        dead: features that have not fired for long [F].
        may_be_dead: whether a feature can have been silent for so long.
    """

    batch_size: int
    sparsity: float
    dead: Bool[Tensor, " F"]
    may_be_dead: bool = True


@dataclass(frozen=True)
class BatchSums:
    """Sums over tokens, on the device: to read them is to wait for it.

    Attributes:
        squared_error: Σ‖x - x̂‖², float64.
        penalty: what the loss has beyond that, float64.
        l0: number of active entries, int64.
        count: on how many tokens each feature was active, int64 [F].
    """

    squared_error: Float[Tensor, ""]
    penalty: Float[Tensor, ""]
    l0: Int[Tensor, ""]
    count: Int[Tensor, " F"]

    @property
    def fired(self) -> Bool[Tensor, " F"]:
        """Which features were active on any token."""
        return self.count > 0

    def __add__(self, other: BatchSums) -> BatchSums:
        return BatchSums(
            self.squared_error + other.squared_error,
            self.penalty + other.penalty,
            self.l0 + other.l0,
            self.count + other.count,
        )


class Start(NamedTuple):
    """What a dictionary in training begins with, in the units of training.

    Attributes:
        read: random unit rows where it reads [F, d_in].
        written: random unit rows where it writes [F, d_out]; of an autoencoder the same.
        b_dec: the decoder's bias [d_out].
        b_pre: what is subtracted from what it reads [d_in]; None for an autoencoder, which subtracts `b_dec`.
    """

    read: Float[Tensor, "F D"]
    written: Float[Tensor, "F E"]
    b_dec: Float[Tensor, " E"]
    b_pre: Float[Tensor, " D"] | None = None

    def to(self, device: torch.device) -> Start:
        """The same on a device."""
        b_pre = None if self.b_pre is None else self.b_pre.to(device)
        return Start(self.read.to(device), self.written.to(device), self.b_dec.to(device), b_pre)


class Objective(ABC):
    """The parameters of one dictionary in training, with a gradient each.

    Args:
        W_enc: first encoder rows [F, d_in].
        W_dec: first decoder rows [F, d_out].
        b_dec: first decoder bias [d_out].
        unit_rows: decoder rows are kept at norm 1, so gradients along them do not matter.
    """

    dictionary: type[Dictionary]
    trained: ClassVar[tuple[str, ...]] = ("W_enc", "b_enc", "W_dec", "b_dec")
    divisible: ClassVar[bool] = True
    """Whether the loss of a batch is the sum of the losses of its parts."""

    first_values: Mapping[str, float] = {"b_enc": 0.0}
    """What each parameter that is one number a feature starts from."""

    l1: float = 0.0
    """Coefficient of the L1 penalty, where there is one."""

    W_enc: Float[Tensor, "F D"]
    b_enc: Float[Tensor, " F"]
    W_dec: Float[Tensor, "F E"]
    b_dec: Float[Tensor, " E"]
    b_pre: Float[Tensor, " D"] | None = None
    """What is subtracted from the input, where that is not `b_dec`; not trained, because `b_enc` does as well."""

    def __init__(
        self, W_enc: Float[Tensor, "F D"], W_dec: Float[Tensor, "F E"], b_dec: Float[Tensor, " E"], unit_rows: bool
    ) -> None:
        self.unit_rows = unit_rows
        self._set(W_enc=W_enc, b_enc=W_enc.new_zeros(len(W_enc)), W_dec=W_dec, b_dec=b_dec)

    def _set(self, **parameters: Tensor) -> None:
        for name, start in parameters.items():
            parameter = start.detach().clone()
            parameter.grad = torch.zeros_like(parameter)
            setattr(self, name, parameter)

    @property
    def parameters(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in self.trained}

    @property
    def center(self) -> Float[Tensor, " D"]:
        """What is subtracted from the input [d_in]."""
        return self.b_dec if self.b_pre is None else self.b_pre

    @abstractmethod
    def accumulate(
        self, x: Float[Tensor, "N D"], y: Float[Tensor, "N E"], kernel: Kernel, context: StepContext
    ) -> BatchSums:
        """Add the gradients of these tokens' share of the loss to those that are there.

        Args:
            x: what is read.
            y: what is to be written: x itself for an autoencoder.
            kernel: carries out the products.
            context: where training is.
        """

    def centered(
        self, x: Float[Tensor, "N D"], y: Float[Tensor, "N E"]
    ) -> tuple[Float[Tensor, "N D"], Float[Tensor, "N E"]]:
        """What the encoder sees, and what the decoder's rows are to sum to; one tensor for an autoencoder."""
        read = x - self.center
        return read, read if y is x and self.b_pre is None else y - self.b_dec

    def finish_gradients(self, context: StepContext) -> None:  # noqa: B027
        """Called once all of a batch is accumulated; most losses leave nothing to be done."""

    def hold_sparsity(self, l0: Float[Tensor, ""], progress: float, moved: Bool[Tensor, ""]) -> None:  # noqa: B027
        """Called after each step: `l0` is the batch's mean number of active features, `progress` the share of the
        steps before the decoder fit that are done, `moved` whether the step has been made. Most sparsity needs no
        holding."""

    def remembered(self) -> dict[str, Tensor]:
        """What a step changes beside parameters; replaced by each step, not written into."""
        return {}

    def recall(self, remembered: Mapping[str, Tensor]) -> None:
        """Have it be what it was."""
        for name, tensor in remembered.items():
            setattr(self, name, tensor)

    def start_from(self, dictionary: Dictionary) -> None:
        """Take the parameters of a dictionary that is in the units of training."""
        for name, parameter in self.parameters.items():
            parameter.copy_(getattr(dictionary, name))

    @property
    def per_feature(self) -> tuple[str, ...]:
        """The parameters that have a row, or a number, for each feature."""
        return ("W_enc", "W_dec", *self.first_values)

    def reinitialize(
        self, features: Int[Tensor, " K"], W_enc: Float[Tensor, "K D"], W_dec: Float[Tensor, "K E"]
    ) -> None:
        """Give features new rows; their other parameters are what they were at the start."""
        self.W_enc[features], self.W_dec[features] = W_enc, W_dec
        for name, value in self.first_values.items():
            self.parameters[name][features] = value

    def fire_above(self, features: Int[Tensor, " K"], limits: Float[Tensor, " K"]) -> None:
        """Let features that were just given new rows be active where W_enc (x - center) is above these limits."""
        self.b_enc[features] = -limits

    def tensors(self) -> Mapping[str, Tensor]:
        """The tensors of the dictionary, but for `activation_mean`."""
        tensors = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
        return tensors if self.b_pre is None else {**tensors, "b_pre": self.b_pre.clone()}

    def state(self) -> dict[str, Tensor]:
        """All that changes from step to step, between two of them, and what the beginning of the data has set."""
        return self.parameters if self.b_pre is None else {**self.parameters, "b_pre": self.b_pre}

    def restore(self, state: State) -> None:
        """Take up the state of an objective that was made in the same way."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])

    def decoder_norms(self) -> Float[Tensor, " F"]:
        return self.W_dec.new_ones(len(self.W_dec)) if self.unit_rows else self.W_dec.norm(dim=1)

    def add_encoder_gradients(
        self, codes: Codes, d_pre: Float[Tensor, " E"], centered: Float[Tensor, "N D"], kernel: Kernel
    ) -> None:
        """Gradients of W_enc, b_enc and b_dec through pre = W_enc (x - center) + b_enc at the entries."""
        d_b_enc = codes.column_sums(d_pre)
        kernel.add_outer_sums(codes, d_pre, centered, gradient(self.W_enc))
        gradient(self.b_enc).add_(d_b_enc)
        self.add_center_gradient(d_b_enc)

    def add_center_gradient(self, d_pre: Float[Tensor, " F"]) -> None:
        """The gradient of what is subtracted from the input, given the sums over tokens of those of pre-activations."""
        if self.b_pre is None:
            gradient(self.b_dec).sub_(d_pre @ self.W_enc)


def gradient(parameter: Float[Tensor, "*_"]) -> Float[Tensor, "*_"]:
    """The buffer of a parameter's gradient."""
    assert parameter.grad is not None
    return parameter.grad


def squared_sum(x: Float[Tensor, "*_"]) -> Float[Tensor, ""]:
    """Σ x², summed by rows and then in float64."""
    return torch.linalg.vector_norm(x, dim=1).double().square().sum()


MakeObjective = Callable[[Start], Objective]
"""From what a training begins with, on the device, to an objective."""


def tied_encoder_scale(n_features: int, width: int) -> float:
    """How much shorter than the (unit) decoder rows the tied encoder rows begin: at most 1.

    F random directions with a ReLU give back F/2d times the input; with this factor the first
    reconstruction is about as long as the activation, where unit rows overshoot several times.
    """
    return min(1.0, 2 * width / n_features)
