"""`+recipe=marks2023` against the published procedure (saprmarks/dictionary_learning, December 2023) in float64.

The reference is written from that code in numpy; it gets the first weights, the batches and the seeds of the draws. In
two things it follows the product: which features are active in a step is what that step's forward pass says (there the
batch is encoded once more after it), and so is which side of 0 a pre-activation is on that is closer to it than float32
tells. All others must be on the same side.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sae_cli.artifacts.tensors import read_tensors
from sae_cli.kernels.reference import ReferenceKernel
from sae_cli.seeds import generator
from sae_cli.training.trainer import Trainer

F, N, STEPS, EVERY = 96, 64, 200, 60
COMMON = f"""+recipe=marks2023 dict_size={F} tokens={N * STEPS} train.batch_size={N} train.shuffle_buffer=4_096
train.held_out_tokens=256 train.log_every=1 train.held_out_every=1_000 train.kernel=reference resample.every={EVERY}
device=cpu""".split()
KINDS = {
    "synthetic": ["data=synthetic", "data.d=16", "data.n_features=48"],
    "embedded": ["model=demo-xs", "layer=1"],
}
L1 = {"synthetic": 1.0, "embedded": 0.3}
RATES = {
    "as published": (3e-4, 1_000, []),
    "fast enough to kill": (3e-2, 20, ["train.lr=3e-2", "train.warmup_steps=20"]),
}


CLOSE = 1e-6
"""Pre-activations, of the size of 1, that float32 may have on the other side of 0."""


def published(W, b, batches, fires, l1, lr, warmup):
    """trainSAE and resample_neurons: losses, resampled features a resampling, and the parameters in the end."""
    d = W[0].shape[1]
    p = {"bias": np.zeros(d), "enc": W[0], "enc_bias": np.zeros(F), "dec": W[1]}
    assert not b.any()
    m, v = ({key: np.zeros_like(value) for key, value in p.items()} for _ in range(2))
    losses, resampled, alive = [], [], np.zeros(F, bool)

    def encode(x):
        return np.maximum((x - p["bias"]) @ p["enc"].T + p["enc_bias"], 0)

    for step, (x, active) in enumerate(zip(batches, fires, strict=True)):
        pre = (x - p["bias"]) @ p["enc"].T + p["enc_bias"]
        np.testing.assert_array_equal(pre > 0, np.where(abs(pre) < CLOSE, pre > 0, active))
        f = np.where(active, pre, 0)
        alive |= active.any(axis=0)
        error = f @ p["dec"] + p["bias"] - x
        losses.append((error**2).mean() + l1 * f.sum(axis=1).mean())
        d_out = 2 * error / error.size
        d_pre = (d_out @ p["dec"].T + l1 / len(x)) * active
        g = {
            "dec": f.T @ d_out,
            "enc": d_pre.T @ (x - p["bias"]),
            "enc_bias": d_pre.sum(axis=0),
            "bias": d_out.sum(axis=0) - (d_pre @ p["enc"]).sum(axis=0),
        }
        g["dec"] -= (g["dec"] * p["dec"]).sum(axis=1, keepdims=True) * p["dec"]
        for key in p:
            m[key] = 0.9 * m[key] + 0.1 * g[key]
            v[key] = 0.999 * v[key] + 0.001 * g[key] ** 2
            mean, square = m[key] / (1 - 0.9 ** (step + 1)), v[key] / (1 - 0.999 ** (step + 1))
            p[key] = p[key] - lr * min(1, step / warmup) * mean / (np.sqrt(square) + 1e-8)
        p["dec"] /= np.linalg.norm(p["dec"], axis=1, keepdims=True)

        if step % EVERY == EVERY // 2:
            alive[:] = False
        if step % EVERY == EVERY - 1:
            dead = ~alive
            loss = np.linalg.norm(x - encode(x) @ p["dec"] - p["bias"], axis=1)
            if dead.any():
                numbers = generator("resampled at", 0, step + 1)
                weights = torch.from_numpy(loss)
                drawn = torch.multinomial(weights, int(dead.sum()), replacement=True, generator=numbers).numpy()
                p["dec"][dead] = x[drawn] / np.linalg.norm(x[drawn], axis=1, keepdims=True)
                p["enc"][dead] = p["enc"][~dead].mean(axis=0) * 0.2
                p["enc_bias"][dead] = 0
                for key in ("enc", "enc_bias"):
                    m[key][dead] = v[key][dead] = 0
            resampled.append(dead)
    return np.array(losses), resampled, p


@pytest.fixture
def seen(monkeypatch):
    """The batches that training meets, and what it begins with."""
    found: dict[str, list] = {"batches": [], "fires": []}
    step, positive, here = Trainer.step, ReferenceKernel.positive, []

    def noting(self, x, y=None):
        if not self.step_number:
            found["W"] = [each.double().numpy().copy() for each in (self.objective.W_enc, self.objective.W_dec)]
            found["b"] = self.objective.b_dec.double().numpy().copy()
        found["batches"].append(x.double().numpy())
        here.clear()
        step(self, x, y)
        (fires,) = here
        found["fires"].append(fires)

    def noting_fires(self, x, W, b):
        codes = positive(self, x, W, b)
        here.append(codes.to_dense(torch.ones_like(codes.values)).numpy() > 0)
        return codes

    monkeypatch.setattr(ReferenceKernel, "positive", noting_fires)
    monkeypatch.setattr(Trainer, "step", noting)
    return found


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("kind", KINDS)
def test_two_hundred_steps_as_published(sae, seen, tmp_path, kind, rate):
    """Losses within 2e-5 of their size, parameters within 1e-4 of the largest: what float32 leaves of 200 steps.
    Which features are resampled, and at which inputs, is the same."""
    lr, warmup, more = RATES[rate]
    ended = sae("train", *COMMON, *KINDS[kind], *more, f"l1={L1[kind]}", f"runs_dir={tmp_path}")
    run = Path(ended.out.split()[-1])
    losses, resampled, p = published(seen["W"], seen["b"], seen["batches"], seen["fires"], L1[kind], lr, warmup)

    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    np.testing.assert_allclose([line["loss"] for line in lines], losses, rtol=2e-5)
    history = read_tensors(run / "density_history.safetensors")
    assert history["resample_step"].tolist() == [60, 120, 180]
    np.testing.assert_array_equal(history["resampled"], resampled)
    if rate != "as published":
        assert sum(dead.sum() for dead in resampled) > 5
    made = read_tensors(run / "sae.safetensors")
    for name, key in {"W_enc": "enc", "b_enc": "enc_bias", "W_dec": "dec", "b_dec": "bias"}.items():
        np.testing.assert_allclose(made[name], p[key], atol=1e-4 * abs(p[key]).max(), err_msg=name)
    facts = json.loads((run / "manifest.json").read_text())["facts"]
    assert facts["l1_factor"] == p["enc"].shape[1] and facts["l1_in_training"] == L1[kind] * p["enc"].shape[1]
