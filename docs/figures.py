"""Write `docs/figures.md`, the page of all figures, from the catalogue.

python docs/figures.py
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from sae_cli.metrics.catalogue import FIGURES, figures, grouped
from sae_cli.metrics.figure import Figure, Group, Of

PAGE = Path(__file__).with_suffix(".md")
_BEGINNING = """\
# Figures

The numbers that `sae` prints and stores, by their keys: names in files, in `--json` and for `--require`. Sums and
counts are pooled over all tokens and divided once, at the end. Figures with ± have a standard error over rows of text,
`<key>_se`; a figure that cannot exist is null.

Notation: activations x, their mean x̄, reconstructions x̂, features f; row i of the decoder dᵢ, of the encoder eᵢ.

This page is made from `sae_cli/metrics/catalogue.py` by `python docs/figures.py`.
"""
_OF_OTHERS = {
    Of.SEVERAL: "Of each of several dictionaries in a model at once (`eval.json`, `dictionaries`)",
    Of.FEATURE: "Of a feature (`features.safetensors`)",
    Of.NEURON: "Of a dimension of the activations (`features.safetensors`)",
    Of.PAIR: "Of two dictionaries, in one direction (`compare.json`, `pairs`)",
    Of.CURVE: "Of a point of the training curve (`metrics.jsonl`)",
    Of.HARVEST: "`--require` of `sae harvest`",
    Of.TRAINING: "`--require` of `sae train`",
    Of.COMPARISON: "`--require` of `sae compare`",
    Of.PAGES: "`--require` of `sae features`",
}


def page() -> str:
    """The page as Markdown."""
    return "\n".join([_BEGINNING, *_of_evaluations(), *_of_others()])


def _of_evaluations() -> Iterator[str]:
    yield "## Of an evaluation (`eval.json`)\n"
    for group in Group:
        if group is not Group.NONE:
            yield from [f"### {group.value}\n", *_table(grouped(group))]


def _of_others() -> Iterator[str]:
    for of, title in _OF_OTHERS.items():
        yield from [f"## {title}\n", *_table(list(figures(of).values()))]


def _table(rows: Sequence[Figure]) -> Iterator[str]:
    yield "| key | shown as | unit | better | definition |"
    yield "|---|---|---|---|---|"
    for each in rows:
        unit = each.unit if each.unit not in ("norm", "cosine", "share") else ""
        error = " ±" if each.has_error else ""
        cells = (f"`{each.key}`{error}", each.label, unit, each.better.value, each.definition)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE}: {len(FIGURES)} figures")
