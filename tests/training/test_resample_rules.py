"""The rules of resampling against what they promise, counted in numpy; learning rates of features; the aftermath."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sae_cli.artifacts.tensors import read_tensors, write_tensors
from sae_cli.config.resample import ResampledEncoder, ResampleRule
from sae_cli.config.sae import BiasInit
from sae_cli.training import resampling
from sae_cli.training.aftermath import Aftermath
from sae_cli.training.recipe import resampling_steps
from sae_cli.training.resample_rules import limits_for, median_count
from sae_cli.training.resampling import ResamplePlan, Resampler
from tests.training.test_resampling import DEAD, FIRST, MAKE, PLAN, D, F, N, copies, in_the_middle, reconstruction

CPU = torch.device("cpu")
LOCAL = ResamplePlan(at=(7,), inputs=N, rewarm_steps=4, exempt_fraction=0.0, rule=ResampleRule.local, share=0.3)
MARKS = ResamplePlan(at=(7,), inputs=N, rewarm_steps=0, exempt_fraction=0.0, rule=ResampleRule.marks2023)


def codes(name, objective, x):
    """Feature activations in numpy [N, F]."""
    p = {key: value.double().numpy() for key, value in objective.parameters.items()}
    pre = (x.double().numpy() - p["b_dec"]) @ p["W_enc"].T
    if name == "gated":
        return np.maximum(np.exp(p["r_mag"]) * pre + p["b_mag"], 0) * (pre + p["b_gate"] > 0)
    z = pre + p["b_enc"]
    return z * (z > (np.exp(p["log_threshold"]) if name == "jump_relu" else 0))


@pytest.mark.parametrize("name", MAKE)
def test_marks_2023(name, monkeypatch):
    objective, adam, x = in_the_middle(name)
    before, seen = copies(objective, adam), []
    monkeypatch.setattr(resampling, "draw", lambda weights, n, _: seen.append(weights.numpy()) or torch.arange(n) + 3)
    resampler = Resampler(MARKS, F, (D, D), 1, (1.0, 1.0), True, CPU)
    resampler.remember(x, x, 6)
    assert torch.equal(resampler.resample(objective, adam, DEAD, 7), DEAD)
    raw = x.double().numpy()
    loss = np.linalg.norm(raw - reconstruction(name, before, raw), axis=1)
    np.testing.assert_allclose(seen[0], loss, rtol=1e-4)
    features, alive = np.flatnonzero(DEAD.numpy()), ~DEAD.numpy()
    drawn = raw[3 : 3 + len(features)]
    mean = 0.2 * before["W_enc"][0].numpy()[alive].mean(axis=0)
    directions = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    expected = {**FIRST, "W_dec": directions, "W_enc": np.tile(mean, (len(features), 1))}
    for key, (parameter, mean, square) in copies(objective, adam).items():
        if key == "b_dec":
            assert torch.equal(parameter, before[key][0])
            continue
        np.testing.assert_allclose(parameter[features], expected[key], rtol=1e-5, atol=1e-6)
        kept = key == "W_dec"  # whose moments that code leaves as they are
        assert torch.equal(mean, before[key][1]) == kept and torch.equal(square, before[key][2]) == kept
        assert kept or not mean[features].any()


def test_encoder_rows_can_be_asked_for_otherwise():
    rows = {}
    for rule, encoder in ((ResampleRule.bricken2023, "mean_alive"), (ResampleRule.marks2023, "input")):
        objective, adam, x = in_the_middle("relu")
        alive = objective.W_enc[~DEAD]
        mean, norm = 0.2 * alive.mean(dim=0), 0.2 * alive.norm(dim=1).mean()
        plan = replace(MARKS, rule=rule, encoder=ResampledEncoder(encoder))
        resampler = Resampler(plan, F, (D, D), 1, (1.0, 1.0), True, CPU)
        resampler.remember(x, x, 6)
        resampler.resample(objective, adam, DEAD, 7)
        rows[encoder] = objective.W_enc[DEAD], mean, norm, objective.W_dec[DEAD]
    found, mean, _, _ = rows["mean_alive"]
    torch.testing.assert_close(found, mean.expand_as(found))
    found, _, norm, written = rows["input"]
    torch.testing.assert_close(found, norm * written)


@pytest.mark.parametrize("name", MAKE)
def test_local_features_fire_as_often_as_the_median_live_one(name):
    objective, adam, x = in_the_middle(name)
    resampler = Resampler(replace(LOCAL, share=1.0), F, (D, D), 1, (1.0, 1.0), True, CPU)
    resampler.remember(x, x, 6)
    counts = np.sort((codes(name, objective, x) > 0).sum(axis=0)[~DEAD.numpy()])
    l0 = (codes(name, objective, x) > 0).sum() / N
    resampler.resample(objective, adam, DEAD, 7)
    after = (codes(name, objective, x) > 0).sum(axis=0)
    assert (after[DEAD.numpy()] == max(1, counts[(len(counts) - 1) // 2])).all()
    (facts,) = resampler.aftermath.facts()
    assert (facts["l0_before"], facts["l0_after"]) == (l0, after.sum() / N)
    assert (facts["step"], facts["alive"], facts["died"]) == (7, int((~DEAD).sum()), -1)


def test_limits_are_between_two_inputs():
    g = torch.Generator().manual_seed(0)
    rows, x = torch.randn(6, 3, generator=g), torch.randn(50, 3, generator=g)
    for count in (1, 7, 49, 50):
        above = (rows @ x.T > limits_for(rows, x, count)[:, None]).sum(dim=1)
        assert (above == count).all()
    assert limits_for(rows[:0], x, 3).shape == (0,)
    assert median_count(torch.tensor([9, 1, 5, 0]), torch.tensor([True, True, True, False])) == 5
    assert median_count(torch.tensor([0, 0]), torch.tensor([True, True])) == 1
    assert median_count(torch.tensor([4, 4]), torch.tensor([False, False])) == 1


def test_a_share_at_a_time_begins_again():
    dead, waiting = torch.tensor([True] * 7 + [False] * 3), []
    for seed in (0, 1):
        objective, adam, x = in_the_middle("relu")
        resampler = Resampler(LOCAL, F, (D, D), seed, (1.0, 1.0), True, CPU)
        resampler.remember(x, x, 6)
        kept = objective.W_enc.clone()
        chosen = resampler.resample(objective, adam, dead, 7)
        assert int(chosen.sum()) == 3 and not (chosen & ~dead).any()
        assert torch.equal(objective.W_enc[~chosen], kept[~chosen])
        waiting.append(chosen)
    assert not torch.equal(*waiting)


def test_learning_rates_rise_one_by_one():
    """A step of features that have begun again is a share of Adam's own step; that of the others is all of it."""
    objective, adam, x = in_the_middle("gated")
    resampler = Resampler(LOCAL, F, (D, D), 0, (1.0, 1.0), True, CPU)
    assert resampler.lr_factor(7) == 1
    resampler.remember(x, x, 6)
    chosen = resampler.resample(objective, adam, DEAD, 7)
    for done, share in ((7, 0.25), (8, 0.5), (9, 0.75), (10, 1.0), (11, 1.0)):
        before = {name: p.clone() for name, p in objective.parameters.items()}
        with resampler.slowed(objective, done):
            for parameter in objective.parameters.values():
                parameter.add_(1.0)
        for name, parameter in objective.parameters.items():
            moved = parameter - before[name]
            if name == "W_dec":
                torch.testing.assert_close(parameter[chosen].norm(dim=1), torch.ones(3)) if share < 1 else None
                torch.testing.assert_close(moved[~chosen], torch.ones_like(moved[~chosen]))
            elif name == "b_dec":
                torch.testing.assert_close(moved, torch.ones_like(moved))
            else:
                torch.testing.assert_close(moved[~chosen], torch.ones_like(moved[~chosen]))
                torch.testing.assert_close(moved[chosen], torch.full_like(moved[chosen], share))


