"""Text from the standard library, local files and data sets."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sae_cli.config.split import Split
from sae_cli.errors import JobError, RequestError
from sae_cli.text.hub import HubCorpus
from sae_cli.text.installed import InstalledCorpus
from sae_cli.text.local_text import TextCorpus
from sae_cli.text.python_files import docstrings
from sae_cli.text.stdlib import StdlibCorpus

RECORDS = [{"text": f"document number {i}", "meta": {"set": "even" if i % 2 == 0 else "odd"}} for i in range(200)]


def both_splits(corpus, seed=0):
    return [list(corpus.documents(split, seed)) for split in Split]


def test_stdlib_is_split_by_path_and_reads_real_sources():
    train, held_out = both_splits(StdlibCorpus(tests=False, exclude=["encodings/*"], held_out_fraction=0.05))
    by_key = {document.key: document for document in train + held_out}
    assert len(by_key) == len(train) + len(held_out)
    assert "def dumps(" in by_key["json/__init__.py"].text
    assert by_key["json/decoder.py"].domain == "json" and by_key["ast.py"].domain == "ast"
    assert not any(key.startswith(("encodings/", "test/", "site-packages/")) for key in by_key)
    assert 0.01 < len(held_out) / len(by_key) < 0.12


def test_stdlib_order_is_a_function_of_the_seed():
    corpus = StdlibCorpus(tests=False, exclude=[], held_out_fraction=0.5)
    keys = [[d.key for d in corpus.documents(Split.train, seed)] for seed in (0, 0, 1)]
    assert keys[0] == keys[1] != keys[2]
    assert sorted(keys[0]) == sorted(keys[2])


def test_installed_packages_are_split_by_path_and_a_package_is_a_domain():
    train, held_out = both_splits(InstalledCorpus(prose=False, exclude=["torch/*"], held_out_fraction=0.05))
    by_key = {document.key: document for document in train + held_out}
    assert len(by_key) == len(train) + len(held_out)
    assert "def raises(" in by_key["_pytest/raises.py"].text and by_key["_pytest/raises.py"].domain == "_pytest"
    assert not any(key.startswith("torch/") for key in by_key) and "numpy/__init__.py" in by_key


def test_the_prose_of_installed_packages():
    train, held_out = both_splits(InstalledCorpus(prose=True, exclude=["[a-z]*"], held_out_fraction=0.05))
    by_key = {document.key: document.text for document in train + held_out}
    text = by_key["_pytest/fixtures.py"]
    assert "Return a list of all fixtures" in text or "fixture" in text
    assert "import " not in text.split("\n")[0]


SOURCE = '''"""Of the module.

