"""The four passes of an evaluation (clean, spliced, zero, mean) against whole forward passes; and all of its work on
rows of text: the same passes, the three conditions of the direct path, losses and divergences of all seven over the
whole vocabulary, the dictionary, the sums of every row.

    python benchmarks/eval.py layer=2 hook=mlp_out
    python benchmarks/eval.py model=hf model.path=FOLDER data=text data.path=FOLDER layer=9 model_rows=2 --features 8192

With s the share of a forward pass that lies after the hook point, 1 + 3s passes is what the four have to cost.
"""

from __future__ import annotations

import timing
import torch

from sae_cli.activations.live import LiveActivations
from sae_cli.config.commands.harvest import HarvestConfig
from sae_cli.config.compose import configured
from sae_cli.config.evaluation import EvaluationConfig, Sample
from sae_cli.dictionaries.topk import TopKDictionary
from sae_cli.evaluation.held_out import HeldOutText
from sae_cli.evaluation.splice import Splicer
from sae_cli.models import Wires
from sae_cli.terminal import console


def dictionary_of(x: torch.Tensor, n_features: int) -> TopKDictionary:
    """One whose directions are random, which costs what any costs."""
    directions = torch.nn.functional.normalize(torch.randn(n_features, x.shape[1]), dim=1)
    mean = x.mean(dim=0)
    weights = {"W_enc": directions, "b_enc": torch.zeros(n_features), "W_dec": directions, "b_dec": mean}
    return TopKDictionary({**weights, "activation_mean": mean, "k": torch.tensor([32])})


def main() -> None:
    parser = timing.parser(__doc__)
    parser.add_argument("overrides", nargs="*", help="of sae harvest: model=… hook=… layer=…")
    parser.add_argument("--features", type=int, default=2048, help="of the dictionary, a TopK one with k=32")
    arguments = parser.parse_args()
    console.configure(quiet=True)
    config = configured(HarvestConfig, arguments.overrides)
    live = LiveActivations(config, torch.device("cpu"))
    site, model = live.watch(config), live.model
    text = HeldOutText(model, config.data, config.model_rows, EvaluationConfig(sample=Sample.first))
    rows = next(text.rows("rows"))
    tokens = rows.tokens
    x = model.capture(tokens, [site])[site]
    dictionary = dictionary_of(x.flatten(0, 1).float(), arguments.features)
    stand_ins = [x.clone(), torch.zeros_like(x), x.mean(dim=(0, 1)).expand_as(x)]

    def conditions() -> None:
        clean, replaced = model.branches(tokens, site)
        clean.all()
        for stand_in in stand_ins:
            replaced(lambda _, stand_in=stand_in: stand_in).all()

    measured = timing.interleave(
        {
            "forward pass": lambda: model.logits(tokens),
            "up to the hook": lambda: model.capture(tokens, [site]),
            "four conditions": conditions,
            "all of an evaluation": lambda: Splicer(model, Wires.at(site), dictionary).add(rows),
        },
        arguments.rounds,
    )
    whole = measured["forward pass"]
    after = 1 - 1 / timing.ratio(whole, measured["up to the hook"])
    cost = timing.ratio(measured["four conditions"], whole)
    everything = timing.ratio(measured["all of an evaluation"], whole)
    shown = [(name, 1000 * each.median, f"±{each.spread:.0%}") for name, each in measured.items()]
    figures = {
        "s": after,
        "four conditions, forward passes": cost,
        "of 1 + 3s": cost / (1 + 3 * after),
        "all of an evaluation, forward passes": everything,
        "all of it, of 1 + 3s": everything / (1 + 3 * after),
    }
    shown += [(name, value, "") for name, value in figures.items()]
    timing.report("eval", ("what", "ms", "spread"), shown, {"site": str(site), "figures": figures}, arguments.json)


if __name__ == "__main__":
    main()
