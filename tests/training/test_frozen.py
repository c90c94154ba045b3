"""What is frozen stays bit for bit; what is softly frozen stays in its cone; the rest learns."""

from __future__ import annotations

import pytest
import torch

import sae_cli
from sae_cli.cli.main import run as command_line
from sae_cli.training.cone import Cone
from sae_cli.training.initialize import random_directions

SMALL = [
    "data=synthetic",
    "data.d=24",
    "data.n_features=32",
    "data.mean_active=3",
    "dict_size=48",
    "tokens=40_000",
    "train.shuffle_buffer=4_096",
    "train.held_out_tokens=1_024",
    "device=cpu",
    "--quiet",
]
ARCHITECTURES = ["relu", "topk", "batch_topk", "jump_relu", "gated", "matryoshka"]
FIRST = random_directions(48, 24, seed=0)


def trained(capsys, tmp_path, *settings, code=0):
    found = command_line(["train", f"runs_dir={tmp_path}", *SMALL, *settings])
    captured = capsys.readouterr()
    assert found == code, captured.err
    return captured


def sparsity(architecture):
    return ["l1=1"] if architecture in ("relu", "gated") else ["k=4"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_frozen_decoder_is_what_it_was(capsys, tmp_path, architecture):
    settings = [f"sae={architecture}", *sparsity(architecture), "train.freeze=[decoder]"]
    dictionary = sae_cli.load(trained(capsys, tmp_path, *settings).out.strip())
    rows = torch.nn.functional.normalize(dictionary.W_dec, dim=1)
    if architecture != "jump_relu":  # whose rows are free, and scaled back to raw units
        assert torch.equal(dictionary.W_dec, FIRST) or torch.allclose(rows, FIRST, atol=1e-7)
    torch.testing.assert_close((rows * FIRST).sum(dim=1), torch.ones(48))
    assert float((torch.nn.functional.normalize(dictionary.W_enc, dim=1) * FIRST).sum(dim=1).min()) < 0.99


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_frozen_encoder_is_what_it_was(capsys, tmp_path, architecture):
    settings = [f"sae={architecture}", *sparsity(architecture), "train.freeze=[encoder]"]
    dictionary = sae_cli.load(trained(capsys, tmp_path, *settings).out.strip())
    encoder = torch.nn.functional.normalize(dictionary.W_enc, dim=1)
    torch.testing.assert_close((encoder * FIRST).sum(dim=1), torch.ones(48))
    decoder = torch.nn.functional.normalize(dictionary.W_dec, dim=1)
    assert float((decoder * FIRST).sum(dim=1).min()) < 0.99


def test_bit_for_bit(world_of_trainer):
    """Through the trainer, in its own units: not a bit of a frozen part changes, nor does Adam know it."""
    for name, other in (("W_dec", "W_enc"), ("W_enc", "W_dec")):
        trainer = world_of_trainer(frozen=(name,))
        before = {each: trainer.objective.parameters[each].clone() for each in (name, other)}
        for _ in range(20):
            trainer.step(torch.randn(64, 24))
        assert torch.equal(trainer.objective.parameters[name], before[name])
        assert not torch.equal(trainer.objective.parameters[other], before[other])
        assert name not in trainer.adam.states
        assert not trainer.objective.parameters[name].grad.any()


@pytest.fixture
def world_of_trainer():
    from sae_cli.config.sae import BiasInit
    from sae_cli.dictionaries.relu import ReluObjective
    from sae_cli.training.trainer import Recipe, Trainer

    def make(**changes):
        recipe = Recipe(
            dict_size=48,
            steps=40,
            lr=1e-2,
            betas=(0.9, 0.999),
            clip_grad_norm=None,
            lr_warmup=0.0,
            lr_decay=0.0,
            sparsity_warmup=0.0,
            decoder_fit=0.0,
            b_dec_init=BiasInit.mean,
            dead_after=10_000,
            kernel="reference",
            seed=0,
            **changes,
        )
        objective = lambda start: ReluObjective(start.read, start.written, start.b_dec, True, 0.1)  # noqa: E731
        return Trainer(recipe, objective, torch.randn(512, 24), torch.device("cpu"))

    return make


@pytest.mark.parametrize("floor", [0.5, 0.8, 0.95])
def test_no_row_leaves_its_cone(world_of_trainer, floor):
    trainer = world_of_trainer(decoder_cosine_floor=floor)
    for _ in range(40):
        trainer.step(torch.randn(64, 24))
        rows = torch.nn.functional.normalize(trainer.objective.W_dec.double(), dim=1)
        cosine = (rows * FIRST.double()).sum(dim=1)
        assert float(cosine.min()) > floor - 1e-6
    assert floor < 0.95 or float(cosine.min()) < floor + 1e-3, "some have come to its surface"


def test_a_row_is_put_back_on_its_side_with_its_length():
    first = torch.tensor([[1.0, 0, 0], [1.0, 0, 0], [0, 1.0, 0]])
    rows = torch.tensor([[1.0, 4.0, 0], [3.0, 0.1, 0], [0, -2.0, 1.0]])
    kept = rows.clone()
    Cone(first, 0.8).project_rows(kept)
    torch.testing.assert_close(kept[0], torch.tensor([0.8, 0.6, 0]) * 17**0.5)
    assert torch.equal(kept[1], rows[1])
    torch.testing.assert_close(kept[2], torch.tensor([0, 0.8, 0.6]) * 5**0.5)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["train.freeze=[decoder,encoder]"], "nothing is left to train but biases"),
        (
            ["train.freeze=[decoder]", "sae.decoder_fit=.1"],
            "sae.decoder_fit=0.1 has no effect with train.freeze=[decoder]",
        ),
        (["train.freeze=[decoder]", "sae.decoder_cosine_floor=.8"], "sae.decoder_cosine_floor=0.8 has no effect"),
        (["train.freeze=[encoder]", "resample.at=[10]"], "against train.freeze=[encoder]"),
        (["sae.decoder_cosine_floor=.8", "resample.at=[10]"], "against sae.decoder_cosine_floor="),
        (["sae.decoder_cosine_floor=1"], "sae.decoder_cosine_floor=1"),
        (["train.freeze=[bias]"], "train.freeze"),
    ],
)
def test_bad_requests(capsys, tmp_path, settings, said):
    assert said in trained(capsys, tmp_path, *settings, code=2).err
