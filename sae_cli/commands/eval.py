"""`sae eval`: every metric of a dictionary, or of several that are in the model at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from sae_cli.config.commands.eval import EvalConfig
from sae_cli.evaluation import evaluate, evaluate_together
from sae_cli.jobs.result import StageResult
from sae_cli.jobs.side_by_side import Outcome, outcome_of
from sae_cli.runs.file_names import DEFAULT


def run(config: EvalConfig, directory: Path, name: str = DEFAULT) -> StageResult:
    """Evaluate the dictionary in `directory`; the results go into its folder `eval/<name>`.

    Several dictionaries at once are a run of their own, and `directory` is its place.
    """
    if config.together():
        return evaluate_together.run(config, directory)
    return evaluate.run(config, directory, name)


def run_together(requests: Sequence[tuple[EvalConfig, Path, str]]) -> list[Outcome]:
    """Evaluate several; for those of one place and text the model's own work is done once."""
    alone = {number: each for number, each in enumerate(requests) if not each[0].together()}
    outcomes = dict(zip(alone, evaluate.run_together([*alone.values()]), strict=True))
    for number, (config, directory, *_) in enumerate(requests):
        if number not in outcomes:
            outcomes[number] = outcome_of(partial(evaluate_together.run, config, directory))
    return [outcomes[number] for number in range(len(requests))]
