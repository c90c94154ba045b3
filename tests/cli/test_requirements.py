"""`--require`: what it accepts, what it compares with, and its exit codes."""

from __future__ import annotations

import pytest

from sae_cli.cli.requirements import check, parse
from sae_cli.errors import RequestError, RequirementError
from sae_cli.evaluation.loss_tables import loss_rows

DOCUMENT = {"eval": {"loss_recovered": 0.93, "l0": 31, "undefined": None, "loss": {"clean": 2.5}, "name": "x"}}


@pytest.mark.parametrize("expression", ["loss_recovered>=0.9", " l0 < 40 ", "l0==31", "loss.clean<=2.5", "l0>3e1"])
def test_met(expression):
    check([parse(expression)], DOCUMENT)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("loss_recovered>0.95", "required loss_recovered>0.95, found 0.93"),
        ("loss.clean<2", "required loss.clean<2, found 2.5"),
        ("undefined>=0", "required undefined>=0, found no value"),
        ("undefined.value>=0", "required undefined.value>=0, found no value"),
    ],
)
def test_not_met(expression, message):
    with pytest.raises(RequirementError, match=message):
        check([parse(expression)], DOCUMENT)


def test_all_that_are_not_met_are_named():
    with pytest.raises(RequirementError, match="l0<10, found 31; l0>40, found 31"):
        check([parse("l0<10"), parse("l0>20"), parse("l0>40")], DOCUMENT)


@pytest.mark.parametrize("expression", ["l0", "l0>=", ">=3", "l0>=x", "l0=3", "l0>=1 2", "l0>=nan"])
def test_not_a_requirement(expression):
    with pytest.raises(RequestError, match="expected FIELD>=NUMBER"):
        parse(expression)


@pytest.mark.parametrize("field", ["los_recovered", "name", "loss"])
def test_a_field_that_is_no_number(field):
    with pytest.raises(RequestError, match=f"no field {field}"):
        check([parse(f"{field}>1")], DOCUMENT)


def test_the_run_is_printed_all_the_same(sae, stage):
    stage.document = DOCUMENT
    ended = sae("eval", "runs/a", "--require", "l0<10")
    assert (ended.code, ended.out) == (3, "runs/a\n")
    assert ended.err.splitlines()[-1] == "sae: error: required l0<10, found 31"


def test_a_field_that_this_run_does_not_have_is_one_short_line():
    domains = {f"domain {number}": {"ce_sae": 1.0} for number in range(200)}
    with pytest.raises(RequestError) as caught:
        check([parse("nullspace>1")], {"eval": {"l0": 3, "domains": domains}})
    assert len(str(caught.value)) < 250


def test_a_misspelt_field_is_refused_before_the_job(sae, stage):
    stage.document = DOCUMENT
    ended = sae("eval", "runs/a", "--require", "los_recovered>=0.9")
    assert ended.code == 2
    assert "no field los_recovered: did you mean loss_recovered?" in ended.err
    assert stage.calls == []


LOWERS = {
    "loss_recovered": None,
    "loss_recovered_se": None,
    "ce_increase": 0.02,
    "zero_ablation_effect": -0.23,
    "zero_ablation_effect_se": 0.02,
}


@pytest.mark.parametrize("group", ["", "baselines.random.", "before.", "domains.a.b."])
def test_a_loss_recovered_that_does_not_exist_fails_and_says_why(sae, stage, group):
    nothing = {"loss_recovered": None}
    stage.document = {
        "eval": {**LOWERS, "baselines": {"random": nothing}, "before": nothing, "domains": {"a.b": LOWERS}}
    }
    ended = sae("eval", "runs/a", "baselines=[random]", "--require", f"{group}loss_recovered>=1.05")
    assert ended.code == 3
    assert ended.err.splitlines()[-1] == (
        f"sae: error: required {group}loss_recovered>=1.05, found no value: for this run it does not exist: "
        "zero ablation does not clearly raise the loss (-0.2300 ± 0.0200 nats)"
    )


def test_the_table_says_why_and_shows_the_increase():
    assert loss_rows({**LOWERS, "ce_sae": 3.0}) == [
        (
            "loss recovered (zero)",
            "does not exist: zero ablation does not clearly raise the loss (-0.2300 ± 0.0200 nats)",
        ),
        ("CE increase, nats", "0.0200"),
        ("CE increase by zero, nats", "-0.2300 ± 0.0200"),
    ]
