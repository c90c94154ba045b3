"""A control without text: Gaussian vectors in place of token embeddings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sae_cli.seeds import generator
from sae_cli.tensor_types import Activations, Rows


class GaussianEmbeddings:
    """Fresh vectors at every position, with the mean and the standard deviation of each dimension of the embeddings.

    The vectors of a row are a function of `seed` and of all its tokens, so that every pass over it sees the same ones.

    Args:
        embedding: from token ids to vectors.
        vocab_size: how many ids there are.
        seed: of the vectors.
    """

    def __init__(self, embedding: nn.Module, vocab_size: int, seed: int) -> None:
        self._embedding, self._seed = embedding, seed
        device = next(embedding.parameters()).device
        with torch.no_grad():
            vectors = embedding(torch.arange(vocab_size, device=device)).float()
        self._mean, self._std = vectors.mean(dim=0), vectors.std(dim=0)

    @contextmanager
    def replacing(self, rows: Rows) -> Iterator[None]:
        """Within it, a forward pass over these rows is given Gaussian vectors."""

        def replace(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            return self.vectors(rows).to(output)

        handle = self._embedding.register_forward_hook(replace)
        try:
            yield
        finally:
            handle.remove()

    def vectors(self, rows: Rows) -> Activations:
        """What stands in for the embeddings of these rows."""
        shape = rows.shape[1], len(self._mean)
        of_rows = (generator("Gaussian embeddings", self._seed, row.tolist()) for row in rows)
        noise = torch.stack([torch.randn(shape, generator=each) for each in of_rows])
        return self._mean + self._std * noise.to(self._mean.device)
