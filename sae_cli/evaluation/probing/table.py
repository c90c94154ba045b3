"""What is said of all concepts together, and the lines that people read."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import numpy as np

from sae_cli.documents import Document
from sae_cli.evaluation.probing.bases import SparseBasis
from sae_cli.evaluation.probing.concepts import FEATURES, Concept
from sae_cli.evaluation.probing.material import Material
from sae_cli.evaluation.probing.samples import Side
from sae_cli.metrics.probe_reports import AbsorbedReport, CellsReport, ConceptReport, ConfoundReport, ProbeReport
from sae_cli.terminal.plus_minus import plus_minus

_LEAST_FOR_ABSORPTION = 20
_SHOWN = 3
"""Lines about absorption; all of it is in the file."""
_SHORT = {"features": "best feature", "directions": "random directions"}


def counted(reports: Sequence[ConceptReport]) -> list[ConceptReport]:
    """Those with matched negatives, which are the ones that count; of concepts without such, those with easy ones."""
    matched = {each["concept"] for each in reports if each["kind"] == "matched"}
    return [each for each in reports if each["kind"] == "matched" or each["concept"] not in matched]


def figures_of(reports: Sequence[ConceptReport]) -> Document:
    """Means over concepts, and under each concept's name its own; see `counted`."""
    own = counted(reports)
    if not own:
        return {"concepts": 0}
    best = [each["bases"][FEATURES]["best"] for each in own]
    found: Document = {
        "concepts": len(own),
        "auroc": _mean([each["auroc"] for each in best]),
        "f1": _mean([each["f1"] for each in best]),
        "auroc_dense": _mean([each["dense"]["x"]["auroc"] for each in own]),
        "auroc_error": _mean([each["dense"]["error"]["auroc"] for each in own]),
        "k95": _median_k(own, FEATURES),
        "above_floor": _mean([float(_above_floor(each)) for each in own]),
    }
    for name in own[0]["bases"]:
        if name != FEATURES:
            found[f"auroc_{name}"] = _mean([each["bases"][name]["best"]["auroc"] for each in own])
    for each in own:
        basis = each["bases"][FEATURES]
        keys = ("auroc", "auroc_se", "average_precision", "precision", "recall", "f1")
        of_it: Document = {key: basis["best"][key] for key in keys}
        of_it |= {"k95": basis["k95"], "floor": basis["floor"], "auroc_dense": each["dense"]["x"]["auroc"]}
        found[each["concept"]] = of_it
    return found


def _above_floor(report: ConceptReport) -> bool:
    basis = report["bases"][FEATURES]
    return basis["floor"] is not None and basis["best"]["auroc"] > basis["floor"]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _median_k(reports: Sequence[ConceptReport], basis: str) -> float | None:
    """Over concepts; None where of half of them no probe is sparse enough."""
    values = [each["bases"][basis]["k95"] or np.inf for each in reports]
    found = median(values)
    return float(found) if np.isfinite(found) else None


def absorbed(material: Material, concepts: Sequence[Concept]) -> list[AbsorbedReport]:
    """Of each concept, and each other that implies it, how often its best feature is above its threshold on the tokens
    of that other one, and on its tokens that are not of that one."""
    basis = SparseBasis.of(FEATURES, material.captured)
    by_name = {each.report["concept"]: each for each in concepts if each.report["kind"] == "easy"}
    tokens, found = material.tokens, []
    for name, each in by_name.items():
        best = each.report["bases"][FEATURES]["best"]
        own = tokens.labels[material.chosen, material.names.index(name)] == 1
        rows = np.flatnonzero(own & (tokens.side[material.chosen] == Side.test))
        if best["threshold"] is None or not len(rows):
            continue
        taken = best["sign"] * basis.dense(rows, np.array([best["feature"]]))[:, 0] >= best["threshold"]
        for other in by_name:
            column = material.names.index(other)
            if other == name or not _implies(tokens.labels[:, column], tokens.labels[:, material.names.index(name)]):
                continue
            inside = tokens.labels[material.chosen[rows], column] == 1
            if min(inside.sum(), (~inside).sum()) >= _LEAST_FOR_ABSORPTION:
                found.append(
                    AbsorbedReport(
                        concept=name,
                        implied_by=other,
                        recall=float(taken[inside].mean()),
                        recall_elsewhere=float(taken[~inside].mean()),
                    )
                )
    return found


def _implies(child: np.ndarray, parent: np.ndarray) -> bool:
    """Whether every token of the one is of the other, and not the other way round."""
    return bool((parent[child == 1] == 1).all() and (child[parent == 1] != 1).any())


