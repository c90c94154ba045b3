"""A whole training run on harvested activations: `sae train` against SAELens's trainer, to the saved file.

    python benchmarks/train_run.py --tokens 2_000_000

Both start from the same parameters and take the same batches in the same order with the same loss, learning rate,
warm-ups and decay (L1 with free decoder norms, which is SAELens's standard); held-out L0 and FVU are measured by
the same code. SAELens is given its batches by our reader.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timing
import torch
from torch import Tensor

import sae_cli
from sae_cli.activations.source import ActivationSource, ActivationSources
from sae_cli.commands import harvest, train
from sae_cli.config.commands.harvest import HarvestConfig
from sae_cli.config.commands.train import TrainConfig
from sae_cli.config.compose import configured
from sae_cli.config.settings import result_settings
from sae_cli.dictionaries.objective import tied_encoder_scale
from sae_cli.evaluation.encode import measure
from sae_cli.metrics.encoded import Coder, Encoded
from sae_cli.metrics.reconstruction import ReconstructionSums
from sae_cli.terminal import console
from sae_cli.training.initialize import activation_scale, random_directions

HELD_OUT = 65_536


def settings_of(arguments: Any) -> list[str]:
    """The overrides that make our run the same as SAELens's."""
    return [
        "hook=mlp_out",
        f"dict_size={arguments.features}",
        f"tokens={arguments.tokens}",
        f"l1={arguments.l1}",
        f"train.batch_size={arguments.batch_size}",
        f"train.lr={arguments.lr}",
        "train.clip_grad_norm=1",  # as SAELens always does
        "train.lr_warmup=0.05",
        "train.lr_decay=0.2",
        "train.held_out_every=1_000_000",
        "sae.decoder_norm=free",
        "sae.b_dec_init=zero",
        "sae.sparsity_warmup=0.05",
        "sae.decoder_fit=0",
        f"runs_dir={arguments.runs_dir}",
        f"seed={arguments.seed}",
    ]


@dataclass(frozen=True)
class Peer:
    """Another package's dictionary, in raw units."""

    encode: Callable[[Tensor], Tensor]
    decode: Callable[..., Tensor]
    decoder_norms: Callable[[], Tensor]


def figures(dictionary: Coder, x: Tensor) -> dict[str, float]:
    """Held-out FVU and L0."""
    sums = ReconstructionSums(origin=x.mean(dim=0))
    measure((Encoded(dictionary, part) for part in x.split(4096)), sums)
    results = sums.results()
    return {"fvu": float(results["fvu"] or 0), "l0": float(results["l0"] or 0)}


def our_run(config: TrainConfig, directory: Path, held_out: Tensor) -> dict[str, float]:
    started = time.perf_counter()
    train.run(config, directory)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, **figures(sae_cli.load(directory), held_out)}


def saelens_run(
    config: TrainConfig, source: ActivationSource, directory: Path, held_out: Tensor, autocast: bool
) -> dict[str, float]:
    from sae_lens import StandardTrainingSAE, StandardTrainingSAEConfig
    from sae_lens.config import SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    steps, width = config.tokens // config.train.batch_size, held_out.shape[1]
    sae = StandardTrainingSAE(
        StandardTrainingSAEConfig(
            d_in=width, d_sae=config.dict_size, l1_coefficient=config.l1, l1_warm_up_steps=round(0.05 * steps)
        )
    )
    rows = random_directions(config.dict_size, width, config.seed)
    sae.W_dec.data.copy_(rows)
    sae.W_enc.data.copy_((rows * tied_encoder_scale(config.dict_size, width)).T)

    started = time.perf_counter()
    scale = activation_scale(source.batches.sample)

    def provider() -> Iterator[Tensor]:
        for batch in source.batches:
            yield batch * scale

    trainer = SAETrainer(
        SAETrainerConfig(
            total_training_samples=steps * config.train.batch_size,
            train_batch_size_samples=config.train.batch_size,
            lr=config.train.lr,
            lr_end=0.0,
            lr_warm_up_steps=round(config.train.lr_warmup * steps),
            lr_decay_steps=round(config.train.lr_decay * steps),
            autocast=autocast,
        ),
        sae,
        data_provider=provider(),
    )
    trainer.fit()
    sae.save_model(str(directory))
    seconds = time.perf_counter() - started
    peer = Peer(lambda x: sae.encode(x * scale), lambda f, *_: sae.decode(f) / scale, lambda: sae.W_dec.norm(dim=1))
    return {"seconds": seconds, **figures(peer, held_out)}


def main() -> None:
    parser = timing.parser(__doc__)
    parser.add_argument("--tokens", type=int, default=2_000_000)
    parser.add_argument("--features", type=int, default=8192)
    parser.add_argument("--batch-size", type=int, default=4096)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--l1", type=float, default=2.0)
    parser.add_argument("--runs-dir", type=Path, default=Path("runs/benchmark"))
    parser.set_defaults(rounds=1)
    arguments = parser.parse_args()
    console.configure(quiet=True)

    wanted = configured(HarvestConfig, [f"tokens={arguments.tokens}", f"runs_dir={arguments.runs_dir}"])
    harvest.run(wanted, arguments.runs_dir / "harvest" / f"T{arguments.tokens}")
    rows, results = [], []
    for seed in range(arguments.rounds):
        arguments.seed = seed
        config = configured(TrainConfig, settings_of(arguments))
        device = torch.device("cpu")
        held_out = ActivationSources(device).open(config, result_settings(config)).held_out(HELD_OUT)
        for name in ("sae", "SAELens, fp32", *(["SAELens, bf16 autocast"] if any(timing.bfloat16()) else [])):
            directory = arguments.runs_dir / "whole" / f"{name.replace(', ', '-').replace(' ', '-')}-{time.time_ns()}"
            if name == "sae":
                found = our_run(config, directory, held_out)
            else:
                source = ActivationSources(device).open(config, result_settings(config))
                found = saelens_run(config, source, directory, held_out, autocast="bf16" in name)
            results.append({"name": name, "seed": seed, **found})
            rows.append((seed, name, found["seconds"], found["l0"], found["fvu"]))
    report = {"settings": {k: str(v) for k, v in vars(arguments).items()}, "figures": results}
    timing.report("train_run", ("seed", "trainer", "seconds", "L0", "FVU"), rows, report, arguments.json)


if __name__ == "__main__":
    main()
