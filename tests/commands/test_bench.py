"""`sae bench`: SAEBench's core figures against its formulas in float64, on a tiny model that runs by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPTNeoXForCausalLM

from sae_cli import build
from sae_cli.commands import bench, train
from sae_cli.config.commands.bench import BenchConfig
from sae_cli.config.data import SyntheticData
from sae_cli.config.evaluation import EvaluationConfig, Exclude, Sample
from sae_cli.config.hook import HookConfig, HookPoint
from sae_cli.config.sae import GatedSae
from sae_cli.dictionaries.files import load_dictionary
from sae_cli.errors import RequestError
from sae_cli.evaluation.held_out import HeldOutText
from sae_cli.evaluation.saebench import weights
from sae_cli.runs.dictionary_run import read_dictionary_run
from tests.known import document_of

F, D, LAYER, CONTEXT, BATCH = 24, 16, 1, 32, 3
SPECIAL = [Exclude.bos, Exclude.eos, Exclude.pad]
FIRST = EvaluationConfig(tokens=250, sample=Sample.first, exclude=SPECIAL)
SIZES: dict[str, Any] = {"device": "cpu", "context": CONTEXT, "batch_rows": BATCH, "eval": FIRST}


@pytest.fixture(scope="module")
def run(world, tmp_path_factory):
    """A dictionary with decoder rows of unequal length and a feature that never fires."""
    directory, draw = tmp_path_factory.mktemp("bench") / "run", torch.Generator().manual_seed(0)
    W_enc, W_dec = (torch.randn(F, D, generator=draw) * 0.3 for _ in range(2))
    b_enc = torch.randn(F, generator=draw) * 0.1
    b_enc[3] = -1e3
    b_dec, mean = (torch.randn(D, generator=draw) * 0.2 for _ in range(2))
    tensors = {"W_enc": W_enc, "b_enc": b_enc, "W_dec": W_dec, "b_dec": b_dec, "activation_mean": mean}
    world.install(directory, tensors)
    return directory


@pytest.fixture(scope="module")
def measured(run):
    """Read two rows at once, so that no block of rows is a batch."""
    return bench.run(BenchConfig(run=str(run), model_rows=2, **SIZES), run, "m")


@pytest.fixture(scope="module")
def theirs(world, run):
    return transcribed(world, run)


def rows_of(world, run):
    """The tokens of the held-out rows that are read: so many whole batches as hold the positions."""
    source = read_dictionary_run(run)
    data = source.data()
    model = build.language_model(source.model(), data, torch.device("cpu"))
    wanted = EvaluationConfig(tokens=BATCH * 3 * (CONTEXT - 1), sample=Sample.first, exclude=SPECIAL)
    return torch.cat([each.tokens for each in HeldOutText(model, data, 4, wanted).rows("rows")])


def losses(model, tokens, put=None):
    """Log-probabilities in float64 with something in the MLP's output's place, and what stood there."""
    seen = {}

    def hook(module, inputs, output):
        seen["x"] = output
        return put

    handle = model.gpt_neox.layers[LAYER].mlp.register_forward_hook(hook)
    with torch.no_grad():
        logits = model(tokens).logits.double().numpy()
    handle.remove()
    logits -= logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True)), seen["x"].numpy()


def transcribed(world, run):
    """SAEBench's formulas, batch after batch."""
    model = GPTNeoXForCausalLM.from_pretrained(world.model).eval()
    W_enc, b_enc, W_dec, b_dec = (
        load_dictionary(read_dictionary_run(run).run).tensors()[name].double().numpy()
        for name in ("W_enc", "b_enc", "W_dec", "b_dec")
    )
    lists = {name: [] for name in ("in", "out", "ratio", "bias", "l0", "l1", "legacy", "mse", "cossim")}
    means = {name: [] for name in ("square", "dims", "residual")}
    of_loss = {name: [] for name in ("ce", "ce_sae", "ce_zero", "kl_sae", "kl_zero")}
    acts, prompts, n = np.zeros(F), np.zeros(F), 0
    for tokens in rows_of(world, run).split(BATCH):
        mask = (tokens != 0).numpy()
        clean, x = losses(model, tokens)
        x = x.astype(np.float64)
        f = np.maximum((x - b_dec) @ W_enc.T + b_enc, 0)
        x_hat = f @ W_dec + b_dec
        there = torch.from_numpy(np.where(mask[..., None], x_hat, x)).float()
        sae, zero = losses(model, tokens, there)[0], losses(model, tokens, torch.zeros_like(there))[0]
        for name, log_p in (("ce", clean), ("ce_sae", sae), ("ce_zero", zero)):
            nll = -np.take_along_axis(log_p[:, :-1], tokens.numpy()[:, 1:, None], axis=-1)[..., 0]
            of_loss[name].append(nll[mask[:, :-1]])
        for name, log_q in (("kl_sae", sae), ("kl_zero", zero)):
            of_loss[name].append((np.exp(clean) * (clean - log_q)).sum(axis=-1)[mask])
        acts += (f * mask[..., None] > 0).sum(axis=(0, 1))
        prompts += ((f * mask[..., None] > 0).sum(axis=1) > 0).sum(axis=0)
        x, x_hat, f = x[mask], x_hat[mask], f[mask]
        n += len(x)
        norm, out, error = np.linalg.norm(x, axis=1), np.linalg.norm(x_hat, axis=1), ((x - x_hat) ** 2).sum(axis=1)
        lists["in"].append(norm)
        lists["out"].append(out)
        lists["ratio"].append(out / norm)
        lists["bias"].append([(out**2).mean() / (x * x_hat).sum(axis=1).mean()])
        lists["l0"].append((f != 0).sum(axis=1))
        lists["l1"].append(f.sum(axis=1))
        lists["legacy"].append(1 - error / ((x - x.mean(axis=0)) ** 2).sum(axis=1))
        lists["mse"].append(error / len(x))
        lists["cossim"].append((x * x_hat).sum(axis=1) / norm / out)
        means["square"].append((x**2).sum(axis=1).mean())
        means["dims"].append((x**2).mean(axis=0))
        means["residual"].append(error.mean())
    mean = {name: np.concatenate(each).mean() for name, each in (lists | of_loss).items()}
    total = np.mean(means["square"]) - np.concatenate(means["dims"]).mean() ** 2
    density, fires = acts / n, acts > 0
    with np.errstate(invalid="ignore"):
        heuristic = acts / prompts
    cosines = {name: largest_cosines(rows) for name, rows in (("encoder", W_enc), ("decoder", W_dec))}
    of_features = {
        "feature_density": density,
        "consistent_activation_heuristic": heuristic,
        "encoder_bias": b_enc,
        "encoder_norm": np.linalg.norm(W_enc, axis=1),
        "encoder_decoder_cosine_sim": cosine(W_enc, W_dec).diagonal(),
        "max_encoder_cosine_sim": cosines["encoder"],
        "max_decoder_cosine_sim": cosines["decoder"],
    }
    figures = {
        "ce_loss_without_sae": mean["ce"],
        "ce_loss_with_sae": mean["ce_sae"],
        "ce_loss_with_ablation": mean["ce_zero"],
        "ce_loss_score": (mean["ce_zero"] - mean["ce_sae"]) / (mean["ce_zero"] - mean["ce"]),
        "kl_div_with_sae": mean["kl_sae"],
        "kl_div_with_ablation": mean["kl_zero"],
        "kl_div_score": (mean["kl_zero"] - mean["kl_sae"]) / mean["kl_zero"],
        "explained_variance": 1 - np.mean(means["residual"]) / total,
        "explained_variance_legacy": mean["legacy"],
        "mse": mean["mse"],
        "cossim": mean["cossim"],
        "l2_norm_in": mean["in"],
        "l2_norm_out": mean["out"],
        "l2_ratio": mean["ratio"],
        "relative_reconstruction_bias": mean["bias"],
        "l0": mean["l0"],
        "l1": mean["l1"],
        "frac_alive": fires.mean(),
        "freq_over_1_percent": (density > 0.01).mean(),
        "freq_over_10_percent": (density > 0.1).mean(),
        "normalized_freq_over_1_percent": density[density > 0.01].sum() / density.sum(),
        "normalized_freq_over_10_percent": density[density > 0.1].sum() / density.sum(),
        "average_max_encoder_cosine_sim": cosines["encoder"].mean(),
        "average_max_decoder_cosine_sim": cosines["decoder"].mean(),
        **{f"{name}_median": lower_median(each) for name, each in of_features.items() if name[:4] != "max_"},
    }
    return figures, of_features, n


