"""The groups of the configuration, and the schemas that their options have."""

from sae_cli.config.data import HfData, StdlibData, SyntheticData, TextData
from sae_cli.config.hook import HookConfig, LogitUpdateHook
from sae_cli.config.model import ModelConfig
from sae_cli.config.sae import BatchTopKSae, GatedSae, JumpReluSae, MatryoshkaSae, ReluSae, TopKSae

GROUPS = {
    "model": {"causal_lm": ModelConfig},
    "hook": {"hook": HookConfig, "logit_update": LogitUpdateHook},
    "data": {"stdlib": StdlibData, "text": TextData, "hf": HfData, "synthetic": SyntheticData},
    "sae": {
        "relu": ReluSae,
        "topk": TopKSae,
        "batch_topk": BatchTopKSae,
        "jump_relu": JumpReluSae,
        "gated": GatedSae,
        "matryoshka": MatryoshkaSae,
    },
}
