"""Rows hold every token of every document once, in order, behind a BOS."""

import numpy as np
import pytest

from sae_cli.text.packing import PackingPolicy, TokenizedDocument, pack


def packed(lengths, policy, rows):
    documents = [TokenizedDocument(i, np.arange(n) + 100 * i + 10) for i, n in enumerate(lengths)]
    blocks = list(pack(documents, policy, rows))
    return np.concatenate([b.tokens for b in blocks]), np.concatenate([b.document for b in blocks]), blocks


def test_by_hand():
    tokens, document, _ = packed([3, 2], PackingPolicy(context=4, bos_id=0, separator_ids=(1,)), rows=1)
    assert tokens.tolist() == [[0, 10, 11, 12], [0, 1, 110, 111]]  # the last separator does not fill a row
    assert document.tolist() == [[0, 0, 0, 0], [0, 0, 1, 1]]


@pytest.mark.parametrize("bos_id", [None, 0, 7])
@pytest.mark.parametrize("separator", [(), (0,), (5, 6)])
@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_rows_are_the_concatenated_documents(bos_id, separator, rows):
    lengths = [5, 0, 17, 1, 64, 3, 9]
    tokens, document, blocks = packed(lengths, PackingPolicy(8, bos_id, separator), rows)
    body = tokens if bos_id is None else tokens[:, 1:]
    if bos_id is not None:
        assert (tokens[:, 0] == bos_id).all()
    expected, owners = [], []
    for i, n in enumerate(lengths):
        ids = [*range(100 * i + 10, 100 * i + 10 + n), *separator]
        expected += ids
        owners += [i] * len(ids)
    kept = body.size
    assert len(expected) - kept < body.shape[1]
    assert body.ravel().tolist() == expected[:kept]
    assert document[:, tokens.shape[1] - body.shape[1] :].ravel().tolist() == owners[:kept]
    assert all(len(block.tokens) == rows for block in blocks[:-1])
