"""By which definitions the figures of a stored report are, and which of them may not exist."""

from __future__ import annotations

from sae_cli.documents import Facts, is_document
from sae_cli.metrics import VERSION
from sae_cli.runs.file_names import BENCH_FILE, COMPARE_FILE, CONTRAST_FILE, EVAL_FILE, PROBE_FILE, SHEETS_JSON

VERSIONED = {
    "eval": EVAL_FILE,
    "compare": COMPARE_FILE,
    "contrast": CONTRAST_FILE,
    "features": SHEETS_JSON,
    "bench": BENCH_FILE,
    "probe": PROBE_FILE,
}
"""The report of a command that says by which version of the definitions its figures are, as `VERSION_KEY`."""
VERSION_KEY = "metrics_version"

_ALWAYS_VERSIONED = "eval"


UNDEFINED = "does not exist"
"""Said of a loss recovered that has no meaning, because the ablation does not clearly raise the loss."""


def other_version(report: object, command: str) -> str:
    """By which definitions the figures of a report are, where these are not those of this version; else nothing."""
    version = report.get(VERSION_KEY) if is_document(report) else None
    if version == VERSION:
        return ""
    if isinstance(version, int):
        return f"version {version} of the definitions, not {VERSION}"
    # Reports of other commands had none at first; an evaluation without one is a stranger's, who may say what it is by.
    return "" if command == _ALWAYS_VERSIONED else f"a version of the definitions before {VERSION}"


def is_undefined(figures: Facts, key: str) -> bool:
    """Whether this is a loss recovered, of any kind, that was measured and does not exist."""
    return key.startswith("loss_recovered") and not key.endswith("_se") and key in figures and figures[key] is None
