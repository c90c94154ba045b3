"""How much is the smallness of the text? Reads evaluations of dictionaries of its parts, at home and elsewhere."""

import statistics
import sys

import torch
from paired import added_up, evaluation_of, of_seed, rows_of, seeds
from reading import KNOWN, Answers, Documents, by_seed, cells, heads, settings, shown, table

from sae_cli.artifacts import stored_run

FIGURES = {"loss_recovered": 3, "ce_increase": 4, "fvu": 3}
MASS = 0.9
"""Share of a domain's activation mass that the features it is said to use must have."""
BANDS = 10
PERMUTATIONS = 20


def main():
    documents, sizes = Documents(), sys.argv[2:]
    domains = (documents.folder / "domains.txt").read_text().splitlines()
    rows, answers = [], Answers()
    for size in sizes:
        names = domains[: 2 * int(size) : 2]
        own = documents.evaluations(f"own-{size}")
        others = documents.evaluations(f"others-{size}")
        elsewhere = [each for each in others if _trained_on(each[0])]
        everything = [each for each in others if not _trained_on(each[0])]
        at_home = documents.evaluations(f"other-at-home-{size}")
        reports = {
            "this part": [report for _, report in own],
            "another part": [report for _, report in elsewhere],
            "all the text": [report for _, report in everything],
            "means by two tokens": [report["baselines"]["token2"] for _, report in own],
        }
        n = own[0][1]["documents"]
        rows += [(_domains(names), n, name, *cells(found, FIGURES)) for name, found in reports.items()]
        home = [report for _, report in at_home]
        rows.append((f"{_domains(names)}, other part", home[0]["documents"], "that part", *cells(home, FIGURES)))
        for key in ("ce_increase", "fvu"):
            what = f"On {_domains(names)}: "
            for name, found in (("another part", elsewhere), ("all the text", everything)):
                pairs = [(of_seed(own, seed), of_seed(found, seed)) for seed in seeds(own)]
                answers.add(KNOWN[key], "a dictionary of this part", f"one of {name}", added_up(pairs, key), what)
            means = [([rows_of(run, report, "baselines.token2")], [rows_of(run, report)]) for run, report in own]
            answers.add(KNOWN[key], "means by two tokens", "a dictionary of this part", added_up(means, key), what)
    count = len(seeds(documents.evaluations("alone")))
    title = f"Dictionaries on a part of the text (± standard deviation over {count} seeds)"
    table(title, ("on", "documents", "trained on", *heads(FIGURES)), rows)
    _reuse(documents, domains)
    answers.conclude()


def _trained_on(run):
    """The domains that a dictionary was trained on; none for all of them."""
    return settings(run)["data.domains"]


def _domains(names):
    return names[0] if len(names) == 1 else f"{len(names)} domains"


def _reuse(documents, domains):
    """How many domains a feature serves among those that make up most of each one's activations."""
    found = [dict(_by_seed(documents.evaluations(f"domain-{number}"))) for number in range(len(domains))]
    rows = []
    for seed in sorted(found[0]):
        mass = torch.stack([_mass(*each[seed]) for each in found])
        generator = torch.Generator().manual_seed(seed)
        floor = [reuse(_permuted(mass, generator)) for _ in range(PERMUTATIONS)]
        used = torch.stack([_used(each) for each in mass]).sum(dim=1).double()
        rows.append((float(used.mean()), reuse(mass), statistics.fmean(floor)))
    if not rows:
        return
    n_used, own, chance = map(shown, zip(*rows, strict=True), (0, 2, 2))
    table(
        f"Do {len(domains)} domains use the same features? (of one dictionary of all the text; ± over seeds)",
        (f"features with {MASS:.0%} of a domain's activations", "domains that each serves", "if drawn at random"),
        [(n_used, own, chance)],
    )  # fmt: skip
    print(f"\n1: no feature is shared; {len(domains)}: all are. At random: among those with as much activation.")


def _by_seed(found):
    return [(by_seed(run), (run, report)) for run, report in found]


def _mass(run, report):
    """Σ f‖d‖ of every feature on the text of an evaluation, as a share of all."""
    tensors = evaluation_of(run, report).read_tensors("features.safetensors")
    mass = tensors["count"].double() * tensors["mean_act"].double()
    mass = mass * stored_run.read_run(run).read_tensors("sae.safetensors")["W_dec"].double().norm(dim=1)
    return mass / mass.sum()


def _used(mass):
    """Which features make up the least set that has so much of it."""
    order = mass.argsort(descending=True)
    n = int((mass[order].cumsum(0) < MASS * mass.sum()).sum()) + 1
    used = torch.zeros(len(mass), dtype=torch.bool)
    used[order[:n]] = True
    return used


def reuse(mass):
    """Σ|U_b| / |∪ U_b| of the features that each domain uses [B, F]: 1 where none is shared, B where all are."""
    used = torch.stack([_used(each) for each in mass])
    return float(used.sum() / used.any(dim=0).sum())


def _permuted(mass, generator):
    """The features of each domain in another order, among those that have about as much over all domains."""
    order = mass.mean(dim=0).argsort()
    moved = mass.clone()
    for each in moved:
        for band in order.tensor_split(BANDS):
            each[band] = each[band[torch.randperm(len(band), generator=generator)]]
    return moved


if __name__ == "__main__":
    main()
