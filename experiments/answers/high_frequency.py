"""Are high-frequency features needed? Reads evaluations of a sweep of L1 and of pruned dictionaries from stdin."""

from collections import defaultdict
from pathlib import Path

from reading import by_log_l0, conclude, documents, manifest, measure_of, shown, table, verdict


def main():
    swept, pruned = defaultdict(list), defaultdict(list)
    for document in documents():
        made = manifest(document["run"])
        if made["command"] == "train":
            swept[made["settings"]["l1"]].append((made["settings"]["seed"], document["eval"]))
        else:
            seed = manifest(Path(made["parents"][0]["path"]))["settings"]["seed"]
            settings = made["settings"]
            pruned[settings["max_freq"], settings["recenter"]].append((seed, document["eval"]))

    rows = [(f"L1 {l1:g}", "", *_figures(each)) for l1, each in sorted(swept.items())]
    for (threshold, recentered), each in _by_threshold(pruned):
        taken = shown([report["killed"] for _, report in each], 0)
        rows.append((f"  pruned above {threshold:g}" + (", recentered" if recentered else ""), taken, *_figures(each)))
    header = ("dictionary", "pruned", "L0", "MSE", "FVU", "loss recovered", "over mean", "KL", "alive", "sweep there")
    low = min(swept)
    rows = [(*row, "") for row in rows]
    reports = [report for each in (*swept.values(), *pruned.values()) for _, report in each]
    compared = measure_of([*reports, *(report["before"] for report in reports if "before" in report)])
    frontier = {seed: _frontier(swept, seed, compared.key) for seed, _ in swept[low]}
    answers = []
    for i, ((threshold, recentered), each) in enumerate(_by_threshold(pruned)):
        at = [(report, by_log_l0(frontier[seed], report["l0"])) for seed, report in each]
        if any(sweep is None for _, sweep in at):
            continue
        rows[len(swept) + i] = (*rows[len(swept) + i][:-1], shown([sweep for _, sweep in at]))
        differences = [compared.sign * (report[compared.key] - sweep) for report, sweep in at]
        errors = [report[f"{compared.key}_se"] or 0.0 for report, _ in at]
        name = f"pruning above {threshold:g}" + (" and recentering" if recentered else "")
        answers.append(f"  {name}: {verdict(differences, 'pruning wins', 'the higher L1 wins', errors)}")
    table(f"L1 {low:g}, pruned by frequency, against higher L1 (± over {len(swept[low])} seeds)", header, rows)
    costs = [compared.sign * (r["before"][compared.key] - r[compared.key]) for _, r in _hardest(pruned)]
    lost = [report["before"]["l0"] - report["l0"] for _, report in _hardest(pruned)]
    threshold = min(pruned)[0]
    conclude([
        *compared.why,
        f"Pruning every feature above {threshold:g} took {shown(lost, 1)} off L0 and cost {shown(costs, 4)} "
        f"{compared.cost}.",
        f"{_AHEAD[compared.key]} at the same L0:",
        *(answers or ["  no pruned dictionary has an L0 within that of the sweep"]),
    ])  # fmt: skip


_AHEAD = {
    "loss_recovered": "Loss recovered of the pruned dictionary less that of the L1 sweep",
    "ce_increase": "CE increase of the L1 sweep less that of the pruned dictionary",
}


def _by_threshold(pruned):
    """The gentlest first, each before what is recentered too."""
    return sorted(pruned.items(), key=lambda item: (-item[0][0], item[0][1]))


def _hardest(pruned):
    """The dictionaries with the lowest threshold, not recentered."""
    return pruned[min(pruned)]


def _frontier(swept, seed, key):
    return [(report["l0"], report[key]) for each in swept.values() for s, report in each if s == seed]


def _figures(each):
    reports = [report for _, report in each]
    digits = {"l0": 1, "mse": 2, "fvu": 4, "loss_recovered": 4, "loss_recovered_mean": 4, "kl_sae": 4, "alive": 0}
    return [shown([report[key] for report in reports], digit) for key, digit in digits.items()]


if __name__ == "__main__":
    main()
