"""`sae verify`: what was written passes; what was not is named, and what is only beside a run does no harm."""

import json
import os
import shutil

import pytest
import torch

from sae_cli.artifacts.files import write_json
from sae_cli.artifacts.manifest import MANIFEST
from sae_cli.artifacts.run_directory import open_run
from sae_cli.commands import verify as verification
from sae_cli.errors import JobError, RequestError
from tests.known import document_of, present


@pytest.fixture
def runs(tmp_path):
    """A harvest and a training from it, with its default evaluation."""
    root = tmp_path / "runs"
    with open_run(root / "h", "harvest", {"seed": 0}) as run:
        run.write_tensors("rows.safetensors", {"x": torch.arange(100.0)})
        harvest = run.finish()
    with open_run(root / "t", "train", {"seed": 0}, parents=[harvest]) as run:
        run.write_tensors("sae.safetensors", {"x": torch.arange(6.0)})
        run.append_line("metrics.jsonl", {"step": 1})
        trained = run.finish()
    with open_run(root / "t" / "eval" / "default", "eval", {}, parents=[trained]) as run:
        run.write_json("eval.json", {"l0": 1.5})
        run.finish()
    write_json(root / "t" / "eval.json", {"l0": 1.5})
    return root


def findings(verified):
    """(run or evaluation, severity, kind, file) of all."""
    return [
        (verdict.found.directory.name, finding.severity, finding.kind, finding.file)
        for top in verified.verdicts
        for verdict in (top, *top.measurements)
        for finding in verdict.findings
    ]


def test_what_was_written_passes(runs):
    verified = verification.run([runs])
    assert verified.listing.directories == [runs / "h", runs / "t"]
    assert findings(verified) == []
    verified.check()
    assert verified.listing.title.startswith("2 of 2 runs are what was written; ")
    assert ("t", "sound") in [row[:2] for row in verified.listing.table]


def test_damage_anywhere_is_named_in_one_line(runs):
    os.truncate(runs / "h" / "rows.safetensors", 50)
    (runs / "t" / "sae.safetensors").unlink()
    (runs / "t" / "eval" / "default" / "eval.json").write_text('{\n  "l0": 1.6\n}\n')
    verified = verification.run([runs])
    assert findings(verified) == [
        ("h", "damage", "truncated", "rows.safetensors"),
        ("t", "damage", "missing", "sae.safetensors"),
        ("default", "damage", "changed", "eval.json"),
    ]
    assert verified.listing.directories == []
    with pytest.raises(JobError) as error:
        verified.check()
    assert str(error.value) == (
        f"2 of 2 runs damaged: {runs / 'h'} (rows.safetensors truncated); "
        f"{runs / 't'} (sae.safetensors missing, eval/default/eval.json changed)"
    )


def test_the_document_has_a_list_of_findings_a_run(runs):
    (runs / "h" / "rows.safetensors").unlink()
    document = document_of(verification.run([runs]).listing)
    assert document["damaged"] == 1
    harvest, training = document["runs"]
    message = "expected 496 bytes, found no file"
    finding = {"severity": "damage", "kind": "missing", "file": "rows.safetensors", "message": message}
    assert harvest["findings"] == [finding] and not harvest["sound"]
    assert (training["status"], training["sound"], training["files"]) == ("complete", True, 2)
    assert training["measurements"][0]["files"] == 1
    json.dumps(document, allow_nan=False)


@pytest.mark.parametrize("content", ["{", '{"schema_version": 99}'])
def test_a_manifest_that_cannot_be_read_is_damage(runs, content):
    (runs / "h" / MANIFEST).write_text(content)
    verified = verification.run([runs / "h"])
    assert findings(verified) == [("h", "damage", "unreadable", MANIFEST)]
    with pytest.raises(JobError, match=r"1 of 1 runs damaged: .*h \(manifest.json unreadable\)"):
        verified.check()


