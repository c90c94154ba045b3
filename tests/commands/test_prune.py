"""Pruning end to end: the new run against a dictionary pruned by hand, its figures before and after."""

import json

import numpy as np
import pytest
import torch

import sae_cli
from sae_cli.activations.blocks import take
from sae_cli.artifacts.stored_run import read_run
from sae_cli.commands import prune_high_freq as prune
from sae_cli.commands import train
from sae_cli.config.commands.prune_high_freq import PruneConfig
from sae_cli.config.edits import Finetune
from sae_cli.config.evaluation import EvaluationConfig, FeaturePassConfig
from sae_cli.config.sae import TopKSae
from sae_cli.dictionaries.files import DICTIONARY_FILE
from sae_cli.errors import RequestError
from sae_cli.evaluation import evaluate
from sae_cli.evaluation.subject import make_subject
from sae_cli.runs.dictionary_run import read_dictionary_run
from tests.known import document_of

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(world, tmp_path_factory):
    directory = tmp_path_factory.mktemp("trained") / "run"
    train.run(world.train(directory.parent, l1=0.05), directory)
    return directory


def config_for(run, **limits):
    return PruneConfig(
        run=str(run),
        device="cpu",
        model_rows=4,
        eval=EvaluationConfig(tokens=1000),
        features=FeaturePassConfig(tokens=1500),
        **limits,
    )


def pruned(run, directory, **limits):
    return prune.run(config_for(run, **limits), directory)


def activations(run):
    """What features are counted on."""
    subject = make_subject(read_dictionary_run(run), None, 4, CPU)
    return torch.cat([block.activations for block in take(subject.blocks(FeaturePassConfig().split), 1500)])


def test_as_by_hand(trained, tmp_path):
    whole, x = sae_cli.load(trained), activations(trained)
    frequency = (whole.encode(x) > 0).double().mean(dim=0).numpy()
    threshold = float(np.quantile(frequency, 0.7))
    result = pruned(trained, tmp_path / "pruned", max_freq=threshold)
    part, keep = sae_cli.load(tmp_path / "pruned"), frequency <= threshold
    for name in ("W_enc", "b_enc", "W_dec"):
        assert torch.equal(getattr(part, name), getattr(whole, name)[torch.from_numpy(keep)])
    kept = read_run(tmp_path / "pruned").read_tensors(DICTIONARY_FILE)["kept_index"]
    assert kept.tolist() == np.flatnonzero(keep).tolist()

    f = whole.encode(x).double().numpy()[:, keep]
    counted = read_run(tmp_path / "pruned" / "eval" / evaluate.default_name(evaluation_of(result))).read_tensors(
        "features.safetensors"
    )
    np.testing.assert_array_equal(counted["count"], (f > 0).sum(axis=0))
    assert document_of(result)["eval"]["killed"] == (~keep).sum()


def evaluation_of(result):
    return evaluate.settings_for(result.directory, config_for("", max_freq=0.5))


def test_before_and_after_are_the_evaluations_of_both(trained, tmp_path):
    report = document_of(pruned(trained, tmp_path / "pruned", top_n=12))["eval"]
    whole = document_of(evaluate.run(evaluate.settings_for(trained, config_for("", top_n=1)), trained, "again"))["eval"]
    for key in ("l0", "mse", "fvu", "loss_recovered", "loss_recovered_mean", "kl_sae", "alive"):
        assert report["before"][key] == whole[key]
    assert report["killed"] == 12 and report["features"] == 36
    assert report["l0"] < whole["l0"] and report["fvu"] > whole["fvu"]
    assert json.loads(json.dumps(report)) == report


def test_target_l0_is_met_where_it_is_counted(trained, tmp_path):
    before = document_of(pruned(trained, tmp_path / "one", top_n=1))["eval"]["before"]["l0"]
    result = pruned(trained, tmp_path / "half", target_l0=before / 2)
    whole, x = sae_cli.load(trained), activations(trained)
    frequency = (whole.encode(x) > 0).double().mean(dim=0)
    kept = read_run(tmp_path / "half").read_tensors(DICTIONARY_FILE)["kept_index"]
    gone = torch.ones(len(frequency), dtype=torch.bool).index_fill(0, kept, False)
    next_level = frequency[gone & (frequency == frequency[gone].min())]  # equal ones go together
    assert frequency[kept].sum() <= before / 2 < frequency[kept].sum() + next_level.sum()
    assert document_of(result)["eval"]["l0"] == pytest.approx(before / 2, rel=0.2)


