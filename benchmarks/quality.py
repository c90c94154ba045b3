"""How good the dictionaries are: held-out FVU and truth recovered, beside dictionary_learning's and SAELens's.

    python benchmarks/quality.py --on demo,synthetic --seeds 0,1,2 --json quality.json
    python benchmarks/quality.py --on model=hf,model.path=FOLDER,layer=3,data=text,data.path=TEXT

All contenders see the same activations in the same batches, as many steps, and are measured on the same held-out
tokens after training, as their users would use them. Where a coefficient sets the sparsity, it is searched for until
L0 is within 2 % of k, and FVU is read at L0 = k between the two nearest trainings; where k itself is the setting, and
held-out L0 is off it, between the trainings at k and at the whole number beside it. ReLU dictionaries are compared at
the peer's L1 coefficient too, by the loss that both are trained on: at one coefficient, a training that has not come
as far can have a lower L0, because fewer of its features are alive. Peers get the better of two
learning rates, their own and ours, by the first seed. Seeds are those of the first parameters; differences are taken
seed by seed, and their interval is of Student's t.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import peer_trainings
import timing
import torch
from peer_trainings import AIMS, FIRST, HIT, Order, Train, Trained
from scipy.stats import t as student
from torch import Tensor

from sae_cli import build
from sae_cli.activations.source import ActivationSources
from sae_cli.activations.synthetic import SyntheticActivations
from sae_cli.config.commands.train import TrainConfig
from sae_cli.config.compose import configured
from sae_cli.config.data import SyntheticData
from sae_cli.config.settings import result_settings
from sae_cli.evaluation.encode import measure as measure_all
from sae_cli.metrics.encoded import Encoded
from sae_cli.metrics.reconstruction import ReconstructionSums
from sae_cli.terminal import console
from sae_cli.training.initialize import activation_scale
from sae_cli.training.recipe import recipe_of
from sae_cli.training.trainer import Trainer

OURS = "sae"
ARCHITECTURES = ("topk", "batch_topk", "matryoshka", "jump_relu", "relu", "gated")
ON = {
    "demo": ["model=demo", "hook=mlp_out", "layer=3"],
    "synthetic": ["data=synthetic", "data.d=64", "data.n_features=256", "data.mean_active=5"],
}
SAME = 0.02
"""L0 this near to k counts as k for a search."""
_EQUAL = 0.001
"""L0 this near to k needs no second training to be read at k."""
_BY_COEFFICIENT = ("relu", "gated")
_TRIES = 8


class Material(NamedTuple):
    """Batches of activations [N, d], held-out activations, the sample that sets the scale, and the truth [n, d]."""

    name: str
    overrides: list[str]
    batches: list[Tensor]
    held_out: Tensor
    sample: Tensor
    truth: Tensor | None


class Quality(NamedTuple):
    """Of one dictionary on held-out tokens; `recovered` is the share of true directions at a cosine above .9."""

    fvu: float
    l0: float
    recovered: float | None


class Found(NamedTuple):
    """What a contender reached at L0 = k, with the sparsity setting and L0 of the nearest training, or of that at k."""

    at_k: Quality
    sparsity: float
    l0: float


def material(name: str, tokens: int, batch: int, held_out: int) -> Material:
    """The activations of one source, drawn once."""
    overrides = [*ON.get(name, name.split(",")), f"tokens={tokens}", f"train.batch_size={batch}"]
    config = configured(TrainConfig, overrides)
    source = ActivationSources(torch.device("cpu")).open(config, result_settings(config))
    held = source.held_out(held_out).clone()
    sample = source.batches.sample.clone()
    batches = [x.clone() for x in islice(source.batches, tokens // batch)]
    truth = SyntheticActivations.of(config.data).directions() if isinstance(config.data, SyntheticData) else None
    return Material(name, overrides, batches, held, sample, truth)


def measure(trained: Trained, on: Material) -> Quality:
    """FVU against the held-out mean, mean number of active features, and truth recovered."""
    sums = ReconstructionSums(origin=on.held_out.mean(dim=0))
    measure_all((Encoded(trained, x) for x in on.held_out.split(4096)), sums)
    found = sums.results()
    assert found["fvu"] is not None and found["l0"] is not None
    recovered = None
    if on.truth is not None:
        rows = trained.directions / trained.directions.norm(dim=1, keepdim=True).clamp_min(1e-12)
        recovered = float(((on.truth @ rows.T).amax(dim=1) > 0.9).double().mean())
    return Quality(found["fvu"], found["l0"], recovered)


def ours(on: Material, order: Order, batches: list[Tensor]) -> Trained:
    """The trainer of `sae train` with its defaults for the architecture."""
    by = "l1" if order.architecture in _BY_COEFFICIENT else "k"
    value = order.sparsity if by == "l1" else int(order.sparsity)
    settings = [
        *on.overrides, f"sae={order.architecture}", f"dict_size={order.features}", f"{by}={value}",
        f"seed={order.seed}",
    ]  # fmt: skip
    config = configured(TrainConfig, settings)
    trainer = Trainer(recipe_of(config), build.objective(config, on.held_out.shape[1]), on.sample, torch.device("cpu"))
    for x in batches:
        trainer.step(x)
    found = trainer.dictionary()
    return Trained(found.encode, found.decode, found.W_dec)


def at_k(train: Train, order: Order, on: Material, k: int, hits: bool, rises: bool) -> Found:
    """The quality at L0 = k, by a search for the setting; by one more training at most where the setting is k itself.

    L0 `rises` with a setting that is an aim for it, and falls with a coefficient.
    """
    tried: dict[float, Quality] = {}
    value = float(k) if hits else order.sparsity
    while value not in tried:
        begun = time.monotonic()
        tried[value] = found = measure(train(order._replace(sparsity=value), on.batches), on)
        rate = "its own" if order.lr is None else f"{order.lr:g}"
        print(
            f"  seed {order.seed}, lr {rate}, sparsity {value:.5g}: FVU {found.fvu:.4f}, L0 {found.l0:.2f}"
            f" ({time.monotonic() - begun:.0f} s)",
            file=sys.stderr, flush=True,
        )  # fmt: skip
        if hits:
            if len(tried) == 2 or abs(found.l0 / k - 1) <= _EQUAL:
                break
            value = float(k + (1 if found.l0 < k else -1))
            continue
        if abs(found.l0 / k - 1) <= SAME or len(tried) == _TRIES:
            break
        value = next_setting({setting: each.l0 / k for setting, each in tried.items()}, rises)
    value, *others = sorted(tried, key=lambda each: abs(math.log(max(tried[each].l0, 1e-3) / k)))
    setting = float(k) if hits else value
    return Found(_between(tried[value], [tried[each] for each in others], k), setting, tried[setting].l0)


def next_setting(ratios: Mapping[float, float], rises: bool) -> float:
    """Where L0/k may be 1, given L0/k at settings: on the line between two that enclose it, else beyond the nearest.

    Lines are in logarithms. A training that fails can have any L0, so what encloses is looked for by the setting.
    """
    sign = 1.0 if rises else -1.0
    points = sorted((sign * math.log(each), math.log(max(ratio, 1e-3))) for each, ratio in ratios.items())
    below = [each for each in points if each[1] < 0]
    low = below[-1] if below else None
    high = next((each for each in points if each[1] >= 0 and (low is None or each > low)), None)
    if low and high:
        place = low[0] - low[1] * (high[0] - low[0]) / (high[1] - low[1])
        width = high[0] - low[0]
        return math.exp(sign * max(low[0] + width / 10, min(place, high[0] - width / 10)))
    end = low or points[0]
    others = [each for each in points if each != end and each[1] != end[1]]
    other = min(others, key=lambda each: abs(each[1]), default=None)
    slope = (end[1] - other[1]) / (end[0] - other[0]) if other else 1.0
    return math.exp(sign * (end[0] + max(-1.5, min(-end[1] / (slope if slope > 0.1 else 1.0), 1.5))))


def _between(nearest: Quality, others: Sequence[Quality], k: int) -> Quality:
    """FVU at L0 = k, on the line through the two nearest trainings in logarithms."""
    other = next((each for each in others if each.l0 > 0 and abs(each.l0 / nearest.l0 - 1) > SAME), None)
    if other is None or abs(nearest.l0 / k - 1) < 1e-9:
        return nearest
    share = math.log(k / nearest.l0) / math.log(other.l0 / nearest.l0)
    if abs(share) > 1:
        return nearest
    fvu = math.exp(math.log(nearest.fvu) + share * math.log(other.fvu / nearest.fvu))
    return nearest._replace(fvu=fvu)


class Contender:
    """One package's training of one architecture on one material, over seeds; a search for a setting begins `first`."""

    def __init__(
        self, name: str, train: Train, architecture: str, on: Material, features: int, k: int, first: float | None
    ) -> None:
        self.name, self.train, self.on, self.k = name, train, on, k
        self.hits = architecture in (("jump_relu", *HIT["SAELens"]) if name == OURS else HIT[name])
        self.rises = (name, architecture) in AIMS
        begins = first or (1.0 if name == OURS else FIRST.get((name, architecture), float(k)))
        self.order = Order(architecture, features, begins, None, 0)
        self.found: list[Found] = []

    def run(self, seeds: Sequence[int]) -> None:
        """All seeds; the first chooses a peer's learning rate, and where the next searches begin."""
        ours = _rate(self.order, self.on)
        for seed in seeds:
            rates = (self.order.lr,) if self.found or self.name == OURS else (None, ours)
            tries = [self.order._replace(seed=seed, lr=lr) for lr in rates]
            reached = [at_k(self.train, each, self.on, self.k, self.hits, self.rises) for each in tries]
            best = min(range(len(tries)), key=lambda i: reached[i].at_k.fvu)
            self.order = tries[best]._replace(sparsity=reached[best].sparsity)
            self.found.append(reached[best])