def cosine(a, b):
    return a @ b.T / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)


def largest_cosines(rows):
    return (cosine(rows, rows) - 9 * np.eye(len(rows))).max(axis=1)


def lower_median(values):
    kept = np.sort(values[np.isfinite(values)])
    return kept[(len(kept) - 1) // 2]


def test_every_figure_is_that_of_their_formula(measured, theirs):
    found, (expected, _, n) = document_of(measured), theirs
    assert {key for key in found["figures"] if not key.endswith(("_se", "_low", "_high"))} == set(expected)
    for key, value in expected.items():
        np.testing.assert_allclose(found["figures"][key], value, rtol=2e-5, atol=2e-6, err_msg=key)
    assert (found["bench"]["tokens"], found["bench"]["rows"], found["bench"]["batches"]) == (n, 9, 3)
    assert n < 9 * CONTEXT - 8  # separators between documents are left out, beside the first of each row


def test_numbers_of_each_feature(measured, run, theirs):
    tensors = read_tensors(run)
    assert set(tensors) == set(theirs[1])
    for name, expected in theirs[1].items():
        np.testing.assert_allclose(tensors[name].numpy(), expected, rtol=2e-5, atol=2e-6, err_msg=name)
    assert tensors["consistent_activation_heuristic"].isnan().sum() == 1


def read_tensors(run, name="m"):
    from safetensors.torch import load_file

    return load_file(run / "bench" / name / "features.safetensors")


def test_figures_do_not_depend_on_how_many_rows_the_model_reads_at_once(measured, run):
    other = bench.run(BenchConfig(run=str(run), model_rows=7, **SIZES), run, "other")
    expected = document_of(measured)["figures"]
    for key, value in document_of(other)["figures"].items():
        assert (value is None) is (expected[key] is None), key
        assert value is None or value == pytest.approx(expected[key], rel=1e-5, abs=1e-7), key


def test_ours_beside_theirs_are_those_of_an_evaluation_of_the_same_positions(world, run, measured):
    from sae_cli.commands import eval as evaluate

    same = world.eval(run, eval=EvaluationConfig(tokens=279, sample=Sample.first, exclude=SPECIAL))
    of_eval = document_of(evaluate.run(same, run, "same"))["eval"]
    ours = document_of(measured)["bench"]["ours"]
    assert of_eval["tokens"] == document_of(measured)["bench"]["tokens"]
    assert set(ours) >= {"mse", "explained_variance", "reconstruction_bias", "kl_sae", "kl_zero", "ce_zero", "l1"}
    for key, value in ours.items():
        if key in of_eval and value is not None:
            assert value == pytest.approx(of_eval[key], rel=1e-5, abs=1e-7), key


def test_errors_are_over_documents(run):
    wide: dict[str, Any] = SIZES | {"eval": EvaluationConfig(tokens=900, exclude=SPECIAL)}
    found = document_of(bench.run(BenchConfig(run=str(run), **wide), run, "wide"))
    figures = found["figures"]
    assert found["bench"]["documents"] >= 8
    for key in ("l0", "mse", "explained_variance", "ce_loss_score", "kl_div_with_sae"):
        assert figures[f"{key}_low"] < figures[key] < figures[f"{key}_high"] and figures[f"{key}_se"] > 0
    assert found["bench"]["ours"]["explained_variance_low"] < found["bench"]["ours"]["explained_variance"]


def test_it_is_made_once_and_found_again(sae, run, world):
    words = ("bench", run, f"context={CONTEXT}", "eval.tokens=100", "device=cpu", "batch_rows=2")
    first = sae(*words, "--json").document
    again = sae(*words)
    assert "already finished" in again.err and again.out == f"{run}\n"
    assert "SAEBench" in again.err and "ours, where defined otherwise" in again.err
    stored = json.loads((run / first["benchmark"].removeprefix(f"{run}/") / "bench.json").read_text())
    assert stored["figures"] == first["figures"] and stored["suite"] == "core"
    assert "already finished" not in sae(*words, "overwrite=true").err
    assert "no field fvuu" in sae(*words, "--require", "fvuu>1", code=2).err
    sae(*words, "--require", "frac_alive>1", code=3)
    assert "bench/" in sae("list", run).err and "bench/" in sae("verify", run).err


def test_a_gated_dictionary_has_the_bias_of_its_magnitudes(world, tmp_path):
    train.run(world.train(tmp_path, tokens=512, dict_size=8, sae=GatedSae()), run := tmp_path / "gated")
    dictionary = load_dictionary(read_dictionary_run(run).run)
    assert torch.equal(weights(dictionary)["encoder_bias"], dictionary.tensors()["b_mag"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["context=128"], "context=128: expected 2 to 64 for this model; give context=64"),
        (["data.context=16"], "data.context=16 has no effect with sae bench, whose rows are as long as context= says"),
        (["suite=scr"], "suite=scr: Invalid value 'scr', expected one of [core]"),
        (["name=b"], "a benchmark's figures live in their run; leave name out"),
    ],
)
def test_what_is_refused(sae, run, words, said):
    before = sorted(run.rglob("*"))
    assert said in sae("bench", run, "device=cpu", *words, code=2).err
    assert sorted(run.rglob("*")) == before


