"""One pass over a stream for several readers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar
from weakref import WeakSet

Item = TypeVar("Item")


class SharedStream(Generic[Item]):
    """An iterator read once, by several readers, each at its own pace.

    Items wait until the slowest reader has had them; a reader that is dropped is not waited for. A reader
    gets what comes after the moment it was made.
    """

    def __init__(self, items: Iterator[Item]) -> None:
        self._items = items
        self._waiting: deque[Item] = deque()
        self._first = 0  # number of the first item that waits
        self._readers: WeakSet[Reader[Item]] = WeakSet()

    def reader(self) -> Reader[Item]:
        reader = Reader(self, self._first + len(self._waiting))
        self._readers.add(reader)
        return reader

    def _item(self, number: int) -> Item:
        if number == self._first + len(self._waiting):
            self._waiting.append(next(self._items))
        return self._waiting[number - self._first]

    def _let_go(self) -> None:
        slowest = min(reader.at for reader in self._readers)
        while self._first < slowest:
            self._waiting.popleft()
            self._first += 1


class Reader(Iterator[Item]):
    """One reader of a `SharedStream`; `at` is the number of the item that comes next."""

    def __init__(self, stream: SharedStream[Item], at: int) -> None:
        self._stream, self.at = stream, at

    def __next__(self) -> Item:
        item = self._stream._item(self.at)
        self.at += 1
        self._stream._let_go()
        return item
