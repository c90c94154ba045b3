"""`--require 'loss_recovered>=0.9'`: conditions on a command's figures, for gates in pipelines."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import NamedTuple

from sae_cli.documents import Facts
from sae_cli.errors import RequestError, RequirementError

_COMPARISONS = {">=": operator.ge, "<=": operator.le, "==": operator.eq, ">": operator.gt, "<": operator.lt}
_EXPRESSION = re.compile(r"\s*([^\s<>=]+)\s*(>=|<=|==|>|<)\s*([-+.\deE]+)\s*")
_SHOWN = 8
"""Fields that an error names at most."""


class Requirement(NamedTuple):
    """`field comparison bound`, for a numeric field of what was found (dotted below the top)."""

    field: str
    comparison: str
    bound: float

    def __str__(self) -> str:
        return f"{self.field}{self.comparison}{self.bound:g}"


def parse(expression: str) -> Requirement:
    """Read one condition.

    Raises:
        RequestError: it is none.
    """
    parts = _EXPRESSION.fullmatch(expression)
    if parts is None:
        raise RequestError(_expected(expression))
    try:
        return Requirement(parts[1], parts[2], float(parts[3]))
    except ValueError as error:
        raise RequestError(_expected(expression)) from error


def check(requirements: Sequence[Requirement], document: Facts) -> None:
    """Compare what a command found with what was required: the fields of `eval.json`, else its main figures.

    Raises:
        RequestError: there is no such field.
        RequirementError: a condition does not hold, or its field has no value.
    """
    found = document.get("eval") or document.get("figures", {})
    assert isinstance(found, Mapping)
    figures = _numbers(found)
    unmet = [f"{each}, found {_found(each, figures)}" for each in requirements if not _holds(each, figures)]
    if unmet:
        raise RequirementError(f"required {'; '.join(unmet)}")


def _holds(requirement: Requirement, figures: Mapping[str, float | None]) -> bool:
    value = _value(requirement, figures)
    return value is not None and _COMPARISONS[requirement.comparison](value, requirement.bound)


def _value(requirement: Requirement, figures: Mapping[str, float | None]) -> float | None:
    group = requirement.field.partition(".")[0]
    if requirement.field not in figures and figures.get(group, 0.0) is None:
        return None  # all of it has no value
    if requirement.field not in figures:
        close = get_close_matches(requirement.field, figures, n=1)
        some = ", ".join(list(figures)[:_SHOWN]) + (", …" if len(figures) > _SHOWN else "")
        instead = f": did you mean {close[0]}?" if close else f"; there is {some or 'none'}"
        raise RequestError(f"--require {requirement}: no field {requirement.field}{instead}")
    return figures[requirement.field]


def _numbers(document: Facts, prefix: str = "") -> dict[str, float | None]:
    """Numeric fields with dotted names; null stands for a value that is not defined."""
    found: dict[str, float | None] = {}
    for name, value in document.items():
        if isinstance(value, Mapping):
            found.update(_numbers(value, f"{prefix}{name}."))
        elif value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
            found[f"{prefix}{name}"] = None if value is None else float(value)
    return found


def _found(requirement: Requirement, figures: Mapping[str, float | None]) -> str:
    value = _value(requirement, figures)
    if value is not None:
        return f"{value:.6g}"
    from sae_cli.evaluation.loss_tables import why_missing

    group, _, key = requirement.field.rpartition(".")
    inside = {name.removeprefix(f"{group}."): each for name, each in figures.items() if name.startswith(f"{group}.")}
    # Baselines, and what was pruned, are of the same model on the same text.
    why = why_missing({**figures, **inside}, key)
    return f"no value: for this run it {why}" if why else "no value"


def _expected(expression: str) -> str:
    return f"--require {expression}: expected FIELD>=NUMBER (or <=, ==, >, <), as in loss_recovered>=0.9"
