"""Which kernel is chosen, and when it changes."""

import pytest
import torch

from sae_cli.errors import RequestError
from sae_cli.kernels import choice
from sae_cli.kernels.dense import DenseKernel
from sae_cli.kernels.reference import ReferenceKernel
from sae_cli.kernels.sparse import SparseKernel

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("fast", "dictionary_bytes", "between"),
    [(True, 10**6, 0.075), (True, 10**9, 0.065), (False, 10**6, 0.12), (False, 10**9, 0.05)],
)
def test_the_choice_follows_density_with_hysteresis(monkeypatch, fast, dictionary_bytes, between):
    monkeypatch.setattr(choice, "bfloat16_is_fast", lambda: fast)
    kernels = choice.KernelChoice("auto", CPU, dictionary_bytes)
    seen = []
    for density in (0.5, between, 0.001, between, 0.5, between):
        kernels.observe(density)
        seen.append(type(kernels.kernel))
    assert seen == [DenseKernel, DenseKernel, SparseKernel, SparseKernel, DenseKernel, DenseKernel]


@pytest.mark.parametrize(
    ("name", "device", "says"),
    [
        ("sparse", "cuda", "train.kernel=sparse runs on cpu only, found device=cuda; use auto"),
        ("dense_bf16", "cuda", "runs on cpu only"),
        ("triton", "cpu", "train.kernel=triton runs on cuda only, found device=cpu"),
    ],
)
def test_a_kernel_of_another_device_is_refused(monkeypatch, name, device, says):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(choice, "find_spec", lambda name: True)
    with pytest.raises(RequestError, match=says):
        choice.check_kernel(name, torch.device(device))


@pytest.mark.parametrize("name", ["auto", "reference"])
def test_these_run_anywhere(name):
    for device in ("cpu", "cuda"):
        choice.check_kernel(name, torch.device(device))


def test_triton_has_to_be_installed(monkeypatch):
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    with pytest.raises(RequestError, match="the package triton is not installed"):
        choice.check_kernel("triton", torch.device("cuda"))


def test_a_named_kernel_stays():
    for name, kind in (("reference", ReferenceKernel), ("sparse", SparseKernel), ("dense_bf16", DenseKernel)):
        kernels = choice.KernelChoice(name, CPU, 1)
        for density in (0.9, 0.0001):
            kernels.observe(density)
            assert type(kernels.kernel) is kind
    with pytest.raises(ValueError, match="no kernel is called quick"):
        choice.KernelChoice("quick", CPU, 1)


@pytest.mark.parametrize(
    ("capability", "fails", "says"),
    [
        ((7, 5), False, "compute capability is 7.5, less than 8.0"),
        ((9, 0), True, "Triton does not compile here (RuntimeError: no C compiler)"),
        ((9, 0), False, ""),
    ],
)
def test_on_a_gpu_the_plain_kernel_stands_in_where_triton_cannot(monkeypatch, capability, fails, says):
    class Kernel:
        def positive(self, *_):
            if fails:
                raise RuntimeError("\n no C compiler\nmore")

    monkeypatch.setattr(choice, "find_spec", lambda name: True)
    monkeypatch.setattr(choice, "_triton_kernel", Kernel)
    monkeypatch.setattr(choice, "CompiledKernel", lambda adam: ReferenceKernel())
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch, "ones", lambda *shape, device: torch.full(shape, 1.0))
    monkeypatch.setattr(torch, "zeros", lambda *shape, device: torch.full(shape, 0.0))
    kernels = choice.KernelChoice("auto", torch.device("cuda"), 1)
    assert says in kernels.without_triton and bool(says) == bool(kernels.without_triton)
    assert isinstance(kernels._sparse, Kernel) != bool(says)