def test_features_that_were_alive_and_did_not_fire_are_counted():
    """Over the window after each resampling, also those that have begun again by then, or over what there was of it."""
    watched = Aftermath(4, CPU)
    last, third = torch.tensor([False, False, False, True]), torch.tensor([False, False, True, False])
    watched.begin(10, 1000, (2.0, 3.0), ~last, last)
    watched.watch(1200, torch.tensor([0, 200, 300, 0]), 250)
    assert watched.facts()[0]["died"] == -1
    watched.begin(14, 1220, (3.0, 3.5), ~third, third)
    watched.watch(1260, torch.tensor([0, 260, 40, 10]), 250)
    assert [(each["died"], each["window_tokens"]) for each in watched.facts()] == [(2, 260), (-1, -1)]
    watched.watch(1300, torch.tensor([0, 70, 0, 80]), 0)
    assert [(each["died"], each["window_tokens"]) for each in watched.facts()] == [(2, 260), (1, 80)]
    other = Aftermath(4, CPU)
    other.restore(watched.state())
    assert other.facts() == watched.facts()
    assert watched.tensors()["l0"].tolist() == [[2.0, 3.0], [3.0, 3.5]]


def plan_of(rule):
    return ResamplePlan(at=(12, 18, 30), inputs=700, rewarm_steps=9, exempt_fraction=0.25, rule=rule, share=0.1)


