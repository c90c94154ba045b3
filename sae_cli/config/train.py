"""The group `train`: how a dictionary is trained."""

from dataclasses import dataclass


@dataclass(kw_only=True)
class TrainingConfig:
    """Optimisation and bookkeeping; counts of tokens unless a name says steps.

    Attributes:
        batch_size: tokens a step.
        lr: peak learning rate of Adam.
        adam_beta1, adam_beta2: Adam's decay rates.
        lr_warmup: share of the steps over which the learning rate rises from 0.
        lr_decay: share of the steps, at the end, over which it falls to 0.
        l1_warmup: share of the steps over which the L1 coefficient rises from 0; a long rise lets features
            find a direction before they are pressed to be rare, and few die.
        decoder_fit: share of the steps, at the end, in which the encoder is frozen, the penalty off and the
            decoder fitted to the codes: undoes the shrinkage that L1 causes and leaves L0 as it is.
        shuffle_buffer: tokens held in memory to mix activations across the corpus; its first fill sets
            the activation scale and `b_dec`.
        dead_after: tokens without firing after which a feature counts as dead while training.
        log_every: steps between two lines of the training curve.
        held_out_every: steps between two measurements of held-out FVU.
        held_out_tokens: tokens of that measurement.
    """

    batch_size: int = 256
    lr: float = 5.6e-3
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    lr_warmup: float = 0.05
    lr_decay: float = 0.2
    l1_warmup: float = 0.8
    decoder_fit: float = 0.15
    shuffle_buffer: int = 131_072
    dead_after: int = 100_000
    log_every: int = 50
    held_out_every: int = 250
    held_out_tokens: int = 8_192
