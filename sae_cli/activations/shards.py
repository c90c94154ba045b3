"""The shards of a harvest as their headers describe them, looked at before one is read."""

from __future__ import annotations

from sae_cli.artifacts.files import damaged
from sae_cli.artifacts.manifest import MANIFEST
from sae_cli.artifacts.stored_run import FinishedRun
from sae_cli.errors import JobError

_LAYOUT = {"activations": "F32|BF16|F16 N D", "tokens": "I64 N", "position": "I64 N", "document": "I64 N"}


def check_shards(run: FinishedRun, names: list[str]) -> None:
    """Compare the shards' tensors with what a harvest writes, and their number with what its manifest says.

    Args:
        run: a harvest.
        names: of its shards of activations.

    Raises:
        JobError: they are no activations, of several widths, or not as many as the manifest says.
    """
    if not names:
        raise JobError(f"{run.directory}: expected shards of activations, found none; make the run again")
    width, held = 0, 0
    for name in names:
        sizes = run.expect(name, _LAYOUT)
        if width not in (0, sizes["D"]):
            raise damaged(run.directory / name, f"activations of width {width}", f"{sizes['D']}")
        width, held = sizes["D"], held + sizes["N"]
    if (recorded := run.fact("tokens", int)) != held:
        raise damaged(run.directory / MANIFEST, f"tokens of the {held:,} activations in the shards", f"{recorded:,}")
