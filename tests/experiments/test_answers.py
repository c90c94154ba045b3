"""What the experiments conclude from made-up documents: either way round, of one seed, where figures are missing."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from sae_cli.metrics.contrast import Difference, corrected
from sae_cli.metrics.contrast_lines import line_of

ANSWERS = Path(__file__).parents[2] / "experiments" / "answers"
WAYS = [(1, "A"), (-1, "B")]
"""The sign of A less B, and which is higher."""


class Pipeline:
    """The documents of a pipeline, made up, and what its answer prints."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._capsys, self._monkeypatch = folder / "documents", capsys, monkeypatch
        self.folder.mkdir()
        self._runs = 0

    def run(self, parent: str = "", command: str = "train", facts: Any = None, **settings: Any) -> str:
        """A run with as much of a manifest as the answers read."""
        self._runs += 1
        run = self.folder.parent / f"run{self._runs}"
        run.mkdir()
        parents = [{"path": parent}] if parent else []
        about = {"command": command, "settings": settings, "parents": parents, "facts": facts or {}}
        (run / "manifest.json").write_text(json.dumps(about))
        return str(run)

    def write(self, name: str, document: Any) -> None:
        (self.folder / f"{name}.json").write_text(json.dumps(document))

    def evaluations(self, name: str, found: Iterable[tuple[str, dict[str, Any]]]) -> None:
        self.write(name, [{"run": run, "eval": figures} for run, figures in found])

    def contrast(self, name: str, seeds: int = 3, missing: tuple[str, ...] = (), **effects: float) -> None:
        """Of figures with these differences, each ten times its error."""
        lines = []
        differences = [
            Difference(0.5 + effect, 0.5, seeds, 40, abs(effect) / 50 if seeds > 1 else None, abs(effect) / 50, 0.001)
            for effect in effects.values()
        ]
        for key, each in zip(effects, corrected(differences), strict=True):
            lines.append(line_of(key, None, each))
        self.write(name, {"contrast": {"lines": lines, "missing": list(missing)}})

    def refused(self, name: str, why: str) -> None:
        said = f"loading the model\nsae: error: {why}\nsae: error: 2 of 2 jobs failed: run=/a/b ({why})\n"
        (self.folder / f"{name}.why").write_text(said)

    def answer(self, name: str, *arguments: str) -> str:
        self._monkeypatch.syspath_prepend(ANSWERS)
        self._monkeypatch.setattr("sys.argv", [name, str(self.folder), *arguments])
        runpy.run_path(str(ANSWERS / f"{name}.py"), run_name="__main__")
        found = self._capsys.readouterr().out
        assert "nan" not in found
        return found


