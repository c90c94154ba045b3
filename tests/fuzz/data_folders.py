"""Folders of text by chance, read as training and evaluation read them: every document once, or one line why not.

    python tests/fuzz/data_folders.py [--folders 5000] [--seed 0] [--first 0]

What a folder holds is known from how it was made (`data_files.py`) and from where links lead (`data_trees.py`).
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import os
import random
import re
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pyarrow as pa
from data_files import KINDS, Archive, Holds, is_of_kind
from data_maker import Maker
from data_trees import Folder, Reached, reach

from sae_cli.config.data import HfData, TextData
from sae_cli.config.paths import with_absolute_paths
from sae_cli.config.split import Split
from sae_cli.errors import SaeError
from sae_cli.escaping import visible
from sae_cli.terminal import console
from sae_cli.text import local_text as text
from sae_cli.text import streams
from sae_cli.text.documents import Corpus
from sae_cli.text.hub import HubCorpus
from sae_cli.text.local_text import TextCorpus
from sae_cli.text.provenance import record_of_files

SECONDS = 5.0
"""Of the processor's time: what reading one folder once may take."""
DATA_SETS = 12
"""One folder in so many is one of `data=hf`, which take longer."""
_SAID = re.compile(r"passed over ([^(]*) \(([\d,]+)\)")
_LACKING = re.compile(r"([\d,]+) records have no field")
_REDUCTIONS = 400


@dataclass
class Expected:
    """What a folder holds.

    Attributes:
        texts: how often each text is there; with its domain, where a field names it.
        refused: files that must be refused, by all their names, and the errors of which one must come.
        no_text: names that are passed over because there is no text in them.
        lacking: records without a field.
        unknown: whether there is a damaged file, in which anything may be.
        reached: what the search finds.
    """

    texts: Counter[tuple[str, str]] = field(default_factory=Counter)
    refused: dict[frozenset[str], set[str]] = field(default_factory=dict)
    no_text: list[str] = field(default_factory=list)
    lacking: int = 0
    unknown: bool = False
    reached: Reached = field(default_factory=Reached)

    def add(self, names: set[str], held: Holds) -> None:
        self.texts.update(held.documents)
        self.no_text += held.passed_over
        self.reached.said["hidden files in archives"] += len(set(held.hidden))
        self.lacking += held.lacking
        self.unknown |= held.unknown
        if held.refused:
            self.refused[frozenset(names)] = held.refused


def expected_of(folder: Folder, root: Path) -> Expected:
    """What is in a folder that has been written."""
    by_identity = {os.stat(root / name).st_ino: file for name, file in folder.files}
    found = Expected(reached=reach(root))
    read = {os.stat(path).st_ino for path in found.reached.files}
    for path in found.reached.files:
        file, name = by_identity[os.stat(path).st_ino], os.path.basename(path)
        if folder.kind and not is_of_kind(file, folder.kind):
            found.no_text.append(name)
            continue
        if isinstance(file, Archive):
            file, unpacked = file.without(_unpacked(file, found.reached.paths[path], read))
            found.reached.said["beside them too"] += unpacked
        found.add({os.path.basename(each) for each in found.reached.paths[path]}, file.holds(folder.settings, name))
    return found


def _unpacked(archive: Archive, paths: set[str], read: set[int]) -> set[str]:
    """The members of an archive that lie beside it, or in a folder of its name, and are read there."""
    folders = [folder for path in paths for folder in (os.path.dirname(path), os.path.splitext(path)[0])]
    places = {name: [os.path.join(folder, name) for folder in folders] for name, _ in archive.members}
    return {
        name for name, paths in places.items()
        if any(os.path.isfile(each) and os.stat(each).st_ino in read for each in paths)
    }  # fmt: skip


@dataclass
class Reading:
    """What a reader gave: documents of each split, or the error; and what it said."""

    sides: dict[Split, list[tuple[str, str, str]]] = field(default_factory=dict)
    error: SaeError | None = None
    split: str = ""
    said: str = ""
    record: str = ""

    @property
    def keys(self) -> dict[Split, list[str]]:
        return {split: [key for key, _, _ in documents] for split, documents in self.sides.items()}


class Failure(AssertionError):
    """What is wrong with a reading."""


