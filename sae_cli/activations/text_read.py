"""Which text a run has read, and whether what is there now is still that text."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from sae_cli import build
from sae_cli.artifacts.manifest import Manifest
from sae_cli.artifacts.stored_run import FinishedRun, UnfinishedRun
from sae_cli.config.commands import command_names
from sae_cli.config.data import DataConfig, HfData, TextData, TruthData
from sae_cli.config.inheritance import other_settings, same_text
from sae_cli.config.paths import placed, with_absolute_paths
from sae_cli.config.stored import CONFIG_FILE, parse_config
from sae_cli.documents import Document, Facts
from sae_cli.errors import JobError, RequestError, SaeError
from sae_cli.runs.dictionary_run import DictionaryRun
from sae_cli.terminal import console
from sae_cli.text.hub import HubCorpus
from sae_cli.text.installed import InstalledCorpus
from sae_cli.text.local_files import is_local
from sae_cli.text.local_text import TextCorpus
from sae_cli.text.provenance import Stamp, TextRecord, data_set_version, record_of_files
from sae_cli.text.stdlib import StdlibCorpus

TEXT = "text"
"""The fact that holds the record."""

FIRST_ROWS = "first_rows_sha256"
"""The fact that holds a hash of the tokens with which the text begins."""

_SPLIT_OTHERWISE = (
    "an earlier version trained it, which told the documents of a local data set apart by how its path was spelt, so "
    "that it is not known which of them were held out"
)

_FEW = 0.01
"""Share of a text's bytes that may be in the training text under other names: a licence, a template."""


def text_record(data: DataConfig) -> TextRecord | None:
    """The text as it is now; None where there is none, or a data set that cannot be looked at.

    Raises:
        RequestError: it is not there.
        JobError: a file cannot be read.
    """
    if isinstance(data, TruthData):
        return None
    try:
        match build.corpus(replace(data, domains=[])), with_absolute_paths(data):
            case StdlibCorpus() as corpus, _:
                files = {key: corpus.root / key for key in corpus.keys}
                return record_of_files("stdlib", files, f"Python {platform.python_version()}", listed=False)
            case InstalledCorpus() as corpus, _:
                return record_of_files("installed", corpus.files, f"Python {platform.python_version()}", listed=False)
            case TextCorpus() as corpus, TextData(path=place):
                return record_of_files(place, corpus.files, keyed=True)
            case HubCorpus() as corpus, HfData(path=place) as named:
                if (local := corpus.local) is None:
                    return _of_hub(named)
                return record_of_files(place, local.files, local.version, local.keyed)
        raise AssertionError(type(data))
    except OSError as error:
        raise JobError(f"{error.filename or data}: cannot be read: {error.strerror or error}") from error


def text_of(manifest: Manifest) -> TextRecord | None:
    """The text that a run has read, where its manifest says so."""
    return TextRecord.of_fact(manifest.facts.get(TEXT))


def split_otherwise(data: DataConfig, before: TextRecord | None) -> bool:
    """Whether the documents of a text that was read have other keys now: those of a local data set, which earlier
    versions made of the path as it was spelt.

    Args:
        data: which names the text.
        before: its record at that time, if there is one.
    """
    return isinstance(data, HfData) and is_local(data.path) and (before is None or not before.version)


def text_facts(record: TextRecord | None) -> Document:
    """For a manifest."""
    return {TEXT: record.as_fact()} if record else {}


def measured_text(
    source: DictionaryRun, data: DataConfig | None, said: bool = False, now: TextRecord | None = None
) -> TextRecord | None:
    """The text that a dictionary is about to be measured on, its own unless other is given; what is unlike its
    training is said, unless that was `said` of another dictionary on the same text.

    Args:
        source: the dictionary.
        data: other text.
        said: see above.
        now: the text's record, if it was looked at a moment ago.

    Raises:
        RequestError: the text is gone, is of the wrong kind, or documents that the dictionary was trained on would be
            among those held out.
    """
    run = source.run
    if data is None:
        trained, now = source.data(), now or _own_text(source)
        if split_otherwise(trained, text_of(run.manifest)):
            raise RequestError(f"{run.directory}: {_SPLIT_OTHERWISE}; train it again, or give other text with data=")
        if not said and (before := text_of(run.manifest)) and now and (changed := before.difference(now)):
            console.warn(f"{run.directory}: its text, {now.place}, has changed since the training: {changed}")
        return now
    if isinstance(data, TruthData) != bool(truth := source.card.truth) or (truth and type(data) is not type(truth)):
        kind = f"activations of {truth.called}" if truth else "a language model"
        raise RequestError(f"{run.directory}: a dictionary of {kind} cannot be measured on other activations: data=")
    now = now or text_record(data)
    if (trained := source.card.data) is None:
        if not said:
            console.warn(f"{run.directory}: it is not known whether it was trained on documents that are held out here")
        return now
    _refuse_leak(run, trained, data, now)
    other = [f"{key} {old} -> {new}" for key, old, new in other_settings(trained, data)]
    if other and not said:
        console.warn(f"{run.directory}: measured otherwise than it was trained: {', '.join(other)}")
    return now


