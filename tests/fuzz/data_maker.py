"""Folders made by chance, with all that is met in other people's folders of text."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyarrow as pa
from data_files import (
    BINARIES,
    ENCODINGS,
    FORMS,
    Archive,
    Binary,
    Damaged,
    File,
    Line,
    Mislabeled,
    Packed,
    Parquet,
    Records,
    Settings,
    ShufflePlan,
    Text,
    is_of_kind,
)
from data_trees import Folder

STEMS = [
    "a", "b", "part 1", "part [1]", "[!a]", "a*b", "what?", "{a,b}", "naïve", "nai\u0308ve", "日本語", "𝔘𝔫𝔦", "-x",
    "a.b.c", "a..", "it's", 'do"uble', "$HOME", "%20", "#1", "a:b", "back\\slash", "tab\tx", "line\nend", "caf\udce9",
    "~", "~root", "x" * 230, "日" * 76, " blank ", "A", "**", "train", "test", "validation", "README", "dataset", "a@b",
    "a=b,c", "\u202eabc",
]  # fmt: skip
HIDDEN = [".git", ".below", ".ipynb_checkpoints", ".cache", ".hidden x", "._a", "..."]
ENDINGS = [".txt", ".txt", ".md", ".TXT", ".log", "", ".py", ".html", ".", ".1", ".jsonl.bak", ".text"]
_SPLITS = {"train", "test", "validation", "README"}
"""Names that mean something to a data set."""
PACKED = [".gz", ".bz2", ".xz", ".zst", ".GZ"]


class Maker:
    """Makes one folder by chance; every text in it is another, but for some that are meant to be alike.

    Args:
        rng: the chance.
        kind: of a data set, all of whose files are of one kind; empty for a folder of text.
    """

    def __init__(self, rng: random.Random, kind: str = "") -> None:
        self._rng, self._kind = rng, kind
        self._stems = [stem for stem in STEMS if not kind or stem not in _SPLITS]
        self._texts: list[str] = []
        self._long = False
        column = rng.choices(("text", "doc.text", "body", "content text"), (80, 12, 4, 4))[0]
        if kind == "text":
            self._settings = Settings(lines=True)
            return
        self._settings = Settings(column, rng.choices(("", "set"), (88, 12))[0], rng.choice((64_000, 64_000, 40)))

    def folder(self) -> Folder:
        rng = self._rng
        files: dict[str, File] = {}
        faults = rng.choices((0, 1, 2), (70, 24, 6))[0]
        for number in range(rng.choice((0, 1, 1, 2, 3, 4, 5, 6, 8, 10))):
            file = self._of_kind(self._faulty if number < faults else self._sound)
            _add(files, self._name(file.ending), file)
        if faults == 0 and rng.random() < 0.12:
            damaged = Damaged(self._of_kind(self._sound), rng.randrange(2**32))
            _add(files, self._name(damaged.ending), damaged)
        for name in rng.sample(sorted(files), min(len(files), rng.choice((0, 0, 0, 1, 2)))):
            self._copy(files, name)
        if rng.random() < 0.4:
            for _ in range(rng.randint(1, 3)):
                file = self._of_kind(self._sound)
                _add(files, f"../elsewhere/{self._name(file.ending)}", file)
        if self._kind and len(files) > 1:
            _add(files, "picture.png", Binary(BINARIES[".png"], ".png"))
        files["../a corpus/decoy.txt"] = Text((self._text(),))
        links, hard = self._links(files) if rng.random() < 0.4 else ((), ())
        odd = tuple(f"odd {n}" for n in range(rng.randint(1, 2))) if rng.random() < 0.06 else ()
        return Folder(
            name=rng.choice([*STEMS[:27], *HIDDEN[:4], "[ab] corpus", "corpus.jsonl", "data.zip", "x.txt"]),
            files=tuple(files.items()),
            links=links,
            hard=hard,
            odd=odd,
            settings=self._settings,
            kind=self._kind,
            fraction=rng.choice((0.05, 0.3, 0.3, 0.5, 0.0)),
            block=2**20 if self._long else rng.choice((2**20, 2**20, 4, 5, 37)),
        )

    def _name(self, ending: str) -> str:
        rng = self._rng
        parts = [rng.choice(self._stems[:24]) for _ in range(rng.choices((0, 1, 2, 3), (55, 30, 10, 5))[0])]
        if rng.random() < 0.07:
            parts.insert(rng.randrange(len(parts) + 1), rng.choice(HIDDEN))
        stem = rng.choice(self._stems)
        if rng.random() < 0.4:
            stem += str(rng.randrange(100))
        if rng.random() < 0.05:
            stem = f".{stem}"
        if ending and rng.random() < 0.12:
            ending = rng.choice((ending.upper(), ending.title()))
        while len(os.fsencode(stem + ending)) > 255:
            stem = stem[1:]
        return "/".join((*parts, f"{stem}{ending}" if stem + ending not in ("..", ".") else "a"))

    def _copy(self, files: dict[str, File], name: str) -> None:
        """An editor's copy of a file, a compressed one, an archive of it, or a second file of the same content."""
        file, by = files[name], self._rng.choice((*PACKED, "~", ".zip", "/", "unpacked", "packed twice"))
        folder, _, last = name.rpartition("/")
        other = f"{folder}/again {last}".lstrip("/") if by == "/" else name + by
        if self._kind and by in (".zip", "unpacked"):
            return
        if len(os.fsencode(last)) > 240 or (
            isinstance(file, Packed | Archive | Mislabeled | Damaged | ShufflePlan) and by != "/"
        ):
            return
        inner = last.encode("utf-8", "replace").decode()
        if by == "unpacked":
            also = (self._sound(), self._records())
            bundle = Archive(((inner, file), *((self._name(each.ending), each) for each in also)))
            bundle = replace(
                bundle, members=tuple((n.encode("utf-8", "replace").decode(), f) for n, f in bundle.members)
            )
            _add(files, f"{folder}/bundle.zip".lstrip("/"), bundle)
            _add(files, f"{folder}/bundle/{inner}".lstrip("/"), file)
            return
        if by == "packed twice":
            del files[name]
            for each in self._rng.sample(PACKED, 2):
                _add(files, name + each, Packed(file, each))
            return
        made = Text((self._text(),), "~") if by == "~" else Packed(file, by) if by in PACKED else file
        _add(files, other, Archive(((inner, file),)) if by == ".zip" else made)

    def _links(self, files: dict[str, File]) -> tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]:
        rng, links, hard = self._rng, [], []
        folders = {"/".join(name.split("/")[:depth]) for name in files for depth in range(1, name.count("/") + 1)}
        inside = sorted({"", *(each for each in folders if not each.startswith("../"))})
        above = set() if self._kind else {"..", "../../"}
        anywhere = sorted((folders - {"../a corpus", ".."}) | above | {".", "nowhere", "../nowhere"})
        names = sorted(name for name in files if "corpus/decoy" not in name)
        for number in range(rng.randint(1, 4)):
            where = rng.choice([each for each in inside if each not in names])
            if names and rng.random() < 0.5:
                target = rng.choice(names)
                name, made = f"link {number}{files[target].ending}", hard if rng.random() < 0.2 else links
            else:
                target, name, made = rng.choice(anywhere), f"link {number}", links
            if rng.random() < 0.1:
                name = f".{name}"
            if rng.random() < 0.06 and made is links:
                target = f"{where}/{name}".lstrip("/")  # itself
            made.append((f"{where}/{name}".lstrip("/"), target))
        return tuple(links), tuple(hard)

    def _of_kind(self, make: Callable[[], File]) -> File:
        while True:
            file = make()
            if not self._kind or is_of_kind(file, self._kind):
                return file

    def _sound(self) -> File:
        """A file that is read, or passed over."""
        rng = self._rng
        kind = rng.random()
        if kind < 0.3:
            file = self._prose()
        elif kind < 0.4:
            ending = rng.choice(list(BINARIES))
            return Binary(BINARIES[ending], ending)
        elif kind < 0.5:
            return self._archive()
        elif kind < 0.63:
            file = self._parquet()
        else:
            file = self._records()
        return Packed(file, rng.choice(PACKED), rng.choice((1, 1, 2, 3))) if rng.random() < 0.2 else file

    def _prose(self) -> Text:
        rng = self._rng
        parts = tuple(self._text() + "\n" * rng.randint(0, 3) for _ in range(rng.choice((0, 1, 1, 2, 4))))
        if rng.random() < 0.02:
            self._long = True
            long = [
                self._text() + " word" * rng.randint(0, 4_000) + rng.choice(("\n\n", "\n", "\n \t\n\n"))
                for _ in range(30)
            ]
            parts = (*parts, *long)
        if rng.random() < 0.03:  # a character of several bytes where the first ones end that are looked at
            self._long = True
            parts = ("x" * rng.randrange(8_185, 8_192) + "é日𝔘" * 3, *parts)
        if rng.random() < 0.02:
            parts = (rng.choice(("BZhang", "Rar! ", "PK", "7z", "\x1b[1m", "\x01", "%PDF")), *parts)
        encodings = [each for each in ENCODINGS if each not in ("latin-1", "odd utf-16")]
        encoding = rng.choices(encodings, (70, 10, 8, 4, 4, 4))[0]
        if rng.random() < 0.02:
            encoding, parts = "utf-8", ("nul \0", *parts)
        return Text(parts, rng.choice(ENDINGS), encoding, rng.choice(("\n", "\n", "\n", "\r\n", "\r")))

    def _text(self, simple: bool = False) -> str:
        rng = self._rng
        if self._texts and rng.random() < 0.04:
            return rng.choice(self._texts)
        more = rng.choice(
            (
                "",
                "",
                "naïve 日本語 𝔘",
                'a "quoted", word',
                "two\nlines",
                "a\ttab",
                " line\u2028sep\x85\x0b\x0c",
                "'",
                "{}",
                "[1]",
            )
        )
        text = f"document {len(self._texts)} {rng.randrange(10**6)} {more}"
        text = rng.choice((text, text, text, f"  {text}", f"{text} ", f'"{text}'))
        if not simple:
            self._texts.append(text)
            return text
        return rng.choice((text, text, f"{text}\rreturn", f"\ufeff{text}", f"{text}\r\nline"))

    def _value(self, json: bool) -> Any:
        rng = self._rng
        if json and rng.random() < 0.05:
            half = rng.choice(("\ud83d", "\udc00", "\0", "\udc00\ud800", "\ud83d\ud83d"))
            return rng.choice((f"{half}{self._text()}", f"{self._text()} {half}"))
        return rng.choices((self._text(simple=rng.random() < 0.1), None, "", " ", "\n"), (86, 5, 4, 3, 2))[0]

    def _rows(self, json: bool, most: int = 6) -> list[dict[str, Any]]:
        rng = self._rng
        rows = []
        nested = json and "." in self._settings.column and rng.random() < 0.7
        lacks = json and rng.random() < 0.15
        for number in range(rng.choice((0, *range(1, most + 1), most * 4))):
            row: dict[str, Any] = {"id": number}
            if not lacks or number == 0 or rng.random() < 0.6:
                row |= self._nested(rng, self._value(json)) if nested else {self._settings.column: self._value(json)}
            if self._settings.domain and (number == 0 or not lacks or rng.random() < 0.7):
                row["set"] = rng.choice(("even", "odd", "a b", 3, 1.5, None, True) if json else ("even", "odd", "3"))
            if json and rng.random() < 0.3:
                row |= rng.choice(
                    ({"score": None}, {"score": "high"}, {"score": 3}, {"ids": [1, 2]}, {"chat": [{"role": "user"}]})
                )
            rows.append(dict(rng.sample(sorted(row.items()), len(row))))
        return rows

    def _nested(self, rng: random.Random, value: Any) -> dict[str, Any]:
        return {"doc": rng.choices(({"text": value, "n": 1}, None), (9, 1))[0]}

    def _records(self) -> Records:
        rng = self._rng
        ending = rng.choice((".jsonl", ".jsonl", ".ndjson", ".jsonlines", ".json", ".json", ".csv", ".tsv"))
        json = FORMS[ending] in ("lines", "json")
        layouts = {"lines": ("lines", "lines", "list"), "json": ("lines", "list", "indented list", "indented")}
        layout = rng.choice(layouts.get(FORMS[ending], ("lines",)))
        rows: list[Any] = self._rows(json)
        if rng.random() < 0.1 and "list" not in layout:
            rows.insert(rng.randrange(1, len(rows) + 1) if rows else 0, Line(""))
        encodings = list(ENCODINGS)[:5]
        return Records(
            tuple(rows),
            ending,
            rng.choices(encodings, (70, 12, 10, 4, 4))[0],
            rng.choice(("\n", "\n", "\r\n")),
            layout,
            rng.random() < 0.8,
            rng.random() < 0.3,
        )

    def _parquet(self) -> Parquet:
        rng = self._rng
        rows = self._rows(json=False)
        types: dict[str, Any] = {}
        if rng.random() < 0.5:
            types[self._settings.column] = rng.choice(
                (pa.large_string(), pa.dictionary(pa.int32(), pa.string()), pa.string_view(), pa.string())
            )
        if "." in self._settings.column and rng.random() < 0.6:
            types.pop(self._settings.column, None)
            rows = [
                {"doc": {"text": row.pop(self._settings.column), "n": 1} if rng.random() < 0.9 else None, **row}
                for row in rows
            ]
        extra = rng.choice(_EXTRA_COLUMNS)
        for row in rows if extra else ():
            row[extra[0]] = extra[2]
        types |= {extra[0]: extra[1]} if extra and rows else {}
        if not rows:
            types = {}
        codec = rng.choice(("snappy", "zstd", "gzip", "none", "lz4", "brotli"))
        return Parquet(
            tuple(rows),
            rng.choice((".parquet", ".parquet", ".pq")),
            tuple(types.items()),
            codec,
            rng.choice((1, 2, 1_000)),
        )

    def _archive(self) -> Archive:
        rng = self._rng
        members: list[tuple[str, File]] = []
        for _ in range(rng.choice((0, 1, 1, 2, 4))):
            file = rng.choice((self._prose, self._records, self._parquet))()
            name = self._name(file.ending).encode("utf-8", "replace").decode()
            members.append(
                (rng.choice((name, name, name, f"./{name}", f"/{name}", f"../{name}", f"__MACOSX/._{name}")), file)
            )
        if members and rng.random() < 0.05:
            members.append((members[0][0], self._prose() if members[0][1].ending not in FORMS else members[0][1]))
        if rng.random() < 0.1:
            members.append(("picture.png", Binary(BINARIES[".png"], ".png")))
        return Archive(tuple((name, file) for name, file in members if "\0" not in name))

    def _faulty(self) -> File:
        """A file that must be refused."""
        rng = self._rng
        made: Callable[[], File] = rng.choice(
            (self._wrong_value, self._wrong_value, self._bad_line, self._no_column, self._bad_encoding,
             self._bad_parquet, self._bad_parquet, self._bad_packing, self._bad_domain, self._twice)
        )  # fmt: skip
        return made()

    def _inserted(self, file: Records, row: Any) -> Records:
        at = self._rng.randint(0, len(file.rows))
        return replace(file, rows=(*file.rows[:at], row, *file.rows[at:]))

    def _json_file(self) -> Records:
        while (file := self._records()).form == "table":
            pass
        return file

    def _wrong_value(self) -> File:
        value = self._rng.choice(
            (3, 1.5, True, [1, 2, 3], [], [{"role": "user", "content": "hi"}], {"a": "b"}, ["a"], {})
        )
        return self._inserted(self._json_file(), {"id": 0, self._settings.column: value, "set": "even"})

    def _bad_line(self) -> File:
        lines = [
            '{"text": oops}',
            '{"text": "cut',
            "[1, 2]",
            "3",
            '"text"',
            "null",
            "<html>",
            "{" * 2_000,
            "[" * 100_000,
        ]
        lines += [
            '{"text": "a", "n": ' + "1" * 5_000 + "}",
            '{"text": "raw \t tab"}',
            '{"text": "\\ud83"}',
            "{'text': 'a'}",
        ]
        if self._rng.random() < 0.3:
            row = {self._settings.column: self._text(), "set": "even", "id": 1}
            bad = Line(self._rng.choice(('"unclosed', ",\t" * 50, f'{",".join(row)},"a"b')))
            return Records((row, bad), self._rng.choice((".csv", ".tsv")))
        return self._inserted(self._json_file(), Line(self._rng.choice(lines)))

    def _no_column(self) -> File:
        rows = tuple({"sentence": self._text(), "set": "odd"} for _ in range(self._rng.randint(1, 4)))
        if self._rng.random() < 0.3:
            return Parquet(rows)
        return Records(rows, self._rng.choice((".jsonl", ".json", ".csv", ".tsv")))

    def _bad_encoding(self) -> File:
        encoding = self._rng.choice(("latin-1", "latin-1", "odd utf-16", "bare utf-16"))
        if encoding != "bare utf-16" and self._rng.random() < 0.5:
            return Text((self._text(),), ".txt", encoding)
        row = {"id": 1, self._settings.column: self._text(), "set": "even"}
        return Records((row,), self._rng.choice((".jsonl", ".json", ".csv", ".tsv")), encoding)

    def _bad_parquet(self) -> File:
        rng, column = self._rng, self._settings.column
        if rng.random() < 0.15:
            return Binary(
                rng.choice((b"", b"PAR1", b"PAR1" + bytes(20) + b"PAR1", b"no parquet")), ".parquet", "no parquet"
            )
        if rng.random() < 0.25:
            return Parquet(({column: "x", "set": "odd"},), wrong=column)
        kind, value = rng.choice(_WRONG_COLUMNS)
        return Parquet(({column: value, "set": "odd"}, {column: value, "set": "odd"}), types=((column, kind),))

    def _bad_packing(self) -> File:
        if self._rng.random() < 0.4:
            file = self._rng.choice((self._prose, self._records, self._parquet))()
            return ShufflePlan(Packed(file, self._rng.choice(PACKED)), self._rng.choice((1, 2, 4, 8, 9, 20, 100)))
        if self._rng.random() < 0.2:
            ending = self._rng.choice((".zip", ".jsonl", ".csv"))
            return (
                Binary(b"x" if ending == ".zip" else _JPEG, ending, "mislabeled") if ending != ".zip" else _NO_ARCHIVE
            )
        return Mislabeled(self._prose(), self._rng.choice((".gz", ".bz2", ".xz", ".zst", ".zip")))

    def _bad_domain(self) -> File:
        if not self._settings.domain:
            return self._wrong_value()
        value = self._rng.choice(([1, 2], {"a": 1}, ["x"]))
        return self._inserted(self._json_file(), {"id": 0, self._settings.column: "of no domain", "set": value})

    def _twice(self) -> File:
        row = {"id": 1, self._settings.column: self._text(), "set": "even"}
        return Records((row,), self._rng.choice((".csv", ".tsv")), twice=self._settings.column)


