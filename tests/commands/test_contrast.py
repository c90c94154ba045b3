"""`sae contrast`: pairs, predictions and refusals, through the command line."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from sae_cli.artifacts.stored_run import read_run
from sae_cli.commands import train

CONTRASTED_BY_DEFAULT = ("l0", "fvu", "loss_recovered", "ce_increase")
SMALL = ["device=cpu", "model_rows=4", "features.tokens=300", "eval.tokens=2000"]


@pytest.fixture(scope="module")
def runs(world, tmp_path_factory):
    root = tmp_path_factory.mktemp("contrast")
    for seed in (0, 1, 2):
        for name, l1 in (("low", 0.1), ("high", 3.0)):
            train.run(world.train(root, tokens=4096, seed=seed, l1=l1), root / f"{name}={seed}")
    return root


def test_a_known_difference(runs, sae):
    """The higher L1 has the lower L0; pairs are found by their seeds, whatever the order."""
    low, high = [runs / f"low={seed}" for seed in (0, 1, 2)], [runs / f"high={seed}" for seed in (2, 0, 1)]
    here = [*SMALL, f"runs_dir={runs / 'out'}"]
    predicted = ["--predict", "difference.l0>0", "--predict=l0<0"]
    ended = sae("contrast", *low, "--against", *high, *predicted, *here, "--json")
    report = json.loads(ended.out)["contrast"]
    assert [each["seed"] for each in report["pairs"]] == [0, 1, 2]
    assert all(each["b"].endswith(f"high={each['seed']}") for each in report["pairs"])
    lines = {each["figure"]: each for each in report["lines"]}
    assert lines["l0"]["verdict"] == "a_higher"
    assert lines["l0"]["low"] < lines["l0"]["difference"] < lines["l0"]["high"]
    assert [each["outcome"] for each in report["predictions"]] == ["true", "false"]
    manifest = read_run(json.loads(ended.out)["run"]).manifest
    assert manifest.settings["predict"] == ["difference.l0>0", "l0<0"]
    assert len(manifest.parents) == 6
    again = sae("contrast", *low, "--against", *high, *predicted, *here)
    assert "already finished" in again.err
    assert "B is better" in again.err


def test_the_difference_is_that_of_the_evaluations(runs, sae):
    ended = sae("contrast", runs / "low=0", "--against", runs / "high=0", *SMALL, f"runs_dir={runs / 'one'}", "--json")
    report = json.loads(ended.out)["contrast"]
    figures = [json.loads(sae("eval", runs / name, *SMALL, "--json").out)["eval"] for name in ("low=0", "high=0")]
    assert {*(line["figure"] for line in report["lines"]), *report["missing"]} == set(CONTRASTED_BY_DEFAULT)
    for name in report["missing"]:  # where the ablation does not clearly raise the loss
        assert None in [each[name] for each in figures]
    for line in report["lines"]:
        one, other = (each[line["figure"]] for each in figures)
        assert line["difference"] == pytest.approx(one - other, rel=1e-6, abs=1e-9)
        assert line["verdict"] == "one_pair"


def test_dictionaries_of_other_rows_are_refused(runs, world, sae):
    """The same documents in rows of another length, and the same number of rows."""
    config = world.train(runs, tokens=512)
    train.run(replace(config, data=replace(config.data, context=24)), runs / "shorter")
    settings = [*SMALL[:3], "eval.tokens=200", f"runs_dir={runs / 'other'}"]
    ended = sae("contrast", runs / "low=0", "--against", runs / "shorter", *settings, code=1)
    assert "shorter: was measured on other rows of text than" in ended.err
    assert len(ended.err.strip().splitlines()[-1]) < 400


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["low=0", "--against", "high=0", "high=1"], "expected as many dictionaries in against= as in a="),
        (["low=0", "low=0", "--against", "high=0", "high=1"], "twice"),
        (["low=0", "--against", "gone"], "against="),
        (["low=0", "--against", "high=0", "figures=[fuv]"], "did you mean fvu?"),
        (["low=0", "--against", "high=0", "figures=[]"], "at least one figure"),
        (["low=0", "--against", "high=0", "--predict", "l0=3"], "expected FIGURE<NUMBER or FIGURE>NUMBER"),
        (["low=0", "--against", "high=0", "--predict", "kl_sae<3"], "is not among figures="),
        (["--against", "high=0"], "a is missing"),
    ],
)
def test_bad_requests(runs, sae, arguments, said):
    given = [str(runs / each) if "=" in each and each[:3] in ("low", "hig") else each for each in arguments]
    assert said in sae("contrast", *given, *SMALL, f"runs_dir={runs / 'bad'}", code=2).err
    assert not (runs / "bad").exists()
