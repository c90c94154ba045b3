"""A run is read from anywhere: where its reader stands, through a link or after a move, figures are equal to the bit.

Everything is typed relative to the folder of the training, and another folder has other things of the same names.
"""

import json
import os
import random
import shutil
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from sae_cli.artifacts.files import write_bytes
from sae_cli.artifacts.manifest import read_manifest, write_manifest
from sae_cli.artifacts.stored_run import read_run
from sae_cli.artifacts.tensors import read_metadata, read_tensors, write_tensors
from sae_cli.cli.main import run as command_line
from sae_cli.config.data import TextData
from sae_cli.dictionaries.files import load
from sae_cli.runs.dictionary_run import read_dictionary_run
from sae_cli.terminal.plus_minus import plus_minus
from tests.known import present, the

WORDS = [f"{a}{b}" for a in ("ba", "ke", "lo", "mi", "nu") for b in ("ta", "re", "si", "po")]
TEXT = ["data=text", "data.path=text.jsonl", "data.context=32", "data.held_out_fraction=.2"]
MODEL = ["model=hf", "model.path=model", "device=cpu", "model_rows=4"]
TRAINING = [
    *MODEL, *TEXT, "dict_size=24", "l1=.5", "tokens=512", "train.batch_size=128",
    "train.shuffle_buffer=256", "train.held_out_tokens=128",
]  # fmt: skip
SMALL = ["device=cpu", "model_rows=4", "eval.tokens=200", "features.tokens=300"]


def write_records(path, words, seed):
    rng = random.Random(seed)
    lines = [json.dumps({"text": " ".join(rng.choices(words, k=60))}) for _ in range(80)]
    path.write_text("\n".join(lines) + "\n")


class Shop:
    """A training in `one/`, and `two/` with another model and another text of the same names."""

    def __init__(self, root, model):
        self.root, self.home, self.decoys, self.elsewhere = root, root / "one", root / "two", root / "three"
        for number, folder in enumerate((self.home, self.decoys)):
            shutil.copytree(model, folder / "model")
            write_records(folder / "text.jsonl", WORDS[: 20 - 12 * number], seed=number)
        self.elsewhere.mkdir()
        other = AutoModelForCausalLM.from_pretrained(self.decoys / "model")
        torch.manual_seed(1)
        for weight in other.parameters():
            torch.nn.init.normal_(weight, std=0.2)
        other.save_pretrained(self.decoys / "model")
        os.chdir(self.home)
        assert command_line(["harvest", *MODEL, *TEXT, "layer=1", "tokens=512", "name=h", "-q"]) == 0
        assert command_line(["train", *TRAINING, "layer=1", "name=a", "-q"]) == 0
        assert command_line(["train", *TRAINING, "layer=0", "name=b", "-q"]) == 0
        self.runs = self.home / "runs"
        assert read_run(self.runs / "a").manifest.facts["source"] == "harvest"

    def forget(self):
        """Remove what was measured."""
        for run in (self.runs / "a", self.runs / "b"):
            for name in ("eval", "features"):
                shutil.rmtree(run / name, ignore_errors=True)
            (run / "eval.json").unlink(missing_ok=True)


@pytest.fixture(scope="module")
def shop(world, tmp_path_factory):
    before = os.getcwd()
    shop = Shop(tmp_path_factory.mktemp("shop"), world.model)
    os.chdir(before)
    return shop


def placed(shop, where, monkeypatch, tmp_path):
    """The runs as they are named there, after going there."""
    folders = {"at home": shop.home, "above": shop.root, "elsewhere": shop.elsewhere, "within": shop.runs / "a"}
    monkeypatch.chdir(folders.get(where, shop.decoys))
    if where == "linked":
        (tmp_path / "link").symlink_to(shop.runs)
        return tmp_path / "link" / "a", tmp_path / "link" / "b"
    if where == "moved":
        for name in ("a", "b"):
            shutil.copytree(shop.runs / name, tmp_path / name)
        return tmp_path / "a", tmp_path / "b"
    return tuple(os.path.relpath(shop.runs / name) for name in ("a", "b"))


