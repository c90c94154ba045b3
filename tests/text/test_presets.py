"""The presets of data open what they name: every codec of their files is installed."""

import gzip
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
import zstandard

from tests.text.loopback_hub import loopback_hub

ROOT = Path(__file__).parents[2]
PRESETS = {
    file.stem: preset
    for file in sorted((ROOT / "conf" / "data").glob("*.yaml"))
    if "base_hf" in (preset := yaml.safe_load(file.read_text()))["defaults"] and preset["path"] != "???"
}
PARQUET = ("none", "snappy", "zstd", "gzip", "brotli", "lz4")

READ = """
import json, sys
from sae_cli.config.split import Split
from sae_cli.text.hub import HubCorpus
from sae_cli.text.provenance import data_set_version
found = {}
for name, data in json.load(sys.stdin).items():
    place, column, domain = (data["path"], data.get("subset", "")), data["column"], data.get("domain", "")
    whole = HubCorpus(*place, "train", column, domain, None, 1000, 0.3)
    passes = [(Split.train, 0), (Split.train, 1), (Split.held_out, 0)]
    found[name] = [[each._asdict() for each in whole.documents(split, seed)] for split, seed in passes]
    found[name].append(data_set_version(*place, None))
json.dump(found, sys.stdout)
"""


def test_presets_are_known():
    assert set(PRESETS) == {"pile", "fineweb"}


def test_codecs_are_dependencies():
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {"pyarrow", "zstandard"} <= {each.split(">")[0] for each in needed}


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """What each preset reads of a hub that has its data sets with one file of each kind."""
    folder = tmp_path_factory.mktemp("hub")
    with loopback_hub({"monology/pile-uncopyrighted": pile(), "HuggingFaceFW/fineweb": fineweb(folder)}) as address:
        done = subprocess.run(
            [sys.executable, "-c", READ],
            input=json.dumps({name: without(preset, "defaults") for name, preset in PRESETS.items()}),
            env={**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "0"},
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def without(mapping, key):
    return {name: value for name, value in mapping.items() if name != key}


def lines(kind):
    records = ({"text": f"{kind} {i}", "meta": {"pile_set_name": kind}} for i in range(30))
    return "".join(json.dumps(each) + "\n" for each in records).encode()


PILE = {"jsonl": bytes, "zst": zstandard.ZstdCompressor().compress, "gz": gzip.compress}


def pile():
    """As the Pile is kept, and in the other ways of lines."""
    files = {f"train/{kind}.jsonl.{kind}".replace(".jsonl.jsonl", ".jsonl"): PILE[kind](lines(kind)) for kind in PILE}
    return {"README.md": b"---\nlicense: other\n---\n", "test.jsonl.zst": PILE["zst"](lines("test")), **files}


def fineweb(folder):
    card = "---\nconfigs:\n- config_name: default\n  data_files: data/*\n- config_name: sample-10BT\n"
    files = {"README.md": (card + "  data_files: sample/10BT/*\n---\n").encode()}
    for kind in PARQUET:
        table = pa.table({"text": [f"{kind} {i}" for i in range(30)], "id": list(range(30))})
        pq.write_table(table, folder / "part.parquet", compression=kind)
        files[f"sample/10BT/{kind}.parquet"] = (folder / "part.parquet").read_bytes()
    return {**files, "data/other.parquet": files["sample/10BT/none.parquet"]}


@pytest.mark.parametrize(("preset", "kinds"), [("pile", tuple(PILE)), ("fineweb", PARQUET)])
def test_a_preset_reads_every_kind_of_file(read, preset, kinds):
    train, reordered, held_out, version = read[preset]
    assert sorted(each["text"] for each in train + held_out) == sorted(
        f"{kind} {i}" for kind in kinds for i in range(30)
    )
    assert {each["domain"] for each in train} == (set(kinds) if preset == "pile" else {""})
    assert "c" * 40 in version
    # Keys are of one document each, and neither they nor the split depend on the order.
    keys = {each["key"]: each["text"] for each in train + held_out}
    assert len(keys) == 30 * len(kinds) and held_out
    assert {each["key"]: each["text"] for each in reordered + held_out} == keys
    assert [each["key"] for each in train] != [each["key"] for each in reordered]
