"""Every kernel for CPUs against the plain one, and that one against loops over entries in numpy."""

import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sae_cli.kernels.codes import Codes
from sae_cli.kernels.dense import DenseKernel
from sae_cli.kernels.reference import ReferenceKernel
from sae_cli.kernels.sparse import SparseKernel

EXACT = {
    "sparse": SparseKernel(),
    "sparse, screened in bfloat16": SparseKernel(torch.bfloat16),
    "dense": DenseKernel(torch.float32),
}
SHAPES = [(1, 3, 5), (37, 16, 200), (530, 24, 1000)]  # the last is more than one part, and no multiple of a block


def problem(n, d, features, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=g) * 3
    W = torch.randn(features, d, generator=g)
    return x, W / W.norm(dim=1, keepdim=True), torch.randn(features, generator=g) - 2


def select(kernel, how, x, W, b):
    return kernel.positive(x, W, b) if how == "positive" else getattr(kernel, how)(x, W, b, 3)


def dense(codes):
    return codes.to_dense(codes.values)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("how", ["positive", "top_k", "batch_top_k"])
@pytest.mark.parametrize("name", EXACT)
def test_selection(name, how, shape):
    x, W, b = problem(*shape)
    expected, found = (dense(select(kernel, how, x, W, b)) for kernel in (ReferenceKernel(), EXACT[name]))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("how", ["positive", "top_k", "batch_top_k"])
def test_the_reference_selects_what_numpy_selects(how):
    x, W, b = problem(9, 4, 7)
    pre = x.double().numpy() @ W.double().numpy().T + b.double().numpy()
    least = {"positive": 0, "top_k": np.sort(pre, axis=1)[:, -3:-2], "batch_top_k": np.sort(pre.ravel())[-27]}[how]
    expected = np.where((pre >= least) & (pre > 0), pre, 0)
    np.testing.assert_allclose(dense(select(ReferenceKernel(), how, x, W, b)).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["reference", *EXACT])
def test_products(name, shape):
    kernel = {"reference": ReferenceKernel(), **EXACT}[name]
    x, W, b = problem(*shape)
    codes = ReferenceKernel().positive(x, W, b)
    g = torch.Generator().manual_seed(1)
    v, y = torch.randn(len(codes.values), generator=g), torch.randn(x.shape, generator=g)

    matrix, W64, y64 = codes.to_dense(v).double().numpy(), W.double().numpy(), y.double().numpy()
    entries = codes.rows.numpy(), codes.columns.numpy()
    assert_close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
    assert_close(kernel.decode(codes, v, W).numpy(), matrix @ W64)
    assert_close(kernel.products(codes, y, W).numpy(), (y64 @ W64.T)[entries])
    error, along = kernel.residual(codes, v, W, y)
    assert_close(error.numpy(), matrix @ W64 - y64)
    np.testing.assert_allclose(along.numpy(), ((matrix @ W64 - y64) @ W64.T)[entries], rtol=1e-3, atol=1e-3)
    total = torch.ones_like(W)
    kernel.add_outer_sums(codes, v, y, total)
    np.testing.assert_allclose(total.numpy(), 1 + matrix.T @ y64, rtol=1e-3, atol=1e-3)


def test_dense_bfloat16_is_close():
    x, W, b = problem(300, 64, 500)
    kernel, reference = DenseKernel(torch.bfloat16), ReferenceKernel()
    expected, found = (dense(each.positive(x, W, b)) for each in (reference, kernel))
    assert (found - expected).norm() < 0.01 * expected.norm()
    codes = reference.positive(x, W, b)
    for method, arguments in (("decode", (codes.values, W)), ("products", (x, W))):
        expected, found = (getattr(each, method)(codes, *arguments) for each in (reference, kernel))
        assert (found - expected).norm() < 0.01 * expected.norm()
    totals = torch.zeros(2, *W.shape)
    reference.add_outer_sums(codes, codes.values, x, totals[0])
    kernel.add_outer_sums(codes, codes.values, x, totals[1])
    assert (totals[1] - totals[0]).norm() < 0.01 * totals[0].norm()


@pytest.mark.parametrize("name", ["reference", *EXACT])
def test_no_entry_at_all(name):
    kernel = {"reference": ReferenceKernel(), **EXACT}[name]
    x, W, b = problem(5, 4, 70)
    for how in ("positive", "top_k", "batch_top_k"):
        codes = select(kernel, how, x, W, b - 1000)
        assert codes.starts.tolist() == [0] * 6 and len(codes.values) == 0
        assert not kernel.decode(codes, codes.values, W).any()
        assert codes.counts().tolist() == [0] * 70


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(1e-3, 1e3), st.sampled_from([0.0, 0.9]))
def test_the_bfloat16_screen_misses_nothing(seed, unit, share_of_zeros):
    """Whatever the scale of activations, and where a few dimensions carry everything."""
    x, W, b = problem(64, 32, 300, seed)
    mask = torch.rand(32, generator=torch.Generator().manual_seed(seed)) >= share_of_zeros
    x, b = x * unit * mask, b * unit
    pre = torch.addmm(b, x, W.T)
    found = dense(SparseKernel(torch.bfloat16).positive(x, W, b))
    clear = pre > 1e-5 * unit  # nearer to zero, float32 itself is not sure
    torch.testing.assert_close(found[clear], pre[clear], rtol=1e-4, atol=1e-5 * unit)
    assert (found[pre < -1e-5 * unit] == 0).all()


