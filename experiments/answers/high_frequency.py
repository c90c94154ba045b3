"""Are high-frequency features needed? Reads evaluations of a sweep of L1, of dictionaries of its lowest without their
most frequent features and without others at random, and contrasts of these."""

from collections import defaultdict

from reading import Answers, Documents, cells, heads, manifest, settings, shown, table

FIGURES = {"l0": 1, "fvu": 4, "loss_recovered": 4, "ce_increase": 4, "kl_sae": 4, "alive": 0}
LIMITS = {
    "max_freq": "features on more than {:g} of tokens",
    "top_n": "the {} most frequent features",
    "target_l0": "the most frequent features down to L0 {:g}",
    "band": "features at places {} of the order of frequency",
}


def main():
    documents = Documents()
    swept = defaultdict(list)
    for run, report in documents.evaluations("sweep"):
        swept[settings(run)["l1"]].append(report)
    rows = [(f"L1 {l1:g}", "", "", *cells(each, FIGURES)) for l1, each in sorted(swept.items())]
    answers = Answers()
    for pruned in documents.numbered("pruned"):
        number = pruned.partition("-")[2]
        made = documents.evaluations(pruned)
        what = pruned_of(made[0][0])
        rows.append((f"  without {what}", *_taken(made), *_figures(made)))
        if others := documents.evaluations(f"random-{number}"):
            rows.append(("  without others that fire as often", *_taken(others), *_figures(others)))
        after = f"Without {what}: "
        answers.contrast(documents, f"curve-{number}", "pruning", "a higher L1 with the same L0", after)
        answers.contrast(documents, f"control-{number}", "pruning these", "pruning others at random", after)
    seeds = max(map(len, swept.values()))
    header = ("dictionary", "pruned", "of L0", *heads(FIGURES))
    title = f"L1 {min(swept):g}, pruned by frequency, against higher L1 (± standard deviation over {seeds} seeds)"
    table(title, header, rows)
    answers.conclude()


def pruned_of(run):
    """What was pruned, in words."""
    made = settings(run)
    (key,) = [key for key in LIMITS if made.get(key) is not None]
    return LIMITS[key].format(made[key])


def _taken(made):
    facts = [manifest(run)["facts"] for run, _ in made]
    return shown([each["killed"] for each in facts], 0), shown([each["pruned_l0"] for each in facts], 1)


def _figures(made):
    return cells([report for _, report in made], FIGURES)


if __name__ == "__main__":
    main()
