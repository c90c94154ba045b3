"""Whether two checkouts compute the same: every command on an embedded model, and each file to the byte.

    python tests/equal_runs.py BEFORE AFTER    # folders of checkouts; one Python has what both need

Files that hold times, places and versions (`manifest.json`, `metrics.jsonl`'s speed, pages) are compared without them.
The metadata in the header of a safetensors file is compared by itself, apart from tensors and their layout.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

SMALL = "train.shuffle_buffer=8_192 train.held_out_tokens=2_048 dict_size=256 tokens=20_480"
MEASURE = "eval.tokens=2_000 features.tokens=4_000"
BY_K, OTHERS = ("topk", "batch_topk", "matryoshka"), ("jump_relu", "gated", "logits", "truth")
COMMANDS = (
    "harvest model=demo-xs layer=1 tokens=20_480 name=h",
    f"train model=demo-xs layer=1 {SMALL} l1=1 name=relu",
    *(
        f"train model=demo-xs layer=1 {SMALL} sae={each} k=8 name={each}"
        for each in ("topk", "batch_topk", "matryoshka")
    ),
    f"train model=demo-xs layer=1 {SMALL} sae=jump_relu k=8 name=jump_relu train.save_at=[10]",
    f"train model=demo-xs layer=1 {SMALL} sae=gated l1=1 name=gated",
    f"train model=demo-xs hook=logit_update layer=1 {SMALL} l1=1 name=logits",
    f"train data=synthetic {SMALL} l1=1 name=truth",
    f"eval relu {MEASURE} baselines=[random] ablate=[1,2]",
    *(
        f"eval {each} {MEASURE}"
        for each in ("topk", "batch_topk", "matryoshka", "jump_relu", "gated", "logits", "truth")
    ),
    f"prune-high-freq relu top_n=10 recenter=true finetune_tokens=4_096 {MEASURE} name=pruned",
    f"compare a=relu b=pruned {MEASURE} name=compared",
    f"features relu {MEASURE} contexts.tokens=4_000",
    "randomize-weights model=demo-xs name=random",
    f"train model=run model.path=random layer=1 {SMALL} l1=1 name=of-random",
)
"""The runs are named, and a command names them by these names."""
TIMES = {"seconds", "tokens_per_second", "forward_tokens_per_second"}


def main() -> int:
    before, after = (Path(each).resolve() for each in sys.argv[1:])
    with TemporaryDirectory() as root:
        # Names of one length: places stand in headers, whose length counts.
        one, other = (_results(checkout, Path(root, name)) for checkout, name in ((before, "old"), (after, "new")))
    unlike = [name for name in sorted({*one, *other}) if one.get(name) != other.get(name)]
    for name in unlike:
        print("differs:" if name in one and name in other else "only before:" if name in one else "only after:", name)
    print(f"{len(one):,} files, {len(unlike):,} differ")
    return int(bool(unlike))


def _results(checkout: Path, folder: Path) -> dict[str, bytes]:
    """What the commands of a checkout leave, by the names of files below the folder of runs."""
    folder.mkdir()
    places: dict[str, str] = {}
    for command in COMMANDS:
        name = next((each.removeprefix("name=") for each in command.split() if each.startswith("name=")), "")
        printed = _run(checkout, folder, [_placed(each, places) for each in command.split()])
        if name:
            places[name] = printed
    found: dict[str, bytes] = {}
    for path in sorted((folder / "runs").rglob("*")):
        if not path.is_file() or path.name.startswith("."):
            continue
        name, content = path.relative_to(folder).as_posix(), _comparable(path, folder)
        if path.suffix == ".safetensors":
            found[f"{name} (metadata)"], content = _metadata_and_tensors(path.read_bytes(), folder)
        found[name] = content
    return found


def _metadata_and_tensors(content: bytes, folder: Path) -> tuple[bytes, bytes]:
    ends = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:ends])
    metadata = json.dumps(header.pop("__metadata__", {})).replace(str(folder), "")
    return metadata.encode(), json.dumps(header).encode() + content[ends:]


def _placed(word: str, places: dict[str, str]) -> str:
    key, equals, value = word.rpartition("=")
    return f"{key}{equals}{places[value]}" if key in ("", "a", "b", "model.path") and value in places else word


def _run(checkout: Path, folder: Path, words: list[str]) -> str:
    environment = os.environ | {"PYTHONPATH": str(checkout), "SAE_RUNS": str(folder / "runs"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-m", "sae_cli", *words, "device=cpu", "--quiet"]
    if words[0] == "randomize-weights":
        command.remove("device=cpu")
    ended = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    if ended.returncode:
        raise SystemExit(f"{checkout}: sae {' '.join(words)}: {ended.stderr}")
    return ended.stdout.strip()


def _comparable(path: Path, folder: Path) -> bytes:
    content = path.read_bytes().replace(str(folder).encode(), b"")
    if path.name == "manifest.json":
        about = json.loads(content)
        settings = {key: about.get(key) for key in ("command", "settings", "status")}
        return json.dumps([settings, sorted(about["files"]), _without_times(about["facts"])]).encode()
    if path.name == "metrics.jsonl":
        return json.dumps([_without_times(json.loads(line)) for line in content.splitlines()]).encode()
    return content


def _without_times(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key not in TIMES}


if __name__ == "__main__":
    sys.exit(main())
