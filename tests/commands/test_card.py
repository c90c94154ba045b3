"""A dictionary is read by its card alone: one from elsewhere is measured like one that was trained here."""

import json
from dataclasses import replace

import pytest
import torch

import sae_cli
from sae_cli.artifacts.manifest import read_manifest, write_manifest
from sae_cli.artifacts.stored_run import read_run
from sae_cli.artifacts.tensors import read_metadata, read_tensors, write_tensors
from sae_cli.config.data import SyntheticData
from sae_cli.config.hook import HookConfig, HookPoint, LogitMode, LogitUpdateHook, SiteConfig
from sae_cli.config.model import ModelConfig
from sae_cli.dictionaries.card import Card, Wiring

SMALL = ["device=cpu", "model_rows=4", "eval.tokens=200", "features.tokens=300"]


@pytest.fixture(scope="module")
def trained(world, tmp_path_factory):
    """A small training, and its dictionary brought in from elsewhere: with its text in the card, and without."""
    from sae_cli.commands import train

    root = tmp_path_factory.mktemp("card")
    train.run(world.train(root), root / "trained")
    dictionary, card = sae_cli.load(root / "trained"), sae_cli.card(root / "trained")
    sae_cli.save(root / "full", dictionary, card)
    sae_cli.save(root / "bare", dictionary, Card(model=card.model, wiring=card.wiring))
    return root


def figures(ended):
    return {key: value for key, value in ended.document["eval"].items() if key != "rare"}


def test_the_card_of_a_training_says_what_it_belongs_to(trained, world):
    card, facts = sae_cli.card(trained / "trained"), read_run(trained / "trained").manifest.facts
    assert card.model == ModelConfig(path=str(world.model))
    assert card.wiring == Wiring.at(SiteConfig(HookConfig(point=HookPoint.mlp_out), 1))
    assert card.data == world.train(trained).data
    assert (card.tokens, card.source, card.scale) == (2048, "live", facts["scale"])
    header = read_metadata(trained / "trained" / "sae.safetensors")
    assert (header["hook"], header["layer"], header["model"]) == ("mlp_out", 1, str(world.model))


def test_evaluation_and_pages_of_an_imported_dictionary_equal_those_of_the_training(trained, world, sae):
    own = figures(sae("eval", trained / "trained", *SMALL, "--json"))
    assert figures(sae("eval", trained / "full", *SMALL, "--json")) == own
    text = ["data=text", f"data.path={world.text}", "data.context=32", "data.held_out_fraction=.2"]
    ended = sae("eval", trained / "bare", *text, *SMALL, "--json")
    assert figures(ended) == own
    assert "not known whether it was trained on documents that are held out" in ended.err
    asked = ["only=[0,1]", "contexts.tokens=300", *SMALL, "--json"]
    pages = [sae("features", trained / name, *asked).document["features"] for name in ("trained", "full")]
    for each in pages:
        del each["evaluation"]
    assert pages[0] == pages[1]


def test_without_a_text_it_is_asked_for(trained, sae):
    ended = sae("eval", trained / "bare", *SMALL, code=2)
    assert "it is not known which text its dictionary was trained on: give one with data=" in ended.err


def test_pruning_comparison_and_report_of_an_imported_dictionary(trained, sae, tmp_path):
    here = [*SMALL, f"runs_dir={tmp_path}"]
    tensors = []
    for name in ("trained", "full"):
        sae("prune-high-freq", trained / name, "top_n=3", *here, f"name={name}")
        tensors.append(read_tensors(tmp_path / name / "sae.safetensors"))
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])
    assert sae_cli.card(tmp_path / "full") == sae_cli.card(trained / "full")
    sae("prune-high-freq", tmp_path / "full", "top_n=1", *here, "name=twice")
    compared = sae("compare", f"a={trained / 'trained'}", f"b=[{trained / 'full'}]", *here, "--json").document
    assert compared["figures"]["mmcs"] == pytest.approx(1, abs=1e-6)
    sae("report", trained / "full", tmp_path / "full", "--out", tmp_path / "report.html")
    assert "mlp_out.1" in sae("report", trained / "full", "--json").out or (trained / "full" / "report.html").is_file()
    assert sae_cli.load(tmp_path / "twice").n_features == sae_cli.load(trained / "full").n_features - 4


@pytest.mark.parametrize(
    "card",
    [
        Card(model=None, wiring=None, data=SyntheticData(d=8, n_features=16)),
        Card(
            model=ModelConfig(path="/m", revision="step0"),
            wiring=Wiring.at(SiteConfig(HookConfig(point=HookPoint.logits), None)),
        ),
        Card(
            model=ModelConfig(path="/m"), scale=0.1, tokens=5, source="live", provenance={"address": "hf:a/b"},
            wiring=Wiring(
                (SiteConfig(HookConfig(point=HookPoint.resid), -1),),
                (SiteConfig(LogitUpdateHook(point=HookPoint.logit_update, mode=LogitMode.linear), 2),),
            ),
        ),
    ],
)  # fmt: skip
def test_a_card_survives_its_file(card):
    assert Card.of_header(json.loads(json.dumps(card.header()))) == card


