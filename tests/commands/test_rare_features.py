"""Training with snapshots, resampling and a forbidden direction, from the command line's settings to the files."""

import json
import re

import pytest
import torch

import sae_cli
from sae_cli.artifacts.stored_run import read_run
from sae_cli.commands import prune_high_freq as prune
from sae_cli.commands import train
from sae_cli.config.commands.prune_high_freq import PruneConfig
from sae_cli.config.commands.train import TrainConfig
from sae_cli.config.compose import Composer, typed
from sae_cli.config.edits import Finetune
from sae_cli.config.evaluation import EvaluationConfig, FeaturePassConfig
from sae_cli.config.stored import read_config
from sae_cli.dictionaries.files import load_dictionary, snapshot_file
from sae_cli.errors import RequestError
from sae_cli.metrics.rare import DensityHistory, common_direction, exempt_and_resampled
from sae_cli.runs.file_names import DENSITY_FILE
from sae_cli.training.trainer import Trainer
from tests.known import the

COMPOSER = Composer()
SIZE = "data=synthetic data.n_features=48 data.d=24 data.mean_active=3 dict_size=64 tokens=7_680 device=cpu"
SMALL = "train.shuffle_buffer=2_048 train.batch_size=128 train.held_out_tokens=512"

DYING = ("l1=20", "sae.sparsity_warmup=0", "train.lr=0.02", "train.dead_after=256")


def config(*overrides):
    sizes = [each for each in SIZE.split() if each.split("=")[0] not in {o.split("=")[0] for o in overrides}]
    return the(TrainConfig, typed(COMPOSER.compose("train", [*sizes, *SMALL.split(), *overrides]).settings))


def trained(directory, *overrides):
    train.run(config(*overrides), directory)
    return read_run(directory)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("plain") / "run", "l1=3")


@pytest.mark.parametrize("architecture", ["relu", "gated", "topk", "batch_topk", "matryoshka", "jump_relu"])
def test_every_run_counts_what_its_curve_says(architecture, tmp_path):
    """L0 of each step, from the training curve, against counts by window."""
    k = [] if architecture in ("relu", "gated") else ["k=5"]
    run = trained(tmp_path / "run", f"sae={architecture}", "train.log_every=1", "train.density_windows=7", *k)
    history = run.read_tensors(DENSITY_FILE)
    curve = [json.loads(line) for line in (run.directory / "metrics.jsonl").read_text().splitlines()]
    ends = history["step"].tolist()
    assert len(ends) == 7 and ends[0] == 1 and ends[-1] == 60 and history["count"].shape == (7, 64)
    for count, tokens, start, end in zip(history["count"], history["tokens"], [0, *ends], ends, strict=False):
        assert tokens == 128 * (end - start)
        assert int(count.sum()) == round(sum(line["l0"] * 128 for line in curve[start:end]))
        assert (count <= tokens).all()
    assert run.manifest.facts["resampled"] == 0 and not history["exempt"].any()


def test_snapshots_are_the_dictionary_at_that_step(tmp_path, monkeypatch):
    seen, step = {}, Trainer.step

    def watched(self, *pair):
        step(self, *pair)
        seen[self.step_number] = self.dictionary().tensors()

    monkeypatch.setattr(Trainer, "step", watched)
    run = trained(tmp_path / "run", "train.save_at=[60,5,5,40]")
    assert run.file_names("snapshots/") == [snapshot_file(step) for step in (5, 40, 60)]
    assert run.file_names("snapshots/")[0] == "snapshots/step-00000005.safetensors"
    for at in (5, 40, 60):
        saved = load_dictionary(run, name=snapshot_file(at)).tensors()
        assert all(torch.equal(saved[name], seen[at][name]) for name in saved)
    last = (run.directory / snapshot_file(60)).read_bytes()
    assert last == (run.directory / "sae.safetensors").read_bytes()
    assert not torch.equal(seen[5]["W_enc"], seen[40]["W_enc"])
    assert the(TrainConfig, read_config(run.directory, "train")).train.save_at == [5, 40, 60]


def test_resampling_is_recorded(tmp_path, capsys):
    """Under so strong a penalty that features die; some are exempt."""
    run = trained(
        tmp_path / "run", *DYING, "resample.at=[40,30]", "resample.exempt_fraction=0.25", "resample.rewarm_steps=3"
    )
    history = run.read_tensors(DENSITY_FILE)
    assert history["resample_step"].tolist() == [30, 40] and history["resampled"].shape == (2, 64)
    assert int(history["exempt"].sum()) == 16
    total = int(history["resampled"].sum())
    assert run.manifest.facts["resampled"] == total > 0
    assert not (history["resampled"] & history["exempt"]).any()
    said = re.findall(r"step (\d+): resampled (\d+) of", capsys.readouterr().err)
    assert [int(step) for step, _ in said] == [30, 40] and sum(int(n) for _, n in said) == total
    found = exempt_and_resampled(DensityHistory(**history), part=(0.5, 0.67), below=0.02)
    assert found["exempt"].features > 0 and found["resampled"].features > 0
    assert found["resampled"].firing[-1] > 0
    assert the(TrainConfig, read_config(run.directory, "train")).resample.at == [30, 40]


def test_side_by_side_as_alone(tmp_path):
    settings = [("seed=0",), ("seed=1", *DYING, "resample.at=[40]", "train.save_at=[9]")]
    alone = [trained(tmp_path / f"alone{n}", *each) for n, each in enumerate(settings)]
    train.run_together([(config(*each), tmp_path / f"together{n}") for n, each in enumerate(settings)])
    for n, run in enumerate(alone):
        for name in (DENSITY_FILE, "sae.safetensors", *run.file_names("snapshots/")):
            assert (run.directory / name).read_bytes() == (tmp_path / f"together{n}" / name).read_bytes()


