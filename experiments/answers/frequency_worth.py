"""What are features of each frequency worth? Reads evaluations of dictionaries without a part of their features in the
order of frequency, of controls, and contrasts with the whole."""

from reading import Answers, Documents, by_seed, manifest, own_figure, settings, shown, table

from sae_cli.metrics.contrast import over_seeds

SLOPE = own_figure("slope", "CE increase per FVU", unit="nats", digits=".3f")


def main():
    documents, answers, rows = Documents(), Answers(), []
    whole = {by_seed(run): report for run, report in documents.evaluations("whole")}
    slopes = {}
    for name in documents.numbered("band"):
        number = name.partition("-")[2]
        made = documents.evaluations(name)
        places = "{:.0%} to {:.0%}".format(*settings(made[0][0])["band"])
        slopes[places] = _slopes(made, whole)
        rows.append((places, *_row(made, whole), shown(slopes[places].values(), 3)))
        if others := documents.evaluations(f"random-{number}"):
            rows.append(
                ("  others that fire as often", *_row(others, whole), shown(_slopes(others, whole).values(), 3))
            )
        what = f"Places {places} in the order of frequency: "
        answers.contrast(documents, f"worth-{number}", "without them", "the whole", what)
        answers.contrast(documents, f"control-{number}", "without these", "without others that fire as often", what)
    header = ("taken out", "features", "of L0", "CE increase, nats", "FVU", "CE per FVU")
    title = f"What each part of the features is worth: the change when it is gone (± deviation over {len(whole)} seeds)"
    table(title, header, rows)
    first, *_, last = [*slopes, *slopes]
    if first != last:
        pairs = [(slopes[last][seed], slopes[first][seed]) for seed in slopes[last] if seed in slopes[first]]
        there = [pair for pair in pairs if None not in pair]
        found = over_seeds(there, SLOPE.material) if there else None
        answers.add(SLOPE, "the most frequent part", "the rarest", found)
    answers.conclude()


def _row(made, whole):
    facts = [manifest(run)["facts"] for run, _ in made]
    changes = [[report[key] - whole[by_seed(run)][key] for run, report in made] for key in ("ce_increase", "fvu")]
    return (
        shown([each["killed"] for each in facts], 0),
        shown([each["pruned_l0"] for each in facts], 2),
        *(shown(each, 5) for each in changes),
    )


def _slopes(made, whole):
    """Nats of CE for each unit of FVU, by seed; None where FVU does not change."""
    found = {}
    for run, report in made:
        before = whole[seed := by_seed(run)]
        change = report["fvu"] - before["fvu"]
        found[seed] = (report["ce_increase"] - before["ce_increase"]) / change if change > 0 else None
    return found


if __name__ == "__main__":
    main()
