"""Whole trainings by other packages, on the same batches in the same order, as a user of theirs gets them.

Each is that package's own trainer with its own schedule, on activations that are scaled as its own pipeline scales
them. What is left open, the learning rate and what sets the sparsity, is the caller's.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor

MATRYOSHKA = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 17 / 32)
"""Share of the features that each nested dictionary has more than the one before: the default of `sae train`."""
WARMUP, DECAY = 0.05, 0.2
"""Shares of the steps, at the two ends, in which the peers' learning rate rises and falls."""


@dataclass(frozen=True)
class Trained:
    """A finished dictionary: from activations [N, d] to features [N, F] and back (given what these are of, which a
    dictionary of a fixed scale does not need); `directions` [F, d]."""

    encode: Callable[[Tensor], Tensor]
    decode: Callable[..., Tensor]
    directions: Tensor

    def decoder_norms(self) -> Tensor:
        return self.directions.norm(dim=1)


class Order(NamedTuple):
    """What is to be trained.

    Attributes:
        architecture: its name in `sae train`.
        features: of the dictionary.
        sparsity: k, or the coefficient of the penalty, in the contender's own units.
        lr: the learning rate; None for the package's own.
        seed: of the first parameters.
    """

    architecture: str
    features: int
    sparsity: float
    lr: float | None
    seed: int


Train = Callable[[Order, list[Tensor]], Trained]
HIT = {
    "dictionary_learning": ("topk", "batch_topk", "matryoshka"),
    "SAELens": ("topk", "batch_topk", "matryoshka"),
}
"""Of each peer, the architectures whose `sparsity` is k itself; of the others it is searched for."""
AIMS = {("dictionary_learning", "jump_relu")}
"""Where `sparsity` is searched for and is an aim for L0, not a coefficient."""
FIRST = {
    ("dictionary_learning", "relu"): 0.03, ("dictionary_learning", "gated"): 0.03,
    ("dictionary_learning", "jump_relu"): 16.0, ("SAELens", "relu"): 1.0, ("SAELens", "gated"): 1.0,
    ("SAELens", "jump_relu"): 1.0,
}  # fmt: skip
"""Where the search for the sparsity begins."""


def peers() -> Iterator[tuple[str, Train]]:
    """The peers that are installed."""
    if find_spec("dictionary_learning"):
        yield "dictionary_learning", dictionary_learning
    if find_spec("sae_lens"):
        yield "SAELens", saelens


def unit_mean_square(batches: list[Tensor]) -> float:
    """What dictionary_learning multiplies activations by."""
    return 1 / float(torch.cat(batches[:100]).square().sum(dim=1).mean().sqrt())


def unit_mean_norm(batches: list[Tensor]) -> float:
    """What SAELens multiplies activations by, so that their mean norm is √d."""
    return batches[0].shape[1] ** 0.5 / float(torch.cat(batches[:100]).norm(dim=1).mean())


SCALES = {"dictionary_learning": unit_mean_square, "SAELens": unit_mean_norm}
"""Of each peer, what activations are multiplied by in its training."""


