"""The manifest: what a run is, what it was made from, and what it consists of.

Its last entry, `sha256`, is the hash of all bytes before it, so that a manifest notices its own damage.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import subprocess
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

from sae_cli.artifacts.files import FileRecord, damaged, read_bytes, write_bytes
from sae_cli.artifacts.json_document import check_length, parse_json
from sae_cli.documents import Facts
from sae_cli.errors import JobError
from sae_cli.escaping import brief

MANIFEST = "manifest.json"
CHECKPOINTS = "checkpoint"
"""The folder of what a run needs only until it is finished."""
SCHEMA_VERSION = 1
STATUSES = ("running", "complete", "failed")

_SEAL = re.compile(rb',\n  "sha256": "([0-9a-f]{64})"\n}\n')
_SEAL_BYTES = len(b',\n  "sha256": ""\n}\n') + 64
_SHA256 = re.compile(r"[0-9a-f]{64}")


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


_TYPES: dict[str, type] = {
    "command": str,
    "status": str,
    "settings": dict,
    "settings_hash": str,
    "reason": str,
    "facts": dict,
    "parents": list,
    "files": dict,
    "versions": dict,
    "git_commit": str,
    "schema_version": int,
}
"""What each entry of the document is."""


def write_manifest(directory: Path, manifest: Manifest) -> FileRecord:
    return write_bytes(directory / MANIFEST, seal(asdict(manifest)))


def seal(content: Facts) -> bytes:
    """A manifest's entries as the file that holds them: strict JSON, and the hash of its bytes as the last entry."""
    return sealed(json.dumps(content, indent=2, allow_nan=False).encode().removesuffix(b"\n}"))


def sealed(body: bytes) -> bytes:
    """A document that lacks its end, with the hash of its bytes as the last entry."""
    return body + f',\n  "sha256": "{hashlib.sha256(body).hexdigest()}"\n}}\n'.encode()


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a run directory.

    Raises:
        JobError: it is missing, is not a manifest or not as it was written, or has another schema version.
    """
    path = directory / MANIFEST
    if not path.is_file():
        raise JobError(f"{directory}: not a run directory: {MANIFEST} is missing")
    try:
        check_length(path.stat().st_size)
        content = parse_json(_unsealed(path, read_bytes(path, None, verify=False)))
    except ValueError as error:
        raise damaged(path, "a JSON manifest", str(error)) from error
    if "schema_version" not in content:  # what ends with `}` is an object
        raise damaged(path, "a manifest with a schema_version", "none")
    if content["schema_version"] != SCHEMA_VERSION:
        raise JobError(
            f"{path}: expected schema version {SCHEMA_VERSION}, found {brief(repr(content['schema_version']))}; "
            "read it with the version of sae that wrote it, or make the run again"
        )
    return _parse(path, content)


def _unsealed(path: Path, content: bytes) -> bytes:
    """The document without its last entry, once that was compared."""
    body, found = content[:-_SEAL_BYTES], _SEAL.fullmatch(content[-_SEAL_BYTES:])
    if found is None:
        raise damaged(path, "a manifest that ends with its sha256", "another end")
    if (actual := hashlib.sha256(body).hexdigest()) != found[1].decode():
        raise damaged(path, f"sha256 {found[1].decode()[:16]}…", f"{actual[:16]}…")
    return body + b"\n}"


def _parse(path: Path, content: dict[str, Any]) -> Manifest:
    if unknown := sorted(set(content) - set(_TYPES)):
        raise damaged(path, "known fields only", ", ".join(unknown))
    for name, kind in _TYPES.items():
        if name not in content:
            raise damaged(path, f"a complete manifest with {name}", "none")
        if type(content[name]) is not kind:
            raise damaged(path, f"{name} of type {kind.__name__}", type(content[name]).__name__)
    if content["status"] not in STATUSES:
        raise damaged(path, f"a status that is {', '.join(STATUSES)}", content["status"])
    if not all(isinstance(version, str) for version in content["versions"].values()):
        raise damaged(path, "versions as text", "another type")
    parents = [_parent(path, each) for each in content["parents"]]
    files = {name: _file(path, name, each) for name, each in content["files"].items()}
    return Manifest(**content | {"parents": parents, "files": files})


def _parent(path: Path, value: Any) -> Parent:
    match value:
        case {"path": str(place), "sha256": str(sha256)} if len(value) == 2:
            if place and "\0" not in place and _SHA256.fullmatch(sha256):
                return Parent(place, sha256)
    raise damaged(path, "a parent with path and sha256", repr(value))


def _file(path: Path, name: str, value: Any) -> FileRecord:
    if not _is_inside(name):
        raise damaged(path, "names of files in the run directory", name)
    match value:
        case {"bytes": int(n_bytes), "sha256": str(sha256)} if len(value) == 2:
            if type(n_bytes) is int and n_bytes >= 0 and _SHA256.fullmatch(sha256):
                return FileRecord(n_bytes, sha256)
    raise damaged(path, f"bytes and sha256 of {name}", repr(value))


def _is_inside(name: str) -> bool:
    """Whether it names a file below the directory, on any system, and one that can be shown."""
    parts = PurePosixPath(name).parts
    plain = name.isprintable() and not set(name) & set('\\:*?"<>|')
    return plain and name == "/".join(parts) and name != MANIFEST and parts != () and ".." not in parts


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
