"""Jobs on one stream: what each leaves is what it leaves by itself, bit for bit; one that fails stops no other."""

from dataclasses import replace

import pytest
import torch

import sae_cli
from sae_cli.artifacts.manifest import read_manifest
from sae_cli.artifacts.stored_run import read_run
from sae_cli.commands import harvest, train
from sae_cli.config.hook import HookConfig, HookPoint
from sae_cli.config.sae import TopKSae
from sae_cli.errors import Interrupted, JobError, RequestError
from sae_cli.jobs.result import StageResult
from sae_cli.models import LanguageModel
from sae_cli.training.trainer import Trainer
from tests.known import document_of, the

RESID = HookConfig(point=HookPoint.resid)


def variants(config):
    other_batches = replace(config.train, batch_size=96, shuffle_buffer=256)
    return {
        "seed": replace(config, seed=1),
        "l1": replace(config, l1=2.0, tokens=1024),
        "layer": replace(config, layer=0),
        "hook": replace(config, hook=RESID, sae=TopKSae(), k=4),
        "batches": replace(config, train=other_batches),
        "data_seed": replace(config, data=replace(config.data, seed=3)),
    }


def test_each_dictionary_is_the_one_that_a_separate_run_gives(world, tmp_path, monkeypatch):
    configs = variants(world.train(tmp_path / "none"))
    passes = []
    capture = LanguageModel.capture
    monkeypatch.setattr(LanguageModel, "capture", lambda *args: passes.append(1) or capture(*args))
    results = train.run_together([(config, tmp_path / name) for name, config in configs.items()])
    together = len(passes)
    assert [the(StageResult, result).directory for result in results] == [tmp_path / name for name in configs]
    for name, config in configs.items():
        passes.clear()
        alone = tmp_path / f"{name}_alone"
        train.run(config, alone)
        files = read_run(alone).manifest.files
        assert files["sae.safetensors"] == read_run(tmp_path / name).manifest.files["sae.safetensors"], name
    assert together <= 2 * len(passes) + 3  # one text, and another order of it


def test_training_from_harvests_side_by_side(world, tmp_path):
    harvest.run(world.harvest(tmp_path), tmp_path / "harvest")
    config = world.train(tmp_path)
    requests = [
        (config, tmp_path / "a"),
        (replace(config, seed=1), tmp_path / "b"),
        (replace(config, layer=0), tmp_path / "c"),
    ]
    train.run_together(requests)
    assert [read_run(path).manifest.facts["source"] for _, path in requests] == ["harvest", "harvest", "live"]
    alone = train.run(replace(config, seed=1), tmp_path / "alone")
    first, second = sae_cli.load(tmp_path / "b").tensors(), sae_cli.load(alone.directory).tensors()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_harvests_of_several_sites(world, tmp_path, monkeypatch):
    config = world.harvest(tmp_path)
    configs = {"one": config, "zero": replace(config, layer=0), "resid": replace(config, hook=RESID, tokens=2000)}
    calls = []
    capture = LanguageModel.capture
    monkeypatch.setattr(LanguageModel, "capture", lambda *args: calls.append(1) or capture(*args))
    harvest.run_together([(each, tmp_path / name) for name, each in configs.items()])
    together = len(calls)
    for name, each in configs.items():
        harvest.run(each, tmp_path / f"{name}_alone")
        assert read_run(tmp_path / name).manifest.files == read_run(tmp_path / f"{name}_alone").manifest.files
    assert together < len(calls) / 2.4


def test_harvests_that_have_come_to_different_places_go_on_together(world, tmp_path, monkeypatch):
    config = world.harvest(tmp_path)
    write, written = harvest.ShardWriter._write, []

    def write_some(self, *shard):
        if len(written) == 3:
            raise JobError("power cut")
        written.append(1)
        write(self, *shard)

    monkeypatch.setattr(harvest.ShardWriter, "_write", write_some)
    with pytest.raises(JobError, match="power cut"):
        harvest.run(config, tmp_path / "further")
    monkeypatch.setattr(harvest.ShardWriter, "_write", write)
    harvest.run_together([(config, tmp_path / "further"), (replace(config, layer=0), tmp_path / "new")])
    harvest.run(config, tmp_path / "whole")
    assert read_run(tmp_path / "further").manifest.files == read_run(tmp_path / "whole").manifest.files


def test_one_that_fails_leaves_the_others_alone(world, tmp_path, monkeypatch):
    config = world.train(tmp_path)
    step = Trainer.step

    def fail(self, *pair):
        if self.recipe.seed == 1 and self.step_number == 5:
            raise JobError("the loss is nan")
        step(self, *pair)

    monkeypatch.setattr(Trainer, "step", fail)
    configs = {"good": config, "nan": replace(config, seed=1), "no_layer": replace(config, layer=9)}
    good, nan, no_layer = train.run_together([(each, tmp_path / name) for name, each in configs.items()])
    figures = document_of(the(StageResult, good))["figures"]
    assert figures["never_fired"] == 0 and "dead" not in figures
    assert isinstance(nan, JobError) and isinstance(no_layer, RequestError)
    assert read_manifest(tmp_path / "nan").status == "failed"
    assert not (tmp_path / "no_layer").exists()


def test_an_interruption_ends_all_and_each_run_says_so(world, tmp_path, monkeypatch):
    config = world.train(tmp_path)
    step = Trainer.step

    def interrupt(self, *pair):
        if self.recipe.seed == 1 and self.step_number == 5:
            raise Interrupted("interrupted by SIGINT", 2)
        step(self, *pair)

    monkeypatch.setattr(Trainer, "step", interrupt)
    with pytest.raises(Interrupted):
        train.run_together([(config, tmp_path / "a"), (replace(config, seed=1), tmp_path / "b")])
    for name in ("a", "b"):
        manifest = read_manifest(tmp_path / name)
        assert (manifest.status, manifest.reason) == ("failed", "interrupted by SIGINT")


def test_what_is_there_already_is_found(world, tmp_path):
    config = world.train(tmp_path)
    first = train.run(config, tmp_path / "a")
    again, other = train.run_together([(config, tmp_path / "a"), (replace(config, seed=1), tmp_path / "b")])
    assert the(StageResult, again).document == first.document and the(StageResult, other).directory == tmp_path / "b"
