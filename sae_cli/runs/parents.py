"""Runs that another run was made from, at the moment when they are needed again."""

from __future__ import annotations

from sae_cli.artifacts.stored_run import FinishedRun
from sae_cli.errors import RequestError
from sae_cli.models import model_identity, model_run
from sae_cli.runs.dictionary_run import DictionaryRun
from sae_cli.terminal import console


def check_model(source: DictionaryRun) -> None:
    """See to the model that a dictionary is of, before it is loaded; of one that was made again since, it is said.

    Raises:
        RequestError: it is gone.
    """
    model = source.model()
    try:
        found = model_run(model.path, model.revision)
    except RequestError as error:
        raise RequestError(f"{source.run.directory}: the model that it was trained on is needed: {error}") from error
    if found and _differs(source.origin(), found):
        console.warn(
            f"{source.run.directory}: it was trained on the model {found.directory}, which has been made again since: "
            "the figures are right only if that has the same weights"
        )


def model_facts(source: DictionaryRun) -> dict[str, str]:
    """For the manifest of a measurement: the model that it is of; nothing of data=synthetic."""
    if (model := source.card.model) is None or source.card.truth:
        return {}
    return {"model": model_identity(model.path, model.revision)}


def _differs(child: FinishedRun, found: FinishedRun) -> bool:
    """Whether a run of that path is among the parents, with another manifest."""
    now = found.as_parent()
    return any(parent.path == now.path and parent.sha256 != now.sha256 for parent in child.manifest.parents)
