"""data.separator: what stands between documents, against rows that are packed here and a plain transformers model."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from sae_cli.artifacts.stored_run import read_run
from sae_cli.build import corpus, packing_policy, row_stream
from sae_cli.cli.main import run as command_line
from sae_cli.commands import eval as evaluate
from sae_cli.commands import train
from sae_cli.config.data import TextData
from sae_cli.config.split import Split
from sae_cli.errors import RequestError
from sae_cli.models import load_language_model
from tests.known import document_of

CONTEXT = 32


def text_with(world, separator, **changes):
    return TextData(path=str(world.text), context=CONTEXT, held_out_fraction=0.2, separator=separator, **changes)


def packed(world, separator, ids, bos=True):
    """The held-out rows, by plain tokenizer calls: a BOS (id 0), then documents and separators one after another."""
    tokenizer = AutoTokenizer.from_pretrained(world.model)
    documents = corpus(text_with(world, separator)).documents(Split.held_out, 0)
    flat = [each for document in documents for each in [*tokenizer(document.text)["input_ids"], *ids]]
    body = CONTEXT - bos
    rows = np.array(flat[: len(flat) // body * body]).reshape(-1, body)
    return np.pad(rows, ((0, 0), (int(bos), 0)))


def ids_of(world, text):
    return AutoTokenizer.from_pretrained(world.model)(text)["input_ids"]


@pytest.mark.parametrize(
    ("separator", "text"),
    [("eos", "<end>"), ("bos", "<end>"), ("none", ""), (r"\n\n", "\n\n"), ("\n", "\n"), (" kere, ", " kere, "),
     ("<end>", "<end>"), (r"\t", "\t")],
)  # fmt: skip
@pytest.mark.parametrize("bos", [True, False])
def test_rows_have_it_between_documents(world, separator, text, bos):
    model = load_language_model(str(world.model))
    stream = row_stream(text_with(world, separator, bos=bos), model, Split.held_out)
    found = np.concatenate([each.tokens for each in stream.one_epoch(4)])
    np.testing.assert_array_equal(found, packed(world, separator, ids_of(world, text), bos))


def test_the_loss_is_that_of_a_plain_model_on_these_rows(world, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(world.model)
    found = {}
    for name, separator, ids in [("d", "eos", [0]), ("n", "none", []), ("t", r"\n", ids_of(world, "\n"))]:
        config = world.train(tmp_path, data=text_with(world, separator))
        run = train.run(config, tmp_path / name).directory
        report = document_of(evaluate.run(world.eval(run), run, "default"))["eval"]
        rows = torch.from_numpy(packed(world, separator, ids))[: -(-1000 // (CONTEXT - 1))]
        with torch.no_grad():
            logits = model(rows).logits.double()
        loss = torch.nn.functional.cross_entropy(logits[:, 1:-1].flatten(0, 1), rows[:, 2:].flatten())
        assert report["ce_clean"] == pytest.approx(loss.item(), rel=1e-5), separator
        assert read_run(run).manifest.facts["separator_ids"] == ids
        found[name] = report["ce_clean"]
    assert len(set(found.values())) == 3


def test_an_evaluation_elsewhere_takes_it_over(world, tmp_path, capsys):
    run = train.run(world.train(tmp_path, data=text_with(world, "none"), tokens=128), tmp_path / "r").directory
    small = ["device=cpu", "model_rows=4", "eval.tokens=150", "features.tokens=200"]
    assert command_line(["eval", str(run), "data.context=16", *small]) == 0
    assert "data.separator" not in capsys.readouterr().err
    assert command_line(["eval", str(run), "data.separator=eos", *small]) == 0
    assert "measured otherwise than it was trained: data.separator none -> eos" in capsys.readouterr().err
    settings = [read_run(each).manifest.settings["data.separator"] for each in sorted((run / "eval").iterdir())]
    assert sorted(settings) == ["eos", "none"]


class Without:
    """A tokenizer without special tokens, of letters only."""

    bos_token_id = eos_token_id = unk_token_id = None

    def __call__(self, text, add_special_tokens):
        return {"input_ids": [ord(each) for each in text if each.isalpha()]}


class Letters(Without):
    unk_token_id = 3

    def __call__(self, text, add_special_tokens):
        return {"input_ids": [ord(each) if each.isalpha() else 3 for each in text]}


def policy(world, separator, tokenizer):
    model: Any = SimpleNamespace(max_context=CONTEXT, tokenizer=tokenizer)
    return packing_policy(text_with(world, separator), model)


def test_a_tokenizer_without_an_eos_has_nothing_there(world):
    assert policy(world, "eos", Without()).separator_ids == ()


@pytest.mark.parametrize(
    ("separator", "tokenizer", "said"),
    [
        ("bos", Without(), "data.separator=bos: the model's tokenizer has no BOS token"),
        ("", Without(), 'data.separator="": expected eos, bos, none, or a text'),
        (r"\n", Without(), r'data.separator="\n": expected eos, bos, none, or a text that the tokenizer has'),
        ("a-b", Letters(), "tokens for, found only part of it"),
    ],
)
def test_what_cannot_be_a_separator_is_refused(world, separator, tokenizer, said):
    with pytest.raises(RequestError) as refused:
        policy(world, separator, tokenizer)
    assert said in str(refused.value)
