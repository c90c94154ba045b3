"""The null space of the MLP's output matrix, against the module that applies it, in every architecture."""

from __future__ import annotations

import torch
from torch.testing import assert_close

from sae_cli.metrics.directions import NullSpace


def test_the_module_does_not_see_it(model):
    space, down = NullSpace(model.parts.mlp_act_to_resid(1)), model.parts.blocks[1].down_projection
    unseen = torch.randn(20, model.d_mlp) @ space.projector().float()
    assert unseen.norm() > 1
    nothing = torch.zeros(20, model.d_mlp)
    assert_close(down(unseen), down(nothing), atol=1e-5, rtol=0)
    assert_close(space.share(unseen), torch.ones(20))


def test_what_gradients_of_the_output_point_to_is_all_seen(model):
    """Directions that change some output most lie in the range of W_outᵀ."""
    space, down = NullSpace(model.parts.mlp_act_to_resid(1)), model.parts.blocks[1].down_projection
    x = torch.zeros(20, model.d_mlp, requires_grad=True)
    (down(x) * torch.randn(20, model.d_model)).sum().backward()
    assert x.grad is not None
    assert space.share(x.grad).max() < 1e-6
    assert space.floor == 1 - model.d_model / model.d_mlp


def test_random_directions_score_the_floor(model):
    space = NullSpace(model.parts.mlp_act_to_resid(1))
    share = space.share(torch.randn(4000, model.d_mlp, generator=torch.Generator().manual_seed(0)))
    assert abs(float(share.mean()) - space.floor) < 5 * float(share.std()) / 4000**0.5
