"""`sae probe` and `sae classify` on a tiny language model: labels from patterns and from files, files and gates."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from sae_cli import build
from sae_cli.artifacts.stored_run import read_run
from sae_cli.commands import probe, train
from sae_cli.config.commands.probe import ProbeConfig
from sae_cli.config.probe import Pool, ProbeBasis, ProbingConfig
from sae_cli.config.split import Split
from sae_cli.dictionaries.files import load_dictionary
from sae_cli.evaluation.probing.capture import capture, pooled
from sae_cli.evaluation.probing.figures import TestSet
from sae_cli.evaluation.probing.samples import Sample, Seen, Tokens, Unseen, only_seen, samples
from sae_cli.evaluation.probing.text import CorpusText, FileText, Read
from sae_cli.evaluation.subject import ModelSubject, make_subject
from sae_cli.runs.dictionary_run import read_dictionary_run
from sae_cli.text.concepts.labelled_files import LabelledFile
from sae_cli.text.concepts.labellers import labeller
from sae_cli.text.rows import tokenize
from tests.known import document_of, present, the

SMALL = ProbingConfig(
    tokens=6000, test_tokens=2000, fit=400, tune=150, test=300, per_document=40, least=15, least_documents=5,
    permutations=5,
)  # fmt: skip
SPOTTED = "regex:spotted=\\b(?:ba|ke)\\w+ (\\w+)"


@pytest.fixture(scope="module")
def run(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("probe") / "run"
    train.run(world.train(folder.parent), folder)
    return folder


def probed(run, name, **changes):
    given = {"labels": [SPOTTED], "probe": SMALL, "k": [1, 4], "baselines": list(ProbeBasis)}
    config = ProbeConfig(run=str(run), device="cpu", model_rows=4, **given | changes)
    return document_of(probe.run(config, run, name))["probe"]


@pytest.fixture(scope="module")
def report(run):
    return probed(run, "patterns", agree=3, labels=[SPOTTED, "regex:second=^\\S+ (\\S+)"])


def read(run, text_of=None):
    source = read_dictionary_run(run)
    subject = the(ModelSubject, make_subject(source, None, 4, torch.device("cpu")))
    text = text_of(subject) if text_of else CorpusText(subject, labeller([SPOTTED]), SMALL)
    return subject, load_dictionary(source.run), Read.of(text)


def test_every_basis_is_there_and_the_token_tells_nothing_of_matched_tokens(report):
    for each in report["concepts"]:
        assert list(each["bases"]) == ["features", *(basis.value for basis in ProbeBasis)]
        token = each["bases"]["token"]["best"]["auroc"]
        if each["kind"] == "matched":
            assert token == 0.5  # as many of each token in each class, in every part
        else:
            assert token != 0.5
        assert each["bases"]["features"]["features"] == each["bases"]["directions"]["features"] == 48
        assert each["bases"]["features"]["best"]["auroc"] <= 1 and each["bases"]["token"]["k95"] is None
        assert [one["k"] for one in each["bases"]["pca"]["sparse"]] == [1, 4]


def test_samples_are_what_they_promise(run):
    _, _, found = read(run)
    for each in samples(found.tokens, ("spotted",), SMALL):
        sample = the(Sample, each)
        sides = {}
        for name, part in (("fit", sample.fit), ("tune", sample.tune), ("test", sample.test)):
            documents = found.tokens.document[part.index]
            sides[name] = set(documents.tolist())
            for of_class in (part.y, ~part.y):
                assert np.unique(documents[of_class], return_counts=True)[1].max() <= SMALL.per_document
                assert SMALL.least <= of_class.sum() <= getattr(SMALL, name)
            assert (found.tokens.labels[part.index, 0] == part.y).all()
            if sample.matched:
                ids = found.tokens.token[part.index]
                assert sorted(ids[part.y]) == sorted(ids[~part.y])
        assert not sides["fit"] & sides["tune"] and not (sides["fit"] | sides["tune"]) & sides["test"]


def test_nothing_is_chosen_on_the_test_set(run):
    """It is tried."""
    _, _, found = read(run)
    sample = the(Sample, next(iter(samples(found.tokens, ("spotted",), SMALL))))
    assert isinstance(sample.test, Unseen) and isinstance(sample.fit, Seen)
    with pytest.raises(TypeError, match="expected tokens for choosing and fitting, found Unseen"):
        only_seen(sample.test)
    leaky = found.tokens._replace(document=np.zeros_like(found.tokens.document))
    with pytest.raises(ValueError, match="document 0 is of the test and of the training text"):
        next(iter(samples(leaky, ("spotted",), SMALL)))


def test_a_test_set_measures_a_thing_once(run):
    from sae_cli.evaluation.probing.figures import Places

    _, _, found = read(run)
    sample = the(Sample, next(iter(samples(found.tokens, ("spotted",), SMALL))))
    everything = np.arange(len(found.tokens.token))
    places = Places.of(sample, everything, found.tokens.document, found.tokens.token, np.random.default_rng(0))
    test = TestSet(sample.test, places)
    test.measure("a feature", sample.test.y.astype(float))
    with pytest.raises(ValueError, match="a feature was measured on the test tokens before"):
        test.measure("a feature", sample.test.y.astype(float))


@pytest.mark.parametrize("context", [32, 17, 9])
def test_labels_do_not_depend_on_rows(run, context):
    """In every row stands a piece of the document with the labels that it has as a whole."""
    subject, _, _ = read(run)
    subject = replace(subject, data=replace(subject.data, context=context))
    label, whole = labeller([SPOTTED]), {}
    for split in Split:
        for document in build.corpus(subject.data).documents(split, 0):
            (tokens,) = tokenize([document], subject.model.tokenizer, counts_bytes=True)
            own = label.labels(document.text, present(tokens.n_bytes))[:, 0]
            whole[tokens.document] = list(zip(tokens.tokens.tolist(), own.tolist(), strict=True))
    checked = 0
    for block in CorpusText(subject, label, replace(SMALL, rows_per_document=None)).blocks():
        for row in range(len(block.valid)):
            for document in set(block.rows.document[row].tolist()):
                at = block.valid[row] & (block.rows.document[row] == document)
                piece = list(zip(block.rows.tokens[row, at].tolist(), block.labels[row, at, 0].tolist(), strict=True))
                places = range(len(whole[document]) - len(piece) + 1)
                assert any(whole[document][i : i + len(piece)] == piece for i in places)
                checked += len(piece)
    assert checked > 5000


def test_activations_are_those_of_the_model(run):
    subject, dictionary, found = read(run)
    chosen = np.sort(np.random.default_rng(0).permutation(len(found.tokens.token))[:50])
    captured = capture(found, chosen, subject, dictionary)
    number, row = 0, 0
    for block in found.blocks:
        x = subject.model.capture(torch.from_numpy(block.rows.tokens), subject.wires)[subject.site]
        own = x[torch.from_numpy(block.valid)].float().numpy()
        for place in chosen[(chosen >= number) & (chosen < number + len(own))] - number:
            assert captured.x[row] == pytest.approx(own[place], abs=1e-5)
            f = dictionary.encode(torch.from_numpy(captured.x[row : row + 1]))[0].numpy()
            entries = slice(captured.starts[row], captured.starts[row + 1])
            dense = np.zeros(48)
            dense[captured.columns[entries]] = captured.values[entries]
            assert dense == pytest.approx(f, abs=1e-5)
            row += 1
        number += len(own)
    assert row == 50


def test_figures_are_those_of_scikit_learn(run, report):
    """The best feature, chosen, and the dense probe, fitted, by hand on the very tokens."""
    subject, dictionary, found = read(run)
    names = ("spotted", "second")
    text = CorpusText(subject, labeller([SPOTTED, "regex:second=^\\S+ (\\S+)"]), SMALL)
    tokens = Read.of(text).tokens
    sample = the(Sample, next(iter(samples(tokens, names, SMALL))))
    everything = np.arange(len(tokens.token))
    captured = capture(found, everything, subject, dictionary)
    f = dictionary.encode(torch.from_numpy(captured.x)).numpy()
    aurocs = np.array([roc_auc_score(sample.fit.y, f[sample.fit.index, j]) for j in range(48)])
    each = report["concepts"][0]
    best = each["bases"]["features"]["best"]
    chosen = best["feature"]
    assert abs(aurocs[chosen] - 0.5) == pytest.approx(np.abs(aurocs - 0.5).max(), abs=1e-6)
    expected = roc_auc_score(sample.test.y, best["sign"] * f[sample.test.index, chosen])
    assert best["auroc"] == pytest.approx(expected, abs=1e-6)
    x = captured.x.astype(np.float64)
    center, scale = x[sample.fit.index].mean(axis=0), x[sample.fit.index].std(axis=0)
    z = (x - center) / scale
    tried = [
        LogisticRegression(C=c, tol=1e-10, max_iter=5000).fit(z[sample.fit.index], sample.fit.y)
        for c in 10.0 ** np.arange(-3, 4)
    ]
    found_aurocs = [roc_auc_score(sample.test.y, one.decision_function(z[sample.test.index])) for one in tried]
    assert min(abs(each["dense"]["x"]["auroc"] - one) for one in found_aurocs) < 1e-6


def labelled_file(path, world, kind):
    """Documents of the world's text: about half of them have a word more at the end of some sentence."""
    lines = []
    for number, file in enumerate(sorted(world.text.iterdir())):
        words = file.read_text().split()
        for part in range(4):
            marked = (number + part) % 2
            text = " ".join(words[part * 20 : part * 20 + 20]) + (" zuzu zuzu zuzu" if marked else " lolo lolo lolo")
            line: dict[str, object] = {"text": text, "key": f"{number}.{part}"}
            if kind == "spans":
                line["spans"] = [[text.index("zuzu"), len(text), "end"]] if marked else []
            else:
                line["label"] = marked if kind == "numbers" else ("marked" if marked else "plain")
            lines.append(json.dumps(line))
    path.write_text("\n".join(lines) + "\n")
    return str(path)


