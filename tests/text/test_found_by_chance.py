"""Faults that folders made by chance (`tests/fuzz/data_folders.py`) have shown, one by one."""

import bz2
import gzip
import io
import json
import lzma
import os
import warnings
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sae_cli.config.split import Split
from sae_cli.errors import JobError, RequestError
from sae_cli.text.hub import HubCorpus
from sae_cli.text.local_text import TextCorpus


def read(path, column="text", domain=""):
    """Both splits of a text, to the end."""
    corpus = TextCorpus(str(path), column, domain, 0.5)
    return [document for split in Split for document in corpus.documents(split, seed=0)]


def texts(path, column="text"):
    return sorted(document.text for document in read(path, column))


def lines(*records):
    return "".join(json.dumps(each) + "\n" for each in records)


def archive(file, *members):
    with zipfile.ZipFile(file, "w") as opened, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a name that is there twice
        for name, content in members:
            opened.writestr(zipfile.ZipInfo(name), content)


@pytest.mark.parametrize("wrong", [{"text": 3}, {"text": "x", "set": [1]}])
@pytest.mark.parametrize("split", list(Split))
def test_what_is_no_text_is_refused_in_either_split(tmp_path, wrong, split):
    (tmp_path / "a.jsonl").write_text(lines(*[{"text": "x", "set": "s"}] * 3, wrong))
    corpus = TextCorpus(str(tmp_path), "text", "set", 0.5)
    with pytest.raises(RequestError, match=r"a\.jsonl, line 4: field '(text|set)': expected .*, found "):
        list(corpus.documents(split, seed=0))


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_a_damaged_file_of_utf_16_is_one_line_and_closed(tmp_path, name):
    text = lines({"text": "a"}) if name == "a.jsonl" else "text\na\n"
    (tmp_path / name).write_bytes(text.encode("utf-16") + b"x")
    with pytest.raises(JobError, match=rf"{name}: expected UTF-16 text, found byte 0x78 at {len(text) * 2 + 2}"):
        read(tmp_path)


def test_lines_of_utf_16_end_where_lines_end(tmp_path):
    values = ["one\u2028still one", "\U0001d518", "x" * 3_000_000]
    (tmp_path / "a.jsonl").write_bytes("".join(f'{{"text": "{each}"}}\n' for each in values).encode("utf-16"))
    assert texts(tmp_path) == sorted(values)
    next(TextCorpus(str(tmp_path), "text", "", 0.0).documents(Split.train, 0))  # and no more: the file is closed


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_a_number_that_python_does_not_read_is_one_line(tmp_path, name):
    (tmp_path / name).write_text(f'{{"text": "a", "n": {"1" * 5_000}}}')
    with pytest.raises(JobError, match=rf"{name}, line 1: expected a JSON object, found .*digits"):
        read(tmp_path)


def test_what_is_hidden_or_replaced_in_an_archive_is_said(tmp_path, capsys):
    hidden = [(f"__MACOSX/._{number}", "x") for number in range(20)]
    archive(tmp_path / "a.zip", ("one.txt", "older"), ("one.txt", "later"), (".", "x"), ("../up.txt", "x"), *hidden)
    assert texts(tmp_path) == ["later"]
    said = capsys.readouterr().err.splitlines()
    assert "passed over hidden files in archives (22): a.zip/." in said[-1] + said[-2]
    assert "passed over files in archives that later ones of the same name replace (1): a.zip/one.txt" in "".join(said)
    assert len(said) == 3


def test_many_pictures_are_one_line(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("text")
    for number in range(100):
        (tmp_path / f"{number:03}.png").write_bytes(b"\x89PNG\r\n\x1a\n\0")
    assert texts(tmp_path) == ["text"]
    first, last = capsys.readouterr().err.splitlines()
    assert first.endswith(".png") and "(1)" in first
    assert "passed over binary data, no text (100): 000.png, 001.png" in last and last.endswith("and 90 more")


def write_parquet(file, **columns):
    pq.write_table(pa.table(columns), file)


def test_strings_that_are_no_utf_8_are_one_line(tmp_path):
    wrong = pa.array([b"a", b"caf\xe9"], pa.binary()).view(pa.string())
    write_parquet(tmp_path / "a.parquet", text=wrong)
    with pytest.raises(JobError, match=r"a\.parquet, row 2: expected UTF-8 text, found byte 0xe9 at 3"):
        read(tmp_path)


@pytest.mark.parametrize("kind", [pa.date32(), pa.timestamp("s"), pa.timestamp("ns"), pa.time64("ns")])
def test_dates_are_no_text_even_those_that_python_does_not_know(tmp_path, kind):
    value = {pa.date32(): 2**30, pa.timestamp("s"): 2**52, pa.timestamp("ns"): 2**62 + 1}.get(kind, 1)
    write_parquet(tmp_path / "a.parquet", text=pa.array([value], kind))
    with pytest.raises(RequestError, match=r"a\.parquet, row 1: .*expected text, found .*; set data\.column="):
        read(tmp_path)


def test_a_wrong_field_beside_the_text_in_a_record_is_not_read(tmp_path):
    when = pa.array([2**30], pa.date32())
    doc = pa.StructArray.from_arrays([pa.array(["there"]), when], ["text", "when"])
    write_parquet(tmp_path / "a.parquet", doc=doc)
    assert texts(tmp_path, "doc.text") == ["there"]
    with pytest.raises(RequestError, match=r"expected a field 'doc\.words', found doc"):
        write_parquet(tmp_path / "a.parquet", doc=pa.array([{"text": "there"}]))
        read(tmp_path, "doc.words")


def test_of_two_columns_of_one_name_neither_is_taken(tmp_path):
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(RequestError, match=r"a\.parquet: expected one column 'text', found 2"):
        read(tmp_path)


@pytest.mark.parametrize("begin", ["BZhang went home.", "Rar! it said.", "PK", "7z is a format."])
def test_words_like_the_beginning_of_an_archive_are_text(tmp_path, begin):
    (tmp_path / "a.txt").write_text(begin)
    assert texts(tmp_path) == [begin]


def test_an_archive_without_an_ending_is_no_text(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    for number, pack in enumerate((gzip.compress, bz2.compress, lzma.compress)):
        (tmp_path / f"{number}").write_bytes(pack(b""))
        (tmp_path / f"{number}.bin").write_bytes(pack(b"some text"))
    assert texts(tmp_path) == ["text"]


def test_of_a_file_that_is_compressed_twice_one_is_read(tmp_path, capsys):
    (tmp_path / "a.txt.bz2").write_bytes(bz2.compress(b"once"))
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"once"))
    assert [document.key for document in read(tmp_path)] == ["a.txt.bz2"]
    assert "passed over copies of files beside them (1): a.txt.gz" in capsys.readouterr().err


