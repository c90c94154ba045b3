"""Thresholds of jump_relu arrive at published learning rates, wherever they begin."""

from dataclasses import replace
from itertools import islice

import pytest
import torch

from sae_cli import build
from sae_cli.activations.synthetic import SyntheticActivations
from sae_cli.config.commands.train import TrainConfig
from sae_cli.config.compose import configured
from sae_cli.config.settings import result_settings
from sae_cli.config.split import Split
from sae_cli.dictionaries.jump_relu import JumpReluObjective
from sae_cli.dictionaries.objective import StepContext
from sae_cli.kernels.reference import ReferenceKernel
from sae_cli.training.recipe import recipe_of
from sae_cli.training.trainer import Trainer

N, STEPS, K = 128, 1_000, 4
TRUTH = SyntheticActivations(
    d=16, n_features=48, mean_active=3.0, frequency_exponent=0.5, correlation=0.0, noise=0.0, seed=0
)


@pytest.fixture(scope="module")
def data():
    blocks = TRUTH.blocks(Split.train)
    return torch.cat([block.activations for block in islice(blocks, N * STEPS // 4096 + 1)])[: N * STEPS].split(N)


def trained(data, steps, *overrides):
    """L0 and FVU of the last tenth of the steps before thresholds are moved directly, and of the last of all."""
    common = f"data=synthetic data.d=16 sae=jump_relu k={K} dict_size=64 tokens={N * STEPS} train.batch_size={N}"
    config = configured(TrainConfig, [*common.split(), "train.kernel=reference", *overrides])
    trainer = Trainer(recipe_of(config), build.objective(config, 16), torch.cat(data[:64]), torch.device("cpu"))
    lines = []
    for x in data[:steps]:
        trainer.step(x)
        if trainer.step_number in (STEPS * 7 // 10, STEPS * 8 // 10, STEPS * 9 // 10, STEPS):
            lines.append(trainer.close_window())
    return trainer, lines


@pytest.mark.parametrize("threshold", [0.001, 1.0, 3.0])
def test_from_a_bad_start_at_a_published_learning_rate(data, threshold):
    """At .001 of the mean norm everything is active; at 1 and 3 of it nothing, and nothing is near a threshold."""
    _, lines = trained(data, STEPS, "train.lr=3e-4", f"sae.threshold={threshold}")
    assert lines[-1]["l0"] == pytest.approx(K, rel=0.05)
    assert K / 2 < lines[1]["l0"] < 2 * K  # they were there before they were moved directly
    assert lines[-1]["fvu"] < 0.35


def test_at_the_rate_of_all_other_parameters_they_stay_where_they_began(data):
    _, lines = trained(data, STEPS * 7 // 10, "train.lr=3e-4", "sae.threshold=0.001", "sae.threshold_lr=3e-4")
    assert lines[-1]["l0"] > 6 * K


def test_at_the_default_learning_rate_nothing_has_changed(data):
    """To the bit: with the rate of all parameters they end where they end with the same one of their own."""
    new, _ = trained(data, 60)
    assert (new.recipe.threshold_lr, new.recipe.lr) == (5.6e-3, 5.6e-3)
    config = configured(TrainConfig, ["data=synthetic", "data.d=16", "sae=jump_relu", "k=4", "dict_size=64"])
    config = replace(config, tokens=N * STEPS, train=replace(config.train, batch_size=N))
    old = Trainer(
        replace(new.recipe, threshold_lr=None), build.objective(config, 16), torch.cat(data[:64]), torch.device("cpu")
    )
    for x in data[:60]:
        old.step(x)
    for name, tensor in old.state().items():
        assert torch.equal(new.state()[name], tensor), name


def test_only_thresholds_have_a_learning_rate_of_their_own(data):
    moved = {}
    for rate in (5.6e-3, 0.1):
        trainer, _ = trained(data, 1, f"sae.threshold_lr={rate}")
        moved[rate] = {name: parameter.clone() for name, parameter in trainer.objective.parameters.items()}
    for name, parameter in moved[0.1].items():
        assert torch.equal(parameter, moved[5.6e-3][name]) == (name != "log_threshold")


def test_a_rate_that_is_that_of_all_is_no_setting_of_its_own():
    """Runs of before, which have none, are what they were."""
    plain = configured(TrainConfig, ["sae=jump_relu"])
    assert "sae.threshold_lr" not in result_settings(plain)
    other = configured(TrainConfig, ["sae=jump_relu", "train.lr=3e-4"])
    assert result_settings(other)["sae.threshold_lr"] == 5.6e-3


def test_where_nothing_is_near_a_threshold_all_of_them_move_alike():
    objective = JumpReluObjective(torch.eye(3), torch.eye(3), torch.zeros(3), True, "l0_target", 1.0, 2.0, 0.1, 9.0)

    context = StepContext(batch_size=4, sparsity=1.0, dead=torch.zeros(3, dtype=torch.bool))
    objective.accumulate(torch.ones(4, 3), torch.ones(4, 3), ReferenceKernel(), context)
    objective.finish_gradients(context)
    gradient = objective.log_threshold.grad
    # L0 is 0 of 2: the slope is 2 (0 / 2 - 1) / 2 a token, and each threshold has one in its window of 0.1.
    torch.testing.assert_close(gradient, torch.full((3,), 9.0 / 0.1 / 4))
