"""From the address of a dictionary, or of a folder of many, to files on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from sae_cli.artifacts.foreign_files import ForeignFiles
from sae_cli.artifacts.hub import Repository, fetched, repository
from sae_cli.config.location import HUB
from sae_cli.errors import RequestError
from sae_cli.runs.formats import dictionaries_in, files_below

_DESCRIBING = (".json", ".yaml", ".md")
_MOST_LEVELS_ABOVE = 2


class Found(NamedTuple):
    """The files of one dictionary, and the commit of the repository that they are of; None for local ones."""

    files: ForeignFiles
    revision: str | None


def dictionaries_at(source: str, format_name: str | None) -> list[str]:
    """The addresses of the dictionaries at an address: itself, or those in it.

    Raises:
        RequestError: there is nothing, or no dictionary.
    """
    if source.startswith(HUB):
        of, path, revision = _repository(source)
        if path in of.files:
            return [source]
        inside = [
            name[len(path) + 1 :] if path else name for name in of.files if not path or name.startswith(f"{path}/")
        ]
        at = f"@{revision}" if revision else ""
        base = f"{HUB}{of.name}" + (f"/{path}" if path else "")
        found = [base + ("" if each == "." else f"/{each}") + at for each in dictionaries_in(inside, format_name)]
    else:
        folder = Path(source).expanduser()
        if folder.is_file():
            return [source]
        if not folder.is_dir():
            raise RequestError(f"source={source}: no such folder or file; an address on the hub is {HUB}org/repo/path")
        found = [str(folder / each) for each in dictionaries_in(files_below(folder), format_name)]
    return found or [source]


def fetch(source: str) -> Found:
    """The files of the dictionary at an address; errors as `dictionaries_at`."""
    if not source.startswith(HUB):
        path = Path(source).expanduser()
        if not path.exists():
            raise RequestError(f"source={source}: no such folder or file; an address on the hub is {HUB}org/repo/path")
        return Found(ForeignFiles(path), None)
    of, path, _ = _repository(source)
    wanted = [path] if path in of.files else [name for name in of.files if name.startswith(f"{path}/" if path else "")]
    if not wanted:
        raise RequestError(f"source={source}: expected files there, found none")
    above = Path(path).parents[: _MOST_LEVELS_ABOVE + 1]
    describing = [name for name in of.files if name.endswith(_DESCRIBING) and Path(name).parent in above]
    folder = fetched(of, [*wanted, *describing])
    return Found(ForeignFiles(folder / path), of.commit)


def _repository(source: str) -> tuple[Repository, str, str | None]:
    """The repository, the path in it, and the revision that was asked for."""
    address, _, revision = source.removeprefix(HUB).partition("@")
    parts = [each for each in address.split("/") if each]
    if len(parts) < 2 or ".." in parts:
        raise RequestError(f"source={source}: expected {HUB}org/repo[/path][@revision]")
    return repository("/".join(parts[:2]), revision or None), "/".join(parts[2:]), revision or None
