"""The group `model`: which causal language model."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from sae_cli.config.idle import Idle
from sae_cli.config.paths import absolute, is_absolute
from sae_cli.config.roles import PathKind, place


class Dtype(Enum):
    """Floating-point formats of models and stored activations."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


WITH_CHECKPOINTS = "embedded:demo-xxs"
"""The model of this package whose revisions are checkpoints of its training."""
LAST_STEP = 2441
"""Of that training."""


@dataclass(kw_only=True)
class ModelConfig:
    """A Hugging Face causal language model.

    Attributes:
        path: a hub id, a local folder or GGUF file, or `embedded:<name>` for a model shipped with this package.
        name: how run directories call it; empty means the path's last part and a hash of the path.
        revision: branch, tag or commit on the hub (Pythia's training checkpoints: `step1000`; those of `demo-xxs`:
            `step0`, `step16`, `step64`, `step256`, `step1024`).
        dtype: number format in which the model computes.
        trust_remote_code: allow the model folder to bring its own Python code. Off unless asked for.
    """

    path: str = place(PathKind.named)
    name: str = ""
    revision: str | None = None
    dtype: Dtype = Dtype.float32
    trust_remote_code: bool = False

    def idle(self) -> Iterator[Idle]:
        """Its settings without effect."""
        if is_absolute(absolute(self.path)) and self.path != WITH_CHECKPOINTS:
            yield Idle("model.revision", f"on {self.path}, which has no revisions", "leave it out, or give a hub id")
