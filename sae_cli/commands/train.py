"""`sae train`: train one dictionary and leave it, in raw activation units, in its run directory."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from sae_cli import build
from sae_cli.activations.columns import AUTOENCODER, Columns
from sae_cli.activations.live import stream_key
from sae_cli.activations.non_finite import usable_rows
from sae_cli.activations.source import ActivationSource, ActivationSources
from sae_cli.activations.text_read import check_same_text, warn_if_text_changed
from sae_cli.artifacts.run_directory import LogLine, Run
from sae_cli.artifacts.stored_run import FinishedRun, UnfinishedRun
from sae_cli.config.agreement import check_agreement
from sae_cli.config.commands.train import TrainConfig
from sae_cli.config.tracking import trackers
from sae_cli.dictionaries.files import DICTIONARY_FILE, save_dictionary, snapshot_file
from sae_cli.dictionaries.objective import MakeObjective
from sae_cli.documents import Document
from sae_cli.evaluation.encode import measure
from sae_cli.jobs.estimate import Estimate, expect_memory, require_disk
from sae_cli.jobs.once import Claim, once
from sae_cli.jobs.result import StageResult
from sae_cli.jobs.shortage import warn_if_dropped, warn_if_repeated, warn_if_short
from sae_cli.jobs.side_by_side import Group, Job, Outcome, Step, Work, run_all, run_one
from sae_cli.kernels.choice import check_kernel
from sae_cli.metrics.encoded import Encoded
from sae_cli.metrics.reconstruction import ReconstructionSums
from sae_cli.metrics.report import existing
from sae_cli.runs.dictionary_run import card_of
from sae_cli.runs.file_names import CURVE, DENSITY_FILE, RESAMPLING_FILE
from sae_cli.runs.stored_figures import shows_stored
from sae_cli.tensor_types import Float, Tensor
from sae_cli.terminal import console
from sae_cli.terminal.progress import Field
from sae_cli.training.checkpoint import SavedTraining, checkpoint_files, read_checkpoint, save_checkpoint
from sae_cli.training.forbidden_run import FORBIDDEN, Forbidden, check_width, forbidden
from sae_cli.training.needs import Widths, disk_bytes, estimate, memory_bytes
from sae_cli.training.recipe import Recipe, beyond, recipe_of
from sae_cli.training.trackers.tracking import Tracking, check_trackers
from sae_cli.training.trainer import TRAINING, Trainer
from sae_cli.training.units import in_training, l1_facts

_CODES_AT_ONCE = 2**27  # numbers of a matrix [N, F]

_MISSED = 0.05
"""Share of `k` by which L0 may differ without a word."""


def run(config: TrainConfig, directory: Path) -> StageResult:
    """Train a dictionary on `config.tokens` activations."""
    return run_one(Claim(config, directory), TrainingGroup())


def run_together(requests: Sequence[tuple[TrainConfig, Path]]) -> list[Outcome]:
    """Train several; those on one text and model share its forward passes."""
    return run_all([Claim(*each) for each in requests], stream_key, TrainingGroup)


class TrainingGroup(Group[Claim[TrainConfig]]):
    """Trainings that share model and text."""

    def __init__(self) -> None:
        self._sources: ActivationSources | None = None

    def make(self, request: Claim[TrainConfig]) -> Job | StageResult:
        made = once(request, self._begin, partial(warn_if_text_changed, data=request.config.data))
        return made if isinstance(made, Job) else _result(made)

    def _begin(self, claim: Claim[TrainConfig]) -> Job:
        config = claim.config
        check_agreement(config)
        recipe, device = recipe_of(config), build.device(config.device)
        check_kernel(recipe.kernel, device)
        check_trackers(trackers(config.tracker))
        off_limits = forbidden(config)
        attempt = claim.attempt()
        saved = attempt and read_checkpoint(attempt, config.verify)
        if self._sources is None:
            self._sources = ActivationSources(device)
        source = self._sources.open(config, claim.settings, saved and saved.batches)
        return Training(claim, recipe, source, off_limits, device, attempt, saved)


class Training(Job):
    """One dictionary: from its first batch to the saved file."""

    title = "train"
    drawn = "loss"

    def __init__(
        self,
        claim: Claim[TrainConfig],
        recipe: Recipe,
        source: ActivationSource,
        forbidden: Forbidden | None,
        device: torch.device,
        attempt: UnfinishedRun | None,
        saved: SavedTraining | None,
    ) -> None:
        self._claim, self.directory, self.config = claim, claim.directory, (config := claim.config)
        self.recipe, self.source, self.forbidden, self.device = recipe, source, forbidden, device
        self._attempt, self._saved = attempt, saved
        self._parents = [*source.parents, *([forbidden.run] if forbidden else [])]
        self._tokens = recipe.steps * config.train.batch_size
        self.save_every = config.checkpoint.every_seconds
        if saved:
            saved.check(self._parents)
            check_same_text(saved.attempt, source.facts)

    @contextmanager
    def open(self) -> Iterator[Work]:
        """Claim the run, train, and leave the dictionary in it."""
        config, saved = self.config, self._saved
        started = time.monotonic() - (saved.seconds if saved else 0)
        held_out = self.source.held_out(config.train.held_out_tokens)
        warn_if_short("train.held_out_tokens", config.train.held_out_tokens, len(held_out), "the held-out text")
        make_objective = self._checked_objective(held_out.shape[1])
        parents, keep = self._parents, saved.attempt.manifest.files if saved else ()
        with (
            self._claim.open(parents, self._attempt, keep) as run,
            Tracking(
                trackers(config.tracker), self.directory, self._claim.settings, anew=self._attempt is None
            ) as tracking,
        ):
            past = self._begin(run, tracking)
            trainer, needs = self._make_trainer(make_objective)
            done_before = trainer.step_number * config.train.batch_size
            yield Work(
                steps=self._train(trainer, held_out, run, tracking),
                tokens=self._tokens - done_before,
                needs=needs,
                done_before=done_before,
                past=past,
                save=lambda: save_checkpoint(run, trainer, self.source.batches, time.monotonic() - started),
            )
            self.finished = self._finish(trainer, held_out, run, time.monotonic() - started)

    def _checked_objective(self, width: int) -> MakeObjective:
        """How the dictionary's training begins, for batches of this width; refused without disk or memory for it."""
        widths = Widths.of(self.source.columns, width)
        make_objective = build.objective(self.config, widths.written)
        require_disk(self.directory, needed=disk_bytes(self.config, widths))
        expect_memory(memory_bytes(self.config, widths))
        if self.forbidden:
            check_width(self.forbidden, widths.read)
        return make_objective

    def _begin(self, run: Run, tracking: Tracking) -> list[float]:
        """Write what is known before the first step; returns the losses of an earlier attempt."""
        for complaint in beyond(self.config):
            console.warn(complaint)
        if self.device.type == "cuda":
            console.log(f"{self.config.train.batch_size:,} tokens a step (train.batch_size)")
        if self._saved:
            console.log(f"resuming {self.directory} after step {self._saved.step:,} of {self.recipe.steps:,}")
        elif self._attempt:
            console.log(f"an unfinished attempt is in {self.directory}, without a checkpoint: starting it again")
        if CURVE in run.manifest.files:
            run.resume_log(CURVE)
        lines = run.log_lines(CURVE)
        for line in lines:
            tracking.log(line)
        run.manifest.facts.update(self.source.facts)
        run.save_progress()
        drawn = [line[self.drawn] for line in lines]
        return [each for each in drawn if isinstance(each, int | float)]

    def _make_trainer(self, make_objective: MakeObjective) -> tuple[Trainer, Estimate]:
        """The trainer, where an earlier attempt left it if there was one, and what training will take."""
        filling = time.monotonic()
        sample = usable_rows(self.source.batches.sample, self.config.non_finite)
        filling = time.monotonic() - filling
        direction = self.forbidden.direction if self.forbidden else None
        read, written = self.source.columns.pair(sample)
        trainer = Trainer(self.recipe, make_objective, read, self.device, direction, written)
        if self._saved:
            self._saved.take_up(trainer, sample.shape[1])
            self._saved = None
        if self.config.l1 and trainer.units.l1 != 1:
            console.log(in_training(self.config.l1, self.recipe.l1_units, trainer.scale, trainer.width))
        if trainer.kernels.waits_for_compiler:
            console.log("the first steps compile the loops for this processor: once, some seconds")
        if why := trainer.kernels.without_triton:
            console.warn(f"the plain kernel is used, which is slower: {why}")
        return trainer, estimate(trainer, sample, self.source.columns, self.config, filling)

    def _train(self, trainer: Trainer, held_out: Float[Tensor, "N C"], run: Run, tracking: Tracking) -> Iterator[Step]:
        """The loop. A batch of activations [N, C] becomes a loss, and the dictionary moves, in `trainer.step`; after
        each step the jobs of a sweep that share the stream may take their turns."""
        started, before = time.monotonic(), trainer.tokens
        for batch in self.source.batches:
            trainer.step(*self.source.columns.pair(usable_rows(batch, self.config.non_finite).to(self.device)))
            shown: dict[str, Field] = {}
            if self._is_logged(trainer):
                line = self._curve_line(trainer, held_out, (trainer.tokens - before) / (time.monotonic() - started))
                run.append_line(CURVE, line)
                tracking.log(line)
                shown = _shown(line)
            if trainer.ends_phase:
                console.log_once(_begins_decoder_fit(trainer))
            if trainer.step_number in self.config.train.save_at:
                self._save_dictionary(trainer, run, snapshot_file(trainer.step_number))
            yield Step(tokens=len(batch), shown=shown)

    def _is_logged(self, trainer: Trainer) -> bool:
        last = trainer.step_number == self.recipe.steps
        return last or trainer.ends_phase or trainer.step_number % self.config.train.log_every == 0

    def _curve_line(self, trainer: Trainer, held_out: Float[Tensor, "N C"], speed: float) -> LogLine:
        """Means since the line before, and from time to time the FVU of held-out activations."""
        line: dict[str, int | float | str | None] = {**trainer.close_window(), "tokens_per_second": speed}
        if trainer.step_number == self.recipe.steps or trainer.step_number % self.config.train.held_out_every == 0:
            line["held_out_fvu"] = held_out_figures(trainer, held_out, self.source.columns)["fvu"]
        return line

    def _finish(self, trainer: Trainer, held_out: Float[Tensor, "N C"], run: Run, seconds: float) -> FinishedRun:
        figures, history = held_out_figures(trainer, held_out, self.source.columns), trainer.history()
        aftermath = trainer.aftermath()
        # Batches are drawn before anything is left out of them, so that an activation's place depends on no other.
        dropped, epochs = self._tokens - trainer.tokens, self.source.epochs(self._tokens)
        warn_if_dropped(dropped, self._tokens)
        warn_if_repeated(epochs)
        _warn_if_missed(self.config, figures["l0"])
        self._save_dictionary(trainer, run, DICTIONARY_FILE)
        run.write_tensors(DENSITY_FILE, history)
        if self.recipe.resampling.at:
            run.write_tensors(RESAMPLING_FILE, aftermath.tensors())
        checkpoints = () if self.config.keep_checkpoints else checkpoint_files(run.manifest.files)
        return run.finish(
            checkpoints,
            **self._forbidden_facts(),
            **self.source.held_out_facts(),
            tokens=trainer.tokens,
            dropped=dropped,
            epochs=epochs,
            held_out_tokens=len(held_out),
            steps=trainer.step_number,
            width=held_out.shape[1],
            scale=trainer.scale,
            seconds=seconds,
            held_out_fvu=figures["fvu"],
            held_out_l0=figures["l0"],
            **trainer.silent,
            resampled=int(history["resampled"].sum()),
            **({"resamplings": aftermath.facts()} if self.recipe.resampling.at else {}),
            **l1_facts(self.config.l1, self.recipe.l1_units, trainer.units),
            **trainer.l0_control.facts(self.config.l1),
        )

    def _save_dictionary(self, trainer: Trainer, run: Run, name: str) -> None:
        """The dictionary as it stands, in raw units; a `JobError` if that is not finite."""
        trainer.check_finite()
        extra = self.source.coordinates() | ({FORBIDDEN: self.forbidden.direction} if self.forbidden else {})
        card = card_of(
            self.config,
            scale=trainer.scale,
            tokens=trainer.tokens,
            source=str(self.source.facts["source"]),
            provenance={"made_by": "sae train"},
        )
        save_dictionary(run, trainer.dictionary(), card.header(), extra, name)

    def _forbidden_facts(self) -> Document:
        if self.forbidden is None:
            return {}
        return {"forbidden_features": self.forbidden.features, "forbidden_alignment": self.forbidden.alignment}

    def result(self) -> StageResult:
        return _result(self.finished)


