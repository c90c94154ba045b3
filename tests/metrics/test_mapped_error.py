"""The error seen through a linear map, against the map itself."""

import numpy as np
import pytest
import torch

from sae_cli.metrics.mapped_error import MappedErrorSums, Replaced

N, D, V = 60, 5, 9


def test_against_numpy_with_and_without_a_map():
    rng = np.random.default_rng(0)
    x, error, M = rng.normal(size=(N, D)) + 2, rng.normal(size=(N, D)), rng.normal(size=(V, D))
    for matrix in (None, M):
        sums = MappedErrorSums(None if matrix is None else torch.from_numpy(matrix.T @ matrix))
        for part in np.split(np.arange(N), [7, 30]):
            sums.add(Replaced(torch.from_numpy(x[part]), torch.from_numpy(x[part] + error[part])))
        mapped_x, mapped_error = (x, error) if matrix is None else (x @ matrix.T, error @ matrix.T)
        expected = (mapped_error**2).sum() / ((mapped_x - mapped_x.mean(axis=0)) ** 2).sum()
        assert sums.results().fvu == pytest.approx(expected, rel=1e-9)


def test_nothing_that_varies_has_no_fvu():
    sums = MappedErrorSums()
    sums.add(Replaced(torch.zeros(3, D), torch.ones(3, D)))
    assert sums.results().fvu is None
