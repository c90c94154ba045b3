"""SAEBench's core figures, by its names, as the catalogue lists them."""

from __future__ import annotations

from dataclasses import replace

from sae_cli.metrics.figure import Better, Figure, Of

_HIGHER, _LOWER, _ONE = Better.HIGHER, Better.LOWER, Better.ONE

# fmt: off
_LOSSES = (
    Figure("ce_loss_score", "CE score", "(CE with ablation − CE with the dictionary) / (CE with ablation − CE clean)",
           better=_HIGHER, has_error=True),
    Figure("ce_loss_without_sae", "CE clean", "cross-entropy of the next token", unit="nats", has_error=True),
    Figure("ce_loss_with_sae", "CE with the dictionary", "the same with x̂ for x", unit="nats", better=_LOWER,
           has_error=True),
    Figure("ce_loss_with_ablation", "CE with ablation", "the same with zeros at every position, left out or not",
           unit="nats", has_error=True),
    Figure("kl_div_score", "KL score", "(KL with ablation − KL with the dictionary) / KL with ablation",
           better=_HIGHER, has_error=True),
    Figure("kl_div_with_sae", "KL with the dictionary", "divergence from the clean distribution, the last position of "
           "each row included", unit="nats", better=_LOWER, has_error=True),
    Figure("kl_div_with_ablation", "KL with ablation", "the same with zeros at every position", unit="nats",
           has_error=True),
)
_RECONSTRUCTION = (
    Figure("explained_variance", "explained variance", "1 − R / (M − (M/d)²), R and M the means over batches of the "
           "means of ‖x − x̂‖² and ‖x‖²: no mean is subtracted", better=_HIGHER, has_error=True),
    Figure("explained_variance_legacy", "explained variance, legacy", "mean over positions of 1 − ‖x − x̂‖²/‖x − x̄‖², "
           "x̄ the mean of the batch", better=_HIGHER, has_error=True),
    Figure("mse", "MSE", "mean of ‖x − x̂‖² divided by the positions of the batch", better=_LOWER, has_error=True),
    Figure("cossim", "cosine", "mean cosine of x and x̂, over positions where neither is zero", better=_HIGHER,
           has_error=True),
    Figure("l2_norm_in", "norm of activations", "mean of ‖x‖", unit="activation units", has_error=True),
    Figure("l2_norm_out", "norm of reconstructions", "mean of ‖x̂‖", unit="activation units", has_error=True),
    Figure("l2_ratio", "norm ratio", "mean of ‖x̂‖/‖x‖, of ‖x̂‖ where ‖x‖ is below 1e-4", better=_ONE, has_error=True),
    Figure("relative_reconstruction_bias", "reconstruction bias", "mean over batches of Σ‖x̂‖² / Σ x·x̂", better=_ONE),
    Figure("l0", "L0", "features that are not 0, a position", digits=".1f", better=_LOWER, has_error=True),
    Figure("l1", "L1", "Σᵢ fᵢ, a position", better=_LOWER, has_error=True),
)
_OF_FEATURES = (
    Figure("frac_alive", "share of features alive", "features that fire on these positions, of all", better=_HIGHER),
    Figure("freq_over_1_percent", "share of features on > 1 %", "features on more than 1 % of positions, of all"),
    Figure("freq_over_10_percent", "share of features on > 10 %", "features on more than 10 % of positions, of all"),
    Figure("normalized_freq_over_1_percent", "share of firings by features on > 1 %",
           "sum of their densities, of the sum of all"),
    Figure("normalized_freq_over_10_percent", "share of firings by features on > 10 %",
           "sum of their densities, of the sum of all"),
    Figure("average_max_encoder_cosine_sim", "largest cosine with another encoder row (mean)",
           "mean over features of the largest cosine with the encoder row of another"),
    Figure("average_max_decoder_cosine_sim", "largest cosine with another decoder row (mean)",
           "mean over features of the largest cosine with the decoder row of another"),
    Figure("feature_density_median", "density (median)", "median over features of the share of positions"),
    Figure("consistent_activation_heuristic_median", "positions a row where a feature fires (median)",
           "median, over features that fire, of positions in a row of text that has any"),
    Figure("encoder_bias_median", "encoder bias (median)",
           "median over features; of a gated dictionary that of magnitudes"),
    Figure("encoder_norm_median", "norm of encoder rows (median)", "median over features"),
    Figure("encoder_decoder_cosine_sim_median", "cosine of encoder and decoder rows (median)", "median over features"),
)
# fmt: on

OF_BENCHMARKS = tuple(replace(each, of=Of.BENCH) for each in (*_LOSSES, *_RECONSTRUCTION, *_OF_FEATURES))