def _warn_if_missed(config: TrainConfig, l0: float | None) -> None:
    """Say that a dictionary is not as sparse as was asked for, which can happen where `k` is an aim, not a rule."""
    if config.sae.sparsity_setting() == "k" and l0 is not None and abs(l0 - config.k) > _MISSED * config.k:
        console.warn(f"held-out L0 is {l0:.1f} and k={config.k} was asked for: compare it at the L0 that it has")


def _begins_decoder_fit(trainer: Trainer) -> str:
    return (
        f"after step {trainer.step_number:,} of {trainer.recipe.steps:,} the decoder is fitted to features that no "
        "longer change: the penalty is off, so the loss falls to the squared error"
    )


def _shown(line: LogLine) -> dict[str, Field]:
    """Those figures of a line of the curve that are shown while training goes on."""
    silent = {key.replace("_", " "): f"{line[key]:,}" for key in ("dead", "never_fired") if key in line}
    phase = {"phase": str(line["phase"])} if line["phase"] != TRAINING else {}
    return {"loss": existing(line, "loss"), "fvu": f"{line['fvu']:.3f}", "l0": f"{line['l0']:.1f}", **silent, **phase}


def held_out_figures(
    trainer: Trainer, held_out: Float[Tensor, "N C"], columns: Columns = AUTOENCODER
) -> dict[str, float | None]:
    """Reconstruction metrics of the dictionary as it stands, on held-out activations; a `JobError` if not finite."""
    trainer.check_finite()
    dictionary = trainer.dictionary()
    sums = ReconstructionSums(origin=dictionary.activation_mean)
    at_once, device = max(1, min(4096, _CODES_AT_ONCE // dictionary.n_features)), dictionary.W_dec.device
    parts = (part.to(device) for part in held_out.split(at_once))
    measure((Encoded(dictionary, *columns.pair(part)) for part in parts), sums)
    figures = sums.results()
    if not math.isfinite(figures["fvu"] or 0.0):
        raise trainer.diverged(f"the held-out FVU is {figures['fvu']}")
    return figures


def silent_features(run: FinishedRun) -> dict[str, int]:
    """The features of a finished training that are `dead` or have `never_fired`, whichever is defined; nothing
    where a run is too short for `dead` and is of an earlier version, which called features dead all the same."""
    facts, settings = run.manifest.facts, run.manifest.settings
    key = "dead" if facts["tokens"] >= settings.get("train.dead_after", 0) else "never_fired"
    return {key: facts[key]} if key in facts else {}


def _silent_rows(silent: Mapping[str, int], tokens: int, features: int) -> list[tuple[str, str]]:
    within = {"dead": "", "never_fired": f" in {tokens:,} tokens"}
    return [(key.replace("_", " "), f"{count:,} of {features:,}{within[key]}") for key, count in silent.items()]


@shows_stored
def _result(finished: FinishedRun) -> StageResult:
    facts, settings = finished.manifest.facts, finished.manifest.settings
    silent = silent_features(finished)
    figures = {"l0": facts["held_out_l0"], "fvu": facts["held_out_fvu"], **silent}
    return StageResult(
        directory=finished.directory,
        title="train",
        document={"run": str(finished.directory), "command": "train", "facts": facts, "figures": figures},
        table=[
            (
                "dictionary",
                f"{settings['sae.architecture']}, {settings['dict_size']:,} features of width {facts['width']}",
            ),
            ("trained on", f"{facts['tokens']:,} activations ({facts['source']}) in {facts['seconds']:.0f} s"),
            ("held-out L0", f"{facts['held_out_l0']:.1f}"),
            ("held-out FVU", f"{facts['held_out_fvu']:.4f}"),
            *_silent_rows(silent, facts["tokens"], settings["dict_size"]),
            ("run", str(finished.directory)),
        ],
    )
