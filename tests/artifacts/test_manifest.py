"""Manifests: they notice their own damage, and a forged one is refused in one line."""

import json

import pytest
import torch

from sae_cli.artifacts.manifest import MANIFEST, read_manifest, seal
from sae_cli.artifacts.run_directory import open_run
from sae_cli.errors import JobError

HASH = "0" * 64


@pytest.fixture
def directory(tmp_path):
    with open_run(tmp_path / "run", "train", {"l1": 1.0}) as claimed:
        claimed.write_tensors("a.safetensors", {"x": torch.arange(6.0)})
        return claimed.finish(tokens=7).directory


def content(directory):
    """The entries that are sealed."""
    entries = json.loads((directory / MANIFEST).read_text())
    del entries["sha256"]
    return entries


def nested(depth):
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: {k: v for k, v in m.items() if k != "schema_version"}, "a schema_version, found none"),
        (lambda m: m | {"schema_version": 99}, "expected schema version 1, found 99"),
        (lambda m: m | {"surprise": 1}, "expected known fields only, found surprise"),
        (lambda m: m | {"x" * 900: 1}, "found x{200}…;"),
        (lambda m: m | {"a\nb\x1b[2J": 1}, r"found a\\nb\\x1b\[2J;"),
        (lambda m: {k: v for k, v in m.items() if k != "command"}, "expected a complete manifest with command"),
        (lambda m: m | {"status": "done"}, "expected a status that is running, complete, failed, found done"),
        (lambda m: m | {"facts": []}, "expected facts of type dict, found list"),
        (lambda m: m | {"schema_version": True}, "expected schema_version of type int, found bool"),
        (lambda m: m | {"versions": {"torch": 2}}, "expected versions as text"),
        (lambda m: m | {"facts": {"tokens": 10**30}}, "an integer of more than 64 bits"),
        (lambda m: m | {"facts": {"x": nested(40)}}, "more than 32 levels of nesting"),
        (lambda m: m | {"facts": {"x": "\ud800"}}, "surrogates not allowed"),
        (lambda m: m | {"facts": {"x": [[]] * 200_000}}, r"400,\d+ values in [\d,]+ bytes"),
        (lambda m: m | {"facts": {"x": "x" * 9_000_000}}, r"more than 8,388,608"),
        (lambda m: m | {"parents": ["/a"]}, "expected a parent with path and sha256, found '/a'"),
        (lambda m: m | {"parents": [{"path": "a\0b", "sha256": HASH}]}, "expected a parent with path and sha256"),
        (lambda m: m | {"files": {"x": {"bytes": -1, "sha256": HASH}}}, "expected bytes and sha256 of x"),
        (lambda m: m | {"files": {"x": {"bytes": 1.0, "sha256": HASH}}}, "expected bytes and sha256 of x"),
        (lambda m: m | {"files": {"x": {"bytes": True, "sha256": HASH}}}, "expected bytes and sha256 of x"),
        (lambda m: m | {"files": {"x": {"bytes": 1, "sha256": HASH[1:]}}}, "expected bytes and sha256 of x"),
    ],
)
def test_a_forged_manifest_is_refused(directory, change, says):
    (directory / MANIFEST).write_bytes(seal(change(content(directory))))
    with pytest.raises(JobError, match=says) as caught:
        read_manifest(directory)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/passwd", "a/../../x", "a//b", "./a", "a/", "", ".", "..", "a\0", "a\nb", "..\\x", "C:x", MANIFEST],
)
def test_a_manifest_names_no_file_outside_the_run(directory, name):
    forged = content(directory) | {"files": {name: {"bytes": 1, "sha256": HASH}}}
    (directory / MANIFEST).write_bytes(seal(forged))
    with pytest.raises(JobError, match="expected names of files in the run directory, found"):
        read_manifest(directory)


def test_every_flipped_bit_is_found(directory):
    path = directory / MANIFEST
    written = path.read_bytes()
    assert json.loads(written)["sha256"]
    for place in range(len(written)):
        damage = bytearray(written)
        damage[place] ^= 1 << place % 8
        path.write_bytes(damage)
        with pytest.raises(JobError, match="damaged file"):
            read_manifest(directory)


@pytest.mark.parametrize("text", ["", "{}", "[1]", "{" * 100_000])
def test_a_manifest_without_its_hash_is_refused(directory, text):
    (directory / MANIFEST).write_text(text)
    with pytest.raises(JobError, match="expected a manifest that ends with its sha256, found another end"):
        read_manifest(directory)
