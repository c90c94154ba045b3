"""The fields that `--require` may name, known before a job has measured them."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from sae_cli.cli.requirements import Requirement
from sae_cli.config.command import CommandConfig
from sae_cli.config.commands.contrast import ContrastConfig
from sae_cli.config.commands.eval import EvalConfig
from sae_cli.config.evaluation import Baseline
from sae_cli.errors import RequestError
from sae_cli.metrics.catalogue import contrasted, required_names
from sae_cli.metrics.figure import Of

EVALUATION = required_names(Of.EVALUATION)
"""Fields at the top of an `eval.json`; which of them a run has depends on what it is of."""
GROUPS = ("rare", "baselines", "controls", "before", "domains", "dictionaries", "equivalent_model")
"""Fields of an `eval.json` that have fields of their own."""
FIGURES = {
    "harvest": required_names(Of.HARVEST),
    "train": required_names(Of.TRAINING),
    "compare": required_names(Of.COMPARISON),
    "contrast": tuple(f"{key}{part}" for key in contrasted() for part in ("", "_low", "_high", "_p")),
    "features": required_names(Of.PAGES),
    "bench": required_names(Of.BENCH),
    "probe": required_names(Of.PROBE),
    "randomize-weights": (),
    "export": (),
}
"""The fields of the other commands, which have no `eval.json`."""
_BASELINES = [each.value for each in Baseline]


def check_fields(requirements: Sequence[Requirement], command: str, configs: Sequence[CommandConfig]) -> None:
    """Refuse conditions on what the jobs of a command do not measure.

    Raises:
        RequestError: there is one.
    """
    for each in requirements:
        names = FIGURES.get(command, EVALUATION)
        group, dot, rest = each.field.partition(".")
        if each.field in names:
            continue
        if command == "probe" and dot:
            continue  # of a concept; which there are enough tokens of is known at the end
        if command == "contrast" and group in _BASELINES and rest in names:
            for config in configs:
                _check_against(each, group, config)
            continue
        if not (dot and names is EVALUATION and group in GROUPS):
            raise RequestError(f"--require {each}: no field {each.field}{_meant(each.field, names, command)}")
        for config in configs:
            _check_asked_for(each, group, rest.partition(".")[0], config)


def _check_against(requirement: Requirement, baseline: str, config: CommandConfig) -> None:
    if isinstance(config, ContrastConfig) and baseline not in (known := [each.value for each in config.baselines()]):
        raise RequestError(f"--require {requirement}: expected {baseline} among against=[{','.join(known)}]; give it")


def _check_asked_for(requirement: Requirement, group: str, name: str, config: CommandConfig) -> None:
    """That a group of fields is one of those that were asked for."""
    if not isinstance(config, EvalConfig):
        return
    if group == "baselines" and name not in (known := [each.value for each in config.baselines]):
        raise RequestError(f"--require {requirement}: expected baselines=[{','.join([*known, name])}]; give it")
    if group == "equivalent_model" and not config.references:
        raise RequestError(f"--require {requirement}: expected references=[…], which it is made of; give them")


def _meant(field: str, names: Sequence[str], command: str) -> str:
    if names is EVALUATION and field in GROUPS:
        return f" that is a number: {field} has fields of its own, which --json shows; give one of them"
    last = field.rpartition(".")[2]
    close = get_close_matches(field, [*names, *GROUPS] if names is EVALUATION else names, n=1)
    close = close or get_close_matches(last, names, n=1)
    if close:
        return f": did you mean {close[0]}?"
    if names is EVALUATION:
        return "; the fields are those of an eval.json, as loss_recovered, fvu, l0 or dead"
    return f"; sae {command} has {', '.join(names) or 'no figures'}"
