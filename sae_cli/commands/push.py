"""`sae push`: a run with a dictionary to a repository of the hub, in one commit, with a card for people."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sae_cli.artifacts.files import write_json
from sae_cli.artifacts.hub import fetched, shown
from sae_cli.artifacts.hub_upload import Content, Destination, Pushed, destination, make_repository, push, refuse_public
from sae_cli.artifacts.manifest import MANIFEST
from sae_cli.artifacts.survey import EVALUATIONS
from sae_cli.artifacts.tensors import write_tensors
from sae_cli.config.paths import path_settings
from sae_cli.dictionaries.files import load_dictionary
from sae_cli.documents import Document
from sae_cli.errors import RequestError, SaeError
from sae_cli.evaluation.outgoing import outgoing
from sae_cli.reports.hub_card import hub_card
from sae_cli.reports.sources import subject
from sae_cli.runs.dictionary_run import DictionaryRun, read_dictionary_run
from sae_cli.runs.file_names import EVAL_FILE
from sae_cli.runs.formats import writable
from sae_cli.runs.inventory import readable_bytes
from sae_cli.runs.published import README, SAELENS, Address, files_of, parts_of, read_published
from sae_cli.terminal import console

_LEFT_BY_THE_HUB = (".gitattributes",)


@dataclass(frozen=True, kw_only=True)
class PushRequest:
    """What is asked for.

    Attributes:
        run: the run directory.
        to: the repository.
        private: only its owners may read it.
        dry_run: say what would be pushed, and ask nobody.
    """

    run: Path
    to: Address
    private: bool = False
    dry_run: bool = False


@dataclass(frozen=True, kw_only=True)
class Push:
    """What was pushed, or would be.

    Attributes:
        repository: its name.
        run: the run directory.
        sizes: bytes of each file, by its name in the repository.
        card: what `README.md` says.
        pushed: what has come of it; None where it was only asked what would.
    """

    repository: str
    run: Path
    sizes: Mapping[str, int]
    card: str
    pushed: Pushed | None = None

    def document(self) -> Document:
        """For `--json`."""
        made: Document = {"repository": self.repository, "run": str(self.run), "files": dict(self.sizes)}
        if self.pushed is None:
            return {**made, "card": self.card}
        return {**made, "commit": self.pushed.commit, "changed": self.pushed.changed}


def run(request: PushRequest) -> Push:
    """Push a run, or say what would be pushed.

    Raises:
        RequestError: there is no such run, it holds no dictionary, or the repository is not one to push to.
        JobError: the run is unfinished or damaged, or the hub cannot be reached; then nothing was committed.
    """
    name = request.to.name
    if request.to.revision:
        raise RequestError(f"{shown(*request.to)}: a push goes to the branch main: leave @{request.to.revision} out")
    source = read_dictionary_run(request.run)
    with tempfile.TemporaryDirectory(prefix="sae-") as folder:
        files, card = _files(name, source, Path(folder))
        sizes = {each: _size(content) for each, content in files.items()}
        _say_paths(source)
        made = Push(repository=name, run=request.run, sizes=sizes, card=card)
        _show(made)
        if request.dry_run:
            return made
        there = _destination(name, request.private)
        stale = _stale(there, files)
        title = card.partition("\n# ")[2].partition("\n")[0].replace("\\", "")
        about = f"sae {source.run.manifest.command}, settings {source.run.manifest.settings_hash}"
        pushed = push(there, files, stale, title, about, bars=not console.is_quiet())
    return Push(repository=name, run=request.run, sizes=sizes, card=card, pushed=pushed)


def _size(content: Content) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _files(name: str, source: DictionaryRun, folder: Path) -> tuple[dict[str, Content], str]:
    """Everything that is pushed by its name in the repository, and the card; what is made for it goes into a folder."""
    files: dict[str, Content] = {**files_of(parts_of(source.run))}
    load_dictionary(source.run)  # whole, and with numbers that a dictionary can have
    if README in files or any(each.startswith(f"{SAELENS}/") for each in files):
        raise RequestError(
            f"{source.run.directory}: expected a run without {README} and {SAELENS}/, which a push makes"
        )
    folded = _for_saelens(source, folder)
    files |= {f"{SAELENS}/{each.name}": each for each in sorted(folder.iterdir())}
    card = hub_card(name, source, subject(source.run.directory), folded)
    return {README: card.encode(), **files}, card


def _for_saelens(source: DictionaryRun, folder: Path) -> Sequence[str] | None:
    """Write what SAELens reads into a folder; what was folded, or None where it has no such dictionaries."""
    try:
        written = writable(SAELENS).write(outgoing(source, verify=True))
    except RequestError as error:
        console.log(f"without files for SAELens: {error}")
        return None
    for name, document in written.documents.items():
        write_json(folder / name, document)
    for name, tensors in written.tensors.items():
        write_tensors(folder / name, tensors)
    return written.folded


def _destination(name: str, private: bool) -> Destination:
    found = destination(name)
    if found is None:
        console.log(f"making the {'private ' if private else ''}repository {shown(name)}")
        found = make_repository(name, private)
    if private:
        refuse_public(found)
    return found


def _stale(to: Destination, files: Mapping[str, Content]) -> list[str]:
    """The files in a repository that an earlier push has left, and this one does not have.

    Raises:
        RequestError: what would be replaced is of no earlier push.
    """
    names = set(to.there.files)
    if MANIFEST not in names:
        if foreign := sorted((names & {*files}) - {*_LEFT_BY_THE_HUB}):
            raise _not_ours(to, f"{', '.join(foreign)} of something else")
        return []
    try:
        earlier = read_published(fetched(to.there, [MANIFEST]), "", shown(to.there.name))
    except SaeError as error:
        raise _not_ours(to, f"a {MANIFEST} that cannot be read ({error})") from error
    left = {name for name, _ in earlier.files()} | {EVAL_FILE}
    left |= {each for each in names if each.startswith((f"{EVALUATIONS}/", f"{SAELENS}/"))}
    return sorted((left & names) - {*files})


def _not_ours(to: Destination, found: str) -> RequestError:
    return RequestError(
        f"{shown(to.there.name)}: expected an empty repository, or one that sae push has filled, found {found}; push "
        "to another name, or take that out on the hub"
    )


def _say_paths(source: DictionaryRun) -> None:
    """That files name places of this machine, which whoever reads them learns, and cannot use."""
    configs = [each for each in (source.card.model, source.card.data) if each is not None]
    paths = [each.value for config in configs for each in path_settings(config) if each.value.startswith("/")]
    if paths:
        console.warn(f"the run names paths of this machine, which others can read and not use: {', '.join(paths)}")


def _show(made: Push) -> None:
    rows = [(name, readable_bytes(size)) for name, size in made.sizes.items()]
    total = readable_bytes(sum(made.sizes.values()))
    console.table(f"push to {shown(made.repository)}", [*rows, (f"{len(rows)} files", total), ("of", str(made.run))])