def test_recentring_keeps_codes_and_does_not_raise_the_error(trained, tmp_path):
    pruned(trained, tmp_path / "plain", top_n=12)
    pruned(trained, tmp_path / "recentered", top_n=12, recenter=True)
    x = activations(trained)
    plain, recentered = sae_cli.load(tmp_path / "plain"), sae_cli.load(tmp_path / "recentered")
    assert torch.equal(plain.encode(x), recentered.encode(x))
    before, after = ((x - each(x)).double().square().sum() for each in (plain, recentered))
    assert after <= before
    mean_error = (x - recentered(x)).double().mean(dim=0)
    assert mean_error.norm() < 1e-4 * x.norm(dim=1).mean()


def test_finetuning_the_decoder_keeps_codes_and_lowers_the_error(trained, tmp_path):
    pruned(trained, tmp_path / "plain", top_n=12)
    result = pruned(trained, tmp_path / "tuned", top_n=12, finetune_tokens=2048, finetune_lr=3e-3)
    x = activations(trained)
    plain, tuned = sae_cli.load(tmp_path / "plain"), sae_cli.load(tmp_path / "tuned")
    torch.testing.assert_close(plain.encode(x), tuned.encode(x), rtol=1e-4, atol=1e-5)
    assert ((plain.encode(x) > 0) == (tuned.encode(x) > 0)).float().mean() > 0.9999
    before, after = (float((x - each(x)).double().square().sum()) for each in (plain, tuned))
    assert after < 0.95 * before
    assert document_of(result)["eval"]["killed"] == 12


def test_finetuning_all_trains_the_encoder_too(trained, tmp_path):
    pruned(trained, tmp_path / "tuned", top_n=12, finetune_tokens=2048, finetune=Finetune.all)
    whole, tuned = sae_cli.load(trained), sae_cli.load(tmp_path / "tuned")
    kept = read_run(tmp_path / "tuned").read_tensors(DICTIONARY_FILE)["kept_index"]
    assert not torch.equal(tuned.W_enc, whole.W_enc[kept])
    cosine = torch.cosine_similarity(tuned.W_dec, whole.W_dec[kept], dim=1)
    assert cosine.median() > 0.9  # it went on from where it was
    torch.testing.assert_close(tuned.decoder_norms(), torch.ones(36))


def test_pruned_twice_leads_back_to_the_first(trained, tmp_path):
    pruned(trained, tmp_path / "once", top_n=5)
    pruned(tmp_path / "once", tmp_path / "twice", top_n=5)
    pruned(trained, tmp_path / "both", top_n=10)
    once, both = (read_run(tmp_path / name).read_tensors(DICTIONARY_FILE) for name in ("twice", "both"))
    assert all(torch.equal(once[name], both[name]) for name in both)


def test_all_is_refused_and_none_is_said(trained, tmp_path, capsys):
    with pytest.raises(RequestError, match=r"prune all 48 features"):
        pruned(trained, tmp_path / "all", top_n=48)
    assert not (tmp_path / "all").exists()
    pruned(trained, tmp_path / "none", max_freq=0.999)
    assert "nothing is pruned" in capsys.readouterr().err


def test_a_control_is_pruned_in_place_of_what_it_is_the_control_of(trained, tmp_path):
    of_top = document_of(pruned(trained, tmp_path / "top", top_n=3))["facts"]
    of_others = document_of(pruned(trained, tmp_path / "control", top_n=3, control=0))["facts"]
    assert of_others["killed"] > of_top["killed"] == 3
    assert 0.8 * of_top["pruned_l0"] < of_others["pruned_l0"] <= of_top["pruned_l0"]
    with pytest.raises(RequestError, match=r"control=0: expected others that fire .* times a token in total"):
        pruned(trained, tmp_path / "most", top_n=40, control=0)
    assert not (tmp_path / "most").exists()


def test_topk_refills(world, tmp_path, capsys):
    train.run(world.train(tmp_path, sae=TopKSae(), k=6), tmp_path / "topk")
    report = document_of(pruned(tmp_path / "topk", tmp_path / "pruned", top_n=10))["eval"]
    assert "so L0 does not fall" in " ".join(capsys.readouterr().err.split())
    assert report["l0"] == pytest.approx(report["before"]["l0"], rel=0.05)


def test_found_again(trained, tmp_path, capsys):
    first = pruned(trained, tmp_path / "pruned", top_n=12)
    again = pruned(trained, tmp_path / "pruned", top_n=12)
    assert again.document == first.document
    assert "already finished" in capsys.readouterr().err
    with pytest.raises(RequestError, match="other settings"):
        pruned(trained, tmp_path / "pruned", top_n=13)


def test_its_evaluation_uses_the_text_it_was_trained_on(trained, tmp_path):
    pruned(trained, tmp_path / "pruned", top_n=12)
    assert read_dictionary_run(tmp_path / "pruned").card == read_dictionary_run(trained).card
