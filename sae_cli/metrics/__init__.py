"""Metrics: accumulate sums and counts in float64 or int64, merge, divide last.

The definitions, with their version, are those of the project's metric table; `VERSION` is written into
every `eval.json`.
"""

VERSION = 4
