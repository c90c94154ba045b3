"""The group `model`: which causal language model."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from sae_cli.config.idle import Idle
from sae_cli.config.paths import absolute, is_absolute
from sae_cli.config.roles import PathKind, place


class Dtype(Enum):
    """Floating-point formats of stored activations."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class ModelDtype(Enum):
    """Floating-point formats of models. `auto`: bfloat16 where this machine multiplies it, else float32."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"

    def resolved(self) -> "ModelDtype":
        """What it is on this machine."""
        if self is not ModelDtype.auto:
            return self
        return ModelDtype.bfloat16 if multiplies_bfloat16() else ModelDtype.float32


_GPU_DRIVER = Path("/proc/driver/nvidia/version")
_PROCESSOR = Path("/proc/cpuinfo")
_WITH_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}
"""As Linux calls what a processor can do: Intel's and AMD's, and ARM's."""


def multiplies_bfloat16() -> bool:
    """Whether a GPU is there, or the processor has instructions for it; nothing heavy is imported to see that."""
    try:
        flags = re.search(r"^(?:flags|Features)\s*:(.*)$", _PROCESSOR.read_text(), re.MULTILINE)
    except OSError:
        return _GPU_DRIVER.exists()
    return _GPU_DRIVER.exists() or bool(flags and _WITH_BFLOAT16 & set(flags[1].split()))


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
        dtype: number format in which the model computes; `auto` is made one of the others when the command is given.
        trust_remote_code: allow the model folder to bring its own Python code. Off unless asked for.
    """

    path: str = place(PathKind.named)
    name: str = ""
    revision: str | None = None
    dtype: ModelDtype = ModelDtype.float32
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        self.dtype = self.dtype.resolved()

    def idle(self) -> Iterator[Idle]:
        """Its settings without effect."""
        if is_absolute(absolute(self.path)) and self.path != WITH_CHECKPOINTS:
            yield Idle("model.revision", f"on {self.path}, which has no revisions", "leave it out, or give a hub id")
