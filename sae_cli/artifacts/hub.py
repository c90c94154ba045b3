"""Repositories of the Hugging Face hub: what is in one, and some of its files, in the library's own cache.

`HF_TOKEN`, `HF_ENDPOINT` and `HF_HOME` mean what they mean to the library.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sae_cli.errors import JobError, RequestError
from sae_cli.escaping import brief


class Repository(NamedTuple):
    """A repository as it is at a commit."""

    name: str
    commit: str
    files: tuple[str, ...]


def repository(name: str, revision: str | None) -> Repository:
    """What is in a repository.

    Raises:
        RequestError: there is none of this name and revision, or it may not be read.
        JobError: the hub cannot be reached.
    """
    from huggingface_hub import HfApi

    with _errors(name, revision):
        found = HfApi().model_info(name, revision=revision, timeout=60)
    files = tuple(sorted(each.rfilename for each in found.siblings or ()))
    return Repository(name, found.sha or revision or "main", files)


def fetched(of: Repository, files: Sequence[str]) -> Path:
    """The folder that these files of a repository are in, by their names there; errors as `repository`."""
    from huggingface_hub import hf_hub_download

    folder = Path()
    with _errors(of.name, of.commit):
        for name in files:
            path = Path(hf_hub_download(of.name, name, revision=of.commit))
            folder = path.parents[name.count("/")]
    return folder


class _errors:
    """The library's errors as lines."""

    def __init__(self, name: str, revision: str | None) -> None:
        self._shown = f"hf:{name}" + (f"@{revision}" if revision else "")

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        from httpx import HTTPError
        from huggingface_hub.errors import (
            EntryNotFoundError,
            GatedRepoError,
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )

        if isinstance(error, GatedRepoError):
            raise RequestError(
                f"{self._shown}: asks for its terms to be accepted on the hub, and for HF_TOKEN"
            ) from error
        if isinstance(error, LocalEntryNotFoundError):
            raise JobError(f"{self._shown}: the hub cannot be reached ({brief(str(error))})") from error
        if isinstance(error, RepositoryNotFoundError | RevisionNotFoundError | EntryNotFoundError | HFValidationError):
            what = str(error).strip().splitlines()[0]
            raise RequestError(
                f"{self._shown}: expected a repository of the hub, found none ({brief(what)})"
            ) from error
        if isinstance(error, HfHubHTTPError | HTTPError | OSError):
            what = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise JobError(f"{self._shown}: the hub cannot be reached ({brief(what)}); try again") from error
