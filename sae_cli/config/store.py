"""Registration of the schemas with Hydra: every group option in conf/ begins with one of these.

A YAML that lists `base_<schema>` first in its `defaults` is checked against that dataclass: a value of
the wrong type and a key that does not exist are refused while the configuration is composed.
"""

from functools import cache

from hydra._internal.core_plugins.basic_launcher import BasicLauncherConf
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from sae_cli.config.commands import command_names, schema_of
from sae_cli.config.files import read_amounts_in_files
from sae_cli.config.groups import GROUPS
from sae_cli.config.location import runs_folder
from sae_cli.config.scaling import BY_DEVICE, BY_STEPS, by_device, by_steps

BASE = "base_"
"""Prefix of schema names; these are not options that a user chooses."""

SHARED_LAUNCHER = "shared"
"""Of a sweep whose jobs are carried on side by side in this process, before Hydra calls one after another."""


@cache
def register() -> None:
    """Put the schemas into Hydra's ConfigStore, once a process."""
    OmegaConf.register_new_resolver("runs_folder", runs_folder, replace=True)
    OmegaConf.register_new_resolver(BY_STEPS, by_steps, replace=True)
    OmegaConf.register_new_resolver(BY_DEVICE, by_device, replace=True)
    read_amounts_in_files()
    store = ConfigStore.instance()
    store.store(group="hydra/launcher", name=SHARED_LAUNCHER, node=BasicLauncherConf)
    for command in command_names():
        store.store(name=BASE + command, node=schema_of(command))
    for group, schemas in GROUPS.items():
        for name, schema in schemas.items():
            store.store(group=group, name=BASE + name, node=schema)
