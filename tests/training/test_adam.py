"""Adam against torch's own, by every kernel; on the sphere against torch's on projected gradients."""

import pytest
import torch

from sae_cli.dictionaries.objective import gradient
from sae_cli.dictionaries.relu import ReluObjective
from sae_cli.kernels.reference import ReferenceKernel
from sae_cli.kernels.sparse import SparseKernel
from sae_cli.training.adam import Adam
from tests.known import present

F, D = 70, 33
BETAS = (0.8, 0.97)


@pytest.mark.parametrize("kernel", [ReferenceKernel(), SparseKernel()])
@pytest.mark.parametrize("clip", [None, 3.0])
@pytest.mark.parametrize("unit_rows", [False, True])
def test_steps_against_torch(kernel, unit_rows, clip):
    g = torch.Generator().manual_seed(0)
    W_enc, W_dec = torch.randn(2, F, D, generator=g)
    W_dec /= W_dec.norm(dim=1, keepdim=True)
    objective = ReluObjective(W_enc, W_dec, torch.randn(D, generator=g), unit_rows, l1=1.0)
    adam = Adam(objective, BETAS, clip)
    oracle = {name: p.double().requires_grad_() for name, p in objective.parameters.items()}
    theirs = torch.optim.Adam(list(oracle.values()), betas=BETAS)
    for number in range(5):
        lr = 0.1 / (number + 1)
        for name, parameter in objective.parameters.items():
            given = torch.randn(parameter.shape, generator=g) * 10.0 ** torch.randn(parameter.shape, generator=g)
            gradient(parameter).copy_(given)
            oracle[name].grad = given.double()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(oracle.values(), clip)
        for name in oracle:
            wide = present(oracle[name].grad)
            if unit_rows and name == "W_dec":
                wide -= (wide * oracle[name].detach()).sum(dim=1, keepdim=True) * oracle[name].detach()
            oracle[name].grad = wide
        theirs.param_groups[0]["lr"] = lr
        theirs.step()
        if unit_rows:
            oracle["W_dec"].data /= oracle["W_dec"].norm(dim=1, keepdim=True)
        adam.step(kernel, lr)
        for name, parameter in objective.parameters.items():
            torch.testing.assert_close(parameter, oracle[name].detach().float(), rtol=1e-4, atol=1e-5)
            assert not gradient(parameter).any()
    assert adam.number == 5