class AtEqualL1(NamedTuple):
    """A peer and ours at the peer's coefficient, each by seed: what ours has more than the peer is negative."""

    peer: list[float]
    ours: list[float]
    quality: list[Quality]


def at_equal_l1(peer: Contender, seeds: Sequence[int]) -> AtEqualL1:
    """Held-out ‖x - x̂‖² + l1·Σ fᵢ‖dᵢ‖ in the peer's units, of ours without its decoder fit, which leaves that loss."""
    on, scale = peer.on, peer_trainings.SCALES[peer.name](peer.on.batches)
    whole = on._replace(overrides=[*on.overrides, "sae.decoder_fit=0"])
    own = activation_scale(on.sample)
    found = AtEqualL1([], [], [])
    for seed, each in zip(seeds, peer.found, strict=True):
        order = peer.order._replace(seed=seed, sparsity=each.sparsity)
        in_our_units = order._replace(sparsity=each.sparsity * own / scale, lr=None)
        found.peer.append(_l1_loss(peer.train(order, on.batches), on, each.sparsity, scale))
        found.ours.append(_l1_loss(ours(whole, in_our_units, on.batches), on, each.sparsity, scale))
        found.quality.append(measure(ours(on, in_our_units, on.batches), on))
    return found


@torch.no_grad()
def _l1_loss(trained: Trained, on: Material, l1: float, scale: float) -> float:
    nothing = torch.zeros(1, trained.directions.shape[0])
    alone = trained.decode(torch.eye(nothing.shape[1])) - trained.decode(nothing)
    total = 0.0
    for x in on.held_out.split(4096):
        f = trained.encode(x)
        penalty = (f @ alone.norm(dim=1)).double().sum() * scale
        total += float((trained.decode(f) - x).double().square().sum() * scale**2 + l1 * penalty)
    return total / len(on.held_out)


