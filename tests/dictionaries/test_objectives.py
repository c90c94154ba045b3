"""Every architecture's written-out gradients against autograd on its loss as the paper states it."""

import pytest
import torch

from sae_cli.dictionaries.auxiliary import AuxiliaryLoss
from sae_cli.dictionaries.batch_topk import BatchTopKObjective
from sae_cli.dictionaries.gated import GatedObjective
from sae_cli.dictionaries.jump_relu import JumpReluObjective
from sae_cli.dictionaries.matryoshka import MatryoshkaObjective
from sae_cli.dictionaries.objective import StepContext
from sae_cli.dictionaries.relu import ReluObjective
from sae_cli.dictionaries.topk import TopKObjective
from sae_cli.kernels.dense import DenseKernel
from sae_cli.kernels.reference import ReferenceKernel
from sae_cli.kernels.sparse import SparseKernel

N, D, F = 11, 5, 12
AUXILIARY = AuxiliaryLoss(coefficient=0.4, k=3)
DEAD = torch.arange(F) % 5 == 1
CONTEXT = StepContext(batch_size=N, sparsity=0.7, dead=DEAD)

OBJECTIVES = {
    "relu": (ReluObjective, {"l1": 1.0}),
    "topk": (TopKObjective, {"k": 3, "auxiliary": AUXILIARY}),
    "batch_topk": (BatchTopKObjective, {"k": 3, "auxiliary": AUXILIARY}),
    "matryoshka": (MatryoshkaObjective, {"k": 3, "auxiliary": AUXILIARY, "group_sizes": (2, 4, 6)}),
    "gated": (GatedObjective, {"l1": 1.0}),
    "jump_relu": (
        JumpReluObjective,
        {"penalty": "l0_target", "coefficient": 3.0, "target": 2, "bandwidth": 0.5, "threshold": 0.4},
    ),
    "jump_relu with tanh": (
        JumpReluObjective,
        {"penalty": "tanh", "coefficient": 2.0, "target": 2, "bandwidth": 0.5, "threshold": 0.4},
    ),
}


def make(name, unit_rows, dtype=torch.float64, shape=(F, D), d_out=None, **changes):
    """An objective whose parameters are all random; with `d_out` one that writes elsewhere than it reads."""
    kind, settings = OBJECTIVES[name]
    g = torch.Generator().manual_seed(0)
    W_enc, W_dec = torch.randn(2, *shape, generator=g, dtype=dtype)
    if d_out:
        W_dec = torch.randn(shape[0], d_out, generator=g, dtype=dtype)
    if unit_rows:
        W_dec = W_dec / W_dec.norm(dim=1, keepdim=True)
    b_dec = torch.randn(d_out or shape[1], generator=g, dtype=dtype)
    objective = kind(W_enc, W_dec, b_dec, unit_rows, **settings | changes)
    objective.b_pre = torch.randn(shape[1], generator=g, dtype=dtype) if d_out else None
    for key, parameter in objective.parameters.items():
        if parameter.ndim == 1 and key != "b_dec":
            parameter += 0.3 * torch.randn(shape[0], generator=g, dtype=dtype)
    return objective


