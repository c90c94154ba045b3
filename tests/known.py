"""What a test knows about a value beyond its type."""

from __future__ import annotations

from typing import Any, TypeVar

from sae_cli.config.evaluation import EvaluationConfig, Sample
from sae_cli.jobs.result import Listing, StageResult

T = TypeVar("T")


def the(kind: type[T], value: object) -> T:
    """The value, which is of this class."""
    assert isinstance(value, kind), f"expected {kind.__name__}, found {type(value).__name__}"
    return value


def present(value: T | None) -> T:
    """The value, which is not None."""
    assert value is not None
    return value


def document_of(result: StageResult | Listing) -> dict[str, Any]:
    """What the command prints with `--json`."""
    return result.document


def first_rows(tokens: int, **settings: Any) -> EvaluationConfig:
    """Held-out text from its start, as tests read it by hand."""
    return EvaluationConfig(tokens=tokens, sample=Sample.first, **settings)
