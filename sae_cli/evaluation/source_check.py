"""Whether an imported dictionary is what its source says: its figures, and where they are off, what would explain it.

What goes wrong where dictionaries are brought from one tool to another is known: a threshold or a bias in other units,
a bias that is not subtracted, TopK taken for ReLU, a matrix transposed, a hook one block off. Each of these is tried on
a little text, and the one that makes the figures what they should be is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch

from sae_cli import build
from sae_cli.dictionaries.base import Dictionary
from sae_cli.dictionaries.topk import TopKDictionary
from sae_cli.evaluation.subject import ModelSubject, make_subject
from sae_cli.models import Wires
from sae_cli.runs.dictionary_run import DictionaryRun
from sae_cli.runs.formats.format import Claim
from sae_cli.tensor_types import Float, Tensor

_ROWS, _TOKENS = 8, 2048
_FACTOR = 2.0
"""L0 and average k on another text are within this factor; found between published and measured figures."""
_LEFT_OVER = 0.5
"""A feature more or less of k: tokens with fewer positive pre-activations have fewer active features."""
_APART = {"fvu": 0.1, "loss_recovered": 0.1}
"""What another text makes of these, at most."""
_BETTER = 0.5
"""The FVU of what explains it is at most this share of what was found."""


_SOMEWHAT = 0.85
"""The same, where that is what its source states; and one block away, where no dictionary is better than at its own."""
_HOOK = "hook off by one"
_ABOUT_RIGHT = 1.25
"""A factor of thresholds that needs no explanation."""


class Sampled(NamedTuple):
    """L0 and FVU on a little text."""

    l0: float
    fvu: float


def disagreement(
    source: DictionaryRun,
    dictionary: Dictionary,
    claims: Sequence[Claim],
    found: Mapping[str, float | None],
    device: str,
    model_rows: int,
) -> str | None:
    """The line that says which figure is off, what was stated and found, and the likely cause; None where none is.

    Args:
        source: its run.
        dictionary: in it.
        claims: what its source says of it.
        found: its evaluation.
        device, model_rows: of the sample.
    """
    off = next((each for each in claims if not _agrees(each, found.get(_measured(each)))), None)
    nothing_explained = (found.get("fvu") or 0.0) > 1
    sample = _Sample(source, device, model_rows)
    cause = _cause(sample, dictionary, claims, bool(off) or nothing_explained)
    if off is not None:
        value = found.get(_measured(off))
        shown = "none" if value is None else f"{value:.4g}"
        line = f"{_measured(off)}: its source states {off.value:.4g} ({off.figure} in {off.where}), found {shown}"
        return f"{line}; likely cause: {cause or 'another text, BOS token, or model'}"
    if nothing_explained:
        line = f"fvu: expected below 1, where the mean activation is, found {found.get('fvu'):.4g}"
        return f"{line}; likely cause: {cause or 'another model, hook or scale'}"
    if cause is not None:
        return f"fvu: found {found.get('fvu'):.4g}, far above what it would be otherwise; likely cause: {cause}"
    return None


def _measured(claim: Claim) -> str:
    return "l0" if claim.figure == "k" else claim.figure


def _agrees(claim: Claim, found: float | None) -> bool:
    if found is None:
        return True  # not defined on this text
    if claim.figure == "k":
        return _LEFT_OVER * claim.value <= found <= claim.value * 1.001
    if claim.figure == "l0":
        return claim.value / _FACTOR <= found <= claim.value * _FACTOR
    return abs(found - claim.value) <= _APART[claim.figure]


def _cause(sample: _Sample, dictionary: Dictionary, claims: Sequence[Claim], off: bool) -> str | None:
    """The change that makes it far better, at about the L0 that it should have."""
    as_it_is = sample.of(dictionary)
    wanted = next((each.value for each in claims if each.figure in ("k", "l0")), None)
    tried: dict[str, Sampled] = {}
    for what, changed, shift in _changes(dictionary, wanted, sample):
        figures = sample.of(changed, shift)
        if figures is not None and _is_sparse(figures.l0, wanted, as_it_is):
            tried[what] = figures
    if as_it_is is None or not tried:
        return None
    fvu = next((each.value for each in claims if each.figure == "fvu"), None)
    fits = [what for what, each in tried.items() if fvu is None or abs(each.fvu - fvu) <= _APART["fvu"]]
    cause = min(fits or tried, key=lambda what: tried[what].fvu)
    share = _BETTER if not cause.startswith(_HOOK) else _SOMEWHAT
    if tried[cause].fvu <= share * as_it_is.fvu:
        return cause
    sparser = wanted is not None and not _near(as_it_is.l0, wanted) and tried[cause].fvu < 1
    stated = fvu is not None and cause in fits and tried[cause].fvu <= _SOMEWHAT * as_it_is.fvu
    return cause if off and (sparser or stated) else None


def _near(l0: float, wanted: float) -> bool:
    return wanted / _FACTOR <= l0 <= wanted * _FACTOR


def _is_sparse(l0: float, wanted: float | None, as_it_is: Sampled | None) -> bool:
    if wanted is not None:
        return _near(l0, wanted)
    return as_it_is is not None and l0 <= _FACTOR * max(as_it_is.l0, 1)


def _changes(dictionary: Dictionary, wanted: float | None, sample: _Sample) -> Iterator[tuple[str, Dictionary, int]]:
    """What it is called, the dictionary so changed, and by how many blocks its hook is moved.

    `wanted`: features that should be active on a token, where the source says that.
    """
    scale = sample.scale(dictionary)
    for shift in (-1, 1):
        yield f"{_HOOK} (layer {shift:+d} fits)", dictionary, shift
    tensors = dictionary.tensors()
    center = torch.zeros_like(dictionary.center) if dictionary.b_pre is None else dictionary.b_dec
    what = "nothing" if dictionary.b_pre is None else "b_dec"
    yield f"bias not folded ({what} is to be subtracted from the input)", dictionary.replace(b_pre=center), 0
    if wanted is not None and dictionary.architecture == "relu" and 1 <= round(wanted) <= dictionary.n_features:
        k = torch.tensor([float(round(wanted))])
        yield f"ReLU for TopK (k={round(wanted)})", TopKDictionary({**tensors, "k": k}, dictionary.normalization), 0
    if wanted is not None and "threshold" in tensors and (factor := sample.threshold_factor(dictionary, wanted)):
        moved = dictionary.replace(threshold=tensors["threshold"] * factor)
        yield f"threshold × scale (× {factor:.3g} gives the stated L0; √d over the mean norm is {scale:.3g})", moved, 0
    for direction, factor in (("×", scale), ("÷", 1 / scale)):
        if "threshold" in tensors:
            moved = dictionary.replace(threshold=tensors["threshold"] * factor)
            yield f"threshold {direction} scale (√d over the mean norm, {scale:.3g})", moved, 0
        if dictionary.normalization is None:
            whole = dictionary.in_units_divided_by(1 / factor, 1 / factor)
            yield f"scale ({direction} {scale:.3g}: biases are in other units)", whole, 0
    if dictionary.normalization is not None:
        what = f"activations are not to be normalized ({dictionary.normalization.value})"
        yield what, dictionary.without_normalization(), 0
    if dictionary.n_features == dictionary.d_in:
        yield "transposed encoder", dictionary.replace(W_enc=dictionary.W_enc.T.contiguous()), 0
        yield "transposed decoder", dictionary.replace(W_dec=dictionary.W_dec.T.contiguous()), 0


class _Sample:
    """A little held-out text, at the hook and one block before and after it."""

    def __init__(self, source: DictionaryRun, device: str, model_rows: int) -> None:
        subject = make_subject(source, None, min(model_rows, _ROWS), build.device(device))
        assert isinstance(subject, ModelSubject)
        self._subject, self._read = subject, {}

    @torch.no_grad()
    def of(self, dictionary: Dictionary, shift: int = 0) -> Sampled | None:
        """Its figures; None where there is no such place."""
        x = self._activations(shift)
        if x is None or x.shape[1] != dictionary.d_in:
            return None
        f = dictionary.encode(x)
        error, spread = x - dictionary.decode(f, x), x - x.mean(dim=0)
        fvu = float(error.double().square().sum() / spread.double().square().sum().clamp_min(1e-30))
        return Sampled(float((f > 0).sum()) / len(x), fvu)

    @torch.no_grad()
    def threshold_factor(self, dictionary: Dictionary, l0: float) -> float | None:
        """What thresholds have to be multiplied by for so many features of a token to be active; None where nothing
        does that, or where they are about right."""
        x, threshold = self._activations(0), dictionary.tensors()["threshold"]
        if x is None or x.shape[1] != dictionary.d_in or not bool((threshold > 0).all()):
            return None
        ratios = (dictionary.replace(threshold=torch.zeros_like(threshold)).encode(x) / threshold).flatten()
        active = round(l0 * len(x))
        if not 0 < active <= int((ratios > 0).sum()):
            return None
        factor = float(ratios.kthvalue(len(ratios) - active + 1).values)
        return None if 1 / _ABOUT_RIGHT < factor < _ABOUT_RIGHT else factor

    def scale(self, dictionary: Dictionary) -> float:
        """√d over the mean norm of the activations."""
        x = self._activations(0)
        assert x is not None
        return float(dictionary.d_in**0.5 / x.norm(dim=1).mean().clamp_min(1e-12))

    def _activations(self, shift: int) -> Float[Tensor, "N D"] | None:
        if shift not in self._read:
            self._read[shift] = self._captured(shift)
        return self._read[shift]

    def _captured(self, shift: int) -> Float[Tensor, "N D"] | None:
        from sae_cli.config.split import Split

        moved = self._subject.model.moved(self._subject.site, shift) if shift else self._subject.site
        if moved is None:
            return None
        subject = ModelSubject(self._subject.model, Wires.at(moved), self._subject.data, self._subject.model_rows)
        parts, n = [], 0
        for block in subject.blocks(Split.held_out, per_document=1):
            parts.append(block.activations)
            n += len(block.activations)
            if n >= _TOKENS:
                break
        return torch.cat(parts)[:_TOKENS]
