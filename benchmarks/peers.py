"""One training step as other packages do it, from the same parameters, on the same batches.

Each `Peer` is that package's own module and trainer; only what fetches data is left out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any, NamedTuple

import timing
import torch
from torch import Tensor


class Start(NamedTuple):
    """The parameters that every contender starts from: W_enc [F, d], b_enc [F], W_dec [F, d], b_dec [d]."""

    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor


Step = Callable[[Tensor], Any]
LR = 1e-5  # so low that sparsity stays what it was set to


def peers(kind: str, start: Start, k: int, l1: float) -> Iterator[tuple[str, Step]]:
    """Every installed peer with an architecture of this kind: `l1` or `topk`."""
    if find_spec("sae_lens"):
        # Without bfloat16 in hardware, autocast makes it several times slower: its fastest setting is float32.
        for autocast in (False, True) if start.W_enc.is_cuda or any(timing.bfloat16()) else (False,):
            label = "bf16 autocast" if autocast else "fp32"
            yield f"SAELens, {label}", _saelens(kind, start, k, l1, autocast)
    if find_spec("dictionary_learning"):
        if kind == "l1":
            yield "dictionary_learning", _dictionary_learning_l1(start, l1)
        else:
            yield "dictionary_learning", _dictionary_learning_topk(start, k)
    if find_spec("sparsify") and kind == "topk":
        yield "sparsify", _sparsify(start, k)


def _saelens(kind: str, start: Start, k: int, l1: float, autocast: bool) -> Step:
    from sae_lens import StandardTrainingSAE, StandardTrainingSAEConfig, TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.config import SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    (features, width), device = start.W_enc.shape, str(start.W_enc.device)
    if kind == "l1":
        sae = StandardTrainingSAE(
            StandardTrainingSAEConfig(d_in=width, d_sae=features, l1_coefficient=l1, device=device)
        )
    else:
        sae = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=width, d_sae=features, k=k, device=device))
    _copy(sae.W_enc, start.W_enc.T)
    _copy(sae.W_dec, start.W_dec)
    _copy(sae.b_enc, start.b_enc)
    _copy(sae.b_dec, start.b_dec)
    settings = SAETrainerConfig(
        total_training_samples=10**9, train_batch_size_samples=1, lr=LR, lr_end=LR, autocast=autocast, device=device
    )
    trainer = SAETrainer(settings, sae, data_provider=iter(()))

    def step(x: Tensor) -> None:
        trainer.maybe_reset_sparsity()
        trainer.step(x)
        trainer.n_training_steps += 1

    return step


def _dictionary_learning_l1(start: Start, l1: float) -> Step:
    from dictionary_learning.trainers.standard import StandardTrainer

    features, width = start.W_enc.shape
    trainer = StandardTrainer(
        steps=10**6, activation_dim=width, dict_size=features, layer=0, lm_name="", lr=LR, l1_penalty=l1,
        warmup_steps=1, sparsity_warmup_steps=None, device=str(start.W_enc.device),
    )  # fmt: skip
    _copy(trainer.ae.encoder.weight, start.W_enc)
    _copy(trainer.ae.encoder.bias, start.b_enc)
    _copy(trainer.ae.decoder.weight, start.W_dec.T)
    _copy(trainer.ae.bias, start.b_dec)
    return _numbered(trainer)


def _dictionary_learning_topk(start: Start, k: int) -> Step:
    from dictionary_learning.trainers.top_k import TopKTrainer

    features, width = start.W_enc.shape
    trainer = TopKTrainer(
        steps=10**6, activation_dim=width, dict_size=features, k=k, layer=0, lm_name="", lr=LR, warmup_steps=1,
        device=str(start.W_enc.device),
    )  # fmt: skip
    _copy(trainer.ae.encoder.weight, start.W_enc)
    _copy(trainer.ae.encoder.bias, start.b_enc)
    _copy(trainer.ae.decoder.weight, start.W_dec.T)
    _copy(trainer.ae.b_dec, start.b_dec)
    return _numbered(trainer)


def _numbered(trainer: Any) -> Step:
    number = 0

    def step(x: Tensor) -> None:
        nonlocal number
        number += 1
        trainer.update(number, x)

    return step


def _sparsify(start: Start, k: int) -> Step:
    """The loop of its trainer around one batch, without the model's forward pass."""
    if not start.W_enc.is_cuda:
        os.environ["SPARSIFY_DISABLE_TRITON"] = "1"  # its kernels are for GPUs; read when it is imported
    from sparsify import SparseCoder, SparseCoderConfig

    features, width = start.W_enc.shape
    coder = SparseCoder(width, SparseCoderConfig(num_latents=features, k=k), device=start.W_enc.device)
    _copy(coder.encoder.weight, start.W_enc)
    _copy(coder.encoder.bias, start.b_enc)
    _copy(coder.W_dec, start.W_dec)
    _copy(coder.b_dec, start.b_dec)
    optimizer = torch.optim.Adam(coder.parameters(), lr=LR)
    since_fired = torch.zeros(features, dtype=torch.long, device=start.W_enc.device)

    def step(x: Tensor) -> None:
        out = coder(x, dead_mask=since_fired > 10_000_000)
        (out.fvu + out.auxk_loss / 32).backward()
        if coder.cfg.normalize_decoder:
            coder.remove_gradient_parallel_to_decoder_directions()
        optimizer.step()
        optimizer.zero_grad()
        if coder.cfg.normalize_decoder:
            coder.set_decoder_norm_to_unit_norm()
        fired = torch.zeros(features, dtype=torch.bool, device=start.W_enc.device)
        fired[out.latent_indices.flatten()] = True
        since_fired.add_(len(x))
        since_fired[fired] = 0

    return step


def _copy(parameter: Any, value: Tensor) -> None:
    parameter.data.copy_(value)