@pytest.fixture
def x():
    return torch.randn(N, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


NAMES = list(OBJECTIVES)


def squared(x):
    return x.square().sum()


def center(o, p):
    return p["b_dec"] if o.b_pre is None else o.b_pre


def auxiliary(o, p, x, y, y_hat):
    """Gao et al.: the dead features' reconstruction of what is left over, which is held fixed."""
    left = (y - y_hat).detach()
    pre = ((x - center(o, p)) @ p["W_enc"].T + p["b_enc"])[:, DEAD]
    k = min(o.auxiliary.k, int(DEAD.sum()))
    top = pre.topk(k, dim=1)
    z = torch.zeros_like(pre).scatter(1, top.indices, top.values.relu())
    return o.auxiliary.coefficient * k / o.auxiliary.k * squared(left - z @ p["W_dec"][DEAD])


def relu(o, p, x, y):
    f = torch.relu((x - center(o, p)) @ p["W_enc"].T + p["b_enc"])
    penalty = o.l1 * CONTEXT.sparsity * (f * p["W_dec"].norm(dim=1)).sum()
    return squared(y - f @ p["W_dec"] - p["b_dec"]) + penalty


def topk(o, p, x, y):
    pre = (x - center(o, p)) @ p["W_enc"].T + p["b_enc"]
    top = pre.topk(o.k, dim=1)
    f = torch.zeros_like(pre).scatter(1, top.indices, top.values.relu())
    y_hat = f @ p["W_dec"] + p["b_dec"]
    return squared(y - y_hat) + auxiliary(o, p, x, y, y_hat)


def batch_top(o, p, x):
    pre = ((x - center(o, p)) @ p["W_enc"].T + p["b_enc"]).relu()
    return pre * (pre >= pre.flatten().topk(o.k * len(x)).values[-1])


def batch_topk(o, p, x, y):
    y_hat = batch_top(o, p, x) @ p["W_dec"] + p["b_dec"]
    return squared(y - y_hat) + auxiliary(o, p, x, y, y_hat)


def matryoshka(o, p, x, y):
    f, total, end = batch_top(o, p, x), 0, 0
    for size in o.group_sizes:
        end += size
        y_hat = f[:, :end] @ p["W_dec"][:end] + p["b_dec"]
        total = total + squared(y - y_hat) / len(o.group_sizes)
    return total + auxiliary(o, p, x, y, y_hat)


def gated(o, p, x, y):
    """Equations 8 and 9 of the paper; the gate itself is a step, with no gradient."""
    centered = x - center(o, p)
    pi = centered @ p["W_enc"].T + p["b_gate"]
    magnitude = torch.relu(centered @ (p["r_mag"].exp()[:, None] * p["W_enc"]).T + p["b_mag"])
    y_hat = (magnitude * (pi > 0)) @ p["W_dec"] + p["b_dec"]
    frozen = pi.relu() @ p["W_dec"].detach() + p["b_dec"].detach()
    penalty = o.l1 * CONTEXT.sparsity * (pi.relu() * p["W_dec"].norm(dim=1)).sum()
    return squared(y - y_hat) + penalty + squared(y - frozen)


class Step(torch.autograd.Function):
    """H(z - θ) with the pseudo-derivative of the paper's equation 12 with respect to θ."""

    @staticmethod
    def forward(ctx, z, theta, bandwidth):
        ctx.save_for_backward(((z - theta).abs() < bandwidth / 2).to(z) / bandwidth)
        return (z > theta).to(z)

    @staticmethod
    def backward(ctx, *d_output):
        (window,) = ctx.saved_tensors
        return None, -(window * d_output[0]).sum(dim=0), None


def jump_relu(o, p, x, y):
    """z H(z - θ) has the pseudo-derivative -θ/ε with respect to θ: that of the step, at z = θ."""
    z, theta = (x - center(o, p)) @ p["W_enc"].T + p["b_enc"], p["log_threshold"].exp()
    jump = Step.apply(z, theta, o.bandwidth)
    f = z * jump.detach() + theta.detach() * (jump - jump.detach())
    loss = squared(y - f @ p["W_dec"] - p["b_dec"])
    weight = o.coefficient * CONTEXT.sparsity
    if o.penalty == "tanh":
        return loss + weight * torch.tanh(4 * f * p["W_dec"].norm(dim=1)).sum()
    return loss + weight * len(x) * (jump.sum() / len(x) / o.target - 1) ** 2


def triton_kernel():
    """Through the interpreter, or on no machine at all: there are tests of its own for a GPU."""
    pytest.importorskip("triton")
    if torch.cuda.is_available():
        pytest.skip("these tensors are on the CPU")
    from sae_cli.kernels.triton_kernel import TritonKernel

    return TritonKernel()


LOSSES = dict(zip(NAMES, (relu, topk, batch_topk, matryoshka, gated, jump_relu, jump_relu), strict=True))


def gradients(objective, x, kernel, parts=1, context=CONTEXT, y=None):
    """All gradients and the sums, after one batch given in so many parts."""
    pairs = [(part, part) for part in x.chunk(parts)] if y is None else [(x, y)]
    sums = [objective.accumulate(*pair, kernel, context) for pair in pairs]
    objective.finish_gradients(context)
    found = {name: p.grad.clone() for name, p in objective.parameters.items()}
    if objective.unit_rows:  # along the sphere: the rest does not matter
        along = (found["W_dec"] * objective.W_dec).sum(dim=1, keepdim=True)
        found["W_dec"] -= along * objective.W_dec
    return found, sum(sums[1:], start=sums[0])


@pytest.mark.parametrize("d_out", [None, D, 7], ids=["autoencoder", "written elsewhere", "of another width"])
@pytest.mark.parametrize("unit_rows", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_against_autograd(name, unit_rows, d_out, x):
    objective, y = make(name, unit_rows, d_out=d_out), x
    if d_out:
        y = torch.randn(N, d_out, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found, sums = gradients(objective, x, ReferenceKernel(), y=y)

    leaves = {key: parameter.detach().clone().requires_grad_() for key, parameter in objective.parameters.items()}
    used = dict(leaves)
    if unit_rows:  # the loss as a function of directions
        used["W_dec"] = leaves["W_dec"] / leaves["W_dec"].norm(dim=1, keepdim=True)
    loss = LOSSES[name](objective, used, x, y)
    expected = torch.autograd.grad(loss / N, list(leaves.values()))
    for key, gradient in zip(leaves, expected, strict=True):
        torch.testing.assert_close(found[key], gradient, msg=lambda text, key=key: f"{key}: {text}")
    if name != "jump_relu":  # its penalty is of the batch, not a sum over tokens
        assert sums.squared_error + sums.penalty == pytest.approx(loss.item(), rel=1e-6)
    assert sums.l0 > 0 and sums.count.sum() == sums.l0 and 0 < sums.fired.sum() <= F


@pytest.mark.parametrize("name", [name for name in NAMES if OBJECTIVES[name][0].divisible])
def test_a_batch_in_parts_is_the_batch(name, x):
    whole, of_whole = gradients(make(name, True), x, ReferenceKernel())
    parts, of_parts = gradients(make(name, True), x, ReferenceKernel(), parts=3)
    torch.testing.assert_close(parts, whole)
    assert of_parts.squared_error == pytest.approx(float(of_whole.squared_error))
    assert of_parts.penalty == pytest.approx(of_whole.penalty)
    assert of_parts.l0 == of_whole.l0 and torch.equal(of_parts.count, of_whole.count)


FAST = {
    "sparse": (SparseKernel, 600, 700),
    "sparse, bfloat16": (lambda: SparseKernel(torch.bfloat16), 600, 700),
    "dense": (lambda: DenseKernel(torch.float32), 600, 700),
    "triton": (triton_kernel, 30, 70),
}


@pytest.mark.parametrize(
    "fast", [pytest.param(name, marks=pytest.mark.slow) if name == "triton" else name for name in FAST]
)
@pytest.mark.parametrize("name", NAMES)
def test_fast_kernels_agree_with_the_reference(name, fast):
    make_kernel, n, features = FAST[fast]
    kernel, shape, dead = make_kernel(), (features, 24), torch.arange(features) % 9 == 0
    x = torch.randn(n, 24, generator=torch.Generator().manual_seed(2)) * 2
    context = StepContext(batch_size=n, sparsity=0.7, dead=dead)
    settings = {"group_sizes": (features // 7, features // 7, features * 5 // 7)} if name == "matryoshka" else {}
    expected, of_reference = gradients(
        make(name, True, torch.float32, shape, **settings), x, ReferenceKernel(), 1, context
    )
    found, sums = gradients(make(name, True, torch.float32, shape, **settings), x, kernel, 1, context)
    for key, gradient in expected.items():
        assert (found[key] - gradient).norm() <= 1e-4 * gradient.norm(), key
    assert sums.squared_error == pytest.approx(float(of_reference.squared_error), rel=1e-5)
    assert sums.penalty == pytest.approx(float(of_reference.penalty), rel=1e-4)
    assert sums.l0 == pytest.approx(float(of_reference.l0), rel=1e-3)
    assert sums.count.sum() == sums.l0  # entries within rounding of a limit may be others
    assert (sums.count - of_reference.count).abs().sum() <= 2e-3 * sums.l0


@pytest.mark.parametrize("name", NAMES)
def test_the_dictionary_computes_what_was_trained(name, x):
    objective = make(name, True, torch.float32)
    x = x.float()
    _, sums = gradients(objective, x, ReferenceKernel())
    dictionary = objective.dictionary({**objective.tensors(), "activation_mean": torch.zeros(D)})
    assert dictionary.architecture == name.split()[0]
    f = dictionary.encode(x)
    kept = int((f > 0).sum())
    assert ((sums.count - (f > 0).sum(dim=0)).abs().sum()) == sums.l0 - kept
    # The threshold of a batch is the smallest entry it kept, which is not above itself.
    assert kept == int(sums.l0) - (name in ("batch_topk", "matryoshka"))
    if kept == sums.l0 and name != "matryoshka":
        assert float((x - dictionary.decode(f)).square().sum()) == pytest.approx(float(sums.squared_error), rel=1e-4)


def test_no_auxiliary_loss_without_dead_features(x):
    alive = StepContext(batch_size=N, sparsity=1.0, dead=torch.zeros(F, dtype=torch.bool))
    _, sums = gradients(make("topk", True), x, ReferenceKernel(), context=alive)
    assert sums.penalty == 0
