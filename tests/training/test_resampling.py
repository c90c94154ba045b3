"""Resampling against the published procedure written out in numpy; its draws, its bounds, its learning rate."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sae_cli.config.sae import BiasInit
from sae_cli.dictionaries.gated import GatedObjective
from sae_cli.dictionaries.jump_relu import JumpReluObjective
from sae_cli.dictionaries.relu import ReluObjective
from sae_cli.training import resampling
from sae_cli.training.adam import Adam
from sae_cli.training.resampling import NO_RESAMPLING, ResamplePlan, Resampler
from sae_cli.training.schedules import warmup_then_decay

F, D, N = 10, 4, 30
CPU = torch.device("cpu")
PLAN = ResamplePlan(at=(7,), inputs=N, rewarm_steps=5, exempt_fraction=0.4)
DEAD = torch.tensor([True, False, True, True, False, True, True, False, True, True])
MAKE = {
    "relu": lambda W, b: ReluObjective(W[0], W[1], b, True, 1.0),
    "gated": lambda W, b: GatedObjective(W[0], W[1], b, True, 1.0),
    "jump_relu": lambda W, b: JumpReluObjective(W[0], W[1], b, True, "tanh", 1.0, 2.0, 0.1, 0.3),
}
FIRST = {"b_enc": 0.0, "b_gate": 0.0, "r_mag": 0.0, "b_mag": 0.0, "log_threshold": np.log(0.3)}


def in_the_middle(name):
    """An objective whose parameters and moments are all random, as in the middle of training."""
    g = torch.Generator().manual_seed(0)
    W = torch.randn(2, F, D, generator=g)
    objective = MAKE[name](W / W.norm(dim=2, keepdim=True), torch.randn(D, generator=g))
    for key in objective.first_values:
        objective.parameters[key].add_(0.3 * torch.randn(F, generator=g))
    adam = Adam(objective, (0.9, 0.999))
    for state in adam.states.values():
        state.mean.normal_(generator=g)
        state.square.uniform_(generator=g)
    return objective, adam, torch.randn(N, D, generator=g) * 3


def copies(objective, adam):
    names = objective.parameters
    return {
        n: (objective.parameters[n].clone(), adam.states[n].mean.clone(), adam.states[n].square.clone()) for n in names
    }


def reconstruction(name, p, x):
    """x̂ in float64."""
    p = {key: value.double().numpy() for key, (value, *_) in p.items()}
    pre = (x - p["b_dec"]) @ p["W_enc"].T
    if name == "gated":
        f = np.maximum(np.exp(p["r_mag"]) * pre + p["b_mag"], 0) * (pre + p["b_gate"] > 0)
    else:
        z = pre + p["b_enc"]
        f = z * (z > (np.exp(p["log_threshold"]) if name == "jump_relu" else 0))
    return f @ p["W_dec"] + p["b_dec"]


@pytest.mark.parametrize("name", MAKE)
def test_as_published(name, monkeypatch):
    objective, adam, raw = in_the_middle(name)
    before, seen = copies(objective, adam), []

    def draw(weights, n, numbers):
        seen.append(weights.numpy())
        return torch.arange(n) + 3

    monkeypatch.setattr(resampling, "draw", draw)
    scale = 0.5
    resampler = Resampler(PLAN, F, (D, D), seed=1, scales=(scale, scale), tied=True, device=CPU)
    resampler.remember(raw, raw, 6)
    chosen = resampler.resample(objective, adam, DEAD, 7)

    x = raw.double().numpy() * scale
    loss = ((x - reconstruction(name, before, x)) ** 2).sum(axis=1)
    np.testing.assert_allclose(seen[0], loss**2, rtol=1e-4)
    assert int(resampler.exempt.sum()) == 4 and (resampler.exempt & DEAD).any()
    assert torch.equal(chosen, DEAD & ~resampler.exempt)
    features = np.flatnonzero(chosen.numpy())
    assert len(features) > 1
    centered = x[3 : 3 + len(features)] - before["b_dec"][0].double().numpy()
    directions = centered / np.linalg.norm(centered, axis=1, keepdims=True)
    length = 0.2 * np.linalg.norm(before["W_enc"][0].numpy()[~DEAD.numpy()], axis=1).mean()
    expected = {**FIRST, "W_dec": directions, "W_enc": directions * length}
    for key, (parameter, mean, square) in copies(objective, adam).items():
        changed = np.zeros(len(parameter), dtype=bool)
        if key != "b_dec":
            changed[features] = True
            np.testing.assert_allclose(parameter[changed], expected[key], rtol=1e-5, atol=1e-7)
            assert not mean[changed].any() and not square[changed].any()
        for now, then in zip((parameter, mean, square), before[key], strict=True):
            assert torch.equal(now[~changed], then[~changed])


def test_draws_are_in_proportion_to_the_weights():
    weights = torch.tensor([0.0, 1.0, 4.0, 0.0, 15.0], dtype=torch.float64)
    n = 40_000
    counts = np.bincount(resampling.draw(weights, n, torch.Generator().manual_seed(0)), minlength=5)
    p = weights.numpy() / 20
    assert (abs(counts - n * p) <= 4 * np.sqrt(n * p * (1 - p))).all()
    assert counts[0] == counts[3] == 0


def test_an_input_that_is_reconstructed_is_never_drawn():
    """Two features give back every multiple of their axis; only the third axis has a loss."""
    W = torch.eye(3)[[0, 0, 1, 1, 2, 2]] * torch.tensor([1, -1, 1, -1, 1, -1.0])[:, None]
    objective = ReluObjective(W, W, torch.zeros(3), True, 1.0)
    objective.b_enc[4:] = -1e6
    x = torch.eye(3).repeat(20, 1) * torch.linspace(1, 2, 60)[:, None]
    dead = torch.tensor([False] * 4 + [True] * 2)
    plan = replace(PLAN, inputs=60, exempt_fraction=0.0)
    resampler = Resampler(plan, 6, (3, 3), 0, (1.0, 1.0), True, CPU)
    resampler.remember(x, x, 6)
    assert resampler.resample(objective, Adam(objective, (0.9, 0.999)), dead, 7).tolist() == dead.tolist()
    torch.testing.assert_close(objective.W_dec[4:], torch.eye(3)[[2, 2]])
    torch.testing.assert_close(objective.W_enc[4:], 0.2 * torch.eye(3)[[2, 2]])

    x = x[:2].repeat(30, 1)  # now all have none
    resampler.remember(x, x, 6)
    before = objective.W_dec.clone()
    assert not resampler.resample(objective, Adam(objective, (0.9, 0.999)), dead, 7).any()
    assert torch.equal(objective.W_dec, before)


def test_the_same_seed_draws_the_same_and_each_step_its_own():
    rows = []
    for seed, step in ((0, 7), (0, 7), (0, 8), (1, 7)):
        objective, adam, x = in_the_middle("relu")
        resampler = Resampler(replace(PLAN, at=(9,), exempt_fraction=0.0), F, (D, D), seed, (1.0, 1.0), True, CPU)
        resampler.remember(x, x, 8)
        resampler.resample(objective, adam, DEAD, step)
        rows.append(objective.W_dec)
    assert torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[0], rows[2]) and not torch.equal(rows[0], rows[3])


def test_losses_are_of_the_most_recent_inputs(small, monkeypatch):
    seen, kept = [], []
    losses, remember = resampling.losses, Resampler.remember

    def remembering(self, x, y, steps_done):
        remember(self, x, y, steps_done)
        kept.append(sum(len(read) for read, _ in self._recent))

    monkeypatch.setattr(resampling, "losses", lambda objective, x, y: seen.append(x) or losses(objective, x, y))
    monkeypatch.setattr(Resampler, "remember", remembering)
    plan = ResamplePlan(at=(3, 20, 22), inputs=600, rewarm_steps=2, exempt_fraction=0.0)
    data = small.batches(50)
    trainer = small.trainer(replace(small.recipe, resampling=plan, dead_after=256), small.relu(), data)
    for step, x in enumerate(data):
        if step < 22:
            trainer.objective.b_enc[0] = -1e6  # one is always dead
        trainer.step(x)
    for at, found in zip(plan.at, seen, strict=True):
        torch.testing.assert_close(found, torch.cat(data[:at])[-600:] * trainer.scale)
    assert max(kept) <= 600 + 256 and kept[-1] == 0


def test_dead_features_live_again_but_for_those_that_are_exempt(small, capsys):
    plan = ResamplePlan(at=(20,), inputs=1024, rewarm_steps=5, exempt_fraction=0.5)
    data = small.batches(50)
    trainer = small.trainer(
        replace(small.recipe, resampling=plan, density_windows=50, dead_after=1000), small.relu(), data
    )
    trainer.objective.b_enc[::2] = -1e6
    for step, x in enumerate(data):
        if step == 20:
            assert trainer.dead_features[::2].all()
            dead = trainer.dead_features
        trainer.step(x)
    history = trainer.history()
    assert history["resample_step"].tolist() == [20]
    (resampled,) = history["resampled"]
    assert torch.equal(resampled, dead & ~history["exempt"]) and int(history["exempt"].sum()) == 16
    after = history["count"][25:].sum(dim=0)
    assert (after[resampled] > 0).all()
    assert not after[dead & history["exempt"]].any()
    assert f"step 20: resampled {int(resampled.sum())} of {int(dead.sum())} dead features" in capsys.readouterr().err
    assert (trainer.tokens_since_fired[resampled] < 1000).all()


def test_without_resampling_nothing_is_kept_and_the_record_is_empty(small):
    data = small.batches(5)
    trainer = small.trainer(replace(small.recipe, resampling=NO_RESAMPLING), small.relu(), data)
    for x in data:
        trainer.step(x)
    history = trainer.history()
    assert not trainer.resampler._recent and not history["exempt"].any()
    assert history["resampled"].shape == (0, 32) and history["resample_step"].shape == (0,)


def test_the_learning_rate_rises_again(small):
    plan = ResamplePlan(at=(10, 30), inputs=256, rewarm_steps=8, exempt_fraction=0.0)
    recipe = replace(small.recipe, steps=60, decoder_fit=1 / 3, resampling=plan, b_dec_init=BiasInit.zero)
    data = small.batches(60)
    trainer, found = small.trainer(recipe, small.relu(), data), []
    for x in data:
        found.append(trainer.lr)
        trainer.step(x)
    plain = [recipe.lr * warmup_then_decay(step, 40, 0.1, 0.2) for step in range(40)]
    since = [step - 30 if step >= 30 else step - 10 if step >= 10 else 99 for step in range(40)]
    assert found[:40] == pytest.approx([lr * min(1, (s + 1) / 8) for lr, s in zip(plain, since, strict=True)])
    assert found[40] == recipe.lr