def everything(sae, shop, a, b, out):
    """The figures of all commands that read a run."""
    home = os.path.relpath(shop.home)
    runs = f"runs_dir={out}"
    figures = {"eval": sae("eval", a, *SMALL, "--json").document["eval"]}
    pruned = sae("prune-high-freq", f"run={a}", "top_n=3", "finetune_tokens=256", *SMALL, runs, "--json").document
    figures["prune"] = pruned["eval"]
    pages = sae("features", a, *SMALL, "contexts.tokens=300", "only=[1,5]", "--json").document["sheets"]
    files = read_run(pages).manifest.files
    figures["features"] = [files[name].sha256 for name in ("sheets.safetensors", "contexts.safetensors")]
    figures["compare"] = sae("compare", f"a={a}", f"b={b}", *SMALL, runs, "--json").document["compare"]["pairs"]
    together = sae("eval", f"run=[{a},{b}]", "eval.tokens=200", *SMALL[:2], runs, "--json").document["eval"]
    figures["together"] = {**together, "dictionaries": sorted(together["dictionaries"])}
    figures["plot"] = sae("plot", a, "kind=frequency", f"out={out}/x.svg", "--json").document["charts"][0]["series"]
    settings = [*at(home, TRAINING), "layer=1", f"activations={home}/runs/h", "name=again", runs]
    trained = sae("train", *settings, "--json").document["run"]
    figures["train"] = read_run(trained).manifest.files["sae.safetensors"].sha256
    figures["list"] = [each["figures"] for each in sae("list", a, b, "--json").document["runs"]]
    assert all(each["sound"] and not each["findings"] for each in sae("verify", a, b, "--json").document["runs"])
    sae("report", a, "--out", f"{out}/r.html", "--json")
    page = (out / "r.html").read_text()
    figures["report"] = [
        plus_minus(figures["eval"][key], figures["eval"][f"{key}_se"]) in page for key in ("fvu", "ce_sae")
    ]
    figures["load"] = load(a).W_enc.sum().item()
    return figures


def at(home, arguments):
    """The same settings, typed in another folder."""
    return [each.replace(".path=", f".path={home}/") for each in arguments]


@pytest.fixture(scope="module")
def expected():
    """The figures at the first place, for those at the others."""
    return {}


@pytest.mark.parametrize("where", ["at home", "among decoys", "within", "linked", "moved"])
def test_figures_of_all_commands_are_those_of_anywhere(where, shop, sae, expected, monkeypatch, tmp_path):
    shop.forget()
    a, b = placed(shop, where, monkeypatch, tmp_path)
    found = everything(sae, shop, a, b, tmp_path / "out")
    assert found["report"] == [True, True]
    assert found == expected.setdefault("figures", found)


@pytest.mark.parametrize("where", ["above", "elsewhere"])
def test_figures_are_those_of_anywhere(where, shop, sae, expected, monkeypatch, tmp_path):
    shop.forget()
    a, _ = placed(shop, where, monkeypatch, tmp_path)
    found = sae("eval", a, *SMALL, "--json").document["eval"]
    assert found == expected.setdefault("figures", {"eval": found})["eval"]


def test_an_evaluation_says_what_it_measured(shop, sae, monkeypatch):
    shop.forget()
    monkeypatch.chdir(shop.decoys)
    sae("eval", "../one/runs/a", *SMALL)
    (evaluation,) = (shop.runs / "a" / "eval").iterdir()
    facts = read_run(evaluation).manifest.facts
    assert facts["model"] == f"folder:{shop.home / 'model'}"
    assert facts["text"]["place"] == str(shop.home / "text.jsonl")
    assert facts["text"]["listed"]["text.jsonl"]["bytes"] == (shop.home / "text.jsonl").stat().st_size


