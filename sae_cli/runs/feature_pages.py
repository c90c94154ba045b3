"""Finished feature pages as they are on the disk."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from sae_cli.artifacts.files import damaged
from sae_cli.artifacts.stored_run import FinishedRun
from sae_cli.errors import RequestError
from sae_cli.metrics.report import PagesReport
from sae_cli.runs.file_names import CONTEXTS_FILE, HISTOGRAMS_FILE, SHEETS_FILE, SHEETS_JSON

_CONTEXTS = {
    "feature": "I64 C",
    "tokens": "I32 C S W",
    "activations": "F32 C S W",
    "document": "I64 C S",
    "position": "I64 C S",
    "peak": "F32 C S",
    "quantile": "I64 C S",
}
_NEAREST = {"feature": "I64 C", "nearest": "I64 C K", "nearest_cosine": "F32 C K"}
LOGITS = {
    "top_token": "I64 C T",
    "top_weight": "F32 C T",
    "bottom_token": "I64 C T",
    "bottom_weight": "F32 C T",
}
"""What pages have where there is a map to logits."""
ACTIVATION_BARS = {"activation_count": "I64 C B", "activation_step": "F32 C", "band_edge": "F32 C E"}
"""What histograms have where there are bands."""
_LOGIT_BARS = {"logit_count": "I64 C L", "logit_least": "F32 C", "logit_most": "F32 C"}
"""What they have where there is a map to logits."""


@dataclass(frozen=True)
class StoredPages:
    """Finished pages: the files are read, and their shapes checked, when they are asked for.

    Attributes:
        run: where they are.

    Raises:
        JobError: from each attribute: a file is damaged, or holds something else.
    """

    run: FinishedRun

    @cached_property
    def about(self) -> PagesReport:
        """The content of `sheets.json`."""
        return self.run.read_json(SHEETS_JSON)

    @cached_property
    def contexts(self) -> dict[str, Tensor]:
        """The content of `contexts.safetensors`."""
        self.run.expect(CONTEXTS_FILE, _CONTEXTS)
        return self.run.read_tensors(CONTEXTS_FILE)

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """The content of `sheets.safetensors`."""
        held = self.run.read_header(SHEETS_FILE).tensors
        layout = _NEAREST | (LOGITS if LOGITS.keys() & held.keys() else {})
        if (found := self.run.expect(SHEETS_FILE, layout, others=True)["C"]) != len(self.contexts["feature"]):
            raise damaged(self.run.directory / SHEETS_FILE, f"{len(self.contexts['feature'])} features", str(found))
        return self.run.read_tensors(SHEETS_FILE)

    @cached_property
    def histograms(self) -> dict[str, Tensor]:
        """The content of `histograms.safetensors`; nothing of pages that earlier versions have made."""
        if HISTOGRAMS_FILE not in self.run.manifest.files:
            return {}
        held = self.run.read_header(HISTOGRAMS_FILE).tensors
        layout = {"feature": "I64 C"}
        for each in (_LOGIT_BARS, ACTIVATION_BARS):
            layout |= each if each.keys() & held.keys() else {}
        found = self.run.expect(HISTOGRAMS_FILE, layout)
        if found["C"] != len(self.contexts["feature"]):
            path = self.run.directory / HISTOGRAMS_FILE
            raise damaged(path, f"{len(self.contexts['feature'])} features", str(found["C"]))
        return self.run.read_tensors(HISTOGRAMS_FILE)

    def row(self, feature: int) -> int:
        """The place of a feature in the tensors.

        Raises:
            RequestError: there is no page of it.
        """
        found = (self.contexts["feature"] == feature).nonzero()
        if not len(found):
            there = self.contexts["feature"]
            some = f"{len(there):,} features from {int(there.min())} to {int(there.max())}" if len(there) else "none"
            raise RequestError(f"--show {feature}: expected one of the features with a page, {some}; see only=")
        return int(found[0])

    def token(self, number: int) -> str:
        return self.about["vocabulary"][str(number)]

    def document(self, number: int) -> str:
        return self.about["documents"].get(str(number), f"document {number}")
