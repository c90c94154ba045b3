"""Finding the harvest that can be read instead of running the model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sae_cli.activations.text_read import split_otherwise, text_of
from sae_cli.artifacts.manifest import read_manifest
from sae_cli.artifacts.stored_run import FinishedRun, UnfinishedRun, read_run
from sae_cli.artifacts.survey import run_directories
from sae_cli.config.commands.train import TrainConfig
from sae_cli.config.data import DataConfig, NonFinite
from sae_cli.config.model import Dtype
from sae_cli.documents import Facts
from sae_cli.errors import JobError, RequestError, SaeError
from sae_cli.runs.dictionary_run import DictionaryRun
from sae_cli.terminal import console
from sae_cli.text.provenance import TextRecord

# A harvest serves a training run if these settings are the same in both.
_SAME_SETTINGS = ("model.", "hook.", "data.", "layer")


def find_harvest(
    config: TrainConfig,
    settings: Facts,
    text: TextRecord | None = None,
    attempt: UnfinishedRun | None = None,
) -> FinishedRun | None:
    """The harvest named by `activations=`, or else a complete float32 one that fits, or else None.

    A run that is resumed keeps to what it was begun with. One from which activations were left out is found
    only by a run that leaves them out too; one of the text as it was before it changed is passed over.

    Raises:
        RequestError: the one that is named does not exist or does not fit.
        JobError: the one that the run was begun with is gone.
    """
    if attempt is not None:
        return _earlier_harvest(attempt)
    if config.activations is not None:
        harvest = read_run(config.activations, "harvest")
        _check_fits(harvest, config, settings)
        if changed := _other_text(harvest, config.data, text):
            raise RequestError(
                f"activations={config.activations}: harvested from another text than is there now: {changed}; restore "
                "it, or harvest again with overwrite=true"
            )
        return harvest
    for run in _harvests(Path(config.runs_dir)):
        found = run.manifest
        if (
            found.settings.get("dtype") == Dtype.float32.value
            and run.fact("tokens", int) >= config.tokens
            and (config.non_finite is NonFinite.drop or not found.facts.get("dropped"))
            and not _misfits(found.settings, settings)
        ):
            if changed := _other_text(run, config.data, text):
                console.warn(f"{run.directory}: passed over: its text has changed since: {changed}")
                continue
            return run
    return None


def _other_text(harvest: FinishedRun, data: DataConfig, text: TextRecord | None) -> str:
    before = text_of(harvest.manifest)
    if split_otherwise(data, before):
        return "an earlier version split it into other documents"
    return before.difference(text) if before and text else ""


def trained_on(source: DictionaryRun) -> FinishedRun | None:
    """The harvest that a dictionary was trained on, if it is still there as it was and is exactly what the model gives
    for the beginning of the training text: all of its activations in float32, each row of text once."""
    for parent in source.origin().manifest.parents:
        try:
            found = read_run(parent.path, "harvest")
        except SaeError:
            continue
        facts = found.manifest.facts
        whole = found.manifest.settings.get("dtype") == Dtype.float32.value and not facts.get("dropped")
        if whole and facts.get("epochs", 1) == 1 and found.as_parent() == parent:
            return found
    return None


def _earlier_harvest(attempt: UnfinishedRun) -> FinishedRun | None:
    if attempt.manifest.facts.get("source") != "harvest":
        return None
    path = attempt.manifest.parents[0].path
    try:
        return read_run(path, "harvest")
    except RequestError as error:
        raise JobError(
            f"{attempt.directory}: was begun with the harvest {path}, which is gone; restore it, or begin again with "
            "overwrite=true"
        ) from error


def epochs_of_a_part(harvest: FinishedRun, tokens: int) -> float:
    """How often its text was read for the first `tokens` of its activations: 1 where the text did not run out."""
    epochs = harvest.manifest.facts.get("epochs", 1)
    return max(1, round(epochs * tokens / harvest.fact("tokens", int), 2))


def _check_fits(harvest: FinishedRun, config: TrainConfig, settings: Facts) -> None:
    where = f"activations={config.activations}"
    if misfits := _misfits(harvest.manifest.settings, settings):
        raise RequestError(f"{where}: harvested with other settings: {'; '.join(misfits)}")
    if (held := harvest.fact("tokens", int)) < config.tokens:
        raise RequestError(
            f"{where}: expected at least tokens={config.tokens:,}, found {held:,}; lower tokens= or harvest more"
        )


def _misfits(harvested: Facts, wanted: Facts) -> list[str]:
    return [
        f"{key}: harvested {harvested.get(key)}, wanted {wanted.get(key)}"
        for key in sorted({*harvested, *wanted})
        if key.startswith(_SAME_SETTINGS) and harvested.get(key) != wanted.get(key)
    ]


def _harvests(runs_dir: Path) -> Iterator[FinishedRun]:
    """The complete harvests under a folder; of a run that cannot be read it is said that it is passed over."""
    for directory in run_directories(runs_dir, console.warn_once):
        try:
            manifest = read_manifest(directory)
        except JobError as error:
            console.warn(f"looking for a harvest, passed over: {error}")
            continue
        if manifest.command == "harvest" and manifest.status == "complete":
            yield FinishedRun(directory, manifest)
