"""What is fuzzed: every reader of a file that may be a stranger's, and small real runs to mutate."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from handmade import F as OF_PAGES
from handmade import Maker

from sae_cli import build
from sae_cli.activations.harvested import ACTIVATIONS, ROWS, HarvestedActivations, harvested_rows
from sae_cli.activations.shuffle import ShuffleBuffer, ShufflePlan
from sae_cli.artifacts.files import FileRecord
from sae_cli.artifacts.manifest import CHECKPOINTS, MANIFEST, Manifest, read_manifest, seal
from sae_cli.artifacts.run_directory import open_run
from sae_cli.artifacts.stored_run import FinishedRun, UnfinishedRun, read_run
from sae_cli.commands.report import report_of
from sae_cli.commands.train import TrainingGroup
from sae_cli.config.checkpoint import CheckpointConfig
from sae_cli.config.commands.train import TrainConfig
from sae_cli.config.data import SyntheticData
from sae_cli.config.hook import HookConfig, HookPoint
from sae_cli.config.model import ModelConfig
from sae_cli.config.resample import ResampleConfig
from sae_cli.config.sae import MatryoshkaSae, ReluSae, TopKSae
from sae_cli.config.settings import result_settings
from sae_cli.config.stored import CONFIG_FILE, as_yaml, read_config
from sae_cli.config.train import Kernel, TrainingConfig
from sae_cli.dictionaries.files import DICTIONARY_FILE, load_dictionary, save_dictionary
from sae_cli.dictionaries.gated import GatedDictionary
from sae_cli.dictionaries.matryoshka import MatryoshkaDictionary
from sae_cli.dictionaries.relu import ReluDictionary
from sae_cli.dictionaries.topk import TopKDictionary
from sae_cli.evaluation.evaluate import read_features
from sae_cli.jobs.once import Claim
from sae_cli.jobs.side_by_side import Job
from sae_cli.reports.feature_page import show
from sae_cli.reports.page import page
from sae_cli.runs.dictionary_run import read_density, read_dictionary_run, trained_with
from sae_cli.runs.feature_pages import StoredPages
from sae_cli.runs.file_names import (
    COMPARE_FILE,
    CONTEXTS_FILE,
    CURVE,
    DENSITY_FILE,
    EVAL_FILE,
    FEATURES_FILE,
    HISTOGRAMS_FILE,
    SHEETS_FILE,
    SHEETS_JSON,
    SIMILARITY_FILE,
)
from sae_cli.runs.formats import neuronpedia
from sae_cli.runs.stored_figures import shows_stored
from sae_cli.terminal import console
from sae_cli.training.checkpoint import read_checkpoint
from sae_cli.training.recipe import recipe_of
from sae_cli.training.trainer import Trainer

F, D, SHARD = 6, 4, 5
TOKENS, BATCH, SHUFFLED = 48, 8, 16
CHECKPOINT = f"{CHECKPOINTS}/00000003"
EVALUATION, SHEETS = "reported/eval/default", "reported/features/default"
SHARDS = [f"{ACTIVATIONS}-{i:05d}-of-00002.safetensors" for i in range(2)]
ROWS_OF_SHARDS = [f"{ROWS}-{i:05d}-of-00002.safetensors" for i in range(2)]


class Subject(NamedTuple):
    """A reader, and the file that it is given.

    Attributes:
        run: the run directory that it reads, below the folder of all.
        file: what is mutated in it.
        read: the value that it makes of the run; `verify` is on unless hashes were forged to match.
        checked: whether the reader compares hashes; the others only promise no traceback.
    """

    run: str
    file: str
    read: Callable[[Path, bool], Any]
    checked: bool = True


def _manifest(directory: Path, verify: bool) -> Any:
    return asdict(read_run(directory).manifest)


def _shards(directory: Path, verify: bool) -> Any:
    run = read_run(directory, "harvest")
    run.check_files(verify)
    rows = [((text.tokens.tolist(), text.document.tolist()), vars(block)) for text, block in harvested_rows(run, 1)]
    return rows, HarvestedActivations(run).fetch(torch.tensor([0, 2 * SHARD - 1]))


def _dictionary(directory: Path, verify: bool) -> Any:
    dictionary = load_dictionary(read_run(directory), verify)
    return dictionary.tensors(), dictionary(torch.ones(3, dictionary.d_out))


def _config(directory: Path, verify: bool) -> Any:
    return read_dictionary_run(directory).card, trained_with(read_run(directory))


def _checkpoint(directory: Path, verify: bool) -> Any:
    """Of a trainer, and of the shuffling, which must fit to one that is made anew."""
    config, cut = read_config(directory, "train"), ShufflePlan(TOKENS, SHUFFLED, BATCH, 0)
    assert isinstance(config, TrainConfig)
    saved = read_checkpoint(UnfinishedRun(directory, read_manifest(directory)), verify)
    if saved is None:
        return None
    shuffle = saved.batches.resume(lambda state: ShuffleBuffer(iter(()), cut, state))
    trainer = Trainer(recipe_of(config), build.objective(config, D), torch.eye(D), torch.device("cpu"))
    saved.take_up(trainer, D)
    return trainer.state(), shuffle.state(), saved.seconds


def _page(directory: Path, verify: bool) -> Any:
    run = directory.parents[1] if directory.parent.name in ("eval", "features") else directory
    return page(report_of([run], run / "report.html"))


def _pages(directory: Path, verify: bool) -> Any:
    show(directory, [0, 3])
    pages = StoredPages(read_run(directory))
    return pages.about, pages.contexts, pages.tensors, pages.histograms


@shows_stored
def _dashboards(run: FinishedRun) -> list[str]:
    about = neuronpedia.Dashboards("demo", 1, "set", "text")
    written = neuronpedia.documents(StoredPages(run), about, torch.ones(OF_PAGES, D))
    return [json.dumps(document, allow_nan=False) for _, document in written]


def _density(directory: Path, verify: bool) -> Any:
    return read_density(read_run(directory), verify)._asdict()


SUBJECTS = {
    "manifest": Subject("relu", MANIFEST, _manifest),
    "config": Subject("relu", CONFIG_FILE, _config),
    "config of no known run": Subject("relu", CONFIG_FILE, lambda path, _: read_config(path, "train"), checked=False),
    "shards": Subject("harvest", SHARDS[1], _shards),
    "rows of text": Subject("harvest", ROWS_OF_SHARDS[1], _shards),
    "checkpoint": Subject("stopped", f"{CHECKPOINT}/training.safetensors", _checkpoint),
    "checkpoint of the shuffling": Subject("stopped", f"{CHECKPOINT}/shuffle.safetensors", _checkpoint),
    "contexts": Subject(SHEETS, CONTEXTS_FILE, _pages),
    "sheets": Subject(SHEETS, SHEETS_FILE, _pages),
    "about pages": Subject(SHEETS, SHEETS_JSON, _pages),
    "histograms": Subject(SHEETS, HISTOGRAMS_FILE, _pages),
    "dashboards: contexts": Subject(SHEETS, CONTEXTS_FILE, lambda path, _: _dashboards(read_run(path))),
    "dashboards: about pages": Subject(SHEETS, SHEETS_JSON, lambda path, _: _dashboards(read_run(path))),
    "dashboards: histograms": Subject(SHEETS, HISTOGRAMS_FILE, lambda path, _: _dashboards(read_run(path))),
    "page: manifest": Subject("reported", MANIFEST, _page),
    "page: curve": Subject("reported", CURVE, _page),
    "page: figures": Subject(EVALUATION, EVAL_FILE, _page),
    "page: statistics": Subject(EVALUATION, FEATURES_FILE, _page),
    "page: pages": Subject(SHEETS, SHEETS_FILE, _page),
    "page: about pages": Subject(SHEETS, SHEETS_JSON, _page),
    "page: comparison": Subject("compared", COMPARE_FILE, _page),
    "page: similarity": Subject("compared", SIMILARITY_FILE, _page),
    "relu dictionary": Subject("relu", DICTIONARY_FILE, _dictionary),
    "topk dictionary": Subject("topk", DICTIONARY_FILE, _dictionary),
    "gated dictionary": Subject("gated", DICTIONARY_FILE, _dictionary),
    "matryoshka dictionary": Subject("matryoshka", DICTIONARY_FILE, _dictionary),
    "header metadata": Subject(
        "relu", DICTIONARY_FILE, lambda path, _: read_run(path).read_metadata(DICTIONARY_FILE), checked=False
    ),
    "density history": Subject("relu", DENSITY_FILE, _density),
    "features": Subject("relu/eval/default", FEATURES_FILE, lambda path, _: read_features(read_run(path), F)),
    "report": Subject("relu/eval/default", EVAL_FILE, lambda path, _: read_run(path).read_json(EVAL_FILE)),
}


def make_runs(root: Path) -> None:
    """A harvest, dictionaries of four architectures, one of them with an evaluation, a training that was stopped, and
    runs with all that a report shows."""
    console.configure(quiet=True)
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    _harvest(root / "harvest", random)
    vectors = {"b_dec": random(D), "activation_mean": random(D)}
    plain = {"W_enc": random(F, D), "W_dec": random(F, D), "b_enc": random(F), **vectors}
    gate = {name: random(F) for name in ("b_gate", "r_mag", "b_mag")}
    sizes = {"threshold": torch.ones(F), "group_sizes": torch.tensor([2.0, 4.0])}
    _train(root / "relu", ReluDictionary(plain), ReluSae())
    _train(root / "topk", TopKDictionary({**plain, "k": torch.tensor([2.0])}), TopKSae())
    _train(root / "gated", GatedDictionary({**plain, **gate}), ReluSae())
    _train(root / "matryoshka", MatryoshkaDictionary({**plain, **sizes}), MatryoshkaSae(fractions=[0.5, 0.5]))
    _stopped(root / "stopped")
    _reported(root)
    with open_run(root / "relu" / "eval" / "default", "eval", {"eval.tokens": 10}) as run:
        counts = {"count": torch.arange(F), "frequency": random(F).abs(), "de_projection": random(F)}
        run.write_tensors(FEATURES_FILE, counts)
        run.write_json(EVAL_FILE, {"l0": 1.5, "features": F, "quantiles": {"q50": [0.25, None, -1]}})
        run.finish(seconds=0.5)


def _reported(root: Path) -> None:
    maker = Maker(root)
    reported = maker.train("reported")
    maker.pages(reported)
    maker.compare("compared", reported, reported)


def _stopped(directory: Path) -> None:
    """One checkpoint, after the third of six steps."""
    config = TrainConfig(
        model=ModelConfig(path="embedded:demo"), hook=HookConfig(point=HookPoint.mlp_out), sae=ReluSae(), layer=1,
        data=SyntheticData(d=D, n_features=16), dict_size=F, l1=0.5, tokens=TOKENS,
        train=TrainingConfig(batch_size=BATCH, shuffle_buffer=SHUFFLED, held_out_tokens=BATCH, kernel=Kernel.reference),
        resample=ResampleConfig(at=[4], inputs=BATCH, rewarm_steps=1), checkpoint=CheckpointConfig(every_seconds=0),
    )  # fmt: skip
    training = TrainingGroup().make(Claim(config, directory))
    assert isinstance(training, Job)
    with suppress(GeneratorExit), training.open() as work:
        for _ in range(3):
            next(work.steps)
        work.save()
        raise GeneratorExit


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal, to the bit where they are tensors."""
    if isinstance(one, torch.Tensor):
        alike = isinstance(other, torch.Tensor) and one.dtype == other.dtype and one.shape == other.shape
        return alike and one.numpy().tobytes() == other.numpy().tobytes()
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def forge(directory: Path, name: str, content: bytes) -> None:
    """Make the manifest say that the file was written so."""
    manifest = read_manifest(directory)
    manifest.files[name] = FileRecord(len(content), hashlib.sha256(content).hexdigest())
    (directory / MANIFEST).write_bytes(seal(asdict(manifest)))


