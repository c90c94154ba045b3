"""Is it good enough? Reads evaluations of every layer alone, of all at once, and of dictionaries of one domain."""

import math
import sys
from collections import defaultdict

from reading import by_seed, conclude, documents, known, manifest, plus_minus, shown, table, verdict

ALL = "all at once"
DOMAINS_SHOWN = 6


def main():
    narrow_domain, *files = sys.argv[1:]
    alone, together, narrow, on_narrow = (documents(path) for path in files)
    groups = defaultdict(list)
    for each in sorted(alone, key=lambda each: layer_of(each["run"])):
        groups[f"layer {layer_of(each['run'])}"].append(each["eval"])
    groups[ALL] = [each["eval"] for each in together]
    seeds = len(groups[ALL])
    keys = {"ce_sae": 4, "ce_increase": 4, "zero_ablation_effect": 4, "loss_recovered": 4}
    rows = [
        (name, *(shown([report[key] for report in reports], digits) for key, digits in keys.items()), _place(reports))
        for name, reports in groups.items()
    ]
    header = ("dictionaries", "CE", "CE increase", "CE increase by zero", "loss recovered", "as good as a model of")
    table(f"The model on its dictionaries (± over {seeds} seeds; CE in nats)", header, rows)
    _references(groups[ALL][0])
    _domains(groups)
    cases = {
        ("all domains", "all domains"): alone,
        (narrow_domain, "all domains"): narrow,
        ("all domains", narrow_domain): [each for each in on_narrow if not is_narrow(each["run"])],
        (narrow_domain, narrow_domain): [each for each in on_narrow if is_narrow(each["run"])],
    }
    sums = {case: sum_over_layers(found) for case, found in cases.items()}
    _one_domain(sums)
    conclude([*_sum_of_parts(groups), *_narrow(narrow_domain, sums)])


def is_narrow(run):
    return bool(manifest(run)["settings"]["data.domains"])


def sum_over_layers(found):
    """For each seed the CE increase summed over the layers, each measured alone, and its standard error."""
    seeds = sorted({by_seed(each["run"]) for each in found})
    reports = [[each["eval"] for each in found if by_seed(each["run"]) == seed] for seed in seeds]
    return [
        (sum(r["ce_increase"] for r in of_seed), math.hypot(*(r["ce_increase_se"] or 0.0 for r in of_seed)))
        for of_seed in reports
    ]


def layer_of(run):
    return manifest(run)["settings"]["layer"]


def _place(reports):
    """Where the spliced models are on the curve of references, over seeds, and the measurement's own range."""
    found = known([report["equivalent_model"] for report in reports])
    if not found:
        return "-"
    if outside := {each["outside"] for each in found if each["outside"]}:
        return ", ".join(sorted(f"({each})" for each in outside))
    size = 1e6 if found[0]["axis"] == "parameters" else 1.0
    unit = "M parameters" if size > 1 else " training steps"
    lows, highs = ([each[end] for each in found if each[end] is not None] for end in ("low", "high"))
    low, high = (f"{end / size:.2f}" if end else "…" for end in (min(lows, default=0), max(highs, default=0)))
    return f"{shown([each['value'] / size for each in found], 2)}{unit} ({low} to {high})"


def _references(report):
    unit = report["references_unit"]
    rows = [
        (each["name"], f"{each['parameters'] / 1e6:.2f}M", plus_minus(each[unit], each["se"], 4))
        for each in sorted(report["references"], key=lambda each: each["parameters"])
    ]
    table("The references on the same text (± standard error over rows)", ("model", "parameters", unit), rows)


def _domains(groups):
    """The largest domains: the model as it is, and how much worse it is on each dictionary."""
    first = groups[ALL][0].get("domains", {})
    names = sorted(first, key=lambda name: -first[name]["tokens"])[:DOMAINS_SHOWN]
    if not names:
        return
    rows = []
    for name in names:
        clean = first[name]["ce_clean"]
        increases = [shown([r["domains"][name]["ce_increase"] for r in reports], 4) for reports in groups.values()]
        rows.append((name, f"{first[name]['tokens']:,}", f"{clean:.3f}", *increases))
    table("CE increase by domain (± over seeds)", ("domain", "tokens", "CE clean", *groups), rows)


def _one_domain(sums):
    rows = [(*case, shown([value for value, _ in found], 4)) for case, found in sums.items()]
    header = ("trained on", "evaluated on", "CE increase")
    table(
        "Dictionaries of one domain: CE increase, summed over layers that are replaced alone (± over seeds)",
        header,
        rows,
    )


def _sum_of_parts(groups):
    """Whether the losses of the layers add up."""
    parts = [reports for name, reports in groups.items() if name != ALL]
    sums = [sum(report["ce_increase"] for report in of_seed) for of_seed in zip(*parts, strict=True)]
    differences = [report["ce_increase"] - total for report, total in zip(groups[ALL], sums, strict=True)]
    errors = [report["ce_increase_se"] for report in groups[ALL]]
    said = verdict(differences, "they make each other worse", "together they lose less", errors)
    yield f"CE increase with all at once less the sum of the layers' own: {said}."


def _narrow(name, sums):
    for where in ("all domains", name):
        pairs = list(zip(sums[name, where], sums["all domains", where], strict=True))
        differences = [narrow - wide for (narrow, _), (wide, _) in pairs]
        errors = [math.hypot(error, other) for (_, error), (_, other) in pairs]
        said = verdict(differences, "those of all domains lose less", f"those of {name} lose less", errors)
        yield f"CE increase on the text of {where}, dictionaries of {name} less those of all domains: {said}."


if __name__ == "__main__":
    main()