def _add(files: dict[str, File], name: str, file: File) -> None:
    """Take a file, unless its name is taken, or is that of a folder."""
    if not any(name == other or other.startswith(f"{name}/") or name.startswith(f"{other}/") for other in files):
        files[name] = file


_JPEG = BINARIES[".jpg"]
_NO_ARCHIVE = Mislabeled(Text(("no archive",), ""), ".zip")
_EXTRA_COLUMNS: tuple[Any, ...] = (
    None, None,
    ("when", pa.timestamp("ns"), 2**62), ("when", pa.timestamp("s"), 2**52), ("ids", pa.list_(pa.int64()), [1, 2]),
    ("price", pa.decimal128(10, 2), None), ("image", pa.binary(), b"\xff\0"), ("nothing", pa.null(), None),
    ("chat", pa.list_(pa.struct([("role", pa.string())])), [{"role": "user"}]), ("text.more", pa.string(), "dotted"),
)  # fmt: skip
_WRONG_COLUMNS: tuple[Any, ...] = (
    (pa.binary(), b"bytes"), (pa.int64(), 3), (pa.float16(), 1.5), (pa.bool_(), True), (pa.list_(pa.int32()), [1, 2]),
    (pa.list_(pa.struct([("role", pa.string())])), [{"role": "user"}]), (pa.timestamp("ns"), 2**62 + 1),
    (pa.timestamp("s"), 2**52), (pa.date32(), 2**30), (pa.time64("ns"), 1), (pa.duration("ns"), 1),
    (pa.struct([("role", pa.string())]), {"role": "user"}), (pa.list_(pa.string()), ["a"]),
    (pa.map_(pa.string(), pa.string()), [("a", "b")]), (pa.large_binary(), b"x"),
)  # fmt: skip
