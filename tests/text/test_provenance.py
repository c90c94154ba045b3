"""Records of texts: what they notice, what they cost, and that they can be told from each other."""

import hashlib
import json
import os

import pytest

from sae_cli.text import provenance
from sae_cli.text.local_data_set import LocalDataSet
from sae_cli.text.provenance import Stamp, TextRecord, record_of_files, tokens_hash
from tests.known import present


def files(folder, **contents):
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in contents}


def test_the_stamp_of_a_file_is_its_size_and_its_sha256(tmp_path):
    record = record_of_files("/x", files(tmp_path / "t", a=b"abc", b=b""))
    assert record.listed == {
        "a": Stamp(3, hashlib.sha256(b"abc").hexdigest()),
        "b": Stamp(0, hashlib.sha256().hexdigest()),
    }
    assert (record.files, record.bytes, record.hashed, record.place) == (2, 3, "whole", "/x")


def test_a_record_comes_back_from_a_manifest(tmp_path):
    record = record_of_files("/x", files(tmp_path / "t", a=b"abc", b=b"d"), "v1")
    assert TextRecord.of_fact(json.loads(json.dumps(record.as_fact()))) == record


_WITH = {
    "place": "x",
    "version": "",
    "files": 1,
    "bytes": 1,
    "sha256": "",
    "hashed": "whole",
    "keyed": True,
    "listed": {},
}


@pytest.mark.parametrize(
    "fact", [None, 3, {}, {"listed": 3}, {"listed": {"a": 1}}, {"listed": {}, "surprise": 1}, _WITH | {"files": "many"}]
)
def test_what_is_no_record_is_none(fact):
    assert TextRecord.of_fact(fact) is None


@pytest.mark.parametrize(
    ("now", "says"),
    [
        ({"a": b"abc", "b": b"d"}, ""),
        ({"a": b"abcd", "b": b"d"}, "a: 3 bytes -> 4"),
        ({"a": b"abX", "b": b"d"}, "a: sha256 "),
        ({"a": b"abc"}, "b is gone"),
        ({"a": b"abc", "b": b"d", "c": b""}, "c is new"),
        ({"b": b"abc", "a": b"d"}, "a: 3 bytes -> 1 and 1 more"),
    ],
)
def test_what_has_changed_is_said(now, says, tmp_path):
    before = record_of_files("/x", files(tmp_path / "before", a=b"abc", b=b"d"))
    found = before.difference(record_of_files("/y", files(tmp_path / "now", **now)))
    assert found.startswith(says) and bool(found) == bool(says)


def test_another_version_has_changed():
    assert (
        TextRecord("x", "Python 3.11.1").difference(TextRecord("x", "Python 3.12.0"))
        == "Python 3.11.1 -> Python 3.12.0"
    )


def test_large_files_are_hashed_in_samples_that_hold_both_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "WHOLE", 100)
    monkeypatch.setattr(provenance, "CHUNK", 4)
    monkeypatch.setattr(provenance, "CHUNKS", 5)
    content = bytes(range(200)) + b"abc"
    record = record_of_files("/x", files(tmp_path / "t", a=content))
    assert record.hashed == "samples"
    starts = [0, 49, 99, 149, 199]  # (203 - 4) * i // 4
    expected = hashlib.sha256(b"".join(content[i : i + 4] for i in starts)).hexdigest()
    assert record.listed == {"a": Stamp(203, expected)}


def test_what_is_hashed_of_a_text_is_bounded(tmp_path, monkeypatch):
    """And which files are does not depend on where they lie or on the order in which they are found."""
    monkeypatch.setattr(provenance, "MOST_HASHED", 25)
    content = {f"f{n}": b"x" * 10 for n in range(6)}
    one = record_of_files("/x", files(tmp_path / "one", **content))
    other = record_of_files("/x", dict(reversed(files(tmp_path / "two", **content).items())))
    assert one == other and one.hashed == "samples"
    assert sum(bool(each.sha256) for each in present(one.listed).values()) == 2


def test_of_many_files_some_are_listed_and_all_are_compared(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "MOST_LISTED", 2)
    content = {f"f{n}": bytes([n]) for n in range(6)}
    before = record_of_files("/x", files(tmp_path / "t", **content))
    assert len(present(before.listed)) == 2 and before.files == 6
    for name in content:
        now = record_of_files("/x", files(tmp_path / "u", **content | {name: b"?"}))
        assert before.difference(now)


def test_names_of_any_bytes_can_stand_in_a_manifest(tmp_path):
    name = b"caf\xe9.txt".decode("utf-8", "surrogateescape")
    record = record_of_files("/x", files(tmp_path / "t", **{name: b"a"}))
    assert json.dumps(record.as_fact()).encode() and list(present(record.listed)) == ["caf\\xe9.txt"]


def test_the_files_of_a_local_data_set(tmp_path):
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "train.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "hf" / "test.jsonl").write_text('{"text": "b"}\n')
    found = LocalDataSet(str(tmp_path / "hf"), "", "train")
    assert found.version == "json records by file" and list(found.files) == ["train.jsonl"]


def test_the_hash_of_tokens_does_not_depend_on_how_rows_are_cut():
    import numpy as np

    rows = np.arange(12).reshape(4, 3)
    expected = hashlib.sha256(b"".join(int(n).to_bytes(8, "little") for n in range(12))).hexdigest()
    assert tokens_hash([rows]) == tokens_hash([rows[:1], rows[1:]]) == expected


@pytest.fixture
def read(monkeypatch):
    """Files that are read, by name; those that have just been written may be known again."""
    found, whole = [], provenance._hash
    monkeypatch.setattr(provenance, "_hash", lambda file, size: found.append(file.name) or whole(file, size))
    monkeypatch.setattr(provenance, "_RACY", 0)
    return found


def test_a_file_that_has_not_changed_is_read_once(tmp_path, read):
    there = files(tmp_path / "t", a=b"abc", b=b"d")
    first = record_of_files("/x", there)
    assert record_of_files("/x", there) == first
    assert sorted(read) == ["a", "b"]


def test_a_change_that_leaves_size_and_time_is_seen(tmp_path, read):
    there = files(tmp_path / "t", a=b"abc")
    before, state = record_of_files("/x", there), there["a"].stat()
    there["a"].write_bytes(b"xyz")
    os.utime(there["a"], ns=(state.st_atime_ns, state.st_mtime_ns))
    assert "sha256" in before.difference(record_of_files("/x", there))


def test_what_was_just_written_is_read_again(tmp_path, read, monkeypatch):
    monkeypatch.setattr(provenance, "_RACY", 2_000_000_000)
    there = files(tmp_path / "t", a=b"abc")
    assert record_of_files("/x", there) == record_of_files("/x", there)
    assert read == ["a", "a"]
