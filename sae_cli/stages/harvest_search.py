"""Finding the harvest that a training run can read instead of running the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sae_cli.artifacts.manifest import read_manifest
from sae_cli.artifacts.run_directory import FinishedRun, UnfinishedRun, read_run
from sae_cli.artifacts.survey import run_directories
from sae_cli.config.commands import TrainConfig
from sae_cli.config.model import Dtype
from sae_cli.errors import JobError, RequestError

# A harvest serves a training run if these settings are the same in both.
_SAME_SETTINGS = ("model.", "hook.", "data.", "layer")


def find_harvest(
    config: TrainConfig, settings: dict[str, Any], attempt: UnfinishedRun | None = None
) -> FinishedRun | None:
    """The harvest named by `activations=`, or else a complete float32 one that fits, or else None.

    A run that is gone on with keeps to what it was begun with.

    Raises:
        RequestError: the one that is named does not exist or does not fit.
        JobError: the one that the run was begun with is gone.
    """
    if attempt is not None:
        return _begun_with(attempt)
    if config.activations is not None:
        harvest = read_run(config.activations, "harvest")
        _check_fits(harvest, config, settings)
        return harvest
    for directory in run_directories(Path(config.runs_dir)):
        manifest = read_manifest(directory)
        if (
            manifest.command == "harvest"
            and manifest.status == "complete"
            and manifest.settings["dtype"] == Dtype.float32.value
            and manifest.facts["tokens"] >= config.tokens
            and not _misfits(manifest.settings, settings)
        ):
            return FinishedRun(directory, manifest)
    return None


def _begun_with(attempt: UnfinishedRun) -> FinishedRun | None:
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


def _check_fits(harvest: FinishedRun, config: TrainConfig, settings: dict[str, Any]) -> None:
    where = f"activations={config.activations}"
    if misfits := _misfits(harvest.manifest.settings, settings):
        raise RequestError(f"{where}: harvested with other settings: {'; '.join(misfits)}")
    if (held := harvest.manifest.facts["tokens"]) < config.tokens:
        raise RequestError(
            f"{where}: expected at least tokens={config.tokens:,}, found {held:,}; lower tokens= or harvest more"
        )


def _misfits(harvested: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    return [
        f"{key}: harvested {harvested.get(key)}, wanted {wanted.get(key)}"
        for key in sorted({*harvested, *wanted})
        if key.startswith(_SAME_SETTINGS) and harvested.get(key) != wanted.get(key)
    ]