def _rate(order: Order, on: Material) -> float:
    settings = [*on.overrides, f"sae={order.architecture}"]
    return float(configured(TrainConfig, settings).train.lr)


def difference(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """Mean of a - b, seed by seed, and half the width of its 95 % interval; infinite for one seed."""
    gaps = torch.tensor(a, dtype=torch.float64) - torch.tensor(b, dtype=torch.float64)
    n = len(gaps)
    if n < 2:
        return float(gaps.mean()), math.inf
    return float(gaps.mean()), float(gaps.std() / math.sqrt(n) * student.ppf(0.975, n - 1))


def _verdict(each: Contender, l0: float, gap: float, half: float) -> str:
    """Of a peer, on how its FVU is above ours."""
    if not each.hits and abs(l0 / each.k - 1) > 2 * SAME:
        return f"missed k={each.k}"
    return "behind" if gap > half else "ahead" if gap < -half else "undecided"


def rows_of(
    on: Material, architecture: str, contenders: Sequence[Contender]
) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """A line a contender, as shown and as written."""
    base = [each.at_k.fvu for each in contenders[0].found]
    for each in contenders:
        fvu = [one.at_k.fvu for one in each.found]
        l0 = sum(one.l0 for one in each.found) / len(each.found)
        recovered = [one.at_k.recovered for one in each.found if one.at_k.recovered is not None]
        gap, half = difference(fvu, base)
        shown = "" if each.name == OURS else f"{gap:+.4f} ± {half:.4f}"
        verdict = "" if each.name == OURS else _verdict(each, l0, gap, half)
        truth = f"{sum(recovered) / len(recovered):.3f}" if recovered else ""
        rate = "its own" if each.order.lr is None else f"{each.order.lr:g}"
        yield (
            [on.name, architecture, each.name, rate, f"{sum(fvu) / len(fvu):.4f}", f"{l0:.2f}", truth, shown, verdict],
            {
                "on": on.name, "architecture": architecture, "name": each.name, "lr": each.order.lr, "fvu": fvu,
                "l0": [one.l0 for one in each.found], "sparsity": [one.sparsity for one in each.found],
                "recovered": recovered, "fvu behind ours": [gap, half],
            },
        )  # fmt: skip


def _at_equal_l1_row(on: Material, peer: Contender, seeds: Sequence[int]) -> tuple[list[str], dict[str, Any]]:
    found = at_equal_l1(peer, seeds)
    gap, half = difference(
        [theirs / own for theirs, own in zip(found.peer, found.ours, strict=True)], [1.0] * len(found.ours)
    )
    n = len(found.quality)
    fvu, l0 = (sum(getattr(each, name) for each in found.quality) / n for name in ("fvu", "l0"))
    recovered = [each.recovered for each in found.quality if each.recovered is not None]
    verdict = "behind" if gap > half else "ahead" if gap < -half else "undecided"
    name, truth = f"sae at the L1 of {peer.name}", f"{sum(recovered) / n:.3f}" if recovered else ""
    shown = f"its loss over ours {gap:+.1%} ± {half:.1%}"
    return (
        [on.name, "relu", name, "its own", f"{fvu:.4f}", f"{l0:.2f}", truth, shown, f"{peer.name} {verdict}"],
        {"on": on.name, "architecture": "relu", "name": name, "l1 loss": {"peer": found.peer, "ours": found.ours},
         "fvu": fvu, "l0": l0, "recovered": recovered, "loss over ours": [gap, half]},
    )  # fmt: skip


def main() -> None:
    parser = timing.parser(__doc__)
    parser.add_argument(
        "--on", action="append", help="demo, synthetic, or overrides of `sae train` with commas between"
    )
    parser.add_argument("--architectures", default=",".join(ARCHITECTURES))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--tokens", type=int, default=400_000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--held-out", type=int, default=32_768)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--first", default="", help="where searches begin, as sae=1,dictionary_learning=0.03,SAELens=1")
    parser.add_argument("--k", type=int, default=16, help="5 on synthetic truth, where 5 are active")
    arguments = parser.parse_args()
    console.configure(quiet=True)
    seeds = [int(each) for each in arguments.seeds.split(",")]
    first = {name: float(value) for name, value in (each.split("=") for each in arguments.first.split(",") if each)}
    header = ("on", "architecture", "by", "lr", "FVU", "L0", "truth", "FVU behind ours", "95 %")
    shown, written, begun = [], [], time.monotonic()
    for name in arguments.on or list(ON):
        on = material(name, arguments.tokens, arguments.batch, arguments.held_out)
        k = 5 if on.truth is not None else arguments.k
        for architecture in arguments.architectures.split(","):
            packages = [(OURS, partial(ours, on)), *peer_trainings.peers()]
            contenders = [
                Contender(each, train, architecture, on, arguments.features, k, first.get(each))
                for each, train in packages
            ]
            for each in contenders:
                print(f"{on.name}, {architecture}, {each.name}", file=sys.stderr, flush=True)
                each.run(seeds)
            lines = [*rows_of(on, architecture, contenders)]
            lines += [_at_equal_l1_row(on, each, seeds) for each in contenders[1:] if architecture == "relu"]
            for line, figures in lines:
                shown.append(line)
                written.append(figures)
                print(f"{time.monotonic() - begun:7.0f} s ", *line, file=sys.stderr, flush=True)
    timing.report(
        "quality", header, shown, {"seeds": seeds, "tokens": arguments.tokens, "figures": written}, arguments.json
    )


if __name__ == "__main__":
    main()
