"""A language model whose activations can be captured and replaced at any hook point."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sae_cli.config.hook import Basis, HookPoint
from sae_cli.errors import RequestError
from sae_cli.models.any_model import checked, longest_row, options, predicts_next_token, vocabulary
from sae_cli.models.architectures import is_supported
from sae_cli.models.gaussian_embeddings import GaussianEmbeddings
from sae_cli.models.hooks import ModuleSide, Site, Tap, Visitor, find_tap, visiting
from sae_cli.models.outputs import HiddenOutputs, LogitsOutputs, Outputs
from sae_cli.models.parts import ModelParts, find_parts
from sae_cli.models.prefix import Prefix
from sae_cli.models.reach import Reached, probe_rows, reach
from sae_cli.models.targets import ModelEnd, Target, make_target
from sae_cli.tensor_types import Logits, Rows, SiteActivations

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class LanguageModel:
    """A language model, frozen and in evaluation mode.

    Forward passes have no attention mask: rows are packed and hold no padding. Of a model that is in no table of
    families the modules can be reached by their paths, and nothing else is known.

    Args:
        hf: the transformers model; put into evaluation mode and frozen.
        load_tokenizer: makes the tokenizer when it is first asked for.

    Attributes:
        is_known: whether its family is in the table, so that it has parts, blocks and an end.
        vocab_size: number of logits; of a model that is not known, of token ids.
        max_context: longest row that the model takes.
    """

    def __init__(self, hf: PreTrainedModel, load_tokenizer: Callable[[], PreTrainedTokenizerBase]) -> None:
        self.is_known = is_supported(hf.config)
        self.hf = hf.eval().requires_grad_(False)
        self._load_tokenizer = load_tokenizer
        self._prefixes: dict[Site, Prefix | None] = {}
        self._targets: dict[Site, Target] = {}
        self._reached: dict[ModuleSide, Reached] = {}
        self._gaussian: GaussianEmbeddings | None = None
        if self.is_known:
            self.vocab_size = self.parts.vocab_size
            self.max_context: int = hf.config.get_text_config().max_position_embeddings
            self._options = {"use_cache": False, "return_dict": True}
        else:
            self.vocab_size, self.max_context, self._options = vocabulary(hf), longest_row(hf), options(hf)

    @cached_property
    def parts(self) -> ModelParts:
        """The model's modules and weights under names that do not depend on its architecture; a `RequestError` where
        that is not known."""
        return find_parts(self.hf)

    @cached_property
    def end(self) -> ModelEnd:
        """What comes after the last block; as `parts`."""
        return ModelEnd(self.parts)

    @property
    def n_layers(self) -> int:
        """Number of decoder blocks; as `parts`."""
        return len(self.parts.blocks)

    @property
    def d_model(self) -> int:
        """Width of the residual stream; as `parts`."""
        return self.parts.d_model

    @property
    def d_mlp(self) -> int | None:
        """Width of the MLP's hidden layer; None where there are several, of experts. As `parts`."""
        return self.parts.d_mlp

    @cached_property
    def predicts(self) -> bool:
        """Whether it predicts the next token, so that it has losses: no encoder does."""
        return self.is_known or predicts_next_token(self._call, self.vocab_size, self.device)

    @cached_property
    def n_logits(self) -> int:
        """How many logits it gives at a position."""
        return self.vocab_size if self.is_known else self.logits(probe_rows(self.hf)).shape[2]

    def check_predicts(self, asked: str) -> None:
        """A `RequestError` unless it predicts the next token.

        Args:
            asked: what takes that, as it was asked for.
        """
        if not self.predicts:
            raise RequestError(
                f"{asked}: expected a causal language model, found {type(self.hf).__name__}, which does not predict "
                "the next token: it has no losses"
            )

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer; a `RequestError` where the model came without one."""
        return self._load_tokenizer()

    def replace_embeddings(self, seed: int) -> None:
        """From now on the model is given Gaussian vectors, see `GaussianEmbeddings`."""
        embedding = self.parts.embeddings[0] if self.is_known else self.hf.get_input_embeddings()
        self._gaussian = GaussianEmbeddings(embedding, self.vocab_size, seed)

    @property
    def device(self) -> torch.device:
        return self.hf.device

    @property
    def dtype(self) -> torch.dtype:
        return self.hf.dtype

    def width(self, site: Site) -> int:
        """Size of the activations at the site."""
        if site.module is not None:
            return self._reach(site.module).width
        self.check_site(site)
        if site.hook.basis is not Basis.neurons:
            return self.d_model
        assert self.d_mlp is not None, "the model has the site"
        return self.d_mlp

    def check_site(self, site: Site) -> None:
        """A `RequestError` unless the model has the site."""
        if site.module is not None:
            self._reach(site.module)
            return
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
            self._targets[site] = Target(site) if site.module else make_target(self.end, site)
        return self._targets[site]

    def tap(self, site: Site) -> Tap:
        """Where a site is; as `target`, of one that is somewhere."""
        self.check_site(site)
        return self._reach(site.module).tap if site.module else find_tap(self.parts, site)

    def moved(self, site: Site, blocks: int) -> Site | None:
        """The place so many blocks later; None where there is none."""
        if site.module is not None:
            path = re.sub(r"(?<![^.])\d+(?![^.])", lambda found: str(int(found[0]) + blocks), site.module.path, count=1)
            there = path != site.module.path and any(path == name for name, _ in self.hf.named_modules())
            return Site.of_module(path, site.module.side) if there else None
        moved, first = site._replace(layer=site.layer + blocks), -1 if site.hook is HookPoint.resid else 0
        return moved if first <= moved.layer < self.n_layers else None

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
                self._run(rows, {tap: partial(_keep, captured, tap, len(taps)) for tap in taps})
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

    def outputs(self, rows: Rows, replacements: Mapping[Site, Visitor] | None = None) -> Outputs:
        """What a pass over the rows leaves for the unembedding, which makes logits of it when they are asked for;
        arguments and errors as `logits`."""
        self.check_predicts("logits")
        if not self.is_known or any(map(self._holds_unembedding, replacements or ())):
            return LogitsOutputs(self._run(rows, replacements or {}).logits)
        kept: list[Tensor] = []
        stop = self.parts.unembedding.register_forward_pre_hook(partial(_keep_last, kept))
        try:
            with suppress(_Captured):
                self._run(rows, replacements or {})
        finally:
            stop.remove()
        return HiddenOutputs(self.parts, kept[0])

    def _holds_unembedding(self, site: Site) -> bool:
        """Whether a pass that ends before the unembedding does not get there."""
        return any(each is self.parts.unembedding for each in self.tap(site).module.modules())

    def branches(
        self, rows: Rows, site: Site, watched: Mapping[Site, Visitor] | None = None
    ) -> tuple[Outputs, Callable[[Visitor], Outputs]]:
        """The end of a pass over the rows, and a function from a replacement at one site to the end that it leads to.

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
            self._prefixes[site] = self._prefix(site)
        prefix = self._prefixes[site]
        if prefix is None:
            return self.outputs(rows, watched), lambda visitor: self.outputs(rows, {site: visitor})
        with prefix.kept() as kept:
            clean = self.outputs(rows, watched)

        def replaced(visitor: Visitor) -> Outputs:
            with prefix.put_in(kept):
                return self.outputs(rows, {site: visitor})

        return clean, replaced

    def _prefix(self, site: Site) -> Prefix | None:
        """What comes before a site; None where a pass that begins there is not the same as a whole one."""
        if site.module is None:
            blocks = [each.block for each in self.parts.blocks]
            return Prefix(self.hf, self._call, self.tap(site), blocks, self.parts.family.adds_in_place)
        blocks = [each.block for each in self.parts.blocks] if self.is_known else ()
        prefix, rows = Prefix(self.hf, self._call, self.tap(site), blocks, written_over=True), probe_rows(self.hf)
        visitors: Mapping[Site, Visitor] = {site: lambda activations: activations / 2}
        whole = self._forward(rows, visitors)
        with prefix.kept() as kept:
            self._forward(rows, {})
        for _ in range(2):  # the second sees what the first has written over
            with prefix.put_in(kept):
                begun = self._forward(rows, visitors)
            if not torch.allclose(begun, whole, rtol=1e-5, atol=1e-5, equal_nan=True):
                return None
        return prefix

    def _reach(self, wanted: ModuleSide) -> Reached:
        if wanted not in self._reached:
            with torch.no_grad():
                self._reached[wanted] = reach(self.hf, checked(self._call, type(self.hf).__name__), wanted)
        return self._reached[wanted]

    def _call(self, rows: Rows) -> object:
        return self.hf(input_ids=rows.to(self.device), **self._options)

    def _forward(self, rows: Rows, visitors: Mapping[Site, Visitor]) -> Logits:
        self.check_predicts("logits")
        return self._run(rows, visitors).logits

    def _run(self, rows: Rows, visitors: Mapping[Site, Visitor]) -> Any:
        taps = [(self.tap(site), visitor) for site, visitor in visitors.items()]
        self._check_rows(rows)
        # No inference mode: captured activations are trained on, which autograd refuses for inference tensors.
        embedding = self._gaussian.replacing(rows) if self._gaussian else nullcontext()
        with torch.no_grad(), embedding, visiting(taps, rows.shape):
            return self._call(rows)

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


def _keep_last(kept: list[Tensor], _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    kept.append(inputs[0])
    raise _Captured


def _keep(captured: dict[Site, Tensor], site: Site, n_sites: int, activations: Tensor) -> Tensor:
    captured[site] = activations
    if len(captured) == n_sites:
        raise _Captured
    return activations