@pytest.fixture
def pipeline(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    return Pipeline(tmp_path, capsys, monkeypatch)


Make = Callable[..., dict[str, Any]]


def figures(l0: float = 16.0, **others: Any) -> dict[str, Any]:
    keys = (
        "fvu", "loss_recovered", "ce_increase", "kl_sae", "token_entropy_median", "top3_share_median", "fvu_resid",
        "fvu_logit", "ce_increase_direct", "loss_recovered_direct", "logit_kurtosis_median", "nullspace",
        "nullspace_floor", "nullspace_variance", "mmcs_truth_to_dictionary", "truth_recovered_0.9", "ce_sae",
        "zero_ablation_effect",
    )  # fmt: skip
    return {**dict.fromkeys(keys, 0.5), "alive": 9, "dense_10": 1, "features": 20, "l0": l0, **others}


NOTHING = dict.fromkeys(("loss_recovered", "token_entropy_median", "top3_share_median"))
"""Figures that do not exist."""


@pytest.mark.parametrize(("sign", "better"), [(1, "L1 0.5"), (-1, "L1 2")])
@pytest.mark.parametrize("missing", [{}, NOTHING])
def test_a_frontier(pipeline, sign, better, missing):
    swept = [(l1, seed, pipeline.run(l1=l1, seed=seed)) for l1 in (0.5, 2.0) for seed in (0, 1, 2)]
    pipeline.evaluations("evaluations", [
        (run, figures(32 if l1 == 0.5 else 8, ce_increase=0.1 + (sign * 0.2 if l1 == 2 else 0),
                      loss_recovered_low=0.93 if l1 == 0.5 else 0.8) | missing)
        for l1, seed, run in swept
    ])  # fmt: skip
    pipeline.contrast("cost", ce_increase=sign * 0.2)
    found = pipeline.answer("l1_frontier", "0.9")
    assert f"CE increase, nats, L1 2 less L1 0.5: {sign * 0.2:+.4f}" in found
    assert f"(n = 3 seeds, 40 documents; matters from 0.001): {better} is better." in found
    assert f"From L0 32.0 to 8.0, 2.0 halvings, each costs {sign * 0.1:.4f} nats of CE." in found
    assert "surely recovers 90% with every seed: L1 0.5, L0 32.0" in found


def test_a_frontier_of_one_l1_and_one_seed(pipeline):
    pipeline.evaluations("evaluations", [(pipeline.run(l1=1.0, seed=0), figures() | NOTHING)])
    pipeline.refused("cost", "one value of l1: give several")
    found = pipeline.answer("l1_frontier", "0.9")
    assert "L1 1 against L1 1: cannot tell: one value of l1: give several." in found
    assert "None surely recovers 90%" in found


@pytest.mark.parametrize(("sign", "better"), [(1, "pruning"), (-1, "a higher L1 with the same L0")])
def test_pruning(pipeline, sign, better):
    low = [pipeline.run(l1=0.3, seed=seed) for seed in (0, 1)]
    pipeline.evaluations("sweep", [(run, figures()) for run in [*low, pipeline.run(l1=2.0, seed=0)]])
    for number, limit in enumerate(({"top_n": 5}, {"max_freq": 0.038}), 1):
        for name in ("pruned", "random"):
            made = [
                pipeline.run(run, "prune-high-freq", {"killed": 5, "pruned_l0": 3.1}, recenter=True, **limit)
                for run in low
            ]
            pipeline.evaluations(f"{name}-{number}", [(run, figures() | NOTHING) for run in made])
        pipeline.contrast(f"curve-{number}", loss_recovered=sign * 0.03)
    pipeline.contrast("control-1", missing=("loss_recovered",), ce_increase=sign * 0.01)
    pipeline.refused("control-2", "control=0: expected others that fire 9 times a token in total")
    found = pipeline.answer("high_frequency")
    before = "Without the 5 most frequent features: "
    assert f"{before}loss recovered (zero), pruning less a higher L1 with the same L0: {sign * 0.03:+.4f}" in found
    assert found.count(f": {better} is better.") == 2
    assert f"{before}loss recovered (zero), pruning these less pruning others at random: does not exist" in found
    other = "pruning others at random" if sign > 0 else "pruning these"
    assert f": {other} is better." in found
    other = "pruning these against pruning others at random"
    assert f"Without features on more than 0.038 of tokens: {other}: cannot tell: control=0: expected" in found


@pytest.mark.parametrize(("sign", "better"), [(1, "pca"), (-1, "the dictionary")])
@pytest.mark.parametrize("seeds", [1, 3])
def test_bases(pipeline, sign, better, seeds):
    beside = figures(baselines={"pca": figures() | NOTHING})
    pipeline.evaluations("evaluations", [(pipeline.run(seed=seed), beside) for seed in range(seeds)])
    pipeline.evaluations(
        "truth", [(pipeline.run(seed=0), {"mmcs_truth_to_dictionary": 0.9, "truth_recovered_0.9": 1.0})]
    )
    pipeline.contrast("bases", seeds, fvu=sign * 0.2)
    document = json.loads((pipeline.folder / "bases.json").read_text())
    document["contrast"]["lines"][0]["against"] = "pca"
    pipeline.write("bases", document)
    found = pipeline.answer("features_vs_neurons")
    said = f"{better} is better." if seeds > 1 else "of these two only: one seed."
    assert f"FVU, the dictionary less pca: {sign * 0.2:+.4f}" in found
    assert said in found
    assert "(data=synthetic; 1 seeds), MMCS truth -> dictionary is 0.9000" in found


@pytest.mark.parametrize(("sign", "better"), [(1, "mlp_out"), (-1, "mlp_act")])
def test_hook_points(pipeline, sign, better):
    hooks = [("mlp_act", None), ("mlp_out", None), ("logit_update", "linear")]
    runs = [pipeline.run(seed=0, **{"hook.point": point, "hook.mode": mode}) for point, mode in hooks]
    pipeline.evaluations("evaluations", [(run, figures() | NOTHING) for run in runs])
    pair = {"mmcs": 0.5, "floor_random": 0.1, "floor_subspace": 0.2}
    pipeline.write(
        "directions",
        {
            "compare": {
                "runs": [{"run": run} for run in runs],
                "pairs": [{"a": 0, "b": 1, "a_to_b": pair, "b_to_a": pair}],
            }
        },
    )
    pipeline.contrast("mlp_act", ce_increase=sign * 0.02)
    pipeline.contrast("linear", missing=("ce_increase",))
    pipeline.refused("exact", "one has other rows")
    found = pipeline.answer("what_to_autoencode")
    assert f": {better} is better." in found
    assert "CE increase, logit_update linear less mlp_out: does not exist for one of them." in found
    assert "logit_update exact against mlp_out: cannot tell: one has other rows." in found


def rare(features: int, **of_others: float) -> dict[str, Any]:
    def quantiles(value: float) -> dict[str, float]:
        return dict.fromkeys(("q05", "q50", "q95"), value)

    group = {"de_projection": quantiles(0.1), "b_enc": quantiles(-1.0), "encoder_alignment": 0.4}
    others = {"de_projection": quantiles(1.0), "b_enc": quantiles(0.0), "encoder_alignment": 0.1}
    none: dict[str, Any] = {"features": 0}
    return {
        "below": 1e-3,
        "rare": none if not features else {"features": features, **group},
        "others": {"features": 50, **others, **of_others},
        "snapshots": [],
    }


class History:
    """Six windows: ten features that fire seldom early, and end at a rate; the other ten fire always."""

    def __init__(self, late: int, exempt: int = 0) -> None:
        early, end = [1] * 10 + [400] * 10, [late] * 10 + [400] * 10
        self.count = torch.tensor([early] * 5 + [end] * 5)
        self.tokens = torch.full((10,), 1000)
        self.exempt = torch.arange(20) < exempt


@pytest.mark.parametrize("features", [12, 0])
@pytest.mark.parametrize(
    ("late", "higher"),
    [(10, "at 70% to 100% of training is higher"), (0, "at 40% to 70% of training is higher")],
)
def test_rare_features(pipeline, monkeypatch, features, late, higher):
    histories = {}
    for kind, n in (("plain", 3), ("resampled", 3), ("forbidden", 0 if not features else 2)):
        found = []
        for seed in range(n):
            run = pipeline.run(seed=seed)
            histories[run] = History(late if features else 400, exempt=5)
            histories[run].count[4, 0] += seed
            if not features:
                histories[run].count[:5] = 400
            found.append((run, {"rare": rare(features and features + seed)}))
        if found:
            pipeline.evaluations(kind, found)
    pipeline.contrast("work", ce_increase=0.01)
    pipeline.refused("control", "nothing to hold against")
    pipeline.contrast("resampling", missing=("fvu",))
    import sae_cli.runs.dictionary_run as module

    monkeypatch.setattr(module, "read_dictionary_run", lambda run: type("Source", (), {"run": run}))
    monkeypatch.setattr(module, "read_density", histories.__getitem__)
    found = pipeline.answer("rare_features")
    assert "CE increase, nats, the dictionary without rare features less the whole: +0.0100" in found
    assert "pruning rare features against pruning others that fire as often: cannot tell: nothing to hold" in found
    if not features:
        assert "Of these, without resampling: log10 of the firing rate" in found and "it is not known" in found
        assert "With their direction forbidden: not measured: no rare features" in found
        return
    assert "Rare from 10% to 40% of training are 10 ± 0 features." in found
    assert "number of rare features, a training with their direction forbidden less the plain:" in found
    assert higher in found
    assert "median D/E projection, a rare feature less another: -0.9" in found


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize(("sign", "higher"), [(1, "trained"), (-1, "random")])
def test_random_networks(pipeline, seeds, sign, higher):
    network = {
        "trained": "/nowhere",
        "random": pipeline.run(keep=[]),
        "random but embedding": pipeline.run(keep=["embed"]),
    }
    runs, found = {"relu": [], "topk": []}, []
    for kind in runs:
        for model, path in network.items():
            for seed in range(seeds):
                run = pipeline.run(**{"sae.architecture": kind, "model.path": path, "seed": seed})
                runs[kind].append((run, model, seed))
                found.append((run, figures() | NOTHING))
    pipeline.evaluations("evaluations", found)
    for kind, all_of_them in runs.items():
        pairs = []
        for a, (_, of_a, seed_a) in enumerate(all_of_them):
            for b, (_, of_b, seed_b) in list(enumerate(all_of_them))[a + 1 :]:
                near = 0.5 + sign * (0.2 if of_a == of_b == "trained" else 0) + 0.001 * (seed_a + seed_b)
                way = {"mmcs": near, "floor_random": 0.1, "floor_subspace": 0.2}
                pairs.append({"a": a, "b": b, "a_to_b": way, "b_to_a": way})
        pipeline.write(kind, {"compare": {"runs": [{"run": run} for run, _, _ in all_of_them], "pairs": pairs}})
        for name in ("all", "but_embedding"):
            pipeline.contrast(f"{kind}-{name}", seeds, missing=("fvu",), token_entropy_median=sign * 0.5)
    answer = pipeline.answer("random_control")
    if seeds == 1:
        assert "At equal L1: MMCS with other seeds above its floor" in answer and "it is not known" in answer
        assert "of these two only: one seed." in answer
        return
    assert f"token entropy, bits (median), trained less random: {sign * 0.5:+.3f}" in answer
    assert f": {higher} is higher." in answer
    own, other = ("trained with trained", "trained with random")
    assert f": {own if sign > 0 else other} is higher." in answer


@pytest.mark.parametrize(("sign", "better"), [(1, "one of all domains"), (-1, "a dictionary of x")])
@pytest.mark.parametrize("one_layer", [False, True])
def test_one_domain(pipeline, monkeypatch, sign, better, one_layer):
    from sae_cli.metrics.row_sums import RowPlaces, RowSums

    curve = {"references": [], "references_unit": "ce", "equivalent_model": None, "domains": {}, "tokens_sha256": "1"}
    places = RowPlaces(torch.arange(20), torch.arange(20))

    def sums(increase: float) -> RowSums:
        g = torch.Generator().manual_seed(0)
        noise = torch.rand(20, dtype=torch.float64, generator=g)
        return RowSums.of(
            places, tokens=torch.full((20,), 10.0).double(), bytes=torch.full((20,), 10.0).double(),
            ce_clean=20 + noise, ce_sae=20 + noise + 10 * increase, kl_sae=noise, ce_zero=30 + noise, kl_zero=noise,
        )  # fmt: skip

    rows: dict[str, RowSums] = {}

    def evaluated(name: str, increase: float, domains: list[str]) -> list[tuple[str, dict[str, Any]]]:
        found = []
        for layer in (0,) if one_layer else (0, 1):
            for seed in (0, 1, 2):
                run = pipeline.run(seed=seed, layer=layer, **{"data.domains": domains})
                increase_here = increase + 0.001 * seed
                folder = Path(run, "eval", "default")
                folder.mkdir(parents=True)
                (folder / "eval.json").write_text(json.dumps({"tokens_sha256": "1"}))
                rows[str(folder)] = sums(increase_here)
                found.append((run, figures(**curve) | {"ce_increase": increase_here, "loss_recovered": None}))
        pipeline.evaluations(name, found)
        return found

    alone = evaluated("alone", 0.1, [])
    narrow = evaluated("narrow", 0.1 + sign * 0.05, ["x"])
    pipeline.evaluations("on_narrow", [*alone, *narrow])
    together = alone[:3] if one_layer else []
    for run, _ in alone[: 0 if one_layer else 3]:
        joint = pipeline.run(parent=run, command="eval")
        rows[joint] = sums(0.25)
        together.append((joint, figures(**curve) | {"loss_recovered": None}))
    pipeline.evaluations("together", together)

    class Opened:
        def __init__(self, path: Path | str) -> None:
            self.path, about = str(path), Path(path, "manifest.json")
            parents = json.loads(about.read_text())["parents"] if about.is_file() else []
            self.manifest = type("M", (), {"parents": [type("P", (), each) for each in parents]})

    monkeypatch.setattr("sae_cli.artifacts.stored_run.read_run", Opened)
    monkeypatch.setattr("sae_cli.runs.row_files.read_rows", lambda run, name="dictionary": rows[run.path])
    found = pipeline.answer("good_enough", "x")
    assert "all at once   0.5000" in found
    more = "+0.0000" if one_layer else "+0.0480"
    assert f"CE increase, nats, all layers at once less the sum of the layers' own: {more}" in found
    names = "a dictionary of x less one of all domains"
    difference = f"{sign * (0.05 if one_layer else 0.1):+.4f}"
    assert f"On the text of all domains, summed over layers: CE increase, nats, {names}: {difference}" in found
    assert f": {better} is better." in found


def test_the_domains_with_the_most_documents(pipeline):
    sizes = {"a": (2, 9), "b": (3, 5), "c": (3, 7)}
    domains = {name: {"documents": documents, "tokens": tokens} for name, (documents, tokens) in sizes.items()}
    pipeline.evaluations("alone", [(pipeline.run(seed=0), figures(domains=domains))])
    assert pipeline.answer("largest_domains", "1") == "c\n"
    assert pipeline.answer("largest_domains", "3") == "c\nb\na\n"
    with pytest.raises(SystemExit, match=r"at least 4 domains, found 3: give data\.domain="):
        pipeline.answer("largest_domains", "4")
    pipeline.evaluations("alone", [(pipeline.run(seed=0), figures())])
    with pytest.raises(SystemExit, match=r"at least 1 domains, found 0"):
        pipeline.answer("largest_domains", "1")


@pytest.mark.parametrize(("sign", "better"), [(1, "one of another part"), (-1, "a dictionary of this part")])
@pytest.mark.parametrize("n_seeds", [3, 1])
def test_parts_of_a_text(pipeline, monkeypatch, sign, better, n_seeds):
    """A dictionary at home and one of another part, and features that domains share, or do not."""
    rows, tensors = {}, {}

    def evaluated(name, increase, trained_on, used=(0, 1), tokens="1"):
        found = []
        for seed in range(n_seeds):
            run = pipeline.run(seed=seed, **{"data.domains": trained_on})
            folder = Path(run, "eval", "default")
            folder.mkdir(parents=True)
            (folder / "eval.json").write_text(json.dumps({"tokens_sha256": tokens, "baselines": {"token2": {}}}))
            rows[str(folder)] = sums_of_rows(increase + 0.001 * seed)
            fires = torch.tensor([float(feature in used) for feature in range(4)])
            tensors[str(folder)] = {"count": fires, "mean_act": 1 + fires}
            tensors[run] = {"W_dec": torch.eye(4)}
            report = {"tokens_sha256": tokens, "documents": 20, "baselines": {"token2": figures()}}
            found.append((run, figures(ce_increase=increase, **report)))
        pipeline.evaluations(name, found)
        return found

    (pipeline.folder / "domains.txt").write_text("x\nan other\n")
    evaluated("alone", 0.1, [])
    evaluated("own-1", 0.1 + sign * 0.05, ["x"])
    other = evaluated("other-at-home-1", 0.1, ["an other"])
    everything = evaluated("everything", 0.1, [])
    pipeline.evaluations("others-1", [*other, *everything])
    evaluated("domain-0", 0.1, [], used=(0, 1))
    evaluated("domain-1", 0.1, [], used=(1, 2))

    class Opened:
        def __init__(self, path: Path | str) -> None:
            self.path = str(path)

        def read_tensors(self, name: str) -> dict[str, torch.Tensor]:
            return tensors[self.path]

    monkeypatch.setattr("sae_cli.artifacts.stored_run.read_run", Opened)
    monkeypatch.setattr("sae_cli.runs.row_files.read_rows", lambda run, name="dictionary": rows[run.path])
    found = pipeline.answer("sub_distribution", "1")
    line = f"On x: CE increase, nats, a dictionary of this part less one of another part: {sign * 0.05:+.4f}"
    assert line in found
    assert (f": {better} is better." in found) == (n_seeds > 1)
    (reuse,) = [each.split() for each in found.splitlines() if each.startswith(("2  ", "2 ±"))]
    assert float(reuse[1 if n_seeds == 1 else 3]) == pytest.approx(4 / 3, abs=0.01)  # two of each, three in all


def sums_of_rows(increase: float) -> Any:
    """Of twenty documents, with a CE increase that is the same in all of them."""
    from sae_cli.metrics.row_sums import RowPlaces, RowSums

    noise = torch.rand(20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ten = torch.full((20,), 10.0).double()
    return RowSums.of(
        RowPlaces(torch.arange(20), torch.arange(20)), tokens=ten, bytes=ten, positions=ten, active=ten,
        squared_error=1 + noise, variance=10 + noise,
        ce_clean=20 + noise, ce_sae=20 + noise + 10 * increase, kl_sae=noise, ce_zero=30 + noise, kl_zero=noise,
    )  # fmt: skip


@pytest.mark.parametrize(("sign", "better"), [(1, "decoder frozen"), (-1, "trained")])
def test_frozen(pipeline, sign, better):
    for kind in ("trained", "decoder", "soft", "encoder"):
        pipeline.evaluations(kind, [(pipeline.run(seed=0), figures() | NOTHING)])
    pipeline.contrast("against-decoder", fvu=sign * 0.2)
    pipeline.contrast("against-soft", seeds=1, fvu=sign * 0.2)
    pipeline.refused("against-encoder", "it was stopped")
    pipeline.refused("token2", "no text")
    found = pipeline.answer("frozen_control", "0.8")
    assert f"FVU, trained less decoder frozen: {sign * 0.2:+.4f}" in found
    assert f": {better} is better." in found
    assert "trained less decoder within cosine 0.8" in found and "of these two only: one seed" in found
    assert "trained against encoder frozen: cannot tell: it was stopped." in found


@pytest.mark.parametrize(("sign", "higher"), [(1, "the most frequent part"), (-1, "the rarest")])
def test_worth(pipeline, sign, higher):
    whole = [pipeline.run(seed=seed) for seed in (0, 1, 2)]
    pipeline.evaluations("whole", [(run, figures(fvu=0.1, ce_increase=0.1)) for run in whole])
    for number, band in ((1, [0, 0.5]), (2, [0.5, 1])):
        made = []
        for seed, run in enumerate(whole):
            pruned = pipeline.run(run, "prune-high-freq", {"killed": 5, "pruned_l0": 3.1}, band=band)
            worth = 2 + sign * (0.5 if number == 2 else -0.5) + 0.01 * seed * number
            made.append((pruned, figures(fvu=0.2, ce_increase=0.1 + 0.1 * worth)))
        pipeline.evaluations(f"band-{number}", made)
        pipeline.contrast(f"worth-{number}", ce_increase=0.2)
        pipeline.refused(f"control-{number}", "the others fire less")
    found = pipeline.answer("frequency_worth")
    difference = "+1.0" if sign > 0 else "-0.9"
    assert f"CE increase per FVU, nats, the most frequent part less the rarest: {difference}" in found
    assert f": {higher} is higher." in found
    what = "Places 50% to 100% in the order of frequency: without these against without others that fire as often"
    assert f"{what}: cannot tell: the others fire less." in found


def test_worth_of_a_part_that_changes_nothing(pipeline):
    whole = pipeline.run(seed=0)
    pipeline.evaluations("whole", [(whole, figures())])
    pruned = pipeline.run(whole, "prune-high-freq", {"killed": 0, "pruned_l0": 0.0}, band=[0, 1])
    pipeline.evaluations("band-1", [(pruned, figures())])
    pipeline.contrast("worth-1", seeds=1, ce_increase=0.0)
    assert "0% to 100%" in pipeline.answer("frequency_worth")


@pytest.mark.parametrize(("sign", "better"), [(1, "F = 1,024"), (-1, "F = 512")])
def test_sizes(pipeline, sign, better):
    runs = [(size, pipeline.run(seed=seed, dict_size=size)) for size in (1024, 512) for seed in (0, 1)]
    pipeline.evaluations("evaluations", [(run, figures() | NOTHING) for _, run in runs])
    way = {"mmcs": 0.5, "floor_random": 0.1, "floor_subspace": 0.2, "share_0.9": 0.1}
    pipeline.write("directions-1-0", {"compare": {"pairs": [{"a_to_b": way, "b_to_a": way}]}})
    pipeline.contrast("step-1", loss_recovered=sign * 0.02)
    found = pipeline.answer("dictionary_size")
    assert f"loss recovered (zero), F = 1,024 less F = 512: {sign * 0.02:+.4f}" in found
    assert f": {better} is better." in found
    assert "1,024 -> 512" in found


def test_one_size(pipeline):
    pipeline.evaluations("evaluations", [(pipeline.run(seed=0, dict_size=512), figures())])
    assert "One size: give several" in pipeline.answer("dictionary_size")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({8: 0.5, 16: 0.9, 32: 0.6}, "Most of the truth is found at k = 16 (0.900), inside the sweep."),
        ({8: 0.5, 16: 0.6, 32: 0.9}, "at k = 32 (0.900), at the end of the sweep: give k= beyond it."),
        ({8: 0.5}, "Most of the truth is found: cannot tell: fewer than three values of k, or one seed."),
    ],
)
def test_sparsity(pipeline, values, said):
    runs = [(k, value, pipeline.run(seed=seed, k=k)) for k, value in values.items() for seed in (0, 1)]
    pipeline.evaluations("truth", [(run, figures(mmcs_truth_to_dictionary=value)) for _, value, run in runs])
    pipeline.evaluations("evaluations", [(run, figures() | NOTHING) for _, _, run in runs])
    for number in range(1, len(values)):
        pipeline.contrast(f"truth-{number}", mmcs_truth_to_dictionary=0.1)
    found = pipeline.answer("right_sparsity")
    assert said in found
    assert "Seeds agree most, on the model,: cannot tell" in found


