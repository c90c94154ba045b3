"""The card of a dictionary on the hub: `README.md`, for people, and the metadata that the hub reads at its top.

It is a function of the run alone: the same run makes the same bytes.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath

from sae_cli.config.data import HfData
from sae_cli.config.paths import absolute, is_absolute
from sae_cli.dictionaries.card import Card
from sae_cli.dictionaries.files import DICTIONARY_FILE
from sae_cli.escaping import visible
from sae_cli.evaluation.evaluate_table import result
from sae_cli.models.sources import is_hub_id
from sae_cli.reports.sources import Subject
from sae_cli.runs.dictionary_run import DictionaryRun
from sae_cli.runs.published import SAELENS

_LIBRARY = "sae-cli"
_NOT_SHOWN = ("run", "evaluation")
"""Rows of an evaluation's table that say where it lies on this machine."""
_TAGS = ("sparse-autoencoder", "dictionary-learning", "mechanistic-interpretability")
_MARKDOWN = re.compile(r"([\\`*_\[\]|#~])")


def hub_card(name: str, source: DictionaryRun, found: Subject, folded: Sequence[str] | None) -> str:
    """The card of a run.

    Args:
        name: of the repository.
        source: the run.
        found: the same, with its evaluations.
        folded: what was folded for SAELens, whose files lie beside the run; None where there are none.
    """
    lines = [
        *_metadata(source.card, folded is not None),
        f"# {_text(_title(source))}",
        "",
        *_table(_about(source), ("", "")),
        *_figures(source, found),
        *_loading(name, folded),
        *_settings(found),
        "",
        f"Made by `{_LIBRARY}` {_code(found.run.manifest.versions.get(_LIBRARY, ''))}.".replace(" ``", ""),
    ]
    return "\n".join(lines) + "\n"


def _title(source: DictionaryRun) -> str:
    card, shape = source.card, source.run.read_header(DICTIONARY_FILE).tensors["W_enc"].shape
    size = f"{source.architecture()}, {shape[0]:,} features"
    if card.model is None or card.wiring is None or card.truth:
        return f"{size} of synthetic activations" if card.truth else size
    return f"{size} of {_places(card)} of {_model_name(card)}"


def _places(card: Card) -> str:
    assert card.wiring is not None
    reads, writes = (" and ".join(each.label for each in sites) for sites in card.wiring)
    return reads if reads == writes else f"{reads} to {writes}"


def _model_name(card: Card) -> str:
    assert card.model is not None
    return card.model.name or (PurePath(card.model.path).name if card.model.path.startswith("/") else card.model.path)


def _metadata(card: Card, saelens: bool) -> Iterator[str]:
    yield from ("---", f"library_name: {_LIBRARY}", "tags:")
    yield from (f"- {each}" for each in (*_TAGS, *([SAELENS] if saelens else [])))
    if card.model is not None and not card.truth and _is_on_the_hub(card.model.path):
        yield f"base_model: {json.dumps(card.model.path)}"
    if isinstance(card.data, HfData) and _is_on_the_hub(card.data.path):
        yield from ("datasets:", f"- {json.dumps(card.data.path)}")
    yield from ("---", "")


def _is_on_the_hub(path: str) -> bool:
    return is_hub_id(path) and "/" in path and not is_absolute(absolute(path))


def _about(source: DictionaryRun) -> Iterator[tuple[str, str]]:
    card, shape = source.card, source.run.read_header(DICTIONARY_FILE).tensors["W_enc"].shape
    yield "architecture", source.architecture()
    yield "features", f"{shape[0]:,}"
    yield "width of the activations", f"{shape[1]:,}"
    if card.model is not None and not card.truth:
        revision = f" at {card.model.revision}" if card.model.revision else ""
        yield "model", f"{_place(card.model.path)}{revision}, in {card.model.dtype.value}"
    if card.wiring is not None and not card.truth:
        yield "hook point and layer", _places(card)
    if card.data is not None:
        path, name = getattr(card.data, "path", None), type(card.data).__name__.removesuffix("Data").lower()
        yield "text", f"{name} {_place(path)}" if isinstance(path, str) else name
    if card.tokens is not None:
        yield "trained on", f"{card.tokens:,} activations"
    for key, value in card.provenance.items():
        yield key.replace("_", " "), _place(value)


def _figures(source: DictionaryRun, found: Subject) -> Iterator[str]:
    yield from ("", "## Figures", "")
    if not found.evaluations:
        yield "Not evaluated yet: `sae eval` measures it."
        return
    evaluation = found.evaluations[0].run
    shown = result(source, evaluation)
    yield "Of held-out text; ± is one standard error, and the interval of 95 % is in brackets."
    yield ""
    rows = [row for row in shown.table if row[0] not in _NOT_SHOWN]
    yield from _table(rows, shown.header or ("", ""))


def _loading(name: str, folded: Sequence[str] | None) -> Iterator[str]:
    local = f"runs/pull/{name.replace('/', '-')}"
    yield from ("", "## How to load it", "", "With `sae`, as a run that every command takes:", "")
    yield from (
        "```",
        f"pip install {_LIBRARY}",
        f"sae pull hf:{name}",
        f"sae eval {local}",
        "```",
        "",
        "In Python:",
        "",
    )
    yield from ("```python", "import sae_cli", "", f'dictionary = sae_cli.load("{local}")')
    yield from ("f = dictionary.encode(x)  # x [tokens, width], the activations as the model has them", "```", "")
    if folded is None:
        yield "SAELens has no dictionaries of this kind."
        return
    yield from ("In SAELens:", "", "```python", "from sae_lens import SAE", "")
    yield from (f'sae = SAE.from_pretrained("{name}", "{SAELENS}")', "```")
    if folded:
        yield from ("", f"For SAELens was folded: {_text('; '.join(folded))}.")


def _settings(found: Subject) -> Iterator[str]:
    manifest = found.run.manifest
    of_both = {"All settings": found.settings}
    if found.settings is not manifest.settings:
        of_both = {
            "All settings of the training": found.settings,
            f"Settings of sae {manifest.command}": manifest.settings,
        }
    yield from ("", "## Settings")
    for title, settings in of_both.items():
        yield from ("", f"<details><summary>{html.escape(title)}</summary>", "")
        yield from _table(((key, _value(each)) for key, each in sorted(settings.items())), ("setting", "value"))
        yield from ("", "</details>")


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return json.dumps(value, sort_keys=True)
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return _place(value) if isinstance(value, str) else json.dumps(value)


def _place(text: str) -> str:
    """A text as it is; of a path of this machine, which says nothing to others, the last part."""
    return f"{PurePath(text).name} (a path of the machine that it was made on)" if text.startswith("/") else text


def _table(rows: Iterator[tuple[str, str]] | Sequence[Sequence[str]], header: Sequence[str]) -> Iterator[str]:
    yield f"| {' | '.join(map(_text, header))} |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield f"| {' | '.join(_text(cell) for cell in (*row, *[''] * (len(header) - len(row))))} |"


def _text(text: str) -> str:
    """Text that markdown shows as it is: one line, nothing in it read as markup."""
    return _MARKDOWN.sub(r"\\\1", html.escape(visible(text), quote=False))


def _code(text: str) -> str:
    return visible(text).replace("`", "'")
