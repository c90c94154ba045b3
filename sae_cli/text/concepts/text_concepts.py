"""Concepts of any text: by regular expressions, of which some are built in."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sae_cli.errors import RequestError
from sae_cli.text.concepts.python_source import Span

TEXT = {
    "word": ("a word of Latin letters", r"[A-Za-z]+"),
    "digits": ("a row of digits", r"\d+"),
    "capitalised": ("a word that begins with a capital letter and goes on in small ones", r"\b[A-Z][a-z]+\b"),
    "quoted": ("between double quotes in one line", r'"([^"\n]+)"|“([^”\n]+)”'),
    "sentence_start": (
        "the first word of a sentence or paragraph",
        r"(?:\A\s*|[.!?][\"')\]]*\s+|\n\s*\n\s*)([A-Za-z]+)",
    ),
    "url": ("an address on the web", r"(?:https?://|www\.)[^\s<>\"')]+"),
    "latex": ("a command of LaTeX, or what stands between its dollar signs", r"\\[A-Za-z]+|\$[^$\n]+\$"),
    "before_comma": ("a word before a comma", r"\b\w+(?=\s*,)"),
    "self": ("the word self", r"\bself\b"),
}
"""Names, definitions and patterns."""


class RegexConcept:
    """The matches of a pattern; of one with groups, the groups.

    Attributes:
        name: of the concept.

    Raises:
        RequestError: it is no regular expression.
    """

    def __init__(self, name: str, pattern: str) -> None:
        self.name = name
        try:
            self._pattern = re.compile(pattern, re.MULTILINE)
        except re.error as error:
            raise RequestError(f"labels=regex:{name}={pattern}: expected a regular expression: {error}") from error

    def spans(self, text: str) -> Iterator[Span]:
        """Where it holds, without what is empty."""
        groups = range(1, self._pattern.groups + 1) or (0,)
        for match in self._pattern.finditer(text):
            for group in groups:
                start, end = match.span(group)
                if start < end:
                    yield start, end
