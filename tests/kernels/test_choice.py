"""Which kernel is chosen, and when it changes."""

import pytest
import torch

from sae_cli.kernels import choice
from sae_cli.kernels.dense import DenseKernel
from sae_cli.kernels.reference import ReferenceKernel
from sae_cli.kernels.sparse import SparseKernel

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("fast", "dictionary_bytes", "between"),
    [(True, 10**6, 0.05), (True, 10**9, 0.02), (False, 10**6, 0.12), (False, 10**9, 0.05)],
)
def test_the_choice_follows_density_with_hysteresis(monkeypatch, fast, dictionary_bytes, between):
    monkeypatch.setattr(choice, "bfloat16_is_fast", lambda: fast)
    kernels = choice.KernelChoice("auto", CPU, dictionary_bytes)
    seen = []
    for density in (0.5, between, 0.001, between, 0.5, between):
        kernels.observe(density)
        seen.append(type(kernels.kernel))
    assert seen == [DenseKernel, DenseKernel, SparseKernel, SparseKernel, DenseKernel, DenseKernel]


def test_a_named_kernel_stays():
    for name, kind in (("reference", ReferenceKernel), ("sparse", SparseKernel), ("dense_bf16", DenseKernel)):
        kernels = choice.KernelChoice(name, CPU, 1)
        for density in (0.9, 0.0001):
            kernels.observe(density)
            assert type(kernels.kernel) is kind
    with pytest.raises(ValueError, match="no kernel is called quick"):
        choice.KernelChoice("quick", CPU, 1)
