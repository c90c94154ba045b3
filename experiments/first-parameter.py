#!/usr/bin/env python3
"""Does a feature mean "`self` is the first parameter of a method"? Its activations against the text itself.

    experiments/first-parameter.py RUN FEATURE

reads held-out text and prints, for limits of the activation, how many tokens exceed it, the share of them that are the
word `self` right after the bracket of a `def` in the same line (precision), and the share of such words that exceed it
(recall).
"""

from __future__ import annotations

import re
import sys
from itertools import islice
from pathlib import Path

import torch

from sae_cli import build
from sae_cli.config.split import Split
from sae_cli.dictionaries.files import load_dictionary
from sae_cli.evaluation.subject import ModelSubject, make_subject
from sae_cli.runs.dictionary_run import read_dictionary_run
from sae_cli.text.token_text import token_texts

BLOCKS = 50
MODEL_ROWS = 16
LIMITS = (0, 4, 8, 12, 16)
DEFINITION = re.compile(r"def [^\n()]*\($")


def main(directory: str, feature: int) -> None:
    run = read_dictionary_run(Path(directory))
    dictionary = load_dictionary(run.run)
    subject = make_subject(run, None, MODEL_ROWS, torch.device("cpu"))
    assert isinstance(subject, ModelSubject)
    stream = build.row_stream(subject.data, subject.model, Split.held_out)
    words = token_texts(subject.model.tokenizer, range(subject.model.vocab_size))
    activations, meant = [], []
    for rows, block in islice(subject.rows(stream), BLOCKS):
        activations.append(dictionary.encode(block.activations)[:, feature])
        meant += [each for row in rows.tokens.tolist() for each in first_parameters([words[token] for token in row])]
    f, is_meant = torch.cat(activations), torch.tensor(meant)
    print(f"{len(f):,} held-out tokens, {int(is_meant.sum()):,} of them `self` as a first parameter")
    for limit in LIMITS:
        above = f > limit
        precision, recall = is_meant[above].double().mean(), above[is_meant].double().mean()
        print(f"above {limit:2}: {int(above.sum()):6,} tokens, precision {precision:.3f}, recall {recall:.3f}")


def first_parameters(texts: list[str]) -> list[bool]:
    """For each token of a row but the first, whether it is `self` right after `def name(`."""
    return [
        text == "self" and DEFINITION.search("".join(texts[max(0, i - 12) : i])) is not None
        for i, text in enumerate(texts)
    ][1:]


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