def check_served(finished: FinishedRun, source: DictionaryRun, data: DataConfig | None, said: bool = False) -> None:
    """See that a finished measurement is of the text that is there now; of one that is gone it is said.

    Raises:
        RequestError: it is of another text, or as `measured_text`.
    """
    before = text_of(finished.manifest)
    if before is None:
        return
    try:
        there = text_record(source.data(data))
    except RequestError as error:
        console.warn(f"{finished.directory}: the text that it was measured on is gone: {error}")
        return
    now = measured_text(source, data, said, there)
    if now and (changed := before.difference(now)):
        raise RequestError(
            f"{finished.directory}: was measured on another text than is there now: {changed}; restore it, or measure "
            "again with overwrite=true"
        )


def check_same_text(attempt: UnfinishedRun, facts: Facts) -> None:
    """Refuse to resume a run whose text is another one now.

    Raises:
        JobError: it is.
    """
    before, now = text_of(attempt.manifest), TextRecord.of_fact(facts.get(TEXT))
    changed = before.difference(now) if before and now else ""
    rows = attempt.manifest.facts.get(FIRST_ROWS)
    if not changed and rows is not None and rows != facts.get(FIRST_ROWS):
        changed = "its first rows are other tokens"
    if changed:
        where = now.place if now else "data.path"
        raise JobError(
            f"{attempt.directory}: was begun on another text than is there now in {where}: {changed}; restore it, or "
            "begin again with overwrite=true"
        )


def warn_if_text_changed(finished: FinishedRun, data: DataConfig) -> None:
    """Of a run that is already finished: whether its text is another one now."""
    if (before := text_of(finished.manifest)) is None:
        return
    try:
        now = text_record(data)
    except (RequestError, JobError):
        return  # which is no harm to what is finished
    if now and (changed := before.difference(now)):
        console.warn(
            f"{finished.directory}: is of the text as it was, which has changed since: {changed}; overwrite=true reads "
            "it anew"
        )


def changed_text(directory: Path, manifest: Manifest) -> str:
    """What has become of the text that a run has read, if it names one and that is not there as it was."""
    run, before, command = FinishedRun(directory, manifest), text_of(manifest), manifest.command
    if before is None or command not in command_names() or CONFIG_FILE not in manifest.files:
        return ""
    try:
        config = parse_config(run.directory / CONFIG_FILE, run.read_bytes(CONFIG_FILE), command)
        data = getattr(placed(config, manifest.settings), "data", None)
        now = text_record(data) if data else None
    except SaeError as error:
        return f"the text that was read cannot be read now: {error}"
    changed = before.difference(now) if now else ""
    return f"the text that was read, {before.place}, has changed since: {changed}" if changed else ""


def _own_text(source: DictionaryRun) -> TextRecord | None:
    try:
        return text_record(source.data())
    except RequestError as error:
        raise RequestError(f"{source.run.directory}: the text that it was trained on is needed: {error}") from error


def _of_hub(data: HfData) -> TextRecord | None:
    try:
        return TextRecord(data.path, data_set_version(data.path, data.subset, data.revision))
    except (OSError, ValueError):
        return None  # reading it will say what is wrong


def _refuse_leak(child: FinishedRun, trained: DataConfig, data: DataConfig, now: TextRecord | None) -> None:
    """Refuse a text whose held-out documents the dictionary was trained on."""
    run, before = child.directory, text_of(child.manifest)
    most = trained.held_out_fraction
    known = before.listed or {} if before else {}
    read = now.listed or {} if now else {}
    common = [name for name, stamp in read.items() if stamp.sha256 and known.get(name) == stamp]
    same_keys = type(data) is type(trained) or bool(before and now and before.keyed and now.keyed)
    same = same_text(trained, data) or common
    if same and split_otherwise(trained, before):
        raise RequestError(f"{run}: {_SPLIT_OTHERWISE}; train it again, or give other text")
    if same_keys and same and data.held_out_fraction > most:
        raise RequestError(
            f"{run}: data.held_out_fraction={data.held_out_fraction:g} on text that it was trained on with {most:g}: "
            f"documents of its training would be measured as held out; expected at most {most:g}, or leave it out"
        )
    moved = dict(_under_other_keys(known, read, same_keys))
    if sum(read[name].bytes for name in moved) > _FEW * sum(stamp.bytes for stamp in read.values()):
        name, other = next(iter(moved.items()))
        raise RequestError(
            f"{run}: {name} of data.path={now.place if now else ''} is {other} of the text that it was trained on, but "
            "its documents have other keys there, so that they are split otherwise and some that it was trained on "
            f"would be measured as held out; give that text as at the training: data.path={before and before.place}"
        )


def _under_other_keys(
    known: Mapping[str, Stamp], read: Mapping[str, Stamp], same_keys: bool
) -> Iterator[tuple[str, str]]:
    """Files of a text that another text has too, but with other keys: their names there."""
    by_stamp: dict[Stamp, str] = {stamp: name for name, stamp in known.items() if stamp.sha256 and stamp.bytes}
    for name, stamp in read.items():
        if stamp in by_stamp and not (same_keys and known.get(name) == stamp):
            yield name, by_stamp[stamp]