def test_verdicts_of_an_answer_are_corrected_together(pipeline):
    """One of ten that is barely beyond chance by itself is not, among ten."""
    pipeline._monkeypatch.syspath_prepend(ANSWERS)
    from reading import KNOWN, Answers

    barely = Difference(0.52, 0.5, 20, 40, 0.007, 0.005, 0.01)
    alone, among = Answers(), Answers()
    alone.add(KNOWN["fvu"], "A", "B", barely)
    for _ in range(10):
        among.add(KNOWN["fvu"], "A", "B", barely)
    assert "B is better" in next(alone.lines())
    assert all("cannot tell among so many comparisons" in line for line in among.lines())


def concept(name, best, token, agree=None):
    """As `sae probe --json` has it, as far as the answer looks."""
    bases = {
        basis: {"best": {"auroc": value}, "floor": 0.55, "k95": 4}
        for basis, value in (("features", best), ("token", token), ("control", token + 0.01))
    }
    found = {"concept": name, "kind": "matched", "bases": bases, "dense": {"x": {"auroc": 0.9}}}
    return found | ({"agree": {"by_m": [{"fpr_less_dense": agree}]}} if agree is not None else {})


CELLS = {"worst": 0.4, "worst_se": 0.01, "parted": 0.5, "auroc": 0.8, "auroc_of_companion": 0.7}


