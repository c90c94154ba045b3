"""Work done in a thread while the caller does something else."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")

_END = object()


def prefetched(items: Iterator[Item]) -> Iterator[Item]:
    """The same items; while one is looked at, the next is made."""
    thread = ThreadPoolExecutor(1)
    try:
        coming = thread.submit(next, items, _END)
        while (item := coming.result()) is not _END:
            coming = thread.submit(next, items, _END)
            yield item  # pyright: ignore[reportReturnType]
    finally:
        # Without waiting: this may run in the garbage collector, in a thread that others wait for.
        thread.shutdown(wait=False)
