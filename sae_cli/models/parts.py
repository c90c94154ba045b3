"""The parts of a loaded model under one set of names, whatever its architecture calls them."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from sae_cli.errors import RequestError
from sae_cli.models.architectures import Family, supported_family

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class BlockParts(NamedTuple):
    """The modules of one decoder block; see `Family` for what they are. Experts have no one down-projection."""

    block: nn.Module
    attn_out: nn.Module
    mlp_out: nn.Module
    down_projection: nn.Module | None


@dataclass(frozen=True)
class ModelParts:
    """The parts of a language model.

    Attributes:
        family: the description that they were found with.
        embeddings: token embedding first, then input projection and positions where there are any.
        blocks: one entry a decoder block.
        final_norm: the norm before the unembedding; `nn.Identity` in the few OPT models without one.
        output_projections: linear maps between final norm and unembedding (some OPT sizes), usually none.
        unembedding: the linear map to logits (tied to the token embedding or not).
        logit_soft_cap: c in `c·tanh(logits/c)`; None where logits are not capped.
        logit_scale: what the unembedding's output is multiplied by.
        residual_multiplier: what updates are multiplied by on their way to the residual stream.
    """

    family: Family
    embeddings: tuple[nn.Module, ...]
    blocks: tuple[BlockParts, ...]
    final_norm: nn.Module
    output_projections: tuple[nn.Module, ...]
    unembedding: nn.Module
    logit_soft_cap: float | None
    logit_scale: float = 1.0
    residual_multiplier: float = 1.0

    @property
    def d_mlp(self) -> int | None:
        """Width of the MLP's hidden layer; None where there are several, of experts."""
        return None if self.blocks[0].down_projection is None else self.W_out(0).shape[0]

    @property
    def d_model(self) -> int:
        return _input_output(next(iter(self.output_projections), self.unembedding)).shape[0]

    @property
    def vocab_size(self) -> int:
        return _input_output(self.unembedding).shape[1]

    def W_out(self, layer: int) -> Float[Tensor, "M D"]:
        """The MLP's down-projection as in `mlp_act @ W_out`, before a post-norm."""
        down_projection = self.blocks[layer].down_projection
        assert down_projection is not None, "a mixture of experts has no mlp_act"
        return _input_output(down_projection)

    def mlp_act_to_resid(self, layer: int) -> Float[Tensor, "M D"]:
        """What directions of `mlp_act` write to the residual stream; up to scale where there is a post-norm."""
        W_out = self.W_out(layer)
        W_out = W_out if self.residual_multiplier == 1.0 else W_out * self.residual_multiplier
        return W_out * self._gain(self.blocks[layer].mlp_out) if self.family.post_norms else W_out

    def W_U(self) -> Float[Tensor, "V D"]:
        """The unembedding as a map from the final norm's output, OPT's output projection and a factor of logits
        included."""
        W_U = _input_output(self.unembedding)
        W_U = W_U if self.logit_scale == 1.0 else W_U * self.logit_scale
        for projection in reversed(self.output_projections):
            W_U = _input_output(projection) @ W_U
        return W_U.T

    def final_norm_gain(self) -> Float[Tensor, " D"]:
        """What the normalized residual stream is multiplied by (Gemma: 1 + weight)."""
        return self._gain(self.final_norm)

    @property
    def final_norm_centers(self) -> bool:
        """Whether the final norm subtracts the mean (LayerNorm) or does not (RMSNorm)."""
        return isinstance(self.final_norm, nn.LayerNorm) or self.family.norm_centers

    def _gain(self, norm: nn.Module) -> Float[Tensor, " D"]:
        if getattr(norm, "weight", None) is None:
            return self.unembedding.get_parameter("weight").new_ones(self.d_model)
        return norm.get_parameter("weight") + self.family.norm_gain_offset


def find_parts(hf: PreTrainedModel) -> ModelParts:
    """The parts of a model.

    Raises:
        RequestError: its architecture is not supported, or a model with its own code is laid out otherwise.
    """
    family = supported_family(hf.config)
    try:
        return ModelParts(
            family=family,
            embeddings=_present(hf, family, *family.embeddings),
            blocks=tuple(_block_parts(block, family) for block in hf.get_submodule(family.blocks).children()),
            final_norm=next(iter(_present(hf, family, family.final_norm)), nn.Identity()),
            output_projections=_present(hf, family, *family.output_projections),
            unembedding=hf.get_submodule("lm_head"),
            logit_soft_cap=getattr(hf.config.get_text_config(), family.soft_cap) if family.soft_cap else None,
            logit_scale=_factor(hf, family.logit_multiplier) / _factor(hf, family.logit_divisor),
            residual_multiplier=_factor(hf, family.residual_multiplier),
        )
    except AttributeError as error:
        raise RequestError(
            f"model {hf.config.name_or_path or type(hf).__name__}: expected the modules of model type "
            f"{hf.config.model_type!r} under their usual names, found that {error}; choose another model"
        ) from error


def _factor(hf: PreTrainedModel, setting: str) -> float:
    """A number in the model's config; 1 where its family has none."""
    return float(getattr(hf.config.get_text_config(), setting)) if setting else 1.0


def _present(hf: PreTrainedModel, family: Family, *paths: str) -> tuple[nn.Module, ...]:
    """The modules at the paths, without the optional ones that this model does not have."""
    present = [path for path in paths if path not in family.optional or attrgetter(path)(hf) is not None]
    return tuple(hf.get_submodule(path) for path in present)


def _block_parts(block: nn.Module, family: Family) -> BlockParts:
    paths = (family.attn_out,) if isinstance(family.attn_out, str) else family.attn_out
    path = next((each for each in paths if hasattr(block, each)), paths[0])
    attn_out, mlp_out = map(block.get_submodule, (path, family.mlp_out))
    down_projection = block.get_submodule(family.down_projection) if family.down_projection else None
    return BlockParts(block, attn_out, mlp_out, down_projection)


def _input_output(linear: nn.Module) -> Float[Tensor, "_ _"]:
    """A linear map's weight as (inputs, outputs): what GPT-2's Conv1D stores and `nn.Linear` stores transposed."""
    from transformers.pytorch_utils import Conv1D  # whoever has a model has it

    weight = linear.get_parameter("weight")
    return weight if isinstance(linear, Conv1D) else weight.T
