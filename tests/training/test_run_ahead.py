"""Steps on a GPU's kernels, here through Triton's interpreter: no host wait between two lines of the curve, and the
numbers of the plain kernel."""

import sys
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sae_cli.dictionaries.auxiliary import AuxiliaryLoss
from sae_cli.dictionaries.batch_topk import BatchTopKObjective
from sae_cli.dictionaries.gated import GatedObjective
from sae_cli.dictionaries.jump_relu import JumpReluObjective
from sae_cli.dictionaries.matryoshka import MatryoshkaObjective
from sae_cli.dictionaries.relu import ReluObjective
from sae_cli.dictionaries.topk import TopKObjective
from sae_cli.errors import JobError
from sae_cli.training.needs import seconds_of_a_step
from sae_cli.training.run_ahead import LAG

pytest.importorskip("triton")
from sae_cli.kernels import triton_kernel
from sae_cli.kernels.compiled import CompiledKernel

AUXILIARY = AuxiliaryLoss(coefficient=1 / 32, k=8)
N, STEPS = 16, 5
MAKE = {
    "relu": lambda s: ReluObjective(s.read * 0.5, s.written, s.b_dec, True, 1.0),
    "free rows": lambda s: ReluObjective(s.read * 0.5, s.written, s.b_dec, False, 1.0),
    "gated": lambda s: GatedObjective(s.read * 0.5, s.written, s.b_dec, False, 1.0),
    "topk": lambda s: TopKObjective(s.read, s.written, s.b_dec, True, 3, AUXILIARY),
    "batch_topk": lambda s: BatchTopKObjective(s.read, s.written, s.b_dec, True, 3, AUXILIARY),
    "matryoshka": lambda s: MatryoshkaObjective(s.read, s.written, s.b_dec, True, 3, AUXILIARY, (4, 8, 12)),
    "jump_relu": lambda s: JumpReluObjective(s.read * 0.5, s.written, s.b_dec, False, "l0_target", 16.0, 3, 0.8, 0.4),
    "jump_relu with tanh": lambda s: JumpReluObjective(
        s.read * 0.5, s.written, s.b_dec, True, "tanh", 1.0, 3, 0.8, 0.4
    ),
}

VARIANTS = ("free rows", "jump_relu with tanh")
ARCHITECTURES = [pytest.param(name, marks=pytest.mark.slow) if name in VARIANTS else name for name in MAKE]
"""The interpreter takes ten seconds for each."""

WAITS = {"_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select", "bincount", "_unique2"}
"""Operations that end on the host, or whose result has a size that the host has to know."""


class Waits(TorchDispatchMode):
    """Counts the operations that would wait for a GPU; those by which Triton's interpreter stands in for one are not
    looked at."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        masks = args[1] if name in ("index", "index_put", "index_put_") else ()
        by_mask = any(each is not None and each.dtype == torch.bool for each in masks)
        counted = name == "repeat_interleave" and not (kwargs or {}).get("output_size")
        if (name in WAITS or by_mask or counted) and not _interpreting():
            self.found.append(name)
        return function(*args, **(kwargs or {}))


def _interpreting():
    frame = sys._getframe()
    while frame := frame.f_back:
        if frame.f_code.co_filename.endswith("triton/runtime/interpreter.py"):
            return True
    return False


@pytest.fixture(autouse=True)
def _no_more_room_than_is_needed(monkeypatch):
    """The interpreter goes through it entry by entry."""
    monkeypatch.setattr(triton_kernel, "_UNIT", 16)


def recipe(small, **changes):
    usual = {"steps": STEPS + 1, "decoder_fit": 0.0, "kernel": "triton", "dead_after": 2 * N, "dict_size": 24}
    return replace(small.recipe, **usual | changes)


def made(small, name, **changes):
    return small.trainer(recipe(small, **changes), MAKE[name], small.batches(20))


def check_same(fast, plain):
    lines = fast.close_window(), plain.close_window()
    assert lines[0].pop("phase") == lines[1].pop("phase")
    assert lines[0] == pytest.approx(lines[1], rel=1e-5)
    for key, parameter in plain.objective.parameters.items():
        torch.testing.assert_close(fast.objective.parameters[key], parameter, rtol=1e-5, atol=1e-5, msg=key)
    for key, tensor in plain.objective.state().items():
        torch.testing.assert_close(fast.objective.state()[key], tensor, rtol=1e-4, atol=1e-5, msg=key)
    assert torch.equal(fast.tokens_since_fired, plain.tokens_since_fired)
    torch.testing.assert_close(fast.activation_sum, plain.activation_sum)
    for key, tensor in plain.history().items():
        assert torch.equal(fast.history()[key], tensor), key


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_no_host_wait_between_two_lines_and_the_numbers_of_the_plain_kernel(small, name):
    changes = {"clip_grad_norm": 1.0} if name == "relu" else {}
    fast, plain = made(small, name, **changes), made(small, name, kernel="reference", **changes)
    batches = small.batches(STEPS, N)
    seconds_of_a_step(fast, batches[0])  # which makes room for entries
    with Waits() as waits:
        for x in batches:
            fast.step(x)
    assert waits.found == []
    for x in batches:
        plain.step(x)
    check_same(fast, plain)


class Whole(CompiledKernel):
    """Its products in float32, so that what it computes with them can be compared."""

    def __init__(self):
        super().__init__("eager")
        self._pre = lambda x, W, b: torch.addmm(b, x, W.T)
        self._decode, self._products = (lambda f, W: f @ W), (lambda y, W: y @ W.T)
        self._add_outer_sums = lambda f, y, total: total.addmm_(f.T, y)


@pytest.mark.parametrize("name", MAKE)
def test_the_dense_kernel_waits_for_nothing_and_keeps_no_list_of_entries(small, name):
    dense, plain = made(small, name), made(small, name, kernel="reference")
    dense.kernels.kernel = Whole()
    batches = small.batches(12, N)
    with Waits() as waits:
        for x in batches:
            dense.step(x)
    assert waits.found == []
    for x in batches:
        plain.step(x)
    check_same(dense, plain)


def test_steps_without_room_for_their_entries_are_made_again(small):
    """Nothing is known of the first batch, so there is room for none; parameters wait for the host to find out."""
    fast, plain = made(small, "topk"), made(small, "topk", kernel="reference")
    before = fast.objective.W_enc.clone()
    for number, x in enumerate(small.batches(STEPS, N)):
        fast.step(x)
        plain.step(x)
        assert torch.equal(fast.objective.W_enc, before) == (number < LAG)
    check_same(fast, plain)


def test_a_loss_that_is_not_finite_is_found_with_its_step(small):
    trainer = made(small, "relu")
    trainer.kernels.kernel = Whole()
    batches = small.batches(3, N)
    trainer.step(batches[0])
    trainer.step(batches[1] * torch.inf)
    with pytest.raises(JobError, match=r"the loss is (nan|inf) at step 1 of"):
        trainer.close_window()


def test_what_has_to_be_known_at_once_is_waited_for(small):
    """An L0 that is held by the penalty, and a cone: no step is launched before the one before has been looked at."""
    for changes in ({"target_l0": 3.0}, {"decoder_cosine_floor": 0.9}):
        trainer = made(small, "free rows", **changes)
        trainer.step(small.batches(1, N)[0])
        assert not trainer._launched
