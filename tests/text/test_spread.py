"""Rows are chosen by their documents and hashes, as a plain computation over the whole text says, in bounded memory."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from sae_cli.text.packing import TokenRows
from sae_cli.text.spread import PlacedRows, first, hashed, join, main_document, placed, spread, thinned

T = 8


def text(lengths: dict[int, int], at_once: int = 3) -> list[TokenRows]:
    """Rows that belong to these documents, so many of each, in blocks."""
    document = np.repeat(list(lengths), list(lengths.values()))
    tokens = np.arange(len(document) * T).reshape(-1, T)
    rows = TokenRows(tokens, np.repeat(document[:, None], T, axis=1), np.ones_like(tokens))
    return [rows.select(slice(i, i + at_once)) for i in range(0, len(document), at_once)]


LENGTHS = {1000 + 7 * i: n for i, n in enumerate([1, 9, 2, 30, 4, 1, 6, 5, 3, 12])}


def by_hand(lengths: dict[int, int], wanted: int, per_document: int) -> list[tuple[int, int]]:
    """Document and number of each chosen row, from the definition."""
    number, left = 0, {}
    for document, n in lengths.items():
        own = np.arange(number, number + n)
        left[document] = own[np.argsort(hashed(np.uint64(document) ^ hashed(own)))].tolist()[:per_document]
        number += n
    in_order = sorted(left, key=lambda each: int(hashed(np.array([each]))[0]))
    turns = [[(each, left[each][turn]) for each in in_order if turn < len(left[each])] for turn in range(per_document)]
    return [pair for turn in turns for pair in turn][:wanted]


def as_pairs(rows: PlacedRows | None) -> list[tuple[int, int]]:
    assert rows is not None
    return list(zip(rows.document.tolist(), rows.number.tolist(), strict=True))


@pytest.mark.parametrize("wanted", [1, 2, 7, 20, 25, 1000])
@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_spread_is_by_hash(wanted: int, at_once: int) -> None:
    chosen = spread(placed(text(LENGTHS, at_once)), wanted, per_document=4, within=10_000)
    assert as_pairs(chosen) == by_hand(LENGTHS, wanted, 4)
    assert chosen is not None
    assert (chosen.rows.tokens[:, 0] == chosen.number * T).all()


def test_fewer_are_the_beginning() -> None:
    many, few = (as_pairs(spread(placed(text(LENGTHS)), n, per_document=4, within=10_000)) for n in (30, 12))
    assert many[:12] == few
    assert len({document for document, _ in few}) == len(LENGTHS)


def test_no_document_has_more_rows_than_it_may() -> None:
    chosen = spread(placed(text(LENGTHS)), 1000, per_document=1, within=10_000)
    assert Counter(each for each, _ in as_pairs(chosen)) == dict.fromkeys(LENGTHS, 1)


def test_spread_looks_no_further() -> None:
    chosen = spread(placed(text(LENGTHS)), 1000, per_document=4, within=10)
    assert {each for each, _ in as_pairs(chosen)} == {1000, 1007}
    assert spread(placed([]), 5, per_document=4, within=10) is None


def test_all_rows_where_no_limit_is_given() -> None:
    assert len(as_pairs(spread(placed(text(LENGTHS)), 1000, None, within=10_000))) == sum(LENGTHS.values())


def test_thinned_keeps_the_order_of_the_text() -> None:
    for at_once in (1, 3, 100):
        turns = [join(list(thinned(placed(text(LENGTHS, at_once)), 2, turn))) for turn in range(3)]
        for found in turns:
            assert (np.diff(found.number) > 0).all()
        assert sorted(as_pairs(turns[0])) == sorted(by_hand(LENGTHS, 1000, 2))
        assert sorted(as_pairs(join(turns))) == sorted(by_hand(LENGTHS, 1000, 6))
    assert not list(thinned(placed(text(LENGTHS)), 2, turn=15))


def test_first_is_the_start() -> None:
    assert join(list(first(placed(text(LENGTHS)), 7))).number.tolist() == list(range(7))


def test_a_row_belongs_to_the_document_that_most_of_it_is_of() -> None:
    rows = np.array([[5, 5, 5, 5], [5, 5, 3, 3], [5, 3, 3, 3], [9, 5, 3, 3]])
    assert main_document(rows).tolist() == [5, 5, 3, 3]


def test_memory_does_not_grow_with_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held between blocks stays near what is wanted."""
    held: list[int] = []

    def watched(parts: list[PlacedRows]) -> PlacedRows:
        held.append(len((whole := join(parts)).document))
        return whole

    monkeypatch.setattr("sae_cli.text.spread.join", watched)
    chosen = spread(placed(text(dict.fromkeys(range(2000), 5), at_once=50)), 10, per_document=2, within=100_000)
    assert chosen is not None
    assert len(chosen.document) == 10
    assert len(held) > 100
    assert max(held) <= 10 + 50
