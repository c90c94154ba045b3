"""What the answers share: the documents of `sae … --json`, settings of runs, tables, and contrasts in words."""

import json
import math
import statistics
import sys
from itertools import count
from pathlib import Path

from sae_cli.metrics.catalogue import FIGURES
from sae_cli.metrics.contrast import corrected
from sae_cli.metrics.contrast_lines import difference_of, difference_text, figure_and_baseline, line_of, verdict_words
from sae_cli.metrics.figure import Better, Figure

KNOWN = {each.key: each for each in reversed(FIGURES)}
"""The figures of the tool by their keys."""


class Documents:
    """The documents of a pipeline: `<name>.json` in the folder that is the script's argument.

    Of a command that refused what it was asked for there is `<name>.why` instead, with its reason.
    """

    def __init__(self, folder=None):
        self.folder = Path(folder or sys.argv[1])

    def __getitem__(self, name):
        return json.loads((self.folder / f"{name}.json").read_text())

    def evaluations(self, name="evaluations"):
        """(run, figures) of each; none where nothing was measured."""
        path = self.folder / f"{name}.json"
        return [(each["run"], each["eval"]) for each in self[name]] if path.is_file() else []

    def numbered(self, name):
        """`name-1`, `name-2` … as far as there are such."""
        for number in count(1):
            if not [*self.folder.glob(f"{name}-{number}.*")]:
                return
            yield f"{name}-{number}"

    def why(self, name):
        """Why there is no such document, in a line; None where there is one."""
        if (self.folder / f"{name}.json").is_file():
            return None
        path = self.folder / f"{name}.why"
        lines = [each.strip() for each in path.read_text().splitlines() if each.strip()] if path.is_file() else []
        # Of a sweep each job has an error of its own; the last line sums them up.
        errors = [each.partition("error: ")[2] for each in lines if "error: " in each]
        return next(iter(errors or lines[-1:]), "it was not measured")


def manifest(run):
    """The manifest of a run: its settings, its parents."""
    return json.loads((Path(run) / "manifest.json").read_text())


def settings(run):
    """The settings of a run."""
    return manifest(run)["settings"]


def trained(run):
    """The run that a dictionary was trained in; of a pruned one, its parent's."""
    about = manifest(run)
    return trained(about["parents"][0]["path"]) if about["command"] == "prune-high-freq" else run


def by_seed(run):
    """The seed that a dictionary was trained with."""
    return settings(trained(run))["seed"]


def known(values):
    """Those that exist: a figure may be null, as loss recovered is where zero ablation does not raise the loss."""
    return [value for value in values if value is not None]


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
    values = list(values)
    if not known(values):
        return "-"
    mean, deviation = spread(values)
    some = f" ({len(known(values))} of {len(values)})" if len(known(values)) < len(values) else ""
    return f"{plus_minus(mean, deviation, digits)}{some}"


def cells(reports, digits):
    """A cell for each figure {key: digits}, over the seeds."""
    return [shown([report.get(key) for report in reports], digit) for key, digit in digits.items()]


def heads(digits):
    """What stands above these cells."""
    return [KNOWN[key].heading for key in digits]


def table(title, header, rows):
    """Print a table with columns as wide as what is in them."""
    rows = [tuple(map(str, row)) for row in (header, *rows)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    print(f"\n{title}\n")
    for number, row in enumerate(rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))


class Answers:
    """The contrasts that an answer consists of, judged together."""

    def __init__(self):
        self._parts = []

    def say(self, text):
        """A line of its own."""
        self._parts.append(text)

    def contrast(self, documents, name, a, b, what=""):
        """The lines of `sae contrast` in a document; where it was refused, why.

        Args:
            documents: those of the pipeline.
            name: of the document.
            a, b: what the two sides are called, in the singular; b is None for baselines, which have names.
            what: said before the figure.
        """
        if why := documents.why(name):
            self.say(f"{what}{a} against {b or 'baselines'}: cannot tell: {why}")
            return
        report = documents[name]["contrast"]
        for line in report["lines"]:
            figure = KNOWN[line["figure"]]
            self.add(figure, a, b or line["against"], difference_of(line), what)
        for key, against in map(figure_and_baseline, report["missing"]):
            self.say(f"{what}{KNOWN[key].label}, {a} less {b or against}: does not exist for one of them")

    def add(self, figure, a, b, difference, what=""):
        """A difference of a figure; None where it is not known."""
        if difference is None:
            self.say(f"{what}{figure.label}, {a} less {b}: cannot tell: it is not known")
        else:
            self._parts.append((figure, a, b, difference, what))

    def lines(self):
        """Everything in order, verdicts corrected for how many there are (Holm)."""
        judged = iter(corrected([each[3] for each in self._parts if isinstance(each, tuple)]))
        for part in self._parts:
            if isinstance(part, str):
                yield part
                continue
            figure, a, b, _, what = part
            line = line_of(figure.key, None, next(judged))
            n = f"n = {line['seeds']} seed{'s' if line['seeds'] > 1 else ''}"
            over = n if line["documents"] is None else f"{n}, {line['documents']} documents"
            matters = f"; matters from {line['material']:g}" if line["material"] else ""
            yield (
                f"{what}{figure.named}, {a} less {b}: {difference_text(line, figure)} ({over}{matters}): "
                f"{verdict_words(line, figure, a, b)}"
            )

    def conclude(self):
        """Print them."""
        compared = sum(isinstance(each, tuple) for each in self._parts)
        print()
        for line in self.lines():
            print(f"{line}.")
        if compared:
            print(f"(± is a standard error; intervals are 95 %; verdicts are corrected for {compared} comparisons.)")


def own_figure(key, label, better=Better.NEITHER, digits=".4f", unit="", material=0.0):
    """A figure of an answer, which the tool does not have."""
    return Figure(key, label, label, better=better, digits=digits, unit=unit, material=material)
