"""A model that gives NaN for one word: what harvests, trainings and evaluations make of it."""

import shutil
from dataclasses import replace

import pytest
import torch

from sae_cli.activations.blocks import ActivationBlock
from sae_cli.activations.harvest_search import find_harvest
from sae_cli.activations.harvested import ACTIVATIONS, HarvestedActivations
from sae_cli.artifacts.stored_run import read_run
from sae_cli.commands import eval as evaluate
from sae_cli.commands import harvest, train
from sae_cli.config.data import NonFinite, TextData
from sae_cli.config.model import Dtype, ModelConfig
from sae_cli.config.settings import result_settings
from sae_cli.errors import JobError
from sae_cli.models import load_language_model
from sae_cli.models.load import save_model
from tests.known import the

DROP = NonFinite.drop
RARE = "zyx"


@pytest.fixture(scope="module")
def sick(world, tmp_path_factory):
    """The world with a rare word whose embedding is NaN, in some of the documents."""
    root = tmp_path_factory.mktemp("sick")
    model = load_language_model(str(world.model))
    with torch.no_grad():
        embeddings = the(torch.nn.Embedding, model.hf.get_input_embeddings())
        embeddings.weight[model.tokenizer(RARE)["input_ids"][0], 3] = float("nan")
    save_model(model, root / "model")
    shutil.copytree(world.text, root / "text")
    for i in range(0, 60, 4):
        file = root / "text" / f"{i}.txt"
        file.write_text(f"{file.read_text()} {RARE}")
    return world._replace(model=root / "model", text=root / "text")


@pytest.fixture
def dropped(sick, tmp_path):
    return read_run(harvest.run(sick.harvest(tmp_path, non_finite=DROP), tmp_path / "harvest" / "h").directory)


def test_a_harvest_stops_and_names_the_shard_and_its_rows(sick, tmp_path):
    with pytest.raises(
        JobError,
        match=r"run/activations-0000\d-of-00005\.safetensors: expected finite activations, found NaN or infinity in "
        r"[\d,]+ of \d+: row \d+, document \d+, position \d+, token \d+.*: look at .*non_finite=drop$",
    ):
        harvest.run(sick.harvest(tmp_path), tmp_path / "run")
    with pytest.raises(JobError, match="not complete: failed"):
        read_run(tmp_path / "run")


def test_dropping_leaves_rows_out_of_all_tensors_of_a_shard(sick, tmp_path, dropped, capsys):
    facts, blocks = (
        dropped.manifest.facts,
        [ActivationBlock(**dropped.read_tensors(name)) for name in dropped.file_names(ACTIVATIONS)],
    )
    assert facts["dropped"] > 0
    assert facts["tokens"] == sum(block.n for block in blocks) == 3007 - facts["dropped"]
    rows = torch.cat([dropped.read_tensors(name)["tokens"] for name in dropped.file_names("rows")])
    assert rows[:, 1:].numel() == 3007
    for block in blocks:
        assert block.activations.isfinite().all()
        assert len({len(each) for each in vars(block).values()}) == 1
    fetched = HarvestedActivations(dropped).fetch(torch.arange(facts["tokens"]))
    assert torch.equal(fetched, torch.cat([block.activations for block in blocks]))


def test_a_harvest_that_drops_says_how_many(sick, tmp_path, capsys):
    found = read_run(harvest.run(sick.harvest(tmp_path, non_finite=DROP), tmp_path / "run").directory)
    assert f"warning: {found.manifest.facts['dropped']:,} of 3,007 activations were NaN" in capsys.readouterr().err


def test_a_harvest_goes_on_with_the_count_of_earlier_shards(sick, tmp_path, dropped, monkeypatch):
    written, write = [], harvest.ShardWriter._write

    def write_four(self, *shard):
        if len(written) == 4:
            raise JobError("power cut")
        written.append(1)
        write(self, *shard)

    monkeypatch.setattr(harvest.ShardWriter, "_write", write_four)
    config = sick.harvest(tmp_path, non_finite=DROP)
    with pytest.raises(JobError, match="power cut"):
        harvest.run(config, tmp_path / "again")
    monkeypatch.setattr(harvest.ShardWriter, "_write", write)
    facts = read_run(harvest.run(config, tmp_path / "again").directory).manifest.facts
    assert (facts["tokens"], facts["dropped"]) == tuple(dropped.manifest.facts[key] for key in ("tokens", "dropped"))


