"""Every published recipe trains, and says what a short run is too short for."""

import json
from pathlib import Path

import pytest

from sae_cli.config.location import option_files

SMALL = [
    *("data=synthetic", "data.d=16", "dict_size=64", "tokens=4_096", "device=cpu"),
    *("train.batch_size=256", "train.shuffle_buffer=1_024", "train.held_out_tokens=256", "train.kernel=reference"),
]


@pytest.mark.parametrize("recipe", option_files("recipe"))
def test_a_recipe_trains(sae, tmp_path, recipe):
    ended = sae("train", f"+recipe={recipe}", *SMALL, f"runs_dir={tmp_path}")
    facts = json.loads((Path(ended.out.split()[-1]) / "manifest.json").read_text())["facts"]
    assert facts["steps"] == 16 and facts["held_out_fvu"] is not None
    assert ("train.warmup_steps=1,000: the run has 16 steps" in ended.err) == (recipe[:5] in ("marks", "rajam"))
    assert ("resample.every=30,000: the run has 16 steps" in ended.err) == (recipe == "marks2023")


def test_the_same_by_another_spelling_is_the_same_run(sae, tmp_path):
    """A run's name follows from its settings, not from how they were given; a recipe changes it."""
    recipe = sae("train", "+recipe=bussmann2025", *SMALL, f"runs_dir={tmp_path}").out
    spelt = ["sae=matryoshka", "sae.fractions=[.0625,.0625,.125,.25,.5]", "train.lr=3e-4"]
    again = sae("train", *spelt, *SMALL, f"runs_dir={tmp_path}")
    assert again.out == recipe and "already finished" in again.err
    assert sae("train", "sae=matryoshka", *SMALL, f"runs_dir={tmp_path}").out != recipe
