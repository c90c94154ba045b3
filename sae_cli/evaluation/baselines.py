"""What a dictionary is held against: a basis of the same space, as a TopK dictionary at the dictionary's own L0, or at
its own description length.

Each direction has two features, one for either sign. Coefficients are of x - mean, and the largest by magnitude of
their share in the sum are kept: as many as the dictionary's L0, rounded up, which is in the baseline's favor; or as
many as take no more bits a token than the dictionary, which sees that a basis has fewer directions to choose from.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np
import torch

from sae_cli.config.evaluation import Baseline
from sae_cli.config.hook import Basis
from sae_cli.dictionaries.topk import TopKDictionary
from sae_cli.errors import RequestError
from sae_cli.evaluation.code_step import k_at_bits
from sae_cli.evaluation.subject import ModelSubject, Subject, SyntheticSubject
from sae_cli.seeds import generator
from sae_cli.tensor_types import Float, Tensor
from sae_cli.terminal import console

SAMPLE = 32_768
"""Activations that a basis is fitted to."""

_TRIED = 8_192
_ICA_SAMPLE = 16_384
_ICA_STEPS = 100


class Bases:
    """Bases as dictionaries.

    Args:
        x: activations that `pca` and `ica` are fitted to.
        mean: of the activations; what stands in where no coefficient is kept.
        l0: of the dictionary that they are held against.
        seed: of the random rotation, and of where ICA begins.
    """

    def __init__(self, x: Float[Tensor, "N D"], mean: Float[Tensor, " D"], l0: float, seed: int = 0) -> None:
        self.x, self.mean, self.l0, self.seed = x, mean, l0, seed
        self._fitted: dict[str, tuple[Float[Tensor, "D D"], Float[Tensor, "D D"]]] = {}

    def at_l0(self, name: str) -> TopKDictionary:
        """A basis with as many coefficients as the dictionary's L0, rounded up.

        Args:
            name: `neurons` (the standard basis), `random` (a random rotation of it), `pca` or `ica`.

        Raises:
            RequestError: `ica` without scikit-learn.
        """
        return self.with_k(name, math.ceil(self.l0))

    def at_bits(self, name: str, bits: float, step: float) -> TopKDictionary:
        """A basis with as many coefficients as take so many bits a token.

        Args:
            name: as of `at_l0`.
            bits: of the dictionary that it is held against.
            step: to which the coefficients can be rounded when there are as many as of `at_l0`.
        """
        at_l0, width = int(self.at_l0(name).k), self.x.shape[1]
        k = k_at_bits(lambda k: self.with_k(name, k), self.x[:_TRIED], bits, at_l0, step, width)
        return self.with_k(name, k)

    def with_k(self, name: str, k: int) -> TopKDictionary:
        """A basis with so many coefficients, or with all of them."""
        if name not in self._fitted:
            self._fitted[name] = self._fit(name)
        analysis, synthesis = self._fitted[name]
        return TopKDictionary(
            {
                "W_enc": torch.cat([analysis, -analysis]),
                "b_enc": torch.zeros(2 * len(analysis)),
                "W_dec": torch.cat([synthesis, -synthesis]),
                "b_dec": self.mean,
                "activation_mean": self.mean,
                "k": torch.tensor([float(min(len(analysis), max(1, k)))]),
            }
        )

    def _fit(self, name: str) -> tuple[Float[Tensor, "D D"], Float[Tensor, "D D"]]:
        """Rows that give coefficients, and rows of length 1 that these are of."""
        width = self.x.shape[1]
        match name:
            case "neurons":
                analysis = synthesis = torch.eye(width)
            case "random":
                numbers = torch.randn(width, width, generator=generator("random basis", self.seed))
                analysis = synthesis = torch.linalg.qr(numbers)[0].T
            case "pca":
                centered = (self.x - self.x.mean(dim=0)).double()
                analysis = synthesis = torch.linalg.eigh(centered.T @ centered)[1].T.float()
            case "ica":
                analysis, synthesis = _ica(self.x, self.seed)
            case _:
                raise ValueError(f"no baseline is called {name}")
        length = synthesis.norm(dim=1, keepdim=True)
        return analysis * length, synthesis / length


def check_baselines(subject: Subject, baselines: Sequence[Baseline]) -> None:
    """Refuse what cannot be measured beside a dictionary, before anything is; a `RequestError`."""
    of_tokens = [each.value for each in baselines if each.tokens]
    if of_tokens and isinstance(subject, SyntheticSubject):
        raise RequestError(
            f"baselines={of_tokens[0]}: {subject.called} has no tokens that means could be taken over; "
            "expected some of neurons, random, pca, ica"
        )
    bases = {each.basis for each in baselines}
    if Baseline.ica.basis in bases:
        check_ica()
    if (
        Baseline.neurons.basis in bases
        and isinstance(subject, ModelSubject)
        and subject.site.hook.basis is not Basis.neurons
    ):
        raise RequestError(
            f"baselines=neurons: expected hook=mlp_act, whose dimensions are neurons, found "
            f"{subject.site.hook.value}; leave neurons out, or use random"
        )


def check_ica() -> None:
    """A `RequestError` unless scikit-learn, an extra, is installed."""
    if find_spec("sklearn") is None:
        raise RequestError("baselines=ica: scikit-learn is not installed: pip install 'sae-cli[ica]'")


def _ica(x: Float[Tensor, "N D"], seed: int) -> tuple[Float[Tensor, "D D"], Float[Tensor, "D D"]]:
    """Rows that give coefficients, and rows that these are of."""
    check_ica()
    from sklearn.decomposition import FastICA
    from sklearn.exceptions import ConvergenceWarning

    ica = FastICA(whiten="unit-variance", max_iter=_ICA_STEPS, tol=1e-3, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        ica.fit(x[:_ICA_SAMPLE].numpy())
    if ica.n_iter_ >= _ICA_STEPS:
        console.log(f"baseline ica: not converged after {_ICA_STEPS} steps on {min(len(x), _ICA_SAMPLE):,} activations")
    unmixing, mixing = (torch.from_numpy(np.asarray(each)).float() for each in (ica.components_, ica.mixing_))
    return unmixing, mixing.T
