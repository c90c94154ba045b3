"""Texts that are given as token ids, or as the messages of chats, through a language model."""

import hashlib
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from transformers import AutoTokenizer

from sae_cli.artifacts.stored_run import read_run
from sae_cli.build import row_stream
from sae_cli.cli.plan import make_plan
from sae_cli.cli.request import Request
from sae_cli.commands import train
from sae_cli.config.commands.eval import EvalConfig
from sae_cli.config.data import HfData, TextData
from sae_cli.config.split import Split
from sae_cli.errors import RequestError
from sae_cli.models import load_language_model
from tests.known import the

SMALL = ["device=cpu", "model_rows=4", "eval.tokens=150", "features.tokens=200"]
TEMPLATE = "{% for each in messages %}<{{ each['role'] }}>{{ each['content'] }}{{ eos_token }}{% endfor %}"


@pytest.fixture(scope="module")
def made(world, tmp_path_factory):
    """Folders of the same documents as text, as token ids, and as chats; and a model that has a chat template."""
    root = tmp_path_factory.mktemp("made")
    tokenizer = AutoTokenizer.from_pretrained(world.model)
    texts = [(world.text / f"{n}.txt").read_text() for n in range(60)]
    columns = {
        "text": texts,
        "ids": tokenizer(texts)["input_ids"],
        "chats": [[{"role": "user", "content": text[:200]}, {"role": "bot", "content": text[200:]}] for text in texts],
    }
    for name, values in columns.items():
        (root / name).mkdir()
        lines = (json.dumps({name: value}) + "\n" for value in values)
        (root / name / "a.jsonl").write_text("".join(lines))
    shutil.copytree(world.model, root / "model")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(root / "model")
    return SimpleNamespace(root=root, model=root / "model", **columns)


def data_of(made, name, kind: type[TextData | HfData] = TextData, **changes):
    return kind(path=str(made.root / name), column=name, **{"context": 32, "held_out_fraction": 0.2} | changes)


def rows(model, data):
    """The first rows that are held out."""
    stream = row_stream(data, load_language_model(str(model)), Split.held_out)
    return next(stream.one_epoch(1000))


@pytest.mark.parametrize("kind", [TextData, HfData])
def test_ids_and_the_text_that_they_were_made_of_are_the_same_rows(world, made, kind):
    """The same documents on the same side of the split too."""
    order = {"shuffle_documents": 1} if kind is HfData else {}
    text = rows(world.model, data_of(made, "text", kind, **order))
    ids = rows(world.model, data_of(made, "ids", kind, tokens=True, **order))
    np.testing.assert_array_equal(ids.tokens, text.tokens)
    np.testing.assert_array_equal(ids.document, text.document)


@pytest.mark.parametrize("kind", [TextData, HfData])
def test_chats_are_what_the_template_makes_of_them(made, kind):
    order = {"shuffle_documents": 1} if kind is HfData else {}
    found = rows(made.model, data_of(made, "chats", kind, chat=True, held_out_fraction=0.999, **order))
    tokenizer = AutoTokenizer.from_pretrained(made.model)
    expected = [tokenizer.apply_chat_template(each)["input_ids"] for each in made.chats]
    plain = tokenizer("<user>" + made.chats[0][0]["content"])["input_ids"]
    assert expected[0][: len(plain) + 1] == [*plain, 0]  # the end of a message is the token, not its letters
    flat = [int(id) for row in found.tokens for id in row[1:]]
    whole = [id for each in expected[:3] for id in [*each, 0]]
    assert flat[: len(whole)] == whole


def test_a_run_on_ids_is_measured_on_ids(world, made, sae, tmp_path):
    run = tmp_path / "run"
    train.run(world.train(tmp_path, data=data_of(made, "ids", tokens=True), tokens=512, dict_size=8), run)
    manifest = read_run(run).manifest
    assert manifest.settings["data.tokens"] is True and "data.chat" not in manifest.settings
    ended = sae("eval", run, "--json", "eval.sample=first", *SMALL)
    report = json.loads(ended.out)["eval"]
    assert report["bits_per_byte_clean"] is None and report["ce_clean"] > 0
    (evaluation,) = (run / "eval").iterdir()
    tokens = rows(world.model, data_of(made, "text")).tokens[: -(-150 // 31)]
    expected = hashlib.sha256(tokens.astype("<i8").tobytes()).hexdigest()
    assert read_run(evaluation).manifest.facts["tokens_sha256"] == expected
    # Another setting of the same text, and the same folder as a data set, go on with ids.
    sae("eval", run, "data.context=24", "eval.sample=first", *SMALL)
    (other,) = set((run / "eval").iterdir()) - {evaluation}
    settings = read_run(other).manifest.settings
    assert [settings[f"data.{name}"] for name in ("context", "tokens", "column")] == [24, True, "ids"]
    overrides = [f"run={run}", "data=hf", f"data.path={made.root / 'ids'}"]
    config = the(EvalConfig, make_plan(Request(command="eval", overrides=overrides)).jobs[0].config)
    data = the(HfData, config.data)
    assert (data.tokens, data.column) == (True, "ids")
    # Other text is read as it is said to be.
    sae("eval", run, "data=text", f"data.path={made.root / 'text'}", *SMALL)


def test_references_of_ids_have_the_same_tokenizer(world, made, sae, tmp_path):
    run, foreign = tmp_path / "run", tmp_path / "foreign"
    train.run(world.train(tmp_path, data=data_of(made, "ids", tokens=True), tokens=512, dict_size=8), run)
    shutil.copytree(world.model, foreign)
    tokenizer = AutoTokenizer.from_pretrained(foreign)
    tokenizer.add_tokens(["batake"])
    tokenizer.save_pretrained(foreign)
    ended = sae("eval", run, f"references=[{foreign}]", *SMALL, code=2)
    assert "reads the same rows of tokens, as data.tokens=true has them" in ended.err
    copy = shutil.copytree(world.model, tmp_path / "copy")
    report = sae("eval", run, f"references=[{copy}]", "--json", *SMALL).document["eval"]
    assert report["references_unit"] == "ce" and report["references"][1]["ce"] == pytest.approx(report["ce_clean"])


def test_a_tokenizer_without_a_template_is_one_line(world, made, sae, tmp_path):
    arguments = ["model=hf", f"model.path={world.model}", "layer=1", "data=text", f"data.path={made.root / 'chats'}"]
    arguments += ["data.column=chats", "data.chat=true", f"runs_dir={tmp_path}", "tokens=512", "device=cpu"]
    ended = sae("train", *arguments, code=2)
    assert "error: data.chat=true: expected a tokenizer with a chat template, found none" in ended.err
    assert ended.err.strip().splitlines()[-1].startswith("sae: error:")
    with pytest.raises(RequestError, match=r"data\.chat=True has no effect with data\.tokens=true"):
        make_plan(Request(command="train", overrides=[*arguments, "data.tokens=true"]))


def test_names_of_runs_stay_unless_the_tokens_differ(made):
    def name(*more):
        overrides = ["data=text", f"data.path={made.root / 'ids'}", *more]
        return make_plan(Request(command="train", overrides=overrides)).jobs[0].place[0]

    names = [name(), name("data.tokens=true"), name("data.chat=true")]
    assert len(set(names)) == 3
    assert names[0] == name("data.tokens=false", "data.chat=false")
