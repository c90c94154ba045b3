"""Sparse kernels beside a plain reference: what a training step spends its time on."""

import os

# numba's loops keep to the threads that torch is given: commands side by side that have more of them than there are
# cores wait for each other at the end of every loop.
if (_threads := os.environ.get("OMP_NUM_THREADS", "")).isdecimal() and int(_threads):
    os.environ.setdefault("NUMBA_NUM_THREADS", _threads)
