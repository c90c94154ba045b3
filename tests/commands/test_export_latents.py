"""`sae export to=delphi`: what every feature does on a text, held to an encoding by hand; and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from sae_cli.commands import train
from sae_cli.config.hook import HookPoint
from sae_cli.dictionaries.files import load_dictionary
from sae_cli.evaluation import latent_cache
from sae_cli.models import load_language_model, load_tokenizer
from sae_cli.models.hooks import Site, Wires
from sae_cli.runs.dictionary_run import read_dictionary_run

F, CONTEXT, TOKENS = 48, 32, 1500
ASKED = (f"features.tokens={TOKENS}", "splits=5", "device=cpu")


@pytest.fixture(scope="module")
def trained(world, tmp_path_factory):
    train.run(world.train(root := tmp_path_factory.mktemp("latents"), tokens=1024), root / "run")
    return root / "run"


def cache(directory):
    """The file of each range of features."""
    files = [path for path in Path(directory, "latents/layers.1.mlp").iterdir() if path.suffix == ".safetensors"]
    return {tuple(map(int, path.stem.split("_"))): load_file(path) for path in files}


def dense(directory):
    """Rows of tokens [R, T], and what every feature does there [R, T, F]."""
    held = cache(directory)
    tokens = next(iter(held.values()))["tokens"]
    found = np.zeros((*tokens.shape, F), np.float32)
    for (start, _), tensors in held.items():
        assert (tensors["tokens"] == tokens).all()
        row, position, feature = tensors["locations"].astype(int).T
        assert not found[row, position, feature + start].any()
        found[row, position, feature + start] = tensors["activations"]
    return torch.from_numpy(tokens), torch.from_numpy(found)


def test_it_holds_what_every_feature_does(trained, world, sae, tmp_path):
    directory = sae("export", trained, "to=delphi", *ASKED, f"runs_dir={tmp_path}").out.strip()
    tokens, found = dense(directory)
    assert tokens.dtype == torch.int64 and tokens.shape == (-(-TOKENS // (CONTEXT - 1)), CONTEXT)
    bounds = sorted(cache(directory))
    assert bounds == [(0, 8), (9, 18), (19, 27), (28, 37), (38, 47)]
    model, wires = load_language_model(str(world.model)), Wires.at(Site(HookPoint.mlp_out, 1, None))
    (x,) = model.capture(tokens, wires).values()
    expected = load_dictionary(read_dictionary_run(trained).run, verify=True).encode(x)
    expected[:, 0] = 0
    assert (expected > 0).sum() > 1000
    torch.testing.assert_close(found, expected.detach(), rtol=2e-3, atol=1e-4)
    about = json.loads(Path(directory, "latents/layers.1.mlp/config.json").read_text())
    assert about["dataset_repo"] == str(world.text) and about["cache_ctx_len"] == CONTEXT and about["n_splits"] == 5
    assert load_tokenizer(about["model_name"]).decode(tokens[0])
    facts = json.loads(Path(directory, "manifest.json").read_text())["facts"]
    assert facts["rows"] == len(tokens) and facts["activations"] == int((found > 0).sum())
    # It is a function of the text, and is found the next time; how it is read does not matter.
    again = sae("export", trained, "to=delphi", *ASKED, "model_rows=3", f"runs_dir={tmp_path}")
    assert "already finished" in again.err and again.out.strip() == directory


def test_how_it_is_read_does_not_matter(trained, sae, tmp_path, monkeypatch):
    here = [f"runs_dir={tmp_path}"]
    one = sae("export", trained, "to=delphi", *ASKED, *here, "name=a").out.strip()
    monkeypatch.setattr(latent_cache, "FEATURES_AT_ONCE", F * 40)
    other = sae("export", trained, "to=delphi", *ASKED, *here, "name=b", "model_rows=3").out.strip()
    (tokens, found), (same, again) = dense(one), dense(other)
    assert torch.equal(tokens, same)
    torch.testing.assert_close(found, again, rtol=2e-3, atol=1e-4)


def test_numbers_are_as_wide_as_they_have_to_be(trained, sae, tmp_path, monkeypatch):
    narrow = cache(sae("export", trained, "to=delphi", *ASKED, f"runs_dir={tmp_path}", "name=a").out.strip())
    assert {name: each.dtype.name for name, each in narrow[0, 8].items()} == {
        "tokens": "int64",
        "locations": "uint16",
        "activations": "float16",
    }
    monkeypatch.setattr(latent_cache, "_NARROW", 40)
    monkeypatch.setattr(latent_cache, "_LARGEST_HALF", 1e-3)
    wide = cache(sae("export", trained, "to=delphi", *ASKED, f"runs_dir={tmp_path}", "name=b").out.strip())
    for bounds, tensors in wide.items():
        assert tensors["locations"].dtype == np.uint32 and tensors["activations"].dtype == np.float32
        assert (tensors["locations"] == narrow[bounds]["locations"]).all()
        assert (tensors["activations"].astype(np.float16) == narrow[bounds]["activations"]).all()


def test_what_fires_nowhere_has_no_entries(world, sae, tmp_path):
    names = {"W_enc": (4, 16), "b_enc": (4,), "W_dec": (4, 16), "b_dec": (16,), "activation_mean": (16,)}
    tensors = {name: torch.zeros(shape) for name, shape in names.items()}
    tensors["W_dec"][:, 0] = 1
    tensors["b_enc"] = torch.tensor([-1.0, -1.0, 2.0, -1.0])
    world.install(tmp_path / "run", tensors)
    held = cache(
        sae("export", tmp_path / "run", "to=delphi", *ASKED[:1], "splits=2", f"runs_dir={tmp_path}").out.strip()
    )
    assert held[0, 1]["locations"].shape == (0, 3) and held[0, 1]["activations"].shape == (0,)
    assert (held[2, 3]["activations"] == 2).all() and len(held[2, 3]["tokens"])
    assert len(held[2, 3]["activations"]) == (CONTEXT - 1) * len(held[2, 3]["tokens"])


def test_another_text(trained, sae, tmp_path):
    text = tmp_path / "other"
    text.mkdir()
    for i in range(20):
        (text / f"{i}.txt").write_text(f"bata kere {i} " * 200)
    here = ["data=text", f"data.path={text}", f"runs_dir={tmp_path}"]
    directory = sae("export", trained, "to=delphi", *ASKED, *here).out.strip()
    tokens, _ = dense(directory)
    about = json.loads(Path(directory, "latents/layers.1.mlp/config.json").read_text())
    assert about["dataset_repo"] == str(text) and tokens.shape[1] == CONTEXT
    assert "bata kere" in load_tokenizer(about["model_name"]).decode(tokens[1])


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["to=delphi", "splits=49"], "splits=49: expected at most one for each of the 48 features"),
        (["to=delphi", "splits=0"], "splits=0"),
        (["to=delph"], "to=delph: did you mean delphi?"),
        (["to=delphi", "features.rare_below=.1"], "features.rare_below=0.1 has no effect with sae export"),
        (["to=saelens", "features.tokens=5"], "features.tokens=5 has no effect with to=saelens, which reads no text"),
        (["to=saelens", "splits=2"], "splits=2 has no effect with to=saelens"),
        (["to=saelens", "data=stdlib"], "has no effect with to=saelens, which reads no text"),
    ],
)
def test_what_is_refused(trained, sae, tmp_path, asked, said):
    assert said in sae("export", trained, *asked, f"runs_dir={tmp_path}", code=2).err
    assert not [*tmp_path.iterdir()]


def test_a_known_truth_has_no_text(world, sae, tmp_path):
    from sae_cli.config.commands.train import TrainConfig
    from sae_cli.config.compose import configured

    small = ["data=synthetic", "data.d=16", "dict_size=8", "tokens=512", "train.batch_size=128", "device=cpu"]
    train.run(configured(TrainConfig, small), tmp_path / "run")
    said = sae("export", tmp_path / "run", "to=delphi", f"runs_dir={tmp_path}/out", code=2).err
    assert "to=delphi needs a text and a language model, and data=synthetic has neither" in said


def test_a_text_that_ends_is_said(trained, sae, tmp_path):
    ended = sae("export", trained, "to=delphi", "features.tokens=10M", "device=cpu", f"runs_dir={tmp_path}")
    assert "features.tokens=10,000,000: the train text gives" in ended.err


def test_nothing_is_left_of_one_that_fails(trained, sae, tmp_path, monkeypatch):
    def broken(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sae_cli.artifacts.spill.Spilled.copy_to", broken)
    said = sae("export", trained, "to=delphi", *ASKED, f"runs_dir={tmp_path}", "name=out", code=1).err
    assert "cannot be written: No space left on device; free some space there" in said
    left = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert {path.name for path in left} <= {"manifest.json", "config.yaml"}
    assert json.loads((tmp_path / "out/manifest.json").read_text())["status"] == "failed"
    monkeypatch.undo()
    assert sae("export", trained, "to=delphi", *ASKED, f"runs_dir={tmp_path}", "name=out").out
