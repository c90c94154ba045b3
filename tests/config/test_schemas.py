"""What settings and commands say of themselves."""

from dataclasses import fields
from importlib.util import find_spec

import pytest

from sae_cli.config.amounts import amounts_of
from sae_cli.config.commands import command_names, module_name, schema_of
from sae_cli.config.data import DataConfig, HfData
from sae_cli.config.location import conf_dir
from sae_cli.config.roles import TextRole, role_of
from sae_cli.config.settings import execution_settings

ALL = {"device", "name", "runs_dir", "overwrite", "verify", "model_rows"}
OWN = {
    "train": {
        *("activations", "train.log_every", "train.held_out_every"),
        *("checkpoint.every_seconds", "keep_checkpoints", "tracker"),
    },
    "eval": {"out"},
    "features": {"out"},
    "bench": {"out"},
    "probe": {"out", "save"},
    "import": {
        *("check", "eval.tokens", "eval.sample", "eval.rows_per_document", "eval.within", "eval.exclude"),
        *(f"features.{name}" for name in ("tokens", "split", "rows_per_document", "rare_below")),
    },
}


@pytest.mark.parametrize("command", command_names())
def test_a_command_has_a_schema_a_module_and_a_primary_configuration(command):
    assert schema_of(command).command == command
    assert find_spec(f"sae_cli.commands.{module_name(command)}") is not None
    assert f"base_{command}" in (conf_dir() / f"{command}.yaml").read_text()


@pytest.mark.parametrize("command", command_names())
def test_what_a_command_says_it_holds_in_memory_are_settings(command):
    known = {each.name for each in fields(schema_of(command))}
    assert {key.partition(".")[0] for key in schema_of(command).held_in_memory} & known


@pytest.mark.parametrize("command", command_names())
def test_settings_that_only_say_how_a_job_is_executed(command):
    assert execution_settings(schema_of(command)) == ALL | OWN.get(command, set())


def test_numbers_of_something_are_no_amounts():
    assert {"tokens", "dict_size", "train.save_at"} <= amounts_of("train")
    assert not {"seed", "layer", "data.seed"} & amounts_of("train")
    assert not {"only", "ablate", "contexts.seed"} & amounts_of("features")


def test_settings_that_say_which_text_is_read():
    def of(schema, role):
        return {each.name for each in fields(schema) if role_of(each).text is role}

    assert of(HfData, TextRole.source) == {"path", "subset", "split"}
    assert of(DataConfig, TextRole.part) == of(HfData, TextRole.part) == {"domains"}
