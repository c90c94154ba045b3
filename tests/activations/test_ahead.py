"""Items made ahead: all of them, in order, one early, and an error where it happened."""

import gc
import threading

import pytest

from sae_cli.activations.ahead import prefetched


def test_the_items_in_order_and_one_ahead():
    made = []
    items = prefetched(made.append(i) or i for i in range(5))
    assert next(items) == 0
    assert next(items) == 1
    assert list(items) == [2, 3, 4] and made == [0, 1, 2, 3, 4]


def test_an_error_comes_where_it_happened():
    def items():
        yield 1
        raise ValueError("no more text")

    ahead = prefetched(items())
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="no more text"):
        next(ahead)


def test_the_collector_does_not_wait_for_what_is_being_made():
    go_on = threading.Event()

    def items():
        yield 1
        go_on.wait(60)
        yield 2

    ahead = prefetched(items())
    assert next(ahead) == 1
    del ahead
    gc.collect()  # would hang if it waited
    go_on.set()
