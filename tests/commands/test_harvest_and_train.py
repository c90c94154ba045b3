"""Harvesting and training end to end on a tiny model: what is written, what is found again."""

import json
from dataclasses import replace

import pytest
import torch

import sae_cli
from sae_cli.activations.blocks import ActivationBlock
from sae_cli.activations.harvest_search import find_harvest
from sae_cli.activations.harvested import ACTIVATIONS, ShardPlan
from sae_cli.activations.source import ActivationSources
from sae_cli.artifacts.files import FileRecord
from sae_cli.artifacts.manifest import read_manifest
from sae_cli.artifacts.run_directory import open_run
from sae_cli.artifacts.stored_run import read_run
from sae_cli.commands import harvest, train
from sae_cli.config.hook import HookConfig, HookPoint
from sae_cli.config.model import Dtype
from sae_cli.config.sae import ReluSae, TopKSae
from sae_cli.config.settings import result_settings
from sae_cli.config.stored import read_config
from sae_cli.errors import JobError, RequestError
from sae_cli.models import Site, load_language_model
from sae_cli.reports.sections.curve import curve as reporting_curve
from tests.known import document_of, present

CPU = torch.device("cpu")


def blocks_of(run):
    return [ActivationBlock(**run.read_tensors(name)) for name in run.file_names(ACTIVATIONS)]


def joined(blocks, field):
    return torch.cat([getattr(block, field) for block in blocks])


def batches_of(config):
    return ActivationSources(CPU).open(config, result_settings(config)).batches


@pytest.fixture
def harvested(world, tmp_path):
    config = world.harvest(tmp_path)
    return read_run(harvest.run(config, tmp_path / "harvest" / "h").directory, "harvest")


def test_harvest_holds_the_models_activations(world, harvested):
    """Against the model run by hand on the rows that were saved."""
    model = load_language_model(str(world.model))
    site = Site(HookPoint.mlp_out, 1)
    blocks = blocks_of(harvested)
    rows = torch.cat([harvested.read_tensors(name)["tokens"] for name in harvested.file_names("rows")])
    assert (rows[:, 0] == 0).all() and rows.shape[1] == 32
    expected = torch.cat([model.capture(part, [site])[site] for part in rows.split(3)])
    assert torch.equal(joined(blocks, "tokens"), rows[:, 1:].flatten())
    torch.testing.assert_close(joined(blocks, "activations"), expected[:, 1:].flatten(0, 1), atol=1e-5, rtol=1e-5)
    assert joined(blocks, "position").max() == 31 and joined(blocks, "position").min() == 1
    facts = harvested.manifest.facts
    assert facts["tokens"] == sum(block.n for block in blocks) >= 3000
    assert (facts["bos_id"], facts["separator_ids"], facts["context"]) == (0, [0], 32)


@pytest.mark.parametrize("dtype", [Dtype.bfloat16, Dtype.float16])
def test_harvest_in_other_formats(world, tmp_path, harvested, dtype):
    other = harvest.run(world.harvest(tmp_path, dtype=dtype), tmp_path / "other")
    run = read_run(other.directory)
    name = run.file_names("activations")[0]
    assert run.read_tensors(name)["activations"].dtype == getattr(torch, dtype.value)
    exact, rounded = (joined(blocks_of(each), "activations") for each in (harvested, run))
    torch.testing.assert_close(rounded.float(), exact, rtol=1e-2, atol=1e-3)


def test_harvest_goes_on_where_it_stopped(world, tmp_path, harvested, monkeypatch):
    """Stopped after two shards, a second attempt leaves byte for byte what one attempt leaves."""
    written = []
    write = harvest.ShardWriter._write

    def write_two(self, *shard):
        if len(written) == 2:
            raise JobError("power cut")
        written.append(1)
        write(self, *shard)

    monkeypatch.setattr(harvest.ShardWriter, "_write", write_two)
    config, directory = world.harvest(tmp_path), tmp_path / "again"
    with pytest.raises(JobError, match="power cut"):
        harvest.run(config, directory)
    monkeypatch.setattr(harvest.ShardWriter, "_write", write)
    kept = directory / harvested.file_names("activations")[0]
    before = kept.stat().st_mtime_ns
    harvest.run(config, directory)
    assert kept.stat().st_mtime_ns == before
    assert read_run(directory).manifest.files == harvested.manifest.files


