"""What is said of overrides that cannot be meant."""

from __future__ import annotations

import pytest

from sae_cli.cli.overrides import parse
from sae_cli.errors import RequestError


def test_several_runs_of_a_pipe_say_what_to_type() -> None:
    with pytest.raises(RequestError, match=r"run is given twice: run=a and run=b; .*`xargs -n 1 sae"):
        parse(["run=a", "run=b"], multirun=False)


def test_another_setting_given_twice_has_no_word_of_xargs() -> None:
    with pytest.raises(RequestError, match=r"^seed is given twice: seed=1 and seed=2$"):
        parse(["seed=1", "seed=2"], multirun=False)
