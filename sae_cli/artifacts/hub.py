"""Repositories of the Hugging Face hub: what is in one, and some of its files, in the library's own cache.

`HF_TOKEN`, `HF_ENDPOINT` and `HF_HOME` mean what they mean to the library.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sae_cli.artifacts.hub_errors import OFFLINE, hub_errors, patiently

_MAIN = "main"


class Repository(NamedTuple):
    """A repository as it is at a commit, and the revision that was asked for, by which the cache knows that commit."""

    name: str
    revision: str
    commit: str
    files: tuple[str, ...]


def shown(name: str, revision: str | None = None) -> str:
    """A repository as it is named on the command line."""
    return f"hf:{name}" + (f"@{revision}" if revision else "")


def repository(name: str, revision: str | None) -> Repository:
    """What is in a repository; offline (`HF_HUB_OFFLINE=1`), what the cache has of it.

    Raises:
        RequestError: there is none of this name and revision, or it may not be read.
        JobError: the hub cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.constants import HF_HUB_OFFLINE

    with hub_errors(shown(name, revision)):
        if HF_HUB_OFFLINE:
            return _cached(name, revision or _MAIN)
        found = patiently(lambda: HfApi().model_info(name, revision=revision, timeout=60))
    files = tuple(sorted(each.rfilename for each in found.siblings or ()))
    return Repository(name, revision or _MAIN, found.sha or revision or _MAIN, files)


def _cached(name: str, revision: str) -> Repository:
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound, LocalEntryNotFoundError

    try:
        of_name = [each for each in scan_cache_dir().repos if (each.repo_type, each.repo_id) == ("model", name)]
    except CacheNotFound:
        of_name = []
    for each in (each for repository in of_name for each in repository.revisions):
        if revision in (*each.refs, each.commit_hash):
            files = (file.file_path.relative_to(each.snapshot_path).as_posix() for file in each.files)
            return Repository(name, revision, each.commit_hash, tuple(sorted(files)))
    raise LocalEntryNotFoundError(OFFLINE)


def fetched(of: Repository, files: Sequence[str]) -> Path:
    """The folder that these files of a repository are in, by their names there; errors as `repository`."""
    from huggingface_hub import hf_hub_download

    folder = Path()
    with hub_errors(shown(of.name, of.revision)):
        for name in files:
            path = Path(hf_hub_download(of.name, name, revision=of.revision))
            folder = path.parents[name.count("/")]
            if folder.name != of.commit:
                raise OSError(f"{of.revision} was {of.commit}, and is {folder.name} now")
    return folder
