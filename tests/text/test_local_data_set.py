"""data=hf in local folders and files: every document once, and split alike however the folder is spelt."""

import bz2
import gzip
import json
import lzma
import os
import re
import shutil
import zipfile

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sae_cli.config.split import Split
from sae_cli.errors import JobError, RequestError
from sae_cli.text.hub import HubCorpus
from sae_cli.text.local_text import TextCorpus


def corpus(path, column="text", *, subset="", split="train", domain="", fraction=0.4):
    return HubCorpus(str(path), subset, split, column, domain, None, 7, fraction)


def sides(path, column="text", **more):
    """The texts of training and those that are held out."""
    return [{each.text for each in corpus(path, column, **more).documents(split, seed=0)} for split in Split]


def texts(path, column="text", **more):
    """All of them, each as often as it is read."""
    whole = corpus(path, column, **more)
    found = [each for split in Split for each in whole.documents(split, seed=0)]
    assert len({each.key for each in found}) == len(found)
    return sorted(each.text for each in found)


def lines(*values):
    return "".join(json.dumps({"text": value}) + "\n" for value in values)


def write(file, *values):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(lines(*values))
    return file


def test_however_a_folder_is_spelt_the_same_documents_are_held_out(tmp_path, monkeypatch):
    for name in ("hf/a.jsonl", "hf/deep/b.jsonl"):
        write(tmp_path / name, *(f"{name} {i}" for i in range(30)))
    (tmp_path / "link").symlink_to(tmp_path / "hf")
    (tmp_path / "elsewhere").mkdir()
    shutil.copytree(tmp_path / "hf", tmp_path / "elsewhere" / "moved")
    monkeypatch.chdir(tmp_path)
    train, held_out = sides("hf")
    assert len(train) + len(held_out) == 60 and held_out
    for spelling in ("./hf", "hf/", "hf/.", "elsewhere/../hf", "link", "elsewhere/moved", str(tmp_path / "hf")):
        assert sides(spelling) == [train, held_out], spelling
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert sides("../hf") == [train, held_out]
    assert sides(tmp_path / "hf" / "a.jsonl")[1] == {each for each in held_out if each.startswith("hf/a.jsonl")}


def test_local_text_and_a_local_data_set_are_split_alike(tmp_path):
    write(tmp_path / "a.jsonl", *map(str, range(50)))
    as_text = TextCorpus(str(tmp_path), "text", "", 0.4)
    assert {each.key for each in as_text.documents(Split.held_out, 0)} == {
        each.key for each in corpus(tmp_path).documents(Split.held_out, 0)
    }


NAMES = ["part 1.jsonl", "part [1].jsonl", "b [x].jsonl", "a*b.jsonl", "what?.jsonl", "{a,b}.jsonl", "c::d.jsonl"]
NAMES += ["line\nend.jsonl", "[!a]/c.jsonl", "A.JSONL", "a.NdJson", "café.jsonl", os.fsdecode(b"caf\xe9.jsonl")]


def test_a_name_is_no_pattern(tmp_path):
    for n, name in enumerate(NAMES):
        write(tmp_path / name, str(n))
    assert texts(tmp_path) == sorted(map(str, range(len(NAMES))))
    for n, name in enumerate(NAMES):
        assert texts(tmp_path / name) == [str(n)]


def test_a_folder_whose_name_looks_like_a_pattern(tmp_path):
    write(tmp_path / "[2024] corpus" / "x.jsonl", "one")
    write(tmp_path / "2 corpus" / "x.jsonl", "another")
    assert texts(tmp_path / "[2024] corpus") == ["one"]


def test_hidden_files_are_no_text_and_links_are_followed_once(with_hidden_files, capsys):
    assert texts(with_hidden_files) == ["linked", "seen"]
    said = capsys.readouterr().err
    assert "passed over hidden" in said and "passed over links" in said


def test_splits_are_told_by_the_names_of_files(tmp_path, capsys):
    for name in ("train [1].jsonl", "data.train.2.jsonl", "test.jsonl", "extra.jsonl"):
        write(tmp_path / name, name)
    assert texts(tmp_path) == ["data.train.2.jsonl", "train [1].jsonl"]
    assert texts(tmp_path, split="test") == ["test.jsonl"]
    assert "extra.jsonl" in capsys.readouterr().err
    with pytest.raises(RequestError, match=r"expected data\.split=test or train, found data\.split=dev"):
        texts(tmp_path, split="dev")


CARD = """---
configs:
- config_name: one
  data_files: "d/*.csv"
  sep: ";"
- config_name: two
  data_files: notes.txt
  sample_by: paragraph
---
"""


def test_what_the_card_of_a_data_set_says(tmp_path):
    (tmp_path / "README.md").write_text(CARD)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.csv").write_text("text;n\nNA;1\n007;2\n")
    with pytest.raises(RequestError, match=r"Please pick one among the available configs: \['one', 'two'\]$"):
        texts(tmp_path)
    assert texts(tmp_path, subset="one") == ["007", "NA"]
    with pytest.raises(RequestError, match="'three' not found"):
        texts(tmp_path, subset="three")