def test_several_dictionaries_and_places_that_cannot_be_replaced_are_refused(sae, world, tmp_path):
    assert "run=[…] of 2: expected one dictionary; give -m run=A,B" in sae("bench", "run=[a,b]", code=2).err
    train.run(world.train(tmp_path, tokens=512, hook=HookConfig(point=HookPoint.logits)), run := tmp_path / "logits")
    with pytest.raises(RequestError, match="hook=logits: expected a hook point where activations can be replaced"):
        bench.run(BenchConfig(run=str(run), **SIZES), run, "x")
    truth = SyntheticData(d=16, n_features=20, mean_active=2.0)
    train.run(world.train(tmp_path, tokens=512, data=truth), run := tmp_path / "truth")
    with pytest.raises(RequestError, match="a benchmark needs a text and a language model"):
        bench.run(BenchConfig(run=str(run), **SIZES), run, "x")
    assert not (run / "bench").exists()


def test_other_text_is_read_in_rows_of_the_benchmark(sae, run, world):
    """The context of the training is not taken over with the other settings of its text."""
    words = ("bench", run, f"data.path={world.text}", "context=16", "eval.tokens=60", "device=cpu", "batch_rows=2")
    assert sae(*words, "--json").document["bench"]["context"] == 16


@pytest.fixture
def three(world, tmp_path):
    """Dictionaries of one place."""
    for name in "abc":
        train.run(world.train(tmp_path, tokens=512, dict_size=8, seed=ord(name)), tmp_path / name)
    return [tmp_path / name for name in "abc"]


