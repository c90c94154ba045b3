"""How well a dictionary of data=synthetic knows the truth: its directions, and when they fire."""

from __future__ import annotations

import torch

from sae_cli.config.split import Split
from sae_cli.dictionaries.base import Dictionary
from sae_cli.documents import Facts
from sae_cli.evaluation.subject import SyntheticSubject
from sae_cli.metrics.similarity import max_cosines
from sae_cli.metrics.truth import Fired, FiringSums, alignment
from sae_cli.tensor_types import Int, Tensor

OF_TRUTH = (
    "mmcs_truth_to_dictionary",
    "truth_recovered_0.9",
    "mcc",
    "uniqueness",
    "firing_precision",
    "firing_recall",
    "firing_f1",
    "truth_f1",
    "truth_recall",
)
"""The figures that are found."""


@torch.no_grad()
def truth_figures(subject: SyntheticSubject, dictionary: Dictionary, count: Int[Tensor, " F"], tokens: int) -> Facts:
    """Figures of the directions, and, on held-out activations, of when they fire.

    Args:
        subject: the known truth.
        dictionary: that was trained on it, or stands beside one that was.
        count: how often each of its features has fired.
        tokens: held-out activations.
    """
    truth, W_dec = subject.truth.directions(), dictionary.W_dec.cpu()
    alive = W_dec[count > 0]
    nearest = max_cosines(truth, alive) if len(alive) else torch.zeros(1)
    found = alignment(W_dec, truth)
    firing, left = FiringSums(found), tokens
    for block, fires in subject.truth.coded_blocks(Split.held_out):
        f = dictionary.encode(block.activations[:left].to(dictionary.W_dec.device))
        firing.add(Fired((f > 0).cpu(), fires[:left]))
        if (left := left - block.n) <= 0:
            break
    return {
        "mmcs_truth_to_dictionary": float(nearest.mean()),
        "truth_recovered_0.9": float((nearest > 0.9).float().mean()),
        "mcc": found.mcc,
        "uniqueness": found.uniqueness,
        **firing.results(),
    }
