"""Is it good enough? Reads evaluations of every layer alone, of all at once, and of dictionaries of one domain."""

import sys
from collections import defaultdict

from paired import added_up, joint, of_seed, seeds
from reading import KNOWN, Answers, Documents, by_seed, cells, heads, known, plus_minus, settings, shown, table

ALL = "all at once"
DOMAINS_SHOWN = 6
FIGURES = {"ce_sae": 4, "ce_increase": 4, "zero_ablation_effect": 4, "loss_recovered": 4}


def main():
    documents, narrow_domain = Documents(), sys.argv[2]
    alone, together, narrow, on_narrow = (
        list(documents.evaluations(name)) for name in ("alone", "together", "narrow", "on_narrow")
    )
    groups = defaultdict(list)
    for run, report in sorted(alone, key=lambda each: settings(each[0])["layer"]):
        groups[f"layer {settings(run)['layer']}"].append(report)
    groups[ALL] = [report for _, report in together]
    rows = [(name, *cells(reports, FIGURES), _place(reports)) for name, reports in groups.items()]
    title = f"The model on its dictionaries (± standard deviation over {len(together)} seeds)"
    table(title, ("dictionaries", *heads(FIGURES), "as good as a model of"), rows)
    _references(groups[ALL][0])
    _domains(groups)

    answers = Answers()
    parts = [([at_once], of_seed(alone, seed)) for seed, at_once in joint(together)]
    what = "Summed over the documents' tokens: "
    answers.add(KNOWN["ce_increase"], "all layers at once", "the sum of the layers' own", added_up(parts), what)
    wide_there = [(run, report) for run, report in on_narrow if not _is_narrow(run)]
    narrow_there = [(run, report) for run, report in on_narrow if _is_narrow(run)]
    cases = {
        ("all domains", "all domains"): alone,
        (narrow_domain, "all domains"): narrow,
        ("all domains", narrow_domain): wide_there,
        (narrow_domain, narrow_domain): narrow_there,
    }
    sums = {case: _summed(found) for case, found in cases.items()}
    title = "Dictionaries of one domain: CE increase in nats, summed over layers that are replaced alone (± over seeds)"
    table(
        title, ("trained on", "evaluated on", "CE increase"), [(*case, shown(each, 4)) for case, each in sums.items()]
    )
    for where, of_narrow, of_wide in (
        ("all domains", narrow, alone), (narrow_domain, narrow_there, wide_there),
    ):  # fmt: skip
        pairs = [(of_seed(of_narrow, seed), of_seed(of_wide, seed)) for seed in seeds(of_narrow)]
        what = f"On the text of {where}, summed over layers: "
        names = (f"a dictionary of {narrow_domain}", "one of all domains")
        answers.add(KNOWN["ce_increase"], *names, added_up(pairs), what)
    answers.conclude()


def _is_narrow(run):
    return bool(settings(run)["data.domains"])


def _summed(found):
    """For each seed the CE increase summed over the layers, each measured alone."""
    seeds = sorted({by_seed(run) for run, _ in found})
    return [sum(report["ce_increase"] for run, report in found if by_seed(run) == seed) for seed in seeds]


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
    table("The references on the same text (± standard error over documents)", ("model", "parameters", unit), rows)


def _domains(groups):
    """The largest domains: the model as it is, and how much worse it is on each dictionary."""
    first = groups[ALL][0].get("domains", {})
    names = sorted(first, key=lambda name: -first[name]["tokens"])[:DOMAINS_SHOWN]
    if not names:
        return
    rows = []
    for name in names:
        size = f"{first[name]['tokens']:,}", first[name].get("documents", "")
        clean = first[name]["ce_clean"]
        increases = [shown([r["domains"][name]["ce_increase"] for r in reports], 4) for reports in groups.values()]
        rows.append((name, *size, f"{clean:.3f}", *increases))
    header = ("domain", "tokens", "documents", "CE clean", *groups)
    table("CE increase in nats by domain (± standard deviation over seeds)", header, rows)


if __name__ == "__main__":
    main()
