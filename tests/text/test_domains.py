"""Domains of tokens, and whether tokenizers are the same."""

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from sae_cli.config.split import Split
from sae_cli.errors import RequestError
from sae_cli.text.documents import Document, document_id
from sae_cli.text.domains import DomainsOf, OnlyDomains
from sae_cli.text.token_identity import same_tokens

DOCUMENTS = [Document("a", "x", "code"), Document("b", "y", ""), Document("c", "z", "code"), Document("d", "w", "law")]


class Few:
    def documents(self, split, seed, epoch=0):
        return iter(DOCUMENTS)


def test_the_domain_of_every_token_is_that_of_its_document():
    domains = DomainsOf(Few())
    assert list(domains.documents(Split.held_out, 0)) == DOCUMENTS
    assert domains.names == ["code", "", "law"]
    ids = {each.key: document_id(each.key) for each in DOCUMENTS}
    rows = np.array([[ids["a"], ids["b"], ids["b"]], [ids["d"], ids["c"], ids["c"]]])
    assert domains.numbers(rows).tolist() == [[0, 1, 1], [2, 0, 0]]


def test_only_what_was_read_is_remembered():
    domains = DomainsOf(Few())
    next(domains.documents(Split.held_out, 0))
    with pytest.raises(KeyError):
        domains.numbers(np.array([document_id("d")]))


def tokenizer(text, **special):
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=262, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(text, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, **special)


def test_tokenizers_are_the_same_whatever_their_padding():
    one = tokenizer(["abab abab cdcd"] * 3, eos_token="<end>")
    other = tokenizer(["abab abab cdcd"] * 3, eos_token="<end>", bos_token="<end>", model_max_length=7)
    other(["ab", "abab"], padding=False, truncation=True)
    assert same_tokens(one, other)
    assert not same_tokens(one, tokenizer(["xyxy zzzz"] * 3))


def test_equal_vocabularies_with_other_merges_or_words_are_not_the_same():
    one, other = tokenizer(["abab abab cdcd"] * 3), tokenizer(["abab abab cdcd"] * 3)
    other.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    assert one.get_vocab() == other.get_vocab() and not same_tokens(one, other)


def test_only_some_domains_are_read():
    found = list(OnlyDomains(Few(), ["code"]).documents(Split.train, seed=0))
    assert [each.key for each in found] == ["a", "c"]
    with pytest.raises(RequestError, match=r"data.domains=\['three'\]: no train document is of these.* code, law"):
        list(OnlyDomains(Few(), ["three"]).documents(Split.train, seed=0))
