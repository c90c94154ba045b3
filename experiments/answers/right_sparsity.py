"""How sparse should a dictionary be? Reads evaluations of a sweep of k where the truth is known and on a model, how
well seeds agree at each k, and contrasts of neighboring k."""

from collections import defaultdict
from itertools import pairwise

from reading import Answers, Documents, cells, heads, settings, shown, spread, table

TRUTH = {"l0": 1, "fvu": 4, "mmcs_truth_to_dictionary": 3, "truth_recovered_0.9": 3, "alive": 0}
MODEL = {"l0": 1, "fvu": 4, "loss_recovered": 4, "alive": 0, "token_entropy_median": 2}


def main():
    documents, answers = Documents(), Answers()
    truth, model = _by_k(documents, "truth"), _by_k(documents, "evaluations")
    seeds = max(map(len, truth.values()))
    rows = [(k, *cells(reports, TRUTH)) for k, reports in truth.items()]
    table(f"Where the truth is known (± standard deviation over {seeds} seeds)", ("k", *heads(TRUTH)), rows)
    agreement = {k: _agreement(documents, k) for k in model}
    rows = [(k, *cells(reports, MODEL), shown(agreement[k])) for k, reports in model.items()]
    title = "On the model; agreement: MMCS of different seeds above its floor (± over pairs)"
    table(title, ("k", *heads(MODEL), "agreement"), rows)
    for number, (less, more) in enumerate(pairwise(truth), 1):
        answers.contrast(documents, f"truth-{number}", f"k = {more}", f"k = {less}", "Known truth: ")
    answers.say(
        _best("Most of the truth is found", {k: [r["mmcs_truth_to_dictionary"] for r in truth[k]] for k in truth})
    )
    answers.say(_best("Seeds agree most, on the model,", agreement))
    answers.conclude()


def _by_k(documents, name):
    found = defaultdict(list)
    for run, report in documents.evaluations(name):
        found[settings(run)["k"]].append(report)
    return dict(sorted(found.items()))


def _agreement(documents, k):
    """MMCS above its floor of every pair of seeds, both ways."""
    if documents.why(f"agreement-{k}"):
        return []
    ways = [pair[key] for pair in documents[f"agreement-{k}"]["compare"]["pairs"] for key in ("a_to_b", "b_to_a")]
    return [each["mmcs"] - max(each["floor_random"], each["floor_subspace"]) for each in ways]


def _best(what, found):
    """By the means, and whether that is inside the sweep."""
    means = {k: spread(values)[0] for k, values in found.items() if values}
    if len(means) < 3:
        return f"{what}: cannot tell: fewer than three values of k, or one seed"
    best = max(means, key=lambda k: means[k])
    where = "inside the sweep" if min(means) < best < max(means) else "at the end of the sweep: give k= beyond it"
    return f"{what} at k = {best} ({means[best]:.3f}), {where}"


if __name__ == "__main__":
    main()
