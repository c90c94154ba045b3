"""A dictionary that reads one place and writes another: measured, shown, pruned and compared by its card.

The oracle is exact: of what the MLP's output matrix reads, features x⁺ and x⁻ write W_out (x⁺ - x⁻) + b, which is the
MLP's output.
"""

import pytest
import torch

import sae_cli
from sae_cli import build
from sae_cli.artifacts.tensors import read_tensors
from sae_cli.config.hook import HookConfig, HookPoint, SiteConfig
from sae_cli.dictionaries.card import Card, Wiring
from sae_cli.dictionaries.relu import ReluDictionary

LAYER = 1
SMALL = ["device=cpu", "model_rows=4", "eval.tokens=300", "features.tokens=300"]


def site(point):
    return SiteConfig(HookConfig(point=point), LAYER)


@pytest.fixture(scope="module")
def runs(world, tmp_path_factory):
    """The exact dictionary, and one that keeps half of its features."""
    root = tmp_path_factory.mktemp("wires")
    config = world.train(root)
    model = build.language_model(config.model, config.data, torch.device("cpu"))
    part = model.parts.blocks[LAYER].down_projection
    assert part is not None
    W, b = (part.get_parameter(name).detach() for name in ("weight", "bias"))  # [d, m], [d]
    m, d = W.shape[1], W.shape[0]
    assert m != d
    exact = ReluDictionary(
        {
            "W_enc": torch.cat([torch.eye(m), -torch.eye(m)]),
            "b_enc": torch.zeros(2 * m),
            "W_dec": torch.cat([W.T, -W.T]),
            "b_dec": b,
            "b_pre": torch.zeros(m),
            "activation_mean": torch.zeros(d),
        }
    )
    card = Card(
        model=config.model,
        wiring=Wiring((site(HookPoint.mlp_act),), (site(HookPoint.mlp_out),)),
        data=config.data,
    )
    sae_cli.save(root / "exact", exact, card)
    sae_cli.save(root / "half", exact.keep(torch.arange(m)), card)
    return root


def measured(ended):
    return ended.document["eval"]


def test_the_exact_map_changes_nothing(runs, sae):
    found = measured(sae("eval", runs / "exact", *SMALL, "baselines=[random]", "--json"))
    assert found["fvu"] < 1e-9
    assert abs(found["ce_increase"]) < 1e-5 and abs(found["ce_increase_direct"]) < 1e-5
    assert found["kl_sae"] < 1e-6
    assert "de_projection_median" not in found  # its ends are in different places
    assert found["baselines"]["random"]["fvu"] < 1  # an autoencoder of what is written: a basis of it


def test_what_is_left_out_is_missing_from_what_is_written(runs, sae, world):
    """FVU by hand: of x⁺ alone, what is missing is W_out x⁻."""
    found = measured(sae("eval", runs / "half", *SMALL, "eval.sample=first", "ablate=[0,3]", "--json"))
    assert found["fvu"] > 0 and found["kl_sae"] > 0
    half = sae_cli.load(runs / "half")
    config = world.train(runs)
    model = build.language_model(config.model, config.data, torch.device("cpu"))
    from sae_cli.evaluation.subject import make_subject
    from sae_cli.runs.dictionary_run import read_dictionary_run

    subject = make_subject(read_dictionary_run(runs / "half"), None, 4, torch.device("cpu"))
    carried = torch.cat([each.activations for each in subject.blocks(build.Split.held_out)])[: found["tokens"]]
    m = half.d_in
    assert carried.shape[1] == m + half.d_out
    x, y = carried[:, :m].double(), carried[:, m:].double()
    part = model.parts.blocks[LAYER].down_projection
    assert part is not None
    missing = x.clamp(max=0) @ part.get_parameter("weight").double().T
    expected = missing.square().sum() / (y - y.mean(dim=0)).square().sum()
    assert found["fvu"] == pytest.approx(float(expected), rel=1e-4)
    assert [each["feature"] for each in found["ablation"]] == [0, 3]


def test_pages_pruning_comparison_and_report(runs, sae, tmp_path):
    here = [*SMALL, f"runs_dir={tmp_path}"]
    sae("features", runs / "half", "only=[0,1]", "contexts.tokens=300", *SMALL)
    sae("prune-high-freq", runs / "half", "top_n=3", *here, "name=pruned")
    kept = read_tensors(tmp_path / "pruned" / "sae.safetensors")["W_enc"]
    assert len(kept) == sae_cli.load(runs / "half").n_features - 3
    assert sae_cli.card(tmp_path / "pruned").wiring == sae_cli.card(runs / "half").wiring
    compared = sae("compare", f"a={runs / 'exact'}", f"b=[{runs / 'half'}]", *here, "--json").document
    assert compared["figures"]["mmcs_back"] == pytest.approx(1, abs=1e-6)
    sae("report", runs / "half", "--out", tmp_path / "report.html")


def test_several_at_once_are_autoencoders(runs, sae):
    together = f"run=[{runs / 'exact'},{runs / 'half'}]"
    ended = sae("eval", together, "device=cpu", "model_rows=4", "eval.tokens=300", code=2)
    assert "expected an autoencoder, found a dictionary that reads mlp_act.1 and writes mlp_out.1" in ended.err