def test_live_and_harvested_training_see_the_same(world, tmp_path, harvested):
    config = world.train(tmp_path, activations=str(harvested.directory))
    from_disk = list(batches_of(config))
    live = list(batches_of(replace(config, activations=None, runs_dir="/nowhere")))
    assert sum(map(len, live)) == 2048
    assert torch.equal(torch.cat(from_disk), torch.cat(live))


def test_training_finds_the_harvest_and_the_result_is_the_same(world, tmp_path, harvested):
    live = train.run(world.train(tmp_path / "empty"), tmp_path / "live")
    from_disk = train.run(world.train(tmp_path), tmp_path / "from_disk")
    sources = [read_run(r.directory).manifest.facts["source"] for r in (live, from_disk)]
    assert sources == ["live", "harvest"]
    parents = read_run(from_disk.directory).manifest.parents
    assert [parent.path for parent in parents] == [str(harvested.directory)]
    a, b = (sae_cli.load(r.directory).tensors() for r in (live, from_disk))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_harvest_behind_a_link_is_found(world, tmp_path, harvested, capsys):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "harvest").symlink_to(tmp_path / "harvest")
    (tmp_path / "runs" / ".old").mkdir()
    config = world.train(tmp_path / "runs")
    found = find_harvest(config, result_settings(config))
    assert found is not None and found.directory == tmp_path / "runs" / "harvest" / "h"
    assert ".old: not searched for runs: its name begins with a dot" in capsys.readouterr().err


def test_a_trained_run_says_what_it_is(world, tmp_path):
    config = world.train(tmp_path)
    result = train.run(config, tmp_path / "run")
    run = read_run(tmp_path / "run", "train")
    assert set(run.manifest.files) == {"config.yaml", "metrics.jsonl", "sae.safetensors", "density_history.safetensors"}
    assert read_config(tmp_path / "run", "train") == config
    curve = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert curve[-1]["step"] == 16 and curve[-1]["tokens"] == 2048
    assert {"loss", "fvu", "l0", "never_fired", "lr", "l1", "tokens_per_second", "held_out_fvu"} <= set(curve[-1])
    assert not any("dead" in line for line in curve), "none can be dead before train.dead_after tokens"
    assert document_of(result)["figures"]["never_fired"] == curve[-1]["never_fired"]
    assert "dead" not in document_of(result)["figures"] and "dead" not in run.manifest.facts
    assert ("never fired", f"{curve[-1]['never_fired']} of {config.dict_size} in 2,048 tokens") in result.table
    assert curve[-1]["held_out_fvu"] == pytest.approx(document_of(result)["figures"]["fvu"], rel=1e-6)
    mean = sae_cli.load(tmp_path / "run").activation_mean
    seen = torch.cat(list(batches_of(config)))
    torch.testing.assert_close(mean, seen.mean(dim=0), rtol=1e-5, atol=1e-6)


def test_the_curve_says_where_the_decoder_fit_begins(world, tmp_path, capsys):
    """Steps 1 to 12 of 16 with the penalty, whose last window is closed there, and 4 without it."""
    train.run(world.train(tmp_path, sae=ReluSae(decoder_fit=0.25)), tmp_path / "run")
    curve = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["phase"]) for line in curve] == [(12, "training"), (16, "decoder fit")]
    assert curve[0]["loss"] > curve[0]["fvu"] / curve[1]["fvu"] * curve[1]["loss"], "the first has the penalty in it"
    said = capsys.readouterr().err
    assert said.count("after step 12 of 16 the decoder is fitted to features that no longer change") == 1
    section = present(reporting_curve(read_run(tmp_path / "run")))
    (line,) = section.charts[0].lines
    assert (line.axis, line.value, line.label) == ("x", 12 * 128, "decoder fit")
    assert "the loss is the squared error" in section.charts[0].caption


