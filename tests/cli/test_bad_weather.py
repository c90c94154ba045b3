"""Artifacts that are gone, damaged, changed or too new: one line on stderr, the promised exit code, nothing written."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict

import pytest

from sae_cli.artifacts.files import write_bytes
from sae_cli.artifacts.manifest import seal
from sae_cli.artifacts.stored_run import read_run

TRAIN = (
    *("train", "model=demo-xs", "layer=1", "data=text", "data.context=32", "dict_size=16", "tokens=512", "device=cpu"),
    *("train.batch_size=128", "train.shuffle_buffer=256", "train.held_out_tokens=128", "model_rows=4"),
)
SMALL = ("eval.tokens=64", "features.tokens=64", "device=cpu")


@pytest.fixture
def text(folder):
    (folder / "text").mkdir()
    for i in range(30):
        (folder / "text" / f"{i}.txt").write_text(f"def f{i}(x):\n    return x + {i}\n\n" * 12)
    return f"data.path={folder / 'text'}"


def failed(ended, code, *said):
    """One line that says all this, and nothing for machines."""
    line = ended.err.splitlines()[-1]
    assert (ended.code, ended.out) == (code, "")
    assert line.startswith("sae: error: ")
    assert all(each in line for each in said), line
    assert ended.err.count("sae: error: ") == 1
    return True


def done(ended):
    assert ended.code == 0, ended.err
    return ended.out.strip()


def readers(run):
    """The commands that read a dictionary's run."""
    return ("eval", str(run)), ("prune-high-freq", str(run), "max_freq=0.5"), ("compare", f"a={run}", "b=truth")


@pytest.mark.parametrize("verify", ["true", "false"])
@pytest.mark.parametrize("damage", ["truncated", "removed"])
def test_a_damaged_shard(sae, folder, text, damage, verify):
    harvested = folder / done(sae("harvest", *TRAIN[1:5], text, "tokens=600", "device=cpu", "name=h"))
    shard = harvested / read_run(harvested).file_names("activations")[0]
    if damage == "removed":
        shard.unlink()
    else:
        shard.write_bytes(shard.read_bytes()[:-100])
    said = "it is missing; make the run again" if damage == "removed" else "damaged file: expected"
    for asked in ((), (f"activations={harvested}",)):
        assert failed(sae(*TRAIN, text, f"verify={verify}", "name=t", *asked), 1, shard.name, said)
    assert not (folder / "runs" / "t").exists()


def make_newer(run, file):
    """As a later version of the tool might have written it: the hashes are right."""
    manifest = json.loads((run / "manifest.json").read_text())
    del manifest["sha256"]
    if file == "manifest.json":
        manifest["schema_version"] = 7
    else:
        content = (run / file).read_text().replace("schema_version: 1", "schema_version: 7").encode()
        manifest["files"][file] = asdict(write_bytes(run / file, content))
    (run / "manifest.json").write_bytes(seal(manifest))


def test_a_run_of_a_newer_schema(sae, folder):
    run = folder / done(sae("train", "data=synthetic", "dict_size=16", "tokens=512", "train.batch_size=128", "name=t"))
    for command in (
        ("eval", str(run)),
        ("prune-high-freq", str(run), "max_freq=0.5"),
        ("compare", f"a={run}", "b=truth"),
    ):
        before = (run / "manifest.json").read_bytes()
        make_newer(run, "manifest.json")
        said = "expected schema version 1, found 7; read it with the version of sae that wrote it, or make the run"
        assert failed(sae(*command, *SMALL), 1, f"manifest.json: {said}")
        (run / "manifest.json").write_bytes(before)
    assert not (run / "eval").exists()


def test_an_evaluation_of_a_newer_schema(sae, folder):
    run = folder / done(sae("train", "data=synthetic", "dict_size=16", "tokens=512", "train.batch_size=128", "name=t"))
    done(sae("eval", str(run), *SMALL))
    (manifest,) = run.glob("eval/*/manifest.json")
    make_newer(manifest.parent, "manifest.json")
    for command in (
        ("eval", str(run)),
        ("prune-high-freq", str(run), "max_freq=0.5"),
        ("compare", f"a={run}", "b=truth"),
    ):
        assert failed(sae(*command, *SMALL), 1, f"{manifest.parent.name}/manifest.json: expected schema version 1")


