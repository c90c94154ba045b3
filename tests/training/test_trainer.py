"""Training as a whole: known truth, constraints, counters."""

from dataclasses import replace

import pytest
import torch

from sae_cli.errors import JobError
from sae_cli.training.needs import seconds_of_a_step


def trained(small, recipe, n=50, unit_rows=True):
    data = small.batches(n)
    trainer = small.trainer(recipe, small.relu(unit_rows), data)
    for x in data:
        trainer.step(x)
    return trainer, torch.cat(data)


def test_decoder_rows_stay_unit_and_training_helps(small):
    trainer, x = trained(small, small.recipe)
    dictionary = trainer.dictionary()
    assert torch.allclose(dictionary.decoder_norms(), torch.ones(32), atol=1e-6)
    untrained = small.trainer(small.recipe, small.relu(), [x]).dictionary()
    assert (x - dictionary(x)).square().sum() < 0.3 * (x - untrained(x)).square().sum()


def test_free_rows_move_away_from_unit_norm(small):
    trainer, _ = trained(small, small.recipe, unit_rows=False)
    assert (trainer.dictionary().decoder_norms() - 1).abs().max() > 0.01


def test_the_result_does_not_depend_on_the_units_of_the_activations(small):
    """Scaling inside means that the same L1 coefficient works at every hook."""
    data = small.batches(20)
    results = []
    for unit in (1.0, 1000.0):
        trainer = small.trainer(small.recipe, small.relu(), [x * unit for x in data])
        for x in data:
            trainer.step(x * unit)
        results.append(trainer.dictionary())
    x = data[0]
    torch.testing.assert_close(results[1](x * 1000) / 1000, results[0](x), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(results[1].activation_mean / 1000, torch.cat(data).mean(dim=0), rtol=1e-5, atol=1e-6)


def test_same_seed_same_bits_other_seed_other_bits(small):
    a, b, c = (trained(small, replace(small.recipe, seed=seed), 10)[0].objective.parameters for seed in (0, 0, 1))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["W_enc"], c["W_enc"])


def test_timing_a_step_changes_nothing(small):
    trainer, x = trained(small, small.recipe, 5)
    before = {name: p.clone() for name, p in trainer.objective.parameters.items()}
    assert seconds_of_a_step(trainer, x[:64]) > 0
    assert all(torch.equal(before[name], p) for name, p in trainer.objective.parameters.items())
    assert not any(p.grad.any() for p in trainer.objective.parameters.values())
    assert trainer.step_number == 5


def test_dead_features_are_counted_by_tokens(small):
    trainer, _ = trained(small, small.recipe, 5)
    trainer.objective.b_enc[:3] = -1e6
    for x in small.batches(8):
        trainer.step(x)
    assert trainer.tokens_since_fired[:3].tolist() == [2048] * 3
    assert trainer.silent["dead"] >= 3


def test_no_feature_is_dead_before_it_can_be(small):
    """Features that are silent from the first token on: counted as such until `dead_after` tokens, then as dead."""
    data = small.batches(8)
    trainer = small.trainer(small.recipe, small.relu(), data)
    trainer.objective.b_enc[:] = -1e6
    lines = []
    for x in data:
        trainer.step(x)
        lines.append(trainer.close_window())
    features = len(trainer.objective.b_enc)
    for line in lines:
        early = line["tokens"] < small.recipe.dead_after
        assert {key: line[key] for key in ("dead", "never_fired") if key in line} == {
            "never_fired" if early else "dead": features
        }
    assert "never_fired" in lines[0] and "dead" in lines[-1]


def test_the_curve_line_is_the_mean_over_its_window(small):
    trainer, _ = trained(small, small.recipe, 5)
    line = trainer.close_window()
    assert (line["step"], line["tokens"]) == (5, 5 * 256)
    assert line["fvu"] > 0 and line["l0"] <= 32
    for x in small.batches(1):
        trainer.step(x)
    again = trainer.close_window()
    f = trainer.dictionary().encode(x)
    assert again["l0"] == pytest.approx((f > 0).sum(dim=1).float().mean().item(), rel=0.2)


_DIVERGED = (
    r"^{} at step 3 of 50, at a learning rate of 0\.003: lower train\.lr= \(now 0\.003\), set "
    r"train\.clip_grad_norm= \(now null\), or look in metrics\.jsonl for where the loss begins to rise$"
)


def test_a_loss_that_is_no_number_stops_training(small):
    trainer, _ = trained(small, small.recipe, 3)
    with pytest.raises(JobError, match=_DIVERGED.format("the loss is nan")):
        trainer.step(torch.full((4, 16), float("nan")))


@pytest.mark.parametrize("name", ["W_enc", "b_enc", "W_dec", "b_dec"])
def test_a_parameter_that_is_not_finite_is_named(small, name):
    """A finite loss does not show it: a feature whose bias is -inf is silent."""
    trainer, _ = trained(small, small.recipe, 3)
    trainer.check_finite()
    trainer.objective.parameters[name].flatten()[-1] = -torch.inf
    with pytest.raises(JobError, match=_DIVERGED.format(f"{name} is not finite")):
        trainer.check_finite()


def test_fitting_the_decoder_removes_shrinkage_and_keeps_l0(small):
    data = small.batches(900)
    x = torch.cat(data)
    recipe = replace(small.recipe, steps=900, decoder_fit=5 / 6, seed=2)
    trainer = small.trainer(recipe, small.relu(l1=2.0), [x])
    for step, batch in enumerate(data):
        if step == 150:
            assert trainer.sparsity == 0
            before = trainer.dictionary()
        trainer.step(batch)
    after = trainer.dictionary()
    assert torch.equal(before.encode(x) > 0, after.encode(x) > 0)
    bias = [float((d(x) ** 2).sum() / (d(x) * x).sum()) for d in (before, after)]
    assert bias[0] < 0.9 and bias[1] == pytest.approx(1, abs=0.05)
    assert (x - after(x)).square().sum() < 0.8 * (x - before(x)).square().sum()
    assert torch.allclose(after.decoder_norms(), torch.ones(32), atol=1e-5)


def test_a_training_may_be_all_decoder_fit(small):
    data = small.batches(1)
    trainer = small.trainer(replace(small.recipe, steps=1, decoder_fit=0.9), small.relu(), data)
    trainer.step(data[0])
    assert trainer.recipe.main_steps == 0 and trainer.step_number == 1
    trainer.check_finite()
