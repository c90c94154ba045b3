"""SAELens' `run_evals` of a dictionary that `sae export` wrote gives our figures, on the same tokens of the same model.

`make peers` builds the environment that has it; without it this is skipped.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sae_cli import build
from sae_cli.cli.main import run as command_line
from sae_cli.config.evaluation import EvaluationConfig
from sae_cli.evaluation.held_out import HeldOutText
from sae_cli.models.sources import model_source
from sae_cli.runs.dictionary_run import read_dictionary_run

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default")]
HOOKS = {"mlp_out": "gpt_neox.layers.2.mlp", "resid": "gpt_neox.layers.2"}
TOKENS, ROWS = 2000, 4
SAME = {
    "l0": "l0", "l1": "l1", "mse": "mse", "explained_variance": "explained_variance", "cossim": "cosine",
    "l2_ratio": "norm_ratio", "ce_loss_without_sae": "ce_clean", "ce_loss_with_sae": "ce_sae",
    "ce_loss_with_ablation": "ce_zero", "ce_loss_score": "loss_recovered",
}  # fmt: skip


class Store:
    """Where SAELens takes tokens from: the same rows for each of its passes."""

    store_batch_size_prompts = ROWS

    def __init__(self, tokens):
        self._tokens, self._next = tokens, 0
        self.context_size = tokens.shape[1]

    def get_batch_tokens(self, rows):
        self._next += rows
        return self._tokens[self._next - rows : self._next]

    def reset_input_dataset(self):
        self._next = 0


def called(capsys, *arguments):
    """What a command prints."""
    assert command_line([str(each) for each in arguments]) == 0
    return capsys.readouterr().out


def held_out_tokens(directory, evaluation):
    """The rows of text that `sae eval` reads."""
    source = read_dictionary_run(directory)
    data = source.data(None)
    model = build.language_model(source.model(), data, torch.device("cpu"))
    return torch.cat([each.tokens for each in HeldOutText(model, data, ROWS, evaluation).rows("rows")]).long()


@pytest.mark.parametrize("hook", HOOKS)
def test_run_evals_gives_our_figures(hook, tmp_path, capsys):
    lens, evals = pytest.importorskip("sae_lens"), pytest.importorskip("sae_lens.evals")
    scaler = pytest.importorskip("sae_lens.training.activation_scaler").ActivationScaler()
    here = ["device=cpu", f"runs_dir={tmp_path}"]
    small = ["dict_size=256", "tokens=8k", "train.batch_size=512", "train.shuffle_buffer=2048"]
    run = called(capsys, "train", "model=demo", "layer=2", f"hook={hook}", *small, *here).strip()
    asked = [f"eval.tokens={TOKENS}", "eval.exclude=[]", "features.tokens=2000", *here]
    ours = json.loads(called(capsys, "eval", run, *asked, "--json"))["eval"]
    folder = called(capsys, "export", run, "to=saelens", *here).strip()

    sae = lens.SAE.load_from_disk(folder)
    assert sae.cfg.metadata.hook_name == f"blocks.2.hook_{hook}{'_post' * (hook == 'resid')}"
    sae.cfg.metadata.hook_name = HOOKS[hook]
    model = pytest.importorskip("sae_lens.load_model").load_model(
        "AutoModelForCausalLM", model_source("embedded:demo").location, "cpu", {"dtype": torch.float32}, [HOOKS[hook]]
    )
    tokens = held_out_tokens(Path(run), EvaluationConfig(tokens=TOKENS, exclude=[]))
    assert len(tokens) % ROWS == 0
    batches = len(tokens) // ROWS
    everything = evals.get_eval_everything_config(ROWS, batches, batches)
    theirs, _ = evals.run_evals(sae, Store(tokens), model, scaler, everything, exclude_special_tokens=[])
    theirs = {name: value for group in theirs.values() for name, value in group.items()}

    for name, key in SAME.items():
        assert theirs[name] == pytest.approx(ours[key], abs=1e-3, rel=1e-3), name
    # Means over all positions, also those whose next token is not in the row; ours at those that have one.
    assert theirs["kl_div_with_sae"] == pytest.approx(ours["kl_sae"], rel=0.02)
    # A mean of one ratio a batch; ours is the ratio of all sums.
    assert theirs["relative_reconstruction_bias"] == pytest.approx(ours["reconstruction_bias"], rel=0.02)
    # Against the variance about the mean of a batch, a mean of ratios.
    assert theirs["explained_variance_legacy"] != pytest.approx(ours["explained_variance"], abs=1e-3)
