"""JSON of strangers: what is no strict JSON, or would take more memory than it is worth, is refused."""

import json
import tracemalloc

import pytest

from sae_cli.artifacts.json_document import MAX_BYTES, parse_json

MEBIBYTE = 1 << 20


def test_what_is_written_is_read():
    value = {"a": [1, 2.5, None, True, "ü", -(2**63)], "b": {"c": []}}
    assert parse_json(json.dumps(value, indent=2).encode()) == value
    assert parse_json(json.dumps(value, ensure_ascii=False).encode()) == value


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "Expecting value"),
        ("NaN", "NaN, which is no JSON"),
        ('{"a": -Infinity}', "-Infinity, which is no JSON"),
        ("1e999", "a number beyond all bounds"),
        ("1" * 5000, "4300"),
        (str(2**64), "an integer of more than 64 bits"),
        ('{"a": 1, "a": 2}', "a key twice"),
        ("[" * 34 + "]" * 34, "more than 32 levels"),
        ("[" * 50_000, "more than 32 levels"),
        ("[" * 50_000 + "]" * 50_000, "more than 32 levels"),
        (r'"\ud800"', "surrogates not allowed"),
        (r'{"\udfff": 1}', "surrogates not allowed"),
        ("\ufeff{}", "BOM"),
        ("[" + "{}," * 200_000 + "{}]", "values in"),
        (" " * (MAX_BYTES + 1), "more than 8,388,608"),
        ('"' + "ü" * (MAX_BYTES // 8 + 1) + '"', "more than 8,388,608"),
    ],
)
def test_what_is_refused(text, says):
    with pytest.raises(ValueError, match=says):
        parse_json(text.encode())


def test_what_is_not_utf8_is_refused():
    with pytest.raises(ValueError, match="utf-8"):
        parse_json(b'"\xff"')


LISTS, OBJECTS = "[" + "[]," * 49_000 + "[]]", "[" + '{"a":1},' * 33_000 + "1]"
STRINGS = '["' + "x" * (7 * MEBIBYTE) + r'\ud83d\ude00"]'
KEYS = "{" + ",".join(f'"{n:07}{"k" * 30}":{n}' for n in range(150_000)) + "}"


@pytest.mark.parametrize("text", [LISTS, OBJECTS, STRINGS, KEYS, '"' + "😀" * (MAX_BYTES // 16 - 1) + '"'])
def test_memory_is_bounded(text):
    """Twice the document and a constant, whatever the document."""
    content = text.encode()
    tracemalloc.start()
    try:
        parse_json(content)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 2 * len(content) + 48 * MEBIBYTE
