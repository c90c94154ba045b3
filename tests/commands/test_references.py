"""Domains and reference models, end to end, against the same computed by hand."""

import json
import math
import shutil
from typing import NamedTuple

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

from sae_cli.artifacts.stored_run import read_run
from sae_cli.build import row_stream
from sae_cli.commands import eval as evaluate
from sae_cli.config.data import TextData
from sae_cli.config.split import Split
from sae_cli.errors import RequestError
from sae_cli.evaluation import evaluate_together
from sae_cli.metrics.report import Figures
from sae_cli.models import load_language_model
from sae_cli.runs.row_files import read_rows
from sae_cli.text.documents import document_id
from sae_cli.text.local_text import TextCorpus
from tests.known import document_of

D, CONTEXT = 16, 32
ROWS = -(-1000 // (CONTEXT - 1))


def save(folder, tokenizer, hidden, seed, context=64, spread=0.3):
    torch.manual_seed(seed)
    config = GPTNeoXConfig(
        vocab_size=len(tokenizer), hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=context, initializer_range=spread, bos_token_id=0,
        eos_token_id=0,
    )  # fmt: skip
    GPTNeoXForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def another_tokenizer():
    """Bytes, and a few pieces of its own."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=262, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(["bata kere losi"] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<end>", eos_token="<end>")


class Folders(NamedTuple):
    """References: with the tokenizer of the world's model, the larger the better (random weights of less and less
    spread), two of its checkpoints, and one with another tokenizer."""

    smaller: str
    larger: str
    early: str
    late: str
    foreign: str


@pytest.fixture(scope="module")
def folders(world, tmp_path_factory):
    root, same = tmp_path_factory.mktemp("references"), AutoTokenizer.from_pretrained(world.model)
    checkpoint = AutoModelForCausalLM.from_pretrained(world.model)
    for step, scale in (("step10", 0.1), ("step1000", 0.8)):
        with torch.no_grad():
            for parameter in checkpoint.parameters():
                parameter.mul_(scale)
        checkpoint.save_pretrained(root / step)
        same.save_pretrained(root / step)
    paths = (
        save(root / "smaller", same, 8, 1, spread=2.0),
        save(root / "larger", same, 32, 2, spread=0.02),
        root / "step10",
        root / "step1000",
        save(root / "foreign", another_tokenizer(), 8, 3, context=24),
    )
    return Folders(*map(str, paths))


def dictionary(directions):
    """All features where a direction is given twice, with both signs, make an identity."""
    tensors = {"W_enc": directions, "W_dec": directions, "b_enc": torch.zeros(len(directions))}
    return {**tensors, "b_dec": torch.zeros(D), "activation_mean": torch.zeros(D)}


def identity():
    return dictionary(torch.cat([torch.eye(D), -torch.eye(D)]))


def partial():
    directions = torch.randn(12, D, generator=torch.Generator().manual_seed(0))
    return dictionary(torch.nn.functional.normalize(directions, dim=1))


def evaluated(world, directory, tensors, *references, **changes):
    world.install(directory, tensors)
    config = world.eval(directory, references=list(references), **changes)
    return evaluate.run(config, directory, "default")


def held_out(world, data=None):
    model = load_language_model(str(world.model))
    blocks = list(row_stream(data or world.train("").data, model, Split.held_out).one_epoch(4))
    rows = torch.cat([torch.from_numpy(block.tokens) for block in blocks])[:ROWS]
    return model.hf, rows, torch.cat([torch.from_numpy(block.document) for block in blocks])[:ROWS]


def losses(hf, rows):
    """The loss of predicting each token from position 2 on, float64."""
    with torch.no_grad():
        logits = hf(rows).logits.double()
    targets = rows[:, 2:]
    flat = torch.nn.functional.cross_entropy(logits[:, 1:-1].flatten(0, 1), targets.flatten(), reduction="none")
    return flat.view_as(targets)


def test_a_model_with_an_identity_in_it_lands_on_itself(world, tmp_path, folders):
    result = evaluated(world, tmp_path / "run", identity(), folders.smaller, folders.larger)
    report = document_of(result)["eval"]
    own, found = report["references"][0], report["equivalent_model"]
    assert own["parameters"] == sum(p.numel() for p in load_language_model(str(world.model)).hf.parameters())
    assert found["axis"] == "parameters" and found["outside"] is None
    assert found["value"] == found["low"] == found["high"] == own["parameters"]
    assert found["below"] == found["above"] == own["name"] == str(world.model)
    assert own["difference_to_sae"] == pytest.approx(0, abs=1e-6)
    assert own["ce"] == report["ce_clean"] and own["se"] == report["ce_clean_se"]
    assert any(row[0] == "as good as" for row in result.table)


def test_references_of_the_same_tokenizer_read_the_same_rows(world, tmp_path, folders):
    """Cross-entropy and the paired error of its difference, from the models themselves."""
    report = document_of(evaluated(world, tmp_path / "run", partial(), folders.smaller))["eval"]
    assert report["references_unit"] == "ce"
    hf, rows, _ = held_out(world)
    reference = losses(AutoModelForCausalLM.from_pretrained(folders.smaller), rows)
    spliced_by = world.install(tmp_path / "by_hand", partial())
    handle = hf.get_submodule("gpt_neox.layers.1.mlp").register_forward_hook(
        lambda module, args, x: torch.cat([x[:, :1], spliced_by(x[:, 1:])], dim=1)
    )
    spliced = losses(hf, rows)
    handle.remove()
    found = report["references"][1]
    assert found["name"] == folders.smaller and found["same_rows"] is True
    assert found["ce"] == pytest.approx(reference.mean().item(), rel=1e-5)
    by_row = (reference - spliced).mean(dim=1)  # all rows are of one length
    assert found["difference_to_sae"] == pytest.approx(by_row.mean().item(), rel=1e-4)
    document = read_rows(read_run(tmp_path / "run" / "eval" / "default")).places.document
    each = [(by_row - by_row.mean())[document == g].sum().item() / ROWS for g in document.unique()]
    clustered = math.sqrt(len(each) / (len(each) - 1) * sum(psi**2 for psi in each))
    assert found["difference_se"] == pytest.approx(clustered, rel=1e-3)
    assert found["difference_se"] < found["se"] + report["ce_sae_se"]


def test_the_place_between_two_references_is_log_linear(world, tmp_path, folders):
    report = document_of(evaluated(world, tmp_path / "run", partial(), folders.smaller, folders.larger))["eval"]
    points = sorted(report["references"], key=lambda each: each["parameters"])
    found = report["equivalent_model"]
    assert found["monotone"] == (points[0]["ce"] > points[1]["ce"] > points[2]["ce"])
    if found["outside"] is None:
        below, above = (next(p for p in points if p["name"] == found[end]) for end in ("below", "above"))
        value = torch.tensor([math.log(p["parameters"]) for p in (below, above)])
        share = (below["ce"] - report["ce_sae"]) / (below["ce"] - above["ce"])
        assert math.log(found["value"]) == pytest.approx(torch.lerp(value[0], value[1], share).item(), rel=1e-5)
    else:
        worst, smallest = max(point["ce"] for point in points), points[0]["ce"]
        rises = smallest < min(points[1]["ce"], points[2]["ce"])
        lower = "worse than all" if report["ce_sae"] > worst else "worse than the smallest"
        outside = lower if report["ce_sae"] > smallest else "better than all"
        assert found["outside"] == ("no falling curve" if rises else outside)
        assert found["value"] is None


def test_checkpoints_of_the_model_are_placed_by_their_steps(world, tmp_path, folders):
    report = document_of(evaluated(world, tmp_path / "run", partial(), folders.early, folders.late))["eval"]
    found = report["equivalent_model"]
    assert found["axis"] == "steps"
    assert [each.get("step") for each in report["references"]] == [None, 10, 1000]
    assert found["below"] in (None, folders.early) and found["above"] in (None, folders.late)
    # With a model of another size among them the axis is that of parameters, where checkpoints have no place.
    report = document_of(evaluated(world, tmp_path / "both", partial(), folders.early, folders.larger))["eval"]
    found = report["equivalent_model"]
    assert found["axis"] == "parameters"
    assert folders.early not in (found["below"], found["above"])


def test_another_tokenizer_means_bits_per_byte_of_the_same_text(world, tmp_path, folders):
    """Packed, counted and summed here: the same documents, up to the same number of bytes."""
    report = document_of(evaluated(world, tmp_path / "run", partial(), folders.foreign, folders.smaller))["eval"]
    assert report["references_unit"] == "bits_per_byte"
    _, own_rows, _ = held_out(world)
    own = AutoTokenizer.from_pretrained(world.model)
    n_bytes = sum(len(own.decode(row, skip_special_tokens=True).encode()) for row in own_rows)
    foreign = AutoTokenizer.from_pretrained(folders.foreign)
    ids = []
    for document in TextCorpus(str(world.text), "text", "", 0.2).documents(Split.held_out, seed=0):
        ids += [*foreign(document.text)["input_ids"], 0]
    rows, covered = [], 0
    while covered < n_bytes:  # its own context is 24
        rows.append([0, *ids[:23]])
        ids = ids[23:]
        covered += len(foreign.decode(rows[-1], skip_special_tokens=True).encode())
    tokens = torch.tensor(rows)
    predicted = sum(len(foreign.decode(row[2:], skip_special_tokens=True).encode()) for row in rows)
    loss = losses(AutoModelForCausalLM.from_pretrained(folders.foreign), tokens)
    found, smaller = report["references"][1:]
    assert found["bits_per_byte"] == pytest.approx(loss.sum().item() / predicted / math.log(2), rel=1e-5)
    assert found["same_rows"] is False and smaller["same_rows"] is True
    difference = found["bits_per_byte"] - report["bits_per_byte_sae"]
    assert found["difference_to_sae"] == pytest.approx(difference)
    assert found["difference_se"] == pytest.approx(math.hypot(found["se"], report["bits_per_byte_sae_se"]))
    assert report["references"][0]["bits_per_byte"] == report["bits_per_byte_clean"]


def test_each_reference_counts_once(world, tmp_path, folders):
    names = (folders.smaller, folders.smaller + "/", str(world.model))
    report = document_of(evaluated(world, tmp_path / "run", identity(), *names))["eval"]
    assert len(report["references"]) == 2


def test_references_that_are_not_there_are_refused_before_anything_is_measured(world, tmp_path, folders):
    with pytest.raises(RequestError, match=r"references=\./nowhere: .*expected a model folder at"):
        evaluated(world, tmp_path / "run", identity(), "./nowhere")
    data = TextData(path=str(world.text), context=32, held_out_fraction=0.2, gaussian_embeddings=True)
    with pytest.raises(RequestError, match=r"data\.gaussian_embeddings=true; leave references out"):
        evaluated(world, tmp_path / "run", identity(), folders.smaller, data=data)
    assert not (tmp_path / "run" / "eval").exists()


def test_references_whose_weights_are_quantized_are_refused_before_anything_is_measured(world, tmp_path, folders):
    quantized = shutil.copytree(folders.smaller, tmp_path / "quantized")
    config = json.loads((quantized / "config.json").read_text())
    (quantized / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "awq"}}))
    with pytest.raises(RequestError, match=r"references=.*quantized: .*found weights quantized by awq"):
        evaluated(world, tmp_path / "run", identity(), str(quantized))
    assert not (tmp_path / "run" / "eval").exists()


def test_several_dictionaries_are_placed_too(world, tmp_path, folders):
    world.install(tmp_path / "a", identity(), layer=0)
    world.install(tmp_path / "b", identity(), layer=1)
    config = world.eval("one", references=[folders.smaller])
    config.run, config.features = [str(tmp_path / "a"), str(tmp_path / "b")], type(config.features)()
    report = document_of(evaluate_together.run(config, tmp_path / "both"))["eval"]
    assert report["equivalent_model"]["value"] == report["references"][0]["parameters"]


@pytest.fixture(scope="module")
def three_domains(world, tmp_path_factory):
    """The beginnings of the world's texts in three folders, so short that some of each are read."""
    root = tmp_path_factory.mktemp("domains")
    for number, file in enumerate(sorted(world.text.iterdir())):
        folder = root / ("one", "two", "three")[number % 3]
        folder.mkdir(exist_ok=True)
        (folder / file.name).write_text(" ".join(file.read_text().split()[:40]))
    return TextData(path=str(root), context=CONTEXT, held_out_fraction=0.4)


