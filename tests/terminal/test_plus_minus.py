"""Figures with their errors: written out by hand."""

import pytest

from sae_cli.evaluation.loss_tables import loss_rows
from sae_cli.reports.words import with_error
from sae_cli.terminal.plus_minus import plus_minus


@pytest.mark.parametrize(
    ("value", "error", "shown"),
    [
        (0.90371, 0.01214, "0.9037 ± 0.0121"),
        (0.0016123, 0.0000312, "0.001612 ± 0.000031"),
        (0.00161, 0.00042, "0.00161 ± 0.00042"),
        (-2.5, 3.25, "-2.5000 ± 3.2500"),
        (0.5, 0.0, "0.5000 ± 0.0000"),
        (0.5, 1e-30, "0.500000000000 ± 0.000000000000"),
        (0.5, float("nan"), "0.5000 ± nan"),
        (0.5, None, "0.5000"),
    ],
)
def test_an_error_has_two_digits_at_least(value, error, shown):
    assert plus_minus(value, error) == shown


def test_tables_and_reports_show_small_errors():
    report = {"ce_clean": 2.5, "ce_clean_se": 0.0000312, "ce_increase": 0.0016123, "ce_increase_se": 0.0000312}
    assert with_error(report, "ce_increase") == "0.001612 ± 0.000031"
    assert ("CE clean, nats", "2.500000 ± 0.000031") in loss_rows(report)
    assert plus_minus(0.0016123, 0.0000312, sign="+") == "+0.001612 ± 0.000031"
