"""Dictionaries that normalize every token: against float64 numpy, in every architecture, and on disk."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from sae_cli.artifacts.run_directory import open_run
from sae_cli.artifacts.stored_run import read_run
from sae_cli.dictionaries.files import ARCHITECTURES, load_dictionary, save_dictionary
from sae_cli.dictionaries.normalization import Normalization
from sae_cli.dictionaries.relu import ReluDictionary
from sae_cli.errors import JobError

D, F, N = 8, 24, 60
KINDS = list(Normalization)


def dictionary_of(architecture, normalization, centered=True):
    generator = torch.Generator().manual_seed(3)
    kind = ARCHITECTURES[architecture]
    shapes = {"k": (1,), **kind.shapes(F, D, D)}
    tensors = {name: torch.randn(shapes.get(name, (2,)), generator=generator) for name in kind.tensor_names}
    fixed = {"k": torch.tensor([5.0]), "threshold": torch.full((F,), 0.4), "group_sizes": torch.tensor([8.0, F - 8.0])}
    tensors |= {name: each for name, each in fixed.items() if name in tensors}
    return kind(tensors if centered else {**tensors, "b_pre": torch.randn(D, generator=generator)}, normalization)


@pytest.fixture
def x():
    scales = torch.logspace(-2, 2, N)[:, None]
    return (torch.randn(N, D, generator=torch.Generator().manual_seed(1)) + 0.7) * scales


def by_definition(x, normalization):
    """Each token's center, what it is divided by, and what its output is multiplied by, one token after another."""
    found = []
    for row in x.double().numpy():
        if normalization is Normalization.layer_norm:
            mean = sum(row) / D
            std = (sum((each - mean) ** 2 for each in row) / (D - 1)) ** 0.5
            found.append((mean, std + 1e-5, std))
        else:
            rms = (sum(each**2 for each in row) / D) ** 0.5
            found.append((0.0, rms, rms))
    return (np.array(each)[:, None] for each in zip(*found, strict=True))


@pytest.mark.parametrize("normalization", KINDS)
@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_normalized_before_and_scaled_back_after(architecture, centered, normalization, x):
    dictionary = dictionary_of(architecture, normalization, centered)
    plain = dictionary_of(architecture, None, centered).double()
    mean, divided, back = by_definition(x, normalization)
    z = torch.from_numpy((x.double().numpy() - mean) / divided)
    f = plain.encode(z)
    np.testing.assert_allclose(dictionary.encode(x).double().numpy(), f.numpy(), atol=2e-5 * float(f.max()))
    codes = dictionary.codes(x)
    torch.testing.assert_close(codes.to_dense(codes.values), dictionary.encode(x), atol=2e-5, rtol=1e-5)
    y = plain.decode(f).numpy() * back + mean
    assert (np.abs(dictionary(x).numpy() - y) <= 2e-5 * np.abs(y).max(axis=1, keepdims=True)).all()
    assert torch.equal(dictionary.decode(dictionary.encode(x), x), dictionary(x))
    feature = int(f.sum(dim=0).argmax())
    without = f.clone()
    without[:, feature] = 0
    added = (plain.decode(f) - plain.decode(without)).numpy() * back
    found = dictionary.written_by(feature, dictionary.encode(x), x).numpy()
    assert (np.abs(found - added) <= 2e-5 * np.abs(added).max(axis=1, keepdims=True) + 1e-7).all()


@pytest.mark.parametrize("normalization", KINDS)
def test_a_token_of_nothing_is_finite(normalization):
    dictionary = dictionary_of("relu", normalization)
    assert dictionary(torch.zeros(3, D)).isfinite().all()


def test_features_alone_cannot_be_decoded(x):
    dictionary = dictionary_of("topk", Normalization.layer_norm)
    with pytest.raises(ValueError, match=r"expected decode\(f, x\)"):
        dictionary.decode(dictionary.encode(x))


@pytest.mark.parametrize("normalization", KINDS)
def test_stays_through_changes_and_files(normalization, x, tmp_path):
    dictionary = dictionary_of("topk", normalization)
    for changed in (dictionary.keep(torch.arange(7)), dictionary.replace(b_enc=torch.zeros(F)), dictionary.to("cpu")):
        assert changed.normalization is normalization
    assert dictionary.without_normalization().normalization is None
    with open_run(tmp_path / "run", "train", {}) as run:
        save_dictionary(run, dictionary, {"hook": "resid", "layer": 1})
        run.finish()
    run = read_run(tmp_path / "run")
    assert run.read_metadata("sae.safetensors")["normalization"] == normalization.value
    assert torch.equal(load_dictionary(run)(x), dictionary(x))


def test_a_file_of_another_normalization_is_one_line(tmp_path):
    dictionary = dictionary_of("relu", None)
    with open_run(tmp_path / "run", "train", {}) as run:
        save_dictionary(run, dictionary, {"normalization": "batch_norm"})
        run.finish()
    with pytest.raises(JobError, match=r"normalization is one of layer_norm, rms_norm, found 'batch_norm'"):
        load_dictionary(read_run(tmp_path / "run"))


def test_only_an_autoencoder_has_it():
    tensors = dictionary_of("relu", None).tensors()
    wider = {"W_dec": torch.zeros(F, 9), "b_dec": torch.zeros(9), "activation_mean": torch.zeros(9)}
    with pytest.raises(JobError, match="layer_norm: expected a dictionary that writes what it reads"):
        ReluDictionary({**tensors, **wider, "b_pre": torch.zeros(D)}, Normalization.layer_norm)


def test_it_has_no_units_to_change():
    with pytest.raises(AssertionError, match="no units to change"):
        dictionary_of("relu", Normalization.rms_norm).in_units_divided_by(2.0, 2.0)
    assert json.dumps([each.value for each in KINDS]) == '["layer_norm", "rms_norm"]'
