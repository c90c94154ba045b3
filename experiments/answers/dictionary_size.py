"""What does a larger dictionary buy? Reads evaluations of several sizes, contrasts of each with the one before, and
comparisons of their directions."""

import json
from collections import defaultdict
from itertools import pairwise

from reading import Answers, Documents, cells, heads, settings, shown, table

FIGURES = {
    "l0": 1, "fvu": 4, "loss_recovered": 4, "ce_increase": 4, "alive": 0, "dense_10": 0, "token_entropy_median": 2
}  # fmt: skip


def main():
    documents, sizes = Documents(), defaultdict(list)
    for run, report in documents.evaluations():
        sizes[settings(run)["dict_size"]].append(report)
    sizes = dict(sorted(sizes.items()))
    rows = [(f"{size:,}", *cells(reports, FIGURES)) for size, reports in sizes.items()]
    seeds = max(map(len, sizes.values()))
    table(f"Sizes at the same k (± standard deviation over {seeds} seeds)", ("features", *heads(FIGURES)), rows)
    steps = list(pairwise(sizes))
    _splitting(documents, steps)
    answers = Answers()
    if not steps:
        answers.say("One size: give several, as dict_size=512,1024,2048")
    for number, (smaller, larger) in enumerate(steps, 1):
        answers.contrast(documents, f"step-{number}", f"F = {larger:,}", f"F = {smaller:,}")
    answers.conclude()


def _splitting(documents, steps):
    """Whether features of the larger are those of the smaller, and whether those of the smaller are still there."""
    rows = []
    for number, (smaller, larger) in enumerate(steps, 1):
        pairs = [
            json.loads(path.read_text())["compare"]["pairs"][0]
            for path in sorted(documents.folder.glob(f"directions-{number}-*.json"))
        ]
        floors = [max(p["a_to_b"]["floor_random"], p["a_to_b"]["floor_subspace"]) for p in pairs]
        rows.append((
            f"{larger:,} -> {smaller:,}",
            shown([p["a_to_b"]["mmcs"] for p in pairs]), shown(floors),
            shown([100 * p["a_to_b"]["share_0.9"] for p in pairs], 1),
            shown([p["b_to_a"]["mmcs"] for p in pairs]), shown([100 * p["b_to_a"]["share_0.9"] for p in pairs], 1),
        ))  # fmt: skip
    header = ("", "MMCS", "floor", "> .9, %", "MMCS back", "> .9 back, %")
    table("Which features of the larger are in the smaller, and back (± over seeds)", header, rows)


if __name__ == "__main__":
    main()
