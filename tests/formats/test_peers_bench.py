"""`sae bench` sums what SAELens' own evaluation does with the same activations.

SAEBench's core evaluation comes from it. `make peers` builds the environment that has it; without it this is skipped.
"""

from __future__ import annotations

import pytest
import torch

from sae_cli.metrics.encoded import Encoded
from sae_cli.metrics.reconstruction import ReconstructionSums
from sae_cli.metrics.row_sums import RowPlaces
from sae_cli.metrics.saebench import BenchBatch, BenchSums, DensitySums, EncodedText

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default")]
D, F, V, BATCHES, ROWS, T = 12, 40, 30, 3, 4, 16
SPECIAL, HOOK = 0, "blocks.0.hook_resid_post"
ALL_OF_THEM = ("compute_l2_norms", "compute_sparsity_metrics", "compute_variance_metrics")


class Store:
    """Where SAELens takes tokens from."""

    def __init__(self, tokens):
        self._batches = iter(tokens)

    def get_batch_tokens(self, rows):
        return next(self._batches)


class Model:
    """A table of activations, one a token and position, as SAELens calls a model."""

    def __init__(self, table):
        self._table = table

    def activations(self, tokens):
        return self._table[tokens] + torch.arange(T)[None, :, None] / T

    def run_with_cache(self, tokens, **_):
        return None, {HOOK: self.activations(tokens)}


class Theirs:
    """Their dictionary as our metrics ask for it."""

    def __init__(self, sae):
        self._sae = sae

    def encode(self, x):
        return self._sae.encode(x)

    def decode(self, f, x):
        return self._sae.decode(f)

    def decoder_norms(self):
        return self._sae.W_dec.norm(dim=1)


@torch.no_grad()
def test_the_figures_are_those_of_saelens():
    lens, evals = pytest.importorskip("sae_lens"), pytest.importorskip("sae_lens.evals")
    draw = torch.Generator().manual_seed(3)
    config = lens.StandardSAEConfig(d_in=D, d_sae=F)
    config.metadata.model_name, config.metadata.hook_name = "gpt2-small", HOOK
    sae = lens.StandardSAE(config)
    for each in sae.parameters():
        each.copy_(torch.randn(each.shape, generator=draw) * 0.5)
    model = Model(torch.randn(V, D, generator=draw) + 1)
    tokens = torch.randint(V, (BATCHES, ROWS, T), generator=draw)
    expected, of_features = evals.get_sparsity_and_variance_metrics(
        sae,
        model,
        Store(tokens),
        pytest.importorskip("sae_lens.training.activation_scaler").ActivationScaler(),
        n_batches=BATCHES,
        **dict.fromkeys((*ALL_OF_THEM, "compute_featurewise_density_statistics"), True),
        eval_batch_size_prompts=ROWS,
        model_kwargs={},
        ignore_tokens=[SPECIAL],
    )
    sums, density, ours = BenchSums(D), DensitySums(F), ReconstructionSums(torch.zeros(D))
    for batch in tokens:
        counted = batch != SPECIAL
        encoded, row = Encoded(Theirs(sae), model.activations(batch)[counted]), counted.nonzero()[:, 0]
        sums.add(BenchBatch.of(encoded, row, RowPlaces(*torch.zeros(2, ROWS, dtype=torch.int64))))
        density.add(EncodedText(encoded, row, ROWS))
        ours.add(encoded)
    found = sums.results()
    same = ("l2_norm_in", "l2_norm_out", "l2_ratio", "relative_reconstruction_bias", "l0", "l1", "cossim")
    for name in (*same, "explained_variance_legacy"):
        assert found[name] == pytest.approx(expected[name], rel=1e-5), name
    for name in ("mse", "explained_variance"):  # which it has corrected since SAEBench took them over
        assert ours.results()[name] == pytest.approx(expected[name], rel=1e-5), name
        assert found[name] != pytest.approx(expected[name], rel=1e-2), name
    for name, values in density.tensors().items():
        torch.testing.assert_close(values.float(), torch.tensor(of_features[name]), equal_nan=True)
