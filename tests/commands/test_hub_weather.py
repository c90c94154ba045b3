"""A hub that refuses, is busy, or breaks off, as trainings and imports meet it: one line, or a run that is whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.commands.hub_commands import Commands
from tests.text.loopback_hub import Fault, loopback_hub

SMALL = [
    "layer=1", "data.context=32", "data.held_out_fraction=.2", "tokens=2_000", "dict_size=64", "device=cpu",
    "model_rows=4", "train.batch_size=128", "train.shuffle_buffer=512", "train.held_out_tokens=128", "--quiet",
]  # fmt: skip
MODEL = ["model=hf", "model.path=org/model"]
REFUSED = {
    401: (2, "set HF_TOKEN"),
    403: (2, "the hub does not let anybody without a token do that"),
    429: (1, "the hub asks for fewer requests"),
    500: (1, "the hub cannot be reached"),
    503: (1, "the hub cannot be reached"),
}
"""The exit code and what is said, by the status of the hub's answer."""


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    served = Commands(tmp_path_factory.mktemp("said"))
    yield served
    served.close()


@pytest.fixture(scope="module")
def model_files(world):
    return {each.name: each.read_bytes() for each in world.model.iterdir()}


@pytest.fixture(scope="module")
def texts(world):
    lines = (json.dumps({"text": each.read_text()}) + "\n" for each in sorted(world.text.iterdir()))
    return {"README.md": b"---\nlicense: other\n---\n", "train.jsonl": "".join(lines).encode()}


@pytest.fixture
def typed(commands, model_files, texts, tmp_path):
    """Runs `sae` with these arguments, at a hub that has a model and a data set, with these faults."""

    def call(*arguments, faults=(), gated="", models=None, **environment):
        models = {"org/model": model_files} if models is None else models
        with loopback_hub({"org/texts": texts}, models, faults=faults, gated=gated) as address:
            about = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home"), "SAE_RUNS": str(tmp_path / "runs")}
            about |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0", "HF_TOKEN": ""}
            return commands(*arguments, **about | environment)

    return call


def refused(ended, code, *said):
    assert ended.returncode == code and not ended.stdout, ended
    assert ended.stderr.count("\n") == 1 and all(each in ended.stderr for each in said), ended.stderr


@pytest.mark.parametrize("status", REFUSED)
def test_a_model_that_the_hub_does_not_give(status, typed, world):
    code, said = REFUSED[status]
    faults = [Fault("org/model", status, {"Retry-After": "0"})]
    ended = typed("train", *MODEL, "data=text", f"data.path={world.text}", *SMALL, faults=faults)
    refused(ended, code, "model.path=org/model", said)
    assert status not in (429, 503) or faults[0].met > 2  # asked again


@pytest.mark.parametrize("status", REFUSED)
def test_a_data_set_that_the_hub_does_not_give(status, typed, world):
    code, said = REFUSED[status]
    model = ["model=hf", f"model.path={world.model}"]
    faults = [Fault("org/texts", status, {"Retry-After": "0"})]
    ended = typed("train", *model, "data=hf", "data.path=org/texts", *SMALL, faults=faults)
    refused(ended, code, "data.path=org/texts", said)


@pytest.mark.parametrize("status", REFUSED)
def test_a_dictionary_that_the_hub_does_not_give(status, typed):
    code, said = REFUSED[status]
    faults = [Fault("org/dictionary", status, {"Retry-After": "0"})]
    ended = typed("import", "hf:org/dictionary", "data=stdlib", "--quiet", faults=faults)
    refused(ended, code, "hf:org/dictionary", said)
    assert status not in (429, 503) or faults[0].met == 4


@pytest.mark.parametrize("what", ["model.safetensors", "train.jsonl"])
def test_a_download_that_breaks_off_is_taken_up(what, typed, tmp_path):
    fault = Fault(f"^GET .*{what}", 0, times=1)
    line = ["train", *MODEL, "data=hf", "data.path=org/texts", *SMALL]
    ended = typed(*line, faults=[fault])
    assert (ended.returncode, ended.stderr, fault.met) == (0, "", 1), ended.stderr
    broken = Path(ended.stdout.strip(), "sae.safetensors").read_bytes()
    whole = typed(*line, f"runs_dir={tmp_path / 'whole'}", HF_HOME=str(tmp_path / "other"))
    assert Path(whole.stdout.strip(), "sae.safetensors").read_bytes() == broken


def test_a_gated_model_and_a_gated_data_set(typed, world):
    text, model = ["data=text", f"data.path={world.text}"], ["model=hf", f"model.path={world.model}"]
    said = "asks for its terms to be accepted on the hub"
    refused(typed("train", *MODEL, *text, *SMALL, gated="org/model"), 2, "model.path=org/model", said)
    ended = typed("train", *model, "data=hf", "data.path=org/texts", *SMALL, gated="org/texts")
    refused(ended, 2, "data.path=org/texts", "is a gated dataset on the Hub")


def test_offline_without_a_cache(typed, world):
    model = ["model=hf", f"model.path={world.model}"]
    for line in ([*MODEL, "data=text", f"data.path={world.text}"], [*model, "data=hf", "data.path=org/texts"]):
        ended = typed("train", *line, *SMALL, HF_HUB_OFFLINE="1")
        refused(ended, 2, "org/")
