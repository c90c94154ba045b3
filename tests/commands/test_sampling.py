"""Held-out text is read in a few rows of every document, the same ones for everybody; baselines by token and row files
are of the same rows."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import torch

from sae_cli.artifacts.stored_run import read_run
from sae_cli.commands import train
from sae_cli.metrics.language_loss import figures_of
from sae_cli.runs.row_files import read_rows

SMALL = ["device=cpu", "model_rows=4", "features.tokens=300"]


@pytest.fixture(scope="module")
def trained(world, tmp_path_factory):
    root = tmp_path_factory.mktemp("sampling")
    train.run(world.train(root, tokens=512), root / "run")
    return root / "run"


def evaluated(sae, run, *settings):
    ended = sae("eval", run, *SMALL, *settings, "--json")
    found = json.loads(ended.out)
    return found["eval"], max((run / "eval").iterdir(), key=lambda each: each.stat().st_mtime), ended.err


def test_every_document_gives_at_most_so_many_rows(trained, sae):
    report, folder, said = evaluated(sae, trained, "eval.tokens=100_000", "eval.rows_per_document=2")
    rows = read_rows(read_run(folder))
    counts = Counter(rows.places.document.tolist())
    assert max(counts.values()) == 2
    assert report["documents"] == len(counts) == rows.documents
    assert report["rows"] == rows.rows
    assert "at most 2 rows (eval.rows_per_document) of each of" in said
    all_rows, _, _ = evaluated(sae, trained, "eval.tokens=100_000", "eval.rows_per_document=null")
    assert all_rows["tokens"] > report["tokens"]


def test_figures_follow_from_the_stored_rows(trained, sae):
    report, folder, _ = evaluated(sae, trained, "eval.tokens=2000", "baselines=[token,token2,pca]")
    for name in ("dictionary", "baselines.token", "baselines.token2", "baselines.pca"):
        rows = read_rows(read_run(folder), name)
        figures = report if name == "dictionary" else report["baselines"][name.partition(".")[2]]
        for key in ("fvu", "l0", "ce_increase"):
            assert rows.estimate(figures_of(rows.columns)[key]).value == pytest.approx(figures[key], rel=1e-9), key
        assert torch.equal(rows.places.number, read_rows(read_run(folder)).places.number)
    dictionary, token = (read_rows(read_run(folder), name) for name in ("dictionary", "baselines.token"))
    left = (token.column("ce_sae") - dictionary.column("ce_clean")).sum()
    gained = (token.column("ce_sae") - dictionary.column("ce_sae")).sum()
    above = report["baselines"]["token"]["recovered_above"]
    assert above is None or above == pytest.approx(float(gained / left))


def test_the_rows_do_not_depend_on_the_order_of_training(world, tmp_path, sae):
    """Dictionaries whose training read the text in another order are measured on the same rows."""
    from dataclasses import replace

    hashes = []
    for seed in (0, 5):
        config = world.train(tmp_path, tokens=512)
        train.run(replace(config, data=replace(config.data, seed=seed)), tmp_path / str(seed))
        hashes.append(evaluated(sae, tmp_path / str(seed), "eval.tokens=600")[0]["tokens_sha256"])
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["eval.sample=first", "eval.rows_per_document=3"], "eval.rows_per_document=3 has no effect"),
        (["eval.sample=first", "eval.within=100"], "eval.within=100 has no effect"),
        (["baseline_tokens=100"], "baseline_tokens=100 has no effect"),
        (["eval.sample=last"], "eval.sample"),
    ],
)
def test_settings_without_effect(trained, sae, settings, said):
    assert said in sae("eval", trained, *SMALL, *settings, code=2).err