def corpus_of(path: str, folder: Folder) -> tuple[Corpus, Mapping[str, Path]]:
    """The corpus at a path, and its files by name."""
    column, domain, fraction = folder.settings.column, folder.settings.domain, folder.fraction
    if not folder.kind:
        corpus = TextCorpus(path, column, domain, fraction)
        return corpus, corpus.files
    data_set = HubCorpus(path, "", "train", column, domain, None, 3, fraction)
    assert data_set.local, path
    return data_set, data_set.local.files


def read(path: str, folder: Folder) -> Reading:
    """Both splits, to the end; the errors of both must be one if there is any."""
    console.configure()
    reading, err, out = Reading(), io.StringIO(), io.StringIO()
    started = time.process_time()
    streams._AT_ONCE, text._LONG_FILE = folder.block, folder.settings.long
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(out):
        try:
            corpus, files = corpus_of(path, folder)
            reading.record = record_of_files("", files).sha256
            next(iter(corpus.documents(Split.train, 1)), None)  # and no more of it
        except SaeError as error:
            reading.error = _settled(error)
        errors: dict[Split, SaeError] = {}
        for split in Split if reading.error is None or "corpus" in locals() else ():
            try:
                reading.sides[split] = [each[:3] for each in corpus.documents(split, 0)]
            except SaeError as error:
                errors[split] = _settled(error)
    reading.said = err.getvalue()
    if out.getvalue():
        raise Failure(f"printed to stdout: {out.getvalue()!r}")
    if time.process_time() - started > SECONDS:
        raise Failure(f"took {time.process_time() - started:.1f} s")
    if errors and len(errors) < len(Split):
        raise Failure(f"refused in one split only: {errors}")
    reading.error = next(iter(errors.values()), reading.error)
    return reading


def _settled(error: SaeError) -> SaeError:
    """Let go of what was under way, generators before the files that they read."""
    found: BaseException | None = error
    while found is not None:
        traceback.clear_frames(found.__traceback__)
        found = found.__context__
    return error.with_traceback(None)


def check(folder: Folder, root: Path, counts: Counter[str]) -> None:
    """See that a folder, which has been written, is read as it should be.

    Raises:
        Failure: it is not.
        Exception: what a reader lets through.
    """
    expected = expected_of(folder, root)
    os.chdir(root.parent)
    first = read(str(root), folder)
    compare(first, expected, folder, root)
    counts[f"{'data set' if folder.kind else 'text'}: {_outcome(first, expected)}"] += 1
    counts["documents"] += sum(map(len, first.sides.values()))
    for kind, path, place_of in spellings(folder, root):
        counts[f"spelling: {kind}"] += 1
        with place_of():
            again = read(path, folder)
        _alike(kind, first, again)
    _epochs(folder, root, first)
    _single(folder, root, counts)
    _pattern(folder, root, first, expected, counts)


def _outcome(reading: Reading, expected: Expected) -> str:
    if reading.error:
        return "damaged, refused" if expected.unknown and not expected.refused else "refused"
    return "damaged, read" if expected.unknown else "read"


def compare(reading: Reading, expected: Expected, folder: Folder, where: Path) -> None:
    """What was read against what is there."""
    if reading.error:
        _check_refusal(reading.error, expected, where)
        return
    if expected.refused:
        raise Failure(f"read, but expected {expected.refused}")
    if not any(True for _ in expected.reached.files):
        raise Failure("read, but there is no file")
    train, held_out = reading.keys[Split.train], reading.keys[Split.held_out]
    if len({*train, *held_out}) != len(train) + len(held_out):
        raise Failure(f"a key twice: {[key for key, n in Counter(train + held_out).items() if n > 1][:5]}")
    has_domain = bool(folder.settings.domain)
    found = Counter(
        (text, domain if has_domain and (text, domain) in expected.texts else "")
        for documents in reading.sides.values() for _, text, domain in documents
    )  # fmt: skip
    if lost := expected.texts - found:
        raise Failure(f"lost {sum(lost.values())}: {_some(lost)}")
    if (more := found - expected.texts) and not expected.unknown:
        raise Failure(f"too many {sum(more.values())}: {_some(more)}")
    _check_said(reading.said, expected)


