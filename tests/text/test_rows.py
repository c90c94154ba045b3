"""Rows of text: documents without tokens, text that runs out, text that is too short."""

import pytest

from sae_cli.config.split import Split
from sae_cli.errors import JobError
from sae_cli.text.documents import Document
from sae_cli.text.packing import PackingPolicy
from sae_cli.text.rows import RowStream, tokenize


class Texts:
    """Documents held in memory; those whose key begins with `h` are held out."""

    def __init__(self, **texts):
        self.texts = texts

    def documents(self, split, seed, epoch=0):
        wanted = split is Split.held_out
        return (Document(key, text, "") for key, text in self.texts.items() if key.startswith("h") == wanted)


def letters(text, *, add_special_tokens, verbose):
    """A token for each letter; everything else is removed."""
    return {"input_ids": [[ord(each) for each in one if each.isalpha()] for one in text]}


def stream(split=Split.train, context=4, **texts):
    return RowStream(Texts(**texts), letters, PackingPolicy(context, bos_id=0, separator_ids=(1,)), split, seed=0)


def test_a_document_of_removed_characters_leaves_nothing_behind():
    documents = list(tokenize(Texts(a="ab", b="..  !", c="c").documents(Split.train, 0), letters))
    assert [each.tokens.tolist() for each in documents] == [[97, 98], [99]]
    rows = next(stream(a="ab", b="..", c="cd").one_epoch(2))
    assert rows.tokens.tolist() == [[0, 97, 98, 1], [0, 99, 100, 1]]


def test_text_that_runs_out_is_read_again_and_that_is_said(capsys):
    rows = stream(a="abcdef", b="ghijkl")
    blocks = rows.forever(1)
    for _ in range(4):
        next(blocks)
    assert "the train text ends" not in capsys.readouterr().err
    next(blocks)
    assert "the train text ends after 4 rows of 4 tokens; what is still needed" in capsys.readouterr().err
    for _ in range(20):
        next(blocks)
    assert "the train text ends" not in capsys.readouterr().err


@pytest.mark.parametrize(("blocks", "epochs"), [(1, 1), (4, 1), (5, 1.25), (14, 3.5)])
@pytest.mark.parametrize("read", [0, 30])
def test_epochs_are_counted_whether_this_stream_was_read_or_not(blocks, epochs, read):
    rows = stream(a="abcdef", b="ghijkl")
    forever = rows.forever(1)
    for _ in range(read):
        next(forever)
    assert rows.epochs(1, blocks) == epochs


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        ({"a": "x.y", "h": "abc", "h2": "d"}, "found 2 in 1 documents, and 2 held_out documents"),
        ({"a": "..", "b": "", "h": "abcdefghi"}, "found 0 in 0 documents, and 1 held_out documents"),
        ({}, "found 0 in 0 documents, and 0 held_out documents"),
    ],
)
def test_text_that_does_not_fill_a_row_is_one_line_with_what_there_is(texts, found):
    with pytest.raises(JobError) as caught:
        next(stream(**texts, context=8).forever(2))
    assert str(caught.value) == (
        f"too little train text: expected at least 16 tokens (2 rows of 8), {found}; give more text, lower model_rows= "
        "or data.context=, or change data.held_out_fraction="
    )


def test_counting_epochs_does_not_read_again_what_was_read():
    """Tokenizing takes minutes at the size of real corpora."""
    calls = []

    def counted(text, **settings):
        calls.append(1)
        return letters(text, **settings)

    rows = RowStream(
        Texts(a="abcdef" * 9), counted, PackingPolicy(4, bos_id=0, separator_ids=(1,)), Split.train, seed=0
    )
    forever = rows.forever(1)
    for _ in range(5):
        next(forever)
    before = len(calls)
    assert rows.epochs(1, 5) == 1
    assert len(calls) == before
