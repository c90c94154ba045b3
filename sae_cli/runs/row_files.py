"""`rows.safetensors`: the sums of every row of text that was evaluated, so that evaluations can be paired later."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sae_cli.artifacts.files import damaged
from sae_cli.artifacts.run_directory import Run
from sae_cli.artifacts.stored_run import FinishedRun
from sae_cli.documents import is_array, is_document
from sae_cli.errors import JobError
from sae_cli.metrics.row_sums import RowPlaces, RowSums, SumsOfRows
from sae_cli.runs.file_names import ROWS_FILE

_COLUMNS = "columns"
_PARTS = ("sums", "document", "number")


def write_rows(run: Run, rows: Mapping[str, RowSums]) -> None:
    """Write sums by name: `<name>.sums` float64 [R, C], `<name>.document` and `<name>.number` int64 [R]; what the
    columns are is in the header."""
    tensors: dict[str, Tensor] = {}
    for name, each in rows.items():
        parts = (each.per_row, each.places.document, each.places.number)
        tensors |= {f"{name}.{part}": tensor for part, tensor in zip(_PARTS, parts, strict=True)}
    run.write_tensors(ROWS_FILE, tensors, {_COLUMNS: {name: list(each.columns) for name, each in rows.items()}})


def read_rows(run: FinishedRun, name: str = "dictionary") -> RowSums:
    """The sums of this name.

    Raises:
        JobError: the evaluation has none, or they are damaged.
    """
    path = run.directory / ROWS_FILE
    if ROWS_FILE not in run.manifest.files:
        raise JobError(
            f"{run.directory}: has no {ROWS_FILE}: an earlier version made it; evaluate again (overwrite=true)"
        )
    columns = run.read_metadata(ROWS_FILE).get(_COLUMNS)
    known = columns if is_document(columns) else {}
    given = known.get(name)
    of_name = [each for each in given if isinstance(each, str)] if is_array(given) else []
    if not of_name:
        raise damaged(path, f"the columns of {name}", ", ".join(known) or "none")
    run.expect(
        ROWS_FILE, {f"{name}.sums": "F64 R C", f"{name}.document": "I64 R", f"{name}.number": "I64 R"}, others=True
    )
    tensors = run.read_tensors(ROWS_FILE)
    values, document, number = (tensors[f"{name}.{part}"] for part in _PARTS)
    if values.shape[1] != len(of_name):
        raise damaged(path, f"{len(of_name)} columns of {name}", f"{values.shape[1]}")
    sums = RowSums(of_name)
    sums.add(SumsOfRows(values, RowPlaces(document, number)))
    return sums
