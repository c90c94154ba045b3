"""What a dictionary is held against: a basis of the same space, as a TopK dictionary at the dictionary's own L0.

Each direction has two features, one for either sign. Coefficients are of x - mean, and the largest by magnitude of
their share in the sum are kept: as many as the dictionary's L0, rounded up, which is in the baseline's favor.
"""

from __future__ import annotations

import math
import warnings
from importlib.util import find_spec

import numpy as np
import torch

from sae_cli.dictionaries.topk import TopKDictionary
from sae_cli.errors import RequestError
from sae_cli.seeds import generator
from sae_cli.tensor_types import Float, Tensor
from sae_cli.terminal import console

SAMPLE = 32_768
"""Activations that a basis is fitted to."""

_ICA_SAMPLE = 16_384
_ICA_STEPS = 100


def fit_baseline(
    name: str, x: Float[Tensor, "N D"], mean: Float[Tensor, " D"], l0: float, seed: int = 0
) -> TopKDictionary:
    """A basis as a dictionary.

    Args:
        name: `neurons` (the standard basis), `random` (a random rotation of it), `pca` or `ica`.
        x: activations that `pca` and `ica` are fitted to.
        mean: of the activations; what stands in where no coefficient is kept.
        l0: of the dictionary it is held against.
        seed: of the random rotation, and of where ICA begins.

    Raises:
        RequestError: `ica` without scikit-learn.
    """
    width = x.shape[1]
    match name:
        case "neurons":
            analysis = synthesis = torch.eye(width)
        case "random":
            numbers = torch.randn(width, width, generator=generator("random basis", seed))
            analysis = synthesis = torch.linalg.qr(numbers)[0].T
        case "pca":
            centered = (x - x.mean(dim=0)).double()
            analysis = synthesis = torch.linalg.eigh(centered.T @ centered)[1].T.float()
        case "ica":
            analysis, synthesis = _ica(x, seed)
        case _:
            raise ValueError(f"no baseline is called {name}")
    length = synthesis.norm(dim=1, keepdim=True)
    analysis, synthesis = analysis * length, synthesis / length
    return TopKDictionary(
        {
            "W_enc": torch.cat([analysis, -analysis]),
            "b_enc": torch.zeros(2 * len(analysis)),
            "W_dec": torch.cat([synthesis, -synthesis]),
            "b_dec": mean,
            "activation_mean": mean,
            "k": torch.tensor([float(min(len(analysis), math.ceil(l0)))]),
        }
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