def table(report: ProbeReport) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows: a line for each concept that counts, then what else there is."""
    own = counted(report["concepts"])
    others = list(own[0]["bases"])[1:] if own else []
    header = (
        "concept",
        "best feature",
        *(_SHORT.get(each, each) for each in others),
        "floor",
        "k95",
        "dense x, x̂, error",
    )
    rows = [_line(each, others) for each in own]
    extra = [*_agree_rows(report["concepts"]), *_confound_rows(report.get("confound"))]
    # Those first of which the best feature misses most.
    missed = sorted(report["absorbed"], key=lambda each: each["recall"] - each["recall_elsewhere"])[:_SHOWN]
    extra += [(f"absorbed: {each['concept']}", _absorbed_text(each)) for each in missed]
    if report["skipped"]:
        names = dict.fromkeys(f"{each['concept']} ({each['kind']}: {each['reason']})" for each in report["skipped"])
        extra.append(("skipped", f"{len(names)}, as {next(iter(names))}"))
    extra.append(("hypotheses", f"{report['hypotheses']:,} (concepts × {report['features']:,} features)"))
    return header, [*rows, *((*each, *[""] * (len(header) - len(each))) for each in extra)]


def _line(each: ConceptReport, others: Sequence[str]) -> tuple[str, ...]:
    basis = each["bases"][FEATURES]
    best, dense = basis["best"], each["dense"]
    sign = "" if best["sign"] > 0 else "not "
    return (
        each["concept"] + ("" if each["kind"] == "matched" else " (easy)"),
        f"{plus_minus(best['auroc'], best['auroc_se'], 3)} ({sign}#{best['feature']})",
        *(f"{each['bases'][name]['best']['auroc']:.3f}" for name in others),
        "-" if basis["floor"] is None else f"{basis['floor']:.3f}",
        _ks(each),
        ", ".join(f"{dense[name]['auroc']:.3f}" for name in ("x", "x_hat", "error")),
    )


def _ks(each: ConceptReport) -> str:
    most = max((probe["k"] for probe in each["bases"][FEATURES]["sparse"]), default=0)
    found = each["bases"][FEATURES]["k95"]
    return f"{found}" if found is not None else f">{most}"


def _absorbed_text(each: AbsorbedReport) -> str:
    return f"recall {each['recall']:.2f} where {each['implied_by']}, {each['recall_elsewhere']:.2f} elsewhere"


def _agree_rows(reports: Sequence[ConceptReport]) -> list[tuple[str, ...]]:
    rows = []
    for each in reports:
        if "agree" not in each:
            continue
        if each["agree"] is None:
            continue
        last = each["agree"]["by_m"][-1]
        where = last["shifted"] or last["same"]
        fpr = ", ".join(f"{name} {found['fpr']:.3f}" for name, found in where.items())
        apart = last["fpr_less_dense"]
        more = ""
        if apart is not None:
            low, high = last["fpr_less_dense_low"], last["fpr_less_dense_high"]
            more = f"; less dense {apart:+.3f}" + ("" if low is None else f" ({low:+.3f} to {high:+.3f})")
        text = f"m={last['m']} (worth {each['agree']['m_eff']:.1f}), false positives: {fpr}{more}"
        rows.append((f"agree: {each['concept']}", text))
    if none := sum("agree" in each and each["agree"] is None for each in reports):
        rows.append(("agree", f"of {none} concepts no feature finds 80 % of the tokens"))
    return rows


def _confound_rows(found: ConfoundReport | None) -> list[tuple[str, ...]]:
    if not found:
        return []
    name = f"{found['concept']} : {found['companion']}"
    rows = [
        (f"{name}, {said}", _cells_text(found[key]))
        for key, said in (
            ("nothing", "confounded"), ("without_companion", "companion's direction out"), ("balanced", "balanced fit"),
        )
    ]  # fmt: skip
    for judged in found["judged"]:
        for condition, cells in judged["conditions"].items():
            text = f"{_cells_text(cells)}; {cells['removed']:.0f} out, {cells['more']:+.3f}"
            text += f" ({cells['more_low']:+.3f} to {cells['more_high']:+.3f})"
            rows.append((f"{judged['judge']}, top {judged['top']}, {condition}", text))
    return rows


def _cells_text(cells: CellsReport) -> str:
    return (
        f"worst cell {plus_minus(cells['worst'], cells['worst_se'], 3)}, where they part {cells['parted']:.3f}, "
        f"AUROC {cells['auroc']:.3f}, of the companion {cells['auroc_of_companion']:.3f}"
    )
