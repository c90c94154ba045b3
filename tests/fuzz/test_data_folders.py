"""Whatever is in a folder, its documents are read, each once and on one side of the split, or one line says why not.

The slow tier reads thousands of folders in a process of its own (`FUZZ_FOLDERS=5000` for more).
"""

import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from glob import glob
from pathlib import Path

import pytest
from data_folders import failure, folder_of, with_seed

from sae_cli.text import content, local_files, streams
from sae_cli.text import local_text as text
from sae_cli.text.local_files import PassedOver, find_files
from sae_cli.text.streams import sources


def test_a_few_folders():
    counts, failures = with_seed(12, seed=0)
    assert not failures, failures[0]
    assert counts["text: read"] and counts["text: refused"] and counts["documents"] > 30


def glob_of_each(path):
    """As the reader was before names with brackets were tried."""
    found = find_files(path)
    matching = {name: [Path(each) for each in glob(str(file))] for name, file in found.files.items()}
    return replace(found, files={name: files[0] for name, files in matching.items() if files})


def with_place(key, file, *more):
    return [replace(each, key=f"{file}{each.key.removeprefix(key)}") for each in sources(key, file, *more)]


def split_anywhere(pieces):
    return (line for piece in pieces for line in piece.splitlines(keepends=True))


FAULTS = {
    "a name is a pattern": (text, "find_files", glob_of_each, "lost|other keys|read|RequestError"),
    "the place is in the keys": (text, "sources", with_place, ".*other keys"),
    "a missing field is an empty one": (content._Field, "_refuse", lambda self: None, "read, but expected"),
    "pictures are passed over unsaid": (
        PassedOver,
        "add",
        lambda self, name, reason: None,
        "not said to be passed|expected . passed over",
    ),
    "lines end at other characters": (streams, "_split_at_ends", split_anywhere, "JobError"),
    "copies are documents": (local_files, "_copies", lambda names: [], "too many|expected . passed over"),
    "links are other files": (local_files, "_identity", os.path.abspath, "too many|expected . passed over"),
    "an epoch is not all": (text, "seeded_order", lambda keys, seed, epoch: sorted(keys)[1:], "lost|read, but|Request"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_found(monkeypatch, fault):
    *place, made, says = FAULTS[fault]
    monkeypatch.setattr(*place, made)
    found = (failure(folder_of(1, number), Counter()) for number in range(200))
    assert re.match(says, next(filter(None, found), "nothing"))


@pytest.mark.parametrize("n", [60, pytest.param(int(os.environ.get("FUZZ_FOLDERS", "2000")), marks=pytest.mark.slow)])
def test_many_folders(n):
    script = Path(__file__).with_name("data_folders.py")
    done = subprocess.run([sys.executable, str(script), "--folders", str(n)], capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{n:,} folders" in done.stdout
