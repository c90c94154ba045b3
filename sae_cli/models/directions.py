"""Carrying directions of activation space to spaces that several hook points share."""

from __future__ import annotations

import torch

from sae_cli.config.hook import HookPoint
from sae_cli.models.direct_path import DirectPath
from sae_cli.models.hooks import Site
from sae_cli.models.language_model import LanguageModel
from sae_cli.tensor_types import Float, Tensor


def to_resid(model: LanguageModel, site: Site, rows: Float[Tensor, "F _"]) -> Float[Tensor, "F D"]:
    """What directions at the site are in the residual stream; of `mlp_act` under a post-norm, up to their lengths."""
    if site.hook is not HookPoint.mlp_act:
        return rows.float()
    return rows.float() @ model.parts.mlp_act_to_resid(site.layer).float()


def to_logits(model: LanguageModel, site: Site, rows: Float[Tensor, "F _"]) -> Float[Tensor, "F D"]:
    """What directions at the site do to the centred logits on the direct path, the final norm's scale left out.

    In coordinates of d_model dimensions, in which lengths and angles are those of the centred logits.
    """
    resid = to_resid(model, site, rows).double()
    if model.parts.final_norm_centres:
        resid = resid - resid.mean(dim=1, keepdim=True)
    values, vectors = torch.linalg.eigh(DirectPath(model, site).centred_gram())
    return (resid @ vectors * values.clamp_min(0).sqrt()).float()
