"""Are features classifiers of concepts? Reads probes of trained dictionaries, each beside one of a random network."""

from statistics import mean

import numpy as np
from reading import Documents, table
from scipy.stats import t

_LEAST = 8
"""Concepts, or seeds' concepts, below which no interval is given."""


def main():
    documents = Documents()
    probes = [documents[name]["probe"] for name in documents.numbered("probe")]
    concepts_table(probes)
    claims(probes)
    agreement(probes)
    for number, name in enumerate(documents.numbered("confound"), start=1):
        confounded(documents[name]["probe"]["confound"], number)


def counted(probe):
    """By concept: with matched negatives where there are such."""
    return {each["concept"]: each for each in sorted(probe["concepts"], key=lambda each: each["kind"])}


def concepts_table(probes):
    bases = list(next(iter(counted(probes[0]).values()))["bases"])
    rows = []
    for name in dict.fromkeys(name for probe in probes for name in counted(probe)):
        own = [counted(probe)[name] for probe in probes if name in counted(probe)]
        aurocs = (f"{mean(each['bases'][basis]['best']['auroc'] for each in own):.3f}" for basis in bases)
        floors = [each["bases"]["features"]["floor"] for each in own]
        k95 = [each["bases"]["features"]["k95"] for each in own]
        dense = mean(each["dense"]["x"]["auroc"] for each in own)
        shown = ", ".join("-" if each is None else str(each) for each in k95)
        rows.append((name, *aurocs, "-" if None in floors else f"{mean(floors):.3f}", shown, f"{dense:.3f}"))
    header = ("concept", *("best feature" if each == "features" else each for each in bases), "floor", "k95", "dense")
    table(f"AUROC on test tokens, negatives matched by token (mean of {len(probes)} seeds)", header, rows)


def claims(probes):
    """The unit is the concept: differences are means over seeds, and concepts are what was drawn."""
    print("\nOver concepts, the best feature's AUROC less that of")
    bases = [each for each in next(iter(counted(probes[0]).values()))["bases"] if each != "features"]
    for basis in [*bases, "dense"]:
        print(f"  {basis:12} {over_concepts([differences(probe, basis) for probe in probes])}")


def differences(probe, basis):
    """By concept."""
    found = {}
    for name, each in counted(probe).items():
        other = each["dense"]["x"] if basis == "dense" else each["bases"][basis]["best"]
        found[name] = each["bases"]["features"]["best"]["auroc"] - other["auroc"]
    return found


def over_concepts(by_seed):
    """The mean over concepts with its 95 % interval, and a verdict."""
    names = {name for each in by_seed for name in each}
    values = np.array([mean(each[name] for each in by_seed if name in each) for name in names])
    if len(values) < _LEAST:
        return f"{values.mean():+.3f} over {len(values)} concepts: too few for an interval"
    reach = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    low, high = values.mean() - reach, values.mean() + reach
    verdict = "the feature is better" if low > 0 else "the feature is worse" if high < 0 else "cannot tell"
    return f"{values.mean():+.3f} ({low:+.3f} to {high:+.3f}), {len(values)} concepts: {verdict}"


def agreement(probes):
    """False positives on tokens of another distribution where all features agree, less those of a dense probe."""
    found, able = {}, 0
    for number, probe in enumerate(probes):
        for each in probe["concepts"]:
            if agreed := each.get("agree"):
                able += 1
                if (apart := agreed["by_m"][-1]["fpr_less_dense"]) is not None:
                    found.setdefault(number, {})[each["concept"]] = apart
    print(f"\nAgreement: some feature finds 80 % of the tokens of {able} of the concepts, over all seeds.")
    if found:
        print(f"  false positives where all agree, less those of a dense probe of that recall: {words(found.values())}")


def words(by_seed):
    return (
        over_concepts(list(by_seed)).replace("the feature is better", "more").replace("the feature is worse", "fewer")
    )


def confounded(found, number):
    rows = [(name, *cells(found[key])) for key, name in (
        ("nothing", "confounded"), ("without_companion", "companion's direction out"), ("balanced", "balanced fit"),
    )]  # fmt: skip
    for judged in found["judged"]:
        for condition, each in judged["conditions"].items():
            rows.append((f"{judged['judge']}, top {judged['top']}: {condition}", *cells(each)))
    title = f"{found['concept']} with the companion {found['companion']}, dictionary {number}"
    table(title, ("", "worst cell", "where they part", "AUROC", "of the companion", "taken out"), rows)


def cells(each):
    removed = f"{each['removed']:.1f}" if "removed" in each else ""
    figures = (each["parted"], each["auroc"], each["auroc_of_companion"])
    return f"{each['worst']:.3f} ± {each['worst_se']:.3f}", *(f"{value:.3f}" for value in figures), removed


if __name__ == "__main__":
    main()