def _check_refusal(error: SaeError, expected: Expected, where: Path) -> None:
    message, kind = str(error), type(error).__name__
    if not message.isprintable() or len(message) > 2_000 + 2 * len(str(where)):
        raise Failure(f"not one line: {message!r}")
    if visible(where.name) not in message:
        raise Failure(f"does not say where: {message!r}")
    named = [kinds for names, kinds in expected.refused.items() if any(visible(name) in message for name in names)]
    if expected.unknown or any(kind in kinds for kinds in named):
        return
    if expected.refused:
        raise Failure(f"{kind} {message!r}, expected {expected.refused}")
    if kind != "RequestError" or expected.texts:
        raise Failure(f"{kind} {message!r}, expected {sum(expected.texts.values())} documents")


def _check_said(said: str, expected: Expected) -> None:
    counts: Counter[str] = Counter()
    for reason, number in _SAID.findall(said):  # the first of a kind, then all
        counts[reason] = max(counts[reason], int(number.replace(",", "")))
    reached = expected.reached
    for word, number in reached.said.items():
        reasons = [reason for reason in counts if word in reason and "folders that are" not in reason]
        if sum(counts[reason] for reason in reasons) != number and not expected.unknown:
            raise Failure(f"expected {number} passed over ({word}), said {dict(counts)}")
    if sum(n for reason, n in counts.items() if "folders that are" in reason) > reached.folders_again:
        raise Failure(f"expected at most {reached.folders_again} folders passed over, said {dict(counts)}")
    passed = " ".join(line for line in said.splitlines() if "passed over" in line)
    names = [name for each in (expected.no_text, reached.hidden) if len(each) <= 10 for name in each]
    if unsaid := [name for name in names if visible(name) not in passed]:
        raise Failure(f"not said to be passed over: {unsaid}; said {said!r}")
    lacking = sum(int(number.replace(",", "")) for number in _LACKING.findall(said))
    if lacking != expected.lacking and not expected.unknown:
        raise Failure(f"expected {expected.lacking} records without a field, said {lacking}: {said!r}")


def _alike(kind: str, first: Reading, again: Reading) -> None:
    if (first.error is None) != (again.error is None):
        raise Failure(f"{kind}: {again.error or 'read'!s}, absolute: {first.error or 'read'!s}")
    if first.error and type(first.error) is not type(again.error):
        raise Failure(f"{kind}: {again.error!r}, absolute: {first.error!r}")
    if first.keys != again.keys:
        ours, theirs = ({split: set(keys) for split, keys in each.keys.items()} for each in (first, again))
        leaked = ours[Split.train] & theirs[Split.held_out] | ours[Split.held_out] & theirs[Split.train]
        raise Failure(f"{kind}: other keys: {first.keys} {again.keys}; held out and trained on: {sorted(leaked)[:5]}")
    if [text for side in first.sides.values() for _, text, _ in side] != [
        text for side in again.sides.values() for _, text, _ in side
    ]:
        raise Failure(f"{kind}: other texts under the same keys")
    if first.record != again.record:
        raise Failure(f"{kind}: another record of the same text")


def spellings(folder: Folder, root: Path) -> Iterator[tuple[str, str, Callable[[], contextlib.AbstractContextManager]]]:
    """The folder's path in other words, and what is to be done meanwhile."""
    name, place = folder.name, root.parent
    still = contextlib.nullcontext
    known = [
        ("./", f"./{name}", still),
        ("trailing slash", f"./{name}/", still),
        ("/.", f"{root}/.", still),
        ("..", f"{name if name[0] != '~' else './' + name}/../../{place.name}//{name}", still),
        ("here", ".", lambda: contextlib.chdir(root)),
        ("above", "..", lambda: contextlib.chdir(root / ".below")),
        ("link", str(place / "../a link"), lambda: _linked(root, place.parent / "a link")),
        ("link of another name", "../data [1].jsonl/", lambda: _linked(root, place.parent / "data [1].jsonl")),
        ("home", f"~/{name}", lambda: _home(place)),
        ("stored", with_absolute_paths((HfData if folder.kind else TextData)(path=f"./{name}")).path, still),
        ("moved", str(place / "to [b]"), lambda: _moved(root, place / "to [b]")),
        ("/**", f"./{name}/**", still),
    ]
    if name[0] != "~":
        known.append(("relative", name, still))
    if not any(target in ("..", "../../") for _, target in folder.links):  # which lead to other places from elsewhere
        far = place.parent / "far" / "away"
        known.append(("moved far", str(far), lambda: _moved(root, far)))
    rng = random.Random(repr((name, len(folder.files))))
    yield from (each for each in rng.sample(known, 3) if _makes_sense(each[0], folder, root))


