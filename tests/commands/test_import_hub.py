"""`sae import hf:…` through `huggingface_hub`, from a hub on the loopback device."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sae_cli.commands import export, train
from sae_cli.config.commands.export import ExportConfig
from sae_cli.config.sae import TopKSae
from tests.text import loopback_hub as HUB


@pytest.fixture(scope="module")
def release(world, tmp_path_factory):
    """The files of a release of two dictionaries in the format of SAELens, by their names."""
    root, files = tmp_path_factory.mktemp("release"), {"README.md": b"---\nlibrary_name: saelens\n---\n"}
    for layer in (0, 1):
        train.run(world.train(root, sae=TopKSae(), k=4, layer=layer), run := root / f"train{layer}")
        export.run(ExportConfig(run=str(run), to="saelens"), out := root / f"out{layer}")
        for name in ("cfg.json", "sae_weights.safetensors"):
            files[f"resid/layer_{layer}/{name}"] = (out / name).read_bytes()
    return files


@pytest.fixture(scope="module")
def hub(release):
    with HUB.loopback_hub({}, {"org/saes": release, "org/closed": release}, gated="org/closed") as address:
        yield address


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


def imported(address, hub, home, runs, world, *more, offline="0"):
    text = ["data=text", f"data.path={world.text}", "data.context=32", "data.held_out_fraction=.2"]
    small = [] if "check=false" in more else ["device=cpu", "model_rows=4", "eval.tokens=500", "features.tokens=500"]
    place = ["model=hf", f"model.path={world.model}", f"runs_dir={runs}"]
    about = {"HF_ENDPOINT": hub, "HF_HOME": str(home), "HF_HUB_OFFLINE": offline, "HF_HUB_DISABLE_XET": "1"}
    return subprocess.run(
        [sys.executable, "-m", "sae_cli", "import", address, *place, *text, *small, *more, "--quiet"],
        env={**os.environ, **about}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_a_dictionary_of_the_hub_is_a_run_and_is_cached(hub, home, tmp_path, world):
    done = imported("hf:org/saes/resid/layer_1@v1", hub, home, tmp_path / "runs", world)
    assert (done.returncode, done.stderr) == (0, "")
    manifest = json.loads(Path(done.stdout.strip(), "manifest.json").read_text())
    card = manifest["settings"]
    assert card["source"] == "hf:org/saes/resid/layer_1@v1"
    described = json.loads(Path(done.stdout.strip(), "source.json").read_text())
    assert described["format"] == "saelens" and described["claims"] == [["k", 4.0, "cfg.json"]]
    assert {"cfg.json", "sae_weights.safetensors"} <= set(described["files"])
    from sae_cli.runs.dictionary_run import card as card_of

    assert card_of(done.stdout.strip()).provenance["revision"] == HUB.COMMIT
    nowhere = "http://127.0.0.1:9"  # a port that nobody listens on
    again = imported("hf:org/saes/resid/layer_1@v1", nowhere, home, tmp_path / "other", world, offline="1")
    assert not again.stderr and again.returncode == 0


def test_a_folder_of_many_on_the_hub_is_as_many_runs(hub, home, tmp_path, world):
    done = imported("hf:org/saes/resid", hub, home, tmp_path / "runs", world, "check=false")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 2


@pytest.mark.parametrize(
    ("address", "code", "said"),
    [
        ("hf:org/none", 2, "expected a repository of the hub, found none"),
        ("hf:org/saes@v9", 2, "expected a repository of the hub, found none"),
        ("hf:org/saes/elsewhere", 2, "source=hf:org/saes/elsewhere: expected files there, found none"),
        ("hf:org/closed", 2, "asks for its terms to be accepted on the hub, and for HF_TOKEN"),
        ("hf:org", 2, "expected hf:org/repo[/path][@revision]"),
    ],
)
def test_what_is_not_there_is_one_line(hub, home, tmp_path, world, address, code, said):
    done = imported(address, hub, home, tmp_path / "runs", world)
    assert done.returncode == code and said in done.stderr
    assert done.stderr.count("\n") == 1 and not done.stdout and not (tmp_path / "runs").exists()


def test_a_hub_that_is_gone_is_one_line(home, tmp_path, world):
    done = imported("hf:org/other", "http://127.0.0.1:9", home, tmp_path / "runs", world)
    assert done.returncode == 1 and "the hub cannot be reached" in done.stderr and done.stderr.count("\n") == 1
    done = imported("hf:org/other", "http://127.0.0.1:9", home, tmp_path / "runs", world, offline="1")
    assert done.returncode == 1 and "the hub cannot be reached" in done.stderr and done.stderr.count("\n") == 1
