"""SAEDashboard's own classes read what `sae export to=neuronpedia` writes, and compute the same of the same numbers.

`make peers` builds the environment that has it; without it this is skipped.
"""

from __future__ import annotations

import json

import pytest

from sae_cli.artifacts.stored_run import read_run
from sae_cli.cli.main import run as command_line
from sae_cli.dictionaries.files import load_dictionary
from sae_cli.models import load_language_model

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default")]
F = 64


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A run with pages, and its dashboards."""
    root = tmp_path_factory.mktemp("neuronpedia")
    here = ["device=cpu", f"runs_dir={root}"]
    small = [f"dict_size={F}", "tokens=4k", "train.batch_size=256", "train.shuffle_buffer=1024", "data.context=64"]
    for arguments in (
        ["train", "model=demo-xxs", "layer=1", "name=run", *small, *here],
        ["features", root / "run", "contexts.tokens=4k", "features.tokens=2k", "eval.tokens=1k", *here],
        ["export", root / "run", "to=neuronpedia", "name=out", *here],
    ):
        assert command_line([str(each) for each in arguments]) == 0
    return root


@pytest.fixture(scope="module")
def batch(exported):
    return json.loads((exported / "out/batch-0.json").read_text())


def test_its_classes_read_them(batch):
    theirs = pytest.importorskip("sae_dashboard.neuronpedia.neuronpedia_dashboard")
    read = theirs.NeuronpediaDashboardBatch(**batch)
    assert read.to_dict() == batch  # no field is missing, and none is more
    assert len(read.features) == F
    for each, written in zip(read.features, batch["features"], strict=True):
        assert each == theirs.NeuronpediaDashboardFeature(**written)
    plain = theirs.NeuronpediaDashboardFeature(activations=[{}]).to_dict()
    assert plain.keys() == batch["features"][0].keys()
    shown = next(each["activations"][0] for each in batch["features"] if each["activations"])
    assert plain["activations"][0].keys() == shown.keys()
    for name, default in plain.items():
        assert all(
            isinstance(each[name], type(default) if default != 0 else (int, float)) for each in batch["features"]
        )


def test_what_it_computes_of_the_weights(exported, batch):
    functions, parsing = (pytest.importorskip(f"sae_dashboard.{name}") for name in ("utils_fns", "data_parsing_fns"))
    run = read_run(exported / "run")
    W_dec = load_dictionary(run, verify=True).W_dec.detach()
    found = {}
    parsing.add_neuron_alignment_data(W_dec, found, n_rows=3)
    model = load_language_model("embedded:demo-xxs")
    (evaluation,) = (exported / "run/eval").iterdir()
    scale = read_run(evaluation).read_json("eval.json")["final_norm_inverse_scale"]
    # The final norm and the vocabulary's mean, which it leaves out.
    rows = (W_dec - W_dec.mean(dim=1, keepdim=True)) * scale
    weights = rows @ (model.parts.W_U() * model.parts.final_norm_gain()).T
    weights -= weights.mean(dim=1, keepdim=True)
    for feature in batch["features"]:
        row = feature["feature_index"]
        assert feature["neuron_alignment_indices"] == found["neuron_alignment_indices"][row]
        for name in ("neuron_alignment_values", "neuron_alignment_l1"):
            assert feature[name] == pytest.approx(found[name][row], abs=6e-4, rel=6e-3)
        table = parsing.get_logits_table_data(weights[row], n_rows=10)
        assert feature["pos_values"] == pytest.approx(table.top_logits, abs=6e-4, rel=6e-3)
        assert feature["neg_values"] == pytest.approx(table.bottom_logits, abs=6e-4, rel=6e-3)
        bars = functions.HistogramData.from_data(weights[row], n_bins=50, tickmode="5 ticks", title=None)
        assert feature["logits_hist_data_bar_values"] == pytest.approx(bars.bar_values, abs=6e-4, rel=6e-3)
        heights = zip(feature["logits_hist_data_bar_heights"], bars.bar_heights, strict=True)
        assert sum(abs(ours - theirs) for ours, theirs in heights) <= 10  # at the borders of bars, by rounding


def test_groups_of_activations_are_called_as_there(batch):
    converter = pytest.importorskip("sae_dashboard.neuronpedia.neuronpedia_converter").NeuronpediaConverter
    for feature in batch["features"]:
        for each in feature["activations"]:
            least, most, share = each["bin_min"], each["bin_max"], each["bin_contains"]
            top = f"TOP ACTIVATIONS<br>MAX = {most:.3f}"
            title = top if least == -1 else f"INTERVAL {least:.3f} - {most:.3f}<br>CONTAINS {share:.3%}"
            parsed = converter._parse_sequence_group_title(title)
            assert parsed == pytest.approx((least, most, share), abs=6e-4)
            assert len(each["tokens"]) == len(each["values"]) > each["qualifying_token_index"]
