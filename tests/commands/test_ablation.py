"""Taking features out, against the model's own hooks written by hand."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
import torch
from torch.testing import assert_close

from sae_cli.artifacts.stored_run import read_run
from sae_cli.commands import eval as evaluate
from sae_cli.commands import train
from sae_cli.config.hook import HookPoint, LogitMode
from sae_cli.dictionaries.relu import ReluDictionary
from sae_cli.errors import RequestError
from sae_cli.evaluation.ablation import Ablation
from sae_cli.evaluation.held_out import HeldOutText
from sae_cli.metrics.report import existing
from sae_cli.models import Site, Wires, load_language_model
from sae_cli.runs.file_names import ABLATION_FILE
from tests.known import document_of

D, F = 16, 6
MLP_OUT = Site(HookPoint.mlp_out, 0)
NO_TEXT = Mock(spec=HeldOutText)


@pytest.fixture(scope="module")
def model(world):
    return load_language_model(str(world.model))


@pytest.fixture
def dictionary():
    generator = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(F, D, generator=generator), dim=1)
    biases = {"b_enc": torch.full((F,), -0.2), "b_dec": torch.zeros(D), "activation_mean": torch.zeros(D)}
    return ReluDictionary({"W_enc": rows, "W_dec": rows, **biases})


@pytest.fixture
def tokens():
    return torch.randint(0, 200, (4, 12), generator=torch.Generator().manual_seed(3))


def by_hand(model, dictionary, tokens, feature):
    """Clean and ablated logits, and where the feature fires, by a hook on the module itself."""
    held = {}

    def hook(module, args, output, on):
        held["f"] = f = dictionary.encode(output)[..., feature].clone()
        f[:, 0] = 0
        return output - on * f[..., None] * dictionary.W_dec[feature]

    logits = []
    for on in (0.0, 1.0):
        handle = model.hf.gpt_neox.layers[0].mlp.register_forward_hook(
            lambda module, args, output, on=on: hook(module, args, output, on)
        )
        with torch.no_grad():
            logits.append(model.hf(tokens).logits.double())
        handle.remove()
    return *logits, held["f"] > 0, held["f"]


def after_first(tokens):
    return (torch.arange(tokens.shape[1]) > 0).expand_as(tokens)


@pytest.mark.parametrize("feature", range(F))
def test_effects_against_hooks_by_hand(model, dictionary, tokens, feature):
    ablation = Ablation(model, Wires.at(MLP_OUT), dictionary, [feature], NO_TEXT)
    for part in tokens.split(2):
        ablation.add(part, after_first(part))
    (report,), tensors = ablation.reports(), ablation.tensors()
    clean, ablated, fires, f = by_hand(model, dictionary, tokens, feature)
    change = (clean - ablated)[fires].mean(dim=0)
    assert report["tokens"] == int(fires.sum()) == int(tensors["tokens"]) > 3
    assert existing(report, "mean_act") == pytest.approx(float(f[fires].mean()), rel=1e-5)
    assert_close(tensors["logit_effect"][0].double(), change - change.mean(), atol=1e-5, rtol=1e-4)
    losses = [
        torch.nn.functional.cross_entropy(each[:, :-1].transpose(1, 2), tokens[:, 1:], reduction="none")
        for each in (clean, ablated)
    ]
    increase = (losses[1] - losses[0])[fires[:, :-1]].mean()
    assert report["ce_increase"] == pytest.approx(float(increase), rel=1e-3, abs=1e-6)
    assert report["raises"][0] == model.tokenizer.decode([int(change.argmax())])


def test_in_the_last_block_the_direct_path_is_all_there_is(model, dictionary, tokens):
    """Up to the final norm's scale, which the direct path freezes and a unit of feature hardly moves."""
    small = dictionary.replace(W_dec=dictionary.W_dec * 1e-3)
    ablation = Ablation(model, Wires.at(Site(HookPoint.resid, 1)), small, [0], NO_TEXT)
    ablation.add(tokens, after_first(tokens))
    (report,) = ablation.reports()
    first = Ablation(model, Wires.at(MLP_OUT), small, [0], NO_TEXT)
    first.add(tokens, after_first(tokens))
    cosine = existing(report, "cosine_direct")
    assert cosine > 0.9
    assert cosine > existing(first.reports()[0], "cosine_direct")


def test_as_an_evaluation_of_a_run(world, tmp_path):
    train.run(world.train(tmp_path), tmp_path / "run")
    result = evaluate.run(world.eval(tmp_path / "run", ablate=[3, 5]), tmp_path / "run", "some")
    found = document_of(result)["eval"]["ablation"]
    assert [each["feature"] for each in found] == [3, 5]
    tensors = read_run(tmp_path / "run" / "eval" / "some", "eval").read_tensors(ABLATION_FILE)
    assert tensors["logit_effect"].shape == (2, 300)
    assert int(tensors["tokens"][0]) == found[0]["tokens"]
    with pytest.raises(RequestError, match="ablate=48"):
        evaluate.run(world.eval(tmp_path / "run", ablate=[48]), tmp_path / "run", "refused")
    assert not (tmp_path / "run" / "eval" / "refused").exists()


def test_batches_pool(model, dictionary, tokens):
    whole, parts = (Ablation(model, Wires.at(MLP_OUT), dictionary, [1, 4], NO_TEXT) for _ in range(2))
    whole.add(tokens, after_first(tokens))
    for row in tokens:
        parts.add(row[None], after_first(row[None]))
    for a, b in zip(whole.reports(), parts.reports(), strict=True):
        assert {key: a[key] for key in ("tokens", "raises")} == {key: b[key] for key in ("tokens", "raises")}
        assert a["ce_increase"] == pytest.approx(b["ce_increase"], rel=1e-4)
        assert a["ce_increase_se"] == pytest.approx(b["ce_increase_se"], rel=1e-3)


def test_a_feature_that_never_fires(model, dictionary, tokens):
    ablation = Ablation(model, Wires.at(MLP_OUT), dictionary.replace(b_enc=torch.full((F,), -1e6)), [2], NO_TEXT)
    ablation.add(tokens, after_first(tokens))
    (report,) = ablation.reports()
    assert (report["tokens"], report["ce_increase"], report["raises"]) == (0, None, [])


def test_what_cannot_be_ablated_is_refused(model, dictionary):
    with pytest.raises(RequestError, match="ablate=6: expected features from 0 to 5, found 6"):
        Ablation(model, Wires.at(MLP_OUT), dictionary, [0, 6], NO_TEXT)
    exact = Site(HookPoint.logit_update, 0, LogitMode.exact)
    with pytest.raises(RequestError, match="hook=logit_update acts on the direct path only"):
        Ablation(model, Wires.at(exact), dictionary, [0], NO_TEXT)
