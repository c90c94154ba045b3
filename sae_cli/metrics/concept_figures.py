"""What `sae probe` says of all concepts together, as the catalogue lists it."""

from __future__ import annotations

from dataclasses import replace

from sae_cli.metrics.figure import Better, Figure, Of

_HIGHER, _LOWER = Better.HIGHER, Better.LOWER

_BESIDE = {
    "token": "how often the current token is of the concept, on tokens for fitting",
    "token2": "how often the last two tokens are of the concept, on tokens for fitting",
    "neurons": "the best coordinate of the activations",
    "random": "the best coordinate after a random rotation",
    "pca": "the best principal component",
    "ica": "the best independent component",
    "directions": "the best of as many random directions as there are features, firing as often",
    "control": "the best feature of the other dictionary",
}

# fmt: off
_OF_CONCEPTS = (
    Figure("concepts", "concepts", "with enough tokens; figures are means over them, with negatives matched by token "
           "where there are enough such", digits=".0f"),
    Figure("auroc", "AUROC of the best feature", "P(f+ > f−) + P(f+ = f−)/2 on test tokens, of the feature that has "
           "the largest on tokens for fitting", better=_HIGHER),
    Figure("f1", "F1 of the best feature", "on test tokens, at the threshold that is best on tokens for tuning",
           better=_HIGHER),
    Figure("auroc_dense", "AUROC of a dense probe on x", "logistic regression on the activations", better=_HIGHER),
    Figure("auroc_error", "AUROC of a dense probe on the error", "logistic regression on x − x̂: what the dictionary "
           "leaves out", better=_LOWER),
    Figure("k95", "k95", "median over concepts of the least number of features whose probe has 95 % of what the dense "
           "one has above chance; null where half of them need more than were tried", digits=".0f", better=_LOWER),
    Figure("above_floor", "concepts above the floor", "share whose best feature is above the 95 % quantile of the best "
           "of all features where labels are permuted", better=_HIGHER),
    *(Figure(f"auroc_{name}", f"AUROC of {name}", f"{said}, in the place of the best feature")
      for name, said in _BESIDE.items()),
)
# fmt: on

OF_PROBES = tuple(replace(each, of=Of.PROBE) for each in _OF_CONCEPTS)