@pytest.mark.parametrize(("more", "said"), [(0.1, "the feature is better"), (-0.1, "the feature is worse")])
def test_features_as_classifiers(pipeline, more, said):
    for seed in (1, 2):
        concepts = [concept(f"c{i}", 0.6 + more + 0.001 * i, 0.6, agree=-0.02 - 0.001 * i) for i in range(10)]
        pipeline.write(f"probe-{seed}", {"probe": {"concepts": concepts}})
        ablated = {"ablated": {**CELLS, "removed": 3.0}}
        confound = {
            "concept": "a", "companion": "b", "nothing": CELLS, "balanced": CELLS, "without_companion": CELLS,
            "judged": [{"judge": "oracle", "top": 20, "conditions": ablated}],
        }  # fmt: skip
        pipeline.write(f"confound-{seed}", {"probe": {"confound": confound}})
    found = pipeline.answer("features_as_classifiers")
    assert "AUROC on test tokens, negatives matched by token (mean of 2 seeds)" in found
    assert f"10 concepts: {said}" in found and "some feature finds 80 % of the tokens of 20 of the concepts" in found
    assert "10 concepts: fewer" in found and "oracle, top 20: ablated" in found and "dictionary 2" in found


def test_features_as_classifiers_of_few_concepts(pipeline):
    pipeline.write("probe-1", {"probe": {"concepts": [concept("c", 0.7, 0.6)]}})
    assert "over 1 concepts: too few for an interval" in pipeline.answer("features_as_classifiers")
