"""Gaussian vectors in place of token embeddings, in every architecture."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.testing import assert_close

from sae_cli.config.hook import HookPoint
from sae_cli.models import LanguageModel, Site
from sae_cli.models.gaussian_embeddings import GaussianEmbeddings


@pytest.fixture
def noisy(model):
    other = LanguageModel(copy.deepcopy(model.hf), lambda: model.tokenizer)
    other.replace_embeddings(seed=0)
    return other


def test_every_pass_over_a_row_sees_the_same_vectors(noisy, rows):
    site = Site(HookPoint.mlp_out, 1)
    clean, replaced = noisy.branches(rows, site)
    assert_close(replaced(lambda activations: activations).all(), clean.all(), atol=1e-5, rtol=1e-5)
    assert torch.equal(noisy.capture(rows, [site])[site], noisy.capture(rows, [site])[site])
    one = noisy.capture(rows[1:], [site])[site]
    assert_close(one, noisy.capture(rows, [site])[site][1:], atol=1e-5, rtol=1e-5)


def test_what_the_model_sees_is_no_function_of_the_token(model, noisy, rows):
    same = torch.full((1, 8), 7)
    site = Site(HookPoint.resid, -1)
    captured = noisy.capture(same, [site])[site][0]
    assert (captured[1:] - captured[:-1]).norm(dim=1).min() > 0.1
    assert not torch.allclose(noisy.logits(rows), model.logits(rows), atol=0.1)


def test_moments_are_those_of_the_embeddings(llama):
    embedding = llama.parts.embeddings[0]
    vectors = GaussianEmbeddings(embedding, llama.vocab_size, 3).vectors(torch.randint(100, (40, 100)))
    flat, weight = vectors.flatten(0, 1), embedding.weight.detach()
    assert (flat.mean(dim=0) - weight.mean(dim=0)).abs().max() < 5 * weight.std() / 4000**0.5
    assert ((flat.std(dim=0) / weight.std(dim=0)) - 1).abs().max() < 5 / 8000**0.5
