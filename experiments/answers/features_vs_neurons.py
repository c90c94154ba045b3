"""Are features better than neurons? Reads evaluations over seeds, one with baselines, and a comparison with a truth."""

import math
import sys

from reading import conclude, documents, measure_of, plus_minus, shown, spread, table


def main():
    evaluations, with_baselines, truth = map(documents, sys.argv[1:])
    reports = [each["eval"] for each in evaluations]
    (beside,) = (each["eval"] for each in with_baselines)
    keys = {"l0": 1, "fvu": 4, "loss_recovered": 4, "ce_increase": 4, "token_entropy_median": 2}
    rows = [("features", *(shown([report[key] for report in reports], digit) for key, digit in keys.items()))]
    for name, each in beside["baselines"].items():
        rows.append((name, *(_measured(each, key, digit) for key, digit in keys.items())))
    header = ("basis", "L0", "FVU", "loss recovered", "CE increase", "entropy, bits")
    title = f"Features (± over {len(reports)} seeds) and bases at the same L0 (± standard error)"
    table(title, header, rows)

    lines = list(_against_bases(reports, beside))
    back = truth["compare"]["pairs"][0]["b_to_a"]
    floor = max(back["floor_random"], back["floor_subspace"])
    lines.append(
        "Where the truth is known (data=synthetic), MMCS truth -> dictionary is "
        f"{back['mmcs']:.4f} (floor {floor:.3f}): {back['share_0.9']:.1%} of the true features are found."
    )
    conclude(lines)


def _against_bases(reports, beside):
    bases = beside["baselines"]
    key, what, _, sign, why = measure_of([*reports, *bases.values()])
    yield from why
    best = max(bases.values(), key=lambda each: sign * each[key])
    mean, deviation = spread([report[key] for report in reports])
    error = math.hypot(best[f"{key}_se"] or 0, beside[f"{key}_se"] or 0, 0 if math.isnan(deviation) else deviation)
    for name, each in bases.items():
        difference = mean - each[key]
        ahead = sign * difference
        word = "features win" if ahead > 2 * error else f"{name} win" if ahead < -2 * error else "undecided"
        yield f"{what[0].upper()}{what[1:]}, features less {name}: {plus_minus(difference, error, 4, '+')}: {word}."


def _measured(figures, key, digits):
    error = figures.get(f"{key}_se")
    if figures.get(key) is None:
        return "-"
    return plus_minus(figures[key], error, digits)


if __name__ == "__main__":
    main()
