"""Lines of contrasts: as they are stored, and in words."""

from __future__ import annotations

from sae_cli.metrics.catalogue import contrasted
from sae_cli.metrics.contrast import Difference, Verdict
from sae_cli.metrics.figure import Better, Figure
from sae_cli.metrics.report import ContrastLine
from sae_cli.metrics.row_sums import LEAST_DOCUMENTS
from sae_cli.terminal.plus_minus import plus_minus


def line_of(key: str, against: str | None, found: Difference) -> ContrastLine:
    """A difference as it is stored."""
    low, high = found.interval or (None, None)
    return {
        "figure": key,
        "against": against,
        "unit": "seeds" if found.documents is None else "seeds and documents",
        "verdict": found.verdict.value,
        "within_material": found.is_within,
        "a": found.a,
        "b": found.b,
        "difference": found.effect,
        "se": found.se,
        "low": low,
        "high": high,
        "p": found.p,
        "p_holm": None if found.p is None else min(1.0, found.p * found.holm[0]),
        "material": found.material or None,
        "seeds": found.seeds,
        "documents": found.documents,
        "seed_se": found.seed_se,
        "document_se": found.document_se,
        "seeds_needed": found.seeds_needed,
        "power": found.power(found.material) if found.material else None,
    }


def name_of(key: str, against: str | None) -> str:
    """Of a difference, as `--require` and the list of missing ones have it: `fvu`, `token2.fvu` against a baseline."""
    return key if against is None else f"{against}.{key}"


def figure_and_baseline(name: str) -> tuple[str, str | None]:
    """The key of the figure, and the baseline if there is one, of such a name; keys may have a dot of their own."""
    against, _, key = name.partition(".")
    return (name, None) if name in contrasted() or not key else (key, against)


def difference_of(line: ContrastLine) -> Difference:
    """The same difference, before correction."""
    return Difference(
        a=line["a"],
        b=line["b"],
        seeds=line["seeds"],
        documents=line["documents"],
        seed_se=line["seed_se"],
        document_se=line["document_se"],
        material=line["material"] or 0.0,
    )


def difference_text(line: ContrastLine, known: Figure) -> str:
    """`+0.0123 ± 0.0020 (+0.0050 to +0.0196)`; the interval where there is one."""
    shown = plus_minus(line["difference"], line["se"], max(known.decimals, 2), sign="+")
    if line["low"] is None or line["high"] is None:
        return shown
    digits = len(shown.partition(" ")[0].partition(".")[2])
    return f"{shown} ({line['low']:+.{digits}f} to {line['high']:+.{digits}f})"


def verdict_words(line: ContrastLine, known: Figure, a: str = "A", b: str = "B") -> str:
    """The verdict as people read it.

    Args:
        line: with its verdict.
        known: the figure.
        a, b: what the two sides are called, in the singular.
    """
    match Verdict(line["verdict"]):
        case Verdict.A_HIGHER | Verdict.B_HIGHER as verdict:
            higher, lower = (a, b) if verdict is Verdict.A_HIGHER else (b, a)
            said = f"{higher} is higher"
            if known.better in (Better.HIGHER, Better.LOWER):
                said = f"{higher if known.better is Better.HIGHER else lower} is better"
            return f"{said}, by less than {line['material']:g}" if line["within_material"] else said
        case Verdict.SAME:
            return f"the same within {line['material']:g}"
        case Verdict.ONE_PAIR:
            return "of these two only: one seed"
        case Verdict.NOT_MEASURED if line["documents"] is None:
            return "cannot tell: every seed has the same difference, which does not say how far they spread"
        case Verdict.NOT_MEASURED:
            return f"cannot tell: {line['documents']} documents are too few (at least {LEAST_DOCUMENTS})"
        case Verdict.UNDECIDED:
            return _undecided(line)


def _undecided(line: ContrastLine) -> str:
    """What would tell. An interval is of its line alone, and may leave out nothing where the verdict, which is among
    several lines, does not."""
    if line["low"] is not None and line["high"] is not None and line["low"] * line["high"] > 0:
        return "cannot tell among so many comparisons: more seeds, or fewer figures"
    if line["material"] is None:
        return "cannot tell: more seeds, or a size that matters"
    needed = line["seeds_needed"]
    return f"cannot tell: would need {f'about {needed:,} seeds' if needed else 'more text'}"
