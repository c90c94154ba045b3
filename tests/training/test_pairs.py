"""What is read and what is written need not be one: a dictionary is trained on pairs, of which an autoencoder's are
equal."""

from dataclasses import replace

import pytest
import torch

from sae_cli.dictionaries.auxiliary import AuxiliaryLoss
from sae_cli.dictionaries.relu import ReluObjective
from sae_cli.dictionaries.topk import TopKObjective
from sae_cli.training.resampling import ResamplePlan
from sae_cli.training.trainer import Trainer

CPU = torch.device("cpu")
N, D_IN, D_OUT, F, K = 256, 12, 20, 32, 3
MAKE = {
    "topk": lambda start: TopKObjective(start.read, start.written, start.b_dec, True, K, AuxiliaryLoss(1 / 32, 6)),
    "relu": lambda start: ReluObjective(start.read / 2, start.written, start.b_dec, True, 0.02),
}


@pytest.fixture
def pairs():
    """Batches of sparse combinations of features, as they look in two places of other widths and units."""
    g = torch.Generator().manual_seed(0)
    read, written = torch.randn(16, D_IN, generator=g), torch.randn(16, D_OUT, generator=g)
    read, written = read / read.norm(dim=1, keepdim=True), written / written.norm(dim=1, keepdim=True)

    def batch():
        a = torch.rand(N, 16, generator=g) * (torch.rand(N, 16, generator=g) < 0.1)
        return 5 * a @ read + 0.5, 0.2 * a @ written - 0.05

    return [batch() for _ in range(400)]


def train(small, name, pairs, **changes):
    recipe = replace(small.recipe, dict_size=F, steps=len(pairs), lr=5e-3, **changes)
    trainer = Trainer(recipe, MAKE[name], pairs[0][0], CPU, written=pairs[0][1])
    for x, y in pairs:
        trainer.step(x, y)
    return trainer


@pytest.mark.parametrize(("name", "decoder_fit"), [("topk", 0.0), ("relu", 0.2)])
def test_what_is_written_is_learned_from_what_is_read(small, name, decoder_fit, pairs):
    trainer = train(small, name, pairs, decoder_fit=decoder_fit)
    dictionary = trainer.dictionary()
    assert (dictionary.d_in, dictionary.d_out) == (D_IN, D_OUT)
    x, y = pairs[0]
    variance = (y - y.mean(dim=0)).square().sum()
    assert float((dictionary(x) - y).square().sum() / variance) < 0.15  # in raw units
    seen = torch.cat([written for _, written in pairs])
    torch.testing.assert_close(dictionary.activation_mean, seen.mean(dim=0))
    assert dictionary.decoder_norms().sub(1).abs().max() < 1e-5


def test_pairs_of_equals_with_the_bias_shared_are_an_autoencoder(small, pairs):
    """Giving x twice is giving it once, to the bit."""
    recipe = replace(small.recipe, dict_size=F, steps=20)
    one, other = (Trainer(recipe, MAKE["topk"], pairs[0][0], CPU) for _ in range(2))
    for x, _ in pairs[:20]:
        one.step(x)
        other.step(x, x)
    for name, tensor in one.dictionary().tensors().items():
        assert torch.equal(tensor, other.dictionary().tensors()[name])


def test_a_stopped_training_on_pairs_is_resumed_to_the_bit(small, pairs):
    plan = ResamplePlan(at=(15, 25), inputs=2 * N, rewarm_steps=3, exempt_fraction=0.0)
    recipe = replace(small.recipe, dict_size=F, steps=30, decoder_fit=0.0, resampling=plan, dead_after=N)

    def make(sample):
        trainer = Trainer(recipe, MAKE["relu"], sample[0], CPU, written=sample[1])
        trainer.objective.b_enc[:3] = -100  # dead from the start
        return trainer

    whole, first, second = make(pairs[0]), make(pairs[0]), make(pairs[7])
    for pair in pairs[:30]:
        whole.step(*pair)
    for pair in pairs[:14]:
        first.step(*pair)
    second.restore({name: tensor.clone() for name, tensor in first.state().items()})
    for pair in pairs[14:30]:
        second.step(*pair)
    assert whole.resampler.resampled[0].any()
    for name, tensor in whole.dictionary().tensors().items():
        assert torch.equal(tensor, second.dictionary().tensors()[name]), name
