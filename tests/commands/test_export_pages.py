"""`sae export to=neuronpedia`: the pages of features in SAEDashboard's files, and what it refuses."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sae_cli.artifacts.stored_run import read_run
from sae_cli.commands import features, train
from sae_cli.config.commands.features import FeaturesConfig
from sae_cli.config.evaluation import ContextsConfig, EvaluationConfig, FeaturePassConfig
from sae_cli.config.hook import HookConfig, HookPoint
from sae_cli.dictionaries.files import load_dictionary
from sae_cli.runs.feature_pages import StoredPages
from sae_cli.runs.formats import neuronpedia

F, CONTEXT = 48, 32
CONTEXTS = ContextsConfig(tokens=2000, top=3, bands=2, per_band=2, window=6)
OF_A_FEATURE = {
    "feature_index", "neuron_alignment_indices", "neuron_alignment_values", "neuron_alignment_l1",
    "correlated_neurons_indices", "correlated_neurons_l1", "correlated_neurons_pearson",
    "correlated_features_indices", "correlated_features_l1", "correlated_features_pearson",
    "neg_str", "neg_values", "pos_str", "pos_values", "frac_nonzero", "freq_hist_data_bar_values",
    "freq_hist_data_bar_heights", "logits_hist_data_bar_heights", "logits_hist_data_bar_values", "n_prompts_total",
    "n_tokens_in_prompt", "dataset", "decoder_weights_dist", "activations", "vector",
}  # fmt: skip
"""A transcription of `NeuronpediaDashboardFeature` of SAEDashboard 0.8.0."""
OF_AN_ACTIVATION = {"bin_min", "bin_max", "bin_contains", "tokens", "values", "qualifying_token_index"}


def measure(run, name="a", **changes):
    settings = {"eval": EvaluationConfig(tokens=500), "features": FeaturePassConfig(tokens=1500), "device": "cpu"}
    asked = FeaturesConfig(run=str(run), model_rows=4, **{"contexts": CONTEXTS, **settings, **changes})
    features.run(asked, run, name)
    return StoredPages(read_run(run / "features" / name, "features"))


@pytest.fixture(scope="module")
def trained(world, tmp_path_factory):
    root = tmp_path_factory.mktemp("dashboards")
    train.run(world.train(root, tokens=1024), root / "run")
    return root / "run"


@pytest.fixture(scope="module")
def pages(trained):
    return measure(trained)


@pytest.fixture
def copy(trained, pages, tmp_path):
    """The run with its pages, to be changed."""
    return Path(shutil.copytree(trained, tmp_path / "copy"))


def near(found, tensor):
    """To the digits that are written."""
    assert len(found) == len(tensor)
    assert found == pytest.approx(tensor.tolist(), abs=6e-4, rel=6e-3)


def test_what_the_files_hold(trained, pages, world, sae, tmp_path, monkeypatch):
    monkeypatch.setattr(neuronpedia, "FEATURES_A_FILE", 20)
    directory = Path(sae("export", trained, "to=neuronpedia", f"runs_dir={tmp_path}").out.strip())
    batches = [json.loads((directory / f"batch-{n}.json").read_text()) for n in range(3)]
    assert not (directory / "batch-3.json").exists()
    for each in batches:
        assert {key: value for key, value in each.items() if key != "features"} == {
            "model_id": "model", "layer": 1, "sae_set": "mlp_out-run", "sae_id_suffix": None
        }  # fmt: skip
    written = [feature for each in batches for feature in each["features"]]
    assert [each["feature_index"] for each in written] == list(range(F))
    W_dec = load_dictionary(read_run(trained), verify=True).W_dec.detach()
    for row, each in enumerate(written):
        assert each.keys() == OF_A_FEATURE
        assert each["dataset"] == str(world.text) and each["n_tokens_in_prompt"] == CONTEXT
        assert each["n_prompts_total"] * (CONTEXT - 1) == pages.about["tokens_seen"]
        assert each["frac_nonzero"] == float(pages.tensors["frequency"][row])
        for theirs, ours in (("pos", "top"), ("neg", "bottom")):
            assert each[f"{theirs}_str"] == [pages.token(t) for t in pages.tensors[f"{ours}_token"][row].tolist()]
            near(each[f"{theirs}_values"], pages.tensors[f"{ours}_weight"][row])
        values, indices = W_dec[row].topk(3)
        assert each["neuron_alignment_indices"] == indices.tolist()
        near(each["neuron_alignment_values"], values)
        near(each["neuron_alignment_l1"], values.abs() / W_dec[row].abs().sum())
        assert each["logits_hist_data_bar_heights"] == pages.histograms["logit_count"][row].tolist()
        assert len(each["logits_hist_data_bar_values"]) == len(each["logits_hist_data_bar_heights"]) == 50
        assert len(each["freq_hist_data_bar_values"]) == len(each["freq_hist_data_bar_heights"])
        assert sum(each["freq_hist_data_bar_heights"]) == int(pages.histograms["activation_count"][row].sum())
    assert json.loads((directory / "skipped_indexes.json").read_text()) == {
        "model_id": "model", "layer": "1", "sae_set": "mlp_out-run", "log_sparsity": 1, "skipped_indexes": []
    }  # fmt: skip
    facts = json.loads((directory / "manifest.json").read_text())["facts"]
    assert facts["features"] == F and facts["pages"] == str(trained / "features/a")


def test_activations_are_those_of_the_pages(trained, pages, sae, tmp_path):
    directory = Path(sae("export", trained, "to=neuronpedia", f"runs_dir={tmp_path}").out.strip())
    contexts, slots = pages.contexts, 0
    for row, each in enumerate(json.loads((directory / "batch-0.json").read_text())["features"]):
        groups = [0, *range(CONTEXTS.bands, 0, -1)]
        order = [
            slot
            for group in groups
            for slot in range(contexts["quantile"].shape[1])
            if int(contexts["quantile"][row, slot]) == group and int(contexts["document"][row, slot]) >= 0
        ]
        assert len(each["activations"]) == len(order)
        largest = float(contexts["peak"][row].max())
        for slot, found in zip(order, each["activations"], strict=True):
            assert found.keys() == OF_AN_ACTIVATION
            there = contexts["tokens"][row, slot] >= 0
            tokens = contexts["tokens"][row, slot][there].tolist()
            assert found["tokens"] == [pages.token(each) for each in tokens]
            near(found["values"], contexts["activations"][row, slot][there])
            peak = float(contexts["peak"][row, slot])
            assert found["values"][found["qualifying_token_index"]] == pytest.approx(peak, abs=6e-4, rel=6e-3)
            if contexts["quantile"][row, slot] == 0:
                assert (found["bin_min"], found["bin_contains"]) == (-1, -1)
                assert found["bin_max"] == pytest.approx(largest, abs=6e-4, rel=6e-3)
            else:  # a band's border is known to 1/32
                assert found["bin_min"] * (1 - 1 / 16) <= peak <= found["bin_max"] * (1 + 1 / 16)
                fires = int(pages.histograms["activation_count"][row].sum())
                assert found["bin_contains"] == pytest.approx(fires / 2 / pages.about["tokens_seen"])
            slots += 1
    assert slots > 100


def test_of_some_features_the_others_are_named(copy, sae, tmp_path):
    shutil.rmtree(copy / "features")
    measure(copy, only=[2, 40])
    directory = Path(sae("export", copy, "to=neuronpedia", f"runs_dir={tmp_path}").out.strip())
    written = json.loads((directory / "batch-0.json").read_text())["features"]
    assert [each["feature_index"] for each in written] == [2, 40]
    skipped = json.loads((directory / "skipped_indexes.json").read_text())["skipped_indexes"]
    assert skipped == [each for each in range(F) if each not in (2, 40)]


def test_pages_of_the_most_features_are_written_and_changes_are_said(copy, sae, tmp_path):
    measure(copy, name="few", only=[2], contexts=replace(CONTEXTS, tokens=3000))
    directory = sae("export", copy, "to=neuronpedia", f"runs_dir={tmp_path}").out.strip()
    assert json.loads(Path(directory, "manifest.json").read_text())["facts"]["pages"] == str(copy / "features/a")
    assert "already finished" in sae("export", copy, "to=neuronpedia", f"runs_dir={tmp_path}").err
    measure(copy, name="more", contexts=replace(CONTEXTS, tokens=3000))
    said = sae("export", copy, "to=neuronpedia", f"runs_dir={tmp_path}", code=2).err
    assert f"was written from other pages than there are now in {copy / 'features/more'}; overwrite=true" in said
    sae("export", copy, "to=neuronpedia", f"runs_dir={tmp_path}", "overwrite=true")
    assert json.loads(Path(directory, "manifest.json").read_text())["facts"]["pages"] == str(copy / "features/more")


def test_without_bands_there_are_the_largest_alone(copy, sae, tmp_path):
    shutil.rmtree(copy / "features")
    measure(copy, contexts=replace(CONTEXTS, bands=0, per_band=0))
    directory = Path(sae("export", copy, "to=neuronpedia", f"runs_dir={tmp_path}").out.strip())
    for each in json.loads((directory / "batch-0.json").read_text())["features"]:
        assert each["freq_hist_data_bar_heights"] == each["freq_hist_data_bar_values"] == []
        assert all(found["bin_min"] == -1 for found in each["activations"])


def test_what_is_refused(copy, sae, tmp_path, monkeypatch):
    out = f"runs_dir={tmp_path / 'out'}"
    said = sae("export", copy, "to=neuronpedia", "features.tokens=5", out, code=2).err
    assert "features.tokens=5 has no effect with to=neuronpedia, which reads no text" in said
    with monkeypatch.context() as patched:
        patched.setattr(StoredPages, "histograms", {})
        said = sae("export", copy, "to=neuronpedia", out, code=2).err
    assert "made by an earlier version, which kept no histograms; make them again: sae features" in said
    shutil.rmtree(copy / "features")
    said = sae("export", copy, "to=neuronpedia", out, code=2).err
    assert f"found no pages of them; first run: sae features {copy}\n" in said
    assert not (tmp_path / "out").exists()


def test_a_dictionary_of_no_layer(world, sae, tmp_path):
    train.run(world.train(tmp_path, hook=HookConfig(point=HookPoint.logits), tokens=256), tmp_path / "run")
    said = sae("export", tmp_path / "run", "to=neuronpedia", f"runs_dir={tmp_path}/out", code=2).err
    assert "to=neuronpedia: expected a dictionary of a layer, found one of logits" in said


def test_damaged_pages_are_one_line(copy, sae, tmp_path):
    path = copy / "features/a/histograms.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    said = sae("export", copy, "to=neuronpedia", f"runs_dir={tmp_path}/out", code=1).err
    assert "histograms.safetensors: damaged file" in said and said.count("\n") == 1


def test_dead_features_are_there(world, sae, tmp_path):
    names = {"W_enc": (4, 16), "b_enc": (4,), "W_dec": (4, 16), "b_dec": (16,), "activation_mean": (16,)}
    tensors = {name: torch.zeros(shape) for name, shape in names.items()}
    tensors["W_dec"][:, 0] = 1
    tensors["b_enc"] = torch.tensor([-1.0, -1.0, 2.0, -1.0])
    world.install(tmp_path / "run", tensors)
    measure(tmp_path / "run")
    directory = Path(sae("export", tmp_path / "run", "to=neuronpedia", f"runs_dir={tmp_path}").out.strip())
    dead, _, alive, _ = json.loads((directory / "batch-0.json").read_text())["features"]
    assert (dead["frac_nonzero"], dead["activations"], dead["freq_hist_data_bar_heights"]) == (0, [], [])
    assert alive["frac_nonzero"] == 1 and {each["bin_max"] for each in alive["activations"]} == {2}