def _makes_sense(kind: str, folder: Folder, root: Path) -> bool:
    if kind == "/**" and folder.kind:
        return False
    return not (kind == "above" and not (root / ".below").is_dir()) and not (
        kind == "/**" and os.path.lexists(root / "**")
    )


@contextlib.contextmanager
def _linked(root: Path, link: Path) -> Iterator[None]:
    link.symlink_to(root)
    yield
    link.unlink()


@contextlib.contextmanager
def _home(place: Path) -> Iterator[None]:
    before = os.environ.get("HOME", "")
    os.environ["HOME"] = str(place)
    try:
        yield
    finally:
        os.environ["HOME"] = before


@contextlib.contextmanager
def _moved(root: Path, to: Path) -> Iterator[None]:
    to.parent.mkdir(exist_ok=True)
    root.rename(to)
    yield
    to.rename(root)


def _epochs(folder: Folder, root: Path, first: Reading) -> None:
    """Another epoch has the same documents."""
    if first.error:
        return
    console.configure(quiet=True)
    corpus, _ = corpus_of(str(root), folder)
    for split, keys in first.keys.items():
        if sorted(each.key for each in corpus.documents(split, 0, 1)) != sorted(keys):
            raise Failure(f"another epoch has other documents of {split.value}")


def _single(folder: Folder, root: Path, counts: Counter[str]) -> None:
    """One file by itself, whose name may look like a pattern."""
    inside = [
        (name, file)
        for name, file in folder.files
        if not name.startswith("../") and (not folder.kind or is_of_kind(file, folder.kind))
    ]
    if not inside:
        return
    name, file = random.Random(len(inside)).choice(inside)
    expected = Expected(reached=Reached(files=[name]))
    expected.add({os.path.basename(name)}, file.holds(folder.settings, os.path.basename(name)))
    counts["spelling: one file"] += 1
    path = f"./{folder.name}/{name}"
    first = read(path, folder)
    if first.error is None or expected.refused or expected.unknown:
        compare(first, expected, folder, root / name)
    elif expected.texts:
        raise Failure(f"one file {name!r}: {first.error!r}")
    _alike("one file", first, read(str(root / name), folder))
    link = root.parent / f"one{PurePosixPath(name).suffix}"
    link.symlink_to(root / name)
    _alike("a link to one file", first, read(f"./{link.name}", folder))


PATTERNS = ("*", "*.jsonl", "*.txt", "*.*", "**/*.txt", "**/*", "*/*", "*/**", "[ab]*", "?*/*.txt", "**/[!x]*.jsonl")


def _pattern(folder: Folder, root: Path, first: Reading, expected: Expected, counts: Counter[str]) -> None:
    """A pattern names some of the files, whose documents are on the same sides as in the folder."""
    said = expected.reached.said
    pattern = random.Random(len(folder.files)).choice(PATTERNS)
    taken = os.path.lexists(root / pattern.split("/")[0])
    if (
        folder.kind
        or first.error
        or expected.unknown
        or folder.links
        or folder.hard
        or taken
        or said["copies"] + said["beside them too"]
    ):
        return
    names = [os.path.relpath(path, root) for path in expected.reached.files]
    wanted = re.compile(_translated(pattern), re.DOTALL)
    found = read(f"./{folder.name}/{pattern}", folder)
    counts["spelling: pattern"] += 1
    for split, keys in first.keys.items():
        expected_keys = {key for key in keys if wanted.fullmatch(_file_of(key, names))}
        if expected_keys != set(found.keys.get(split, ())):
            raise Failure(f"pattern {pattern!r}: {found.error or found.keys}, expected {split}: {expected_keys}")


def _translated(pattern: str) -> str:
    *folders, last = pattern.split("/")
    begin = "".join("(?:[^/]+/)*" if part == "**" else f"{_translated_part(part)}/" for part in folders)
    return begin + (".*" if last == "**" else _translated_part(last))


def _translated_part(part: str) -> str:
    each = {"*": "[^/]*", "?": "[^/]"}
    pieces: list[str] = re.findall(r"\[[^]]+\]|.", part)
    return "".join(
        each.get(piece, piece.replace("!", "^") if piece[0] == "[" else re.escape(piece)) for piece in pieces
    )


def _file_of(key: str, names: Sequence[str]) -> str:
    return max((name for name in names if key == name or key.startswith((f"{name}:", f"{name}/"))), key=len)


