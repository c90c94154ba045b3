"""What does sparsity cost? Reads evaluations of a sweep of L1, and a contrast of its highest with its lowest."""

import math
import sys
from collections import defaultdict

from reading import Answers, Documents, cells, heads, settings, spread, table

FIGURES = {
    "l0": 1, "fvu": 4, "loss_recovered": 4, "ce_increase": 4, "alive": 0, "dense_10": 0, "token_entropy_median": 2
}  # fmt: skip


def main():
    documents, kept = Documents(), float(sys.argv[2])
    swept = defaultdict(list)
    for run, report in documents.evaluations():
        swept[settings(run)["l1"]].append((run, report))
    rows = [(f"{l1:g}", *cells([report for _, report in each], FIGURES)) for l1, each in sorted(swept.items())]
    seeds = max(map(len, swept.values()))
    table(f"What sparsity costs (± standard deviation over {seeds} seeds)", ("L1", *heads(FIGURES)), rows)
    answers = Answers()
    low, high = min(swept), max(swept)
    answers.contrast(documents, "cost", f"L1 {high:g}", f"L1 {low:g}")
    if low < high:
        answers.say(_halvings(swept[low], swept[high]))
    answers.say(_sparsest(swept, kept))
    answers.conclude()


def _halvings(first, last):
    """By how often L0 is halved between the ends of the sweep."""
    dense, sparse = (spread([report["l0"] for _, report in each])[0] for each in (first, last))
    if not sparse or dense <= sparse:
        return f"L0 goes from {dense:.1f} to {sparse:.1f}"
    halvings = math.log2(dense / sparse)
    costs = spread([b["ce_increase"] - a["ce_increase"] for (_, a), (_, b) in zip(first, last, strict=True)])[0]
    return f"From L0 {dense:.1f} to {sparse:.1f}, {halvings:.1f} halvings, each costs {costs / halvings:.4f} nats of CE"


def _sparsest(swept, kept):
    """That recovers so much of the loss for certain: with the lower ends of the intervals over documents."""
    surely = []
    for l1, each in swept.items():
        lows = [report.get("loss_recovered_low") for _, report in each]
        if None not in lows and min(lows) >= kept:
            surely.append((spread([report["l0"] for _, report in each])[0], l1, each[0][0]))
    if not surely:
        return f"None surely recovers {kept:.0%} with every seed (lower ends of intervals): lower l1=, or raise tokens="
    l0, l1, run = min(surely)
    return f"The sparsest that surely recovers {kept:.0%} with every seed: L1 {l1:g}, L0 {l0:.1f}, {run}"


if __name__ == "__main__":
    main()
