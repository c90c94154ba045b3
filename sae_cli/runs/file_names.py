"""What the files are called that commands leave in their runs."""

from __future__ import annotations

COORDINATES_FILE = "coordinates.safetensors"
"""Of a harvest at a logit hook."""

CURVE, DENSITY_FILE = "metrics.jsonl", "density_history.safetensors"
RESAMPLING_FILE = "resampling.safetensors"
"""Of a training that resamples: `step` [R], `l0` before and after [R, 2], `alive` [R, F], `died` and `window` [R]."""
"""Of a training."""

DEFAULT = "default"
"""The name of an evaluation, or of pages, of the settings that nobody has changed."""
EVAL_FILE, FEATURES_FILE, ABLATION_FILE = "eval.json", "features.safetensors", "ablation.safetensors"
"""Of an evaluation; the last, of feature pages too."""
ROWS_FILE = "rows.safetensors"
"""Of an evaluation: the sums of every row of text."""

CONTEXTS_FILE, SHEETS_FILE, SHEETS_JSON = "contexts.safetensors", "sheets.safetensors", "sheets.json"
"""Of feature pages."""
HISTOGRAMS_FILE = "histograms.safetensors"
"""Of feature pages: of activations, with the borders of the bands, where there are bands; and of logit weights."""

COMPARE_FILE, SIMILARITY_FILE = "compare.json", "similarity.safetensors"
"""Of a comparison."""

BENCH_FILE = "bench.json"
"""Of a benchmark; the numbers of each feature are in `features.safetensors` beside it."""

PROBE_FILE, PROBE_TENSORS, SAVED_PROBE = "probe.json", "probe.safetensors", "saved.safetensors"
"""Of a probe: its figures, those of every feature, and what classifies other text."""

CONTRAST_FILE = "contrast.json"
"""Of a contrast."""
SOURCE_FILE = "source.json"
"""In an imported run: what its source says of itself, which of its files were read, and what was folded."""
