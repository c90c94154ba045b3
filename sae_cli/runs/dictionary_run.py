"""Runs that hold a dictionary: trained, made of another one, or brought here from elsewhere."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from sae_cli.artifacts.files import damaged
from sae_cli.artifacts.run_directory import open_run
from sae_cli.artifacts.stored_run import FinishedRun, read_run
from sae_cli.config.commands.train import TrainConfig
from sae_cli.config.data import DataConfig
from sae_cli.config.hook import SiteConfig
from sae_cli.config.model import ModelConfig
from sae_cli.config.paths import PathKind, PathSetting, is_absolute, path_settings, placed
from sae_cli.config.stored import CONFIG_FILE, TRAINING_FILE, parse_config, refuse_code
from sae_cli.dictionaries.base import Dictionary
from sae_cli.dictionaries.card import CARD, Card, Wiring
from sae_cli.dictionaries.files import DICTIONARY_FILE, read_architecture, save_dictionary
from sae_cli.errors import JobError, RequestError, SaeError
from sae_cli.metrics.rare import DensityHistory
from sae_cli.runs.file_names import DENSITY_FILE

TRAIN, PRUNE, IMPORT = "train", "prune-high-freq", "import"
DICTIONARY_COMMANDS = (TRAIN, PRUNE, IMPORT)
"""The commands whose runs hold a dictionary."""

_NEEDED = ("model.path", "data.path")
"""Places without which nothing can be measured."""

_DENSITY = {
    "count": "I64 W F",
    "tokens": "I64 W",
    "step": "I64 W",
    "exempt": "BOOL F",
    "resample_step": "I64 R",
    "resampled": "BOOL R F",
}


class DictionaryRun(NamedTuple):
    """A run with a dictionary, and the card that says what that belongs to."""

    run: FinishedRun
    card: Card

    def data(self, other: DataConfig | None = None) -> DataConfig:
        """What it is measured on: the text of its training, unless other is given.

        Raises:
            RequestError: there is neither.
        """
        if (found := other or self.card.data) is None:
            raise RequestError(
                f"{self.run.directory}: it is not known which text its dictionary was trained on: give one with data="
            )
        return found

    def model(self) -> ModelConfig:
        """The model that it is of.

        Raises:
            RequestError: it is of none.
        """
        if self.card.model is None:
            raise RequestError(f"{self.run.directory}: expected a dictionary of a language model, found none named")
        return self.card.model

    def architecture(self) -> str:
        """As it is called in configurations; a `JobError` where the file does not say."""
        return read_architecture(self.run).architecture

    def width(self) -> int:
        """Of the activations that it writes."""
        return self.run.read_header(DICTIONARY_FILE).tensors["W_dec"].shape[1]

    def places(self) -> tuple[SiteConfig, SiteConfig]:
        """The one place in the model that it reads, and the one that it writes.

        Raises:
            RequestError: it is of no model, or there are more.
        """
        with self._refused():
            return self.card.places

    def site(self) -> SiteConfig:
        """Where in the model an autoencoder reads and writes.

        Raises:
            RequestError: it is of no model, or no autoencoder of one place.
        """
        with self._refused():
            return self.card.site

    @contextmanager
    def _refused(self) -> Generator[None, None, None]:
        try:
            yield
        except ValueError as error:
            raise RequestError(f"{self.run.directory}: {error}") from error

    def origin(self) -> FinishedRun:
        """The training run that a pruned one comes from, as far as that can be followed."""
        found = self.run
        while parent := pruned_from(found):
            found = parent
        return found


def read_dictionary_run(path: str | Path) -> DictionaryRun:
    """The dictionary's run.

    Raises:
        RequestError: there is no such run, or it holds no dictionary.
        JobError: it is unfinished or damaged.
    """
    run = read_run(path, *DICTIONARY_COMMANDS)
    return DictionaryRun(run, _card(run))


def save(directory: str | Path, dictionary: Dictionary, card: Card, overwrite: bool = False) -> FinishedRun:
    """Leave a dictionary that was made elsewhere in a run directory of its own, which every command can read.

    Args:
        directory: to be made.
        dictionary: in the units of the model's activations.
        card: what it belongs to.
        overwrite: replace what is there.

    Raises:
        RequestError: there is something else.
    """
    header = card.header()
    with open_run(Path(directory), IMPORT, {"card": header[CARD]}, overwrite) as claimed:
        save_dictionary(claimed, dictionary, header)
        facts = {"tokens": card.tokens, "source": card.source, "width": dictionary.d_out}
        return claimed.finish(**{name: fact for name, fact in facts.items() if fact is not None})


def card(run: str | Path) -> Card:
    """What the dictionary of a run directory belongs to; as `read_dictionary_run`."""
    return read_dictionary_run(run).card


def _card(run: FinishedRun) -> Card:
    """The card in the header of the dictionary; of a run by a version that wrote none, made of its configuration."""
    path = run.directory / DICTIONARY_FILE
    run.check_file(DICTIONARY_FILE, verify=True)  # what the card says is believed before the tensors are read
    try:
        found = Card.of_header(run.read_metadata(DICTIONARY_FILE))
    except ValueError as error:
        expected, _, instead = str(error).partition(", found ")
        raise damaged(path, expected, instead) from error
    if found is None:
        return _card_of_training(run)
    refuse_code(path, found.model)
    return found


def _card_of_training(run: FinishedRun) -> Card:
    if not is_trained_here(run):
        raise damaged(run.directory / DICTIONARY_FILE, "a header with a card", "none")
    facts = run.manifest.facts
    return card_of(trained_with(run), scale=facts.get("scale"), tokens=facts.get("tokens"), source=facts.get("source"))


def card_of(
    config: TrainConfig,
    scale: float | None = None,
    tokens: int | None = None,
    source: str | None = None,
    provenance: Mapping[str, str] | None = None,
) -> Card:
    """What a dictionary that is trained so belongs to.

    Args:
        config: of the training.
        scale, tokens, source, provenance: as in the card, where they are known.
    """
    wiring = Wiring.at(SiteConfig.of(config.hook, config.layer))
    return Card(
        model=config.model,
        wiring=wiring,
        data=config.data,
        scale=scale,
        tokens=tokens,
        source=source,
        provenance=provenance or {},
    )


def trained_with(run: FinishedRun) -> TrainConfig:
    """How a dictionary was trained here, with paths that mean what they meant where that was done.

    Raises:
        RequestError: it was not trained here.
        JobError: a file is damaged, or a path has lost its meaning.
    """
    name = _training_file(run)
    if name not in run.manifest.files:
        raise RequestError(
            f"{run.directory}: expected a dictionary that `sae train` has made, found one from elsewhere"
        )
    config = parse_config(run.directory / name, run.read_bytes(name), TrainConfig.command)
    assert isinstance(config, TrainConfig)
    found: FinishedRun | None = run
    while found and found.manifest.command == PRUNE:  # whose manifest does not say where text and model are
        found = pruned_from(found)
    config = placed(config, found.manifest.settings if found else {})
    if lost := [each for each in path_settings(config) if each.key in _NEEDED and _is_lost(each)]:
        raise JobError(
            f"{run.directory / name}: {lost[0].key}={lost[0].value} is relative to the folder that the training was "
            "begun in, which only the run that this one was made of knows, and that is gone or has changed: restore it"
        )
    return config


def is_trained_here(run: FinishedRun) -> bool:
    """Whether the run says how its dictionary was trained."""
    return _training_file(run) in run.manifest.files


def _training_file(run: FinishedRun) -> str:
    return CONFIG_FILE if run.manifest.command == TRAIN else TRAINING_FILE


def _is_lost(setting: PathSetting) -> bool:
    """Whether a path may mean a place that is not known; what is no place here is taken for a name on the hub."""
    here = setting.kind is PathKind.here or setting.value.startswith(".") or os.path.exists(setting.value)
    return here and not is_absolute(setting.value)


def read_density(run: FinishedRun, verify: bool = True) -> DensityHistory:
    """How often each feature fired in the training of a run that has a `DENSITY_FILE`.

    Raises:
        JobError: the file is damaged, or holds something else.
    """
    run.expect(DENSITY_FILE, _DENSITY)
    return DensityHistory(**run.read_tensors(DENSITY_FILE, verify))


def pruned_from(run: FinishedRun) -> FinishedRun | None:
    """The run that this one was made of, if it was and that one is still there as it was."""
    if run.manifest.command != PRUNE or not run.manifest.parents:
        return None
    parent = run.manifest.parents[0]
    try:
        found = read_run(parent.path)
    except SaeError:
        return None
    return found if found.as_parent() == parent else None
