"""Rows of the table of an evaluation that are about losses: of all text, of its domains, among reference models."""

from __future__ import annotations

from collections.abc import Sequence

from sae_cli.documents import Facts
from sae_cli.metrics.catalogue import shown
from sae_cli.metrics.figure import Figure, Group, In, Of
from sae_cli.metrics.language_loss import EFFECTS, is_harm
from sae_cli.metrics.report import (
    DomainsReport,
    EquivalentReport,
    Figures,
    ReferenceReport,
    existing,
    figure,
    is_placed,
)
from sae_cli.metrics.row_sums import LEAST_DOCUMENTS
from sae_cli.runs.definitions import UNDEFINED
from sae_cli.terminal.plus_minus import plus_minus

CE, BITS_PER_BYTE = "ce", "bits_per_byte"
"""Units of a loss that models are placed by."""
PARAMETERS, STEPS = "parameters", "steps"
"""What they are placed among."""

DOMAINS_SHOWN = 8

Rows = list[tuple[str, ...]]


def held_out(report: Facts) -> str:
    """How much text was measured, and what the errors of its figures are over."""
    tokens, documents = existing(report, "tokens"), figure(report, "documents")
    if documents is None:
        return f"{tokens:,}"
    said = f"{tokens:,} of {documents:,} document{'s' if documents != 1 else ''}"
    if documents < LEAST_DOCUMENTS:
        return f"{said}: too few for standard errors, which are over documents (at least {LEAST_DOCUMENTS})"
    return f"{said}, which standard errors (±) and 95 % intervals are over"


def loss_rows(report: Facts) -> Rows:
    """Losses with their standard errors; on the direct path where nothing else was measured."""
    where = In.TABLE if "ce_sae" in report else In.DIRECT
    of_losses = [each for each in shown(Of.EVALUATION, where) if each.group in (Group.EFFECT, Group.LOSS)]
    return [
        (each.named, with_interval(report, each) or why_missing(report, each.key))
        for each in of_losses
        if each.key in report
    ]


def why_missing(figures: Facts, key: str) -> str:
    """Why loss recovered does not exist among these figures; nothing for other figures, or where it is not known."""
    effect = EFFECTS.get(key, "")
    if figures.get(effect) is None:
        return ""
    ablation = "mean" if effect.startswith("mean") else "zero"
    return f"{UNDEFINED}: {ablation} ablation does not clearly raise the loss ({_with_error(figures, effect)} nats)"


def domain_rows(report: DomainsReport) -> Rows:
    """The largest domains, and all others in one row."""
    domains = report.get("domains", {})
    names = sorted(domains, key=lambda name: -existing(domains[name], "tokens"))
    shown, rest = names[:DOMAINS_SHOWN], names[DOMAINS_SHOWN:]
    rows: Rows = [(f"domain {name}", _domain(domains[name])) for name in shown]
    if rest:
        rows.append((f"domain other ({len(rest)})", _domain(_pooled([domains[name] for name in rest]))))
    return rows


def _domain(figures: Figures) -> str:
    path = "" if "ce_sae" in figures else "_direct"
    documents = figures.get("documents")  # of several domains together it is not known
    of = f" of {documents:,} document{'s' if documents != 1 else ''}" if documents else ""
    size = f"{figures['tokens']:,} tokens{of}, CE {figures['ce_clean']:.3f}"
    parts = [size, f"increase {_with_error(figures, f'ce_increase{path}')}"]
    if figures.get(f"loss_recovered{path}") is not None:
        parts.append(f"loss recovered {_with_error(figures, f'loss_recovered{path}')}")
    else:
        parts.append("no loss recovered")
    return ", ".join(parts)


