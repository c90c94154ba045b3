"""Text that others wrote, made safe to show: one line, and nothing in it that a terminal would obey or hide."""

from __future__ import annotations


def visible(text: str) -> str:
    """The text with everything that does not print shown as an escape, as Python writes it in a string.

    That is control characters, line ends and tabs, bidirectional and zero-width format characters, line and paragraph
    separators, spaces but the ordinary one, private and unassigned characters, and lone surrogates.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def brief(text: str, most: int = 200) -> str:
    """The beginning of `visible(text)`, for a message that quotes what may be long."""
    return visible(text) if len(text) <= most else f"{visible(text[:most])}…"
