"""Folders of records on disk."""

import json

import pytest


@pytest.fixture
def with_hidden_files(tmp_path):
    """A folder of two documents, `seen` and, behind a link, `linked`; with hidden copies, a loop and a second name."""
    corpus = tmp_path / "corpus"
    for hidden in (".git/x.jsonl", ".cache/deep/x.jsonl", "sub/.ipynb_checkpoints/a-checkpoint.jsonl", ".x.jsonl"):
        _write(corpus / hidden, "hidden")
    _write(corpus / "a.jsonl", "seen")
    _write(tmp_path / "elsewhere" / "b.jsonl", "linked")
    (corpus / "link").symlink_to(tmp_path / "elsewhere")
    (corpus / "loop").symlink_to(corpus)
    (corpus / "again.jsonl").symlink_to(corpus / "a.jsonl")
    return corpus


def _write(file, text):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"text": text}) + "\n")