FILES = ProbingConfig(tokens=20_000, test_tokens=20_000, fit=200, tune=60, test=200, least=12, permutations=3)


@pytest.mark.parametrize("pool", Pool)
@pytest.mark.parametrize("kind", ["numbers", "words"])
def test_documents_with_one_label(run, world, tmp_path, kind, pool):
    path = labelled_file(tmp_path / "marked.jsonl", world, kind)
    found = probed(run, f"{kind}-{pool.value}", labels=path, probe=FILES, pool=pool)
    assert found["unit"] == "document" and [each["kind"] for each in found["concepts"]] == ["easy"] * len(
        found["concepts"]
    )
    assert {each["concept"] for each in found["concepts"]} == ({"marked"} if kind == "numbers" else {"marked", "plain"})
    for each in found["concepts"]:
        assert each["bases"]["token"]["best"]["auroc"] > 0.95  # the words give it away
        assert each["dense"]["x"]["auroc"] > 0.8


def test_documents_stand_for_their_tokens(run, world, tmp_path):
    file = LabelledFile(labelled_file(tmp_path / "marked.jsonl", world, "numbers"))
    subject, dictionary, found = read(run, lambda subject: FileText(subject, file, FILES))
    everything = np.arange(len(found.tokens.token))
    of_tokens = capture(found, everything, subject, dictionary)
    f = dictionary.encode(torch.from_numpy(of_tokens.x)).numpy()
    for pool, make in ((Pool.max, np.max), (Pool.mean, np.mean), (Pool.last, lambda a, axis: a[-1])):
        documents, first, sizes = pooled(found, everything, subject, dictionary, pool)
        assert sizes.sum() == len(everything)
        for i in range(0, len(first), 7):
            own = slice(first[i], first[i] + sizes[i])
            dense = np.zeros(48)
            entries = slice(documents.starts[i], documents.starts[i + 1])
            dense[documents.columns[entries]] = documents.values[entries]
            assert dense == pytest.approx(make(f[own], axis=0), abs=1e-5)
            x = of_tokens.x[own]
            assert documents.x[i] == pytest.approx(x[-1] if pool is Pool.last else x.mean(axis=0), abs=1e-5)


