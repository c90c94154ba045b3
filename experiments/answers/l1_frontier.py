"""What does sparsity cost? Reads evaluations of a sweep of L1 from stdin."""

import math
from collections import defaultdict

from reading import conclude, documents, manifest, measure_of, shown, spread, table

KEPT = 0.9


def main():
    swept = defaultdict(list)
    for document in documents():
        swept[manifest(document["run"])["settings"]["l1"]].append((document["run"], document["eval"]))
    digits = {
        "l0": 1, "fvu": 4, "loss_recovered": 4, "ce_increase": 4, "alive": 0, "dense_10": 0, "token_entropy_median": 2
    }  # fmt: skip
    rows = [
        (f"{l1:g}", *(shown([report[key] for _, report in each], digit) for key, digit in digits.items()))
        for l1, each in sorted(swept.items())
    ]
    header = ("L1", "L0", "FVU", "loss recovered", "CE increase", "alive", "> 10 %", "entropy, bits")
    table(f"What sparsity costs (± over {len(next(iter(swept.values())))} seeds)", header, rows)

    points = sorted((l1, spread([r["l0"] for _, r in each])[0], each) for l1, each in swept.items())
    (_, dense, first), (_, sparse, last) = points[0], points[-1]
    halvings = math.log2(dense / sparse) if sparse else math.nan
    compared = measure_of([report for each in swept.values() for _, report in each])
    costs = [compared.sign * (a[compared.key] - b[compared.key]) for (_, a), (_, b) in zip(first, last, strict=True)]
    halving = shown([cost / halvings for cost in costs], 4)
    lines = [
        *compared.why,
        f"From L0 {dense:.1f} to {sparse:.1f}, each halving of L0 costs {halving} {compared.cost}.",
    ]
    good = [(l0, l1, each) for l1, l0, each in points if spread([r["loss_recovered"] for _, r in each])[0] >= KEPT]
    if compared.key != "loss_recovered":
        lines.append(f"Which of them recovers {KEPT:.0%} cannot be said.")
    elif good:
        l0, l1, each = min(good, key=lambda point: point[0])
        lines.append(f"The sparsest that recovers {KEPT:.0%}: L1 {l1:g} with L0 {l0:.1f}, {each[0][0]}")
    else:
        lines.append(f"None of them recovers {KEPT:.0%}: lower l1=, or raise dict_size= or tokens=.")
    conclude(lines)


if __name__ == "__main__":
    main()
