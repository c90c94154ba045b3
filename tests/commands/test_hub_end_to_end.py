"""`sae train model=pythia70m layer=3 data=pile`, as it is typed, from a hub on the loopback device that has a tiny
model and a little text under those names: downloaded once, cached, offline."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys

import pytest
import torch
import zstandard
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from tests.text.loopback_hub import loopback_hub

PYTHIA, PILE = "EleutherAI/pythia-70m-deduped", "monology/pile-uncopyrighted"
NOWHERE = "http://127.0.0.1:9"  # a port that nobody listens on
SMALL = [
    "data.context=32", "data.held_out_fraction=.2", "tokens=4_000", "dict_size=64", "device=cpu", "model_rows=4",
    "train.batch_size=128", "train.shuffle_buffer=512", "train.held_out_tokens=128",
]  # fmt: skip


@pytest.fixture(scope="module")
def model_files(world, tmp_path_factory):
    """A GPT-NeoX of four blocks with the tokenizer of the other tests."""
    folder = tmp_path_factory.mktemp("pythia")
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=json.loads((world.model / "config.json").read_text())["vocab_size"], hidden_size=16,
        intermediate_size=40, num_hidden_layers=4, num_attention_heads=2, max_position_embeddings=64,
        initializer_range=0.3, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    GPTNeoXForCausalLM(config).save_pretrained(folder)
    tokenizer = {name: world.model / name for name in ("tokenizer.json", "tokenizer_config.json")}
    return {each.name: each.read_bytes() for each in [*folder.iterdir(), *tokenizer.values()]}


@pytest.fixture(scope="module")
def pile_files(world):
    texts = [each.read_text() for each in sorted(world.text.iterdir())]
    names = random.Random(0).choices(("Pile-CC", "GitHub"), k=len(texts))
    records = ({"text": text, "meta": {"pile_set_name": name}} for text, name in zip(texts * 4, names * 4, strict=True))
    lines = "".join(json.dumps(each) + "\n" for each in records).encode()
    return {
        "README.md": b"---\nlicense: other\n---\n",
        "train/00.jsonl.zst": zstandard.ZstdCompressor().compress(lines),
    }


def typed(*arguments, endpoint, home, offline="0"):
    about = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_OFFLINE": offline, "HF_HUB_DISABLE_XET": "1"}
    return subprocess.run(
        [sys.executable, "-m", "sae_cli", *arguments, "--quiet"],
        env={**os.environ, **about}, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip


def test_the_line_of_the_readme(model_files, pile_files, world, tmp_path):
    home, runs = tmp_path / "home", f"runs_dir={tmp_path / 'runs'}"
    line = ["train", "model=pythia70m", "layer=3", "data=pile", *SMALL]
    with loopback_hub({PILE: pile_files}, {PYTHIA: model_files}) as endpoint:
        trained = typed(*line, runs, endpoint=endpoint, home=home)
        assert trained.returncode == 0 and not trained.stderr, trained.stderr
        run = trained.stdout.strip()
        assert "/train/pythia70m/mlp_out.3/" in run
        small = ["eval.tokens=500", "features.tokens=500", "device=cpu", "model_rows=4"]
        evaluated = typed("eval", run, *small, "--json", endpoint=endpoint, home=home)
        assert evaluated.returncode == 0, evaluated.stderr
        report = json.loads(evaluated.stdout)["eval"]
        assert report["fvu"] > 0 and set(report["domains"]) == {"Pile-CC", "GitHub"}
        # The second time the model is in the cache: what the hub has of it no longer matters.
        revision = typed(*line, "model.revision=v1", runs, endpoint=endpoint, home=home)
        assert (revision.returncode, revision.stderr) == (0, "") and revision.stdout != trained.stdout
        missing = typed(*line, "model.revision=step1", runs, endpoint=endpoint, home=home)
        assert missing.returncode == 2 and missing.stderr.count("\n") == 1
        assert "expected a local folder or a model on the hub (revision step1)" in missing.stderr
    local = ["data=text", f"data.path={world.text}"]
    offline = typed(*line[:3], *local, *SMALL, runs, endpoint=NOWHERE, home=home, offline="1")
    assert (offline.returncode, offline.stderr) == (0, "")
    without = typed(*line, runs, "name=other", endpoint=NOWHERE, home=tmp_path / "empty", offline="1")
    assert without.returncode == 2 and without.stderr.count("\n") == 1 and "model.path=EleutherAI" in without.stderr


def test_a_model_without_safetensors_and_a_gated_one(model_files, tmp_path):
    pickled = {name.replace("model.safetensors", "pytorch_model.bin"): each for name, each in model_files.items()}
    models = {"org/old": pickled, "org/closed": model_files}
    with loopback_hub({}, models, gated="org/closed") as endpoint:
        for name, said in (("org/old", "model.path=org/old"), ("org/closed", "model.path=org/closed")):
            line = ["train", "model=hf", f"model.path={name}", "layer=1", *SMALL, f"runs_dir={tmp_path / 'runs'}"]
            done = typed(*line, endpoint=endpoint, home=tmp_path / "home")
            assert done.returncode in (1, 2) and said in done.stderr and done.stderr.count("\n") == 1, done.stderr
