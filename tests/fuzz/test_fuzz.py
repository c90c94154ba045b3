"""Whatever is in a file, a reader gives a value or one line; and with hashes compared, only the value that was written.

The slow tier runs thousands of mutated files (`FUZZ_INPUTS=24000` for more) in a process of its own, whose memory and
time are bounded input by input.
"""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import mutate
from subjects import SUBJECTS, F, empty_manifest, forge, make_runs, same

from sae_cli.artifacts.json_document import parse_json
from sae_cli.artifacts.manifest import MANIFEST, read_manifest, seal, sealed
from sae_cli.artifacts.safetensors_header import read_header
from sae_cli.artifacts.stored_run import read_run
from sae_cli.artifacts.tensors import map_tensor, read_metadata, read_tensors
from sae_cli.config.stored import parse_config
from sae_cli.dictionaries.files import DICTIONARY_FILE, load_dictionary
from sae_cli.errors import SaeError

MANY = settings(
    max_examples=200, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
FEW = settings(MANY, max_examples=60)
CHECKED = [name for name, subject in SUBJECTS.items() if subject.checked]

NUMBERS = st.one_of(st.integers(-2, 40), st.integers(-(2**70), 2**70), st.floats())
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=8)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "I64", "BOOL", "F8_E4M3", "F99"]) | VALUES,
        "shape": st.lists(st.integers(0, 4) | NUMBERS, max_size=4) | VALUES,
        "data_offsets": st.lists(st.integers(0, 64) | NUMBERS, min_size=2, max_size=2) | VALUES,
        "other": VALUES,
    },
)
HEADERS = st.dictionaries(st.sampled_from(["x", "W_enc", "__metadata__"]) | st.text(max_size=4), ENTRIES | VALUES)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    make_runs(root)
    return root


def attempt(read, *arguments):
    """The value, or nothing where one line says why not."""
    try:
        return read(*arguments)
    except SaeError as error:
        assert str(error).isprintable() and len(str(error)) < 2000
        return None


@pytest.mark.parametrize("name", CHECKED)
def test_every_damaged_byte_is_noticed(runs, name):
    """One bit of each byte (of a few hundred of them), and every kind of accident."""
    subject, rng = SUBJECTS[name], random.Random(0)
    path = runs / subject.run / subject.file
    written, value = path.read_bytes(), subject.read(runs / subject.run, True)
    damages = [mutate(written, rng) for _ in range(30)]
    for place in rng.sample(range(len(written)), min(len(written), 60)):
        damage = bytearray(written)
        damage[place] ^= 1 << rng.randrange(8)
        damages.append(bytes(damage))
    try:
        for damage in damages:
            path.write_bytes(damage)
            found = attempt(subject.read, runs / subject.run, True)
            assert found is None or (damage == written and same(found, value))
    finally:
        path.write_bytes(written)


@FEW
@given(header=HEADERS, body=st.binary(max_size=64), lie=st.sampled_from([0, 0, 0, -1, 1, 2**40]))
def test_any_header(tmp_path, header, body, lie):
    text = json.dumps(header).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(((len(text) + lie) % 2**64).to_bytes(8, "little") + text + body)
    known = attempt(read_header, path)
    assert (attempt(read_tensors, path) is None) == (known is None)
    attempt(read_metadata, path)
    attempt(map_tensor, path, "x")


@FEW
@given(field=st.sampled_from([*empty_manifest(), "surprise"]), value=VALUES | st.lists(ENTRIES))
def test_any_manifest(tmp_path, field, value):
    text = json.dumps(empty_manifest() | {field: value}, indent=2)
    body = text.removesuffix("\n}").encode()
    (tmp_path / MANIFEST).write_bytes(sealed(body))
    attempt(read_manifest, tmp_path)


@MANY
@given(name=st.text(max_size=12) | st.sampled_from(["../x", "/x", "a/b", "a/../b", "~"]))
def test_any_file_name(tmp_path, name):
    record = {"bytes": 1, "sha256": "0" * 64}
    (tmp_path / MANIFEST).write_bytes(seal(empty_manifest() | {"files": {name: record}}))
    manifest = attempt(read_manifest, tmp_path)
    if manifest is not None:
        assert (tmp_path / name).resolve().is_relative_to(tmp_path.resolve()) and (tmp_path / name) != tmp_path


@MANY
@given(content=st.binary(max_size=80) | st.text(alphabet="{}[]:,-?&*!<>|'\"%@#\n \t0123456789abe.", max_size=80))
def test_any_yaml(content):
    content = content.encode() if isinstance(content, str) else content
    attempt(parse_config, Path("config.yaml"), content, "train")


@FEW
@given(
    key=st.sampled_from(["model", "hook", "data", "sae", "train", "resample", "layer", "l1", "tokens", "name", "seed"]),
    inner=st.sampled_from(["", "schema", "path", "lr", "at", "dtype", "d"]),
    value=VALUES,
)
def test_any_setting(runs, key, inner, value):
    plain = yaml.safe_load((runs / "relu" / "config.yaml").read_text())
    if inner and isinstance(plain[key], dict):
        plain[key][inner] = value
    else:
        plain[key] = value
    attempt(parse_config, Path("config.yaml"), json.dumps(plain).encode(), "train")


@FEW
@given(seed=st.integers(0, 2**32))
def test_any_dictionary(runs, seed):
    """Forged: the manifest's hash is right, the numbers may be anything."""
    directory, rng = runs / "topk", random.Random(seed)
    path, manifest = directory / DICTIONARY_FILE, (directory / MANIFEST).read_bytes()
    written = path.read_bytes()
    damage = bytearray(written)
    start = int.from_bytes(written[:8], "little") + 8
    for _ in range(rng.randint(1, 8)):
        damage[rng.randrange(start, len(damage))] = rng.choice((0, 0x7F, 0x80, 0xC0, 0xFF, rng.randrange(256)))
    path.write_bytes(damage)
    forge(directory, DICTIONARY_FILE, bytes(damage))
    try:
        dictionary = attempt(lambda: load_dictionary(read_run(directory)))
        assert dictionary is None or all(t.isfinite().all() for t in dictionary.tensors().values())
        assert dictionary is None or 1 <= int(dictionary.get_buffer("k")) <= F
    finally:
        path.write_bytes(written)
        (directory / MANIFEST).write_bytes(manifest)


@MANY
@given(st.binary(max_size=60) | st.text(alphabet='{}[]:,"\\u0123456789eE+-. nulltrefasdc', max_size=60))
def test_any_json(content):
    content = content.encode() if isinstance(content, str) else content
    try:
        value = parse_json(content)
    except ValueError:
        return
    assert json.loads(json.dumps(value, allow_nan=False)) == value


@pytest.mark.slow
def test_mutated_files():
    script, n = Path(__file__).with_name("run.py"), int(os.environ.get("FUZZ_INPUTS", "6000"))
    done = subprocess.run([sys.executable, str(script), "--inputs", str(n)], capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0, done.stderr
    assert f"{n:,} inputs" in done.stdout
