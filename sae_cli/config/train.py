"""The group `train`: how a dictionary is trained."""

from dataclasses import dataclass, field
from enum import Enum

from sae_cli.config.roles import PathKind, number, place, setting, settings


class Kernel(Enum):
    """`auto`: by device, capability and measured density; the others: that one, whatever it costs."""

    auto = "auto"
    reference = "reference"
    sparse = "sparse"
    dense_bf16 = "dense_bf16"
    triton = "triton"


class Part(Enum):
    """A part of a dictionary: `encoder` is W_enc, `decoder` is W_dec; biases and thresholds are in neither."""

    encoder = "encoder"
    decoder = "decoder"


FORBID_BELOW = 1e-4
"""Frequency below which the features of another run count as its rare cluster."""


@dataclass(kw_only=True)
class TrainingConfig:
    """Optimisation and bookkeeping; counts of tokens unless a name says steps.

    Attributes:
        batch_size: tokens a step; on a GPU more by default.
        lr: peak learning rate of Adam.
        adam_beta1, adam_beta2: Adam's decay rates.
        clip_grad_norm: gradients with a larger norm, over all parameters together, are scaled down to it; null for
            never.
        lr_warmup: share of the steps over which the learning rate rises from 0.
        warmup_steps: steps over which it does, instead of a share of them; the first of them is made at 0, as by
            torch's `LambdaLR` with `step / warmup_steps`. Null for `lr_warmup`.
        lr_decay: share of the steps, at the end, over which it falls to 0.
        scale_activations: train on activations scaled to a mean norm of √d; else on activations as they are.
        shuffle_buffer: tokens held in memory to mix activations across the corpus; its first fill sets
            the activation scale and `b_dec`.
        dead_after: tokens without firing after which a feature counts as dead while training.
        log_every: steps between two lines of the training curve.
        held_out_every: steps between two measurements of held-out FVU.
        held_out_tokens: tokens of that measurement.
        density_windows: windows, evenly spaced on a log scale of steps, in which it is counted how often features fire.
        save_at: steps after which the dictionary is saved as it stands.
        forbid_direction: a training run: the direction that the encoder rows of its rare features have in
            common is kept out of all encoder rows; null for none.
        forbid_below: features of that run that fire, but on a smaller share of tokens in the last tenth of its
            training, are its rare ones.
        kernel: how the products of a step are computed.
        target_l0: features that are to fire, a token, of relu and gated dictionaries: the L1 coefficient begins at `l1`
            and is moved until so many do; null leaves it there.
        freeze: parts that stay as they begin, at random directions, to the last bit: controls for what training them
            is worth (Korznikov et al. 2026, arXiv 2602.14111). With a frozen decoder there is no decoder fit; with a
            frozen encoder the fit leaves decoder rows at the norms that it finds.
    """

    batch_size: int = number(256, at_least=1)
    lr: float = number(5.6e-3, above=0)
    adam_beta1: float = number(0.9, at_least=0, below=1)
    adam_beta2: float = number(0.999, at_least=0, below=1)
    clip_grad_norm: float | None = number(None, above=0)
    lr_warmup: float = number(0.05, at_least=0, at_most=1)
    warmup_steps: int | None = number(None, at_least=0, added=True)
    lr_decay: float = number(0.2, at_least=0, at_most=1)
    scale_activations: bool = setting(True, added=True)
    shuffle_buffer: int = number(131_072, at_least=1)
    dead_after: int = number(100_000, at_least=1)
    log_every: int = number(50, at_least=1, execution=True)
    held_out_every: int = number(250, at_least=1, execution=True)
    held_out_tokens: int = number(8_192, at_least=2)
    density_windows: int = number(80, at_least=1)
    save_at: list[int] = field(default_factory=list)
    forbid_direction: str | None = place(PathKind.here, None)
    forbid_below: float = number(FORBID_BELOW, above=0, at_most=1)
    kernel: Kernel = Kernel.auto
    freeze: list[Part] = settings(list, added=True)
    target_l0: float | None = number(None, above=0, added=True)

    def __post_init__(self) -> None:
        self.save_at = sorted(set(self.save_at))
        self.freeze = sorted(set(self.freeze), key=lambda each: each.value)
        if len(self.freeze) == len(Part):
            raise ValueError("train.freeze=[encoder,decoder]: nothing is left to train but biases; give one of them")
        if self.forbid_direction is None and self.forbid_below != FORBID_BELOW:
            raise ValueError(
                f"train.forbid_below={self.forbid_below:g} has no effect without train.forbid_direction=: give it"
            )