def test_of_a_training_in_one_phase_nothing_is_said(world, tmp_path, capsys):
    train.run(world.train(tmp_path, sae=TopKSae(), k=4), tmp_path / "run")
    curve = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {line["phase"] for line in curve} == {"training"}
    assert "decoder" not in capsys.readouterr().err
    assert not present(reporting_curve(read_run(tmp_path / "run"))).charts[0].lines


def test_the_same_command_again_finds_the_run(world, tmp_path):
    config = world.train(tmp_path)
    first = train.run(config, tmp_path / "run")
    before = (tmp_path / "run" / "manifest.json").read_bytes()
    again = train.run(config, tmp_path / "run")
    assert again.document == first.document
    assert (tmp_path / "run" / "manifest.json").read_bytes() == before
    with pytest.raises(RequestError, match=r"l1: 0\.5 -> 0\.7.*overwrite=true"):
        train.run(replace(config, l1=0.7), tmp_path / "run")
    replaced = train.run(replace(config, l1=0.7, overwrite=True), tmp_path / "run")
    assert read_run(replaced.directory).manifest.settings["l1"] == 0.7


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"layer": 99}, r"layer=99: expected a layer from 0 to 1"),
        ({"tokens": 5}, "at least one batch"),
        ({"activations": "/nowhere"}, "no run here"),
    ],
)
def test_a_wrong_request_writes_nothing(world, tmp_path, changes, says):
    with pytest.raises(RequestError, match=says):
        train.run(world.train(tmp_path / "runs", **changes), tmp_path / "runs" / "run")
    assert not (tmp_path / "runs").exists()


def test_a_harvest_that_does_not_fit_is_refused(world, tmp_path, harvested):
    where = str(harvested.directory)
    with pytest.raises(RequestError, match=r"hook.point: harvested mlp_out, wanted resid"):
        config = world.train(tmp_path, activations=where, hook=HookConfig(point=HookPoint.resid))
        train.run(config, tmp_path / "run")
    with pytest.raises(RequestError, match=r"at least tokens=9,000, found 3,007"):
        train.run(world.train(tmp_path, activations=where, tokens=9000), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove"])
def test_a_damaged_shard_is_refused_before_anything_is_written(world, tmp_path, harvested, damage):
    shard = harvested.directory / harvested.file_names("activations")[-1]
    content = bytearray(shard.read_bytes())
    content[-5] ^= 1
    shard.write_bytes(content[:-9] if damage == "truncate" else content)
    if damage == "remove":
        shard.unlink()
    with pytest.raises(JobError, match=rf"{shard.name}: (damaged file|the manifest lists)"):
        train.run(world.train(tmp_path), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_configuration_of_another_schema_is_refused(world, tmp_path):
    train.run(world.train(tmp_path), tmp_path / "run")
    path = tmp_path / "run" / "config.yaml"
    path.write_text(path.read_text().replace("schema_version: 1", "schema_version: 7"))
    with pytest.raises(JobError, match="expected schema version 1, found 7"):
        read_config(tmp_path / "run", "train")


def test_too_little_disk_is_refused_before_anything_is_written(world, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(JobError, match="of free disk space, found"):
        harvest.run(world.harvest(tmp_path), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_more_shards_than_a_manifest_can_list_are_refused(world, tmp_path):
    config = replace(world.harvest(tmp_path), tokens=1_000_000, shard_tokens=31)
    with pytest.raises(
        RequestError, match=r"shard_tokens=31: makes 32,259 shards .* expected at most 20,000; raise it"
    ):
        harvest.run(config, tmp_path / "h")
    assert not (tmp_path / "h").exists()


def test_the_longest_list_of_shards_can_be_read(tmp_path):
    with open_run(tmp_path / "h", "harvest", {}) as run:
        plan = ShardPlan(harvest.MOST_SHARDS, 1, 2**40)
        for shard in range(plan.shards):
            run.manifest.files |= dict.fromkeys(plan.file_names(shard), FileRecord(2**50, "a" * 64))
        run.save_progress()
    assert len(read_manifest(tmp_path / "h").files) == 2 * plan.shards
