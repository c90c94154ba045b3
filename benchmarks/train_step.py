"""One training step: this package against its peers and against its floor, one encoder matrix product.

    python benchmarks/train_step.py --shape 4096,512,32768 --active 50 --k 64

Our step is the trainer's own: scaling, schedules, the norm constraint, dead features and a line of the training
curve every time. All contenders start from the same parameters and see the same batches, interleaved. `l1` sets
the encoder bias so that `--active` features fire; `topk` takes `--k`.

    python benchmarks/train_step.py --device cuda --between 20

On a GPU the floor is that product and one pass over the parameters and Adam's state; `--between` steps are made between
two lines of the curve.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle

import peers
import timing
import torch
from torch import Tensor

from sae_cli.config.sae import BiasInit
from sae_cli.dictionaries.auxiliary import AuxiliaryLoss
from sae_cli.dictionaries.objective import Objective, Start
from sae_cli.dictionaries.relu import ReluObjective
from sae_cli.dictionaries.topk import TopKObjective
from sae_cli.kernels.choice import bfloat16_is_fast
from sae_cli.training.recipe import Recipe
from sae_cli.training.trainer import Trainer

L1 = 1.0
_BATCHES = 4


def batches(n: int, width: int) -> list[Tensor]:
    """Random activations of norm √d, as training scales them to."""
    x = torch.randn(_BATCHES * n, width, generator=torch.Generator().manual_seed(0))
    return list((x * width**0.5 / x.norm(dim=1, keepdim=True)).split(n))


def start(kind: str, features: int, active: int, x: Tensor) -> peers.Start:
    """Random unit rows, and for `l1` a bias under which `active` features fire."""
    W = torch.randn(features, x.shape[1], generator=torch.Generator().manual_seed(1))
    W /= W.norm(dim=1, keepdim=True)
    b_enc = torch.zeros(features)
    if kind == "l1":
        pre = (x[:256] @ W.T).flatten()
        b_enc -= pre.kthvalue(int(len(pre) * (1 - active / features))).values
    return peers.Start(W, b_enc, W.clone(), torch.zeros(x.shape[1]))


def our_trainer(kind: str, begin: peers.Start, k: int, x: Tensor, kernel: str, device: str = "cpu") -> Trainer:
    """The trainer of `sae train`, at the same point as the peers."""
    recipe = Recipe(
        dict_size=len(begin.W_enc),
        steps=10**6,
        lr=peers.LR,
        betas=(0.9, 0.999),
        clip_grad_norm=None,
        lr_warmup=0.0,
        lr_decay=0.0,
        sparsity_warmup=0.0,
        decoder_fit=0.0,
        b_dec_init=BiasInit.zero,
        dead_after=10_000_000,
        kernel=kernel,
        seed=0,
    )

    def objective(start: Start) -> Objective:
        if kind == "l1":
            made: Objective = ReluObjective(begin.W_enc, begin.W_dec, start.b_dec, True, L1)
            made.b_enc.copy_(begin.b_enc)
            return made
        return TopKObjective(begin.W_enc, begin.W_dec, start.b_dec, True, k, AuxiliaryLoss(1 / 32, x.shape[1] // 2))

    return Trainer(recipe, objective, x, torch.device(device))


class Floor:
    """The encoder's matrix product alone, in the number format that this machine is faster at; on a GPU also one pass
    over both matrices of parameters, their gradients and Adam's state, by PyTorch's own fused loop."""

    def __init__(self, W: Tensor, n: int) -> None:
        self.dtype = torch.bfloat16 if W.is_cuda or bfloat16_is_fast() else torch.float32
        self.W = W.to(self.dtype)
        self.out = torch.empty(n, len(W), dtype=self.dtype, device=W.device)
        self.adam = None
        if W.is_cuda:
            parameters = [torch.nn.Parameter(W.clone()) for _ in range(2)]
            for each in parameters:
                each.grad = torch.zeros_like(each)
            self.adam = torch.optim.Adam(parameters, lr=peers.LR, fused=True)

    def __call__(self, x: Tensor) -> None:
        torch.mm(x.to(self.dtype), self.W.T, out=self.out)
        if self.adam:
            self.adam.step()


def _next_steps(step: peers.Step, given: Iterator[Tensor], number: int, line: Callable[[], object]) -> None:
    for _ in range(number):
        step(next(given))
    line()


def main() -> None:
    parser = timing.parser(__doc__)
    parser.add_argument("--shape", default="4096,512,32768", help="tokens a batch, width, features")
    parser.add_argument("--active", type=int, default=50, help="features that fire, for l1")
    parser.add_argument("--k", type=int, default=64, help="features that fire, for topk")
    parser.add_argument("--kinds", default="l1,topk")
    parser.add_argument("--kernel", default="auto")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--between", type=int, default=1, help="steps from one line of the curve to the next")
    arguments = parser.parse_args()
    n, width, features = map(int, arguments.shape.split(","))
    device = torch.device(arguments.device)
    x = [each.to(device) for each in batches(n, width)]
    rows, figures = [], []
    for kind in arguments.kinds.split(","):
        begin = peers.Start(*(each.to(device) for each in start(kind, features, arguments.active, x[0].cpu())))
        trainer = our_trainer(kind, begin, arguments.k, x[0], arguments.kernel, arguments.device)
        line = {"sae": lambda trainer=trainer: json.dumps(trainer.close_window())}
        floor = "encoder product and pass over parameters" if device.type == "cuda" else "encoder product"
        steps = {"sae": trainer.step, floor: Floor(begin.W_enc, n)}
        steps |= dict(peers.peers(kind, begin, arguments.k, L1))
        between = arguments.between
        calls = {
            name: partial(_next_steps, step, cycle(x), between, line.get(name, bool)) for name, step in steps.items()
        }
        measured = timing.interleave(calls, arguments.rounds, device=device)
        measured = {name: timing.Timing([s / between for s in each.seconds]) for name, each in measured.items()}
        trainer.step(x[0])
        l0 = trainer.close_window()["l0"]
        for name, each in measured.items():
            times = timing.ratio(each, measured["sae"])
            rows.append((kind, name, 1000 * each.median, f"±{each.spread:.0%}", n / each.median, times))
            figures.append(
                {"kind": kind, "name": name, "seconds": each.median, "spread": each.spread, "times ours": times}
            )
        figures.append({"kind": kind, "l0": l0})
    header = ("kind", "step", "ms", "spread", "tokens/s", "times ours")
    timing.report(
        "train_step",
        header,
        rows,
        {"shape": [n, width, features], "device": str(device), "figures": figures},
        arguments.json,
    )


if __name__ == "__main__":
    main()
