"""What is frozen stays bit for bit; what is softly frozen stays in its cone; the rest learns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import sae_cli
from sae_cli.cli.main import run as command_line
from sae_cli.config.commands.train import TrainConfig
from sae_cli.config.edits import Finetune
from sae_cli.config.stored import read_config
from sae_cli.dictionaries.objective import tied_encoder_scale
from sae_cli.errors import RequestError
from sae_cli.training.cone import Cone
from sae_cli.training.finetune import finetuned
from sae_cli.training.initialize import random_directions
from tests.known import the

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
HELD = ["sae.decoder_cosine_floor=.8"]
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
    assert torch.equal(dictionary.W_dec, FIRST)
    assert float((torch.nn.functional.normalize(dictionary.W_enc, dim=1) * FIRST).sum(dim=1).min()) < 0.99


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_frozen_encoder_is_what_it_was(capsys, tmp_path, architecture):
    settings = [f"sae={architecture}", *sparsity(architecture), "train.freeze=[encoder]"]
    dictionary = sae_cli.load(trained(capsys, tmp_path, *settings).out.strip())
    first = FIRST if architecture in ("topk", "batch_topk", "matryoshka") else FIRST * tied_encoder_scale(48, 24)
    assert torch.equal(dictionary.W_enc, first)
    decoder = torch.nn.functional.normalize(dictionary.W_dec, dim=1)
    assert float((decoder * FIRST).sum(dim=1).min()) < 0.99


def test_bit_for_bit(trainer_of):
    """Through the trainer, in its own units: not a bit of a frozen part changes, nor does Adam know it."""
    for name, other in (("W_dec", "W_enc"), ("W_enc", "W_dec")):
        trainer = trainer_of(frozen=(name,))
        before = {each: trainer.objective.parameters[each].clone() for each in (name, other)}
        for _ in range(20):
            trainer.step(torch.randn(64, 16))
        assert torch.equal(trainer.objective.parameters[name], before[name])
        assert not torch.equal(trainer.objective.parameters[other], before[other])
        assert name not in trainer.adam.states
        assert not trainer.objective.parameters[name].grad.any()


@pytest.fixture
def trainer_of(small):
    """Trainers of the small recipe, without a decoder fit, on what they are given."""

    def make(batches=2, **changes):
        recipe = replace(small.recipe, steps=40, lr=1e-2, decoder_fit=0.0, **changes)
        return small.trainer(recipe, small.relu(l1=0.1), small.batches(batches))

    return make


@pytest.mark.parametrize("floor", [0.5, 0.8, 0.95])
def test_no_row_leaves_its_cone(trainer_of, floor):
    trainer = trainer_of(decoder_cosine_floor=floor)
    first = trainer.objective.W_dec.double().clone()
    for _ in range(40):
        trainer.step(torch.randn(64, 16))
        rows = torch.nn.functional.normalize(trainer.objective.W_dec.double(), dim=1)
        cosine = (rows * first).sum(dim=1)
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


@pytest.mark.parametrize(
    "held", [{"frozen": ("W_enc",)}, {"frozen": ("W_dec",)}, {"decoder_cosine_floor": 0.9}], ids=str
)
def test_a_stopped_one_goes_on_as_if_it_had_not_been(trainer_of, held):
    torch.manual_seed(0)
    batches = [torch.randn(64, 16) for _ in range(40)]
    whole = trainer_of(**held)
    for number, x in enumerate(batches):
        if number == 15:
            state = {name: tensor.clone() for name, tensor in whole.state().items()}
        whole.step(x)
    other = trainer_of(batches=3, **held)  # from another sample: what it has set is in the state
    other.restore(state)
    for x in batches[15:]:
        other.step(x)
    for name, tensor in whole.state().items():
        assert torch.equal(other.state()[name], tensor), name


@pytest.mark.parametrize("held", ["train.freeze=[decoder]", "train.freeze=[encoder]", "sae.decoder_cosine_floor=.9"])
@pytest.mark.parametrize("architecture", ["relu", "topk"])
def test_what_is_not_held_learns(capsys, tmp_path, architecture, held):
    run = trained(
        capsys, tmp_path, f"sae={architecture}", *sparsity(architecture), held, "train.log_every=10"
    ).out.strip()
    lines = [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["fvu"] < 0.8 * lines[0]["fvu"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_floor_holds_for_every_architecture(capsys, tmp_path, architecture):
    settings = [f"sae={architecture}", *sparsity(architecture), "sae.decoder_cosine_floor=.9"]
    rows = sae_cli.load(trained(capsys, tmp_path, *settings).out.strip()).W_dec.double()
    cosine = (torch.nn.functional.normalize(rows, dim=1) * FIRST.double()).sum(dim=1)
    assert 0.9 - 1e-6 < float(cosine.min()) < 0.999


def test_a_run_that_is_held_has_its_own_name(capsys, tmp_path):
    names = {trained(capsys, tmp_path, "l1=1", *each).out.strip() for each in ([], ["train.freeze=[decoder]"], HELD)}
    assert len(names) == 3


@pytest.mark.parametrize(
    ("trained_with", "said"),
    [(["train.freeze=[decoder]"], "use finetune=all"), (["sae.decoder_cosine_floor=.8"], "leave it out")],
)
def test_fine_tuning_does_not_undo_it(capsys, tmp_path, trained_with, said):
    run = trained(capsys, tmp_path, "l1=1", *trained_with).out.strip()
    config, dictionary = read_config(Path(run), "train"), sae_cli.load(run)
    with pytest.raises(RequestError, match=said):
        finetuned(dictionary, the(TrainConfig, config), Finetune.decoder, 512, None, torch.device("cpu"))
