"""Candidates for a word, as the shells get them."""

from __future__ import annotations

import pytest

from sae_cli.cli.completion import candidates
from sae_cli.config.location import option_files


@pytest.mark.parametrize(
    ("given", "word", "expected"),
    [
        ([], "data=p", ["data=pile"]),
        (
            [],
            "hook=",
            [
                *("hook=attn_out", "hook=logit_update", "hook=logits", "hook=mlp_act", "hook=mlp_out"),
                *("hook=module", "hook=resid"),
            ],
        ),
        ([], "dict", ["dict_size=", "dict_size=2048"]),
        ([], "train.lr", ["train.lr=", "train.lr_decay=", "train.lr_warmup="]),
        ([], "data.pa", []),
        (["data=hf"], "data.pa", ["data.path="]),
        ([], "nothing", []),
        (["l1=[1"], "model=d", [f"model=demo{end}" for end in ("", "-s", "-xs", "-xxs", "-xxs-1", "-xxs-2")]),
        (["l1=[1"], "train.l", []),
        ([], "mod", ["model.", "model=", "model_rows="]),
        ([], "wrong.tra", []),
        ([], "+", ["+recipe=", *(f"+recipe={each}" for each in option_files("recipe"))]),
        (["layer=2"], "+recipe=g", ["+recipe=gao2024"]),
        ([], "hydra/launcher=", ["hydra/launcher=basic", "hydra/launcher=shared"]),
    ],
)
def test_candidates(given, word, expected):
    assert candidates("train", given, word) == expected


def test_schemas_and_hydra_are_not_offered():
    offered = candidates("train", [], "")
    assert "layer=" in offered
    assert "model=" in offered
    assert not [each for each in offered if "base_" in each or each.startswith("hydra")]


def test_options_of_ones_own_are_offered(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("path: x\n")
    assert candidates("train", [], "model=m", tmp_path) == ["model=mine"]