def test_spans_in_a_file_and_a_saved_probe(run, world, tmp_path, sae, monkeypatch):
    path = labelled_file(tmp_path / "ends.jsonl", world, "spans")
    small = [
        f"probe.{name}={value}"
        for name, value in vars(FILES).items()
        if name in ("fit", "tune", "test", "least", "permutations")
    ]
    sae(
        "probe",
        run,
        f"labels={path}",
        "--save",
        "ends",
        "model_rows=4",
        "device=cpu",
        "k=[1,4]",
        *small,
        "baselines=[token]",
    )
    tensors = load_file(run / "probe" / "ends" / "saved.safetensors")
    assert tensors["features"].shape == (1, 4) and tensors["weights.1"].shape == (1, 4)

    def given(text):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    documents = Path(path).read_text()
    given(documents)
    ended = sae("classify", run, "probe=ends", "device=cpu", "--require", "end.recall>=.5")
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert len(lines) == 240 and {each["line"] for each in lines} == set(range(1, 241))
    text = [json.loads(line) for line in documents.splitlines()]
    hits = [any(a < end and b > start for start, end, _ in doc["spans"] for a, b in line["concepts"]["end"]["spans"])
            for doc, line in zip(text, lines, strict=True) if doc["spans"]]  # fmt: skip
    assert sum(hits) > 0.5 * len(hits)
    given(documents)
    assert (
        "required end.share<0.0001, found"
        in sae("classify", run, "probe=ends", "--require", "end.share<.0001", code=3).err
    )
    given('{"text": "zuzu"}\n{"text": 3}\n')
    assert 'standard input: line 2: expected an object with a "text"' in sae("classify", run, "probe=ends", code=2).err
    given("")
    assert sae("classify", run, "probe=ends", "--json").document["documents"] == 0
    for wrong, said in {
        "probe=end": "expected a probe of",
        "probe=ends k=3": "expected one of 1, 4",
        "probe=ends concept=edn": "did you mean end?",
        "probe=ends pool=max": "unknown key pool",
        "k=1": "probe is missing",
        "probe=ends k=x": "expected a number from 1",
    }.items():
        given("")
        assert said in sae("classify", run, *wrong.split(), code=2).err


