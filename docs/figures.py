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
counts are pooled over all tokens and divided once, at the end. Figures with ± have a standard error, `<key>_se`, and a
95 % interval from `<key>_low` to `<key>_high`; a figure that cannot exist is null.

Held-out rows are spread over the text: one of every document, documents in the order of their hashes, then a second
of each, and so on until `eval.tokens`, at most `eval.rows_per_document` of each (`eval.sample=first`: the rows that
the text begins with). Positions in `eval.exclude` (the first of each row; also `bos`, `eos` and `pad`, as SAEBench
leaves out) keep their own activations under every condition, and neither their reconstruction nor the prediction made
there is counted. Errors are over documents, because rows of one document are alike: with ψ the sum over a
document's rows of ∇g · (row - mean row), SE² = G/(G-1) · Σψ² over G documents (CR1), and the interval is Student's
with G - 1 degrees of freedom. Of fewer than 8 documents there is no error. `rows.safetensors` beside `eval.json` has
the sums of every row with its document, of the dictionary and of all baselines and references, so that `sae contrast`
can pair evaluations of the same text.

Under `baselines`, by its name, each baseline has some of these figures, and `recovered_above`, with its error and
interval: of the loss that the baseline leaves, the share that the dictionary recovers, (CE baseline - CE dictionary) /
(CE baseline - CE clean).

Notation: activations x, their mean x̄, reconstructions x̂, features f; row i of the decoder dᵢ, of the encoder eᵢ.

This page is made from `sae_cli/metrics/catalogue.py` by `python docs/figures.py`.
"""
_OF_OTHERS = {
    Of.SEVERAL: "Of each of several dictionaries in a model at once (`eval.json`, `dictionaries`)",
    Of.FEATURE: "Of a feature (`features.safetensors`)",
    Of.NEURON: "Of a dimension of the activations (`features.safetensors`)",
    Of.PAIR: "Of two dictionaries, in one direction (`compare.json`, `pairs`)",
    Of.BENCH: "By SAEBench's formulas (`bench.json`, `figures`; [how they differ from ours](bench.md))",
    Of.PROBE: "Of features as classifiers (`probe.json`, `figures`; [what they mean](probe.md))",
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
            yield from [f"### {group.value}\n", *_table(grouped(group), with_errors=True)]


def _of_others() -> Iterator[str]:
    for of, title in _OF_OTHERS.items():
        yield from [f"## {title}\n", *_table(list(figures(of).values()))]


def _table(rows: Sequence[Figure], with_errors: bool = False) -> Iterator[str]:
    yield "| key | shown as | unit | better | definition |"
    yield "|---|---|---|---|---|"
    for each in rows:
        unit = each.unit if each.unit not in ("norm", "cosine", "share") else ""
        error = " ±" if each.has_error and with_errors else ""
        cells = (f"`{each.key}`{error}", each.label, unit, each.better.value, each.definition)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE}: {len(FIGURES)} figures")
