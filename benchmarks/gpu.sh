#!/bin/sh
# Everything that is said of a GPU, measured on the one that is here: one command, one file of results.
#
#     sh benchmarks/gpu.sh                 # some twenty minutes on an H100
#     sh benchmarks/gpu.sh --small         # the same program at small sizes, on a CPU too
#     sh benchmarks/gpu.sh --dry           # what would be run
cd "$(dirname "$0")/.." || exit 1
exec "${PYTHON:-python}" benchmarks/gpu.py "$@"
