"""What the experiments conclude where loss recovered does not exist: zero ablation does not raise the loss."""

from __future__ import annotations

import io
import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ANSWERS = Path(__file__).parents[2] / "experiments" / "answers"

Answer = Callable[..., str]


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Answer:
    """Runs a script with documents as files, and those of `stdin`; what it prints."""

    def run(name: str, *arguments: Any, stdin: Any = ()) -> str:
        paths = []
        for number, each in enumerate(arguments):
            paths.append(each if isinstance(each, str) else str(tmp_path / f"{number}.json"))
            if not isinstance(each, str):
                Path(paths[-1]).write_text(json.dumps(each))
        monkeypatch.syspath_prepend(ANSWERS)
        monkeypatch.setattr("sys.argv", [name, *paths])
        monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(stdin)))
        runpy.run_path(str(ANSWERS / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


def report(l0: float, ce_increase: float, recovered: float | None, **more: Any) -> dict[str, Any]:
    error = None if recovered is None else 0.01
    figures = {"l0": l0, "ce_increase": ce_increase, "loss_recovered": recovered, "loss_recovered_se": error}
    others = ("mse", "fvu", "loss_recovered_mean", "kl_sae", "ce_sae", "zero_ablation_effect", "token_entropy_median")
    counts = {"alive": 9, "dense_10": 1, "tokens": 100}
    return {**dict.fromkeys(others, 0.5), **counts, **figures, "ce_increase_se": 0.001, **more}


@pytest.fixture
def document(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """A run, with as much of a manifest as the scripts read, and its evaluation."""
    numbers = iter(range(100))

    def make(figures: dict[str, Any], command: str = "train", parent: str = "", **settings: Any) -> dict[str, Any]:
        run = tmp_path / str(next(numbers))
        run.mkdir()
        about = {"command": command, "settings": settings, "parents": [{"path": parent}] if parent else []}
        (run / "manifest.json").write_text(json.dumps(about))
        return {"run": str(run), "eval": figures}

    return make


def frontier(document, recovered):
    """L0 is halved once, at .2 nats; two seeds each."""
    return [
        document(report(l0, ce, recovered.get((l1, seed))), l1=l1, seed=seed)
        for l1, l0, ce in ((0.1, 32.0, 0.1), (0.2, 16.0, 0.3))
        for seed in (0, 1)
    ]


@pytest.mark.parametrize("known", [{}, {(0.1, 0): 0.9, (0.1, 1): 0.9}, {(0.1, 0): 0.99, (0.2, 0): 0.9, (0.2, 1): 0.9}])
def test_a_frontier_without_loss_recovered_is_one_of_the_loss(answer, document, known):
    found = answer("l1_frontier", stdin=frontier(document, known))
    assert "From L0 32.0 to 16.0, each halving of L0 costs 0.2000 ± 0.0000 nats of CE." in found
    assert "zero ablation does not clearly raise the loss" in found and "Which of them recovers 90% cannot be" in found
    assert "nan" not in found and "lower l1=" not in found and "The sparsest" not in found


def test_a_mean_over_some_of_the_seeds_says_so(answer, document):
    known = {(0.1, 0): 0.99, (0.2, 0): 0.95, (0.2, 1): 0.95}
    assert "0.9900 (1 of 2)" in answer("l1_frontier", stdin=frontier(document, known))


def test_a_frontier_with_loss_recovered_is_as_before(answer, document):
    known = {(l1, seed): 0.95 - l1 for l1 in (0.1, 0.2) for seed in (0, 1)}
    found = answer("l1_frontier", stdin=frontier(document, known))
    assert "each halving of L0 costs 0.1000 ± 0.0000 of loss recovered." in found and "nats of CE" not in found


TRUTH = {
    "compare": {"pairs": [{"b_to_a": {"floor_random": 0.1, "floor_subspace": 0.2, "mmcs": 0.9, "share_0.9": 0.5}}]}
}


@pytest.mark.parametrize(("own", "other"), [(None, None), (None, 0.5), (0.5, None)])
def test_features_are_held_against_bases_by_the_loss(answer, document, own, other):
    beside = report(16, 0.1, own, baselines={"pca": report(16, 0.3, other), "random": report(16, 0.05, other)})
    found = answer("features_vs_neurons", [document(report(16, 0.1, own))] * 2, [document(beside)], TRUTH)
    assert "CE increase, features less pca: -0.2000 ± 0.0014: features win." in found
    assert "CE increase, features less random: +0.0500 ± 0.0014: random win." in found
    assert "Compared by CE increase: zero ablation" in found and "nan" not in found


@pytest.mark.parametrize(("swept", "after", "before"), [(None, None, None), (0.9, 0.9, None), (None, 0.9, 0.9)])
def test_pruning_is_held_against_the_sweep_by_the_loss(answer, document, swept, after, before):
    documents = [document(report(l0, ce, swept), l1=l1, seed=0) for l1, l0, ce in ((0.1, 32, 0.1), (0.2, 8, 0.5))]
    figures = report(16, 0.2, after, before=report(32, 0.1, before), killed=3)
    limits = {"max_freq": 0.1, "recenter": False}
    documents.append(document(figures, "prune-high-freq", documents[0]["run"], **limits))
    found = answer("high_frequency", stdin=documents)
    assert "Pruning every feature above 0.1 took 16.0 off L0 and cost 0.1000 nats of CE." in found
    # Half way between L0 32 and 8 on a log scale the sweep is at .3 nats.
    assert "CE increase of the L1 sweep less that of the pruned dictionary at the same L0:" in found
    assert "pruning above 0.1: +0.1000 ± 0.0010: undecided (one seed)" in found and "nan" not in found


def test_no_place_among_the_references_is_no_error(answer, document):
    curve = {"references": [], "references_unit": "ce", "equivalent_model": None, "domains": {}}
    alone = [document(report(16, 0.1, None, **curve), layer=0, seed=0, **{"data.domains": []})]
    together = [{"run": "all", "eval": report(16, 0.2, None, **curve)}]
    narrow = [document(report(16, 0.1, None), layer=0, seed=0, **{"data.domains": ["x"]})]
    found = answer("good_enough", "x", alone, together, narrow, [*alone, *narrow])
    assert "all at once   0.5000  0.2000       0.5000               -               -" in found


def test_figures_that_no_seed_has_decide_nothing(monkeypatch):
    monkeypatch.syspath_prepend(ANSWERS)
    from reading import shown, verdict

    assert verdict([], "better", "worse") == verdict([None], "better", "worse", [None]) == "no seed has both: undecided"
    assert shown([None, None]) == "-"
