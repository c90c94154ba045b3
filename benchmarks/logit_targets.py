"""What training on logits costs: a token of `logit_update` and `logits` against one of `resid`, of the same width.

    python benchmarks/logit_targets.py
    python benchmarks/logit_targets.py --layer 0       # logit hooks still run the model to its end

A token's cost is the forward pass that captures it and its share of a training step (TopK, so that all hooks have one
L0), both through the product's own code.
"""

from __future__ import annotations

from itertools import islice

import timing
import torch

from sae_cli import build
from sae_cli.config.compose import Composer, typed
from sae_cli.config.hook import SiteConfig
from sae_cli.config.split import Split
from sae_cli.training.recipe import recipe_of
from sae_cli.training.trainer import Trainer

HOOKS = {
    "resid": ("hook=resid",),
    "logit_update exact": ("hook=logit_update", "hook.mode=exact"),
    "logit_update linear": ("hook=logit_update", "hook.mode=linear"),
    "logits": ("hook=logits",),
}


class Contender:
    """Captures rows at one hook point, and trains on what it captured."""

    def __init__(self, overrides: tuple[str, ...], model, rows) -> None:
        self.config = typed(Composer().compose("train", ["sae=topk", *overrides]).settings)
        self.model, self.rows = model, rows
        self.site = build.site(SiteConfig.of(self.config.hook, self.config.layer), model)
        x = self.capture()
        self.trainer = Trainer(recipe_of(self.config), build.objective(self.config, x.shape[1]), x, model.device)

    def capture(self) -> torch.Tensor:
        return self.model.capture(self.rows, [self.site])[self.site][:, 1:].flatten(0, 1).float()

    def train(self) -> None:
        for batch in self.capture().split(self.config.train.batch_size):
            self.trainer.step(batch)


def main() -> None:
    parser = timing.parser(__doc__)
    parser.add_argument("--layer", type=int, default=3)
    parser.add_argument("overrides", nargs="*", help="of sae train: model=… dict_size=… k=…")
    arguments = parser.parse_args()
    config = typed(Composer().compose("train", list(arguments.overrides)).settings)
    model = build.language_model(config.model, config.data, torch.device("cpu"))
    stream = build.row_stream(config.data, model, Split.train)
    rows = torch.from_numpy(next(islice(stream.forever(config.model_rows), 1)).tokens)
    contenders = {}
    for name, hook in HOOKS.items():
        layer = () if name == "logits" else (f"layer={arguments.layer}",)
        contenders[name] = Contender((*hook, *layer, *arguments.overrides), model, rows)
    captured = timing.interleave({name: each.capture for name, each in contenders.items()}, arguments.rounds)
    trained = timing.interleave({name: each.train for name, each in contenders.items()}, arguments.rounds)
    tokens = rows.numel() - len(rows)
    figures = [
        {
            "name": name,
            "us/token captured": 1e6 * captured[name].median / tokens,
            "us/token trained": 1e6 * trained[name].median / tokens,
            "to resid": timing.ratio(trained[name], trained["resid"]),
            "spread": trained[name].spread,
        }
        for name in contenders
    ]
    timing.report(
        "logit_targets",
        ("hook", "us a token captured", "captured and trained", "to resid", "spread"),
        [(*list(each.values())[:4], f"±{each['spread']:.0%}") for each in figures],
        {"layer": arguments.layer, "figures": figures},
        arguments.json,
    )


if __name__ == "__main__":
    main()
