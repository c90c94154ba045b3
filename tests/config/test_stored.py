"""Stored configurations: what is written is read; what a stranger writes is neither resolved nor run."""

import time
import tracemalloc
from pathlib import Path

import pytest

from sae_cli.config.commands.train import TrainConfig
from sae_cli.config.compose import Composer, typed
from sae_cli.config.paths import with_absolute_paths
from sae_cli.config.stored import CONFIG_FILE, as_yaml, parse_config, read_config
from sae_cli.errors import JobError, RequestError
from tests.known import the

TEXT = as_yaml(typed(Composer().compose("train", []).settings))


def refusal(text, error: type[Exception] = JobError):
    with pytest.raises(error) as caught:
        parse_config(Path("a/config.yaml"), text if isinstance(text, bytes) else text.encode(), "train")
    assert str(caught.value).startswith("a/config.yaml: ") and str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize("command", ["train", "harvest", "randomize-weights", "compare", "prune-high-freq", "eval"])
def test_every_command_is_read_as_it_was_written(command):
    needed = {"compare": ["a=/x", "b=/y"], "prune-high-freq": ["run=/x", "top_n=3"], "eval": ["run=/x"]}
    overrides = [*needed.get(command, []), "runs_dir='12:30'", "name=no"]
    if command in ("train", "harvest"):
        overrides += ["data=text", "data.path='/a: b # c/[d]*{e}.txt'", "model.revision='2020-01-01'"]
    config = typed(Composer().compose(command, overrides).settings)
    assert parse_config(Path("config.yaml"), as_yaml(config).encode(), command) == with_absolute_paths(config)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("name: ${oc.env:HOME}", "an interpolation, ${oc.env:HOME}"),
        ("name: ${seed}", "an interpolation"),
        ("name: [&a [x], *a]", "an anchor or alias"),
        ("name: !!python/object/apply:os.system [id]", "a tag"),
        ("name: !!str x", "a tag"),
        ("<<: {}", "keys that are not text, each once"),
        ("? [a]\n: b", "keys that are not text, each once"),
        ("seed: 1\nseed: 2", "keys that are not text, each once"),
        ("1: x", "the key 1, which is no text"),
        ("name: " + "[" * 20 + "]" * 20, "more than 16 levels of nesting"),
        ("name: " + "[" * 50_000, "more than 16 levels of nesting"),
        ("name: 2020-13-45", "month must be in 1..12"),
        ("name: 2020-10-10", "a date"),
        ("name: .nan", "nan, which is no finite number"),
        ("name: .inf", "inf, which is no finite number"),
        ("name: " + "9" * 30, "an integer of more than 64 bits"),
        ("name: " + "9" * 5000, "4300"),
        ("name: " + "x" * 300_000, "bytes, more than 262,144"),
        ("name: 'x", "found unexpected end of stream"),
        ("\0", "special characters are not allowed"),
        (b"\xff", "utf-8"),
    ],
)
def test_yaml_that_is_no_plain_values(line, says):
    text = TEXT.encode() + (line if isinstance(line, bytes) else line.encode())
    message = refusal(text.replace(b"name: null\n", b"") if b"name" in text[len(TEXT) :] else text)
    assert "expected a configuration in YAML, found: " in message and says in message


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("schema_version: 1", "schema_version: 2", "expected schema version 1, found 2"),
        ("schema_version: 1", "schema_version: true", "expected schema version 1, found True"),
        ("schema_version: 1", "schema_version: 1\nsurprise: 1", "not a train configuration: Key 'surprise'"),
        ("seed: 0", "seed: many", "not a train configuration: Value 'many'"),
        ("layer: 2", "layer: -7", "not a train configuration: layer=-7: expected at least -1"),
        ("layer: 2", "layer: ???", "not a train configuration"),
        ("schema: relu", "schema: nonsense", "not a train configuration"),
        ("schema: relu", "schema: [relu]", "not a train configuration"),
    ],
)
def test_a_configuration_that_is_none(old, new, says):
    assert says in refusal(TEXT.replace(old, new, 1))


@pytest.mark.parametrize("text", ["", "[1]", "x", "null", "1"])
def test_a_document_of_another_kind(text):
    assert "expected schema version 1, found None" in refusal(text)


def test_laughs_cost_nothing():
    """Nine levels of nine aliases each would be half a billion strings."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
    tracemalloc.start()
    started = time.perf_counter()
    assert "an anchor or alias" in refusal("\n".join(lines))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20 and time.perf_counter() - started < 1


def test_the_environment_is_not_read(monkeypatch):
    monkeypatch.setenv("SECRET", "hunter2")
    for text in (
        TEXT.replace("name: demo", "name: ${oc.env:SECRET}"),
        TEXT.replace("seed: 0", "seed: ${oc.env:SECRET}"),
    ):
        assert "hunter2" not in refusal(text)


def test_code_of_a_model_is_run_only_by_whom_asks_for_it_himself(monkeypatch):
    text = TEXT.replace("trust_remote_code: false", "trust_remote_code: true")
    message = refusal(text, RequestError)
    assert "found model.trust_remote_code=true for embedded:demo; read that code" in message
    assert "set SAE_TRUST_REMOTE_CODE=1 in the environment" in message
    monkeypatch.setenv("SAE_TRUST_REMOTE_CODE", "1")
    config = the(TrainConfig, parse_config(Path("config.yaml"), text.encode(), "train"))
    assert config.model.trust_remote_code


def test_a_file_that_is_not_there_or_too_large(tmp_path):
    with pytest.raises(JobError, match=r"config\.yaml: expected a configuration in YAML, found: No such file"):
        read_config(tmp_path, "train")
    with open(tmp_path / CONFIG_FILE, "wb") as file:
        file.truncate(2**40)
    with pytest.raises(JobError, match="262,145 bytes, more than 262,144"):
        read_config(tmp_path, "train")
