"""`sae contrast`: pairs, predictions and refusals, through the command line."""

from __future__ import annotations

import html
import json
from dataclasses import replace
from pathlib import Path

import pytest

from sae_cli.artifacts.stored_run import read_run
from sae_cli.commands import train
from sae_cli.metrics.catalogue import contrasted
from sae_cli.metrics.contrast_lines import difference_text, figure_and_baseline, verdict_words

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


def test_its_report_has_every_difference_and_verdict(runs, sae):
    low, high = ([runs / f"{name}={seed}" for seed in (0, 1, 2)] for name in ("low", "high"))
    here = ["--predict", "difference.l0>0", *SMALL, f"runs_dir={runs / 'reported'}"]
    ended = sae("contrast", *low, "--against", *high, *here, "--json")
    report, directory = json.loads(ended.out)["contrast"], json.loads(ended.out)["run"]
    sae("report", directory)
    one = Path(directory, "report.html").read_text()
    together = runs / "together.html"
    sae("report", directory, low[0], "--out", together)
    for page in (one, together.read_text()):
        text = html.unescape(page)
        for line in report["lines"]:
            known = contrasted()[line["figure"]]
            for said in (known.named, difference_text(line, known), verdict_words(line, known)):
                assert said in text
        assert "difference.l0>0" in text
        assert '"contrast' in page and "_differences" in page


def test_against_baselines_of_the_same_evaluation(runs, sae):
    """Two of them at once; a figure of features is over seeds alone."""
    here = [*SMALL, "figures=[fvu,ce_increase,token_entropy_median]", f"runs_dir={runs / 'beside'}"]
    low = [runs / f"low={seed}" for seed in (0, 1)]
    ended = sae("contrast", *low, "--against", "random", "pca", *here, "--json")
    report = json.loads(ended.out)["contrast"]
    assert [(each["b"], each["seed"]) for each in report["pairs"]] == [("random,pca", 0), ("random,pca", 1)]
    lines = {(each["figure"], each["against"]): each for each in report["lines"]}
    assert len(lines) == 6
    evaluations = [json.loads(sae("eval", run, *SMALL, "baselines=[random,pca]", "--json").out)["eval"] for run in low]
    for (figure, baseline), line in lines.items():
        assert line["unit"] == ("seeds" if figure == "token_entropy_median" else "seeds and documents")
        own, other = (
            [each[figure] for each in of] for of in (evaluations, [e["baselines"][baseline] for e in evaluations])
        )
        assert line["a"] == pytest.approx(sum(own) / 2, rel=1e-6)
        assert line["b"] == pytest.approx(sum(other) / 2, rel=1e-6)
    assert {"random.fvu", "pca.fvu_low"} <= set(json.loads(ended.out)["figures"])


def test_conditions_on_a_contrast_with_a_baseline(runs, sae):
    here = [runs / "low=0", "--against", "random", *SMALL, "figures=[fvu]", f"runs_dir={runs / 'required'}"]
    sae("contrast", *here, "--require", "random.fvu<9", "--require", "random.fvu_low<9")
    assert "required random.fvu>9" in sae("contrast", *here, "--require", "random.fvu>9", code=3).err
    other = sae("contrast", *here, "--require", "pca.fvu<9", code=2)
    assert "expected pca among against=[random]" in other.err
    assert "no field random.fuv: did you mean fvu?" in sae("contrast", *here, "--require", "random.fuv<9", code=2).err


def test_what_a_baseline_does_not_have_is_named_with_it(runs, sae):
    """Means by token have no features, and so no entropy of them; bases do."""
    here = [runs / "low=0", "--against", "token", "random", *SMALL, "figures=[token_entropy_median]"]
    ended = sae("contrast", *here, f"runs_dir={runs / 'lacking'}", "--json")
    document = json.loads(ended.out)
    assert document["contrast"]["missing"] == ["token.token_entropy_median"]
    assert document["figures"]["token.token_entropy_median"] is None
    assert "token entropy, bits (median), B: token" in sae("contrast", *here, f"runs_dir={runs / 'lacking'}").err
    assert figure_and_baseline("token.token_entropy_median") == ("token_entropy_median", "token")
    assert figure_and_baseline("truth_recovered_0.9") == ("truth_recovered_0.9", None)
    assert figure_and_baseline("pca.l0_share_0.1_to_1") == ("l0_share_0.1_to_1", "pca")


def test_at_equal_l0_against_a_sweep(runs, world, sae):
    """Dictionaries of a sweep lie on its own curve, within what the fit smooths; its ends have no curve beyond."""
    sweep = []
    for seed in (0, 1):
        for l1 in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2):
            train.run(world.train(runs, tokens=4096, seed=seed, l1=l1), at := runs / f"swept={l1}-{seed}")
            sweep.append(at)
    a = [at for at in sweep if "0.4" in at.name]
    here = [*SMALL, "curve=l0", "figures=[fvu,ce_increase]", f"runs_dir={runs / 'equal'}"]
    ended = sae("contrast", *a, "--against", *sweep, *here, "--json")
    report = json.loads(ended.out)["contrast"]
    assert [each["seed"] for each in report["pairs"]] == [0, 1]
    assert len(report["sweep"]) == 12
    line = {each["figure"]: each for each in report["lines"]}["fvu"]
    assert line["difference"] == pytest.approx(0, abs=0.1)
    assert line["low"] < line["difference"] < line["high"]
    assert (
        "contrast at equal L0: 2 dictionaries against a sweep of 12"
        in sae("contrast", *a, "--against", *sweep, *here).err
    )
    few = sae("contrast", *a, "--against", *sweep[:4], *sweep[6:], *here, code=2)
    assert "expected at least 6 dictionaries of seed 0 in against=, of different L0, found 4" in few.err
    other = sae("contrast", a[0], "--against", *sweep, *here, code=2)
    assert "expected a sweep in against= for each seed of a=" in other.err


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
        (["low=0", "--against", "token", "high=0"], "expected baselines or dictionaries, found both"),
        (["low=0", "--against", "token", "curve=l0"], "curve=l0 has no effect against baselines"),
        (["low=0", "--against", "token", "pca", "--predict", "difference.fvu>0"], "expected one baseline"),
        (["low=0", "--against", "high=0", "curve=l0", "figures=[alive]"], "has no curve in L0"),
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