def test_what_only_the_library_reads_is_split_alike_wherever_it_is(tmp_path):
    for place in ("a", "b/c"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "README.md").write_text(
            '---\nconfigs:\n- config_name: default\n  data_files: "*.txt"\n  sample_by: paragraph\n---\n'
        )
        (tmp_path / place / "x.txt").write_text("\n\n".join(f"one {i}\ntwo" for i in range(40)))
    train, held_out = sides(tmp_path / "a")
    assert len(train) + len(held_out) == 40 and held_out and "one 3\ntwo" in train | held_out
    assert sides(f"{tmp_path}/b/../b/c/") == [train, held_out]
    with pytest.raises(RequestError, match=r"expected a field 'body', found text; set data\.column="):
        texts(tmp_path / "a", "body")


@pytest.mark.parametrize("of_splits", [False, True])
def test_a_saved_data_set(tmp_path, of_splits):
    datasets.disable_progress_bars()
    values = [{"doc": {"text": str(i)}} for i in range(20)]
    saved = datasets.Dataset.from_list(values)
    if of_splits:
        both = datasets.DatasetDict({"train": saved, "test": saved})
        both.save_to_disk(tmp_path / "d", num_shards={"train": 2, "test": 1})
    else:
        saved.save_to_disk(tmp_path / "d", num_shards=2)
    # What the library remembers of a map over it.
    folder = tmp_path / "d" / "train" if of_splits else tmp_path / "d"
    shutil.copy(folder / "data-00000-of-00002.arrow", folder / "cache-0123.arrow")
    assert texts(tmp_path / "d", "doc.text") == sorted(map(str, range(20)))
    os.rename(tmp_path / "d", tmp_path / "moved")
    assert sides(tmp_path / "moved", "doc.text")[1]
    os.unlink(tmp_path / "moved" / folder.relative_to(tmp_path / "d") / "data-00001-of-00002.arrow")
    with pytest.raises(JobError, match=r"data-00001-of-00002\.arrow: expected a file of a saved data set, found none"):
        texts(tmp_path / "moved", "doc.text")


def test_a_bad_line_is_named_by_its_number_in_the_file(tmp_path):
    good = [json.dumps({"text": f"line {i}", "score": None}) for i in range(20_000)]
    (tmp_path / "a.jsonl").write_text("\n".join([*good, '{"text": oops}', ""]))
    with pytest.raises(JobError, match=r"a\.jsonl, line 20,001: expected a JSON object"):
        texts(tmp_path)


def test_a_column_that_changes_its_type_is_no_matter_where_it_is_not_read(tmp_path):
    records = [{"text": "x" * 100, "score": None}] * 5_000 + [{"text": "last", "score": "a string"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
    assert len(texts(tmp_path)) == 5_001


def test_absent_texts_byte_order_marks_and_pictures(tmp_path, capsys):
    (tmp_path / "a" / "x").mkdir(parents=True)
    (tmp_path / "a" / "a.jsonl").write_text(
        '\ufeff{"doc": null}\n{"doc": {"text": "there"}}\n{"doc": {"text": null}}\n'
    )
    (tmp_path / "a" / "x" / "shot.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    assert texts(tmp_path / "a", "doc.text") == ["there"]
    assert "x/shot.png" in capsys.readouterr().err
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "a.txt").write_text("\ufeffone\r\n\r\ntwo\n")
    (tmp_path / "b" / "c.txt").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    assert texts(tmp_path / "b") == ["one", "two"]
    assert "passed over binary data, no text (1): c.txt" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "kind"),
    [([1, 2], "a list of numbers"), ([{"role": "user", "content": "hi"}], "a list of records"), (3, "a number")],
)
def test_what_is_no_text_is_refused_with_its_first_value(tmp_path, value, kind):
    write(tmp_path / "a.jsonl", value)
    with pytest.raises(RequestError, match=rf"a\.jsonl.*'text'.*{kind} \({re.escape(repr(value)[:20])}"):
        texts(tmp_path)


def lz4(content):
    return pa.Codec("lz4").compress(content, asbytes=True)


PACKED = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "lz4": lz4}


def test_compressed_files_are_what_is_in_them(tmp_path):
    for ending, pack in PACKED.items():
        (tmp_path / f"{ending}.jsonl.{ending.upper()}").write_bytes(pack(lines(ending).encode()))
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("one.jsonl", lines("zip"))
        archive.writestr("two.png", b"\0")
    assert texts(tmp_path) == sorted([*PACKED, "zip"])


def test_damage_is_one_line(tmp_path):
    pq.write_table(pa.table({"text": ["a"] * 1000}), tmp_path / "a.parquet")
    with open(tmp_path / "a.parquet", "r+b") as file:
        file.truncate(300)
    with pytest.raises(JobError, match=r"a\.parquet: expected a parquet file, found"):
        texts(tmp_path)
    (tmp_path / "README.md").write_text("---\nconfigs: [a: b: c\n---\n")
    with pytest.raises(RequestError, match=r"^data\.path=.*: while parsing a flow sequence"):
        texts(tmp_path)
