"""What was trained, and on what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sae_cli.reports.sources import Subject
from sae_cli.reports.values import Section, Table
from sae_cli.reports.words import number

_OF_SETTINGS = {
    "model.name": "model",
    "model.path": "model files",
    "model.revision": "revision",
    "hook.point": "hook point",
    "hook.mode": "mode",
    "hook.path": "module",
    "hook.side": "side of the module",
    "layer": "layer",
    "data.path": "text",
    "data.name": "configuration of the text",
    "data.domains": "domains",
    "sae.architecture": "architecture",
    "dict_size": "features",
    "l1": "L1 coefficient",
    "k": "k",
    "tokens": "tokens asked for",
    "seed": "seed",
}


def headline(subject: Subject) -> str:
    """`relu, 2,048 features, of mlp_out.3 of demo`."""
    settings = subject.settings
    if not subject.has_dictionary:
        return f"a {subject.command} run"
    size = f"{settings.get('sae.architecture', 'a dictionary')}, {number(settings.get('dict_size'))} features"
    if "hook.point" not in settings or "model.path" not in settings:
        return size
    place = f"{settings['hook.point']}.{settings.get('layer', '')}"
    if "hook.path" in settings:
        place = f"{settings['hook.path']}.{settings['hook.side']}"
    return f"{size}, of {place} of {settings.get('model.name') or settings['model.path']}"


def about(subject: Subject) -> Section:
    """The settings that matter most, where it comes from, and everything else on demand."""
    manifest = subject.run.manifest
    made = [
        ("run", str(subject.run.directory)),
        ("command", f"sae {manifest.command}"),
        *_known(subject.settings),
        *((name.replace("_", " "), _text(value)) for name, value in manifest.facts.items() if name != "text"),
        *_read(manifest.facts.get("text")),
        ("settings hash", manifest.settings_hash),
        ("git commit", manifest.git_commit or "none"),
    ]
    parents = [(each.path, each.sha256) for each in manifest.parents]
    tables = [
        Table(rows=made),
        Table(rows=sorted(manifest.versions.items()), title="Versions", folded=True),
        Table(rows=_sorted(manifest.settings), title="All settings of this command", folded=True),
    ]
    if subject.settings is not manifest.settings:
        tables.append(Table(rows=_sorted(subject.settings), title="All settings of the training", folded=True))
    files = [(name, f"{each.bytes:,}", each.sha256) for name, each in sorted(manifest.files.items())]
    tables.append(Table(rows=files, header=("file", "bytes", "sha256"), title="Files", folded=True))
    if parents:
        tables.insert(1, Table(rows=parents, header=("made from", "sha256 of its manifest")))
    return Section(name="about", title="What was made", tables=tables)


def _read(text: Any) -> Iterator[tuple[str, str]]:
    """The text that was read, without its single files."""
    if isinstance(text, Mapping):
        shown = {key: text.get(key) for key in ("place", "version", "files", "bytes", "sha256", "hashed")}
        yield from ((f"text {key}", _text(value)) for key, value in shown.items() if value)


def _known(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, label in _OF_SETTINGS.items():
        if settings.get(key) not in (None, []):
            yield label, _text(settings[key])


def _sorted(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(key, _text(value)) for key, value in sorted(settings.items())]


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value)) or "none"
    return "none" if value is None else number(value)
