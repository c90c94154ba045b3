"""The manifest: what a run is, what it was made from, and what it consists of."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from sae_cli.artifacts.files import FileRecord, damaged, read_bytes, write_json
from sae_cli.errors import JobError

MANIFEST = "manifest.json"
CHECKPOINTS = "checkpoint"
"""The folder of what a run needs only until it is finished."""
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Parent:
    """Another run that was read: where it was, and the hash of its manifest."""

    path: str
    sha256: str


@dataclass(kw_only=True)
class Manifest:
    """The content of `manifest.json`.

    Attributes:
        command: `harvest`, `train`, `eval` …
        status: `running`, `complete` or `failed` (then `reason` says why).
        settings: every result-affecting setting, flattened; two runs are the same if these are.
        settings_hash: sha256 of `settings` as canonical JSON.
        facts: what the command found out: tokens, seeds, positions, throughput, wall time …
        parents: the runs that were read.
        files: every file of the run but the manifest.
        versions: of the tool and of the libraries that computed.
    """

    command: str
    status: str
    settings: dict[str, Any]
    settings_hash: str
    reason: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    parents: list[Parent] = field(default_factory=list)
    files: dict[str, FileRecord] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    git_commit: str = ""
    schema_version: int = SCHEMA_VERSION


def write_manifest(directory: Path, manifest: Manifest) -> FileRecord:
    return write_json(directory / MANIFEST, asdict(manifest))


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a run directory.

    Raises:
        JobError: it is missing, is not a manifest, or has another schema version.
    """
    path = directory / MANIFEST
    if not path.is_file():
        raise JobError(f"{directory}: not a run directory: {MANIFEST} is missing")
    try:
        content = json.loads(read_bytes(path, None, verify=False))
    except ValueError as error:
        raise damaged(path, "a JSON manifest", str(error)) from error
    if not isinstance(content, dict) or "schema_version" not in content:
        raise damaged(path, "a manifest with a schema_version", type(content).__name__)
    if content["schema_version"] != SCHEMA_VERSION:
        raise JobError(
            f"{path}: expected schema version {SCHEMA_VERSION}, found {content['schema_version']!r}; "
            "read it with the version of sae that wrote it, or make the run again"
        )
    return _parse(path, content)


def _parse(path: Path, content: dict[str, Any]) -> Manifest:
    known = {f.name for f in fields(Manifest)}
    if unknown := sorted(set(content) - known):
        raise damaged(path, "known fields only", f"{', '.join(unknown)}")
    try:
        content["parents"] = [Parent(**parent) for parent in content["parents"]]
        content["files"] = {name: FileRecord(**record) for name, record in content["files"].items()}
        return Manifest(**content)
    except (TypeError, KeyError, AttributeError) as error:
        raise damaged(path, "a complete manifest", str(error)) from error


def settings_hash(settings: Mapping[str, Any]) -> str:
    """sha256 of the settings as canonical JSON."""
    canonical = json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def library_versions() -> dict[str, str]:
    """Versions of the tool, of Python and of the libraries whose numerics matter."""
    packages = ("sae-cli", "torch", "transformers", "datasets", "safetensors", "numpy")
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in packages}


def git_commit() -> str:
    """The commit of the current directory's checkout (with `+dirty` where it has changes), or nothing."""
    try:
        commit = _git("rev-parse", "HEAD")
        return commit + ("+dirty" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=10).stdout.strip()