def test_domains_are_the_folders_of_the_text(world, tmp_path, three_domains):
    result = evaluated(world, tmp_path / "run", partial(), data=three_domains)
    report = document_of(result)["eval"]
    hf, rows, documents = held_out(world, three_domains)
    corpus = TextCorpus(three_domains.path, "text", "", 0.4)
    domain_of = {document_id(each.key): each.domain for each in corpus.documents(Split.held_out, seed=0)}
    clean, owners = losses(hf, rows).flatten(), [domain_of[each] for each in documents[:, 2:].flatten().tolist()]
    assert set(report["domains"]) == {"one", "two", "three"}
    for name, found in report["domains"].items():
        of_it = clean[torch.tensor([owner == name for owner in owners])]
        assert found["tokens"] == len(of_it)
        assert found["ce_clean"] == pytest.approx(of_it.mean().item(), rel=1e-5)
        for figure in ("ce_sae", "ce_zero", "ce_increase", "loss_recovered"):
            assert {figure, f"{figure}_se", f"{figure}_direct", f"{figure}_direct_se"} <= set(found)
    assert sum(found["tokens"] for found in report["domains"].values()) == report["loss_tokens"]
    pooled = sum(found["tokens"] * found["ce_sae"] for found in report["domains"].values()) / report["loss_tokens"]
    assert pooled == pytest.approx(report["ce_sae"], rel=1e-12)
    assert sum(row[0].startswith("domain ") for row in result.table) == 3


def test_text_of_one_domain_has_no_domains(world, tmp_path):
    assert "domains" not in document_of(evaluated(world, tmp_path / "run", partial()))["eval"]


def test_the_table_pools_small_domains():
    from sae_cli.evaluation.loss_tables import domain_rows

    def figures(tokens, increase) -> Figures:
        return {"tokens": tokens, "ce_clean": 2.0, "ce_sae": 2 + increase, "ce_zero": 4.0, "ce_increase": increase}

    domains = {f"d{i}": figures(1000 - i, 0.1) for i in range(8)} | {"x": figures(30, 0.4), "y": figures(10, 0.8)}
    rows = domain_rows({"domains": domains})
    assert [row[0] for row in rows] == [*(f"domain d{i}" for i in range(8)), "domain other (2)"]
    assert rows[-1][1] == "40 tokens, CE 2.000, increase 0.5000, loss recovered 0.7500"
