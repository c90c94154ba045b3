"""`sae push` and `sae pull` as they are typed, through `huggingface_hub`, with a hub on the loopback device."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch

import sae_cli
from sae_cli.artifacts.foreign_files import ForeignFiles
from sae_cli.artifacts.manifest import MANIFEST, read_manifest, write_manifest
from sae_cli.commands import eval as evaluate
from sae_cli.commands import harvest, train, verify
from sae_cli.config.sae import BatchTopKSae, TopKSae
from sae_cli.runs.formats import read
from tests.commands.hub_commands import Commands
from tests.text.loopback_hub import TOKEN, Commit, Fault, Store, Stored, loopback_hub

NOWHERE = "http://127.0.0.1:9"  # a port that nobody listens on
ADDRESS, NAME = "hf:org/dictionary", "org/dictionary"


@pytest.fixture(scope="module")
def run(world, tmp_path_factory):
    """A training with an evaluation, of figures with errors."""
    train.run(world.train(root := tmp_path_factory.mktemp("runs"), sae=TopKSae(), k=4), directory := root / "run")
    evaluate.run(world.eval(directory), directory, "small")
    return directory


@pytest.fixture(scope="module")
def other(world, tmp_path_factory):
    """Another training, without an evaluation."""
    train.run(world.train(root := tmp_path_factory.mktemp("other"), sae=BatchTopKSae(), k=4), directory := root / "run")
    return directory


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    served = Commands(tmp_path_factory.mktemp("said"))
    yield served
    served.close()


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def typed(commands, tmp_path, store):
    """Runs `sae` with these arguments, at a hub with these faults, as somebody with a token."""

    def call(*arguments, hub=None, faults=(), **environment):
        with loopback_hub({}, store=store, faults=faults) as address:
            about = {"HF_ENDPOINT": hub or address, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": TOKEN}
            about |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0", "SAE_RUNS": str(tmp_path / "runs")}
            return commands(*arguments, **about | environment)

    return call


def pushed(typed, run, *more, **about):
    ended = typed("push", run, ADDRESS, "--quiet", *more, **about)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
    return ended.stdout.strip()


def pulled(typed, address=ADDRESS, *more, **about):
    ended = typed("pull", address, "--quiet", *more, **about)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
    return Path(ended.stdout.strip())


def refused(ended, code, *said):
    assert ended.returncode == code and not ended.stdout, ended
    assert ended.stderr.count("\n") == 1 and all(each in ended.stderr for each in said), ended.stderr


def files_below(folder):
    return {each.relative_to(folder).as_posix(): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def sha_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_dry_run_shows_files_and_card_and_asks_nobody(run, typed, store):
    shown = typed("push", run, ADDRESS, "--dry-run")
    assert shown.returncode == 0 and not store.asked
    report = json.loads((run / "eval/small/eval.json").read_text())
    assert "\n# topk, 48 features of mlp\\_out.1 of model\n" in shown.stdout
    assert f"| FVU | {report['fvu']:.4f} ± {report['fvu_se']:.4f} " in shown.stdout
    assert f"sae pull {ADDRESS}" in shown.stdout and 'SAE.from_pretrained("org/dictionary", "saelens")' in shown.stdout
    assert "sae.safetensors" in shown.stderr and "paths of this machine" in shown.stderr
    listed = json.loads(typed("push", run, ADDRESS, "--dry-run", "--json", "--quiet").stdout)
    assert listed["card"] == shown.stdout and listed["files"]["README.md"] == len(shown.stdout.encode())
    own = {name: len(content) for name, content in files_below(run).items()}
    assert {name: size for name, size in listed["files"].items() if name in own} == own
    assert {*listed["files"]} - {*own} == {
        "README.md", "saelens/cfg.json", "saelens/sae_weights.safetensors", "saelens/sparsity.safetensors"
    }  # fmt: skip


def test_what_is_pulled_is_what_was_pushed(run, typed, store, tmp_path):
    address = pushed(typed, run)
    (first, commit) = store.repositories[NAME].commits
    assert address == f"{ADDRESS}@{commit.oid}" and [*first.files] == [".gitattributes"]
    directory = pulled(typed)
    assert directory == tmp_path / "runs/pull/org-dictionary" and files_below(directory) == files_below(run)
    before, after = sae_cli.load(run), sae_cli.load(directory)
    assert all(torch.equal(tensor, after.tensors()[name]) for name, tensor in before.tensors().items())
    (verdict,) = verify.run([directory]).verdicts
    assert verdict.sound and not [each for each in verdict.measurements if each.findings]
    # The same command finds it; once downloaded, files are not asked for again, and no network is needed.
    assert "already finished" in typed("pull", ADDRESS).stderr
    store.asked.clear()
    assert files_below(pulled(typed, ADDRESS, "name=again")) == files_below(run)
    assert not [each for each in store.asked if each.startswith("GET") and "/resolve/" in each]
    offline = pulled(typed, ADDRESS, "name=offline", hub=NOWHERE, HF_HUB_OFFLINE="1")
    assert files_below(offline) == files_below(run)


def test_a_pulled_run_is_measured_shown_and_exported(run, typed, world, sae, tmp_path):
    pushed(typed, run)
    directory = pulled(typed)
    small = ["device=cpu", "model_rows=4", "eval.tokens=200", "features.tokens=200"]
    figures = [sae("eval", each, *small, "--json").document["eval"] for each in (run, directory)]
    assert figures[0] == figures[1]
    sae("features", directory, "only=[1]", "contexts.tokens=200", "device=cpu", "model_rows=4")
    assert Path(sae("export", directory, "to=saelens", f"runs_dir={tmp_path}").out.strip()).is_dir()


def test_the_files_for_saelens_are_the_dictionary(run, other, typed, store, tmp_path):
    for each in (run, other):
        pushed(typed, each)
        folder = tmp_path / each.parent.name
        folder.mkdir()
        for name in ("cfg.json", "sae_weights.safetensors"):
            (folder / name).write_bytes(store.repositories[NAME].commits[-1].files[f"saelens/{name}"])
        kind, found = read(ForeignFiles(folder))
        x = torch.randn(20, 16)
        assert kind.name == "saelens" and torch.equal(found.dictionary.encode(x), sae_cli.load(each).encode(x))


def test_the_same_content_is_no_second_commit(run, typed, store):
    address = pushed(typed, run)
    again = typed("push", run, ADDRESS)
    assert again.stdout.strip() == address and "nothing has changed" in again.stderr
    assert len(store.repositories[NAME].commits) == 2
    document = json.loads(typed("push", run, ADDRESS, "--json", "--quiet").stdout)
    assert document["changed"] is False and f"{ADDRESS}@{document['commit']}" == address


def test_another_run_takes_the_place_and_revisions_stay(run, other, typed, store):
    first = pushed(typed, run)
    store.repositories[NAME].commits[-1].files["LICENSE"] = b"by hand"  # pyright: ignore[reportIndexIssue]
    pushed(typed, other)
    there = store.repositories[NAME].commits[-1].files
    assert "eval/small/eval.json" not in there and there["LICENSE"] == b"by hand"
    store.repositories[NAME].tags["v1"] = first.rpartition("@")[2]
    assert files_below(pulled(typed)) == files_below(other)
    for address in (first, f"{ADDRESS}@v1"):
        assert files_below(pulled(typed, address)) == files_below(run)


def test_a_run_that_is_there(run, other, typed, store, tmp_path):
    pushed(typed, other)
    directory = pulled(typed)
    pushed(typed, run)
    said = (f"{directory}: holds another run", "sae.architecture: batch_topk -> topk", "overwrite=true")
    refused(typed("pull", ADDRESS, "--quiet"), 2, *said)
    assert files_below(directory) == files_below(other)
    assert files_below(pulled(typed, ADDRESS, "overwrite=true")) == files_below(run)
    assert [each.name for each in directory.parent.iterdir()] == [directory.name]
    # An evaluation that was pushed later is added; the run's own ones stay.
    shutil.rmtree(directory / "eval")
    assert files_below(pulled(typed)) == files_below(run)
    (tmp_path / "runs/full").mkdir()
    (tmp_path / "runs/full/notes.txt").write_text("mine")
    refused(typed("pull", ADDRESS, "name=full", "--quiet"), 2, "not empty and not a run")


def test_private(run, typed, store):
    pushed(typed, run, "--private")
    assert store.repositories[NAME].private
    refused(typed("pull", ADDRESS, "--quiet", HF_TOKEN=""), 2, ADDRESS, "set HF_TOKEN")
    assert files_below(pulled(typed)) == files_below(run)
    store.repositories[NAME].private = False
    said = ("expected a private repository", "found a public one")
    refused(typed("push", run, ADDRESS, "--private", "--quiet"), 2, *said)


def test_without_a_token_nothing_is_made(run, typed, store):
    refused(typed("push", run, ADDRESS, "--quiet", HF_TOKEN=""), 2, ADDRESS, "set HF_TOKEN")
    assert not store.repositories


def test_what_is_of_others_is_not_replaced(run, typed, store):
    store.repositories[NAME] = Stored(commits=[Commit("1" * 40, {"README.md": b"mine", "model.safetensors": b"x"})])
    refused(typed("push", run, ADDRESS, "--quiet"), 2, "expected an empty repository", "README.md of something else")
    refused(typed("pull", ADDRESS, "--quiet"), 2, "expected a run that sae push has left", "sae import")
    assert len(store.repositories[NAME].commits) == 1


def test_what_is_no_whole_dictionary_is_refused(run, world, typed, store, tmp_path):
    harvest.run(world.harvest(tmp_path), tmp_path / "harvest")
    refused(typed("push", tmp_path / "harvest", ADDRESS, "--quiet"), 2, "found a harvest run")
    refused(typed("push", tmp_path / "none", ADDRESS, "--quiet"), 2, "no run here")
    shutil.copytree(run, damaged := tmp_path / "damaged")
    figures = damaged / "eval/small/features.safetensors"
    figures.write_bytes(figures.read_bytes()[:-1] + b"\xff")
    refused(typed("push", damaged, ADDRESS, "--quiet"), 1, "eval/small/features.safetensors: damaged file")
    shutil.copytree(run, unfinished := tmp_path / "unfinished")
    manifest = read_manifest(unfinished)
    manifest.status = "running"
    write_manifest(unfinished, manifest)
    refused(typed("push", unfinished, ADDRESS, "--quiet"), 1, "the run is not complete")
    assert not store.asked


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["push", "RUN"], "expected one run directory and one address"),
        (["push", "RUN", "org/name"], "expected one run directory and one address"),
        (["push", "RUN", "hf:org"], "hf:org: expected an address on the hub"),
        (["push", "RUN", "hf:org/name@v1"], "a push goes to the branch main"),
        (["push", "RUN", "hf:org/name", "private=true"], "unknown key private"),
        (["pull"], "expected one address"),
        (["pull", "hf:org/name/path"], "expected an address on the hub"),
        (["pull", "hf:org/name", "nam=x"], "did you mean name?"),
        (["pull", "hf:org/name", "overwrite=yes"], "expected true or false"),
        (["pull", "hf:org/name", "name=../x"], "a name is made of"),
    ],
)
def test_what_is_asked_for_wrongly(arguments, said, run, typed, store):
    refused(typed(*(str(run) if each == "RUN" else each for each in arguments), "--quiet"), 2, said)
    assert not store.asked


def test_a_server_that_fails_at_the_last_file_leaves_no_commit(run, typed, store):
    # Of five files one is taken; the others fail, however often they are sent.
    fault = Fault("^PUT /upload/" + sha_of(run / "sae.safetensors"), 503, {"Retry-After": "0"})
    refused(typed("push", run, ADDRESS, "--quiet", faults=[fault]), 1, "nothing was committed", "503")
    assert fault.met > 1 and len(store.repositories[NAME].commits) == 1 and store.objects
    refused(typed("pull", ADDRESS, "--quiet"), 2, "expected a run that sae push has left")
    sent = {*store.objects}
    store.asked.clear()
    pushed(typed, run)
    assert not [each for each in store.asked if each.startswith("PUT") and each.rpartition("/")[2] in sent]
    assert files_below(pulled(typed)) == files_below(run)


def test_a_push_that_is_killed_leaves_no_commit(run, store, commands, tmp_path):
    fault = Fault("^PUT /upload/" + sha_of(run / "sae.safetensors"), -1, times=1)
    with loopback_hub({}, store=store, faults=[fault]) as address:
        about = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path), "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
        child = commands.start("push", run, ADDRESS, "--quiet", **about)
        assert fault.met_first.wait(60)
        os.kill(child, signal.SIGKILL)
        assert commands.wait(child).returncode == -signal.SIGKILL
        assert len(store.repositories[NAME].commits) == 1
        ended = commands("push", run, ADDRESS, "--quiet", **about)
    assert (ended.returncode, ended.stderr) == (0, "") and len(store.repositories[NAME].commits) == 2


def test_a_hub_that_is_busy_is_asked_again(run, typed, store):
    paths = ("/commit/main", "^GET /api/models", "/create")
    faults = [Fault(path, 429, {"Retry-After": "0"}, times=1) for path in paths]
    pushed(typed, run, faults=faults)
    assert [each.met for each in faults] == [1, 1, 1] and len(store.repositories[NAME].commits) == 2


def test_a_repository_that_changes_meanwhile(run, typed, store):
    store.repositories[NAME] = Stored()
    fault = Fault("/commit/main", 412, times=1)
    refused(typed("push", run, ADDRESS, "--quiet", faults=[fault]), 1, "nothing was committed", "at the same moment")


def test_what_is_not_as_its_manifest_says_is_not_pulled(run, typed, store, tmp_path):
    pushed(typed, run)
    files = dict(store.repositories[NAME].commits[-1].files)
    whole = files["sae.safetensors"]
    for content, said in ((whole[:-1] + b"\xff", "expected"), (None, "found none there")):
        changed = {name: each for name, each in files.items() if name != "sae.safetensors"}
        changed |= {"sae.safetensors": content} if content else {}
        oid = ("a" if content else "b") * 40
        store.repositories[NAME].commits.append(Commit(oid, changed))
        refused(typed("pull", f"{ADDRESS}@{oid}", "--quiet"), 1, ADDRESS, "sae.safetensors", said)
    forged = {**files, MANIFEST: files[MANIFEST].replace(b"48", b"49")}
    store.repositories[NAME].commits.append(Commit("d" * 40, forged))
    refused(typed("pull", f"{ADDRESS}@{'d' * 40}", "--quiet"), 1, MANIFEST, "sha256")
    assert not [each for each in (tmp_path / "runs").rglob("*") if each.is_file()]


def test_a_hub_that_is_gone(run, typed):
    refused(typed("push", run, ADDRESS, "--quiet", hub=NOWHERE), 1, ADDRESS, "the hub cannot be reached")
    refused(typed("pull", ADDRESS, "--quiet", hub=NOWHERE), 1, ADDRESS, "the hub cannot be reached")
    said = "HF_HUB_OFFLINE is set, and it is not in the cache"
    refused(typed("pull", ADDRESS, "--quiet", HF_HUB_OFFLINE="1"), 1, said)
