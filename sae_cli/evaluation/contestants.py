"""Dictionaries that are compared: which of their features are alive, how often these fire, and what is said of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sae_cli import build
from sae_cli.activations.known_truths import truth_of
from sae_cli.config.commands.compare import CompareConfig
from sae_cli.config.data import TruthData
from sae_cli.config.paths import TRUTH
from sae_cli.dictionaries.base import Dictionary
from sae_cli.dictionaries.files import load_dictionary
from sae_cli.errors import JobError
from sae_cli.evaluation import evaluate
from sae_cli.metrics.report import AboutReport
from sae_cli.metrics.similarity import quantiles
from sae_cli.runs.dictionary_run import DictionaryRun
from sae_cli.runs.file_names import EVAL_FILE
from sae_cli.tensor_types import Float, Int, Tensor


@dataclass(frozen=True)
class Contestant:
    """A dictionary that is compared.

    Attributes:
        source: its run.
        number: of each feature that is alive, in its dictionary [A].
        frequency: of each of these [A].
        about: figures of the dictionary, for the table and the report.
        dictionary: itself, on the device of the comparison.
    """

    source: DictionaryRun
    number: Int[Tensor, " A"]
    frequency: Float[Tensor, " A"]
    about: AboutReport
    dictionary: Dictionary

    @property
    def name(self) -> str:
        return str(self.source.run.directory)

    @property
    def directions(self) -> Float[Tensor, "A D"]:
        """What its features write, a row each."""
        return self.dictionary.W_dec.cpu()[self.number]

    @property
    def readers(self) -> Float[Tensor, "A D"]:
        """What its features read."""
        return self.dictionary.W_enc.cpu()[self.number]


@dataclass(frozen=True)
class TrueContestant:
    """The features of a known truth."""

    data: TruthData
    number: Int[Tensor, " A"]
    frequency: Float[Tensor, " A"]
    about: AboutReport
    directions: Float[Tensor, "A D"]

    name = TRUTH


AnyContestant = Contestant | TrueContestant


def contestant(source: DictionaryRun, config: CompareConfig) -> Contestant:
    """A dictionary with what its evaluation says, which is made if there is none.

    Raises:
        JobError: none of its features is alive.
    """
    settings = evaluate.settings_for(source.run.directory, config)
    finished = evaluate.evaluation(source, settings, evaluate.default_name(settings))
    dictionary = load_dictionary(source.run, config.verify).to(build.device(config.device))
    features = evaluate.read_features(finished, dictionary.n_features)
    report = finished.read_json(EVAL_FILE)
    alive = (features["count"] > 0).nonzero()[:, 0]
    if not len(alive):
        raise JobError(f"{source.run.directory}: no feature is alive: there is nothing to compare")
    about: AboutReport = {
        "features": dictionary.n_features,
        "alive": report.get("alive"),
        "l0": report.get("l0"),
        "dense_1": report.get("dense_1"),
        "dense_10": report.get("dense_10"),
        "token_entropy_median": report.get("token_entropy_median"),
        "frequency": quantiles(features["frequency"][alive]),
    }
    if "de_projection" in features:
        about["de_projection"] = quantiles(features["de_projection"][alive])
    return Contestant(source, alive, features["frequency"][alive], about, dictionary)


def true_contestant(data: TruthData) -> TrueContestant:
    """The features of a known truth."""
    truth = truth_of(data)
    rows, frequency = truth.directions(), truth.frequencies()
    about: AboutReport = {
        "features": len(rows),
        "alive": len(rows),
        "l0": float(frequency.sum()),
        "dense_1": int((frequency > 0.01).sum()),
        "dense_10": int((frequency > 0.1).sum()),
        "frequency": quantiles(frequency),
    }
    return TrueContestant(data, torch.arange(len(rows)), frequency, about, rows)
