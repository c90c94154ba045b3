"""What are rare features? Reads evaluations of plain, resampled and forbidding trainings, and with rare ones pruned."""

from collections import defaultdict

from reading import by_seed, conclude, documents, manifest, shown, table, verdict

PLAIN, RESAMPLED, FORBIDDING, PRUNED = "plain", "resampled", "direction forbidden", "rare features pruned"


def main():
    reports = defaultdict(dict)
    for each in documents():
        reports[kind_of(each["run"])][by_seed(each["run"])] = each["eval"]
    below = next(iter(reports[PLAIN].values()))["rare"]["below"]
    _rare_tables(reports, below)
    _through_training(reports[PLAIN])
    _trajectories(reports)
    conclude([*_shape(reports[PLAIN]), *_rarer(reports), *_work(reports), *_again(reports)])


def kind_of(run):
    about = manifest(run)
    if about["command"] == "prune-high-freq":
        return PRUNED
    settings = about["settings"]
    return FORBIDDING if settings["train.forbid_direction"] else RESAMPLED if settings["resample.at"] else PLAIN


def _rare_tables(reports, below):
    rows = []
    for kind in (PLAIN, RESAMPLED, FORBIDDING):
        for group in ("rare", "others"):
            found = [r["rare"][group] for r in reports[kind].values() if r["rare"][group]["features"] > 1]
            rows.append((
                kind, group, shown([each["features"] for each in found], 0),
                *(shown([each[key][level] for each in found], digits) for key, level, digits in _QUANTILES),
                shown([each["encoder_alignment"] for each in found]),
            ))  # fmt: skip
    header = ("training", "features", "how many", "D/E 5 %", "D/E median", "D/E 95 %", "b_enc median", "cosine of rows")
    title = (
        f"Features on less than {below:g} of the tokens, and all others that fire (± over {len(reports[PLAIN])} seeds)"
    )
    table(title, header, rows)


_QUANTILES = (
    ("de_projection", "q05", 2),
    ("de_projection", "q50", 2),
    ("de_projection", "q95", 2),
    ("b_enc", "q50", 2),
)


def _through_training(plain):
    """The same features at the steps that were saved."""
    rows = []
    for snapshots in zip(*(report["rare"]["snapshots"] for report in plain.values()), strict=True):
        cells = []
        for group in ("rare", "others"):
            found = [each[group] for each in snapshots if each[group]["features"] > 1]
            cells += [shown([each[key]["q50"] for each in found], 2) for key in ("de_projection", "b_enc")]
            cells.append(shown([each["encoder_alignment"] for each in found]))
        rows.append((snapshots[0]["step"], *cells))
    header = ("step", *(f"{group}: {what}" for group in ("rare", "others") for what in ("D/E", "b_enc", "cosine")))
    table("What became rare, and the others, through training (medians; plain)", header, rows)


def _trajectories(reports):
    """Pooled density of features that were rare early, at points of training."""
    shares = (0.3, 0.5, 0.7, 0.9, 1.0)
    rows = []
    for kind, name, label in _FOLLOWED:
        found = [report["rare"]["trajectories"][name] for report in reports[kind].values()]
        cells = [shown([_density(each, share) * 1e4 for each in found], 2) for share in shares]
        slopes = shown([each["late_slope"] for each in found if each["late_slope"] is not None], 2)
        rows.append((label, shown([each["features"] for each in found], 0), *cells, slopes))
    early = next(iter(reports[PLAIN].values()))["rare"]["trajectories"]["early"]
    header = ("features", "how many", *(f"at {share:.0%}" for share in shares), "late slope")
    title = "Features that were rare at {:.0%} to {:.0%} of training: firing on how many tokens in 10,000".format(
        *early
    )
    table(title, header, rows)
    print("\nLate slope: of log density over log tokens seen over the second half of the training.")


_FOLLOWED = (
    (PLAIN, "not_exempt", "no resampling"),
    (RESAMPLED, "exempt", "exempt from resampling"),
    (RESAMPLED, "not_exempt", "not exempt"),
    (RESAMPLED, "resampled", "of these: resampled"),
)


def _density(trajectory, share):
    """The density at a share of the training: of the first point that ends there or later."""
    last = trajectory["tokens_seen"][-1] if trajectory["tokens_seen"] else 0
    for seen, density in zip(trajectory["tokens_seen"], trajectory["density"], strict=True):
        if seen >= share * last:
            return density
    return 0.0


def _shape(plain):
    for key, what in (("de_projection", "D/E projection"), ("b_enc", "encoder bias")):
        differences = [r["rare"]["rare"][key]["q50"] - r["rare"]["others"][key]["q50"] for r in plain.values()]
        yield f"Median {what}, rare less others: {verdict(differences, 'larger', 'smaller')}."
    differences = [
        r["rare"]["rare"]["encoder_alignment"] - r["rare"]["others"]["encoder_alignment"] for r in plain.values()
    ]
    said = verdict(differences, "rare features share more of a direction", "rare features share less of a direction")
    yield f"Mean cosine of two encoder rows, rare less others: {said}."


def _rarer(reports):
    exempt = [report["rare"]["trajectories"]["exempt"] for report in reports[RESAMPLED].values()]
    slopes = [each["late_slope"] for each in exempt if each["late_slope"] is not None]
    if slopes:
        yield f"Slope of exempt rare features' density late in training: {verdict(slopes, 'more frequent', 'rarer')}."
    pairs = [
        (report["rare"]["trajectories"]["exempt"], report["rare"]["trajectories"]["not_exempt"])
        for report in reports[RESAMPLED].values()
    ]
    differences = [1e4 * (_density(a, 1.0) - _density(b, 1.0)) for a, b in pairs]
    said = verdict(differences, "exempt ones fire more at the end", "exempt ones fire less at the end")
    yield f"Tokens in 10,000 at the end of training, exempt less not exempt: {said}."
    seeds = [seed for seed in reports[PLAIN] if seed in reports[RESAMPLED]]
    differences = [reports[RESAMPLED][seed]["fvu"] - reports[PLAIN][seed]["fvu"] for seed in seeds]
    yield f"FVU, half of the dead resampled less none: {verdict(differences, 'worse', 'better')}."


def _work(reports):
    pruned = [report["killed"] for report in reports[PRUNED].values()]
    differences, errors = [], []
    for seed, after in reports[PRUNED].items():
        before = reports[PLAIN][seed]
        differences.append(after["ce_increase"] - before["ce_increase"])
        errors.append((after["ce_increase_se"] ** 2 + before["ce_increase_se"] ** 2) ** 0.5)
    said = verdict(differences, "they did useful work", "the model is better without them", errors)
    yield f"CE increase after pruning all rare and dead features ({shown(pruned, 0)}) less before: {said}."
    differences = [after["fvu"] - reports[PLAIN][seed]["fvu"] for seed, after in reports[PRUNED].items()]
    yield f"FVU after pruning less before: {verdict(differences, 'worse', 'better')}."


def _again(reports):
    pairs = [(report, reports[PLAIN][seed]) for seed, report in reports[FORBIDDING].items()]
    for label, key in (("number", "features"), ("mean cosine of encoder rows", "encoder_alignment")):
        found = [(a["rare"]["rare"].get(key), b["rare"]["rare"].get(key)) for a, b in pairs]
        differences = [a - b for a, b in found if a is not None and b is not None]
        if differences:
            said = verdict(differences, "more", "less")
            yield f"With their direction forbidden, rare features' {label} less that of the plain training: {said}."


if __name__ == "__main__":
    main()