def test_batch_top_k_where_one_part_holds_everything():
    """The first guess at the limit is too high for the part of the batch with the large entries' neighbors."""
    x, W, b = problem(1100, 8, 640)
    x[512:] *= 1e-3
    expected, found = (each.batch_top_k(x, W, b + 2, 40) for each in (ReferenceKernel(), SparseKernel()))
    torch.testing.assert_close(dense(found), dense(expected), rtol=1e-5, atol=1e-5)
    assert found.starts[512] > 0.9 * found.starts[-1]


def test_equal_entries_are_taken_from_the_left():
    x, W, b = torch.ones(2, 1), torch.ones(100, 1), torch.zeros(100)
    codes = SparseKernel().top_k(x, W, b, 3)
    assert codes.columns.tolist() == [0, 1, 2] * 2


SUMS = """
import hashlib
import torch
from sae_cli.kernels.sparse import SparseKernel

torch.set_num_threads(1)
g = torch.Generator().manual_seed(0)
x, W = torch.randn(530, 24, generator=g), torch.randn(1000, 24, generator=g)
kernel, total = SparseKernel(), torch.zeros_like(W)
codes = kernel.positive(x, W, torch.full((1000,), -2.0))
error, along = kernel.residual(codes, codes.values, W, x)
kernel.add_outer_sums(codes, along, error, total)
from numba import get_num_threads
content = b"".join(each.numpy().tobytes() for each in (error, along, total))
print(get_num_threads(), len(codes.values), hashlib.sha256(content).hexdigest())
"""


def test_same_bits_whatever_the_number_of_threads():
    """numba has as many threads as torch is told to have, and its sums do not depend on them."""
    found = []
    for threads in ("1", "2"):
        environment = {key: value for key, value in os.environ.items() if key != "NUMBA_NUM_THREADS"}
        environment |= {"OMP_NUM_THREADS": threads}
        ran = subprocess.run([sys.executable, "-c", SUMS], env=environment, capture_output=True, text=True, check=True)
        found.append(ran.stdout.split())
    assert [each[0] for each in found] == ["1", "2"]
    assert found[0][1:] == found[1][1:] and int(found[0][1]) > 1000


def test_a_number_of_threads_that_is_none_is_passed_over():
    """As torch does."""
    environment = {key: value for key, value in os.environ.items() if key != "NUMBA_NUM_THREADS"}
    environment |= {"OMP_NUM_THREADS": "0"}
    subprocess.run([sys.executable, "-c", "import sae_cli.kernels.loops"], env=environment, check=True)


def test_keep_and_sums_of_codes():
    codes = Codes(torch.tensor([0, 2, 2, 5]), torch.tensor([0, 3, 1, 2, 3]).int(), torch.arange(5.0) + 1, 4)
    kept = codes.keep(torch.tensor([False, True, True, False, True]))
    assert (kept.starts.tolist(), kept.columns.tolist()) == ([0, 1, 1, 3], [3, 1, 3])
    assert kept.values.tolist() == [2, 3, 5]
    assert codes.rows.tolist() == [0, 0, 2, 2, 2]
    assert codes.column_sums(codes.values).tolist() == [1, 3, 4, 7]
    assert kept.counts().tolist() == [0, 1, 0, 2]
    assert codes.counts(torch.tensor([1.0, 1, 0, -1, 2])).tolist() == [1, 0, 0, 2]
    starts, order, rows = codes.by_column
    assert starts.tolist() == [0, 1, 2, 3, 5] and order.tolist() == [0, 2, 3, 1, 4] and rows.tolist() == [0, 2, 2, 0, 2]
    assert codes.counts().tolist() == [1, 1, 1, 2]


@pytest.mark.parametrize("shape", [(5, 7), (1, 200), (3, 1)])
def test_codes_of_a_dense_matrix_are_its_positive_entries(shape):
    f = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    f.view(-1)[::4] = -0.0
    whole, parts = Codes.of_dense(f), Codes.join([Codes.of_dense(part) for part in f.split(2)])
    for codes in (whole, parts):
        torch.testing.assert_close(codes.to_dense(codes.values), f.clamp_min(0), rtol=0, atol=0)
        assert len(codes.columns) == int((f > 0).sum()) and codes.n_rows == len(f)