def dictionary_learning(order: Order, batches: list[Tensor]) -> Trained:
    """By its `trainSAE` without what fetches data: activations at unit mean square, as `normalize_activations` does."""
    from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
    from dictionary_learning.trainers.gdm import GatedSAETrainer
    from dictionary_learning.trainers.jumprelu import JumpReluTrainer
    from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKTrainer
    from dictionary_learning.trainers.standard import StandardTrainer
    from dictionary_learning.trainers.top_k import TopKTrainer

    steps, width = len(batches), batches[0].shape[1]
    scale = 1 / unit_mean_square(batches)
    common = {
        "steps": steps, "activation_dim": width, "dict_size": order.features, "layer": 0, "lm_name": "",
        "device": "cpu", "seed": order.seed,
        "warmup_steps": int(WARMUP * steps), "decay_start": int((1 - DECAY) * steps),
    }  # fmt: skip
    if order.lr is not None:
        common["lr"] = order.lr
    half, rise = {"threshold_start_step": steps // 2}, {"sparsity_warmup_steps": int(WARMUP * steps)}
    whole: dict[str, Callable[[], Any]] = {
        "topk": lambda: TopKTrainer(**common, k=int(order.sparsity)),
        "batch_topk": lambda: BatchTopKTrainer(**common, **half, k=int(order.sparsity)),
        "matryoshka": lambda: MatryoshkaBatchTopKTrainer(
            **common, **half, k=int(order.sparsity), group_fractions=list(MATRYOSHKA)
        ),
        "jump_relu": lambda: JumpReluTrainer(**common, **rise, target_l0=order.sparsity),
        "relu": lambda: StandardTrainer(**common, **rise, l1_penalty=order.sparsity),
        "gated": lambda: GatedSAETrainer(**common, **rise, l1_penalty=order.sparsity),
    }
    trainer = whole[order.architecture]()
    for number, x in enumerate(batches):
        trainer.update(number, x / scale)
    found = trainer.ae.eval()
    by_threshold = {"use_threshold": True} if order.architecture in ("batch_topk", "matryoshka") else {}
    decoder = found.decoder.weight.T if hasattr(found, "decoder") else found.W_dec
    return Trained(
        lambda x: found.encode(x / scale, **by_threshold),
        lambda f, *_: found.decode(f) * scale,
        decoder.detach(),
    )


def saelens(order: Order, batches: list[Tensor]) -> Trained:
    """By its `SAETrainer.fit`, saved for inference and loaded again."""
    from sae_lens import SAE
    from sae_lens.config import SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    torch.manual_seed(order.seed)
    steps, size = len(batches), len(batches[0])
    sae = _saelens_before(order, batches[0].shape[1], steps)
    settings = SAETrainerConfig(
        total_training_samples=steps * size, train_batch_size_samples=size, n_batches_for_norm_estimate=100,
        lr_warm_up_steps=int(WARMUP * steps), lr_decay_steps=int(DECAY * steps), lr_end=0.0,
        **({} if order.lr is None else {"lr": order.lr}),
    )  # fmt: skip
    trainer: Any = SAETrainer(settings, sae, data_provider=iter(chain(batches[:100], batches)))
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        fitted = trainer.fit()
        with tempfile.TemporaryDirectory() as folder:
            fitted.save_inference_model(folder)
            found: Any = SAE.load_from_disk(folder)
    return Trained(found.encode, lambda f, *_: found.decode(f), found.W_dec.detach())


def _saelens_before(order: Order, width: int, steps: int) -> Any:
    import sae_lens

    common: dict[str, Any] = {
        "d_in": width, "d_sae": order.features, "normalize_activations": "expected_average_only_in",
        "apply_b_dec_to_input": True,
    }  # fmt: skip
    rise, ends = int(WARMUP * steps), [int(sum(MATRYOSHKA[: i + 1]) * order.features) for i in range(len(MATRYOSHKA))]
    names = {
        "topk": ("TopK", {"k": int(order.sparsity)}),
        "batch_topk": ("BatchTopK", {"k": int(order.sparsity)}),
        "matryoshka": ("MatryoshkaBatchTopK", {"k": int(order.sparsity), "matryoshka_widths": ends}),
        "jump_relu": ("JumpReLU", {"l0_coefficient": order.sparsity, "l0_warm_up_steps": rise}),
        "relu": ("Standard", {"l1_coefficient": order.sparsity, "l1_warm_up_steps": rise}),
        "gated": ("Gated", {"l1_coefficient": order.sparsity, "l1_warm_up_steps": rise}),
    }
    name, own = names[order.architecture]
    settings = getattr(sae_lens, f"{name}TrainingSAEConfig")(**common, **own)
    return getattr(sae_lens, f"{name}TrainingSAE")(settings)
