"""Random numbers that are a function of what they are for."""

from __future__ import annotations

import hashlib

import torch


def generator(purpose: str, *key: object) -> torch.Generator:
    """A generator of its own for each purpose and key, so that equal seeds of different things do not meet.

    torch reads the low 32 bits of a seed only: sums and shifts of small seeds would fall together.
    """
    content = " ".join(map(str, (purpose, *key))).encode()
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(content).digest()[:4], "big"))