def test_other_wirings_are_no_autoencoders():
    one, other = (SiteConfig(HookConfig(point=HookPoint.resid), layer) for layer in (0, 1))
    model = ModelConfig(path="/m")
    for wiring in (Wiring((one,), (other,)), Wiring((one, other), (one, other)), None):
        with pytest.raises(ValueError, match=r"an autoencoder|one place"):
            _ = Card(model=model, wiring=wiring).site


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 2}, "expected a card of version 1, found 2"),
        ({"tokens": "many"}, "tokens='many'"),
        ({"wiring": {"reads": [], "writes": []}}, "places in a model"),
        ({"wiring": {"reads": [{"hook": {"schema": "hook", "point": "nowhere"}, "layer": 0}]}}, "nowhere"),
        ({"data": {"schema": "text", "path": "/t", "held_out_fraction": 7}}, "held_out_fraction=7"),
        ({"model": {"schema": "causal_lm", "path": "/m", "trust_remote_code": True}}, "SAE_TRUST_REMOTE_CODE"),
    ],
)  # fmt: skip
def test_a_card_that_is_none_is_one_line(trained, tmp_path, sae, change, said):
    card = sae_cli.card(trained / "full")
    sae_cli.save(tmp_path / "odd", sae_cli.load(trained / "full"), card)
    header = read_metadata(tmp_path / "odd" / "sae.safetensors")
    header["card"] |= change
    rewrite(tmp_path / "odd", header)
    ended = sae("eval", tmp_path / "odd", *SMALL, code=2 if "trust" in str(change) else 1)
    assert said in ended.err and ended.err.count("\n") == 1


@pytest.mark.parametrize("found", ["a text", ["a list"], 3, None, {}])
def test_what_is_no_card_is_named(found):
    with pytest.raises(ValueError, match="a card of version 1, found "):
        Card.of_header({"card": found})


def test_runs_by_versions_without_cards_are_read_by_their_configuration(trained, tmp_path):
    directory = trained / "trained"
    header = read_metadata(directory / "sae.safetensors")
    sae_cli.save(tmp_path / "old", sae_cli.load(directory), sae_cli.card(directory))
    old = read_manifest(directory)
    (tmp_path / "old" / "config.yaml").write_bytes((directory / "config.yaml").read_bytes())
    write_manifest(tmp_path / "old", replace(old, files={name: old.files[name] for name in ("config.yaml",)}))
    rewrite(tmp_path / "old", {key: value for key, value in header.items() if key != "card"})
    assert sae_cli.card(tmp_path / "old") == replace(sae_cli.card(directory), provenance={})


def rewrite(directory, header):
    """Put another header into the file of a finished run, as if it had been made so."""
    path = directory / "sae.safetensors"
    manifest = read_manifest(directory)
    manifest.files[path.name] = write_tensors(path, read_tensors(path), header)
    write_manifest(directory, manifest)


def test_dictionaries_from_elsewhere_are_spliced_in_together(world, trained, sae, tmp_path):
    dictionary, card = sae_cli.load(trained / "full"), sae_cli.card(trained / "full")
    (hook, _), other = card.site, tmp_path / "other"
    sae_cli.save(other, dictionary, replace(card, wiring=Wiring.at(SiteConfig(hook, 0))))
    ended = sae("eval", f"run=[{trained / 'full'},{other}]", "device=cpu", "model_rows=4", "eval.tokens=200",
                f"runs_dir={tmp_path}", "--json")  # fmt: skip
    assert set(ended.document["eval"]["dictionaries"]) == {"mlp_out.0", "mlp_out.1"}
    assert ended.document["run"].startswith(str(tmp_path / "eval" / "elsewhere" / "2_dictionaries-"))


def test_a_changed_card_is_a_damaged_file(trained, tmp_path, sae):
    """Before anything that it says is believed: the model that it names is not looked for."""
    sae_cli.save(tmp_path / "odd", sae_cli.load(trained / "full"), sae_cli.card(trained / "full"))
    path = tmp_path / "odd" / "sae.safetensors"
    path.write_bytes(path.read_bytes().replace(b"causal_lm", b"causal_ln"))
    ended = sae("eval", tmp_path / "odd", *SMALL, code=1)
    assert "sae.safetensors: damaged file" in ended.err and ended.err.count("\n") == 1
