"""Feature pages end to end: against the model's own modules, and what cannot be made."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sae_cli import build
from sae_cli.artifacts.files import write_json
from sae_cli.artifacts.manifest import write_manifest
from sae_cli.artifacts.stored_run import read_run
from sae_cli.commands import features, harvest, train
from sae_cli.commands import prune_high_freq as prune
from sae_cli.config.commands.eval import EvalConfig
from sae_cli.config.commands.features import FeaturesConfig
from sae_cli.config.commands.prune_high_freq import PruneConfig
from sae_cli.config.data import SyntheticData, TextData
from sae_cli.config.evaluation import ContextsConfig, EvaluationConfig, FeaturePassConfig
from sae_cli.config.hook import HookConfig, HookPoint, LogitUpdateHook
from sae_cli.config.model import Dtype
from sae_cli.config.sae import TopKSae
from sae_cli.config.split import Split
from sae_cli.dictionaries.files import load_dictionary
from sae_cli.errors import RequestError
from sae_cli.evaluation import evaluate
from sae_cli.evaluation.subject import ModelSubject, make_subject
from sae_cli.metrics import VERSION
from sae_cli.models import load_language_model
from sae_cli.reports import feature_page
from sae_cli.runs.dictionary_run import read_dictionary_run
from sae_cli.runs.file_names import CONTEXTS_FILE, FEATURES_FILE, SHEETS_FILE, SHEETS_JSON
from sae_cli.text.documents import document_id
from tests.known import document_of

CONTEXT, W = 32, 9
CONTEXTS = ContextsConfig(tokens=3000, top=4, bands=3, per_band=2, window=W - 1)


def config_of(directory, **changes):
    settings = {
        "contexts": CONTEXTS,
        "eval": EvaluationConfig(tokens=500),
        "features": FeaturePassConfig(tokens=1500),
        "model_rows": 4,
        "device": "cpu",
    }
    return FeaturesConfig(run=str(directory), **settings | changes)


def made(directory, name="default", **changes):
    """The tensors of both files, and what is in sheets.json."""
    result = features.run(config_of(directory, **changes), directory, name)
    assert result.directory == directory
    run = read_run(directory / "features" / name, "features")
    tensors = run.read_tensors(CONTEXTS_FILE), run.read_tensors(SHEETS_FILE)
    return *tensors, run.read_json(SHEETS_JSON)


@pytest.fixture(scope="module")
def trained(world, tmp_path_factory):
    root = tmp_path_factory.mktemp("sheets")
    train.run(world.train(root), root / "run")
    return root / "run"


@pytest.fixture(scope="module")
def default(trained):
    return made(trained)


def text_of(world, split=Split.train, rows=10_000):
    """The rows of the text, each with its documents."""
    model = load_language_model(str(world.model))
    data = TextData(path=str(world.text), context=CONTEXT, held_out_fraction=0.2)
    (block,) = build.row_stream(data, model, split).one_epoch(rows)
    return model, torch.from_numpy(block.tokens), torch.from_numpy(block.document)


def test_the_largest_activations_of_ten_features_against_a_search(world, trained, default):
    """With the model's own module and float64 products, over all tokens."""
    contexts, _, about = default
    model, tokens, documents = text_of(world)
    wanted = -(-CONTEXTS.tokens // (CONTEXT - 1))
    tokens, documents = tokens[:wanted], documents[:wanted]
    assert about["tokens_seen"] == len(tokens) * (CONTEXT - 1) and about["split"] == "train"
    held = []
    mlp = model.hf.get_submodule("gpt_neox.layers.1.mlp")
    hook = mlp.register_forward_hook(lambda module, args, output: held.append(output))
    with torch.no_grad():
        model.hf(tokens)
    hook.remove()
    dictionary = load_dictionary(read_run(trained), verify=True)
    W_enc, b_enc, b_dec = (getattr(dictionary, name).double().numpy() for name in ("W_enc", "b_enc", "b_dec"))
    f = np.maximum((held[0].double().numpy() - b_dec) @ W_enc.T + b_enc, 0)
    f[:, 0] = 0
    order = np.argsort(-f.max(axis=(0, 1)))
    for feature in order[[0, 1, 2, 5, 10, 15, 20, 25, 30, 35]]:
        peaks = f[:, :, feature].max(axis=1)
        rows = [row for row in np.argsort(-peaks, kind="stable")[: CONTEXTS.top] if peaks[row] > 0]
        for slot, row in enumerate(rows):
            position = int(f[row, :, feature].argmax())
            assert contexts["position"][feature, slot] == position
            assert contexts["document"][feature, slot] == documents[row, position]
            assert contexts["peak"][feature, slot] == pytest.approx(peaks[row], rel=1e-4)
            for w in range(W):
                p = position - W // 2 + w
                inside = 0 <= p < CONTEXT
                assert contexts["tokens"][feature, slot, w] == (tokens[row, p] if inside else -1)
                shown = float(contexts["activations"][feature, slot, w])
                assert shown == pytest.approx(f[row, p, feature] if inside else 0, rel=1e-4, abs=1e-5)


def test_what_the_files_hold(world, trained, default):
    contexts, pages, about = default
    F, S = 48, CONTEXTS.top + CONTEXTS.bands * CONTEXTS.per_band
    assert contexts["feature"].tolist() == pages["feature"].tolist() == list(range(F))
    dtypes = {name: (each.dtype, tuple(each.shape)) for name, each in contexts.items()}
    assert dtypes == {
        "feature": (torch.int64, (F,)),
        "tokens": (torch.int32, (F, S, W)),
        "activations": (torch.float32, (F, S, W)),
        **dict.fromkeys(("document", "position", "quantile"), (torch.int64, (F, S))),
        "peak": (torch.float32, (F, S)),
    }
    assert about["dictionary"] == str(trained) and about["bands"] == 3 and about["ablation"] == []
    measured = read_run(about["evaluation"], "eval").read_tensors(FEATURES_FILE)
    for name in ("count", "frequency", "max_act", "de_projection", "token_entropy", "logit_kurtosis"):
        torch.testing.assert_close(pages[name], measured[name], equal_nan=True)
    assert torch.equal(pages["top_token"], measured["logit_top_tokens"]) and pages["top_token"].shape == (F, 10)
    assert torch.equal(pages["bottom_weight"], measured["logit_bottom_weights"])
    rows = load_dictionary(read_run(trained), verify=True).W_dec.double().numpy()
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = rows @ rows.T - 2 * np.eye(F)
    np.testing.assert_array_equal(pages["nearest"], np.argsort(-cosines, axis=1)[:, :10])
    np.testing.assert_allclose(pages["nearest_cosine"], -np.sort(-cosines, axis=1)[:, :10], atol=1e-6)
    keys = {str(document_id(path.name)): path.name for path in world.text.iterdir()}
    used = {str(each) for each in contexts["document"].unique().tolist() if each >= 0}
    assert about["documents"] == {number: keys[number] for number in used}
    tokenizer = load_language_model(str(world.model)).tokenizer
    used = {*contexts["tokens"].unique().tolist(), *pages["top_token"].unique().tolist()} - {-1}
    used |= set(pages["bottom_token"].unique().tolist())
    assert about["vocabulary"] == {str(each): tokenizer.decode([each]) for each in used}


@pytest.mark.parametrize("how", ["model_rows", "at_once"])
def test_blocks_do_not_matter(how, trained, default, monkeypatch):
    if how == "at_once":
        monkeypatch.setattr("sae_cli.evaluation.contexts.FEATURES_AT_ONCE", 48 * 10)
    contexts, _, _ = made(trained, how, model_rows=3, overwrite=True)
    for name in ("tokens", "document", "position"):
        assert torch.equal(contexts[name], default[0][name])
    torch.testing.assert_close(contexts["activations"], default[0]["activations"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tokens", [2000, 5000], ids=["less than it holds", "more"])
def test_the_harvest_that_a_dictionary_was_trained_on_is_read(world, tmp_path, monkeypatch, tokens):
    """The same pages as from the model, bit for bit, which is asked only for what the harvest does not hold, and for
    that in the blocks that it would be in without it."""
    held_rows = document_of(harvest.run(world.harvest(tmp_path), tmp_path / "harvest"))["figures"]["tokens"] // (
        CONTEXT - 1
    )
    train.run(world.train(tmp_path), tmp_path / "run")
    contexts = replace(CONTEXTS, tokens=tokens)
    (tmp_path / "harvest").rename(tmp_path / "elsewhere")
    live, _, about_live = made(tmp_path / "run", "live", contexts=contexts)
    assert len(read_run(tmp_path / "run" / "features" / "live").manifest.parents) == 2

    (tmp_path / "elsewhere").rename(tmp_path / "harvest")
    asked, capture = [], ModelSubject._capture
    monkeypatch.setattr(ModelSubject, "_capture", lambda self, rows: asked.append(len(rows)) or capture(self, rows))
    held, _, about = made(tmp_path / "run", "held", contexts=contexts)
    parents = read_run(tmp_path / "run" / "features" / "held").manifest.parents
    assert len(parents) == 3 and Path(parents[2].path) == (tmp_path / "harvest").resolve()
    for name, each in live.items():
        assert torch.equal(held[name], each), name
    assert about == about_live
    if tokens < held_rows * (CONTEXT - 1):
        assert asked == []
    else:
        assert set(asked) == {4} and sum(asked) <= -(-tokens // (CONTEXT - 1)) - held_rows + 3 * 4


@pytest.mark.parametrize("change", ["bfloat16", "made again", "held-out text"])
def test_a_harvest_that_is_not_the_same_text_and_numbers_is_not_read(world, tmp_path, change):
    dtype = Dtype.bfloat16 if change == "bfloat16" else Dtype.float32
    harvest.run(world.harvest(tmp_path, dtype=dtype), tmp_path / "harvest")
    train.run(world.train(tmp_path, activations=str(tmp_path / "harvest")), tmp_path / "run")
    if change == "made again":
        harvest.run(world.harvest(tmp_path, overwrite=True), tmp_path / "harvest")
    split = Split.held_out if change == "held-out text" else Split.train
    made(tmp_path / "run", features=FeaturePassConfig(tokens=300, split=split), contexts=replace(CONTEXTS, tokens=300))
    assert len(read_run(tmp_path / "run" / "features" / "default").manifest.parents) == 2


def test_some_features(trained, default):
    contexts, pages, _ = made(trained, "only", only=[20, 3])
    assert contexts["feature"].tolist() == [3, 20] and contexts["peak"].shape[0] == 2
    for name in ("tokens", "peak", "quantile"):
        assert torch.equal(contexts[name], default[0][name][[3, 20]])
    for name, each in pages.items():
        torch.testing.assert_close(each, default[1][name][[3, 20]], equal_nan=True)


def test_features_by_their_frequency(trained, default):
    frequency = default[1]["frequency"].numpy()
    contexts, _, _ = made(trained, "near", at_frequency=[0.05, 0.3], n=3)
    wanted = set()
    for target in (0.05, 0.3):
        distance = np.where(frequency > 0, np.abs(frequency - target), np.inf)
        wanted |= set(np.argsort(distance, kind="stable")[:3].tolist())
    assert contexts["feature"].tolist() == sorted(wanted)


def test_frequencies_of_features_that_fire():
    count, frequency = torch.tensor([0, 2, 0, 5]), torch.tensor([0, 0.2, 0, 0.5]).double()
    assert features.nearest_frequency(count, frequency, 0.1, 4).tolist() == [1, 3]
    with pytest.raises(RequestError, match=r"at_frequency=0.1: expected features that fire, found none"):
        features.nearest_frequency(count * 0, frequency, 0.1, 4)


def test_what_is_there_is_found_and_the_evaluation_is_not_made_again(trained, default, monkeypatch, capsys):
    monkeypatch.setattr("sae_cli.evaluation.evaluate.Measurement", None)
    made(trained, "again", only=[1])
    monkeypatch.setattr("sae_cli.commands.features.ContextPass", None)
    made(trained, "again", only=[1])
    said = capsys.readouterr().err
    assert f"already finished: {trained}/features/again" in said and f"already finished: {trained}/eval" in said
    with pytest.raises(RequestError, match=r"only: \[1\] -> \[2\]"):
        made(trained, "again", only=[2])


def test_ablation(trained, default):
    _, _, about = made(trained, "ablated", only=[3], ablate=[3])
    evaluate.run(
        EvalConfig(
            run=str(trained), device="cpu", model_rows=4, ablate=[3],
            eval=EvaluationConfig(tokens=500), features=FeaturePassConfig(tokens=1500),
        ),
        trained,
        "ablated",
    )  # fmt: skip
    assert about["ablation"] == read_run(trained / "eval" / "ablated").read_json("eval.json")["ablation"]


@pytest.mark.parametrize(
    "changes",
    [
        {"hook": HookConfig(point=HookPoint.mlp_act)},
        {"hook": HookConfig(point=HookPoint.logits)},
        {"hook": LogitUpdateHook(point=HookPoint.logit_update)},
        {"sae": TopKSae(), "k": 4},
    ],
    ids=["mlp_act", "logits", "logit_update", "topk"],
)
def test_other_hooks_and_architectures(changes, world, tmp_path):
    train.run(world.train(tmp_path, **changes), tmp_path / "run")
    contexts, pages, _ = made(tmp_path / "run")
    assert (contexts["peak"] > 0).any() and pages["top_token"].shape == (48, 10)
    source = make_subject(read_dictionary_run(tmp_path / "run"), None, 4, torch.device("cpu"))
    block = next(iter(source.blocks(Split.train)))
    f = load_dictionary(read_run(tmp_path / "run"), verify=True).encode(block.activations)
    feature = int(f.amax(dim=0).argmax())
    row = f[:, feature].view(-1, CONTEXT - 1)
    assert contexts["peak"][feature, 0] >= row.max() * (1 - 1e-5)


def test_a_pruned_dictionary(trained, default, tmp_path):
    config = PruneConfig(
        run=str(trained), top_n=5, device="cpu", model_rows=4,
        eval=EvaluationConfig(tokens=500), features=FeaturePassConfig(tokens=1500),
    )  # fmt: skip
    prune.run(config, tmp_path / "pruned")
    contexts, _, about = made(tmp_path / "pruned")
    kept = read_run(tmp_path / "pruned").read_tensors("sae.safetensors")["kept_index"]
    assert len(contexts["feature"]) == 43 and about["dictionary"].endswith("pruned")
    assert torch.equal(contexts["tokens"][:, 0], default[0]["tokens"][kept][:, 0])


def test_what_cannot_be_made_is_one_line(world, trained, tmp_path):
    with pytest.raises(RequestError, match="only=48: expected features from 0 to 47, found 48"):
        made(trained, "refused", only=[48])
    with pytest.raises(RequestError, match="ablate=-1: expected features from 0 to 47, found -1"):
        made(trained, "refused", ablate=[-1])
    base = world.train(tmp_path, data=SyntheticData(d=16, n_features=20, mean_active=2.0))
    train.run(replace(base, dict_size=32), tmp_path / "synthetic")
    with pytest.raises(RequestError, match="contexts need a text and a language model, and data=synthetic has neither"):
        made(tmp_path / "synthetic")
    assert not (trained / "features" / "refused").exists() and not (tmp_path / "synthetic" / "features").exists()


def test_hostile_text_stays_text(world, trained, tmp_path, capsys):
    """In the files as it is; on the terminal as escapes."""
    folder = tmp_path / "text"
    folder.mkdir()
    for i in range(40):
        (folder / f"{i}\x1b[31m\u202e.txt").write_text("<script>alert(1)</script> \x1b[31m \u202e ⟦b⟧ \r\n\x07" * 8)
    data = TextData(path=str(folder), context=CONTEXT, held_out_fraction=0.2)
    contexts, _, about = made(trained, "hostile", data=data)
    words, all_text = about["vocabulary"], ""
    for each in contexts["tokens"].flatten(0, 1).tolist():
        all_text += "".join(words[str(token)] for token in each if token >= 0) + "\n"
    assert "<" in all_text and "\x1b" in all_text
    assert all("\x1b[31m\u202e" in key for key in about["documents"].values())
    capsys.readouterr()
    feature_page.show(trained / "features" / "hostile", [0, 7])
    shown = capsys.readouterr().err
    assert all(line.isprintable() for line in shown.splitlines())
    assert "feature 7" in shown and "largest activations" in shown and r"\x1b[31m\u202e.txt" in shown


def test_a_page_for_people(trained, default, capsys):
    feature = int(default[0]["peak"][:, 0].argmax())
    feature_page.show(trained / "features" / "default", [feature])
    shown = capsys.readouterr().err
    words, tokens = default[2]["vocabulary"], default[0]["tokens"][feature, 0]
    assert f"⟦{words[str(int(tokens[W // 2]))]}⟧" in shown and "quantiles 67% to 100%" in shown
    document = default[2]["documents"][str(int(default[0]["document"][feature, 0]))]
    assert "nearest features" in shown and document in shown
    with pytest.raises(RequestError, match=r"--show 99: expected one of the features with a page, 48 features from 0"):
        feature_page.show(trained / "features" / "default", [99])


def test_pages_that_somebody_changed_are_one_line(trained, default, tmp_path):
    shutil.copytree(trained / "features" / "default", tmp_path / "copy")
    path = tmp_path / "copy" / SHEETS_JSON
    path.write_text(json.dumps({**default[2], "vocabulary": {}}))
    with pytest.raises(Exception, match="damaged file"):
        feature_page.show(tmp_path / "copy", [0])


def test_pages_by_other_definitions_are_made_again(trained, default, tmp_path, capsys):
    copy = shutil.copytree(trained, tmp_path / "run")
    run = read_run(copy / "features" / "default")
    new = run.read_json("sheets.json")
    old = {key: value for key, value in new.items() if key != "metrics_version"}
    run.manifest.files["sheets.json"] = write_json(run.directory / "sheets.json", old)
    write_manifest(run.directory, run.manifest)
    made(copy)
    errors = capsys.readouterr().err
    assert f"{run.directory}: its figures are by a version of the definitions before {VERSION}; making them" in errors
    assert read_run(run.directory).read_json("sheets.json")["metrics_version"] == VERSION
