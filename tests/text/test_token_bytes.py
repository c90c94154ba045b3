"""The bytes of a document's tokens are the bytes of its text, whatever the tokenizer does to it."""

import random

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from sae_cli.config.split import Split
from sae_cli.text.documents import Document
from sae_cli.text.packing import PackingPolicy
from sae_cli.text.rows import RowStream, tokenize
from tests.known import present

CORPUS = ["the niño ate 日本語 and 🎉 — hello world  two blanks\n\nlines"] * 9
BYTES = [f"<0x{i:02X}>" for i in range(256)]
LETTERS = list("abcdefghijklmnopqrstuvwxyz")


def byte_level(trim=False):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=trim)
    if trim:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def word_piece(lowercase=True):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[UNK]", "<end>"]
    trainer = trainers.WordPieceTrainer(vocab_size=90, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def word_level():
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "<end>": 1, "the": 2, "hello": 3}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def unigram(blank):
    vocabulary = [("<unk>", 0.0), ("<end>", 0.0), *((byte, -20.0) for byte in BYTES), *((x, -8.0) for x in LETTERS)]
    vocabulary += [("▁the", -3.0), *([("▁", -5.0)] if blank else [])]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    return tokenizer


def llama(blank):
    pieces = ["<unk>", "<end>", *BYTES, *LETTERS, "th", "the", *(["▁", "▁the"] if blank else [])]
    merges = [("t", "h"), ("th", "e"), *([("▁", "the")] if blank else [])]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return tokenizer


def compatibility():
    """Takes characters apart, and several blanks for one."""
    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), *((x, -3.0) for x in "abcdefi▁12⁄")], unk_id=0))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer


KINDS = {
    "byte-level": byte_level,
    "byte-level, trimmed": lambda: byte_level(trim=True),
    "WordPiece": word_piece,
    "WordPiece, cased": lambda: word_piece(lowercase=False),
    "word-level": word_level,
    "Unigram, byte fallback": lambda: unigram(blank=True),
    "Unigram, byte fallback, no blank": lambda: unigram(blank=False),
    "BPE, byte fallback": lambda: llama(blank=True),
    "BPE, byte fallback, no blank": lambda: llama(blank=False),
    "NFKC": compatibility,
}
TEXTS = [
    "  The niño  é🎉 the\n",
    "日本ﬁ ½ a<end>b",
    "hello  the world \r\n\t",
    "x",
    "🎉🎉👩‍👩‍👧 ﷺ Ⅷ İSTANBUL",
    *("".join(random.Random(i).choices("the  日é🎉ﬁ\n½.<x\u0301", k=40)) for i in range(12)),
]


def fast(kind):
    return PreTrainedTokenizerFast(tokenizer_object=KINDS[kind](), eos_token="<end>")


def counted(tokenizer, texts):
    documents = [Document(str(i), text, "") for i, text in enumerate(texts)]
    return list(tokenize(documents, tokenizer, counts_bytes=True))


@pytest.mark.parametrize("kind", KINDS)
def test_the_bytes_of_a_documents_tokens_are_those_of_its_text(kind):
    tokenizer = fast(kind)
    lengths = [len(text.encode()) for text in TEXTS]
    found = counted(tokenizer, TEXTS)
    assert [int(present(each.n_bytes).sum()) for each in found] == lengths
    assert all(len(present(each.n_bytes)) == len(each.tokens) for each in found)
    assert all((present(each.n_bytes) >= 0).all() for each in found)
    plain = list(tokenize([Document(str(i), text, "") for i, text in enumerate(TEXTS)], tokenizer))
    assert [each.tokens.tolist() for each in plain] == [each.tokens.tolist() for each in found]


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("byte-level", "é🎉", [1, 1, 2, 2]),  # Ã © and two pieces of four bytes
        ("byte-level", "a<end>b", [1, 5, 1]),  # a special token that stands in the text is text
        ("word-level", "  hello  the world.\n", [7, 5, 6, 2]),  # what is dropped belongs to what comes after it
        ("WordPiece", "thé", [4]),  # lowered and without its accent
        ("Unigram, byte fallback, no blank", " a", [0, 0, 1, 1]),  # a blank is three tokens
        ("BPE, byte fallback", "the é", [3, 1, 1, 1]),
        ("NFKC", "½  a", [0, 1, 0, 1, 2, 1]),  # a blank before, 1, ⁄ and 2 share two bytes
    ],
)
def test_each_token_has_the_bytes_of_its_own_span(kind, text, expected):
    (found,) = counted(fast(kind), [text])
    assert present(found.n_bytes).tolist() == expected and sum(expected) == len(text.encode())


def test_a_tokenizer_in_plain_python_has_no_offsets_and_the_sum_is_right_all_the_same():
    tokenizer = ByT5Tokenizer()
    assert not tokenizer.is_fast
    for text, each in zip(TEXTS, counted(tokenizer, TEXTS), strict=True):
        assert present(each.n_bytes).sum() == len(text.encode())
    assert present(counted(tokenizer, ["né"])[0].n_bytes).tolist() == [1, 1, 1]


class Texts:
    def documents(self, split, seed, epoch=0):
        return iter([Document(str(i), text, "") for i, text in enumerate(TEXTS)])


@pytest.mark.parametrize("bos_id", [None, 1])
@pytest.mark.parametrize("separator", [(), (1, 1)])
def test_in_rows_the_bos_and_the_separator_stand_for_nothing(bos_id, separator):
    stream = RowStream(Texts(), fast("word-level"), PackingPolicy(4, bos_id, separator), Split.train, 0)
    assert all(block.n_bytes is None for block in stream.one_epoch(3))
    counting = RowStream(
        Texts(), fast("word-level"), PackingPolicy(4, bos_id, separator), Split.train, 0, counts_bytes=True
    )
    plain, rows = list(stream.one_epoch(3)), list(counting.one_epoch(3))
    assert [each.tokens.tolist() for each in plain] == [each.tokens.tolist() for each in rows]
    by_document = {each.document: each for each in tokenize(Texts().documents(None, 0), fast("word-level"), True)}
    n_bytes = np.concatenate([present(each.n_bytes) for each in rows])
    owners = np.concatenate([each.document for each in rows])
    if bos_id is not None:
        assert not n_bytes[:, 0].any()
        n_bytes, owners = n_bytes[:, 1:], owners[:, 1:]
    last = owners[-1, -1]  # whose end may not fill a row
    for document, each in by_document.items():
        if document != last and document in owners:
            assert n_bytes[owners == document].tolist() == [*present(each.n_bytes), *(0 for _ in separator)]
