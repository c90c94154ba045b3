"""What is training a dictionary worth? Reads evaluations of trained dictionaries and of frozen ones, and contrasts."""

import sys

from reading import Answers, Documents, cells, heads, table

FIGURES = {
    "l0": 1, "fvu": 4, "loss_recovered": 4, "ce_increase": 4, "alive": 0, "dense_10": 0, "token_entropy_median": 2,
    "top3_share_median": 3,
}  # fmt: skip


def main():
    documents, floor = Documents(), sys.argv[2]
    kinds = {
        "trained": "trained",
        "decoder": "decoder frozen",
        "soft": f"decoder within cosine {floor}",
        "encoder": "encoder frozen",
    }
    rows = [
        (label, *cells([report for _, report in documents.evaluations(kind)], FIGURES)) for kind, label in kinds.items()
    ]
    seeds = len(documents.evaluations("trained"))
    table(f"Trained and frozen at the same k (± standard deviation over {seeds} seeds)", ("", *heads(FIGURES)), rows)
    answers = Answers()
    for kind in list(kinds)[1:]:
        answers.contrast(documents, f"against-{kind}", "trained", kinds[kind])
    answers.contrast(documents, "token2", "trained", "the mean by the last two tokens")
    answers.conclude()


if __name__ == "__main__":
    main()
