"""One pass over a stream for several readers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Generic, TypeVar
from weakref import WeakSet

Item = TypeVar("Item")


class SharedStream(Generic[Item]):
    """Numbered items, made once for several readers, each at its own pace.

    Items wait until the slowest reader has had them; a reader that is dropped is not waited for. Those that no
    reader wants are not made. Make all readers before one is read.

    Args:
        make: items from a number on.
    """

    def __init__(self, make: Callable[[int], Iterator[Item]]) -> None:
        self._make = make
        self._items: Iterator[Item] | None = None
        self._waiting: deque[Item] = deque()
        self._first = 0  # number of the first item that waits
        self._readers: WeakSet[Reader[Item]] = WeakSet()

    def reader(self, first: int = 0) -> Reader[Item]:
        """A reader that begins with item number `first`."""
        reader = Reader(self, first)
        self._readers.add(reader)
        return reader

    def waiting_for(self, reader: Reader[Item]) -> list[Item]:
        """The items that have been made and this reader has not had, in order."""
        return list(islice(self._waiting, max(0, reader.at - self._first), None))

    def _item(self, number: int) -> Item:
        if self._items is None:
            self._first = self._slowest()
            self._items = self._make(self._first)
        while number >= self._first + len(self._waiting):
            self._waiting.append(next(self._items))
            self._let_go()
        return self._waiting[number - self._first]

    def _let_go(self) -> None:
        slowest = self._slowest()
        while self._waiting and self._first < slowest:
            self._waiting.popleft()
            self._first += 1

    def _slowest(self) -> int:
        return min(reader.at for reader in self._readers)


class Reader(Iterator[Item]):
    """One reader of a `SharedStream`; `at` is the number of the item that comes next."""

    def __init__(self, stream: SharedStream[Item], at: int) -> None:
        self._stream, self.at = stream, at

    def __next__(self) -> Item:
        item = self._stream._item(self.at)
        self.at += 1
        self._stream._let_go()
        return item

    @property
    def waiting(self) -> list[Item]:
        """Items that other readers have had already."""
        return self._stream.waiting_for(self)
