"""The fields that `--require` may name are those that reports have: each of them, and no other."""

import shutil
from dataclasses import replace

import pytest

from sae_cli.cli.output import as_document
from sae_cli.cli.required_fields import EVALUATION, FIGURES, GROUPS
from sae_cli.commands import bench, compare, contrast, export, features, harvest, probe, train
from sae_cli.commands import eval as evaluate
from sae_cli.commands import prune_high_freq as prune
from sae_cli.commands import randomize_weights as randomize
from sae_cli.commands.contrast import CONTRASTED
from sae_cli.config.commands.bench import BenchConfig
from sae_cli.config.commands.compare import CompareConfig
from sae_cli.config.commands.contrast import ContrastConfig
from sae_cli.config.commands.eval import EvalConfig
from sae_cli.config.commands.export import ExportConfig
from sae_cli.config.commands.features import FeaturesConfig
from sae_cli.config.commands.probe import ProbeConfig
from sae_cli.config.commands.prune_high_freq import PruneConfig
from sae_cli.config.commands.randomize_weights import RandomizeConfig
from sae_cli.config.data import SyntheticData, TextData
from sae_cli.config.evaluation import Baseline, ContextsConfig, EvaluationConfig, FeaturePassConfig
from sae_cli.config.hook import HookConfig, HookPoint, LogitUpdateHook
from sae_cli.config.model import ModelConfig
from sae_cli.config.probe import ProbeBasis, ProbingConfig

SIZES = {"eval": EvaluationConfig(tokens=1500), "features": FeaturePassConfig(tokens=300)}
FAST = {"device": "cpu", "model_rows": 4, **SIZES}
KINDS = {
    "mlp_out": {},
    "resid": {"hook": HookConfig(point=HookPoint.resid)},
    "neurons": {"hook": HookConfig(point=HookPoint.mlp_act)},
    "logits": {"hook": HookConfig(point=HookPoint.logits)},
    "update": {"hook": LogitUpdateHook(point=HookPoint.logit_update)},
    "synthetic": {"data": SyntheticData(d=16, n_features=20, mean_active=2.0)},
}


@pytest.fixture(scope="module")
def ended(world, tmp_path_factory):
    """What each command prints with --json, by the command, of every kind of run whose fields differ."""
    root = tmp_path_factory.mktemp("fields")
    found = {"train": [], "eval": []}
    for domain in ("one", "two"):
        shutil.copytree(world.text, root / "text" / domain)
    domains = {"data": TextData(path=str(root / "text"), context=32, held_out_fraction=0.2)}
    for name, changes in {**KINDS, "update": {**KINDS["update"], **domains}}.items():
        config = world.train(root, tokens=512, **changes)
        # Of one training nothing counts as dead yet, of the others it may.
        long = replace(config, train=replace(config.train, dead_after=128)) if name == "neurons" else config
        found["train"].append(train.run(long, root / name))
        asked = {}
        if name == "mlp_out":
            shutil.copytree(root / name, root / "copy")
            asked = {"baselines": [Baseline.token2, Baseline.pca], "references": [str(world.model)]}
            asked |= {"control": [str(root / "copy")]}
        evaluation = world.eval(root / name, **SIZES, **asked)
        found["eval"].append(evaluate.run(evaluation, root / name, "default"))
    several = EvalConfig(
        run=[str(root / "mlp_out"), str(root / "resid")], device="cpu", model_rows=4, eval=SIZES["eval"]
    )
    found["eval"].append(evaluate.run(several, root / "together", ""))
    pruning = PruneConfig(run=str(root / "mlp_out"), top_n=5, **FAST)
    found["prune-high-freq"] = [prune.run(pruning, root / "pruned")]
    found["harvest"] = [harvest.run(world.harvest(root), root / "harvest")]
    comparing = CompareConfig(a=str(root / "mlp_out"), b=[str(root / "neurons")], **FAST)
    found["compare"] = [compare.run(comparing, root / "compare")]
    against = ContrastConfig(
        a=[str(root / "mlp_out")], against=[str(root / "copy")], figures=sorted(CONTRASTED), **FAST
    )
    found["contrast"] = [contrast.run(against, root / "contrast")]
    looking = FeaturesConfig(run=str(root / "mlp_out"), only=[1], contexts=ContextsConfig(tokens=300), **FAST)
    found["features"] = [features.run(looking, root / "mlp_out", "a")]
    benchmark = BenchConfig(run=str(root / "mlp_out"), context=32, batch_rows=2, device="cpu", eval=SIZES["eval"])
    found["bench"] = [bench.run(benchmark, root / "mlp_out", "a")]
    probing = ProbeConfig(
        run=str(root / "mlp_out"), labels=["regex:after=ba[a-z]+ ([a-z]+)"], baselines=list(ProbeBasis), k=[1],
        control=str(root / "copy"), device="cpu",
        probe=ProbingConfig(tokens=5000, test_tokens=2000, least=10, least_documents=5),
    )  # fmt: skip
    found["probe"] = [probe.run(probing, root / "mlp_out", "a")]
    found["export"] = [export.run(ExportConfig(run=str(root / "mlp_out"), to="saelens"), root / "exported")]
    found["randomize-weights"] = [
        randomize.run(RandomizeConfig(model=ModelConfig(path=str(world.model))), root / "model")
    ]
    return {command: [as_document(each) for each in results] for command, results in found.items()}


def figures(reports):
    """Numbers, or null for one that does not exist."""
    return {
        name
        for each in reports
        for name, value in each.items()
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    }


def test_of_an_evaluation(ended):
    reports = [each["eval"] for each in (*ended["eval"], *ended["prune-high-freq"])]
    assert figures(reports) - set(GROUPS) == set(EVALUATION)
    groups = {name for each in reports for name, value in each.items() if isinstance(value, dict)}
    assert groups == set(GROUPS)


@pytest.mark.parametrize("command", FIGURES)
def test_of_the_other_commands(ended, command):
    assert figures(each.get("figures", {}) for each in ended[command]) == set(FIGURES[command])
