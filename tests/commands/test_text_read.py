"""Which text a run has read is in its manifest; another text in its place is noticed."""

import hashlib
import platform
import shutil
import signal
import sysconfig
from dataclasses import replace

import numpy as np
import pytest

from sae_cli.activations.text_read import text_record
from sae_cli.artifacts.manifest import read_manifest
from sae_cli.artifacts.stored_run import read_run
from sae_cli.build import row_stream
from sae_cli.cli.main import run as command_line
from sae_cli.commands import eval as evaluate
from sae_cli.commands import features, harvest, train
from sae_cli.commands import prune_high_freq as prune
from sae_cli.commands import verify as verification
from sae_cli.config.data import HfData, StdlibData, TextData
from sae_cli.config.split import Split
from sae_cli.errors import Interrupted, JobError, RequestError
from sae_cli.models import load_language_model
from sae_cli.terminal import interruption
from tests.known import document_of, first_rows, present, the


@pytest.fixture
def text(world, tmp_path):
    """A copy of the text, to be changed."""
    shutil.copytree(world.text, tmp_path / "text")
    return tmp_path / "text"


def data_of(text, **changes):
    return TextData(path=str(text), **{"context": 32, "held_out_fraction": 0.2} | changes)


@pytest.fixture
def run(world, text, tmp_path):
    train.run(world.train(tmp_path, data=data_of(text), tokens=512, dict_size=8), tmp_path / "run")
    return tmp_path / "run"


def spoil(text):
    (text / "7.txt").write_text("kere " * 300)


def small(world, run, **changes):
    from sae_cli.config.evaluation import FeaturePassConfig

    return world.eval(run, eval=first_rows(150), features=FeaturePassConfig(tokens=150), **changes)


def test_the_text_is_in_the_manifests(world, run, text, tmp_path):
    harvest.run(world.harvest(tmp_path, data=data_of(text)), tmp_path / "h")
    evaluate.run(small(world, run), run, "default")
    stamp = {
        "bytes": (text / "3.txt").stat().st_size,
        "sha256": hashlib.sha256((text / "3.txt").read_bytes()).hexdigest(),
    }
    for each in (run, tmp_path / "h", run / "eval" / "default"):
        facts = read_run(each).manifest.facts
        assert (facts["text"]["files"], facts["text"]["place"]) == (60, str(text))
        assert facts["text"]["listed"]["3.txt"] == stamp
        assert facts["model"] == f"folder:{world.model}"


