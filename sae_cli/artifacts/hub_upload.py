"""Writing to a repository of the hub: all files in one commit, or none of them.

Large files are uploaded first; they are in nobody's way without the commit that names them. Tokens and endpoint are as
the library has them (`HF_TOKEN`, `HF_ENDPOINT`).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from sae_cli.artifacts.hub import Repository, shown
from sae_cli.artifacts.hub_errors import complaint_of, hub_errors, patiently, status_of
from sae_cli.errors import JobError, RequestError
from sae_cli.escaping import brief

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

Content: TypeAlias = "Path | bytes"
"""Of a file that is pushed: where it is, or what is in it."""
_NOT_SENT = (RuntimeError, ValueError)
"""What the library makes of an upload that has failed, and of metadata that the hub does not take."""


class Destination(NamedTuple):
    """A repository that is to be written to: what is there, and whether others may read it."""

    there: Repository
    private: bool


class Pushed(NamedTuple):
    """What a push has come to: the commit that the repository is at, and whether that is a new one."""

    commit: str
    changed: bool


def destination(name: str) -> Destination | None:
    """The repository of this name; None where there is none, or none that the token may read.

    Raises:
        RequestError: the hub cannot have a repository of this name.
        JobError: the hub cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

    with hub_errors(shown(name)):
        try:
            found = patiently(lambda: HfApi().model_info(name, timeout=60))
        except HfHubHTTPError as error:
            if isinstance(error, GatedRepoError) or status_of(error) not in (401, 404):
                raise
            return None
    files = tuple(sorted(each.rfilename for each in found.siblings or ()))
    return Destination(Repository(name, "main", found.sha or "", files), bool(found.private))


def make_repository(name: str, private: bool) -> Destination:
    """A new repository, which only its owners can read where it is `private`.

    Raises:
        RequestError: the token may not make it, or there is no token.
        JobError: the hub cannot be reached.
    """
    from huggingface_hub import HfApi

    with hub_errors(shown(name)):
        patiently(lambda: HfApi().create_repo(name, private=private or None, repo_type="model", exist_ok=True))
    made = destination(name)
    if made is None:
        raise JobError(f"{shown(name)}: is there, and cannot be read; set HF_TOKEN to one that may read it")
    return made


def push(
    to: Destination, files: Mapping[str, Content], removed: Sequence[str], title: str, description: str, bars: bool
) -> Pushed:
    """Write files to a repository, in one commit; none, where that would change nothing.

    Args:
        to: the repository as it was looked at; if it is at another commit by now, nothing is written.
        files: what is written, by their names there.
        removed: names of files that are taken out.
        title, description: of the commit.
        bars: show how far the upload is, on a terminal.

    Raises:
        RequestError: the token may not write there.
        JobError: the hub cannot be reached, or has changed meanwhile; nothing was committed.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    added = [CommitOperationAdd(name, content) for name, content in files.items()]
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        *added,
        *(CommitOperationDelete(name, is_folder=False) for name in removed),
    ]
    name, before = to.there.name, to.there.commit
    with _upload_errors(name, before), _quiet(bars):
        made = patiently(
            lambda: HfApi().create_commit(
                name,
                operations,
                commit_message=title,
                commit_description=description,
                repo_type="model",
                parent_commit=before or None,
            )
        )
    return Pushed(made.oid, made.oid != before)


@contextmanager
def _upload_errors(name: str, before: str) -> Iterator[None]:
    """As `hub_errors`, with what became of the push."""
    try:
        yield
    except Exception as error:
        found = complaint_of(error)
        if found is None and not isinstance(error, _NOT_SENT):
            raise
        said = " ".join(str(error.__cause__ or error).split()) or type(error).__name__
        kind, text = found or (JobError, f"the hub did not take it ({brief(said)}); push it again")
        raise kind(f"{shown(name)}: {_what_became(name, before)}: {text}") from error


def _what_became(name: str, before: str) -> str:
    """Whether a push that has failed was committed: its answer may have been lost."""
    try:
        now = destination(name)
    except (JobError, RequestError):
        return "whether it was committed cannot be seen now, and the next push will tell"
    if now is None or now.there.commit == before:
        return "nothing was committed"
    return f"another commit is there, {now.there.commit[:12]}"


@contextmanager
def _quiet(bars: bool) -> Iterator[None]:
    """Without what the library says of a commit that would be empty, and of metadata that a card could have."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    logger, hidden = logging.getLogger("huggingface_hub"), are_progress_bars_disabled()
    level = logger.level
    logger.setLevel(logging.ERROR)
    if not bars:
        disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        if not bars and not hidden:
            enable_progress_bars()


def refuse_public(to: Destination) -> None:
    """Refuse to push what is to be private to where everybody can read it; a `RequestError`."""
    if not to.private:
        raise RequestError(
            f"{shown(to.there.name)}: expected a private repository (--private), found a public one; make it private "
            "in its settings on the hub, or push to another name"
        )