def test_runs_of_earlier_versions_are_read_by_their_manifests(shop, sae, monkeypatch, tmp_path):
    shutil.copytree(shop.runs / "a", tmp_path / "a")
    for folder in ("eval", "features"):
        shutil.rmtree(tmp_path / "a" / folder, ignore_errors=True)
    old = (tmp_path / "a" / "config.yaml").read_text().replace(f"{shop.home}/", "")
    rewrite(tmp_path / "a", "config.yaml", old)
    without_card(tmp_path / "a")
    assert "path: text.jsonl" in old and "path: model" in old
    monkeypatch.chdir(shop.decoys)
    assert places_of(tmp_path / "a") == (str(shop.home / "model"), str(shop.home / "text.jsonl"))

    sae("prune-high-freq", f"run={tmp_path / 'a'}", "top_n=3", *SMALL, f"runs_dir={tmp_path}", "name=pruned")
    rewrite(tmp_path / "pruned", "training.yaml", old)
    without_card(tmp_path / "pruned")
    assert places_of(tmp_path / "pruned") == (str(shop.home / "model"), str(shop.home / "text.jsonl"))
    shutil.rmtree(tmp_path / "a")
    ended = sae("eval", tmp_path / "pruned", *SMALL, "overwrite=true", code=1)
    assert "model.path=model is relative to the folder that the training was begun in" in ended.err


def places_of(run):
    """Where the model and the text of a dictionary are, by its card."""
    card = read_dictionary_run(run).card
    return present(card.model).path, the(TextData, card.data).path


def rewrite(run, name, text):
    """Change a file of a run as if it had been written so."""
    manifest = read_manifest(run)
    record = write_bytes(run / name, text.encode())
    write_manifest(run, replace(manifest, files={**manifest.files, name: record}))


@pytest.mark.parametrize("gone", ["model", "text.jsonl"])
@pytest.mark.parametrize("command", [["eval"], ["prune-high-freq", "top_n=2"], ["features"], ["compare"]])
def test_what_is_gone_is_one_line(gone, command, shop, sae, monkeypatch, tmp_path):
    """Also where something of that name is at hand; nothing is left behind."""
    shop.forget()
    (shop.home / gone).rename(tmp_path / gone)
    monkeypatch.chdir(shop.decoys)
    try:
        run = ["a=../one/runs/a", "b=../one/runs/b"] if command == ["compare"] else ["run=../one/runs/a"]
        ended = sae(
            *command, *run, *SMALL, *([] if command[0] in ("eval", "features") else [f"runs_dir={tmp_path}"]), code=2
        )
    finally:
        (tmp_path / gone).rename(shop.home / gone)
    line = ended.err.strip().splitlines()[-1]
    assert f"that it was trained on is needed: {'model' if gone == 'model' else 'data'}.path={shop.home / gone}" in line
    assert "hub" not in line.partition(": expected")[2].partition("found")[0]
    assert not (shop.runs / "a" / "eval").exists()


def test_a_training_is_gone_on_with_from_anywhere(shop, sae, stopping, monkeypatch):
    monkeypatch.chdir(shop.home)
    sae("train", *TRAINING, "layer=1", "name=stopped", code=143)
    stopping()
    monkeypatch.chdir(shop.decoys)
    sae("resume", "../one/runs/stopped")
    record = read_run(shop.runs / "stopped").manifest.files["sae.safetensors"]
    assert record == read_run(shop.runs / "a").manifest.files["sae.safetensors"]


def without_card(run):
    """The run as versions before the card have left it."""
    path, manifest = run / "sae.safetensors", read_manifest(run)
    header = {key: value for key, value in read_metadata(path).items() if key != "card"}
    files = manifest.files | {path.name: write_tensors(path, read_tensors(path), header)}
    write_manifest(run, replace(manifest, files=files))
