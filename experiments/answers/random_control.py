"""Does a dictionary pick up the network, or the data? Reads evaluations, contrasts of the trained model with random
networks, and comparisons of directions, with L1 and with TopK."""

from collections import defaultdict
from pathlib import Path

from reading import Answers, Documents, cells, heads, manifest, own_figure, settings, shown, spread, table

from sae_cli.metrics.contrast import over_seeds
from sae_cli.metrics.figure import Better

TRAINED, ALL, BUT_EMBEDDING = "trained", "random", "random but embedding"
MODELS = (TRAINED, ALL, BUT_EMBEDDING)
KINDS = {"relu": "equal L1", "topk": "equal L0"}
FIGURES = {
    "l0": 1, "fvu": 4, "loss_recovered": 3, "alive": 0, "dense_10": 0, "token_entropy_median": 2, "top3_share_median": 2
}  # fmt: skip
ABOVE_FLOOR = own_figure("mmcs", "MMCS with other seeds above its floor", Better.NEITHER, digits=".3f", material=0.05)


def main():
    documents, answers, rows = Documents(), Answers(), []
    for kind, condition in KINDS.items():
        reports, matrix = defaultdict(list), Matrix(documents[kind]["compare"])
        for run, report in documents.evaluations():
            if settings(run)["sae.architecture"] == kind:
                reports[model_of(run)].append(report)
        rows += [
            (condition, model, *cells(reports[model], FIGURES), *(matrix.cell(model, to) for to in MODELS))
            for model in MODELS
        ]
        at = f"At {condition}: "
        for name, model in (("all", ALL), ("but_embedding", BUT_EMBEDDING)):
            answers.contrast(documents, f"{kind}-{name}", TRAINED, model, at)
            answers.add(ABOVE_FLOOR, "trained with trained", f"trained with {model}", matrix.against(model), at)
    seeds = len(reports[TRAINED])
    header = ("", "weights", *heads(FIGURES), *(f"MMCS -> {to} (floor)" for to in MODELS))
    table(f"Dictionaries of trained and of random weights (± deviation over {seeds} seeds and networks)", header, rows)
    print("\nMMCS: mean over pairs of different seeds; floor: the higher of random directions and a shared subspace.")
    answers.conclude()


def model_of(run):
    """Which weights the dictionary of a run was trained on."""
    path = Path(settings(run)["model.path"])
    if not (path / "manifest.json").is_file():
        return TRAINED
    return BUT_EMBEDDING if "embed" in manifest(path)["settings"]["keep"] else ALL


class Matrix:
    """MMCS between the dictionaries of two kinds of network, over pairs of runs of different seeds."""

    def __init__(self, compared):
        names = [each["run"] for each in compared["runs"]]
        self._found = defaultdict(list)
        for pair in compared["pairs"]:
            ends = [names[pair["a"]], names[pair["b"]]]
            seeds = [settings(end)["seed"] for end in ends]
            if seeds[0] != seeds[1]:
                a, b = map(model_of, ends)
                self._found[a, b].append((seeds[0], pair["a_to_b"]))
                self._found[b, a].append((seeds[1], pair["b_to_a"]))

    def cell(self, start, end):
        found = [each for _, each in self._found[start, end]]
        if not found:
            return "-"
        floor, _ = spread([_floor(each) for each in found])
        return f"{shown([each['mmcs'] for each in found])} ({floor:.3f})"

    def against(self, model):
        """For each seed: the mean of MMCS above its floor with trained dictionaries of other seeds, and with those of
        other networks. Pairs are not independent of each other, the seeds are taken to be."""
        within, across = self._by_seed(TRAINED, TRAINED), self._by_seed(TRAINED, model)
        pairs = [(within[seed], across[seed]) for seed in within if seed in across]
        return over_seeds(pairs, ABOVE_FLOOR.material) if pairs else None

    def _by_seed(self, start, end):
        found = defaultdict(list)
        for seed, each in self._found[start, end]:
            found[seed].append(each["mmcs"] - _floor(each))
        return {seed: spread(each)[0] for seed, each in found.items()}


def _floor(each):
    return max(each["floor_random"], each["floor_subspace"])


if __name__ == "__main__":
    main()
