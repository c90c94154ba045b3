"""What `labels=` names: which concepts there are, and how the tokens of a document get their labels."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import NamedTuple

import numpy as np

from sae_cli.errors import RequestError
from sae_cli.text.concepts.python_lexical import LEXICAL, lexical_spans
from sae_cli.text.concepts.python_roles import ROLES, role_spans
from sae_cli.text.concepts.python_source import PythonSource, Span
from sae_cli.text.concepts.text_concepts import TEXT, RegexConcept
from sae_cli.text.concepts.token_labels import TIE, TokenPlaces

PYTHON_PREFIX, TEXT_PREFIX, REGEX_PREFIX = "python", "text", "regex:"
_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_REGEX = re.compile(r"regex:([^=]*)=(.*)", re.DOTALL)

DEFINITIONS = {
    **{f"{PYTHON_PREFIX}.{name}": said for name, said in {**LEXICAL, **ROLES}.items()},
    **{f"{TEXT_PREFIX}.{name}": said for name, (said, _) in TEXT.items()},
}
"""The concepts that are built in, and what each of them is true of."""


class Labeller(NamedTuple):
    """The concepts that are asked for.

    Attributes:
        names: of the concepts.
        python: those of Python, without the prefix; of a document that is no Python no token has a label of theirs.
        regexes: the others.
    """

    names: tuple[str, ...]
    python: tuple[str, ...]
    regexes: tuple[RegexConcept, ...]

    def labels(self, text: str, n_bytes: np.ndarray) -> np.ndarray:
        """The labels of a document's tokens, int8 [n, concepts]: 1, 0, or `TIE` where there is none.

        Args:
            text: the document.
            n_bytes: bytes of it that each token stands for [n].
        """
        places = TokenPlaces(text, n_bytes)
        spans: dict[str, Sequence[Span]] = {each.name: [*each.spans(text)] for each in self.regexes}
        if self.python and (found := python_spans(text)) is not None:
            spans |= {f"{PYTHON_PREFIX}.{name}": found[name] for name in self.python}
        unknown = np.full(len(n_bytes), TIE, dtype=np.int8)
        return np.stack([places.labels(spans[name]) if name in spans else unknown for name in self.names], axis=1)


def python_spans(text: str) -> dict[str, list[Span]] | None:
    """Where each of Python's concepts holds in a source; None of what is no Python of this version."""
    source = PythonSource.of(text)
    return None if source is None else lexical_spans(source) | role_spans(source)


def labeller(labels: Sequence[str]) -> Labeller:
    """The concepts of these names: `python`, `python.param`, `text.url`, `regex:NAME=PATTERN`.

    Raises:
        RequestError: there is no such concept, or one is given twice.
    """
    names: list[str] = []
    regexes: list[RegexConcept] = []
    for label in labels:
        if label in (PYTHON_PREFIX, TEXT_PREFIX):
            names += [name for name in DEFINITIONS if name.startswith(f"{label}.")]
        elif label.startswith(REGEX_PREFIX):
            regexes.append(_regex(label))
            names.append(regexes[-1].name)
        elif label in DEFINITIONS:
            names.append(label)
        else:
            raise RequestError(f"labels={label}: no such concept{_nearest(label)}")
    if twice := [name for name in names if names.count(name) > 1]:
        raise RequestError(f"labels=[…] has {twice[0]} twice: give each concept once")
    built_in = [RegexConcept(name, TEXT[name.partition(".")[2]][1]) for name in names if name.startswith("text.")]
    python = tuple(name.partition(".")[2] for name in names if name.startswith("python."))
    return Labeller(tuple(names), python, (*built_in, *regexes))


def _regex(label: str) -> RegexConcept:
    found = _REGEX.fullmatch(label)
    if not found or not _NAME.fullmatch(found[1]) or not found[2]:
        raise RequestError(f"labels={label}: expected regex:NAME=PATTERN, with a name of letters, digits and . _ -")
    if found[1] in DEFINITIONS:
        raise RequestError(f"labels={label}: {found[1]} is a concept that is built in: choose another name")
    return RegexConcept(found[1], found[2])


def _nearest(label: str) -> str:
    close = get_close_matches(label, [*DEFINITIONS, PYTHON_PREFIX, TEXT_PREFIX], n=1)
    if close:
        return f": did you mean {close[0]}?"
    return "; there is python, text, each of theirs as python.param, regex:NAME=PATTERN, or a file that ends in .jsonl"


Label = Callable[[str, np.ndarray], np.ndarray]
"""From a document and the bytes of its tokens to their labels, int8 [n, concepts]."""