More of it."""
import x

class A:
    """One line is left out."""

    def f(self):
        """What f does.

        Indented.
        """
        return "no docstring,\\n\\nthough of three lines"

    async def g(self): "And g,\\nover two."
'''


def test_the_docstrings_of_a_source():
    expected = "Of the module.\n\nMore of it.\n\nWhat f does.\n\nIndented.\n\nAnd g,\nover two."
    assert docstrings(SOURCE) == expected
    assert docstrings("def broken(:") == "" == docstrings("x = 1") == docstrings("a\0b")


def write_jsonl(path):
    path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))


def write_parquet(path):
    pq.write_table(pa.Table.from_pylist(RECORDS), path)


@pytest.mark.parametrize(("name", "write"), [("a.jsonl", write_jsonl), ("a.parquet", write_parquet)])
def test_tables_give_the_same_documents_and_domains(tmp_path, name, write):
    write(tmp_path / name)
    train, held_out = both_splits(TextCorpus(str(tmp_path), "text", "meta.set", 0.2))
    assert sorted(d.text for d in train + held_out) == sorted(r["text"] for r in RECORDS)
    assert {d.domain for d in train} == {"even", "odd"}
    assert held_out and len(held_out) < len(train)


def test_plain_files_by_glob_and_folder_have_the_same_split(tmp_path):
    for i in range(30):
        (tmp_path / f"{i}.txt").write_text(f"text {i}")
    (tmp_path / "notes.md").write_text("more")
    by_folder = both_splits(TextCorpus(str(tmp_path), "text", "", 0.3))
    by_glob = both_splits(TextCorpus(str(tmp_path / "*.txt"), "text", "", 0.3))
    assert {d.key for d in by_glob[1]} == {d.key for d in by_folder[1]} - {"notes.md"}


def test_a_copy_elsewhere_is_read_in_the_same_order(tmp_path, monkeypatch):
    for place in ("here", "elsewhere/copy"):
        for folder in ("a", "b"):
            (tmp_path / place / folder).mkdir(parents=True)
            for i in range(10):
                (tmp_path / place / folder / f"{i}.txt").write_text(f"text {i} of {folder}")
    monkeypatch.chdir(tmp_path)
    paths = ("here", "elsewhere/copy", str(tmp_path / "here"), "./here/*/*.txt", str(tmp_path / "here" / "**"))
    first, *others = [both_splits(TextCorpus(path, "text", "", 0.3)) for path in paths]
    assert all(each == first for each in others)
    assert len({document.key for split in first for document in split}) == 20


def test_a_long_file_is_cut_at_blank_lines(tmp_path):
    text = "".join(f"paragraph {i} " + "word " * 200 + "\n\n" for i in range(3000))
    (tmp_path / "book.txt").write_text(text)
    train, held_out = both_splits(TextCorpus(str(tmp_path / "book.txt"), "text", "", 0.3))
    documents = sorted(train + held_out, key=lambda d: int(d.key.split(":")[1]))
    assert "".join(d.text for d in documents) == text
    assert train and held_out
    assert all(d.text.startswith("paragraph") for d in documents)


def test_hub_reads_a_local_data_set(tmp_path):
    write_parquet(tmp_path / "train-00000-of-00001.parquet")
    corpus = HubCorpus(str(tmp_path), "", "train", "text", "meta.set", None, 50, 0.2)
    (train, held_out), again, other = both_splits(corpus, 0), both_splits(corpus, 0), both_splits(corpus, 1)
    assert sorted(d.text for d in train + held_out) == sorted(r["text"] for r in RECORDS)
    assert again == [train, held_out]
    assert [d.key for d in other[0]] != [d.key for d in train]
    assert {d.key for d in other[1]} == {d.key for d in held_out}


@pytest.mark.parametrize(
    ("make", "kind", "says"),
    [
        (lambda p: TextCorpus(str(p / "none*"), "text", "", 0.1), RequestError, "found no file"),
        (lambda p: list(TextCorpus(str(p), "body", "", 0.1).documents(Split.train, 0)), RequestError, "'body'"),
        (lambda p: list(HubCorpus(str(p / "no"), "", "train", "text", "", None, 9, 0.1).documents(Split.train, 0)),
         RequestError, "data.path="),
        (lambda p: list(HubCorpus(str(p), "", "nosplit", "text", "", None, 9, 0.1).documents(Split.train, 0)),
         RequestError, "nosplit"),
        (lambda p: list(HubCorpus(str(p), "", "train", "body", "", None, 9, 0.1).documents(Split.train, 0)),
         RequestError, "'body'"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_named(tmp_path, make, kind, says):
    write_jsonl(tmp_path / "a.jsonl")
    with pytest.raises(kind, match=says):
        make(tmp_path)


def test_bytes_that_are_no_text_are_named(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"abc\xff")
    with pytest.raises(JobError, match=r"a\.txt: expected UTF-8 text, found byte 0xff at 3"):
        list(TextCorpus(str(tmp_path), "text", "", 0.1).documents(Split.train, 0))


@pytest.mark.parametrize("content", ["", "\n\n", '{"text": null}\n{"text": ""}\n'])
def test_records_without_text_are_no_documents(tmp_path, content):
    (tmp_path / "a.jsonl").write_text(content)
    assert both_splits(TextCorpus(str(tmp_path), "text", "", 0.2)) == [[], []]


def test_a_data_set_of_empty_files_has_no_documents(tmp_path):
    (tmp_path / "a.jsonl").write_text("")
    assert both_splits(HubCorpus(str(tmp_path), "", "train", "text", "", None, 10, 0.2)) == [[], []]
