"""The two sides of the split of every corpus."""

from enum import Enum


class Split(Enum):
    """Documents to train on, and documents (by a hash of their key) kept from all training."""

    train = "train"
    held_out = "held_out"