def rare_of(run, below):
    """By the counts of the last windows, as many as make up a tenth of the tokens."""
    history = run.read_tensors(DENSITY_FILE)
    tokens, count = torch.zeros_like(history["tokens"][0]), torch.zeros_like(history["count"][0])
    for window in reversed(range(len(history["tokens"]))):
        tokens, count = tokens + history["tokens"][window], count + history["count"][window]
        if tokens >= 0.1 * history["tokens"].sum():
            break
    return (count > 0) & (count < below * tokens)


@pytest.fixture(scope="module")
def forbidding(plain, tmp_path_factory):
    overrides = ["l1=3", f"train.forbid_direction={plain.directory}", "train.forbid_below=0.1"]
    return trained(tmp_path_factory.mktemp("forbidding") / "run", *overrides)


def test_the_common_direction_of_rare_features_is_kept_out(plain, forbidding):
    tensors, rare = forbidding.read_tensors("sae.safetensors"), rare_of(plain, 0.1)
    before = sae_cli.load(plain.directory)
    v = tensors["forbidden_direction"]
    torch.testing.assert_close(v, common_direction(before.W_enc[rare]))
    assert v.norm() == pytest.approx(1, abs=1e-6)
    assert (tensors["W_enc"] @ v).abs().max() < 1e-6 < 0.05 < (before.W_enc @ v).abs().max()
    assert not torch.allclose(tensors["W_dec"], before.W_dec, atol=0.01)
    assert forbidding.manifest.parents == [plain.as_parent()]
    assert forbidding.manifest.facts["forbidden_features"] == int(rare.sum()) > 1
    assert "forbidden_direction" not in plain.read_tensors("sae.safetensors")


def test_it_stays_out_while_all_is_fine_tuned(forbidding, tmp_path):
    prune.run(
        PruneConfig(
            run=str(forbidding.directory),
            device="cpu",
            top_n=8,
            finetune_tokens=3840,
            finetune=Finetune.all,
            eval=EvaluationConfig(tokens=1000),
            features=FeaturePassConfig(tokens=1500),
        ),
        tmp_path / "pruned",
    )
    tensors = read_run(tmp_path / "pruned").read_tensors("sae.safetensors")
    v = tensors["forbidden_direction"]
    whole = forbidding.read_tensors("sae.safetensors")
    assert torch.equal(v, whole["forbidden_direction"])
    assert (tensors["W_enc"] @ v).abs().max() < 1e-6
    assert not torch.equal(tensors["W_enc"], whole["W_enc"][tensors["kept_index"]])


REFUSED = {
    "train.save_at=[0]": r"train.save_at: step 0: expected 1 to 60: tokens=7,680 make 60 steps of train.batch_size=128",
    "train.save_at=[5,61]": r"train.save_at: step 61: expected 1 to 60",
    "resample.at=[0]": r"resample.at: step 0: expected 1 to 50: .* the last 9 of which fit the decoder",
    "resample.at=[51]": r"resample.at: step 51: expected 1 to 50",
    "resample.inputs=5": r"^resample.inputs has no effect without resample.at=: give it",
    "resample.inputs=5 resample.rewarm_steps=1": r"resample.inputs and resample.rewarm_steps have no effect",
    "resample.exempt_fraction=0.5": r"resample.exempt_fraction has no effect without resample.at=",
    "resample.exempt_fraction=1.5 resample.at=[1]": r"resample.exempt_fraction=1.5: expected .*at most 1",
    "sae=topk resample.at=[5]": r"resample.at=\[5\]: sae=topk revives dead features by its auxiliary loss",
    "sae=matryoshka resample.at=[5]": r"sae=matryoshka revives dead features by its auxiliary loss",
    "train.forbid_below=0.1": r"train.forbid_below=0.1 has no effect without train.forbid_direction=: give it",
    "train.forbid_direction=/nowhere": r"/nowhere: no run here",
    "train.density_windows=0": r"train.density_windows=0: expected at least 1",
}


@pytest.mark.parametrize("overrides", REFUSED)
def test_refusals(overrides, tmp_path):
    with pytest.raises(RequestError, match=REFUSED[overrides]):
        trained(tmp_path / "run", *overrides.split())
    assert not (tmp_path / "run").exists()


def test_a_run_on_other_activations_is_refused(plain, tmp_path, world):
    forbid = f"train.forbid_direction={plain.directory}"
    with pytest.raises(RequestError, match=r"the same activations, data.d=16, .*; found data.d=24$"):
        trained(tmp_path / "run", forbid, "data.d=16")
    text = config(forbid, "train.forbid_below=0.1").train
    with pytest.raises(RequestError, match="expected a run on the same activations, data=text; found data=synthetic"):
        train.run(world.train(tmp_path, train=text), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_of_another_hook_is_refused(tmp_path, world):
    train.run(world.train(tmp_path, layer=0), tmp_path / "other")
    training = config(f"train.forbid_direction={tmp_path / 'other'}").train
    with pytest.raises(RequestError, match=r"hook.point=mlp_out, layer=1; found layer=0$"):
        train.run(world.train(tmp_path, train=training), tmp_path / "run")


def test_a_run_without_rare_features_is_refused(plain, tmp_path):
    few = r"at least 2 features that fire with a frequency below train.forbid_below=1e-12, found 0; of its 64 features "
    with pytest.raises(RequestError, match=few + r"\d+ below 1e-05, .*\d+ below 0.1, \d+ never fire: raise train"):
        trained(tmp_path / "run", f"train.forbid_direction={plain.directory}", "train.forbid_below=1e-12")
    assert not (tmp_path / "run").exists()
