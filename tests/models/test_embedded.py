"""The models that ship with the package: seeds, checkpoints of one training, and how much they weigh."""

import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import sae_cli
from sae_cli.build import row_stream
from sae_cli.config.data import StdlibData
from sae_cli.config.split import Split
from sae_cli.errors import RequestError
from sae_cli.models import load_language_model
from sae_cli.models.sources import EMBEDDED_MODELS, model_identity

STEPS = ("step0", "step16", "step64", "step256", "step1024", None)


@pytest.fixture(scope="module")
def rows():
    model = load_language_model("embedded:demo-xxs")
    stream = row_stream(StdlibData(), model, Split.held_out)
    return torch.from_numpy(next(iter(stream.one_epoch(12))).tokens)


def loss(model, rows):
    with torch.no_grad():
        logits = model.logits(rows)[:, 1:-1]
    return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 2:].flatten()))


def test_the_loss_falls_from_checkpoint_to_checkpoint(rows):
    losses = [loss(load_language_model("embedded:demo-xxs", revision=step), rows) for step in STEPS]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] == pytest.approx(math.log(4096), abs=0.05)
    assert losses[-1] < losses[0] - 4


def test_checkpoint_0_is_what_the_training_began_from():
    found = load_language_model("embedded:demo-xxs", revision="step0").hf
    torch.manual_seed(0)
    expected = AutoModelForCausalLM.from_config(found.config)
    for name, weight in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], weight.half().float()), name


def test_seeds_are_networks_of_their_own(rows):
    networks = [load_language_model(f"embedded:demo-xxs{seed}") for seed in ("", "-1", "-2")]
    first = [each.hf.state_dict()["gpt_neox.embed_in.weight"].flatten() for each in networks]
    for i in range(3):
        assert abs(float(torch.cosine_similarity(first[i], first[i - 1], dim=0))) < 0.5
    losses = [loss(each, rows) for each in networks]
    assert max(losses) - min(losses) < 0.05
    assert len({tuple(sorted(each.tokenizer.get_vocab().items())) for each in networks}) == 1


def test_a_revision_is_named_or_refused():
    assert model_identity("embedded:demo-xxs", "step64") == "embedded:demo-xxs@step64"
    with pytest.raises(RequestError) as caught:
        model_identity("embedded:demo-xxs", "step65")
    assert str(caught.value) == (
        "model.revision=step65: expected step0, step16, step64, step256, step1024 of embedded:demo-xxs, found "
        "'step65'; leave it out for the end of its training"
    )
    with pytest.raises(RequestError, match="embedded:demo has no revisions"):
        model_identity("embedded:demo", "step3")


def test_what_ships_beside_the_code_is_small():
    package = Path(sae_cli.__file__).parent
    files = [each for each in package.rglob("*") if each.is_file() and "__pycache__" not in each.parts]
    assert sum(each.stat().st_size for each in files if each.suffix != ".py") < 16_000_000
    assert EMBEDDED_MODELS.is_relative_to(package)
