"""Small finished runs made by hand, with everything that reports and pages show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sae_cli.artifacts.run_directory import open_run
from sae_cli.artifacts.stored_run import FinishedRun, read_run
from sae_cli.config.commands.train import TrainConfig
from sae_cli.config.data import TextData
from sae_cli.config.hook import HookConfig, HookPoint
from sae_cli.config.model import ModelConfig
from sae_cli.config.sae import ReluSae
from sae_cli.config.settings import result_settings
from sae_cli.config.stored import CONFIG_FILE, TRAINING_FILE, as_yaml
from sae_cli.dictionaries.files import save_dictionary
from sae_cli.dictionaries.relu import ReluDictionary
from sae_cli.metrics import VERSION

F, D, TOKENS = 40, 6, 5000
HOSTILE = [
    "<script>alert(1)</script>",
    "\u202egpj.exe",
    "\x1b[2J",
    "a\u2028b",
    "&lt;b&gt;",
    "\n",
    " self",
    "\"'--><!--",
    "שלום",
]


@dataclass
class Maker:
    """Makes runs in a folder."""

    root: Path

    def train(self, name: str, seed: int = 0, l0: float = 12.0, parent: FinishedRun | None = None) -> FinishedRun:
        rng = np.random.default_rng(seed)
        config = TrainConfig(
            model=ModelConfig(path="/models/tiny"), hook=HookConfig(point=HookPoint.mlp_out), layer=1, dict_size=F,
            data=TextData(path="/text", context=32), sae=ReluSae(), l1=0.5, tokens=TOKENS, seed=seed,
        )  # fmt: skip
        command = "prune-high-freq" if parent else "train"
        settings = {"max_freq": 0.2, "run": str(parent.directory)} if parent else result_settings(config)
        with open_run(self.root / name, command, settings, parents=[parent] if parent else []) as run:
            run.write_text(CONFIG_FILE, as_yaml(config))
            if parent:
                run.write_text(TRAINING_FILE, as_yaml(config))
            save_dictionary(run, ReluDictionary(_weights(rng)), {"hook": "mlp_out", "layer": 1, "scale": 1.0})
            if not parent:
                for step in (10, 20, 30):
                    run.append_line("metrics.jsonl", _line(step))
                run.write_tensors("density_history.safetensors", _history(rng))
            run.finish(tokens=TOKENS, source="by hand", width=D, **({"killed": 3} if parent else {}))
        made = read_run(self.root / name)
        self._evaluate(made, rng, l0, bool(parent))
        return made

    def _evaluate(self, made: FinishedRun, rng: np.random.Generator, l0: float, pruned: bool) -> None:
        with open_run(made.directory / "eval" / "default", "eval", {"eval.tokens": 100}, parents=[made]) as run:
            run.write_tensors("features.safetensors", _statistics(rng))
            before = {"before": {"features": F, "l0": 20.0, "fvu": 0.1, "loss_recovered": 0.9}, "killed": 3}
            run.write_json("eval.json", {**_figures(l0), **(before if pruned else {})})
            run.finish()

    def pages(self, made: FinishedRun, words: list[str] = HOSTILE) -> FinishedRun:
        rng = np.random.default_rng(9)
        statistics = _statistics(np.random.default_rng(0))
        statistics.pop("tokens")
        slots, width, bands, vocabulary = 7, 5, 2, len(words)
        tokens = rng.integers(0, vocabulary, (F, slots, width))
        tokens[:, :, 0] = -1
        activations = rng.random((F, slots, width)) * (rng.random((F, slots, width)) < 0.5)
        activations[:, :, width // 2] = 1 + rng.random((F, slots))
        document = rng.integers(0, 2, (F, slots)) + 2**60
        document[3] = -1  # fires nowhere
        kept = {
            "feature": torch.arange(F), "tokens": torch.from_numpy(tokens).int(),
            "activations": torch.from_numpy(activations).float(), "document": torch.from_numpy(document),
            "position": torch.zeros(F, slots, dtype=torch.int64),
            "peak": torch.from_numpy(activations[:, :, width // 2]).float(),
            "quantile": torch.tensor([0, 0, 0, 1, 1, 2, 2]).repeat(F, 1),
        }  # fmt: skip
        with open_run(made.directory / "features" / "default", "features", {}, parents=[made]) as run:
            run.write_tensors("contexts.safetensors", kept)
            run.write_tensors(
                "sheets.safetensors", {"feature": torch.arange(F), **statistics, **_of_features(rng, vocabulary)}
            )
            run.write_tensors("histograms.safetensors", _histograms(rng, bands))
            run.write_json("sheets.json", {
                "context": 32, "tokens_seen": TOKENS, "statistics_tokens": 1_234, "split": "train",
                "bands": bands, "ablation": [], "metrics_version": VERSION,
                "vocabulary": {str(i): word for i, word in enumerate(words)},
                "documents": {str(2**60): "<b>one</b>.py", str(2**60 + 1): "two.py"},
            })  # fmt: skip
            run.finish()
        return read_run(made.directory / "features" / "default")

    def compare(self, name: str, a: FinishedRun, b: FinishedRun) -> FinishedRun:
        rng = np.random.default_rng(4)
        figures = {"mmcs": 0.6, "q50": 0.6, "share_0.9": 0.1, "floor_random": 0.3, "floor_random_sd": 0.01}
        figures |= {"floor_subspace": 0.4, "floor_subspace_sd": 0.01}
        runs = [{"run": str(each.directory), "features": F, "alive": F, "l0": 12.0} for each in (a, b)]
        tensors = {f"{way}.cosine": torch.from_numpy(rng.random(F)).float() for way in ("0_1", "1_0")}
        with open_run(self.root / name, "compare", {}, parents=[a, b]) as run:
            run.write_tensors("similarity.safetensors", tensors)
            pair = {"a": 0, "b": 1, "a_to_b": figures, "b_to_a": figures, "one_to_one": {"mean": 0.5}}
            report = {"space": "activations", "runs": runs, "pairs": [pair], "metrics_version": VERSION}
            run.write_json("compare.json", report)
            run.finish()
        return read_run(self.root / name)


def _histograms(rng: np.random.Generator, bands: int) -> dict[str, torch.Tensor]:
    drawn = torch.from_numpy(rng.random((F, bands + 4))).float()
    return {
        "feature": torch.arange(F), "activation_count": torch.from_numpy(rng.integers(0, 9, (F, 64))),
        "activation_step": drawn[:, 0], "band_edge": drawn[:, 3:], "logit_least": -drawn[:, 1],
        "logit_count": torch.from_numpy(rng.integers(0, 9, (F, 50))), "logit_most": drawn[:, 2],
    }  # fmt: skip


def _weights(rng: np.random.Generator) -> dict[str, torch.Tensor]:
    rows = {name: torch.from_numpy(rng.standard_normal((F, D))).float() for name in ("W_enc", "W_dec")}
    zeros = {name: torch.zeros(n) for name, n in (("b_enc", F), ("b_dec", D), ("activation_mean", D))}
    return rows | zeros


def _line(step: int) -> dict[str, float]:
    held_out = {"held_out_fvu": 0.5} if step == 30 else {}
    return {
        "step": step,
        "tokens": step * 64,
        "loss": 90 / step,
        "fvu": 9 / step,
        "l0": 12.0,
        "dead": 1,
        "lr": 1e-3,
    } | held_out


def _statistics(rng: np.random.Generator) -> dict[str, torch.Tensor]:
    count = torch.from_numpy(np.round(TOKENS * 10 ** rng.uniform(-3.6, -0.3, F))).long()
    count[3] = 0
    single = {
        name: torch.from_numpy(rng.random(F)).float()
        for name in ("mean_act", "max_act", "b_enc", "de_projection", "de_cosine", "token_entropy", "logit_kurtosis")
    }
    single["token_entropy"][3] = torch.nan
    return {"count": count, "tokens": torch.tensor([TOKENS]), "frequency": count.double() / TOKENS, **single}


def _of_features(rng: np.random.Generator, vocabulary: int) -> dict[str, torch.Tensor]:
    shown = 3
    ids = {f"{side}_token": torch.from_numpy(rng.integers(0, vocabulary, (F, shown))) for side in ("top", "bottom")}
    weights = {f"{side}_weight": torch.from_numpy(rng.random((F, shown))).float() for side in ("top", "bottom")}
    nearest = torch.from_numpy(rng.integers(0, F, (F, shown)))
    return {**ids, **weights, "nearest": nearest, "nearest_cosine": torch.full((F, shown), 0.5)}


def _history(rng: np.random.Generator) -> dict[str, torch.Tensor]:
    return {
        "count": torch.from_numpy(rng.integers(0, 3, (4, F))),
        "tokens": torch.tensor([64, 128, 512, 1024]),
        "step": torch.tensor([1, 3, 11, 27]),
        "exempt": torch.from_numpy(rng.random(F) < 0.5),
        "resample_step": torch.tensor([11]),
        "resampled": torch.zeros(1, F, dtype=torch.bool),
    }


def _figures(l0: float) -> dict[str, Any]:
    trajectory = {"features": 2, "late_slope": -0.5, "firing": [1, 1], "step": [1, 27], "tokens_seen": [32.0, 900.0]}
    trajectory["density"] = [1e-3, 1e-4]
    quantiles = {"q05": 0.1, "q25": 0.2, "q50": 0.3, "q75": 0.4, "q95": 0.5}
    looks = {
        "features": 2,
        "encoder_alignment": 0.1,
        "frequency": quantiles,
        "b_enc": quantiles,
        "de_projection": quantiles,
    }
    sets = dict.fromkeys(("rare_now", "exempt", "not_exempt", "resampled"), trajectory)
    references = [
        {
            "name": name, "parameters": n, "ce": ce, "se": 0.01,
            "difference_to_sae": ce - 2.5, "difference_se": 0.01, "same_rows": True,
        }
        for name, n, ce in (("tiny", 1000, 2.4), ("=cmd()", 100, 3.0))
    ]  # fmt: skip
    placed = {
        "axis": "parameters",
        "value": 700.0,
        "low": 600.0,
        "high": None,
        "below": "=cmd()",
        "above": "tiny",
        "outside": None,
        "monotone": True,
    }
    return {
        "l0": l0, "fvu": 0.01 * l0, "loss_recovered": 1 - 0.01 * l0, "loss_recovered_se": 0.01,
        "ce_increase": 0.001 * l0,
        "ce_clean": 2.4, "ce_clean_se": 0.01, "ce_sae": 2.5, "ce_zero": 4.0, "kl_sae": 0.1, "bits_per_byte_clean": 1.0,
        "tokens": 100, "feature_tokens": TOKENS, "alive": F - 1, "dead": 1, "dense_1": 9, "dense_10": 2,
        "domains": {name: {"tokens": 50, "ce_clean": 2.4} for name in ("a", "<i>b</i>")},
        "baselines": {"pca": {"l0": l0, "fvu": 0.3, "loss_recovered": 0.7, "loss_recovered_se": None}},
        "references": references, "references_unit": "ce", "equivalent_model": placed,
        "ablation": [
            {"feature": 3, "tokens": 9, "ce_increase": 0.1, "ce_increase_se": None, "raises": ["<u>"], "lowers": [" x"]}
        ],
        "rare": {"below": 0.01, "rare": looks, "others": looks, "trajectories": {"early": [0.1, 0.3], **sets}},
    }  # fmt: skip
