"""Damage and forgery: what happens to files on disks and networks, and what people do on purpose."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import numpy as np
import safetensors.numpy

_WORDS = [
    b"-1", b"0", b"1e999", b"NaN", b"9" * 30, b"1" * 5000, b"18446744073709551615", b"9223372036854775808", b"true",
    b"null", b'""', b'"\\ud800"', b"[]", b"{}", b"[[[[[[[[", b"[" * 2000, b'"../../etc/passwd"', b'"/dev/zero"',
    b"${oc.env:HOME}", b"${seed}", b"???", b"&a [*a, *a]", b"!!python/object/apply:os.system [id]", b"!!binary x",
    b"<<: {}", b"2020-13-45", b"190:20:30.15", b"0x_", b"\x1b[2J", b"\xe2\x80\xae", b"\0", b"\xff", b'"F64"', b'"U8"',
    b'"BF16"', b'"architecture"', b"\n", b": ", b"- ", b",",
]  # fmt: skip
_TOKEN = re.compile(rb'"[^"]{0,80}"|-?[0-9][0-9.]*|true|false|null|[A-Za-z_]+')
_VALUES = (
    None, True, -1, 0, 10**15, 2**62, 1.5, -2.5, 1e300, "x", "", "\x1b[2J",
    [], {}, [1], [None], [[1]], [0.5] * 3, {"a": 1},
)  # fmt: skip
_LENGTHS = (0, 1, 7, 2**16, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1)


def mutate(content: bytes, rng: random.Random) -> bytes:
    """The file after one to four accidents."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        content = rng.choice(_KINDS)(content, rng)
    return content


def rewrite(content: bytes, rng: random.Random) -> bytes:
    """The file as somebody writes it who means something else: whole, but with another value, name or shape."""
    if content.startswith((b"{", b"[")):
        lines = content.splitlines() if b"\n{" in content else [content]
        at = rng.randrange(len(lines))
        lines[at] = json.dumps(_other_document(json.loads(lines[at]), rng)).encode()
        return b"\n".join(lines)
    tensors = safetensors.numpy.load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    with np.errstate(all="ignore"):
        _other_tensor(tensors, rng)
    return safetensors.numpy.save(tensors, metadata=header.get("__metadata__"))


def _other_document(document: Any, rng: random.Random) -> Any:
    """Something in it is another thing, has another name, or is gone."""
    holders = [each for each in _inside(document) if isinstance(each, dict | list) and each]
    if not holders:
        return rng.choice(_VALUES)
    holder = rng.choice(holders)
    key = rng.choice(list(holder)) if isinstance(holder, dict) else rng.randrange(len(holder))
    kind = rng.random()
    if kind < 0.2:
        del holder[key]
    elif kind < 0.3 and isinstance(holder, dict):
        holder[rng.choice(("", "0", "x"))] = holder.pop(key)
    else:
        holder[key] = rng.choice(_VALUES)
    return document


def _inside(value: Any) -> list[Any]:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value, *(inner for part in parts for inner in _inside(part))]


def _other_tensor(tensors: dict[str, np.ndarray], rng: random.Random) -> None:
    name = rng.choice(sorted(tensors))
    x, kind = (
        tensors.pop(name).copy(),
        rng.choice(("gone", "renamed", "shorter", "longer", "flat", "type", "one", "all")),
    )
    numbers = (-1.0, 0.0, 7.0, 1e30, np.nan, np.inf) if x.dtype.kind == "f" else (-1, 0, 7, 2**31 - 1, 2**62)
    value = np.array(rng.choice(numbers)).astype(x.dtype)
    match kind:
        case "gone":
            return
        case "renamed":
            name = f"{name}x"
        case "shorter" if x.ndim:
            x = x[:-1]
        case "longer" if x.ndim:
            x = np.concatenate([x, x])
        case "flat":
            x = x.reshape(-1)
        case "type":
            x = x.astype(rng.choice((np.float64, np.float32, np.int64, np.uint8)))
        case "one" if x.size:
            x.flat[rng.randrange(x.size)] = value
        case _:
            x = np.full_like(x, value)
    tensors[name] = np.ascontiguousarray(x)


def _flip(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content or b"\0")
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _truncate(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _extend(content: bytes, rng: random.Random) -> bytes:
    return content + rng.choice((b"\0", b" ", b"\n", rng.randbytes(8))) * rng.randint(1, 64)


def _swap(content: bytes, rng: random.Random) -> bytes:
    size = rng.randint(1, 32)
    one, other = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    if one + size > other:
        return content
    parts = content[:one], content[other : other + size], content[one + size : other], content[one : one + size]
    return b"".join((*parts, content[other + size :]))


def _word(content: bytes, rng: random.Random) -> bytes:
    """Another value in place of a value."""
    tokens = list(_TOKEN.finditer(content))
    if not tokens:
        return content + rng.choice(_WORDS)
    chosen = rng.choice(tokens)
    word = rng.choice(_WORDS) if rng.random() < 0.7 else rng.choice(tokens)[0]
    return content[: chosen.start()] + word + content[chosen.end() :]


def _number(content: bytes, rng: random.Random) -> bytes:
    """A number that is a little other, or much."""
    tokens = list(re.finditer(rb"[0-9]+", content))
    if not tokens:
        return content
    chosen = rng.choice(tokens)
    if len(chosen[0]) > 20:
        return content
    value = int(chosen[0])
    other = rng.choice((value + 1, value - 1, value * 2, value * 2**32, -value, value // 2))
    return content[: chosen.start()] + str(other).encode() + content[chosen.end() :]


def _remove(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content) + 1)
    return content[:start] + content[start + rng.randint(1, 64) :]


def _repeat(content: bytes, rng: random.Random) -> bytes:
    start, size = rng.randrange(len(content) + 1), rng.randint(1, 64)
    return content[:start] + content[start : start + size] * rng.randint(2, 50) + content[start + size :]


def _length(content: bytes, rng: random.Random) -> bytes:
    """Another length of the header."""
    near = int.from_bytes(content[:8], "little") + rng.randint(-9, 9)
    return (rng.choice((*_LENGTHS, near)) % 2**64).to_bytes(8, "little") + content[8:]


def refit(content: bytes) -> bytes:
    """A safetensors file whose first eight bytes fit its header again, where that can be told."""
    end = re.match(rb".{8}.*?\}\} *", content, re.DOTALL)
    return (end.end() - 8).to_bytes(8, "little") + content[8:] if end else content


_KINDS = (_flip, _flip, _truncate, _extend, _swap, _word, _word, _number, _number, _remove, _repeat, _length)
