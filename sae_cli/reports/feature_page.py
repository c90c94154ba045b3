"""Showing the page of a feature to people, in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sae_cli.artifacts.stored_run import FinishedRun, read_run
from sae_cli.metrics.catalogue import shown
from sae_cli.metrics.figure import In, Of
from sae_cli.runs.feature_pages import StoredPages
from sae_cli.runs.stored_figures import shows_stored
from sae_cli.terminal import console
from sae_cli.terminal.console import Excerpt
from sae_cli.terminal.plus_minus import plus_minus


def show(directory: Path, features: Sequence[int]) -> None:
    """Show the pages of some features.

    Args:
        directory: of finished pages.
        features: their numbers.

    Raises:
        RequestError: there is no page of a feature.
    """
    _show(read_run(directory, "features"), features)


@shows_stored
def _show(run: FinishedRun, features: Sequence[int]) -> None:
    pages = StoredPages(run)
    for row, feature in [(pages.row(each), each) for each in features]:
        console.table(f"feature {feature}", _rows(pages, row))
        for title, excerpts in _groups(pages, row):
            console.excerpts(title, excerpts)


def _rows(pages: StoredPages, row: int) -> list[tuple[str, str]]:
    tensors = pages.tensors
    there = [each for each in shown(Of.FEATURE, In.PAGE) if each.key in tensors]
    rows = [(each.label, each.text(float(tensors[each.key][row]))) for each in there]
    rows.append(("these from", f"{pages.about['statistics_tokens']:,} tokens"))
    for side, label in (("top", "raises"), ("bottom", "lowers")):
        if f"{side}_token" in tensors:
            pairs = zip(tensors[f"{side}_token"][row].tolist(), tensors[f"{side}_weight"][row].tolist(), strict=True)
            rows.append((label, "  ".join(f"{_quoted(pages.token(token))} {weight:+.2f}" for token, weight in pairs)))
    pairs = zip(tensors["nearest"][row].tolist(), tensors["nearest_cosine"][row].tolist(), strict=True)
    rows.append(("nearest features", "  ".join(f"{other} ({cosine:.2f})" for other, cosine in pairs)))
    for each in pages.about["ablation"]:
        if each["feature"] == int(tensors["feature"][row]) and each["ce_increase"] is not None:
            increase = plus_minus(each["ce_increase"], each["ce_increase_se"], sign="+")
            rows.append(("without it", f"CE {increase} on its {each['tokens']:,} tokens"))
    return rows


def _groups(pages: StoredPages, row: int) -> list[tuple[str, list[Excerpt]]]:
    quantile, taken = pages.contexts["quantile"][row], pages.contexts["document"][row] >= 0
    bands, there = pages.about["bands"], sorted(set(quantile[taken].tolist()))
    groups = []
    for group in [each for each in there if each == 0] + [each for each in reversed(there) if each > 0]:
        slots = ((quantile == group) & taken).nonzero()[:, 0].tolist()
        title = f"quantiles {(group - 1) / bands:.0%} to {group / bands:.0%}" if group else "largest activations"
        groups.append((title, [_excerpt(pages, row, slot) for slot in slots]))
    return groups or [("fires nowhere in the text", [])]


def _excerpt(pages: StoredPages, row: int, slot: int) -> Excerpt:
    contexts = pages.contexts
    tokens, activations = contexts["tokens"][row, slot], contexts["activations"][row, slot]
    largest = float(contexts["peak"][row].max())
    inside = (tokens >= 0).nonzero()[:, 0]
    return Excerpt(
        label=f"{float(contexts['peak'][row, slot]):.3g}",
        words=[pages.token(each) for each in tokens[inside].tolist()],
        shades=(activations[inside] / largest).tolist() if largest > 0 else [0.0] * len(inside),
        peak=int((inside < len(tokens) // 2).sum()),
        source=pages.document(int(contexts["document"][row, slot])),
    )


def _quoted(text: str) -> str:
    return f"'{text}'"
