"""What should be autoencoded? Reads evaluations of every hook point over seeds, contrasts of what writes the MLP's
update with `mlp_out`, and a comparison of directions in logit space."""

from collections import defaultdict

from reading import Answers, Documents, cells, heads, settings, shown, table

FIGURES = {
    "l0": 1, "fvu": 3, "fvu_resid": 3, "fvu_logit": 3, "ce_increase": 4, "ce_increase_direct": 4,
    "loss_recovered": 3, "loss_recovered_direct": 3, "logit_kurtosis_median": 1, "token_entropy_median": 2,
}  # fmt: skip
OTHERS = {"mlp_act": "mlp_act", "linear": "logit_update linear", "exact": "logit_update exact"}
"""What stands for the same update of the residual stream as `mlp_out`."""


def main():
    documents = Documents()
    reports = defaultdict(list)
    for run, report in documents.evaluations():
        reports[hook_of(run)].append(report)
    rows = [(hook, *cells(each, FIGURES)) for hook, each in reports.items()]
    seeds = max(map(len, reports.values()))
    title = f"Dictionaries of every hook point at equal L0 (± standard deviation over {seeds} seeds)"
    table(title, ("hook", *heads(FIGURES)), rows)
    _directions(documents["directions"]["compare"])
    answers = Answers()
    for name, hook in OTHERS.items():
        answers.contrast(documents, name, hook, "mlp_out")
    if "mlp_act" in reports:
        answers.say(_null_space(reports["mlp_act"]))
    answers.conclude()


def hook_of(run):
    """The hook point of a run, and its mode where it has one."""
    given = settings(run)
    return " ".join(filter(None, (given["hook.point"], given.get("hook.mode"))))


def _directions(compared):
    """MMCS of every pair, with the higher of its two floors."""
    names = [hook_of(each["run"]) for each in compared["runs"]]
    found = {}
    for pair in compared["pairs"]:
        for start, end, key in ((pair["a"], pair["b"], "a_to_b"), (pair["b"], pair["a"], "b_to_a")):
            each = pair[key]
            found[start, end] = f"{each['mmcs']:.2f} ({max(each['floor_random'], each['floor_subspace']):.2f})"
    rows = [(name, *(found.get((i, j), "") for j in range(len(names)))) for i, name in enumerate(names)]
    title = "Do they find the same directions? MMCS in centered logits, from row to column (floor); of one seed"
    table(title, ("", *names), rows)


def _null_space(each):
    return (
        f"Null space of the output matrix, in dictionaries of mlp_act: share of a feature "
        f"{shown([r['nullspace'] for r in each])} (a random direction {each[0]['nullspace_floor']:.3f}), share of the "
        f"activations' variance {shown([r['nullspace_variance'] for r in each])}"
    )


if __name__ == "__main__":
    main()
