"""Dictionaries: their equations, folding of the scale, and their files."""

import numpy as np
import pytest
import torch

import sae_cli
from sae_cli.artifacts.run_directory import open_run
from sae_cli.artifacts.stored_run import read_run
from sae_cli.dictionaries.files import load_dictionary, save_dictionary
from sae_cli.dictionaries.relu import ReluDictionary
from sae_cli.errors import JobError

F, D = 7, 4


@pytest.fixture
def tensors():
    generator = torch.Generator().manual_seed(0)
    shapes = ReluDictionary.shapes(F, D, D)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


@pytest.fixture
def x():
    return torch.randn(50, D, generator=torch.Generator().manual_seed(1))


def test_encode_and_decode_are_the_equations(tensors, x):
    dictionary = ReluDictionary(tensors)
    W_enc, b_enc, W_dec, b_dec = (tensors[n].double().numpy() for n in ("W_enc", "b_enc", "W_dec", "b_dec"))
    f = np.maximum(0, np.einsum("nd,fd->nf", x.double().numpy() - b_dec, W_enc) + b_enc)
    np.testing.assert_allclose(dictionary.encode(x).numpy(), f, atol=1e-5)
    np.testing.assert_allclose(dictionary(x).numpy(), np.einsum("nf,fd->nd", f, W_dec) + b_dec, atol=1e-4)


def test_folding_the_scale_commutes_with_scaling_the_input(tensors, x):
    trained = ReluDictionary(tensors)
    raw = trained.in_units_divided_by(2.5, 2.5)
    torch.testing.assert_close(raw(x), trained(2.5 * x) / 2.5)
    torch.testing.assert_close(raw.encode(x), trained.encode(2.5 * x) / 2.5)
    assert torch.equal(raw.W_dec, trained.W_dec) and torch.equal(raw.W_enc, trained.W_enc)


def test_units_of_what_is_read_and_of_what_is_written_are_folded_in_each_by_itself(tensors, x):
    tensors |= {"W_dec": torch.randn(F, 7), "b_dec": torch.randn(7), "activation_mean": torch.randn(7)}
    trained = ReluDictionary({**tensors, "b_pre": torch.randn(D)})
    assert (trained.d_in, trained.d_out) == (D, 7)
    raw = trained.in_units_divided_by(read=2.5, written=0.4)
    torch.testing.assert_close(raw(x), trained(2.5 * x) / 0.4)
    assert torch.equal(raw.W_dec, trained.W_dec)
    with pytest.raises(JobError, match="W_dec: expected shape"):
        ReluDictionary(tensors)


def test_saved_and_loaded_again(tmp_path, tensors, x):
    with open_run(tmp_path / "run", "train", {}) as run:
        save_dictionary(
            run, ReluDictionary(tensors), {"hook": "mlp_out", "layer": 2, "model": "embedded:demo", "scale": 3.0}
        )
        finished = run.finish()
    loaded = sae_cli.load(tmp_path / "run")
    assert torch.equal(loaded(x), ReluDictionary(tensors)(x))
    header = finished.read_metadata("sae.safetensors")
    assert header == {"architecture": "relu", "hook": "mlp_out", "layer": 2, "model": "embedded:demo", "scale": 3.0}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: {k: v for k, v in t.items() if k != "b_enc"}, "needs the tensors b_enc"),
        (lambda t: t | {"W_dec": torch.ones(D, F)}, r"W_dec: expected shape \(7, 4\), found \(4, 7\)"),
    ],
)
def test_wrong_tensors_are_named(tensors, change, says):
    with pytest.raises(JobError, match=says):
        ReluDictionary(change(tensors))


def test_an_unknown_architecture_is_named(tmp_path, tensors):
    with open_run(tmp_path / "run", "train", {}) as run:
        run.write_tensors("sae.safetensors", tensors, {"architecture": "quantum"})
        run.finish()
    with pytest.raises(JobError, match="'quantum'; this version of sae knows: relu"):
        load_dictionary(read_run(tmp_path / "run"))
