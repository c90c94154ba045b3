"""Names for runs where there is little room."""

import pytest

from sae_cli.runs.run_names import short_names


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["r/m.3/relu-F64-l1_0.3-seed0", "r/m.3/relu-F64-l1_1-seed0"], ["l1_0.3", "l1_1"]),
        (["r/m.3/relu", "r/m.2/relu"], ["m.3", "m.2"]),
        (["r/x", "r/x-12ab"], ["x", "x-12ab"]),
        (["r/only"], ["only"]),
        (["same", "same"], ["same", "same"]),
    ],
)
def test_short_names(paths, names):
    assert short_names(paths) == names
