"""Records of token ids and of chats become documents; what is neither is refused."""

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sae_cli.config.split import Split
from sae_cli.errors import RequestError
from sae_cli.text.content import Chats, TokenIds
from sae_cli.text.hub import HubCorpus
from sae_cli.text.local_text import TextCorpus
from sae_cli.text.rows import tokenize

IDS = [[5, 0, 7], [], [2], None, [9, 9]]


def records(column, values):
    return "".join(json.dumps({column: value}) + "\n" for value in values)


def corpora(folder, column, content, fraction=0.0):
    """The same records as local text and as a data set."""
    yield TextCorpus(str(folder), column, "", fraction, content)
    yield HubCorpus(str(folder), "", "train", column, "", None, 10, fraction, content)


def in_order(corpus, split=Split.train):
    return sorted(corpus.documents(split, seed=0), key=lambda each: each.key)


class NoTokenizer:
    is_fast = False

    def __call__(self, text, **settings):
        assert not any(text)
        return {"input_ids": [[] for _ in text]}

    def convert_ids_to_tokens(self, ids):
        return ids


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "jsonl of arrays"])
def test_token_ids_are_tokens(tmp_path, kind):
    if kind == "parquet":
        values = pa.array(IDS, pa.list_(pa.uint16()))
        pq.write_table(pa.table({"ids": values, "other": [1.5] * len(IDS)}), tmp_path / "a.parquet")
    else:
        (tmp_path / "a.jsonl").write_text(records("ids", IDS))
    for corpus in corpora(tmp_path, "ids", TokenIds(10)):
        found = in_order(corpus)
        assert [(each.key[-2:], each.text, each.tokens) for each in found] == [
            (":0", "", [5, 0, 7]), (":2", "", [2]), (":4", "", [9, 9]),
        ]  # fmt: skip
        for counts_bytes in (False, True):
            made = list(tokenize(found, NoTokenizer(), counts_bytes))
            assert [each.tokens.tolist() for each in made] == [[5, 0, 7], [2], [9, 9]]
            assert all(each.tokens.dtype == np.int64 for each in made)
            assert [each.n_bytes is not None and each.n_bytes.tolist() for each in made] == (
                [[0, 0, 0], [0], [0, 0]] if counts_bytes else [False] * 3
            )


def test_token_ids_are_split_as_texts_are(tmp_path):
    (tmp_path / "a.jsonl").write_text(records("ids", [[i % 10] * 3 for i in range(60)]))
    one, other = ([each.key for each in in_order(each, Split.held_out)] for each in
                  corpora(tmp_path, "ids", TokenIds(10), 0.3))  # fmt: skip
    assert one == other and 0 < len(one) < 60


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("text", r"field 'ids': expected a list of token ids \(data\.tokens=true\), found text \('text'\)"),
        ([1] * 99 + [2.0], r"found a number \(2\.0\) in it"),
        ([True], r"found a truth value \(True\) in it"),
        ([1, None], "found null"),
        ([[1, 2]], "found a list of numbers .* in it"),
        (7, r"found a number \(7\)"),
        ([1, 10], "expected ids from 0 to 9, which are this model's tokens, found 10"),
        ([-1], "found -1"),
        ([10**30], "found 1000000"),
    ],
)
def test_what_are_no_ids_of_the_model_is_refused(tmp_path, value, says):
    (tmp_path / "a.jsonl").write_text(records("ids", [[1, 2], value]))
    for corpus in corpora(tmp_path, "ids", TokenIds(10)):
        with pytest.raises(RequestError, match=rf"a\.jsonl, line 2.*{says}"):
            in_order(corpus)


def render(messages):
    if messages[0]["role"] == "system":
        raise ValueError("no system here")
    return "".join(f"<{each['role']}>{each['content']}" for each in messages)


def message(content, role="user", **more):
    return {"role": role, "content": content, **more}


def test_chats_are_text_by_the_template(tmp_path):
    chats = [[message("hi"), message("ho", "assistant", name=None)], [], None, [message("naïve")]]
    (tmp_path / "a.jsonl").write_text(records("messages", chats))
    for corpus in corpora(tmp_path, "messages", Chats(render)):
        assert [(each.text, each.tokens) for each in in_order(corpus)] == [
            ("<user>hi<assistant>ho", None), ("<user>naïve", None),
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("hi", r"expected a list of messages \(data\.chat=true\), found text \('hi'\)"),
        (["hi"], "expected a list of messages"),
        (message("hi"), "expected a list of messages .*found a record"),
        ([{"from": "human", "value": "hi"}], r"expected messages with a role and a content, both text, found a record"),
        ([message(None)], "both text"),
        ([message([{"type": "text", "text": "hi"}])], "both text"),
        ([message("x", "system")], "expected messages for the tokenizer's chat template, found .*: no system here"),
    ],
)
def test_what_is_no_chat_is_refused(tmp_path, value, says):
    (tmp_path / "a.jsonl").write_text(records("messages", [[message("fine")], value]))
    for corpus in corpora(tmp_path, "messages", Chats(render)):
        with pytest.raises(RequestError, match=rf"a\.jsonl, line 2: field 'messages': .*{says}"):
            in_order(corpus)


def test_plain_files_hold_neither(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("1 2 3")
    for place in (tmp_path, tmp_path / "a.txt"):
        with pytest.raises(RequestError, match="expected records, found"):
            in_order(TextCorpus(str(place), "text", "", 0.0, TokenIds(10)))
    with pytest.raises(RequestError, match=r"expected a list of token ids .*found text"):
        in_order(HubCorpus(str(tmp_path), "", "train", "text", "", None, 10, 0.0, TokenIds(10)))


def test_what_was_not_asked_for_is_named(tmp_path):
    for value, setting in (([1, 2], "data.tokens=true"), ([message("hi")], "data.chat=true")):
        (tmp_path / "a.jsonl").write_text(records("text", [value]))
        with pytest.raises(RequestError, match=rf"set {setting}$"):
            in_order(TextCorpus(str(tmp_path), "text", "", 0.0))


def test_bytes_of_tokens_are_not_known():
    import torch

    from sae_cli.metrics.language_loss import LossSums, Predictions
    from sae_cli.metrics.row_sums import RowPlaces
    from sae_cli.models.outputs import LogitsOutputs

    sums = LossSums(())
    tokens = torch.tensor([[1, 2, 3, 0]])
    nothing, counted = torch.zeros_like(tokens), torch.arange(4)[None] >= 1
    place = RowPlaces(*torch.zeros(2, 1).long())
    sums.add(Predictions(tokens, nothing, LogitsOutputs(torch.zeros(1, 4, 5)), (), counted, place, nothing))
    found = sums.results()
    assert found["ce_clean"] == pytest.approx(math.log(5))
    assert found["bits_per_byte_clean"] is None
    assert sums.domain_results()[0]["bytes_per_token"] is None