def test_the_tokens_that_were_measured_are_known(world, run, text):
    evaluate.run(small(world, run), run, "default")
    stream = row_stream(data_of(text), load_language_model(str(world.model)), Split.held_out)
    rows = np.concatenate([block.tokens for block in stream.one_epoch(4)])
    n = -(-150 // 31)
    expected = hashlib.sha256(rows[:n].astype("<i8").tobytes()).hexdigest()
    assert read_run(run / "eval" / "default").manifest.facts["tokens_sha256"] == expected
    wanted = -(-256 // 31 // 4) * 4  # whole passes of four rows
    held_out = hashlib.sha256(rows[: max(wanted, 12)].astype("<i8").tobytes()).hexdigest()
    assert read_run(run).manifest.facts["held_out_sha256"] == held_out


def test_another_text_is_said_and_not_served(world, run, text, capsys):
    evaluate.run(small(world, run), run, "default")
    spoil(text)
    with pytest.raises(
        RequestError, match=r"eval/default: was measured on another text than is there now: 7.txt: .*over"
    ):
        evaluate.run(small(world, run), run, "default")
    assert f"{run}: its text, {text}, has changed since the training: 7.txt: " in said(capsys)
    evaluate.run(small(world, run, overwrite=True), run, "default")
    evaluate.run(small(world, run), run, "default")
    assert said(capsys).count("has changed since the training") == 2


def said(capsys):
    return " ".join(capsys.readouterr().err.split())


def test_a_changed_text_is_said_by_prune_and_features(world, run, text, tmp_path, capsys):
    from sae_cli.config.commands.features import FeaturesConfig
    from sae_cli.config.commands.prune_high_freq import PruneConfig
    from sae_cli.config.evaluation import ContextsConfig

    spoil(text)
    measure = small(world, run)
    same = {"device": "cpu", "model_rows": 4, "eval": measure.eval, "features": measure.features}
    prune.run(PruneConfig(run=str(run), top_n=1, **same), tmp_path / "pruned")
    assert said(capsys).count("has changed since the training: 7.txt: ") == 2  # of the dictionary before and after
    features.run(FeaturesConfig(run=str(run), contexts=ContextsConfig(tokens=100), **same), run, "default")
    assert said(capsys).count("has changed since the training: 7.txt: ") == 1


def test_verify_warns(world, run, text):
    def findings():
        (document,) = document_of(verification.run([run]).listing)["runs"]
        return document["sound"], [each["message"] for each in document["findings"]]

    assert findings() == (True, [])
    spoil(text)
    sound, (message,) = findings()
    assert sound and message.startswith(f"the text that was read, {text}, has changed since: 7.txt: ")
    shutil.rmtree(text)
    sound, (message,) = findings()
    assert sound and message.startswith("the text that was read cannot be read now: data.path=")


def test_a_finished_evaluation_outlives_its_text(world, run, text, capsys):
    evaluate.run(small(world, run), run, "default")
    shutil.rmtree(text)
    evaluate.run(small(world, run), run, "default")
    assert "the text that it was measured on is gone" in said(capsys)


def test_what_is_found_finished_says_so(world, run, text, tmp_path, capsys):
    spoil(text)
    train.run(world.train(tmp_path, data=data_of(text), tokens=512, dict_size=8), run)
    assert "is of the text as it was, which has changed since: 7.txt: " in said(capsys)


def test_a_harvest_of_the_text_before_is_passed_over(world, text, tmp_path, capsys):
    config = world.train(tmp_path, data=data_of(text), tokens=512, dict_size=8)
    harvest.run(world.harvest(tmp_path, data=data_of(text)), tmp_path / "harvest" / "h")
    spoil(text)
    train.run(config, tmp_path / "run")
    assert "harvest/h: passed over: its text has changed since: 7.txt: " in said(capsys)
    assert read_run(tmp_path / "run").manifest.facts["source"] == "live"
    named = replace(config, activations=str(tmp_path / "harvest" / "h"))
    with pytest.raises(RequestError, match=r"activations=.*: harvested from another text than is there now: 7.txt"):
        train.run(named, tmp_path / "named")


@pytest.mark.parametrize("kind", ["text", "hf"])
def test_a_training_does_not_go_on_on_another_text(kind, world, text, tmp_path, stopping):
    data = data_of(text)
    if kind == "hf":
        data = HfData(path=str(text), context=32, held_out_fraction=0.2, bos=True)
    config = world.train(tmp_path, data=data, tokens=512, dict_size=8)
    with pytest.raises(Interrupted):
        train.run(config, tmp_path / "run")
    stopping()
    before = read_manifest(tmp_path / "run")
    kept = (text / "7.txt").read_text()
    spoil(text)
    with pytest.raises(
        JobError, match=r"run: was begun on another text than is there now in .*: 7.txt: .*overwrite=true"
    ):
        train.run(config, tmp_path / "run")
    assert read_manifest(tmp_path / "run") == before
    (text / "7.txt").write_text(kept)
    train.run(config, tmp_path / "run")


def test_a_harvest_does_not_go_on_on_another_text(world, text, tmp_path, monkeypatch):
    config = world.harvest(tmp_path, data=data_of(text))
    write, calls = harvest.ShardWriter.add, []

    def add_and_ask(self, *block):
        write(self, *block)
        calls.append(1)
        if len(calls) == 12:
            interruption.ask_to_stop(signal.SIGTERM)

    monkeypatch.setattr(harvest.ShardWriter, "add", add_and_ask)
    with pytest.raises(Interrupted):
        harvest.run(config, tmp_path / "h")
    interruption._stop.number = None
    spoil(text)
    with pytest.raises(JobError, match=r"h: was begun on another text than is there now in .*: 7.txt: "):
        harvest.run(config, tmp_path / "h")


def test_the_standard_library_is_known_by_version_and_digest(monkeypatch):
    fact = present(text_record(StdlibData(exclude=["encodings/*"]))).as_fact()
    assert fact["version"] == f"Python {platform.python_version()}" and fact["listed"] == {}
    assert the(int, fact["files"]) > 100 and len(the(str, fact["sha256"])) == 64 and fact["place"] == "stdlib"
    assert sysconfig.get_path("stdlib") not in str(fact)


def test_the_same_text_elsewhere_is_the_same(world, run, text, tmp_path, capsys):
    text.rename(tmp_path / "moved")
    (tmp_path / "text").symlink_to(tmp_path / "moved")
    evaluate.run(small(world, run), run, "default")
    assert "warning" not in said(capsys)


def test_commands_on_text_that_has_changed_leave_figures_as_they_were(world, run, text, capsys, monkeypatch, tmp_path):
    """On the command line: one line, exit code 2, the evaluation as it was."""
    monkeypatch.chdir(tmp_path)
    arguments = ["eval", str(run), "eval.tokens=150", "features.tokens=150", "device=cpu", "model_rows=4"]
    assert command_line(arguments) == 0
    before = {path: path.read_bytes() for path in (run / "eval").rglob("*") if path.is_file()}
    spoil(text)
    assert command_line(arguments) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("sae: error: ")
    assert before == {path: path.read_bytes() for path in (run / "eval").rglob("*") if path.is_file()}
