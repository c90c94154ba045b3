"""What every feature of a dictionary does on a text, in the files that delphi makes and reads: its cache of latents.

    <name>/latents/<hook point>/<first>_<last>.safetensors   features first to last
    <name>/latents/<hook point>/config.json

`locations` [N, 3]: of each activation its row of text, the position in the row, and the feature, counted from the first
of the file; `activations` [N]; `tokens` [R, T]: the rows of text, the same in every file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from sae_cli.activations.ahead import prefetched
from sae_cli.activations.blocks import FIRST_POSITION
from sae_cli.artifacts.run_directory import Run
from sae_cli.artifacts.spill import Spilled, spill_folder
from sae_cli.build import row_stream
from sae_cli.config.evaluation import FeaturePassConfig
from sae_cli.dictionaries.base import Dictionary
from sae_cli.evaluation.encode import coded_rows, first_rows
from sae_cli.evaluation.subject import ModelSubject
from sae_cli.kernels.codes import Codes
from sae_cli.terminal.progress import progress

FEATURES_AT_ONCE = 2**23
"""Largest feature matrix [n, F] made at once, in elements."""

LEAST = 1e-5
"""Activations up to this are left out, as delphi leaves them out."""

FOLDER, CONFIG = "latents", "config.json"

_NARROW = 2**16
"""Locations below this fit into 16 bits."""

_LARGEST_HALF = float(np.finfo(np.float16).max)


class Latents(NamedTuple):
    """What has been written.

    Attributes:
        rows: of text.
        tokens: in them, at counted positions.
        activations: of all features.
    """

    rows: int
    tokens: int
    activations: int


class _Split:
    """The features from `start` to `end`, the last included, with their activations so far."""

    def __init__(self, folder: Path, start: int, end: int, locations: type[np.generic]) -> None:
        self.start, self.end = start, end
        self.locations = Spilled(folder / f"{start}.locations", locations, (3,))
        self.activations = Spilled(folder / f"{start}.activations", np.float32)
        self._largest = 0.0

    def add(self, rows: np.ndarray, positions: np.ndarray, features: np.ndarray, values: np.ndarray) -> None:
        """Add activations, of which those of other features are left out."""
        own = (features >= self.start) & (features <= self.end)
        self.locations.add(np.stack([rows[own], positions[own], features[own] - self.start], axis=1))
        self.activations.add(values[own])
        self._largest = max(self._largest, float(values[own].max(initial=0.0)))

    def write(self, run: Run, folder: str, tokens: Spilled) -> None:
        """Make its file."""
        if self._largest <= _LARGEST_HALF:
            self.activations.dtype = np.dtype(np.float16)
        tensors = {"tokens": tokens, "locations": self.locations, "activations": self.activations}
        run.write_spilled(f"{folder}/{self.start}_{self.end}.safetensors", tensors)
        for each in (self.locations, self.activations):
            each.forget()


@dataclass(frozen=True)
class CachePass:
    """A pass over the text of one split that keeps what every feature does, on the disk.

    Held at once are `FEATURES_AT_ONCE` activations of four bytes and the entries of so many rows of text as make that
    number, at least one; on the disk, until they are written, 10 bytes for each activation, 16 with more than 2¹⁶ rows
    or features in a file.

    Attributes:
        subject: model, site and text.
        config: how much of it is read.
        splits: files.
    """

    subject: ModelSubject
    config: FeaturePassConfig
    splits: int

    @torch.no_grad()
    def write(self, run: Run, dictionary: Dictionary, folder: str) -> Latents:
        """Write the files into a folder of a run.

        Raises:
            JobError: there is not a row of text, the model's activations are not finite, or a file cannot be written.
        """
        stream = row_stream(self.subject.data, self.subject.model, self.config.split)
        counted = stream.policy.context - FIRST_POSITION
        wanted = -(-self.config.tokens // counted)
        bounds = boundaries(dictionary.n_features, self.splits)
        widest = max(after - before for before, after in bounds)
        narrow = max(wanted, widest, stream.policy.context) <= _NARROW
        text = self.subject.text_blocks(self.config.split, self.config.rows_per_document)
        with spill_folder(run.directory) as spilled:
            tokens = Spilled(spilled / "tokens", np.int64, (stream.policy.context,))
            splits = [_Split(spilled, *each, np.uint16 if narrow else np.uint32) for each in bounds]
            with progress(wanted * counted, "latents") as advance:
                for rows, block in prefetched(first_rows(text, wanted)):
                    for part, codes in coded_rows(dictionary, rows, block, self.subject.columns, FEATURES_AT_ONCE):
                        _add(splits, codes, first_row=tokens.n, counted=counted)
                        tokens.add(part.tokens)
                    advance(block.n)
            if not tokens.n:
                raise stream.too_little()
            for each in splits:
                each.write(run, folder, tokens)
        return Latents(tokens.n, tokens.n * counted, sum(each.activations.n for each in splits))


def boundaries(n_features: int, splits: int) -> list[tuple[int, int]]:
    """The first and the last feature of each file."""
    edges: list[int] = torch.linspace(0, n_features, steps=splits + 1).long().tolist()
    return [(start, end - 1) for start, end in pairwise(edges)]


def _add(splits: Sequence[_Split], codes: Codes, first_row: int, counted: int) -> None:
    """Add the entries of some rows of text, of which the first has this number."""
    values, features = codes.values.numpy(), codes.columns.numpy()
    kept = values > LEAST
    places = codes.rows.numpy()[kept]
    rows, positions = first_row + places // counted, FIRST_POSITION + places % counted
    for each in splits:
        each.add(rows, positions, features[kept], values[kept])