def test_an_unrelated_run_that_cannot_be_read_is_passed_over(sae, folder, text):
    other = folder / "runs" / "other"
    other.mkdir(parents=True)
    (other / "manifest.json").write_bytes(seal({"schema_version": 7}))
    ended = sae(*TRAIN, text, "name=t")
    done(ended)
    assert (
        "warning: looking for a harvest, passed over: runs/other/manifest.json: expected schema version 1" in ended.err
    )


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("eval", "runs/gone"), "runs/gone: no run here"),
        (("prune-high-freq", "runs/gone", "max_freq=0.5"), "runs/gone: no run here"),
        (("compare", "a=runs/gone", "b=truth"), "a=runs/gone: no run here"),
        (("train", "data=synthetic", "train.forbid_direction=gone"), "train.forbid_direction=gone: no run here"),
        (("train", "data=synthetic", "model=run", "model.path=/gone"), "leave model, hook and layer out"),
        (
            ("train", "model=run", "model.path=/gone"),
            "model.path=/gone: expected a model folder at /gone, found",
        ),
    ],
)
def test_a_run_that_is_gone(sae, folder, command, said):
    assert failed(sae(*command), 2, said)
    assert list(folder.iterdir()) == []


def test_a_model_run_that_is_gone_or_was_made_again(sae, folder, text):
    make = ("randomize-weights", "model=demo-xs", "name=m")
    model = folder / done(sae(*make))
    run = done(sae(*TRAIN[:1], *TRAIN[2:], "model=run", f"model.path={model}", text, "name=t"))
    assert "made again" not in (first := sae("eval", run, *SMALL)).err and first.code == 0
    shutil.copytree(model, folder / "kept")
    done(sae(*make, "overwrite=true"))
    ended = sae("eval", run, "eval.tokens=32", *SMALL[1:])
    assert ended.code == 0
    assert f"warning: {run}: it was trained on the model {model}, which has been made again since" in ended.err
    shutil.rmtree(model)
    said = f"{run}: the model that it was trained on is needed: model.path={model}: expected a model folder"
    assert failed(sae("eval", run, "eval.tokens=33", *SMALL[1:]), 2, said)


def test_what_was_pruned_is_evaluated_without_what_it_was_made_of(sae, folder):
    run = done(sae("train", "data=synthetic", "dict_size=16", "tokens=512", "train.batch_size=128", "name=t"))
    pruned = done(sae("prune-high-freq", run, "top_n=1", *SMALL, "name=p"))
    shutil.rmtree(folder / run)
    ended = sae("eval", pruned, "eval.tokens=32", *SMALL[1:])
    assert ended.code == 0
    assert f"warning: {folder / run}: {pruned} was made of it, and it is gone or has changed: no figures" in ended.err


def test_little_text_is_said_with_the_number_found(sae, folder, text):
    for i in range(20):
        (folder / "text" / f"{i}.txt").unlink()
    most = [each for each in TRAIN if not each.startswith(("tokens=", "train.held"))]
    few = (text, "train.held_out_tokens=5000", "data.held_out_fraction=0.3", "tokens=4096", "name=t")
    ended = sae(*most, *few, "--json")
    assert ended.code == 0
    facts = json.loads(ended.out)["facts"]
    assert facts["epochs"] > 1 and 0 < facts["held_out_tokens"] < 5000
    assert f"the held-out text gives {facts['held_out_tokens']:,} activations; all figures are of these" in ended.err
    assert f"warning: the text was read {facts['epochs']:g} times: it is shorter than tokens=" in ended.err
    harvested = sae("harvest", *TRAIN[1:5], *few[:1], *few[2:-1], "device=cpu", "--json")
    assert json.loads(harvested.out)["facts"]["epochs"] > 1
    much = ("eval.tokens=5000", "features.tokens=100000", "device=cpu", "--json")
    ended = sae("eval", "runs/t", *much)
    found = json.loads(ended.out)["eval"]
    each = f"at most 4 rows (eval.rows_per_document) of each of {found['documents']} held-out documents"
    assert f"eval.tokens=5,000: {each} give {found['tokens']:,}" in ended.err
    ended = sae("eval", "runs/t", "eval.rows_per_document=null", *much)
    found = json.loads(ended.out)["eval"]
    assert f"eval.tokens=5,000: the held-out text gives {found['tokens']:,} activations" in ended.err
    assert f"features.tokens=100,000: the train text gives {found['feature_tokens']:,} activations" in ended.err


def test_an_empty_corpus(sae, folder):
    (folder / "text").mkdir()
    (folder / "text" / "a.txt").write_text("")
    said = (
        "too little train text: expected at least 32 tokens (a row), found 0 in 0 documents, and 0 held_out documents"
    )
    assert failed(sae(*TRAIN, "data.path=text"), 1, said)
    assert failed(sae("harvest", *TRAIN[1:5], "data.path=text"), 1, said)
    assert not (folder / "runs").exists()


def test_a_learning_rate_that_is_too_high(sae, folder):
    ended = sae("train", "data=synthetic", "dict_size=16", "tokens=4096", "train.lr=1e30", "name=t")
    assert failed(ended, 1, "at step 1 of 16, at a learning rate of ", "lower train.lr= (now 1e+30)")
    assert not list(folder.rglob("*.safetensors"))
