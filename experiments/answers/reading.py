"""What the answers share: documents of `sae … --json`, settings of runs, figures over seeds, tables."""

import json
import math
import statistics
import sys
from collections import namedtuple
from itertools import pairwise
from pathlib import Path

from scipy.special import stdtrit


def documents(path=None):
    """What `sae eval -m --json` printed: from a file, or from stdin."""
    return json.loads(Path(path).read_text() if path else sys.stdin.read())


def manifest(run):
    """The manifest of a run: its settings, its parents."""
    return json.loads((Path(run) / "manifest.json").read_text())


def by_seed(run):
    """The seed that a dictionary was trained with; of a pruned one, its parent's."""
    about = manifest(run)
    return by_seed(about["parents"][0]["path"]) if about["command"] == "prune-high-freq" else about["settings"]["seed"]


def known(values):
    """Those that exist: a figure may be null, as loss recovered is where zero ablation does not raise the loss."""
    return [value for value in values if value is not None]


Measure = namedtuple("Measure", "key name cost sign why")
"""What dictionaries are compared by: the key of a figure, its name, what a loss of it is called, 1 where more is better
or -1, and what to say of the choice."""


def measure_of(reports):
    """Loss recovered; CE increase where that does not exist for some of them."""
    if None not in [report["loss_recovered"] for report in reports]:
        return Measure("loss_recovered", "loss recovered", "of loss recovered", 1, [])
    why = (
        "Compared by CE increase: zero ablation does not clearly raise the loss, so that loss recovered does not exist."
    )
    return Measure("ce_increase", "CE increase", "nats of CE", -1, [why])


def spread(values):
    """Mean and standard deviation over seeds (not a number for one); not numbers where none has a value."""
    values = known(values)
    if not values:
        return math.nan, math.nan
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else math.nan


def plus_minus(value, error, digits, sign=""):
    """`value ± error` with two digits of the error at least; the value alone where no error is known."""
    if error is None or math.isnan(error):
        return f"{value:{sign}.{digits}f}"
    if error > 0:
        digits = max(digits, 1 - math.floor(math.log10(error)))
    return f"{value:{sign}.{digits}f} ± {error:.{digits}f}"


def shown(values, digits=3):
    """`mean ± deviation` over seeds, the value of a single one, and how many these are where some have no value."""
    if not known(values):
        return "-"
    mean, deviation = spread(values)
    some = f" ({len(known(values))} of {len(values)})" if len(known(values)) < len(values) else ""
    return f"{plus_minus(mean, deviation, digits)}{some}"


def verdict(differences, better, worse, errors=()):
    """Which way paired differences over seeds point, if their 95 % interval says so; one seed decides nothing.

    The variance is that over seeds and that of the measurement, which more seeds do not make smaller: all are measured
    on the same text. The interval is Student's, with a degree of freedom less than there are seeds.
    """
    differences, errors = known(differences), known(errors)
    if not differences:
        return "no seed has both: undecided"
    mean, deviation = spread(differences)
    measured = statistics.fmean(errors) if errors else 0.0
    n = len(differences)
    if n < 2:
        return f"{plus_minus(mean, measured or None, 4, '+')}: undecided (one seed)"
    error = math.hypot(deviation / math.sqrt(n), measured)
    reach = float(stdtrit(n - 1, 0.975)) * error
    word = better if mean > reach else worse if mean < -reach else "undecided"
    said = plus_minus(mean, error, 4, "+")
    digits = len(said.partition(" ")[0].partition(".")[2])
    return f"{said} ({mean - reach:+.{digits}f} to {mean + reach:+.{digits}f}, {n} seeds): {word}"


def by_log_l0(points, l0):
    """y at an L0, by straight lines in log L0 between points (L0, y); None outside them."""
    points = sorted(points)
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 <= l0 <= x1:
            share = (math.log(l0) - math.log(x0)) / (math.log(x1) - math.log(x0)) if x1 > x0 else 0.0
            return y0 + share * (y1 - y0)
    return None


def table(title, header, rows):
    """Print a table with columns as wide as what is in them."""
    rows = [tuple(map(str, row)) for row in (header, *rows)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    print(f"\n{title}\n")
    for number, row in enumerate(rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))


def conclude(lines):
    """Print what the table says."""
    print()
    for line in lines:
        print(line)
