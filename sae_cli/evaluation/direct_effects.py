"""What a replacement does on the direct path to the logits, and what the reconstruction error is from there: of targets
whose direct path is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from sae_cli.config.hook import HookPoint
from sae_cli.dictionaries.base import Dictionary
from sae_cli.evaluation.subject import ModelSubject
from sae_cli.metrics.logit_weights import logit_weights
from sae_cli.metrics.mapped_error import MappedErrorSums, Replaced
from sae_cli.metrics.mean import Mean
from sae_cli.models import DirectPath, HiddenOutputs, LanguageModel, MappedTarget, Outputs
from sae_cli.models.targets import Seen
from sae_cli.tensor_types import Activations, Bool, SiteActivations, Tensor


class DirectEffects:
    """Of one target.

    Attributes:
        resid_error, logit_error: the reconstruction error mapped to the residual update and to centered logits.
        inverse_scale: of the final norm, the mean of 1/σ.
    """

    def __init__(self, model: LanguageModel, target: MappedTarget) -> None:
        self._target, self._path = target, DirectPath(model)
        self.resid_error, self.logit_error = MappedErrorSums(), MappedErrorSums()
        self.inverse_scale = Mean()

    def outputs(
        self,
        seen: Seen,
        clean: Outputs,
        y: Activations,
        stand_ins: Mapping[str, SiteActivations],
        counted: Bool[Tensor, "B T"],
    ) -> Iterator[tuple[str, Outputs]]:
        """The end of the model with each of the stand-ins, as `<name>_direct`; of the logits themselves, which have no
        other path, under both names.

        Args:
            seen: by the clean run.
            clean: its end.
            y: what stands there in it.
            stand_ins: what is to stand there instead.
            counted: positions that are changed.
        """
        assert isinstance(clean, HiddenOutputs), "a target with a direct path is of a model whose end is known"
        there = self._target.normalized(y, seen)
        instead = {
            name: torch.where(counted[..., None], self._target.normalized(values, seen), there)
            for name, values in stand_ins.items()
        }
        for name, outputs in self._path.outputs(clean, there, instead).items():
            if self._target.site.hook is HookPoint.logits:
                yield name, outputs
            yield f"{name}_direct", outputs

    def add_errors(self, seen: Seen, y: Activations, reconstructed: Activations, counted: Bool[Tensor, "B T"]) -> None:
        """Add the reconstruction error at the counted positions, seen from other spaces."""
        target, end = self._target, self._target.end
        there, instead = (target.resid(values, seen) for values in (y, reconstructed))
        if there is not None and instead is not None:
            self.resid_error.add(Replaced(there[counted], instead[counted]))
        there, instead = (
            end.logit_space.coordinates(target.normalized(values, seen)[counted].double())
            for values in (y, reconstructed)
        )
        self.logit_error.add(Replaced(there, instead))
        scale = end.final_norm.scale(seen[end.final_resid])
        self.inverse_scale.add(scale[counted].double().reciprocal().flatten())

    def results(self) -> dict[str, float | None]:
        """The errors as seen from there, and the scale of the final norm."""
        return {
            "fvu_resid": self.resid_error.results().fvu,
            "fvu_logit": self.logit_error.results().fvu,
            "final_norm_inverse_scale": float(self.inverse_scale.results()),
        }


def weights_on_logits(
    subject: ModelSubject, dictionary: Dictionary, inverse_scale: float
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The shapes of the features' logit weights [F], and all that is kept of them; nothing where the way from what is
    written to the logits is not known."""
    rows = subject.rows_at_logits(dictionary.W_dec, inverse_scale)
    if rows is None:
        return {}, {}
    weights = logit_weights(rows, subject.model.end.logit_space.W)
    shape = {"logit_kurtosis_median": weights.kurtosis.cpu(), "logit_skew_median": weights.skew.cpu()}
    return shape, weights.tensors()
