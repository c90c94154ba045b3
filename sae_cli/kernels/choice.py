"""Which kernel a training step uses."""

from __future__ import annotations

import os
from importlib.util import find_spec

import torch

from sae_cli.errors import RequestError
from sae_cli.kernels import loops
from sae_cli.kernels.compiled import CompiledKernel
from sae_cli.kernels.dense import DenseKernel
from sae_cli.kernels.kernel import Kernel
from sae_cli.kernels.reference import ReferenceKernel
from sae_cli.kernels.sparse import SparseKernel
from sae_cli.state import State, number
from sae_cli.tensor_types import Tensor


def bfloat16_is_fast() -> bool:
    """Whether this CPU multiplies bfloat16 matrices in hardware."""
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16") or found.get("arm_bf16"))


# Density at which the two cost the same: dense products cost the same whatever the codes are, sparse ones in
# proportion to the active entries, and less where rows of the dictionary come from a cache. Measured on two cores with
# AVX-512 and, for bfloat16, on two with AVX512-BF16 (benchmarks/cost.py).
_CACHED = 2**23  # bytes of W_dec
_CROSSOVER = {
    (torch.float32, True): 0.12,
    (torch.float32, False): 0.05,
    (torch.bfloat16, True): 0.075,
    (torch.bfloat16, False): 0.065,
}
_CROSSOVER_GPU = 0.02  # an estimate: no GPU was at hand to measure it
_HYSTERESIS = 1.3
_LEAST_CAPABILITY = (8, 0)
"""Of a GPU that multiplies bfloat16; before it the kernels would be slower than plain products."""


def check_kernel(name: str, device: torch.device) -> None:
    """Refuse a kernel that does not run on the device.

    Raises:
        RequestError: it does not.
    """
    where = {"sparse": "cpu", "dense_bf16": "cpu", "triton": "cuda"}.get(name, device.type)
    if name == "triton" and not find_spec("triton"):
        raise RequestError("train.kernel=triton: the package triton is not installed")
    if where != device.type and not (name == "triton" and os.environ.get("TRITON_INTERPRET") == "1"):
        raise RequestError(f"train.kernel={name} runs on {where} only, found device={device.type}; use auto")


class KernelChoice:
    """The kernel of the next step, given how dense the codes of the last ones were.

    It changes at densities that differ by a factor, so that it does not flicker.

    Args:
        name: `auto`, `reference`, `sparse`, `dense_bf16` or `triton`.
        device: where the tensors are.
        dictionary_bytes: size of the decoder.

    Attributes:
        kernel: what the next step uses.
        without_triton: why `auto` on a GPU does not use its kernels; empty where it does.
    """

    def __init__(self, name: str, device: torch.device, dictionary_bytes: int) -> None:
        self._sparse: Kernel | None = None
        self._dense: Kernel | None = None
        self.without_triton = ""
        fast = torch.bfloat16 if bfloat16_is_fast() else torch.float32
        match name:
            case "auto" if device.type == "cpu":
                sparse = SparseKernel(fast)
                self._sparse, self._dense = sparse, DenseKernel(fast, sparse)
                self._crossover = _CROSSOVER[fast, dictionary_bytes <= _CACHED]
            case "auto" if device.type == "cuda" and not (reason := _why_without_triton(device)):
                self._sparse = _triton_kernel()
                self._dense = CompiledKernel(adam=self._sparse)
                self._crossover = _CROSSOVER_GPU
            case "auto" if device.type == "cuda":
                self._sparse, self.without_triton = ReferenceKernel(), reason
            case "auto" | "reference":
                self._sparse = ReferenceKernel()
            case "sparse":
                self._sparse = SparseKernel(fast)
            case "dense_bf16":
                self._dense = DenseKernel(torch.bfloat16)
            case "triton":
                self._sparse = _triton_kernel()
            case _:
                raise ValueError(f"no kernel is called {name}")
        kernel = self._dense or self._sparse
        assert kernel is not None
        self.kernel: Kernel = kernel

    @property
    def waits_for_compiler(self) -> bool:
        """Whether the first steps compile the loops, which later runs on this machine find in a cache."""
        return isinstance(self._sparse, SparseKernel) and not loops.are_compiled()

    def state(self) -> dict[str, Tensor]:
        """Whether the next step is `dense`."""
        return {"dense": number(int(self.kernel is self._dense))}

    def restore(self, state: State) -> None:
        kernel = self._dense if int(state["dense"]) else self._sparse
        self.kernel = kernel or self.kernel

    def observe(self, density: float) -> None:
        """Take note of the share of entries that were active in a step."""
        if self._dense is None or self._sparse is None:
            return
        if self.kernel is self._dense and density < self._crossover / _HYSTERESIS:
            self.kernel = self._sparse
        elif self.kernel is self._sparse and density > self._crossover * _HYSTERESIS:
            self.kernel = self._dense


def _why_without_triton(device: torch.device) -> str:
    """Why the GPU's kernels cannot be used there; empty where they can, which is tried."""
    if not find_spec("triton"):
        return "the package triton is not installed"
    capability = torch.cuda.get_device_capability(device)
    if capability < _LEAST_CAPABILITY:
        return f"this GPU's compute capability is {'.'.join(map(str, capability))}, less than 8.0"
    try:
        ones = torch.ones(2, 16, device=device)
        _triton_kernel().positive(ones, ones, torch.zeros(2, device=device))
    except Exception as error:  # whatever a compiler that is missing or fails raises
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return f"Triton does not compile here ({type(error).__name__}: {lines[0][:200] if lines else ''})"
    return ""


def _triton_kernel() -> Kernel:
    # Imported when it is needed: the package comes with the GPU builds of torch only.
    from sae_cli.kernels.triton_kernel import TritonKernel

    return TritonKernel()
