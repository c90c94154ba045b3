"""The GPU kernels against the plain one: on a GPU where there is one, else through Triton's interpreter."""

import pytest
import torch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
pytest.importorskip("triton")

from sae_cli.kernels.compiled import CompiledKernel  # noqa: E402
from sae_cli.kernels.kernel import AdamState, AdamStep  # noqa: E402
from sae_cli.kernels.reference import ReferenceKernel  # noqa: E402
from sae_cli.kernels.triton_kernel import TritonKernel  # noqa: E402

REFERENCE = ReferenceKernel()
SHAPES = [(1, 3, 5), (37, 16, 200), (140, 70, 300)]  # the last is more than one tile each way


def problem(n, d, features, seed=0):
    g = torch.Generator().manual_seed(seed)
    x, W, b = (
        torch.randn(n, d, generator=g) * 3,
        torch.randn(features, d, generator=g),
        torch.randn(features, generator=g),
    )
    return (x.to(DEVICE), (W / W.norm(dim=1, keepdim=True)).to(DEVICE), (b - 6).to(DEVICE))


def dense(codes):
    return codes.to_dense(codes.values)


def assert_same(found, expected):
    torch.testing.assert_close(dense(found), dense(expected), rtol=1e-5, atol=1e-5)
    assert torch.equal(found.starts, expected.starts)


@pytest.mark.parametrize("shape", SHAPES)
def test_positive(shape):
    problem_ = problem(*shape)
    kernel = TritonKernel()
    for _ in range(2):  # with no room for entries at first, and then with enough
        assert_same(kernel.positive(*problem_), REFERENCE.positive(*problem_))


@pytest.mark.parametrize("how", ["top_k", "batch_top_k"])
@pytest.mark.parametrize("shape", SHAPES[1:])
def test_the_largest(how, shape):
    """The second batch is looked at with what the first one taught, which for the third one is wrong."""
    kernel = TritonKernel()
    for seed, scale in ((0, 1.0), (1, 1.0), (2, 0.3)):
        x, W, b = problem(*shape, seed=seed)
        arguments = (x * scale, W, b + 6, 5)
        assert_same(getattr(kernel, how)(*arguments), getattr(REFERENCE, how)(*arguments))


@pytest.mark.parametrize("how", ["positive", "top_k", "batch_top_k"])
def test_no_entry_at_all(how):
    x, W, b = problem(5, 4, 70)
    arguments = (x, W, b - 1000, *([] if how == "positive" else [3]))
    kernel = TritonKernel()
    for _ in range(2):
        codes = getattr(kernel, how)(*arguments)
        assert codes.starts.tolist() == [0] * 6 and len(codes.values) == 0
    assert not kernel.decode(codes, codes.values, W).any()


def products(kernel, codes, values, y, W):
    total = torch.ones_like(W)
    kernel.add_outer_sums(codes, values, y, total)
    return [kernel.decode(codes, values, W), kernel.products(codes, y, W), *kernel.residual(codes, values, W, y), total]


@pytest.mark.parametrize("shape", [(1, 3, 5), (11, 16, 60), (9, 70, 33)])
def test_products(shape):
    x, W, b = problem(*shape)
    codes = REFERENCE.positive(x, W, b + 3)
    values = torch.randn(codes.values.shape, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    expected = products(REFERENCE, codes, values, x, W)
    for found, wanted in zip(products(TritonKernel(), codes, values, x, W), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("unit_rows", [False, True])
@pytest.mark.parametrize("shape", [(6, 5), (9,)])
def test_adam(shape, unit_rows):
    if unit_rows and len(shape) == 1:
        return
    results = []
    for kernel in (REFERENCE, TritonKernel()):
        g = torch.Generator().manual_seed(0)
        tensors = [torch.randn(shape, generator=g).to(DEVICE) for _ in range(4)]
        if unit_rows:
            tensors[0] /= tensors[0].norm(dim=1, keepdim=True)
        tensors[3] = tensors[3].abs()
        kernel.adam(AdamState(*tensors), AdamStep(0.1, (0.8, 0.95), 3), unit_rows)
        results.append(tensors)
    torch.testing.assert_close(*results)
    assert not results[1][1].any()  # the gradient is cleared


def test_the_compiled_dense_kernel_is_close():
    """In bfloat16: a product's error is some thousandths."""
    x, W, b = problem(60, 32, 90)
    kernel = CompiledKernel("inductor" if DEVICE.type == "cuda" else "eager")
    found, expected = dense(kernel.positive(x, W, b + 3)), dense(REFERENCE.positive(x, W, b + 3))
    assert (found - expected).norm() < 0.01 * expected.norm()
    codes = REFERENCE.positive(x, W, b + 3)
    pairs = zip(
        products(kernel, codes, codes.values, x, W), products(REFERENCE, codes, codes.values, x, W), strict=True
    )
    for found, expected in pairs:
        assert (found - expected).norm() < 0.01 * expected.norm()
