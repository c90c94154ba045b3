"""`sae eval`: every metric of a dictionary, or of several that are in the model at once."""

from __future__ import annotations

from pathlib import Path

from sae_cli.config.commands.eval import EvalConfig
from sae_cli.evaluation import evaluate, evaluate_together
from sae_cli.jobs.result import StageResult
from sae_cli.runs.file_names import DEFAULT


def run(config: EvalConfig, directory: Path, name: str = DEFAULT) -> StageResult:
    """Evaluate the dictionary in `directory`; the results go into its folder `eval/<name>`.

    Several dictionaries at once are a run of their own, and `directory` is its place.
    """
    if config.together():
        return evaluate_together.run(config, directory)
    return evaluate.run(config, directory, name)
