"""What the experiments' answers share: how figures over seeds are shown."""

import sys
from pathlib import Path

import pytest

ANSWERS = Path(__file__).parents[2] / "experiments" / "answers"


@pytest.fixture
def reading(monkeypatch):
    monkeypatch.syspath_prepend(str(ANSWERS))
    import reading

    yield reading
    sys.modules.pop("reading")


@pytest.mark.parametrize(
    ("values", "digits", "said"),
    [
        ([0.68598, 0.6861, 0.68622], 3, "0.68610 ± 0.00012"),
        ([0.5, 0.6, 0.7], 3, "0.600 ± 0.100"),
        ([12.0, 12.0], 1, "12.0 ± 0.0"),  # equal to the bit is no rounding
        ([0.686], 3, "0.686"),
        ([0.686, None], 3, "0.686 (1 of 2)"),
        ([None, None], 3, "-"),
    ],
)
def test_an_error_is_shown_with_two_digits_or_not_at_all(reading, values, digits, said):
    assert reading.shown(values, digits) == said