def test_a_parent_that_is_gone_or_changed_is_a_warning(runs):
    with open(runs / "h" / MANIFEST, "a") as file:
        file.write("\n")
    verified = verification.run([runs / "t"])
    verified.check()
    ((run, severity, kind, parent),) = findings(verified)
    assert (run, severity, kind, parent) == ("t", "warning", "parent", str(runs / "h"))
    assert verified.verdicts[0].findings[0].message == "this run was read, and its manifest has changed since"
    shutil.rmtree(runs / "h")
    assert verification.run([runs / "t"]).verdicts[0].findings[0].message == "this run was read, and is gone"


def test_an_evaluation_that_was_moved_with_its_run_still_has_its_parent(runs, tmp_path):
    (runs / "t").rename(tmp_path / "moved")
    assert findings(verification.run([tmp_path / "moved"])) == []


def test_the_copy_of_the_default_figures_is_compared(runs):
    (runs / "t" / "eval.json").write_text('{\n  "l0": 1.6\n}\n')
    verified = verification.run([runs])
    assert findings(verified) == [("t", "damage", "report", "eval.json")]
    message = verified.verdicts[1].findings[0].message
    assert message.startswith("not as in eval/default: expected sha256 ")
    assert message.endswith("; copy eval/default/eval.json over it")
    (runs / "t" / "eval.json").unlink()
    verified = verification.run([runs])
    verified.check()
    assert findings(verified) == [("t", "warning", "report", "eval.json")]


def test_leftovers_are_named_and_left(runs):
    for name in (".sae.safetensors.17.tmp", "checkpoint/00000009/training.safetensors", "notes.txt"):
        (runs / "t" / name).parent.mkdir(parents=True, exist_ok=True)
        (runs / "t" / name).write_text("x")
    verified = verification.run([runs])
    verified.check()
    assert [each[1:] for each in findings(verified)] == [
        ("leftover", "unlisted", ".sae.safetensors.17.tmp"),
        ("leftover", "unlisted", "notes.txt"),
        ("leftover", "unlisted", "checkpoint/00000009/training.safetensors"),
    ]
    assert (runs / "t" / ".sae.safetensors.17.tmp").exists()


def test_of_an_unfinished_run_what_is_listed_is_read(tmp_path):
    with open_run(tmp_path, "train", {}) as run:
        run.append_line("metrics.jsonl", {"step": 1})
        run.save_progress()
        run.append_line("metrics.jsonl", {"step": 2})
    verified = verification.run([tmp_path])
    verified.check()
    ((_, severity, kind, file),) = findings(verified)
    assert (severity, kind, file) == ("warning", "unfinished", "")
    assert verified.listing.table[0][2].endswith("; stopped: its process was killed, or the machine went down")
    (tmp_path / "metrics.jsonl").write_text("x")
    assert ("damage", "truncated", "metrics.jsonl") in [each[1:] for each in findings(verification.run([tmp_path]))]


def test_a_run_that_changes_while_it_is_read_is_read_again(tmp_path, monkeypatch):
    """The checkpoint that was listed is gone when it is read; the next one has taken its place."""
    with open_run(tmp_path, "train", {}) as run:
        run.write_text("checkpoint/00000001/training.safetensors", "x")
        run.save_progress()
        begin = verification._Reader.begin

        def begin_late(self, found):
            if "checkpoint/00000001/training.safetensors" in run.manifest.files:
                run.write_tensors("checkpoint/00000002/training.safetensors", {"x": torch.zeros(1)})
                run.save_progress(without=["checkpoint/00000001/training.safetensors"])
            begin(self, found)

        monkeypatch.setattr(verification._Reader, "begin", begin_late)
        verified = verification.run([tmp_path])
    assert findings(verified) == []
    assert list(present(verified.verdicts[0].found.manifest).files) == ["checkpoint/00000002/training.safetensors"]


def test_reading_ends_when_it_is_interrupted(runs, monkeypatch):
    def interrupted(self, found):
        raise KeyboardInterrupt

    monkeypatch.setattr(verification._Reader, "damaged_files", interrupted)
    with pytest.raises(KeyboardInterrupt):
        verification.run([runs])


def test_a_path_without_a_run_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(RequestError, match=r"no run here \(no manifest.json\); give a run directory, or a folder"):
            verification.run([path])
