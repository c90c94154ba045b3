"""Local text is what lies there: every document once, whatever files are called and however they are packed."""

import bz2
import csv
import gzip
import json
import lzma
import re
import zipfile

import pytest

from sae_cli.config.split import Split
from sae_cli.errors import JobError, RequestError
from sae_cli.text.local_text import TextCorpus


def texts(path, column="text", fraction=0.4, **more):
    """All documents, those of training and those that are held out, each once."""
    corpus = TextCorpus(str(path), column, "", fraction, **more)
    sides = {split: {each.key: each.text for each in corpus.documents(split, seed=0)} for split in Split}
    assert not sides[Split.train].keys() & sides[Split.held_out].keys()
    return sorted(text for side in sides.values() for text in side.values())


def write(file, *values):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps({"text": value}) + "\n" for value in values))
    return file


NAMES = ["part 1.jsonl", "part [1].jsonl", "b [x].jsonl", "a*b.jsonl", "what?.jsonl", "[!a]/c.jsonl", "{a,b}.jsonl"]


def test_a_name_is_no_pattern(tmp_path):
    for name in NAMES:
        write(tmp_path / name, name)
    assert texts(tmp_path) == sorted(NAMES)
    for name in NAMES:
        assert texts(tmp_path / name) == [name]


def test_a_folder_whose_name_looks_like_a_pattern(tmp_path):
    write(tmp_path / "[2024] corpus" / "x.jsonl", "one", "two")
    write(tmp_path / "2 corpus" / "x.jsonl", "another")
    assert texts(tmp_path / "[2024] corpus") == ["one", "two"]
    assert texts(tmp_path / "[2024] corpus" / "x.jsonl") == ["one", "two"]
    assert texts(tmp_path / "* corpus" / "*.jsonl") == ["another", "one", "two"]


RECORDS = [{"text": "naïve", "n": 1}, {"text": "two\nlines", "n": 2}]


def as_lines(records):
    return "".join(json.dumps(each) + "\n" for each in records)


@pytest.mark.parametrize("name", ["a.jsonl", "A.JSONL", "a.ndjson", "a.NdJson", "a.json", "A.JSON"])
def test_records_are_read_where_the_ending_says_so(tmp_path, name):
    (tmp_path / name).write_text(as_lines(RECORDS))
    assert texts(tmp_path) == ["naïve", "two\nlines"]


def test_an_array_of_records_and_tables(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(RECORDS, indent=1))
    for name, delimiter in (("b.csv", ","), ("c.TSV", "\t")):
        with open(tmp_path / name, "w", newline="", encoding="utf-8-sig") as file:
            rows = csv.writer(file, delimiter=delimiter)
            rows.writerow(["text", "n"])
            rows.writerows([each["text"], each["n"]] for each in RECORDS)
    assert texts(tmp_path) == 3 * ["naïve"] + 3 * ["two\nlines"]


@pytest.mark.parametrize(("ending", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)])
def test_compressed_files_are_what_is_in_them(tmp_path, ending, pack):
    (tmp_path / f"a.jsonl.{ending}").write_bytes(pack(as_lines(RECORDS).encode()))
    (tmp_path / f"b.txt.{ending}").write_bytes(pack(b"plain"))
    assert texts(tmp_path) == ["naïve", "plain", "two\nlines"]


def test_an_archive_of_several_files(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("one.jsonl", as_lines(RECORDS))
        archive.writestr("two.txt", "plain")
    assert texts(tmp_path) == ["naïve", "plain", "two\nlines"]


@pytest.mark.parametrize(
    ("value", "kind"),
    [([1, 2], "a list of numbers"), ([{"role": "user", "content": "hi"}], "a list of records"), (3, "a number")],
)
def test_what_is_no_text_is_refused_with_its_first_value(tmp_path, value, kind):
    (tmp_path / "a.jsonl").write_text(as_lines([{"text": value}]))
    with pytest.raises(RequestError, match=rf"a\.jsonl.*'text'.*{kind} \({re.escape(repr(value)[:20])}"):
        texts(tmp_path)


def test_hidden_files_are_no_text_and_links_are_followed_once(with_hidden_files, capsys):
    assert texts(with_hidden_files) == ["linked", "seen"]
    said = capsys.readouterr().err
    assert "passed over" in said
    assert "hidden" in said


def test_a_bad_line_is_named_by_its_number_in_the_file(tmp_path):
    good = [json.dumps({"text": f"line {i}", "score": None}) for i in range(20_000)]
    (tmp_path / "a.jsonl").write_text("\n".join([*good, '{"text": oops}', ""]))
    with pytest.raises(JobError, match=r"a\.jsonl, line 20,001: expected a JSON object"):
        texts(tmp_path)


def test_a_column_that_changes_its_type_is_no_matter_where_it_is_not_read(tmp_path):
    lines = [{"text": "x" * 100, "score": None}] * 5_000 + [{"text": "last", "score": "a string"}]
    (tmp_path / "a.jsonl").write_text(as_lines(lines))
    assert len(texts(tmp_path)) == 5_001


def test_absent_texts_are_none(tmp_path):
    (tmp_path / "a.jsonl").write_text(as_lines([{"doc": None}, {"doc": {"text": "there"}}, {"doc": {"text": None}}]))
    assert texts(tmp_path, "doc.text") == ["there"]


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfplain")
    (tmp_path / "b.jsonl").write_bytes(b"\xef\xbb\xbf" + as_lines(RECORDS[:1]).encode())
    assert texts(tmp_path) == ["naïve", "plain"]


PICTURE = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0"


def test_a_picture_among_texts_is_passed_over_and_said(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("plain")
    (tmp_path / "shot.png").write_bytes(PICTURE)
    assert texts(tmp_path) == ["plain"]
    assert "shot.png" in capsys.readouterr().err
    with pytest.raises(RequestError, match=r"expected text, found"):
        texts(tmp_path / "shot.png")


def test_the_split_does_not_depend_on_how_a_folder_is_spelt(tmp_path, monkeypatch):
    write(tmp_path / "corpus" / "a.jsonl", *map(str, range(60)))
    (tmp_path / "link").symlink_to(tmp_path / "corpus")
    monkeypatch.chdir(tmp_path)
    keys = []
    for spelling in ("corpus", "./corpus", "corpus/", "corpus/.", "link", str(tmp_path / "corpus")):
        corpus = TextCorpus(spelling, "text", "", 0.3)
        keys.append([each.key for each in corpus.documents(Split.held_out, seed=0)])
    assert keys[0]
    assert all(each == keys[0] for each in keys)
