"""`sae classify`: new text by a probe that `sae probe … --save NAME` has kept, from a pipe to a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from sae_cli import build
from sae_cli.artifacts.places import inside
from sae_cli.artifacts.stored_run import FinishedRun, read_run
from sae_cli.artifacts.survey import PROBES, measurements_in
from sae_cli.config.commands.probe import ProbeConfig
from sae_cli.config.stored import CONFIG_FILE, parse_config
from sae_cli.dictionaries.files import load_dictionary
from sae_cli.documents import Document
from sae_cli.errors import RequestError
from sae_cli.evaluation.probing.classify import Classifier
from sae_cli.evaluation.probing.saved import SavedProbe, probes_of, read_saved
from sae_cli.evaluation.probing.text import check_offsets
from sae_cli.evaluation.subject import ModelSubject, make_subject
from sae_cli.metrics.probe_reports import ProbeReport
from sae_cli.runs.dictionary_run import DictionaryRun, read_dictionary_run
from sae_cli.runs.file_names import PROBE_FILE, SAVED_PROBE
from sae_cli.runs.parents import check_model
from sae_cli.text.concepts.labelled_files import LabelledDocument, labelled_document

WHERE = "standard input"


class Asked(NamedTuple):
    """What is asked for.

    Attributes:
        run: the dictionary's run directory, or a finished probe's own.
        probe: the probe's name.
        concept: one of its concepts; empty for all.
        k: features of the probe; 0 for the most there are.
        device, model_rows: how it is computed; so many documents are read before anything is said of them.
    """

    run: str
    probe: str
    concept: str = ""
    k: int = 0
    device: str = "auto"
    model_rows: int = 16


def run(asked: Asked, lines: Iterable[str], say: Callable[[Document], None]) -> Document:
    """Classify documents, one a line, and say what each is as soon as so many are read; the figures of all of them.

    Raises:
        RequestError: there is no such probe or concept, or a line is no document.
    """
    source = read_dictionary_run(Path(asked.run))
    classifier = _classifier(source, asked)
    held: list[LabelledDocument] = []
    documents = tokens = 0

    def tell() -> None:
        nonlocal documents, tokens
        for told in classifier.tell(held):
            say(told.line)
            documents, tokens = documents + 1, tokens + told.tokens
        held.clear()

    for number, line in enumerate(lines, start=1):
        if line.strip():
            held.append(labelled_document(line, number, WHERE, "", is_labelled=False))
        if len(held) == asked.model_rows:
            tell()
    if held:
        tell()
    of_concepts = {name: counts.figures() for name, counts in classifier.counts.items()}
    return {"documents": documents, "tokens": tokens, **of_concepts}


def _classifier(source: DictionaryRun, asked: Asked) -> Classifier:
    place = inside(source.run.directory, f"{PROBES}/{asked.probe}")
    if not (place / PROBE_FILE).is_file():
        names = ", ".join(each.directory.name for each in measurements_in(source.run.directory, PROBES)) or "none"
        raise RequestError(
            f"probe={asked.probe}: expected a probe of {source.run.directory}, found {names}; make one with sae probe "
            "… --save NAME"
        )
    kept = read_run(place)
    report: ProbeReport = kept.read_json(PROBE_FILE)
    config = parse_config(place / CONFIG_FILE, kept.read_bytes(CONFIG_FILE), ProbeConfig.command)
    assert isinstance(config, ProbeConfig)
    if source.card.truth:
        raise RequestError(f"{source.run.directory}: expected a dictionary of a language model, found a known truth's")
    if SAVED_PROBE not in kept.manifest.files:
        raise RequestError(f"probe={asked.probe}: no concept had enough tokens, so that it tells nothing")
    check_model(source)
    probes = _chosen(asked, *read_saved(kept)[:2], kept)
    dictionary = load_dictionary(source.run).to(build.device(asked.device))
    subject = make_subject(source, config.data, asked.model_rows, dictionary.W_dec.device)
    assert isinstance(subject, ModelSubject)
    subject.check(dictionary)
    check_offsets(subject)
    return Classifier(subject, dictionary, probes, config.pool if report["unit"] == "document" else None)


def _chosen(asked: Asked, names: list[str], ks: list[int], kept: FinishedRun) -> list[SavedProbe]:
    k = asked.k or max(ks)
    if k not in ks:
        raise RequestError(f"k={k}: expected one of {', '.join(map(str, ks))}, which probe={asked.probe} has")
    found = probes_of(names, ks, read_saved(kept)[2], k)
    if not asked.concept:
        return found
    if asked.concept not in names:
        close = get_close_matches(asked.concept, names, n=1)
        meant = f": did you mean {close[0]}?" if close else f"; there is {', '.join(names)}"
        raise RequestError(f"concept={asked.concept}: not among those of probe={asked.probe}{meant}")
    return [each for each in found if each.concept == asked.concept]
