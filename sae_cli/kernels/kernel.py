"""What a kernel computes: everything of a training step that costs time in proportion to N·F or to entries.

An architecture writes its loss and gradients once, in these terms; each kernel carries them out in its way.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar, NamedTuple

import torch

from sae_cli.kernels.codes import Codes
from sae_cli.tensor_types import Bool, Float, Int, Tensor

EPSILON = 1e-8
"""Of Adam."""


class AdamState(NamedTuple):
    """One parameter and what Adam keeps of it, all of one shape, [F, d] or [F].

    Attributes:
        parameter: what is trained.
        gradient: of the loss.
        mean: running mean of the gradient.
        square: running mean of the gradient's square.
    """

    parameter: Tensor
    gradient: Tensor
    mean: Tensor
    square: Tensor


class AdamStep(NamedTuple):
    """The numbers of one step of Adam, all for one parameter after another.

    Attributes:
        lr: learning rate.
        betas: decay rates of the two moments.
        number: how many steps this makes, from 1.
        gradient_scale: what gradients are multiplied by first.
        clip: a factor of gradients that the host need not know; None for 1.
    """

    lr: float
    betas: tuple[float, float]
    number: int
    gradient_scale: float = 1.0
    clip: Tensor | None = None

    @property
    def corrections(self) -> tuple[float, float]:
        """What the moments are divided by because they began at zero."""
        return 1 - self.betas[0] ** self.number, 1 - self.betas[1] ** self.number

    @property
    def numbers(self) -> tuple[float, float, float, float, float, float, float, float]:
        """What the compiled loops take: gradient scale, corrected rate, β₁, 1 - β₁, β₂, 1 - β₂, 1 / √correction₂, ε."""
        (beta1, beta2), (correction1, correction2) = self.betas, self.corrections
        return (
            self.gradient_scale,
            self.lr / correction1,
            beta1,
            1 - beta1,
            beta2,
            1 - beta2,
            correction2**-0.5,
            EPSILON,
        )


class Kernel(ABC):
    """Selection of entries, products of sparse with dense matrices, and their gradients.

    Attributes:
        runs_ahead: steps can be made without the host waiting for the device (see `ahead`).
    """

    runs_ahead: ClassVar[bool] = False

    def rows_at_once(self, n_features: int) -> int | None:
        """Batches of more rows are to be given in parts; None for no limit."""
        return None

    @contextmanager
    def ahead(self, missed: Bool[Tensor, ""]) -> Iterator[dict[Hashable, Int[Tensor, ""]]]:
        """Within it nothing is waited for; yields the numbers of entries that were found, once there are some.

        Args:
            missed: is set where there was no room for all entries of a product; `learn` makes room the next time. Adam
                leaves everything as it is as long as it is set.
        """
        yield {}

    def learn(self, found: Mapping[Hashable, int]) -> None:  # noqa: B027
        """Take note of the numbers of entries that a step has found, as `ahead` gave them."""

    @property
    def missed(self) -> Bool[Tensor, ""] | None:
        """What `ahead` was given, within it."""
        return None

    @abstractmethod
    def positive(self, x: Float[Tensor, "N D"], W: Float[Tensor, "F D"], b: Float[Tensor, " F"]) -> Codes:
        """The positive entries of x Wᵀ + b."""

    @abstractmethod
    def top_k(self, x: Float[Tensor, "N D"], W: Float[Tensor, "F D"], b: Float[Tensor, " F"], k: int) -> Codes:
        """The k largest entries of each row of x Wᵀ + b, those that are positive."""

    def top_k_among(
        self,
        x: Float[Tensor, "N D"],
        W: Float[Tensor, "F D"],
        b: Float[Tensor, " F"],
        k: int,
        among: Bool[Tensor, " F"],
    ) -> Codes:
        """The k largest entries of each row of x Wᵀ + b that are of the marked columns, those that are positive."""
        features = among.nonzero().squeeze(1)
        if not len(features):
            return Codes(torch.zeros(len(x) + 1, dtype=torch.int64), features.int(), x.new_zeros(0), len(W))
        found = self.top_k(x, W[features], b[features], min(k, len(features)))
        return Codes(found.starts, features[found.indices].int(), found.values, len(W))

    @abstractmethod
    def batch_top_k(self, x: Float[Tensor, "N D"], W: Float[Tensor, "F D"], b: Float[Tensor, " F"], k: int) -> Codes:
        """The N·k largest entries of x Wᵀ + b, those that are positive."""

    @abstractmethod
    def decode(self, codes: Codes, values: Float[Tensor, " E"], W: Float[Tensor, "F D"]) -> Float[Tensor, "N D"]:
        """Σ over the entries of each row of value · W[column]."""

    @abstractmethod
    def products(self, codes: Codes, y: Float[Tensor, "N D"], W: Float[Tensor, "F D"]) -> Float[Tensor, " E"]:
        """y[row] · W[column] for each entry."""

    @abstractmethod
    def add_outer_sums(
        self, codes: Codes, values: Float[Tensor, " E"], y: Float[Tensor, "N D"], total: Float[Tensor, "F D"]
    ) -> None:
        """Add to row f of `total`, in place, Σ over the entries of column f of value · y[row]."""

    def residual(
        self,
        codes: Codes,
        values: Float[Tensor, " E"],
        W: Float[Tensor, "F D"],
        target: Float[Tensor, "N D"],
    ) -> tuple[Float[Tensor, "N D"], Float[Tensor, " E"]]:
        """The error `decode` - target, and the error's `products` with W."""
        error = self.decode(codes, values, W).sub_(target)
        return error, self.products(codes, error, W)

    @abstractmethod
    def adam(self, state: AdamState, step: AdamStep, unit_rows: bool) -> None:
        """One step of Adam (Kingma & Ba 2015), all in place; the gradient is left at zero.

        Args:
            state: what is changed.
            step: rates and corrections.
            unit_rows: rows have norm 1 and keep it: the gradient's component along each row is left out.
        """
