"""Compile the GPU kernels, as they are launched, for a GPU that need not be there; print what each takes as JSON.

    python tests/kernels/cross_compile.py sm_90 2304

Of each kernel: bytes of shared memory, and bytes that registers spill (of AMD's: registers that are spilled).
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

os.environ.pop("TRITON_INTERPRET", None)
warnings.filterwarnings("ignore")
import triton  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from sae_cli.kernels import triton_kernel as kernel  # noqa: E402
from sae_cli.kernels import triton_loops as loops  # noqa: E402

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_120": GPUTarget("cuda", 120, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
    "gfx90a": GPUTarget("hip", "gfx90a", 64),
}
F, I32, I64, BF = "*fp32", "*i32", "*i64", "*bf16"
SCREENED = {"x": BF, "W": BF, "b": F, "x_norms": F, "W_norms": F}
NUMBERS = ("scale", "rate", "beta1", "new1", "beta2", "new2", "root", "epsilon")


def launches(width):
    """Each kernel with the types of its arguments and how it is compiled."""
    row = kernel.of_row(width)
    entries = {"values": F, "W": F, "target": F, "error": F, "out": F}
    found = {"counter": I32, "rows": I32, "columns": I32, "capacity": "i32"}
    sizes, adam = {"N": "i32", "F": "i32"}, dict.fromkeys(("parameter", "gradient", "mean", "square"), F)
    yield loops.screen, SCREENED | {"limits": F} | found | sizes, kernel.SCREEN | {"D": width}
    yield loops.block_maxima, SCREENED | {"maxima": F} | sizes, kernel.MAXIMA | {"D": width}
    products = {"rows": I64, "columns": I32, "y": F, "W": F, "out": F, "E": "i32"}
    yield loops.products, products, kernel.of_products(width)
    for wanted in (True, False):
        residual = {"starts": I64, "columns": I32} | entries
        yield loops.residual, residual, row | {"SUBTRACT": wanted, "ALONG": wanted}
        yield loops.adam, adam | dict.fromkeys(NUMBERS, "fp32"), row | {"UNIT_ROWS": wanted}
    sums = {"column_starts": I64, "order": I64, "rows": I64, "values": F, "y": F, "total": F}
    yield loops.outer_sums, sums, row


def compiled(function, types, options, target):
    constants = {name: value for name, value in options.items() if name != "num_warps"}
    order = list(function.arg_names)
    signature = {name: "constexpr" if name in constants else types[name] for name in order}
    aligned = {(order.index(name),): [["tt.divisibility", 16]] for name, kind in types.items() if kind.startswith("*")}
    source = ASTSource(fn=function, signature=signature, constexprs=constants, attrs=aligned)
    return triton.compile(source, target=target, options={"num_warps": options["num_warps"]})


def spilled(found):
    if "amdgcn" in found.asm:
        return sum(map(int, re.findall(r"\.[sv]gpr_spill_count:\s*(\d+)", found.asm["amdgcn"])))
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(found.asm["cubin"])
        file.flush()
        used = subprocess.run([tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True)
    return sum(map(int, re.findall(r"STACK:(\d+)", used.stdout)))


def main(name, width):
    target = TARGETS[name]
    for function, types, options in launches(int(width)):
        found = compiled(function, types, options, target)
        print(json.dumps({"kernel": function.fn.__name__, "shared": found.metadata.shared, "spilled": spilled(found)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