def test_what_overflows_float16_is_told_apart(world, tmp_path):
    model = load_language_model(str(world.model))
    with torch.no_grad():
        model.hf.get_parameter("gpt_neox.layers.1.mlp.dense_4h_to_h.weight").mul_(1e6)
    save_model(model, tmp_path / "loud")
    loud = world._replace(model=tmp_path / "loud")
    with pytest.raises(JobError, match=r"became float16, which ends at 65504: harvest with dtype=bfloat16 or float32"):
        harvest.run(loud.harvest(tmp_path, dtype=Dtype.float16), tmp_path / "run")
    harvest.run(loud.harvest(tmp_path, dtype=Dtype.bfloat16), tmp_path / "fits")


def test_live_training_stops_and_names_the_document(sick, tmp_path):
    config = sick.train(tmp_path)
    with pytest.raises(JobError, match=r"^(training|held-out) activations: .*document \d+, position \d+, token \d+"):
        train.run(config, tmp_path / "run")


def test_live_training_without_them(sick, tmp_path, capsys):
    config = sick.train(tmp_path, non_finite=DROP)
    facts = read_run(train.run(config, tmp_path / "run").directory).manifest.facts
    assert facts["dropped"] > 0 and facts["tokens"] == 2048 - facts["dropped"] and facts["steps"] == 16
    assert f"{facts['dropped']:,} of 2,048 activations were NaN or infinite" in capsys.readouterr().err


def test_a_healthy_model_gives_the_same_dictionary_either_way(world, tmp_path):
    runs = [
        read_run(train.run(world.train(tmp_path, non_finite=each), tmp_path / each.value).directory)
        for each in NonFinite
    ]
    assert len({run.manifest.files["sae.safetensors"].sha256 for run in runs}) == 1
    assert [run.manifest.facts["dropped"] for run in runs] == [0, 0]


def test_a_harvest_with_gaps_is_found_only_by_who_asks_for_it(sick, tmp_path, dropped):
    config = sick.train(tmp_path, tokens=256)
    assert find_harvest(config, result_settings(config)) is None
    config = replace(config, non_finite=DROP)
    found = find_harvest(config, result_settings(config))
    assert found is not None and found.directory == dropped.directory


def test_a_stored_activation_that_is_not_finite_is_named_by_its_row(sick, tmp_path, dropped, monkeypatch):
    held = HarvestedActivations(dropped, NonFinite["raise"])
    shard = dropped.file_names("activations")[1]
    tensors = dropped.read_tensors(shard)
    tensors["activations"][5, 2] = float("inf")
    monkeypatch.setattr(dropped, "read_tensors", lambda *_, **__: tensors)
    held._shards[1] = tensors["activations"]
    first = len(held._shards[0])
    held.fetch(torch.arange(first + 5))
    document = int(tensors["document"][5])
    with pytest.raises(JobError, match=rf"{shard}: .* in 1 of \d+: row 5, document {document}, position"):
        held.fetch(torch.tensor([0, first + 5, first + 6]))


def test_evaluation_says_so_instead_of_a_table_of_nan(world, sick, tmp_path):
    directory = tmp_path / "run"
    data = TextData(path=str(sick.text), context=32, held_out_fraction=0.2)
    train.run(world.train(tmp_path, data=data), directory)
    config = world.train(tmp_path, data=data, model=ModelConfig(path=str(sick.model)))
    sick.install(tmp_path / "sick" / "run", dict(_tensors(directory)), data=config.data)
    with pytest.raises(JobError, match=r"^(held-out|train) activations: expected finite activations, .*data=$"):
        evaluate.run(sick.eval(tmp_path / "sick" / "run"), tmp_path / "sick" / "run", "default")


def test_a_dictionary_that_is_not_finite_is_named(world, tmp_path):
    train.run(world.train(tmp_path), tmp_path / "run")
    tensors = _tensors(tmp_path / "run")
    tensors["b_enc"][3] = float("nan")
    world.install(tmp_path / "broken" / "run", tensors)
    with pytest.raises(JobError, match=r"sae\.safetensors: .* expected b_enc of finite numbers, found NaN"):
        evaluate.run(world.eval(tmp_path / "broken" / "run"), tmp_path / "broken" / "run", "default")


def _tensors(directory):
    return read_run(directory).read_tensors("sae.safetensors")