def test_agreement(report):
    found = [each["agree"] for each in report["concepts"] if each["kind"] == "easy"]
    assert len(found) == len([each for each in report["concepts"] if each["kind"] == "easy"])
    for agreed in filter(None, found):
        assert 1 <= agreed["m_eff"] <= len(agreed["features"]) + 1e-9
        recalls = [each["same"]["features"]["recall"] for each in agreed["by_m"]]
        assert recalls == sorted(recalls, reverse=True)
        for each in agreed["by_m"]:
            assert set(each["same"]) == {"features", "best", "dense", "halves", "random"}


def test_a_finished_probe_is_found_and_another_one_refused(run, world, tmp_path, capsys):
    path = labelled_file(tmp_path / "marked.jsonl", world, "numbers")
    first = probed(run, "again", labels=path, probe=FILES)
    assert probed(run, "again", labels=path, probe=FILES)["figures"] == first["figures"]
    assert "already finished" in capsys.readouterr().err
    (tmp_path / "marked.jsonl").write_text((tmp_path / "marked.jsonl").read_text() + '{"text": "a", "label": 0}\n')
    with pytest.raises(Exception, match="was measured with another labels="):
        probed(run, "again", labels=path, probe=FILES)


def test_a_control_is_measured_beside(run, world, tmp_path):
    other = tmp_path / "other"
    train.run(world.train(tmp_path, seed=1), other)
    found = probed(run, "control", control=str(other), baselines=[])
    for each in found["concepts"]:
        assert list(each["bases"]) == ["features", "control"]
        assert each["bases"]["control"]["more"]["more"] == pytest.approx(
            each["bases"]["features"]["best"]["auroc"] - each["bases"]["control"]["best"]["auroc"]
        )


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "expected documents, found none"),
        (["x"], "line 1: expected a JSON object, found x"),
        (['{"text": "a"}'], 'line 1: expected either a "label" or "spans", found neither'),
        (['{"text": "a", "label": 2}'], 'expected "label": 0, 1 or a name, found 2'),
        (['{"text": "a", "label": 1}', '{"text": "a", "label": "b"}'], "line 2: expected labels of one kind"),
        (['{"text": "a", "spans": [[0, 2, "b"]]}'], "in the 1 characters of the text"),
    ],
)
def test_wrong_files_are_refused(tmp_path, lines, said):
    path = tmp_path / "labels.jsonl"
    path.write_text("\n".join(lines))
    with pytest.raises(Exception, match=said.replace("[", "\\[")):
        LabelledFile(str(path))


def test_matched_samples_of_a_made_up_text():
    """Where a concept is no more than the token, nothing is left to match."""
    n = 4000
    rng = np.random.default_rng(0)
    token = rng.integers(0, 9, n)
    labels = (token < 4)[:, None].astype(np.int8)
    side = np.repeat([0, 1, 2], [n // 2, n // 4, n // 4]).astype(np.int8)
    tokens = Tokens(token, token, np.arange(n) // 40, side, labels)
    easy, matched = samples(tokens, ("small",), SMALL)
    assert easy.kind == "easy" and "0 tokens of it" in getattr(matched, "reason", "")


def test_the_report_shows_concepts(run, report, tmp_path):
    from sae_cli.commands.report import report_of
    from sae_cli.reports.page import page
    from sae_cli.reports.sections.concepts import best_concepts
    from sae_cli.runs.file_names import PROBE_TENSORS

    made = report_of([run], tmp_path / "report.html")
    section = next(each for each in made.sections if each.name == "concepts")
    assert {chart.name for chart in section.charts} == {"concept_aurocs", "concept_k"}
    assert len(section.tables[0].rows) == len({each["concept"] for each in report["concepts"]})
    assert b"concept_aurocs" in page(made)
    kept = read_run(run / "probe" / "patterns")
    auroc = kept.read_tensors(PROBE_TENSORS)["auroc"].numpy()
    words = best_concepts(kept)
    floors = [each["bases"]["features"]["floor"] for each in report["concepts"]]
    for feature, said in words.items():
        best = np.abs(auroc[:, feature] - 0.5).max() + 0.5
        assert "best of all by chance" in said and best > min(floors)


def test_labels_as_they_are_typed():
    from sae_cli.cli.probe import as_settings

    assert as_settings(["labels=a,b", "--save", "x"]) == ["labels=['a','b']", "save='x'"]
    assert as_settings(["labels=regex:n=a,b|c"]) == ["labels=['regex:n=a,b|c']"]
    assert as_settings(["labels=[a]", "--save=y", "k=[1]"]) == ["labels=[a]", "save='y'", "k=[1]"]
