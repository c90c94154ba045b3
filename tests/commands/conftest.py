"""A tiny language model with its tokenizer, and some text, on disk; the command line, and a way to stop trainings."""

import json
import random
import signal
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

from sae_cli.artifacts.run_directory import open_run
from sae_cli.cli.main import run as command_line
from sae_cli.config.commands.eval import EvalConfig
from sae_cli.config.commands.harvest import HarvestConfig
from sae_cli.config.commands.train import TrainConfig
from sae_cli.config.data import TextData
from sae_cli.config.evaluation import FeaturePassConfig
from sae_cli.config.hook import HookConfig, HookPoint
from sae_cli.config.model import ModelConfig
from sae_cli.config.sae import ReluSae
from sae_cli.config.settings import result_settings
from sae_cli.config.stored import CONFIG_FILE, as_yaml
from sae_cli.config.train import TrainingConfig
from sae_cli.dictionaries.files import save_dictionary
from sae_cli.dictionaries.relu import ReluDictionary
from sae_cli.terminal import interruption
from sae_cli.training.trainer import Trainer
from tests.known import first_rows

WORDS = [f"{a}{b}" for a in ("ba", "ke", "lo", "mi", "nu") for b in ("ta", "re", "si", "po")]


class World(NamedTuple):
    """Where the tiny model and its text are."""

    model: Path
    text: Path

    def harvest(self, directory, **changes):
        return self._config(HarvestConfig, directory, tokens=3000, shard_tokens=700, **changes)

    def train(self, directory, **changes):
        training = TrainingConfig(batch_size=128, lr=3e-3, shuffle_buffer=512, held_out_every=4, held_out_tokens=256)
        settings = {"dict_size": 48, "l1": 0.5, "tokens": 2048, "sae": ReluSae(), "train": training}
        return self._config(TrainConfig, directory, **settings | changes)

    def eval(self, directory, **changes):
        settings = {"eval": first_rows(1000), "features": FeaturePassConfig(tokens=1500), "model_rows": 4}
        return EvalConfig(run=str(directory), device="cpu", **settings | changes)

    def install(self, directory, tensors, **changes):
        """A run that holds a ReLU dictionary made by hand."""
        config, dictionary = self.train(directory.parent, **changes), ReluDictionary(tensors)
        about = {"hook": config.hook.point.value, "layer": config.layer, "model": str(self.model), "scale": 1.0}
        with open_run(directory, "train", result_settings(config), overwrite=True) as run:
            run.write_text(CONFIG_FILE, as_yaml(config))
            save_dictionary(run, dictionary, about)
            run.finish(tokens=1, source="by hand", width=dictionary.d_out)
        return dictionary

    def _config(self, kind, directory, **changes):
        settings = {
            "model": ModelConfig(path=str(self.model)),
            "hook": HookConfig(point=HookPoint.mlp_out),
            "data": TextData(path=str(self.text), context=32, held_out_fraction=0.2),
            "layer": 1,
            "runs_dir": str(directory),
            "device": "cpu",
            "model_rows": 4,
        }
        return kind(**settings | changes)


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    text = root / "text"
    text.mkdir()
    rng = random.Random(0)
    for i in range(60):
        (text / f"{i}.txt").write_text(" ".join(rng.choices(WORDS, k=120)))
    return World(_save_model(root / "model", text), text)


def _save_model(folder, text):
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False
    )
    bpe.train([str(path) for path in sorted(text.iterdir())], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<end>", eos_token="<end>")
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=40, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=64, initializer_range=0.3, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    GPTNeoXForCausalLM(config).save_pretrained(folder)
    return folder


class Ended(NamedTuple):
    """What a command has printed."""

    out: str
    err: str

    @property
    def document(self):
        """Of --json."""
        return json.loads(self.out)


@pytest.fixture
def sae(capsys):
    """Runs `sae` with these arguments, where the test stands; it must end with this code."""

    def call(*arguments, code=0):
        found = command_line([str(each) for each in arguments])
        captured = capsys.readouterr()
        assert found == code, captured.err
        return Ended(captured.out, captured.err)

    return call


@pytest.fixture
def stopping(monkeypatch):
    """Trainings are stopped after their second step, until this is called."""
    step = Trainer.step

    def step_and_ask(self, *pair):
        step(self, *pair)
        if self.step_number == 2:
            interruption.ask_to_stop(signal.SIGTERM)

    def no_more():
        interruption._stop.number = None
        monkeypatch.setattr(Trainer, "step", step)

    monkeypatch.setattr(Trainer, "step", step_and_ask)
    yield no_more
    interruption._stop.number = None