def _some(texts: Counter[tuple[str, str]]) -> str:
    return ", ".join(repr(each)[:120] for each in list(texts)[:5])


def failure(folder: Folder, counts: Counter[str]) -> str:
    """What is wrong with how a folder is read; empty if nothing is."""
    here, scratch = os.getcwd(), tempfile.mkdtemp(prefix="sae-folders-", dir=_SCRATCH)
    unraisable: list[str] = []
    hook, sys.unraisablehook = sys.unraisablehook, lambda found: unraisable.append(repr(found.exc_value))
    files = _open_files()
    try:
        root = folder.write(Path(scratch).resolve() / "place")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = _checked(folder, root, counts)
    finally:
        os.chdir(here)
        streams._AT_ONCE, text._LONG_FILE = _USUAL
        sys.unraisablehook = hook
        shutil.rmtree(scratch)
    if unraisable:
        return f"unraisable: {unraisable[0]}"
    if found or _open_files() == files:
        return found
    gc.collect()  # the frames of errors
    return f"{_open_files() - files} files are left open" if _open_files() > files else ""


def _checked(folder: Folder, root: Path, counts: Counter[str]) -> str:
    try:
        check(folder, root, counts)
    except Failure as error:
        return str(error)
    except Exception as error:  # which is what must not be
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} from {where.filename}:{where.lineno}: {error}"
    return ""


_USUAL = streams._AT_ONCE, text._LONG_FILE
_SCRATCH = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def reduced(folder: Folder, found: str) -> tuple[Folder, str]:
    """A small folder with which the same goes wrong, as far as can be told from the first words."""
    sort, left = _sort(found), _REDUCTIONS
    progress = True
    while progress and left:
        progress = False
        for less in folder.smaller():
            left -= 1
            if _sort(now := _attempt(less)) == sort:
                folder, found, progress = less, now, True
                break
            if not left:
                break
    return folder, found


def _attempt(folder: Folder) -> str:
    try:
        return failure(folder, Counter())
    except (OSError, ValueError, pa.ArrowException):  # it cannot be written
        return ""


def _sort(found: str) -> str:
    return " ".join(re.sub(r"[\d,]+|['\"]?/dev/shm.*?:", "", found).split()[:4])


def described(folder: Folder) -> str:
    """A folder, for a reader."""
    lines = [f"{folder.name!r}: {folder.settings}, held_out_fraction={folder.fraction}"]
    for name, file in folder.files:
        lines += [f"  {name!r}: {str(file)[:600]}", f"      {file.content()[:160]!r}"]
    lines += [f"  {name!r} -> {target!r}" for name, target in (*folder.links, *folder.hard)]
    return "\n".join([*lines, *(f"  {name!r}: a pipe or socket" for name in folder.odd)])


def folder_of(seed: int, number: int) -> Folder:
    """One in `DATA_SETS` is a data set, the others are text."""
    rng = random.Random(f"{seed} {number}")
    return Maker(rng, rng.choice(sorted(KINDS)) if number % DATA_SETS == DATA_SETS - 1 else "").folder()


def with_seed(folders: int, seed: int, first: int = 0, stop: bool = True) -> tuple[Counter[str], list[str]]:
    """So many folders; what was in them, and what went wrong, one of a kind, which is printed at once."""
    counts: Counter[str] = Counter()
    failures: dict[str, str] = {}
    for number in range(first, first + folders):
        folder = folder_of(seed, number)
        counts.update(folder.kinds())
        counts["folders"] += 1
        if not (found := failure(folder, counts)):
            continue
        counts["failures"] += 1
        if _sort(found) not in failures:
            small, now = reduced(folder, found)
            failures[_sort(found)] = f"folder {number} of seed {seed}: {now}\n{described(small)}"
            print(failures[_sort(found)], end="\n\n", flush=True)
        if stop:
            break
    return counts, list(failures.values())


def report(counts: Counter[str], seconds: float) -> None:
    """What was met, and how often."""
    for name in sorted(counts):
        if counts[name]:
            print(f"{name:44} {counts[name]:9,}")
    print(f"{counts['folders']:,} folders with {counts['documents']:,} documents in {seconds:.0f} s, "
          f"{counts['failures']:,} failures", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folders", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first folder")
    asked = parser.parse_args()
    started = time.monotonic()
    counts, failures = with_seed(asked.folders, asked.seed, asked.first, stop=False)
    report(counts, time.monotonic() - started)
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
