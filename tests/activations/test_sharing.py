"""A shared stream: every reader gets every item, and no item is kept for nobody."""

import gc
import weakref

import pytest

from sae_cli.activations.sharing import SharedStream


class Item:
    def __init__(self, value):
        self.value = value


def test_each_reader_gets_everything_and_the_source_is_read_once():
    read = []
    stream = SharedStream(lambda first: (read.append(i) or i for i in range(first, 5)))
    a, b = stream.reader(), stream.reader()
    assert [next(a), next(a), next(b)] == [0, 1, 0]
    assert list(b) == [1, 2, 3, 4]
    assert list(a) == [2, 3, 4]
    assert read == [0, 1, 2, 3, 4]
    with pytest.raises(StopIteration):
        next(a)


def test_items_wait_for_the_slowest_reader_only():
    seen = []

    def items():
        for i in range(4):
            item = Item(i)
            seen.append(weakref.ref(item))
            yield item

    stream = SharedStream(lambda first: items())
    slow, fast = stream.reader(), stream.reader()
    for _ in range(3):
        next(fast)
    assert [ref() is not None for ref in seen[:2]] == [True, True]
    next(slow)
    assert seen[0]() is None and seen[1]() is not None
    del slow
    gc.collect()
    next(fast)
    assert seen[1]() is None and seen[2]() is None


def test_readers_that_begin_later():
    """Items before the first that is wanted are not made; between two beginnings nothing waits for the later reader."""
    read = []
    stream = SharedStream(lambda first: (read.append(i) or i for i in range(first, 9)))
    late, early = stream.reader(6), stream.reader(3)
    assert next(early) == 3 and read == [3]
    assert [next(early), next(early), next(early)] == [4, 5, 6]
    assert late.waiting == [6]
    assert next(late) == 6 and late.waiting == []
    assert list(late) == list(early) == [7, 8]


def test_a_late_reader_that_is_asked_first():
    stream = SharedStream(lambda first: iter(range(first, 9)))
    late, early = stream.reader(6), stream.reader(3)
    assert next(late) == 6
    assert list(early) == [3, 4, 5, 6, 7, 8]
