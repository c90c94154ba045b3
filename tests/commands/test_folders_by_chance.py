"""Whole runs on folders made by chance: what is measured was never trained on, however the folder is spelt or moved."""

import random
from collections import defaultdict

import pytest
from data_files import KINDS
from data_folders import expected_of
from data_maker import Maker

from sae_cli.cli.main import run as command_line
from sae_cli.commands import train
from sae_cli.config.data import HfData, TextData
from sae_cli.config.split import Split
from sae_cli.text.hub import HubCorpus
from sae_cli.text.local_text import TextCorpus

SMALL = ["device=cpu", "model_rows=2", "eval.tokens=100", "features.tokens=100", "overwrite=true"]
SOURCES = [*[("", seed) for seed in range(2)], *[(kind, 0) for kind in sorted(KINDS)]]


@pytest.fixture
def given(monkeypatch):
    """The documents that corpora have given out, key and text, by split; cleared between two commands."""
    documents = defaultdict(set)
    for corpus in (TextCorpus, HubCorpus):

        def read(self, split, seed, epoch=0, of=corpus.documents):
            for document in of(self, split, seed, epoch):
                documents[split].add((document.key, document.text))
                yield document

        monkeypatch.setattr(corpus, "documents", read)
    return documents


def folder_with_text(kind, seed, place):
    """The first folder that is read and has text enough on both sides, written, and how often its texts are there."""
    for number in range(10_000):
        folder = Maker(random.Random(f"{kind} {seed} {number}"), kind).folder()
        if len(folder.files) < 5 or folder.fraction != 0.3 or folder.settings.domain:
            continue
        root = folder.write(place / str(number))
        expected = expected_of(folder, root)
        if not (expected.refused or expected.unknown or root.name[0] == "~") and sum(expected.texts.values()) > 40:
            return folder, root, expected
    raise AssertionError("no folder")


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "seed"), SOURCES)
def test_what_is_measured_was_not_trained_on(world, given, tmp_path, monkeypatch, capsys, kind, seed):
    folder, root, expected = folder_with_text(kind, seed, tmp_path / "places")
    monkeypatch.chdir(root.parent)
    source, name = (HfData, "hf") if kind else (TextData, "text")
    data = source(path=folder.name, column=folder.settings.column, context=16, held_out_fraction=0.3)
    train.run(world.train(tmp_path, data=data, tokens=2_000, dict_size=8, model_rows=2), tmp_path / "run")
    trained = frozenset(given[Split.train])
    assert trained
    moved, link = tmp_path / "moved [1]", tmp_path / "link"
    link.symlink_to(root)
    for path in ("", f"./{folder.name}/", str(link), str(moved)):
        if path == str(moved):
            root.rename(moved)
        given.clear()
        other = {"path": path, "column": folder.settings.column}
        arguments = (
            [f"data={name}", *(f"data.{key}='{_quoted(value)}'" for key, value in other.items())] if path else []
        )
        code = command_line(["eval", str(tmp_path / "run"), *arguments, *SMALL])
        assert code == 0, capsys.readouterr().err
        assert given[Split.held_out]
        assert not {key for key, _ in trained} & {key for key, _ in given[Split.held_out]}
        once = {text for (text, _), count in expected.texts.items() if count == 1}
        assert not once & {text for _, text in trained} & {text for _, text in given[Split.held_out]}


def _quoted(path):
    return path.replace("\\", "\\\\").replace("'", "\\'")