def _pooled(domains: Sequence[Figures]) -> dict[str, float | None]:
    """The figures of several domains as of one; without their errors, for which rows would be needed."""
    tokens = sum(existing(each, "tokens") for each in domains)
    pooled: dict[str, float | None] = {"tokens": tokens}
    for key in ("ce_clean", "ce_sae", "ce_zero", "ce_sae_direct", "ce_zero_direct"):
        if key in domains[0]:
            pooled[key] = sum(existing(each, "tokens") * existing(each, key) for each in domains) / tokens
    for path in ("", "_direct"):
        if f"ce_sae{path}" in pooled:
            clean, sae, zero = (existing(pooled, key) for key in ("ce_clean", f"ce_sae{path}", f"ce_zero{path}"))
            # An upper bound of the error of the whole: the domains share rows.
            errors = [existing(each, "tokens") * (each.get(f"zero_ablation_effect{path}_se") or 0) for each in domains]
            recovered = (zero - sae) / (zero - clean) if is_harm(zero - clean, sum(errors) / tokens) else None
            pooled |= {f"ce_increase{path}": sae - clean, f"loss_recovered{path}": recovered}
    return pooled


def reference_rows(report: object) -> Rows:
    """Which model the spliced one is as good as, and the models that this was read from."""
    if not is_placed(report):
        return []
    unit, references = report["references_unit"], report["references"]
    name = "CE" if unit == CE else "bits per byte"
    rows: Rows = [("as good as", _equivalent(report["equivalent_model"], references))]
    for each in sorted(references, key=lambda each: -each[unit]):
        size = _count(each["parameters"]) + (f", step {each['step']:,}" if "step" in each else "")
        loss = plus_minus(each[unit], each["se"])
        difference = plus_minus(each["difference_to_sae"], each["difference_se"], sign="+")
        rows.append((f"reference {each['name']} ({size})", f"{name} {loss}, {difference} against the spliced model"))
    return rows


def _equivalent(found: EquivalentReport | None, references: Sequence[ReferenceReport]) -> str:
    if found is None:
        return "no reference has a place on the axis"
    key = size_key(found["axis"])
    shown, unit = (_count, "parameters") if found["axis"] == PARAMETERS else (_step, "training steps")
    curve = " … ".join(f"{each['name']} {shown(each[key])}" for each in _ends(found, references, key))
    caveat = caveat_of(found)
    if found["outside"]:
        return f"{found['outside']} of the references ({curve}; nothing is extrapolated{caveat})"
    low, high = ("…" if end is None else shown(end) for end in (found["low"], found["high"]))
    return f"a model of {shown(existing(found, 'value'))} {unit} ({low}–{high}; {curve}{caveat})"


def size_key(axis: str) -> str:
    """Under which key a reference says where it is on an axis."""
    return "parameters" if axis == PARAMETERS else "step"


def caveat_of(found: EquivalentReport) -> str:
    """What a reader must know of the curve, and of the spliced model where it has a lower loss than the intact one."""
    said = "; the references' losses do not fall with size throughout" if not found["monotone"] else ""
    if left_out := found.get("left_out"):
        said += f", left out: {', '.join(left_out)}"
    if found.get("better_than_intact"):
        said += "; the dictionary lowers the loss of its model: this says nothing about how good it is"
    return said


def _ends(found: EquivalentReport, references: Sequence[ReferenceReport], key: str) -> list[ReferenceReport]:
    """The neighbors, or the ends of the curve where the loss is outside."""
    if found["outside"]:
        curve = sorted((each for each in references if each.get(key)), key=lambda each: each[key])
        return [curve[0], curve[-1]] if len(curve) > 1 else curve
    names = dict.fromkeys((found["below"], found["above"]))
    return [next(each for each in references if each["name"] == name) for name in names]


def with_interval(figures: Facts, shown: Figure) -> str:
    """A figure with its standard error and its interval, as far as it has them."""
    key = shown.key
    value, error = figure(figures, key), figure(figures, f"{key}_se")
    low, high = figure(figures, f"{key}_low"), figure(figures, f"{key}_high")
    if value is None:
        return ""
    if error is None:
        return shown.text(value)
    text = plus_minus(value, error, shown.decimals)
    if low is None or high is None:
        return text
    digits = len(text.partition(" ")[0].partition(".")[2])
    return f"{text} ({low:.{digits}f} to {high:.{digits}f})"


def _with_error(figures: Facts, key: str) -> str:
    value, error = figure(figures, key), figure(figures, f"{key}_se")
    if value is None:
        return ""
    return plus_minus(value, error)


def _count(n: float) -> str:
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if n >= size:
            return f"{n / size:.3g}{unit}"
    return f"{n:.0f}"


def _step(n: float) -> str:
    return f"{n:,.0f}"
