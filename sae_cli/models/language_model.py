"""A causal language model whose activations can be captured and replaced at any hook point."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import cached_property, partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sae_cli.config.hook import Basis, HookPoint
from sae_cli.errors import RequestError
from sae_cli.models.gaussian_embeddings import GaussianEmbeddings
from sae_cli.models.hooks import Site, Visitor, visiting
from sae_cli.models.parts import find_parts
from sae_cli.models.prefix import Prefix
from sae_cli.models.targets import ModelEnd, Target, make_target
from sae_cli.tensor_types import Logits, Rows, SiteActivations

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class LanguageModel:
    """A supported causal language model, frozen and in evaluation mode.

    Forward passes have no attention mask: rows are packed and hold no padding.

    Args:
        hf: the transformers model; put into evaluation mode and frozen.
        load_tokenizer: makes the tokenizer when it is first asked for.

    Attributes:
        parts: the model's modules and weights under names that do not depend on its architecture.
        end: what comes after the last block.
        n_layers: number of decoder blocks.
        d_model: width of the residual stream.
        d_mlp: width of the MLP's hidden layer; None where there are several, of experts.
        vocab_size: number of logits.
        max_context: longest row that the model takes.
    """

    def __init__(self, hf: PreTrainedModel, load_tokenizer: Callable[[], PreTrainedTokenizerBase]) -> None:
        self.parts = find_parts(hf)
        self.hf = hf.eval().requires_grad_(False)
        self._load_tokenizer = load_tokenizer
        self._prefixes: dict[Site, Prefix] = {}
        self._targets: dict[Site, Target] = {}
        self._gaussian: GaussianEmbeddings | None = None
        self.end = ModelEnd(self.parts)
        self.n_layers = len(self.parts.blocks)
        self.d_model = self.parts.d_model
        self.d_mlp = self.parts.d_mlp
        self.vocab_size = self.parts.vocab_size
        self.max_context: int = hf.config.get_text_config().max_position_embeddings

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer; a `RequestError` where the model came without one."""
        return self._load_tokenizer()

    def replace_embeddings(self, seed: int) -> None:
        """From now on the model is given Gaussian vectors, see `GaussianEmbeddings`."""
        self._gaussian = GaussianEmbeddings(self.parts.embeddings[0], self.vocab_size, seed)

    @property
    def device(self) -> torch.device:
        return self.hf.device

    @property
    def dtype(self) -> torch.dtype:
        return self.hf.dtype

    def width(self, site: Site) -> int:
        """Size of the activations at the site."""
        self.check_site(site)
        if site.hook.basis is not Basis.neurons:
            return self.d_model
        assert self.d_mlp is not None, "the model has the site"
        return self.d_mlp

    def check_site(self, site: Site) -> None:
        """A `RequestError` unless the model has the site."""
        first = -1 if site.hook is HookPoint.resid else 0
        if not first <= site.layer < self.n_layers:
            raise RequestError(
                f"hook={site.hook.name} layer={site.layer}: expected a layer from {first} to {self.n_layers - 1} "
                f"(this {self.hf.config.model_type} has {self.n_layers} blocks), found {site.layer}; the hook points "
                f"are {', '.join(hook.name for hook in HookPoint)}, and layer=-1, the input of block 0, goes with "
                "hook=resid only"
            )
        if site.hook.basis is Basis.neurons and self.d_mlp is None:
            raise RequestError(
                f"hook={site.hook.name}: this {self.hf.config.model_type} is a mixture of experts, each with neurons "
                "of its own; choose hook=mlp_out, what they add to the residual stream, or another"
            )

    def target(self, site: Site) -> Target:
        """What a dictionary of the site reads and writes; a `RequestError` unless the model has the site."""
        self.check_site(site)
        if site not in self._targets:
            self._targets[site] = make_target(self.end, site)
        return self._targets[site]

    def capture(self, rows: Rows, sites: Sequence[Site]) -> dict[Site, SiteActivations]:
        """The activations at each site, (B, T, width), in the model's dtype (logit hooks: float32), on its device.

        Nothing after the deepest place that they are computed from is run.

        Raises:
            RequestError: a site that the model does not have, or rows that it does not take.
        """
        targets = {site: self.target(site) for site in sites}
        taps = {tap for target in targets.values() for tap in target.taps}
        captured: dict[Site, Tensor] = {}
        if taps:
            with suppress(_Captured):
                self._forward(rows, {tap: partial(_keep, captured, tap, len(taps)) for tap in taps})
        return {site: target.read(captured) for site, target in targets.items()}

    def logits(self, rows: Rows, replacements: Mapping[Site, Visitor] | None = None) -> Logits:
        """The model's logits (soft-capped where the model does that), with activations replaced on the way.

        Args:
            rows: token ids.
            replacements: for each site that is tapped (no logit hook) a function from the activations there,
                (B, T, width), to what takes their place, of the same shape and dtype. Several are applied in forward
                order: a later one is given activations that come from the earlier ones.

        Raises:
            RequestError: a site that the model does not have, or rows that it does not take.
        """
        return self._forward(rows, replacements or {})

    def branches(
        self, rows: Rows, site: Site, watched: Mapping[Site, Visitor] | None = None
    ) -> tuple[Logits, Callable[[Visitor], Logits]]:
        """The model's logits, and a function from a replacement at one site to the logits that it leads to.

        What comes before the site is computed once.

        Args:
            rows: token ids.
            site: where activations are to be replaced; one that is tapped.
            watched: visitors of the first pass.

        Raises:
            RequestError: a site that the model does not have, or rows that it does not take.
        """
        self.check_site(site)
        if site not in self._prefixes:
            self._prefixes[site] = Prefix(self.hf, self.parts, site)
        prefix = self._prefixes[site]
        with prefix.kept():
            clean = self._forward(rows, watched or {})

        def replaced(visitor: Visitor) -> Logits:
            with prefix.put_in():
                return self._forward(rows, {site: visitor})

        return clean, replaced

    def _forward(self, rows: Rows, visitors: Mapping[Site, Visitor]) -> Logits:
        for site in visitors:
            self.check_site(site)
        self._check_rows(rows)
        # No inference mode: captured activations are trained on, which autograd refuses for inference tensors.
        embedding = self._gaussian.replacing(rows) if self._gaussian else nullcontext()
        with torch.no_grad(), embedding, visiting(self.parts, visitors, n_rows=len(rows)):
            return self.hf(input_ids=rows.to(self.device), use_cache=False, return_dict=True).logits

    def _check_rows(self, rows: Rows) -> None:
        name = self.hf.config.model_type
        if rows.shape[1] > self.max_context:
            raise RequestError(
                f"context={rows.shape[1]}: expected at most {self.max_context} tokens a row, the longest that this "
                f"{name} takes; choose a smaller context"
            )
        # On a GPU an id out of range would be a failed assertion inside a kernel.
        if (largest := int(rows.max())) >= self.vocab_size:
            raise RequestError(
                f"token rows: expected ids below {self.vocab_size}, the vocabulary of this {name}, found {largest}; "
                "make the rows with the model's own tokenizer"
            )


class _Captured(Exception):
    """Ends a forward pass in which nothing is left to capture."""


def _keep(captured: dict[Site, Tensor], site: Site, n_sites: int, activations: Tensor) -> Tensor:
    captured[site] = activations
    if len(captured) == n_sites:
        raise _Captured
    return activations
