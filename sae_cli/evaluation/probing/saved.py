"""A probe that is kept, to classify other text with: for every concept its best feature and its sparse probes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from sae_cli.artifacts.files import damaged
from sae_cli.artifacts.stored_run import FinishedRun
from sae_cli.documents import Document, is_array, is_document
from sae_cli.evaluation.probing.concepts import FEATURES, Concept
from sae_cli.runs.file_names import SAVED_PROBE
from sae_cli.tensor_types import Tensor

_CONCEPTS, _KS = "concepts", "k"


class SavedProbe(NamedTuple):
    """A linear classifier of k features: log-odds = Σ wᵢ f(featureᵢ) + bias; taken for the concept above 0.

    Attributes:
        concept: what it tells.
        features: their numbers [k].
        weights: of their activations as they are [k], float64.
        bias: what is added.
    """

    concept: str
    features: np.ndarray
    weights: np.ndarray
    bias: float


def saved_tensors(concepts: Sequence[Concept]) -> tuple[dict[str, Tensor], Document]:
    """Tensors, and what is said of them in the header: of each concept with matched negatives, or else with easy ones,
    `features` int64 [C, k], and for the j-th number of features `weights.j` float64 [C, kⱼ] and `bias.j` [C]."""
    matched = {each.report["concept"] for each in concepts if each.report["kind"] == "matched"}
    kept = [c for c in concepts if c.report["kind"] == "matched" or c.report["concept"] not in matched]
    found = {"features": torch.from_numpy(np.stack([each.selected for each in kept]).astype(np.int64))}
    ks = [probe["k"] for probe in kept[0].report["bases"][FEATURES]["sparse"]]
    for number in range(len(ks)):
        raw = [each.probes[number].in_units for each in kept]
        found[f"weights.{number}"] = torch.from_numpy(np.stack([weights for weights, _ in raw]))
        found[f"bias.{number}"] = torch.tensor([bias for _, bias in raw], dtype=torch.float64)
    return found, {_CONCEPTS: [each.report["concept"] for each in kept], _KS: ks}


def read_saved(run: FinishedRun) -> tuple[list[str], list[int], dict[str, Tensor]]:
    """The concepts, the numbers of features, and the tensors of a probe.

    Raises:
        JobError: they are damaged.
    """
    about = run.read_metadata(SAVED_PROBE)
    concepts, ks = about.get(_CONCEPTS), about.get(_KS)
    path = run.directory / SAVED_PROBE
    if not (is_document(dict(about)) and is_array(concepts) and is_array(ks) and concepts and ks):
        raise damaged(path, "concepts and numbers of features", "none")
    names, sizes = [str(each) for each in concepts], [each for each in ks if isinstance(each, int)]
    layout = {"features": "I64 C K"}
    layout |= {f"weights.{number}": f"F64 C K{number}" for number in range(len(ks))}
    layout |= {f"bias.{number}": "F64 C" for number in range(len(ks))}
    found = run.expect(SAVED_PROBE, layout)
    if found["C"] != len(names) or [found[f"K{number}"] for number in range(len(ks))] != sizes:
        raise damaged(path, f"{len(names)} concepts, {sizes} features", str(found))
    return names, sizes, run.read_tensors(SAVED_PROBE)


def probes_of(names: Sequence[str], ks: Sequence[int], tensors: dict[str, Tensor], k: int) -> list[SavedProbe]:
    """The probe on k features of each concept; k is one of those that there are."""
    number = list(ks).index(k)
    features, weights, bias = (tensors[name].numpy() for name in ("features", f"weights.{number}", f"bias.{number}"))
    return [SavedProbe(name, features[i, :k], weights[i], float(bias[i])) for i, name in enumerate(names)]
