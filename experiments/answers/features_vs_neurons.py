"""Are features better than neurons? Reads evaluations with baselines, contrasts with these, and of a known truth."""

from reading import Answers, Documents, cells, heads, shown, table

FIGURES = {"l0": 1, "fvu": 4, "loss_recovered": 4, "ce_increase": 4, "token_entropy_median": 2}


def main():
    documents = Documents()
    reports = [report for _, report in documents.evaluations()]
    rows = [("features", *cells(reports, FIGURES))]
    for name in reports[0].get("baselines") or {}:
        rows.append((name, *cells([report["baselines"][name] for report in reports], FIGURES)))
    title = f"Features, and bases at the same L0 (± standard deviation over {len(reports)} seeds)"
    table(title, ("basis", *heads(FIGURES)), rows)
    answers = Answers()
    answers.contrast(documents, "bases", "the dictionary", None)
    answers.say(_truth([report for _, report in documents.evaluations("truth")]))
    answers.conclude()


def _truth(reports):
    if not reports:
        return "No dictionary of a known truth was measured"
    return (
        f"Where the truth is known (data=synthetic; {len(reports)} seeds), MMCS truth -> dictionary is "
        f"{shown([each['mmcs_truth_to_dictionary'] for each in reports], 4)}, and "
        f"{shown([100 * each['truth_recovered_0.9'] for each in reports], 1)} % of the true directions are found"
    )


if __name__ == "__main__":
    main()
