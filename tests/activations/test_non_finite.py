"""Activations that are NaN or infinite: found whatever their sum is, named, refused or left out."""

import pytest
import torch

from sae_cli.activations.blocks import ActivationBlock
from sae_cli.activations.non_finite import (
    ELSEWHERE,
    LEAVE_OUT,
    check_positions,
    finite_block,
    is_finite,
    refused,
    usable_rows,
)
from sae_cli.config.data import NonFinite
from sae_cli.errors import JobError

RAISE, DROP = NonFinite["raise"], NonFinite.drop
NAN, INF = float("nan"), float("inf")


def block(*broken, value=NAN, n=10):
    x = torch.arange(n * 3, dtype=torch.float32).view(n, 3)
    for row in broken:
        x[row, row % 3] = value
    return ActivationBlock(x, torch.arange(n) + 100, torch.arange(n) + 1, torch.arange(n) // 4 + 70)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_one_broken_number_is_found(value, dtype):
    x = torch.ones(50, 4, dtype=dtype)
    assert is_finite(x)
    x[37, 2] = value
    assert not is_finite(x)


def test_infinities_that_cancel_are_found():
    assert not is_finite(torch.tensor([[INF, -INF]]))


def test_a_sum_that_overflows_is_looked_into():
    x = torch.full((4, 4), 3e38)
    assert not x.sum().isfinite()
    assert is_finite(x)


def test_dropping_leaves_the_finite_rows_with_their_origin():
    kept = finite_block(block(2, 7, value=INF), "here", DROP)
    assert kept.tokens.tolist() == [100, 101, 103, 104, 105, 106, 108, 109]
    assert torch.equal(kept.activations, block().activations[kept.tokens - 100])
    assert torch.equal(usable_rows(block(2, 7).activations, DROP), kept.activations)


def test_nothing_broken_is_the_same_object():
    whole = block()
    assert finite_block(whole, "here", DROP) is whole
    assert usable_rows(whole.activations, DROP) is whole.activations


def test_a_batch_without_a_finite_row_is_one_line():
    with pytest.raises(JobError, match=r"^expected some finite activations, found none among 10 in a row"):
        usable_rows(block(*range(10)).activations, DROP)


def test_the_line_names_document_position_and_token():
    with pytest.raises(JobError) as caught:
        finite_block(block(2, 7), "held-out activations", RAISE)
    assert str(caught.value) == (
        "held-out activations: expected finite activations, found NaN or infinity in 2 of 10: document 70, position 3, "
        f"token 102; document 71, position 8, token 107: {LEAVE_OUT}"
    )


def test_a_stream_stops_at_the_first_broken_block():
    stream = refused([block(), block(1, 2, 3, 4), block()], "training activations", LEAVE_OUT)
    next(stream)
    with pytest.raises(JobError, match=r"found NaN or infinity in 4 of 10: .*token 103; …: look at"):
        next(stream)


def test_rows_of_text_are_named_where_documents_are_not_known():
    x, tokens = torch.zeros(2, 5, 3), torch.arange(10).view(2, 5)
    counted = torch.arange(5).expand(2, 5) > 0
    x[1, 0, 0] = NAN
    check_positions(x, tokens, counted, "here")
    x[1, 3, 0] = NAN
    with pytest.raises(JobError) as caught:
        check_positions(x, tokens, counted, "here")
    assert str(caught.value).endswith(f"in 1 of 8: row of text 1, position 3, token 8: {ELSEWHERE}")
