"""What should be autoencoded? Reads evaluations of every hook point over seeds, and a comparison in logit space."""

import sys
from collections import defaultdict
from pathlib import Path

from reading import conclude, documents, manifest, shown, table, verdict

ALL_PATHS, DIRECT_PATH = "ce_increase", "ce_increase_direct"
WRITE_THE_UPDATE = ("mlp_act", "logit_update linear")
"""Besides `mlp_out`: what stands for the same update of the residual stream."""


def main():
    files = {Path(path).stem: path for path in sys.argv[1:]}
    reports = defaultdict(list)
    for each in documents(files["evaluations"]):
        reports[hook_of(each["run"])].append(each["eval"])
    seeds = len(next(iter(reports.values())))
    columns = {
        "l0": 1, "fvu": 3, "fvu_resid": 3, "fvu_logit": 3, ALL_PATHS: 4, DIRECT_PATH: 4,
        "loss_recovered": 3, "loss_recovered_direct": 3, "logit_kurtosis_median": 1, "token_entropy_median": 2,
    }  # fmt: skip
    header = (
        "hook", "L0", "FVU", "FVU resid", "FVU logit", "CE increase", "direct path",
        "loss recovered", "direct path", "logit kurtosis", "entropy, bits",
    )  # fmt: skip
    rows = [
        (hook, *(shown([report.get(key) for report in each], digits) for key, digits in columns.items()))
        for hook, each in reports.items()
    ]
    table(f"Dictionaries of every hook point at equal L0 (± over {seeds} seeds; CE in nats)", header, rows)
    _directions(documents(files["directions"])["compare"])
    conclude([*_paths(reports), *_spaces(reports), *_null_space(reports)])


def hook_of(run):
    """The hook point of a run, and its mode where it has one."""
    settings = manifest(run)["settings"]
    return " ".join(filter(None, (settings["hook.point"], settings.get("hook.mode"))))


def _directions(compared):
    """MMCS of every pair, with the higher of its two floors."""
    names = [hook_of(each["run"]) for each in compared["runs"]]
    cells = {}
    for pair in compared["pairs"]:
        for start, end, key in ((pair["a"], pair["b"], "a_to_b"), (pair["b"], pair["a"], "b_to_a")):
            each = pair[key]
            cells[start, end] = f"{each['mmcs']:.2f} ({max(each['floor_random'], each['floor_subspace']):.2f})"
    rows = [(name, *(cells.get((i, j), "") for j in range(len(names)))) for i, name in enumerate(names)]
    table("Do they find the same directions? MMCS in centered logits, from row to column (floor)", ("", *names), rows)


def _paths(reports):
    """Against `mlp_out`, whatever else stands for the MLP's update: paired over seeds."""
    for key, where in ((ALL_PATHS, "on all paths"), (DIRECT_PATH, "on the direct path")):
        others = [*WRITE_THE_UPDATE, *(["logit_update exact"] if key == DIRECT_PATH else [])]
        for hook in others:
            pairs = list(zip(reports[hook], reports["mlp_out"], strict=True))
            differences = [a[key] - b[key] for a, b in pairs]
            errors = [(a[f"{key}_se"] ** 2 + b[f"{key}_se"] ** 2) ** 0.5 for a, b in pairs]
            said = verdict(differences, "mlp_out loses less", f"{hook} loses less", errors)
            yield f"CE increase {where}, {hook} less mlp_out: {said}."


def _spaces(reports):
    for key, space in (("fvu_resid", "the residual stream"), ("fvu_logit", "the logits")):
        for hook in WRITE_THE_UPDATE:
            differences = [a[key] - b[key] for a, b in zip(reports[hook], reports["mlp_out"], strict=True)]
            said = verdict(differences, "mlp_out is nearer", f"{hook} is nearer")
            yield f"FVU seen from {space}, {hook} less mlp_out: {said}."


def _null_space(reports):
    each = reports["mlp_act"]
    yield (
        f"Null space of the output matrix, in dictionaries of mlp_act: share of a feature "
        f"{shown([r['nullspace'] for r in each])} (a random direction {each[0]['nullspace_floor']:.3f}), share of the "
        f"activations' variance {shown([r['nullspace_variance'] for r in each])}."
    )


if __name__ == "__main__":
    main()
