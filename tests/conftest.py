"""Shapes in annotations are checked in the tests, and only there."""

from pathlib import Path

from jaxtyping import install_import_hook

PACKAGE = Path(__file__).parents[1] / "sae_cli"
COMPILED = {"sae_cli.kernels.loops", "sae_cli.kernels.triton_loops"}  # from the functions as they are written

modules = {".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts) for file in PACKAGE.rglob("[!_]*.py")}
# An int is accepted where a float is asked for, as type checkers do.
install_import_hook(sorted(modules - COMPILED), "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")
