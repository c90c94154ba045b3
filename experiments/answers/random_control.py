"""Does a dictionary pick up the network, or the data? Reads evaluations, and comparisons with L1 and with TopK."""

import sys
from collections import defaultdict
from pathlib import Path

from reading import conclude, documents, manifest, shown, spread, table, verdict

TRAINED, ALL, BUT_EMBEDDING = "trained", "random", "random but embedding"
KINDS = {"relu": "equal L1", "topk": "equal L0"}


def main():
    files = {Path(path).stem: path for path in sys.argv[1:]}
    runs = {each["run"]: each["eval"] for each in documents(files["evaluations"])}
    rows, lines = [], []
    for kind, condition in KINDS.items():
        reports, matrix = defaultdict(list), Matrix(documents(files[kind])["compare"])
        for run, report in runs.items():
            if manifest(run)["settings"]["sae.architecture"] == kind:
                reports[model_of(run)].append(report)
        for model in (TRAINED, ALL, BUT_EMBEDDING):
            rows.append((condition, model, *_figures(reports[model]), *(matrix.cell(model, to) for to in MODELS)))
        lines += _conclusions(condition, reports, matrix)
    header = (
        "", "weights", "L0", "FVU", "alive", "> 10 %", "entropy", "top 3", *(f"MMCS -> {to} (floor)" for to in MODELS)
    )  # fmt: skip
    table(f"Dictionaries of trained and of random weights (± over {len(reports[TRAINED])} seeds)", header, rows)
    print("\nMMCS: mean over pairs of different seeds; floor: the higher of random directions and a shared subspace.")
    conclude(lines)


MODELS = (TRAINED, ALL, BUT_EMBEDDING)


def model_of(run):
    """Which weights the dictionary of a run was trained on."""
    path = Path(manifest(run)["settings"]["model.path"])
    if not (path / "manifest.json").is_file():
        return TRAINED
    return BUT_EMBEDDING if "embed" in manifest(path)["settings"]["keep"] else ALL


class Matrix:
    """MMCS between the dictionaries of two models, over pairs of runs of different seeds."""

    def __init__(self, compared):
        names = [each["run"] for each in compared["runs"]]
        self.found = defaultdict(list)
        for pair in compared["pairs"]:
            ends = [names[pair["a"]], names[pair["b"]]]
            seeds = [manifest(end)["settings"]["seed"] for end in ends]
            if seeds[0] != seeds[1]:
                a, b = map(model_of, ends)
                self.found[a, b].append(pair["a_to_b"])
                self.found[b, a].append(pair["b_to_a"])

    def mmcs(self, start, end):
        return [each["mmcs"] for each in self.found[start, end]]

    def floor(self, start, end):
        return [max(each["floor_random"], each["floor_subspace"]) for each in self.found[start, end]]

    def cell(self, start, end):
        floor, _ = spread(self.floor(start, end))
        return f"{shown(self.mmcs(start, end))} ({floor:.3f})"


def _figures(reports):
    digits = {"l0": 1, "fvu": 4, "alive": 0, "dense_10": 0, "token_entropy_median": 2, "top3_share_median": 2}
    return [shown([report[key] for report in reports], digit) for key, digit in digits.items()]


def _conclusions(condition, reports, matrix):
    lines = [f"At {condition}:"]
    dense = {model: [r["dense_10"] / r["features"] for r in reports[model]] for model in MODELS}
    entropy = {model: [r["token_entropy_median"] for r in reports[model]] for model in MODELS}
    for model in (ALL, BUT_EMBEDDING):
        differences = [a - b for a, b in zip(dense[model], dense[TRAINED], strict=True)]
        said = verdict(differences, f"more of them on {model}", "more of them on trained")
        lines.append(f"  share of features on > 10 % of tokens, {model} less trained: {said}")
        differences = [a - b for a, b in zip(entropy[model], entropy[TRAINED], strict=True)]
        said = verdict(differences, "trained is more specific to tokens", f"{model} is more specific to tokens")
        lines.append(f"  token entropy in bits, {model} less trained: {said}")
        above = [m - f for m, f in zip(matrix.mmcs(TRAINED, model), matrix.floor(TRAINED, model), strict=True)]
        within = [m - f for m, f in zip(matrix.mmcs(TRAINED, TRAINED), matrix.floor(TRAINED, TRAINED), strict=True)]
        lines.append(
            f"  MMCS above its floor: trained with trained {shown(within)}, trained with {model} {shown(above)}"
        )
    return lines


if __name__ == "__main__":
    main()
