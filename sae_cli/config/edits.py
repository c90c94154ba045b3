"""What can be changed of a dictionary and of a language model."""

from enum import Enum


class Finetune(Enum):
    """`decoder`: W_dec and b_dec, every code as it is; `all`: everything, on the loss it was trained with."""

    decoder = "decoder"
    all = "all"


class RandomScheme(Enum):
    """`reinit`: the model's own initializer; `gaussian`: each tensor's mean and standard deviation; `permute`: each
    tensor's entries in another order."""

    reinit = "reinit"
    gaussian = "gaussian"
    permute = "permute"


class ModelPart(Enum):
    """Token and position embeddings; the map to logits; the gains and biases of norms."""

    embed = "embed"
    unembed = "unembed"
    norm = "norm"
