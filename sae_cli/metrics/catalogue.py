"""Every figure once: tables, charts, pages and the names that `--require` accepts are made from this list.

`docs/figures.md` is the list as a page. A new figure is summed in this package and gets one entry here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cache

from sae_cli.metrics.bench_figures import OF_BENCHMARKS
from sae_cli.metrics.concept_figures import OF_PROBES
from sae_cli.metrics.figure import Better, Figure, Group, In, Of

LOSSES = {"ce": "CE, nats", "kl": "KL, nats", "bits_per_byte": "bits per byte"}
"""The losses of the model, each under several conditions: `<loss>_<condition>`."""
CONDITIONS = {"clean": "untouched", "sae": "dictionary", "zero": "zero", "mean": "mean activation"}
"""What stands in the place of the activations."""

_HIGHER, _LOWER, _ONE = Better.HIGHER, Better.LOWER, Better.ONE
_ACTIVATION, _SQUARED = "activation units", "squared activation units"
_KURTOSIS = "kurtosis (Gaussian: 3)"
_ALWAYS = In.TABLE | In.DIRECT

# fmt: off
_RECONSTRUCTION = (
    Figure("l0", "L0", "features that fire, a token", Of.EVALUATION | Of.SEVERAL | Of.TRAINING | Of.CURVE,
           digits=".1f", better=_LOWER, title="L0, features a token", shown=_ALWAYS, has_error=True),
    Figure("l1", "L1", "Σᵢ fᵢ‖dᵢ‖, a token", unit=_ACTIVATION, better=_LOWER),
    Figure("mse", "MSE", "‖x − x̂‖², a token", unit=_SQUARED, better=_LOWER),
    Figure("mse_per_dim", "MSE a dimension", "`mse` divided by the width of the activations", better=_LOWER),
    Figure("rmse_per_dim", "RMSE a dimension", "square root of `mse_per_dim`", unit=_ACTIVATION, better=_LOWER),
    Figure("fvu", "FVU", "fraction of variance unexplained, Σ‖x − x̂‖² / Σ‖x − x̄‖²",
           Of.EVALUATION | Of.SEVERAL | Of.TRAINING | Of.CURVE, better=_LOWER, shown=_ALWAYS, has_error=True),
    Figure("bits", "bits a token", "description length: what the code takes, each feature by itself, with frequencies "
           "of the training text, and `bits_step` such that predictions diverge by .001 nats (where nothing is "
           "predicted: `fvu` rises by .001)", digits=".1f", better=_LOWER, shown=_ALWAYS, has_error=True),
    Figure("bits_step", "step of the code", "to whole steps the contributions fᵢ‖dᵢ‖ are rounded", unit=_ACTIVATION,
           digits=".3g"),
    Figure("explained_variance", "explained variance", "1 − `fvu`", better=_HIGHER),
    Figure("cosine", "cosine", "mean cosine of x and x̂, over tokens where neither is zero", better=_HIGHER),
    Figure("norm_ratio", "norm ratio", "mean of ‖x̂‖/‖x‖, over tokens where x is not zero", better=_ONE),
    Figure("reconstruction_bias", "reconstruction bias", "Σ‖x̂‖² / Σ x·x̂; below 1 where x̂ is too short", better=_ONE),
    Figure("fvu_resid", "FVU in the residual stream", "`fvu` of what the error becomes there", better=_LOWER),
    Figure("fvu_logit", "FVU in the logits", "`fvu` of what the error becomes in centered logits", better=_LOWER),
    Figure("nullspace", "null-space share of the features",
           "mean over features that fire of the share of a decoder row that the output matrix does not carry on",
           better=_LOWER),
    Figure("nullspace_floor", "null-space share of random directions", "`nullspace` of directions that mean nothing"),
    Figure("nullspace_variance", "null-space share of the activations",
           "the share of Σ‖x − x̄‖² that is not carried on"),
)

_ON_BOTH_PATHS = (
    Figure("loss_recovered", "loss recovered (zero)",
           "(CE with zeros − CE with the dictionary) / (CE with zeros − CE clean), if zeros clearly raise the loss",
           group=Group.EFFECT, better=_HIGHER, short="loss recovered", shown=_ALWAYS, has_error=True),
    Figure("loss_recovered_mean", "loss recovered (mean)", "`loss_recovered` against the mean activation",
           group=Group.EFFECT, better=_HIGHER, shown=_ALWAYS, has_error=True),
    Figure("ce_clean", "CE clean", "cross-entropy of the next token, nothing replaced",
           group=Group.LOSS, unit="nats", shown=_ALWAYS, has_error=True),
    Figure("ce_increase", "CE increase", "`ce_sae` − `ce_clean`",
           group=Group.EFFECT, unit="nats", better=_LOWER, shown=In.TABLE, has_error=True),
    Figure("zero_ablation_effect", "CE increase by zero", "`ce_zero` − `ce_clean`",
           group=Group.EFFECT, unit="nats", shown=In.TABLE, has_error=True),
    Figure("mean_ablation_effect", "CE increase by the mean", "`ce_mean` − `ce_clean`",
           group=Group.EFFECT, unit="nats", has_error=True),
    Figure("kl_sae", "KL", "divergence of the next token's distribution with x̂ for x from the clean one",
           group=Group.LOSS, unit="nats", better=_LOWER, shown=In.TABLE, has_error=True),
    Figure("kl_zero", "KL with zeros", "as `kl_sae`, with zeros for x", group=Group.LOSS, unit="nats", has_error=True),
    Figure("kl_mean", "KL with the mean activation", "as `kl_sae`, with the mean activation of the training for x",
           group=Group.LOSS, unit="nats", has_error=True),
    Figure("ce_sae", "CE with the dictionary", "cross-entropy with x̂ for x",
           group=Group.LOSS, unit="nats", better=_LOWER, has_error=True),
    Figure("ce_zero", "CE with zeros", "cross-entropy with zeros for x", group=Group.LOSS, unit="nats", has_error=True),
    Figure("ce_mean", "CE with the mean activation", "cross-entropy with the mean activation of the training for x",
           group=Group.LOSS, unit="nats", has_error=True),
    Figure("bits_per_byte_clean", "bits per byte, clean", "`ce_clean` in bits, for a byte of text",
           group=Group.LOSS, has_error=True),
    Figure("bits_per_byte_sae", "bits per byte with the dictionary", "`ce_sae` in bits, for a byte of text",
           group=Group.LOSS, better=_LOWER, has_error=True),
)

_OF_FEATURES = (
    Figure("features", "features", "features of the dictionary", Of.EVALUATION | Of.SEVERAL, digits=","),
    Figure("alive", "alive", "features that fire in the feature pass", digits=",", better=_HIGHER),
    Figure("dead", "dead", "features that do not: in the feature pass, or in the last `train.dead_after` of training",
           Of.EVALUATION | Of.TRAINING | Of.CURVE, digits=",", better=_LOWER, title="dead features"),
    Figure("never_fired", "never fired", "features that have not fired yet, before any can be called dead",
           Of.TRAINING | Of.CURVE, digits=",", better=_LOWER, title="features that never fired"),
    Figure("killed", "pruned", "features that a pruning has taken out", digits=","),
    Figure("ultra_rare", "ultra rare", "features that fire on less than 1e-5 of tokens, from a million tokens on",
           digits=","),
    Figure("dense_1", "on > 1 % of tokens", "features that fire on more than 1 % of tokens", digits=",",
           short="on > 1 %"),
    Figure("dense_10", "on > 10 % of tokens", "features that fire on more than 10 % of tokens", digits=",",
           short="on > 10 %"),
    Figure("l0_share_above_10", "share of L0 by features on > 10 %",
           "share of all firings that is by features that fire on more than 10 % of tokens"),
    Figure("l0_share_1_to_10", "share of L0 by features on 1 to 10 %", "the same of features on 1 to 10 % of tokens"),
    Figure("l0_share_0.1_to_1", "share of L0 by features on .1 to 1 %", "the same of features on .1 to 1 % of tokens"),
    Figure("l0_share_below_0.1", "share of L0 by features on < .1 %", "the same of features on less than .1 %"),
    Figure("de_projection_median", "D/E projection (median)", "median of `de_projection` over features that fire",
           better=_ONE),
    Figure("de_cosine_median", "cosine of encoder and decoder rows (median)", "median of `de_cosine`"),
    Figure("token_entropy_median", "token entropy, bits (median)", "median of `token_entropy`", digits=".2f",
           short="token entropy, bits"),
    Figure("token_entropy_above_chance_median", "token entropy above chance, bits (median)",
           "median of `token_entropy_above_chance`", digits=".2f"),
    Figure("bias_distance_median", "encoder bias / norm of encoder rows (median)", "median of `bias_distance`"),
    Figure("top1_share_median", "share of the top token (median)", "median of `top1_share`"),
    Figure("top3_share_median", "share of the top 3 tokens (median)", "median of `top3_share`"),
    Figure("decoder_kurtosis_median", "kurtosis of decoder rows (median)", "median of `decoder_kurtosis`"),
    Figure("decoder_participation_median", "participation ratio of decoder rows (median)",
           "median of `decoder_participation`"),
    Figure("neuron_kurtosis_median", "kurtosis of neurons over features (median)", "median of `neuron_kurtosis`"),
    Figure("neuron_participation_median", "participation ratio of neurons (median)",
           "median of `neuron_participation`"),
    Figure("logit_kurtosis_median", "kurtosis of logit weights (median)", "median of `logit_kurtosis`"),
    Figure("logit_skew_median", "skew of logit weights (median)", "median of `logit_skew`"),
)

_OF_TRUTH = (
    Figure("mcc", "MCC", "mean absolute cosine of the one-to-one assignment of features to true directions with the "
           "largest sum, over the smaller number of the two", better=_HIGHER, shown=_ALWAYS),
    Figure("mmcs_truth_to_dictionary", "MMCS truth -> dictionary",
           "mean over the true directions of the largest cosine with a feature that fires", better=_HIGHER,
           shown=_ALWAYS),
    Figure("truth_recovered_0.9", "truth recovered", "share of the true directions with a feature at a cosine above .9",
           better=_HIGHER, shown=_ALWAYS),
    Figure("uniqueness", "uniqueness",
           "true directions that are the nearest, by absolute cosine, of any feature, for each feature",
           better=_HIGHER, shown=_ALWAYS),
    Figure("precision", "precision of firing", "mean over features that fire: where it fires, the share of tokens on "
           "which its nearest true feature does", better=_HIGHER, short="precision", shown=_ALWAYS, has_error=True),
    Figure("recall", "recall of firing", "mean over features that fire: where its nearest true feature fires, the "
           "share of tokens on which it does", better=_HIGHER, short="recall", shown=_ALWAYS, has_error=True),
    Figure("f1", "F1 of firing", "mean over features that fire of the harmonic mean of the two", better=_HIGHER,
           short="F1", shown=_ALWAYS, has_error=True),
    Figure("truth_recall", "recall of the truth", "mean over true features that fire: where it fires, the share of "
           "tokens on which its nearest feature does", better=_HIGHER, shown=_ALWAYS, has_error=True),
    Figure("truth_recall_weighted", "recall of the truth, by frequency",
           "the same over all firings of true features, so that each counts by its frequency", better=_HIGHER,
           short="recall of the truth", shown=_ALWAYS, has_error=True),
    Figure("truth_l0", "L0 of the truth", "true features that fire, a token", digits=".1f", shown=_ALWAYS),
    Figure("truth_fired", "true features that fire", "on the tokens of these figures", digits=","),
)

_COUNTS = (
    Figure("tokens", "tokens", "positions whose activations were read", Of.EVALUATION | Of.HARVEST, digits=","),
    Figure("loss_tokens", "tokens of losses", "positions whose loss was read", digits=","),
    Figure("feature_tokens", "tokens of the feature pass", "positions that features were counted on", digits=","),
    Figure("rows", "rows", "rows of text that losses were read on", digits=","),
    Figure("documents", "documents", "that the rows belong to, most of each; standard errors are over these",
           digits=","),
    Figure("zero_norm_tokens", "tokens of norm zero", "tokens where x or x̂ is zero", digits=","),
    Figure("frequency_resolution", "resolution of frequencies", "1 / `feature_tokens`", digits=".2g"),
    Figure("final_norm_inverse_scale", "inverse scale of the final norm",
           "mean of 1/σ, which logit weights are given at"),
    Figure("metrics_version", "version", "of the definitions of these figures", digits="d"),
)

_OF_A_FEATURE = (
    Figure("frequency", "frequency", "share of tokens on which it fires: its count / tokens", digits=".3%",
           title="share of tokens a feature fires on", shown=In.PAGE | In.LIST),
    Figure("max_act", "largest activation", "largest activation on any token", unit=_ACTIVATION, digits=".3g",
           short="max",
           shown=In.PAGE | In.LIST | In.HISTOGRAM),
    Figure("mean_act", "mean where it fires", "mean activation over tokens where it fires", unit=_ACTIVATION,
           digits=".3g",
           title="mean activation where a feature fires", shown=In.PAGE | In.HISTOGRAM),
    Figure("encoder_norm", "norm of encoder rows", "‖eᵢ‖", unit="norm", shown=In.HISTOGRAM),
    Figure("decoder_norm", "norm of decoder rows", "‖dᵢ‖", unit="norm", shown=In.HISTOGRAM),
    Figure("b_enc", "encoder bias", "what is added before the nonlinearity", unit=_ACTIVATION, digits=".3g",
           shown=In.PAGE),
    Figure("de_projection", "D/E projection", "eᵢ·dᵢ, encoder row times decoder row", digits=".3f", better=_ONE,
           short="D/E",
           shown=In.PAGE | In.LIST),
    Figure("de_cosine", "cosine of encoder and decoder rows", "cosine of eᵢ and dᵢ", unit="cosine", digits=".3f",
           shown=In.PAGE | In.HISTOGRAM),
    Figure("token_entropy", "token entropy, bits", "entropy of the token that it fires on", unit="bits", digits=".2f",
           short="entropy", title="entropy of the current token", shown=In.PAGE | In.LIST | In.HISTOGRAM),
    Figure("token_entropy_above_chance", "token entropy above chance, bits",
           "`token_entropy` less that of as many random tokens of the text", unit="bits", digits=".2f"),
    Figure("bias_distance", "encoder bias / norm of its encoder row",
           "how far from the center the feature begins to fire, along its encoder row, with the sign of the bias",
           unit=_ACTIVATION, digits=".3g"),
    Figure("top1_share", "share of its commonest token", "of the tokens that it fires on", digits=".1%", shown=In.PAGE),
    Figure("top3_share", "share of its three commonest tokens", "of the tokens that it fires on", digits=".1%"),
    Figure("logit_kurtosis", "kurtosis of logit weights",
           "of its weights for the tokens of the vocabulary, 3 if Gaussian",
           unit=_KURTOSIS, digits=".1f", short="kurtosis", shown=In.PAGE | In.LIST | In.HISTOGRAM),
    Figure("logit_skew", "skew of logit weights", "of the same weights, 0 if Gaussian", digits=".2f", shown=In.PAGE),
    Figure("nullspace", "null-space share", "share of ‖dᵢ‖² that the output matrix does not carry on (hook=mlp_act)",
           unit="share", digits=".3f", title="null-space share of decoder rows", shown=In.PAGE | In.HISTOGRAM),
    Figure("decoder_kurtosis", "kurtosis of decoder rows over neurons", "of the entries of dᵢ (hook=mlp_act)",
           unit=_KURTOSIS, shown=In.HISTOGRAM),
    Figure("decoder_participation", "participation ratio of decoder rows",
           "(Σx²)²/Σx⁴ over the entries of dᵢ (hook=mlp_act)"),
)
_OF_A_NEURON = (
    Figure("neuron_kurtosis", "kurtosis of neurons over features", "of the entries of all decoder rows at a neuron"),
    Figure("neuron_participation", "participation ratio of neurons", "(Σx²)²/Σx⁴ over the same entries"),
)

_OF_COMPARISONS = (
    Figure("mmcs", "MMCS", "mean over the features of A that fire of the largest similarity with one of B: the cosine "
           "of their rows; the correlation of their activations (by=activations); of those sampled the cosine of "
           "their effects with those of the one that fires most like them (by=effects)",
           Of.COMPARISON | Of.PAIR, digits=".3f"),
    Figure("mmcs_back", "MMCS back", "the same from B to A", Of.COMPARISON, digits=".3f"),
    Figure("floor_random", "random floor", "`mmcs` with as many random directions in place of B", digits=".3f"),
    Figure("floor_subspace", "subspace floor", "`mmcs` with Gaussian rows of the second moment of B's", digits=".3f"),
    Figure("floor_moved", "floor of other text", "`mmcs` where A and B read different documents (by=activations)",
           digits=".3f"),
    Figure("floor_next", "floor of other features", "`mmcs` with the match of the next more frequent of the sampled "
           "features (by=effects)", digits=".3f"),
    Figure("q50", "median", "median of the largest similarities", digits=".3f"),
    Figure("share_0.9", "share > .9", "share of the largest similarities above .9", digits=".1%", short="> .9"),
    Figure("matched", "found again", "share of the largest similarities above the setting matched_above",
           Of.COMPARISON | Of.PAIR, digits=".1%"),
)

_OF_RUNS = (
    Figure("loss", "loss", "of the training, in units of the scaled activations", Of.CURVE, better=_LOWER),
    Figure("held_out_fvu", "FVU, held out", "`fvu` on activations of held-out text", Of.CURVE, better=_LOWER),
    Figure("lr", "learning rate", "of the step", Of.CURVE),
    Figure("l0_alone", "L0 alone", "`l0` with the other dictionaries left out", Of.SEVERAL, better=_LOWER),
    Figure("fvu_alone", "FVU alone", "`fvu` with the other dictionaries left out", Of.SEVERAL, better=_LOWER),
    Figure("tokens_per_second", "tokens per second", "that were harvested", Of.HARVEST, digits=",.0f", better=_HIGHER),
    Figure("sheets", "feature pages", "features whose page was made", Of.PAGES, digits=","),
    Figure("tokens_seen", "tokens seen", "positions that contexts were looked for in", Of.PAGES, digits=","),
)
# fmt: on

_SHOWN_OF_DIRECT_PATH = {
    "loss_recovered": _ALWAYS,
    **dict.fromkeys(("ce_increase", "zero_ablation_effect", "kl_sae"), In.DIRECT),
}


def _paths(figure: Figure) -> list[Figure]:
    """The figure, and the same with the change carried straight to the logits where there is such a one."""
    if figure.key.endswith("_clean"):
        return [figure]
    label = f"{figure.label[:-1]}, direct path)" if figure.label.endswith(")") else f"{figure.label} (direct path)"
    direct = replace(
        figure,
        key=f"{figure.key}_direct",
        label=label,
        short=label,
        definition=f"`{figure.key}` with the change carried straight to the logits",
        shown=_SHOWN_OF_DIRECT_PATH.get(figure.key, In.NOWHERE),
    )
    return [figure, direct]


def _losses() -> list[Figure]:
    """On both paths, loss recovered before all others."""
    pairs = [_paths(each) for each in _ON_BOTH_PATHS]
    recovered, others = pairs[:2], pairs[2:]
    return [
        *(pair[0] for pair in recovered),
        *(pair[1] for pair in recovered),
        *(each for pair in others for each in pair),
    ]


MATERIAL = {
    "l0": 1.0,
    "bits": 5.0,
    "fvu": 0.01,
    "loss_recovered": 0.01,
    "loss_recovered_mean": 0.01,
    **dict.fromkeys(("ce_clean", "ce_sae", "ce_zero", "ce_mean"), 0.005),
    **dict.fromkeys(("ce_increase", "zero_ablation_effect", "mean_ablation_effect"), 0.005),
    **dict.fromkeys(("kl_sae", "kl_zero", "kl_mean"), 0.005),
    **dict.fromkeys(("bits_per_byte_clean", "bits_per_byte_sae"), 0.005),
    **dict.fromkeys(("fvu_resid", "fvu_logit", "nullspace", "mmcs_truth_to_dictionary"), 0.01),
    **dict.fromkeys(("mcc", "uniqueness", "precision", "recall", "f1", "truth_recall", "truth_recall_weighted"), 0.02),
    **dict.fromkeys(("truth_recovered_0.9", "top1_share_median", "top3_share_median"), 0.02),
    "token_entropy_median": 0.1,
}
"""The size of a difference that matters."""


def _of(of: Of, figures: tuple[Figure, ...]) -> list[Figure]:
    return [replace(each, of=of) if each.of is Of.EVALUATION else each for each in figures]


def _in(group: Group, figures: tuple[Figure, ...]) -> list[Figure]:
    return [replace(each, group=group) if Of.EVALUATION in each.of else each for each in figures]


def _material(figures: Iterable[Figure]) -> list[Figure]:
    return [replace(each, material=MATERIAL.get(each.key.removesuffix("_direct"), 0.0)) for each in figures]


FIGURES: tuple[Figure, ...] = (
    *_material(_in(Group.RECONSTRUCTION, _RECONSTRUCTION)),
    *_material(_losses()),
    *_material(_in(Group.FEATURES, _OF_FEATURES)),
    *_material(_in(Group.TRUTH, _OF_TRUTH)),
    *_in(Group.COUNT, _COUNTS),
    *_of(Of.FEATURE, _OF_A_FEATURE),
    *_of(Of.NEURON, _OF_A_NEURON),
    *_of(Of.PAIR, _OF_COMPARISONS),
    *_OF_RUNS,
    *OF_BENCHMARKS,
    *OF_PROBES,
)


@cache
def figures(of: Of) -> dict[str, Figure]:
    """The figures of one kind by their keys, in the order in which they are shown."""
    return {each.key: each for each in FIGURES if of in each.of}


@cache
def contrasted() -> dict[str, Figure]:
    """Those of an evaluation that may be contrasted: not those that count what was measured."""
    groups = (Group.RECONSTRUCTION, Group.FEATURES, Group.TRUTH)
    return {key: each for key, each in figures(Of.EVALUATION).items() if each.has_error or each.group in groups}


def shown(of: Of, where: In) -> list[Figure]:
    """The figures of one kind that are shown in a place."""
    return [each for each in figures(of).values() if where in each.shown]


def grouped(group: Group) -> list[Figure]:
    """The figures of an evaluation that are shown together."""
    return [each for each in FIGURES if each.group is group]


def required_names(of: Of) -> tuple[str, ...]:
    """The names of the numbers of one kind; of an evaluation and a benchmark those of errors and intervals too."""
    with_errors = of in (Of.EVALUATION, Of.BENCH)
    return tuple(name for each in figures(of).values() for name in (each.names if with_errors else (each.key,)))


def short_name(key: str) -> str:
    """What a figure is called where there is little room; of one that is not in the list, its key."""
    return next((each.short for each in FIGURES if each.key == key), key.replace("_", " "))
