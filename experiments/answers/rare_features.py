"""What are rare features? Reads evaluations of plain, resampled and forbidding trainings, their densities through
training, and contrasts with rare features pruned."""

import torch
from reading import Answers, Documents, by_seed, own_figure, shown, table

from sae_cli.metrics.contrast import over_seeds
from sae_cli.metrics.figure import Better
from sae_cli.metrics.rare import rare_in_part
from sae_cli.runs.dictionary_run import read_density, read_dictionary_run

EARLY, MIDDLE, LATE = (0.1, 0.4), (0.4, 0.7), (0.7, 1.0)
"""Shares of the training: where features are called rare, before any is resampled, and what is held against what."""
KINDS = {"plain": "plain", "resampled": "half of the dead resampled", "forbidden": "direction forbidden"}


def main():
    documents = Documents()
    reports = {kind: {by_seed(run): (run, report) for run, report in documents.evaluations(kind)} for kind in KINDS}
    below = next(iter(reports["plain"].values()))[1]["rare"]["below"]
    _tables(reports, below)
    _through_training(reports["plain"])
    answers = Answers()
    _shape(answers, reports["plain"])
    _rarer(answers, reports, below)
    answers.contrast(documents, "resampling", "the training with resampling", "its twin without")
    answers.contrast(documents, "work", "the dictionary without rare features", "the whole")
    answers.contrast(documents, "control", "pruning rare features", "pruning others that fire as often")
    _again(answers, reports)
    answers.conclude()


_QUANTILES = (
    ("de_projection", "q05", 2),
    ("de_projection", "q50", 2),
    ("de_projection", "q95", 2),
    ("b_enc", "q50", 2),
)


def _tables(reports, below):
    rows = []
    for kind, label in KINDS.items():
        for group in ("rare", "others"):
            found = [report["rare"][group] for _, report in reports[kind].values()]
            some = [each for each in found if each["features"] > 1]
            cells = [shown([each[key][level] for each in some], digits) for key, level, digits in _QUANTILES]
            alignment = shown([each["encoder_alignment"] for each in some])
            rows.append((label, group, shown([each["features"] for each in found], 0), *cells, alignment))
    header = ("training", "features", "how many", "D/E 5 %", "D/E median", "D/E 95 %", "b_enc median", "cosine of rows")
    seeds = len(reports["plain"])
    title = f"Features on less than {below:g} of the tokens, and all others that fire (± deviation over {seeds} seeds)"
    table(title, header, rows)


def _through_training(plain):
    """The same features at the steps that were saved."""
    rows = []
    for snapshots in zip(*(report["rare"].get("snapshots", []) for _, report in plain.values()), strict=True):
        cells = []
        for group in ("rare", "others"):
            found = [each[group] for each in snapshots if each[group]["features"] > 1]
            cells += [shown([each[key]["q50"] for each in found], 2) for key in ("de_projection", "b_enc")]
            cells.append(shown([each["encoder_alignment"] for each in found]))
        rows.append((snapshots[0]["step"], *cells))
    header = ("step", *(f"{group}: {what}" for group in ("rare", "others") for what in ("D/E", "b_enc", "cosine")))
    table("What became rare, and the others, through training (medians; plain)", header, rows)


_SHAPE = (
    ("de_projection", own_figure("de_projection", "median D/E projection", material=0.05)),
    ("b_enc", own_figure("b_enc", "median encoder bias")),
    ("encoder_alignment", own_figure("encoder_alignment", "mean cosine of two encoder rows", material=0.02)),
)


def _shape(answers, plain):
    """Rare features against the others of the same dictionaries."""
    for key, figure in _SHAPE:
        pairs = [
            tuple(_median(report["rare"][group], key) for group in ("rare", "others")) for _, report in plain.values()
        ]
        answers.add(figure, "a rare feature", "another", _over_seeds(pairs, figure))


def _median(group, key):
    if group["features"] < 2:
        return None
    return group[key]["q50"] if isinstance(group[key], dict) else group[key]


def _over_seeds(pairs, figure):
    """Of those seeds that have both; None where none has."""
    there = [pair for pair in pairs if None not in pair]
    return over_seeds(there, figure.material) if there else None


_CHANGE = own_figure("change", "log10 of the firing rate", Better.NEITHER, digits=".3f", material=0.1)


def _rarer(answers, reports, below):
    """Feature by feature, of those that were rare early: how often it fires, from the middle of training to its end."""
    plain, resampled = (
        {seed: _density(run) for seed, (run, _) in reports[kind].items()} for kind in ("plain", "resampled")
    )
    changes, twins, counts = [], [], []
    for seed, history in plain.items():
        rare = rare_in_part(history.count, history.tokens, EARLY, below)
        counts.append(int(rare.sum()))
        if rare.any():
            changes.append((_rate(history, rare, LATE), _rate(history, rare, MIDDLE)))
        if seed in resampled and (exempt := rare & resampled[seed].exempt).any():
            twins.append((_rate(resampled[seed], exempt, LATE), _rate(history, exempt, LATE)))
    answers.say(f"Rare from {EARLY[0]:.0%} to {EARLY[1]:.0%} of training are {shown(counts, 0)} features")
    a, b = (f"at {start:.0%} to {end:.0%} of training" for start, end in (LATE, MIDDLE))
    answers.add(_CHANGE, a, b, _over_seeds(changes, _CHANGE), "Of these, without resampling: ")
    what = "Of these, those exempt from resampling at the end of training: "
    answers.add(_CHANGE, "with others resampled", "in the twin", _over_seeds(twins, _CHANGE), what)


def _density(run):
    return read_density(read_dictionary_run(run).run)


def _rate(history, chosen, part):
    """The mean over features of log10 of the share of tokens on which each fires, in a part of the training; half a
    token is added to each count, so that it exists for what did not fire."""
    end = history.tokens.cumsum(0) / history.tokens.sum()
    inside = (end > part[0]) & (end <= part[1] + 1e-9)
    if not inside.any():
        return None
    count = history.count[inside][:, chosen].sum(dim=0).double() + 0.5
    return float(torch.log10(count / history.tokens[inside].sum()).mean())


_FORBIDDEN = (
    ("features", own_figure("rare_features", "number of rare features", digits=",.0f")),
    ("encoder_alignment", own_figure("encoder_alignment", "mean cosine of two of their encoder rows", material=0.02)),
)


def _again(answers, reports):
    if not reports["forbidden"]:
        answers.say("With their direction forbidden: not measured: no rare features to forbid the direction of")
        return
    for key, figure in _FORBIDDEN:
        pairs = [
            tuple(each["rare"]["rare"].get(key) for each in (report, reports["plain"][seed][1]))
            for seed, (_, report) in reports["forbidden"].items()
        ]
        answers.add(figure, "a training with their direction forbidden", "the plain", _over_seeds(pairs, figure))


if __name__ == "__main__":
    main()