def test_side_by_side_they_are_what_they_are_alone_for_fewer_passes(three, monkeypatch):
    passes, forward = [], GPTNeoXForCausalLM.forward

    def counted(self, *given, **named):
        passes.append(1)
        return forward(self, *given, **named)

    monkeypatch.setattr(GPTNeoXForCausalLM, "forward", counted)
    sizes = SIZES | {"model_rows": BATCH, "eval": EvaluationConfig(tokens=300, sample=Sample.first, exclude=SPECIAL)}
    alone = [bench.run(BenchConfig(run=str(each), **sizes), each, "alone") for each in three]
    for_one = len(passes) // len(three)
    passes.clear()
    configs = [BenchConfig(run=str(each), **sizes) for each in three]
    together = bench.run_together([(config, each, "together") for config, each in zip(configs, three, strict=True)])
    batches = document_of(alone[0])["bench"]["batches"]
    assert len(passes) == for_one + (len(three) - 1) * batches
    for one, other in zip(alone, together, strict=True):
        assert not isinstance(other, Exception)
        found = document_of(other)
        assert found["figures"] == document_of(one)["figures"]
        assert found["bench"]["ours"] == document_of(one)["bench"]["ours"]


def test_one_that_fails_leaves_the_others(three, tmp_path):
    configs = [BenchConfig(run=str(each), **SIZES) for each in (three[0], tmp_path / "none", three[1])]
    found = bench.run_together([(config, Path(str(config.run)), "x") for config in configs])
    assert [isinstance(each, Exception) for each in found] == [False, True, False]
    assert "none" in str(found[1])


def test_in_a_sweep(sae, three):
    runs = ",".join(map(str, three))
    words = (f"context={CONTEXT}", "eval.tokens=100", "device=cpu", "batch_rows=2")
    shown = sae("bench", "-m", f"run={runs}", "hydra/launcher=shared", *words)
    assert shown.out.splitlines() == [str(each) for each in three]
    assert "3 jobs, side by side on one stream" in shown.err
