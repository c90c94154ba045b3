"""The catalogue against what there is: each figure once, and the page of the docs made from it."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sae_cli.metrics.catalogue import FIGURES, figures, grouped, required_names, short_name, shown
from sae_cli.metrics.figure import Group, In, Of

ROOT = Path(__file__).parents[2]
KINDS = list(Of)


@pytest.mark.parametrize("of", KINDS, ids=str)
def test_a_key_has_one_entry_of_each_kind(of):
    keys = [each.key for each in FIGURES if of in each.of]
    assert len(keys) == len(set(keys)) > 0


def test_every_entry_says_what_it_is():
    for each in FIGURES:
        assert each.label and each.definition and each.of, each
        assert (each.group is not Group.NONE) == (Of.EVALUATION in each.of), each
        assert re.fullmatch(r"[a-z][a-z0-9_.]*", each.key), each
        assert each.text(3)


def test_definitions_speak_of_figures_that_there_are():
    known = {each.key for each in FIGURES} | {"train.dead_after"}
    named = {name for each in FIGURES for name in re.findall("`([^`]+)`", each.definition)}
    assert named <= known


def test_the_page_is_that_of_the_catalogue():
    spec = importlib.util.spec_from_file_location("figures_page", ROOT / "docs" / "figures.py")
    assert spec and spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.PAGE.read_text(encoding="utf-8") == script.page(), "python docs/figures.py"
    rows = re.findall(r"^\| `([^`]+)`", script.page(), flags=re.MULTILINE)
    assert set(rows) == {each.key for each in FIGURES}


def test_figures_on_the_direct_path_are_those_of_all_paths():
    known = figures(Of.EVALUATION)
    direct = {key for key in known if key.endswith("_direct")}
    assert {key.removesuffix("_direct") for key in direct} <= set(known)
    assert known["kl_sae_direct"].named == "KL (direct path), nats"
    assert known["loss_recovered_direct"].label == "loss recovered (zero, direct path)"
    assert all(known[key].has_error for key in direct)


def test_names_of_one_figure():
    known = figures(Of.EVALUATION)
    assert (
        known["ce_increase"].named == known["ce_increase"].heading == known["ce_increase"].axis == "CE increase, nats"
    )
    assert (known["l0"].label, known["l0"].heading, known["l0"].axis) == ("L0", "L0", "L0, features a token")
    assert (known["loss_recovered"].label, known["loss_recovered"].heading) == (
        "loss recovered (zero)",
        "loss recovered",
    )
    assert figures(Of.FEATURE)["mean_act"].chart == "Mean activation where a feature fires"
    assert short_name("never_fired") == short_name("never fired") == "never fired"


def test_standard_errors_may_be_required():
    names = required_names(Of.EVALUATION)
    assert {"ce_sae", "ce_sae_se", "ce_sae_low", "ce_sae_high", "fvu", "mse"} <= set(names) and "mse_se" not in names


def test_what_is_shown_is_in_the_order_of_the_catalogue():
    keys = [each.key for each in FIGURES]
    table = [each.key for each in shown(Of.EVALUATION, In.TABLE)]
    assert table == sorted(table, key=keys.index) and table[:2] == ["l0", "fvu"]
    assert [each.key for each in grouped(Group.RECONSTRUCTION)][:3] == ["l0", "l1", "mse"]


def test_reading_the_names_needs_no_torch():
    code = "import sys, sae_cli.metrics.catalogue; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