def _harvest(directory: Path, random: Callable[..., torch.Tensor]) -> None:
    with open_run(directory, "harvest", {"dtype": "float32"}) as run:
        for name in SHARDS:
            origin = {key: torch.arange(SHARD) for key in ("tokens", "position", "document")}
            run.write_tensors(name, {"activations": random(SHARD, D), **origin})
        for name in ROWS_OF_SHARDS:
            run.write_tensors(name, {key: torch.arange(SHARD + 1)[None] for key in ("tokens", "document")})
        run.finish(tokens=2 * SHARD, width=D)


def _train(directory: Path, dictionary: Any, sae: Any) -> FinishedRun:
    config = TrainConfig(
        model=ModelConfig(path="embedded:demo"), hook=HookConfig(point=HookPoint.mlp_out), data=SyntheticData(d=D),
        sae=sae, layer=1, dict_size=F, l1=0.5, k=2, tokens=100,
    )  # fmt: skip
    windows = {"count": torch.ones(3, F, dtype=torch.int64), "tokens": torch.arange(3), "step": torch.arange(3)}
    resampled = {"resample_step": torch.zeros(0, dtype=torch.int64), "resampled": torch.zeros(0, F, dtype=torch.bool)}
    with open_run(directory, "train", result_settings(config)) as run:
        run.write_text(CONFIG_FILE, as_yaml(config))
        save_dictionary(run, dictionary, {"hook": "mlp_out", "layer": 1, "model": "demo", "scale": 1.5})
        run.write_tensors(DENSITY_FILE, {**windows, **resampled, "exempt": torch.zeros(F, dtype=torch.bool)})
        return run.finish(tokens=100, source="synthetic", width=D)


def empty_manifest() -> dict[str, Any]:
    """The entries of a complete run without files."""
    return asdict(Manifest(command="train", status="complete", settings={}, settings_hash="0" * 64))
