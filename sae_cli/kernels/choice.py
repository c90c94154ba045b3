"""Which kernel a training step uses."""

from __future__ import annotations

import torch

from sae_cli.kernels.dense import DenseKernel
from sae_cli.kernels.kernel import Kernel
from sae_cli.kernels.reference import ReferenceKernel
from sae_cli.kernels.sparse import SparseKernel


def bfloat16_is_fast() -> bool:
    """Whether this CPU multiplies bfloat16 matrices in hardware."""
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16") or found.get("arm_bf16"))


# Density at which the two cost the same: dense products cost the same whatever the codes are, sparse ones in
# proportion to the active entries, and less where rows of the dictionary come from a cache. Measured with
# benchmarks/crossover.py.
_CACHED = 2**23  # bytes of W_dec
_CROSSOVER = {
    (torch.float32, True): 0.12,
    (torch.float32, False): 0.05,
    (torch.bfloat16, True): 0.05,
    (torch.bfloat16, False): 0.02,
}
_HYSTERESIS = 1.3


class KernelChoice:
    """The kernel of the next step, given how dense the codes of the last ones were.

    It changes at densities that differ by a factor, so that it does not flicker.

    Args:
        name: `auto`, `reference`, `sparse` or `dense_bf16`.
        device: where the tensors are.
        dictionary_bytes: size of the decoder.

    Attributes:
        kernel: what the next step uses.
    """

    def __init__(self, name: str, device: torch.device, dictionary_bytes: int) -> None:
        self._dense: Kernel | None = None
        match name:
            case "auto" if device.type == "cpu":
                fast = torch.bfloat16 if bfloat16_is_fast() else torch.float32
                self._sparse, self._dense = SparseKernel(fast), DenseKernel(fast)
                self._crossover = _CROSSOVER[fast, dictionary_bytes <= _CACHED]
                self.kernel: Kernel = self._dense
            case "auto" | "reference":
                self.kernel = ReferenceKernel()
            case "sparse":
                self.kernel = SparseKernel(torch.bfloat16 if bfloat16_is_fast() else torch.float32)
            case "dense_bf16":
                self.kernel = DenseKernel(torch.bfloat16)
            case _:
                raise ValueError(f"no kernel is called {name}")

    def observe(self, density: float) -> None:
        """Take note of the share of entries that were active in a step."""
        if self._dense is None:
            return
        if self.kernel is self._dense and density < self._crossover / _HYSTERESIS:
            self.kernel = self._sparse
        elif self.kernel is self._sparse and density > self._crossover * _HYSTERESIS:
            self.kernel = self._dense
