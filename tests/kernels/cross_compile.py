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

from sae_cli.kernels import padded, triton_loops, triton_select  # noqa: E402
from sae_cli.kernels import triton_kernel as kernel  # noqa: E402
from sae_cli.kernels import triton_screen as screen  # noqa: E402

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
    yield from adding(width)
    yield from selecting(width)


def adding(width):
    row, loops = kernel.of_row(width), triton_loops
    entries = {"values": F, "W": F, "target": F, "error": F, "out": F}
    products = {"rows": I32, "columns": I32, "y": F, "W": F, "b": F, "out": F, "number": I64, "room": "i32"}
    adam = dict.fromkeys(("parameter", "gradient", "mean", "square", "norms", "clip"), F) | {"missed": "*u8"}
    for wanted in (True, False):
        yield loops.products, products, kernel.of_products(width) | {"BIASED": wanted}
        residual = {"starts": I64, "columns": I32} | entries
        yield loops.residual, residual, row | {"SUBTRACT": wanted, "ALONG": wanted}
        of_adam = adam | dict.fromkeys(NUMBERS, "fp32") | {"rounded": BF if wanted else F}
        yield loops.adam, of_adam, row | {"UNIT_ROWS": wanted, "ROUND": wanted}
        of_columns = {"column_starts": I64, "order": I64, "values": F, "sums": F, "counts": F if wanted else I64}
        yield loops.column_sums, of_columns, {"SUMS": wanted, "BLOCK": padded._BLOCK, "num_warps": 1}
    sums = {"column_starts": I64, "order": I64, "rows": I32, "values": F, "y": F, "total": F}
    yield loops.outer_sums, sums, row


def selecting(width):
    loops, sizes, listed = triton_select, {"N": "i32", "F": "i32"}, {"row_list": I32, "features": I32, "listed": I32}
    marks, maxima = {"words": I32, "counts": I32, "sure": I32}, {"maxima": F}
    for wanted in (True, False):
        which = {"ROWS": wanted, "FEATURES": wanted, "D": width}
        marked = SCREENED | {"limits": F} | listed | marks | sizes
        yield loops.screen, marked, screen.SCREEN | which | {"SURE": not wanted}
        yield loops.block_maxima, SCREENED | listed | maxima | sizes, screen.MAXIMA | which
        found = {"words": I32, "offsets": I64, "features": I32, "rows": I32, "columns": I32, "room": "i32", "F": "i32"}
        tiles = {"TILES": 256, "WORDS": 1024, "FEATURES": wanted}
        yield loops.places, found, screen.PLACES | tiles
    of_rows = maxima | {"row_list": I32, "listed": I32, "limits": F, "k": "i32", "B": "i32"}
    yield loops.row_limits, of_rows, screen.ROW_LIMITS
    of_batch = {"histogram": I32, "listed": I32, "limits": F, "wanted": "i32", "N": "i32"}
    yield loops.batch_limit, of_batch, screen.BATCH_LIMIT
    yield loops.add_to_histogram, maxima | {"listed": I32, "histogram": I32, "number": "i32"}, screen.HISTOGRAM
    marking = {"starts": I64, "values": F, "k": "i32", "chosen": "*i1", "smallest": F, "N": "i32"}
    yield loops.mark_largest, marking, kernel.MARK


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