def test_archives_of_a_data_set_are_read_as_those_of_a_text(tmp_path, capsys):
    hidden = [(f"__MACOSX/._{number}.jsonl", lines({"text": "hidden"})) for number in range(20)]
    archive(tmp_path / "a.zip", ("one.jsonl", lines({"text": "one"})), ("two.jsonl", lines({"text": "two"})), *hidden)
    (tmp_path / "one.jsonl").write_text(lines({"text": "one"}))
    corpus = HubCorpus(str(tmp_path), "", "train", "text", "", None, 10, 0.5)
    assert sorted(each.text for split in Split for each in corpus.documents(split, seed=0)) == ["one", "two"]
    said = capsys.readouterr().err
    assert "hidden files in archives (20)" in said and "beside them too (1): a.zip/one.jsonl" in said
    assert said.count("\n") == 3


@pytest.mark.parametrize("unpacked", ["sub/one.txt", "sub/corpus/one.txt"])
def test_what_is_unpacked_beside_its_archive_is_read_once(tmp_path, capsys, unpacked):
    """Or a held-out document would be in training under another name."""
    (tmp_path / unpacked).parent.mkdir(parents=True)
    (tmp_path / unpacked).write_text("one")
    archive(tmp_path / "sub" / "corpus.zip", ("one.txt", "one"), ("two.txt", "two"))
    assert texts(tmp_path) == ["one", "two"]
    assert (
        "passed over files in archives that are beside them too (1): sub/corpus.zip/one.txt" in capsys.readouterr().err
    )


def test_a_copy_of_a_file_of_two_names_is_a_copy(tmp_path):
    (tmp_path / "z.txt").write_text("once")
    os.link(tmp_path / "z.txt", tmp_path / "a.txt")
    (tmp_path / "z.txt.gz").write_bytes(gzip.compress(b"once"))
    assert texts(tmp_path) == ["once"]


@pytest.mark.parametrize("name", ["loop", ".loop"])
def test_a_link_to_itself_is_passed_over(tmp_path, name, capsys):
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / name).symlink_to(name)
    assert texts(tmp_path) == ["text"]
    assert f"(1): {name}" in capsys.readouterr().err


def test_a_link_to_one_compressed_file_of_records_is_read_as_that(tmp_path):
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines({"text": "one"}).encode()))
    (tmp_path / "latest.gz").symlink_to("a.jsonl.gz")
    assert read(tmp_path / "latest.gz") == read(tmp_path / "a.jsonl.gz")
    assert texts(tmp_path / "latest.gz") == ["one"]


def test_a_compressed_table_that_is_cut_off_is_one_line_and_closed(tmp_path):
    written = io.BytesIO()
    pq.write_table(pa.table({"text": ["a"]}), written)
    (tmp_path / "a.parquet.bz2").write_bytes(bz2.compress(written.getvalue())[:-3])
    with pytest.raises(JobError, match=r"a\.parquet\.bz2: expected a parquet file, found: "):
        read(tmp_path)


@pytest.mark.parametrize("link", [os.link, os.symlink])
@pytest.mark.parametrize("beside", ["a/one.txt", "b/one.txt", "b/again/one.txt"])
def test_an_archive_is_unpacked_beside_any_of_its_names(tmp_path, link, beside):
    for folder in ("a", "b/again"):
        (tmp_path / folder).mkdir(parents=True)
    archive(tmp_path / "a" / "corpus.zip", ("one.txt", "one"), ("two.txt", "two"))
    link(tmp_path / "a" / "corpus.zip", tmp_path / "b" / "again.zip")
    (tmp_path / beside).write_text("one")
    assert texts(tmp_path) == ["one", "two"]


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_what_is_unpacked_may_be_read_by_another_name(tmp_path, link):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "text.txt").write_text("one")
    archive(tmp_path / "corpus.zip", ("one.txt", "one"), ("two.txt", "two"))
    link(tmp_path / "a" / "text.txt", tmp_path / "one.txt")
    assert texts(tmp_path) == ["one", "two"]


@pytest.mark.parametrize("name", ["a.txt.zip", ".a.zip", "a.jsonl.zip"])
def test_what_is_no_archive_is_a_damaged_file_for_a_data_set_too(tmp_path, name):
    (tmp_path / name).write_bytes(b"\xef\xbb\xbfx")
    for read_by in (lambda: TextCorpus(str(tmp_path / name), "text", "", 0.3),
                    lambda: HubCorpus(str(tmp_path / name), "", "train", "text", "", None, 10, 0.3)):  # fmt: skip
        with pytest.raises(JobError, match="zip"):
            list(read_by().documents(Split.train, seed=0))
