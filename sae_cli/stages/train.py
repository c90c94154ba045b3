"""`sae train`: train one dictionary and leave it, in raw activation units, in its run directory."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from sae_cli import console
from sae_cli.artifacts.run_directory import FinishedRun, Run, finished_run, open_run
from sae_cli.config.commands import TrainConfig
from sae_cli.config.names import result_settings
from sae_cli.config.stored import CONFIG_FILE, as_yaml
from sae_cli.data.activations import take
from sae_cli.data.shuffle import ShuffleBuffer
from sae_cli.dictionaries.files import save_dictionary
from sae_cli.errors import RequestError
from sae_cli.metrics.reconstruction import ReconstructionSums
from sae_cli.stages import build
from sae_cli.stages.activation_source import ActivationSource, open_source
from sae_cli.stages.estimate import announce, require_disk
from sae_cli.stages.result import StageResult
from sae_cli.training.trainer import Recipe, Trainer

CURVE = "metrics.jsonl"


def run(config: TrainConfig, directory: Path) -> StageResult:
    """Train a dictionary on `config.tokens` activations."""
    settings = result_settings(config)
    if finished := finished_run(directory, settings, config.overwrite):
        console.log(f"found finished: {directory}")
        return _result(finished)
    recipe = _recipe(config)
    device = build.device(config.device)
    source = open_source(config, settings, device)
    held_out = source.held_out(config.train.held_out_tokens)
    require_disk(directory, needed=_dictionary_bytes(config, width=held_out.shape[1]))
    if directory.exists() and not config.overwrite:
        console.log(f"an unfinished attempt is in {directory}: starting it again")

    with open_run(directory, "train", settings) as claimed:
        claimed.write_text(CONFIG_FILE, as_yaml(config))
        if source.parent:
            claimed.add_parent(source.parent)
        started = time.monotonic()
        trainer = _train(claimed, config, recipe, source, held_out, device)
        figures = held_out_figures(trainer, held_out)
        dictionary = trainer.dictionary()
        save_dictionary(
            claimed,
            dictionary,
            hook=config.hook.point.value,
            layer=config.layer,
            model=config.model.path,
            scale=trainer.scale,
        )
        finished = claimed.finish(
            **source.facts,
            tokens=trainer.tokens,
            steps=trainer.step_number,
            width=dictionary.width,
            scale=trainer.scale,
            seconds=time.monotonic() - started,
            held_out_fvu=figures["fvu"],
            held_out_l0=figures["l0"],
            dead=trainer.dead,
        )
    return _result(finished)


def _recipe(config: TrainConfig) -> Recipe:
    train = config.train
    steps = config.tokens // train.batch_size
    if steps < 1:
        raise RequestError(f"tokens={config.tokens}: expected at least one batch, train.batch_size={train.batch_size}")
    return Recipe(
        dict_size=config.dict_size,
        l1=config.l1,
        steps=steps,
        lr=train.lr,
        betas=(train.adam_beta1, train.adam_beta2),
        lr_warmup=train.lr_warmup,
        lr_decay=train.lr_decay,
        l1_warmup=train.l1_warmup,
        decoder_fit=train.decoder_fit,
        decoder_norm=config.sae.decoder_norm,
        b_dec_init=config.sae.b_dec_init,
        dead_after=train.dead_after,
        seed=config.seed,
    )


def _train(
    claimed: Run,
    config: TrainConfig,
    recipe: Recipe,
    source: ActivationSource,
    held_out: torch.Tensor,
    device: torch.device,
) -> Trainer:
    train = config.train
    filling = time.monotonic()
    batches = ShuffleBuffer(
        take(source.blocks(), config.tokens), train.shuffle_buffer, train.batch_size, config.data.seed
    )
    filling = time.monotonic() - filling
    sample = batches.contents.activations
    trainer = Trainer(recipe, sample, device)
    _estimate(trainer, sample, config, filling)
    started, shown = time.monotonic(), {}
    with console.progress(recipe.steps * train.batch_size, "train") as advance:
        for batch in batches:
            trainer.step(batch.activations.to(device))
            last = trainer.step_number == recipe.steps
            if last or trainer.step_number % train.log_every == 0:
                line: dict[str, Any] = trainer.close_window()
                line["tokens_per_second"] = trainer.tokens / (time.monotonic() - started)
                if last or trainer.step_number % train.held_out_every == 0:
                    line["held_out_fvu"] = held_out_figures(trainer, held_out)["fvu"]
                claimed.append_line(CURVE, line)
                shown = {"fvu": f"{line['fvu']:.3f}", "l0": f"{line['l0']:.1f}", "dead": line["dead"]}
            advance(len(batch.activations), **shown)
    return trainer


def held_out_figures(trainer: Trainer, held_out: torch.Tensor) -> dict[str, float | None]:
    """Reconstruction metrics of the dictionary as it stands, on held-out activations."""
    dictionary = trainer.dictionary()
    sums = ReconstructionSums(origin=dictionary.activation_mean)
    for x in held_out.to(dictionary.W_dec.device).split(4096):
        f = dictionary.encode(x)
        sums.add(x, dictionary.decode(f), f, dictionary.decoder_norms())
    return sums.results()


def _estimate(trainer: Trainer, sample: torch.Tensor, config: TrainConfig, filling: float) -> None:
    """Said once the buffer is full, because then the speed of both halves has been measured."""
    batch = sample[: config.train.batch_size]
    step = trainer.time_of_a_step(batch)
    parameters = _dictionary_bytes(config, sample.shape[1])
    announce(
        disk=parameters,
        memory=4 * parameters + sample.nbytes + 3 * len(batch) * config.dict_size * 4,
        seconds=filling * (config.tokens / len(sample) - 1) + step * trainer.recipe.steps,
    )


def _dictionary_bytes(config: TrainConfig, width: int) -> int:
    """W_enc, W_dec, b_enc, b_dec and the mean activation, in float32."""
    return 4 * (2 * config.dict_size * width + config.dict_size + 2 * width)


def _result(finished: FinishedRun) -> StageResult:
    facts, settings = finished.manifest.facts, finished.manifest.settings
    figures = {"l0": facts["held_out_l0"], "fvu": facts["held_out_fvu"], "dead": facts["dead"]}
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
            ("dead", f"{facts['dead']:,} of {settings['dict_size']:,}"),
            ("run", str(finished.directory)),
        ],
    )
