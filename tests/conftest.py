"""Shapes in annotations are checked in the tests, and only there."""

from jaxtyping import install_import_hook

# An int is accepted where a float is asked for, as type checkers do.
install_import_hook("sae_cli", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")
