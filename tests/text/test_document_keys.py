"""Keys of documents, remembered and forgotten; the text of tokens."""

from __future__ import annotations

from sae_cli.config.split import Split
from sae_cli.text.document_keys import DocumentKeys
from sae_cli.text.documents import Document, document_id
from sae_cli.text.token_text import token_texts


class Corpus:
    def documents(self, split, seed, epoch=0):
        return (Document(name, name, "") for name in "abcde")


def test_keys_are_remembered_until_they_are_not_needed():
    corpus = DocumentKeys(Corpus())
    assert [each.key for each in corpus.documents(Split.train, 0)] == list("abcde")
    assert list(corpus.keys.values()) == list("abcde")
    corpus.forget_before(document_id("d"), but={document_id("b")})
    assert list(corpus.keys.values()) == ["b", "d", "e"]


class SentencePiece:
    pieces = ("<s>", "\u2581the", "re", "\u2581")

    def __len__(self):
        return len(self.pieces)

    def convert_ids_to_tokens(self, ids):
        return [self.pieces[each] for each in ids]

    def batch_decode(self, sequences, **settings):
        return ["".join(self.pieces[each] for each in ids).replace("\u2581", " ").lstrip(" ") for ids in sequences]


def test_a_leading_space_is_kept_and_an_unused_id_is_said():
    assert token_texts(SentencePiece(), [1, 2, 9, 0, 3]) == [" the", "re", "<9>", "<s>", " "]
