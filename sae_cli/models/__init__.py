"""Language models: loading a Hugging Face causal LM, finding its parts, capturing and replacing activations."""

from sae_cli.models.architectures import FAMILIES
from sae_cli.models.chat import chat_renderer
from sae_cli.models.direct_path import DirectPath
from sae_cli.models.hooks import Site, Visitor, Wires
from sae_cli.models.language_model import LanguageModel
from sae_cli.models.load import load_language_model, load_tokenizer
from sae_cli.models.logit_space import LogitSpace
from sae_cli.models.outputs import HiddenOutputs, Outputs
from sae_cli.models.parts import BlockParts, ModelParts
from sae_cli.models.sources import model_identity, model_run, tokenizer_location
from sae_cli.models.targets import MappedTarget, Target

__all__ = [
    "FAMILIES",
    "BlockParts",
    "DirectPath",
    "HiddenOutputs",
    "LanguageModel",
    "LogitSpace",
    "MappedTarget",
    "ModelParts",
    "Outputs",
    "Site",
    "Target",
    "Visitor",
    "Wires",
    "chat_renderer",
    "load_language_model",
    "load_tokenizer",
    "model_identity",
    "model_run",
    "tokenizer_location",
]
