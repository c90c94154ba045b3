"""Which tokens carry a label, by a rule of its own for each token; multi-byte characters that several tokens share."""

import random
from fractions import Fraction

import numpy as np
import pytest

from sae_cli.errors import RequestError
from sae_cli.models.load import load_tokenizer
from sae_cli.text.concepts.labellers import labeller
from sae_cli.text.concepts.text_concepts import TEXT, RegexConcept
from sae_cli.text.concepts.token_labels import TIE, TokenPlaces
from sae_cli.text.token_bytes import bytes_by_offsets


def by_hand(text, n_bytes, spans):
    """Each byte is that part of its character, in fractions; token by token."""
    parts = [(i, Fraction(1, len(sign.encode()))) for i, sign in enumerate(text) for _ in sign.encode()]
    at = 0
    for n in n_bytes.tolist():
        own, at = parts[at : at + n], at + n
        ink = [each for each in own if not text[each[0]].isspace()] or own
        inside = sum((share for i, share in ink if any(a <= i < b for a, b in spans)), Fraction(0))
        total = sum((share for _, share in ink), Fraction(0))
        yield TIE if 2 * inside == total else int(2 * inside > total)


@pytest.mark.parametrize("seed", range(20))
def test_labels_are_those_of_the_larger_part(seed):
    rng = random.Random(seed)
    text = "".join(rng.choices("ab é\u4e2d\U0001f600\n", k=60))
    left, n_bytes = len(text.encode()), []
    while left:
        n_bytes.append(rng.randint(0, min(4, left)))
        left -= n_bytes[-1]
    n_bytes = np.array(n_bytes)
    starts = [rng.randrange(60) for _ in range(5)]
    spans = [(start, min(60, start + rng.randint(0, 9))) for start in starts]
    assert TokenPlaces(text, n_bytes).labels(spans).tolist() == list(by_hand(text, n_bytes, spans))


def test_a_blank_before_a_word_decides_nothing():
    text = "f( x, 中)"
    ids, offsets = ids_of(text)
    places = TokenPlaces(text, bytes_by_offsets(text, offsets))
    labels = places.labels([(text.index("x"), text.index("x") + 1), (text.index("中"), text.index("中") + 1)])
    assert labels.sum() >= 1 + sum(1 for a, b in offsets if text[a:b].strip() == "中")
    assert len(labels) == len(ids)


def ids_of(text):
    encoded = load_tokenizer("embedded:demo")([text], add_special_tokens=False, return_offsets_mapping=True)
    return encoded["input_ids"][0], encoded["offset_mapping"][0]


def test_no_python_no_label():
    found = labeller(["python.param", "text.digits"]).labels("def f(: 12", np.array([3, 1, 3, 1, 2]))
    assert found[:, 0].tolist() == [TIE] * 5
    assert found[:, 1].tolist() == [0, TIE, 0, 0, 1] or found[-1, 1] == 1


def test_all_of_python_and_one_of_ones_own():
    found = labeller(["python", "regex:shout=[A-Z]{3,}"])
    assert found.names[-1] == "shout" and "python.defined" in found.names and len(found.names) == 32
    assert labeller(["text"]).names == tuple(f"text.{name}" for name in TEXT)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["python.params"], "no such concept: did you mean python.param?"),
        (["nothing"], "no such concept; there is python, text"),
        (["regex:a"], "expected regex:NAME=PATTERN"),
        (["regex:a=("], "expected a regular expression: missing"),
        (["regex:text.url=x"], "is a concept that is built in"),
        (["python", "python.param"], "python.param twice"),
    ],
)
def test_wrong_labels_are_refused(labels, said):
    with pytest.raises(RequestError, match=said.replace("(", r"\(").replace("?", r"\?")):
        labeller(labels)


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("word", "ab1 c", ["ab", "c"]),
        ("capitalised", "The USA of America", ["The", "America"]),
        ("quoted", 'He said "so it is" and “yes”', ["so it is", "yes"]),
        ("sentence_start", "One two. Three?\nFour\n\nfive", ["One", "Three", "Four", "five"]),
        ("url", "see https://a.b/c?d, www.x.org", ["https://a.b/c?d,", "www.x.org"]),
        ("latex", r"\alpha and $x^2$", [r"\alpha", "$x^2$"]),
        ("before_comma", "f(a, bc ,d)", ["a", "bc"]),
        ("self", "self.itself(self)", ["self", "self"]),
    ],
)
def test_concepts_of_text(name, text, found):
    assert [text[a:b] for a, b in RegexConcept(name, TEXT[name][1]).spans(text)] == found
