"""What is said of overrides that cannot be meant."""

from __future__ import annotations

import shutil

import pytest

from sae_cli.cli.overrides import in_digits, parse
from sae_cli.errors import RequestError


def test_several_runs_of_a_pipe_say_what_to_type() -> None:
    with pytest.raises(RequestError, match=r"run is given twice: run=a and run=b; .*`xargs -n 1 sae"):
        parse(["run=a", "run=b"], multirun=False)


def test_another_setting_given_twice_has_no_word_of_xargs() -> None:
    with pytest.raises(RequestError, match=r"^seed is given twice: seed=1 and seed=2$"):
        parse(["seed=1", "seed=2"], multirun=False)


AMOUNTS = {
    "tokens=1e5": "tokens=100000",
    "tokens=100k": "tokens=100000",
    "tokens=.1M": "tokens=100000",
    "tokens=0.0001G": "tokens=100000",
    "tokens=100_000": "tokens=100_000",
    "+train.save_at=[1e3,2k]": "+train.save_at=[1000,2000]",
    "dict_size=1k,2e3, 4K": "dict_size=1000,2000, 4000",
    "tokens=range(1k,3k,1e3)": "tokens=range(1000,3000,1000)",
    "tokens=choice(1k,2M)": "tokens=choice(1000,2000000)",
    "tokens='1e5'": "tokens='1e5'",
    "tokens=${k}": "tokens=${k}",
    "name=100k": "name=100k",
    "l1=1e-3": "l1=1e-3",
    "train.lr=1e-3": "train.lr=1e-3",
    "data.path=1e5": "data.path=1e5",
}


@pytest.mark.parametrize("typed", AMOUNTS)
def test_amounts_are_put_in_digits(typed: str) -> None:
    assert in_digits(typed, "train") == AMOUNTS[typed]


@pytest.mark.parametrize(
    ("typed", "plain"),
    [
        ("train tokens=1e5", "train tokens=100000"),
        ("train dict_size=1k sae=topk sae.aux_k=1e2", "train dict_size=1000 sae=topk sae.aux_k=100"),
        ("train -m tokens=1e5,200k", "train -m tokens=100000,200000"),
        ("train train.batch_size=1k train.save_at=[1e2]", "train train.batch_size=1000 train.save_at=[100]"),
        ("harvest tokens=1e5 shard_tokens=10k", "harvest tokens=100000 shard_tokens=10000"),
        ("eval runs/a eval.tokens=5k features.tokens=1M", "eval runs/a eval.tokens=5000 features.tokens=1000000"),
    ],
)
def test_a_run_has_one_name_however_amounts_are_typed(typed, plain, sae, stage, folder) -> None:
    assert sae(*typed.split()).code == 0
    shutil.rmtree(folder / "runs")
    first, stage.calls[:] = list(stage.calls), []
    assert sae(*plain.split()).code == 0
    assert stage.calls == first
