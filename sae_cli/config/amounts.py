"""Amounts as people type them: `1e5`, `100k`, `2M` for settings that count something."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import cache
from typing import get_args

from sae_cli.config.commands import schema_of
from sae_cli.config.groups import declared_settings

_AMOUNT = re.compile(r"[-+]?(?=\.?\d)(\d[\d_]*)?(\.\d*)?([eE][-+]?\d{1,3})?[kKMGB]?")
_VALUE = re.compile(r"(?<![^,\[(\s=])[^,\[\]()\s='\"]+(?![^,\])\s])")
"""One of the values of an override: all of it, an element of a list or a sweep, an argument of `range(…)`."""
_FACTORS = {"k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9}
_MOST = 10**18


@cache
def amounts_of(command: str) -> frozenset[str]:
    """The dotted keys of a command's settings that are amounts: whole numbers, or lists of them."""
    declared = declared_settings(schema_of(command))
    return frozenset(each.key for each in declared if not each.role.ordinal and _counts(each.hint))


def whole_number(text: str) -> str:
    """The amount that a text means in plain digits; a text that is no number, and a plain number, as it is.

    Raises:
        ValueError: it is a number, but not a whole one, or far too large.
    """
    if not _AMOUNT.fullmatch(text) or re.fullmatch(r"[-+]?\d[\d_]*", text):
        return text
    number, factor = (text[:-1], _FACTORS[text[-1]]) if text[-1] in _FACTORS else (text, 1)
    value = Decimal(number.replace("_", "")) * factor
    if abs(value) > _MOST or value != value.to_integral_value():
        raise ValueError("expected a whole number, as in 100000, 1e5, 100k or 2M")
    return str(int(value))


def in_digits(value: str) -> str:
    """A value of Hydra's grammar with amounts in plain digits, in lists and sweeps too; errors as `whole_number`."""
    return _VALUE.sub(lambda found: whole_number(found[0]), value)


def _counts(hint: object) -> bool:
    return hint is int or int in get_args(hint)