@pytest.mark.parametrize("rule", ResampleRule)
@pytest.mark.parametrize("stopped_at", [12, 15, 20, 31, 45])
def test_a_restored_trainer_goes_on_bit_for_bit(small, rule, stopped_at, tmp_path):
    """Between a resampling and the end of what it is followed by: warm-ups of features, windows that are watched."""
    data = small.batches(50)
    recipe = replace(small.recipe, dead_after=1500, resampling=plan_of(rule), b_dec_init=BiasInit.zero)

    def go(trainer, data):
        for x in data:
            if trainer.step_number < 30:
                trainer.objective.b_enc[:9] -= 0.3  # some die, and die again
            trainer.step(x)
        return trainer

    whole, stopped = go(small.trainer(recipe, small.relu(), data), data), small.trainer(recipe, small.relu(), data)
    write_tensors(tmp_path / "state", go(stopped, data[:stopped_at]).state())
    resumed = small.trainer(recipe, small.relu(), data)
    resumed.restore(read_tensors(tmp_path / "state"))
    go(resumed, data[stopped_at:])
    found, expected = resumed.state(), whole.state()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
    assert resumed.aftermath().facts() == whole.aftermath().facts()
    facts = whole.aftermath().facts()
    assert [each["step"] for each in facts] == [12, 18, 30] and all(each["died"] >= 0 for each in facts)
    assert whole.history()["resampled"].any()


def test_where_others_learn_on_and_where_they_do_not(small):
    data = small.batches(20)
    rates = {}
    for rule in (ResampleRule.bricken2023, ResampleRule.local):
        plan = ResamplePlan(at=(10,), inputs=256, rewarm_steps=5, exempt_fraction=0.0, rule=rule)
        trainer = small.trainer(replace(small.recipe, resampling=plan), small.relu(), data)
        for x in data[:10]:
            trainer.step(x)
        rates[rule] = trainer.lr
    assert rates[ResampleRule.bricken2023] == pytest.approx(rates[ResampleRule.local] / 5)


def test_steps():
    assert resampling_steps([3, 7], 5, 16) == (3, 5, 7, 10, 15)
    assert resampling_steps([], 5, 15) == (5, 10)
    assert resampling_steps([], 50, 15) == resampling_steps([], None, 15) == ()


def test_as_before_without_a_rule(small):
    """Nothing of the rules is in what is saved of a training that does not resample."""
    state = small.trainer(small.recipe, small.relu(), small.batches(3)).state()
    assert not [name for name in state if "aftermath" in name or "began" in name]
    assert PLAN.rule is ResampleRule.bricken2023
