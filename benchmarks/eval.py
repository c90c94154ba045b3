"""The four passes of an evaluation (clean, spliced, zero, mean) against four whole forward passes.

    python benchmarks/eval.py layer=2 hook=mlp_out

With s the share of a forward pass that lies after the hook point, 1 + 3s passes is what they have to cost.
"""

from __future__ import annotations

from itertools import islice

import timing
import torch

from sae_cli.activations.live import LiveActivations
from sae_cli.config.commands.harvest import HarvestConfig
from sae_cli.config.compose import configured
from sae_cli.terminal import console


def main() -> None:
    parser = timing.parser(__doc__)
    parser.add_argument("overrides", nargs="*", help="of sae harvest: model=… hook=… layer=…")
    arguments = parser.parse_args()
    console.configure(quiet=True)
    config = configured(HarvestConfig, arguments.overrides)
    live = LiveActivations(config, torch.device("cpu"))
    site, model = live.watch(config), live.model
    tokens = torch.from_numpy(next(islice(live.stream.forever(config.model_rows), 1)).tokens)
    x = model.capture(tokens, [site])[site]
    stand_ins = [x.clone(), torch.zeros_like(x), x.mean(dim=(0, 1)).expand_as(x)]

    def conditions() -> None:
        _, replaced = model.branches(tokens, site)
        for stand_in in stand_ins:
            replaced(lambda _, stand_in=stand_in: stand_in)

    measured = timing.interleave(
        {
            "forward pass": lambda: model.logits(tokens),
            "up to the hook": lambda: model.capture(tokens, [site]),
            "four conditions": conditions,
        },
        arguments.rounds,
    )
    whole = measured["forward pass"]
    after = 1 - 1 / timing.ratio(whole, measured["up to the hook"])
    cost = timing.ratio(measured["four conditions"], whole)
    rows = [(name, 1000 * each.median, f"±{each.spread:.0%}") for name, each in measured.items()]
    rows += [("s", after, ""), ("cost in forward passes", cost, ""), ("of 1 + 3s", cost / (1 + 3 * after), "")]
    figures = {"s": after, "forward passes": cost, "of 1 + 3s": cost / (1 + 3 * after)}
    timing.report("eval", ("what", "ms", "spread"), rows, {"site": str(site), "figures": figures}, arguments.json)


if __name__ == "__main__":
    main()
