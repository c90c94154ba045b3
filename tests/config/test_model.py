"""The number format of a model, chosen by what the machine can do."""

from __future__ import annotations

import pytest

from sae_cli.config import model
from sae_cli.config.commands.train import TrainConfig
from sae_cli.config.compose import configured
from sae_cli.config.model import ModelConfig, ModelDtype
from sae_cli.config.names import run_directory


@pytest.mark.parametrize(
    ("processor", "gpu", "expected"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 sse\n", False, ModelDtype.bfloat16),
        ("flags\t\t: fpu amx_bf16 amx_tile\n", False, ModelDtype.bfloat16),
        ("Features\t: fp asimd bf16\n", False, ModelDtype.bfloat16),
        ("flags\t\t: fpu avx512f avx2 sse\nbugs\t: amx_bf16\n", False, ModelDtype.float32),
        ("flags\t\t: fpu avx2\n", True, ModelDtype.bfloat16),
        (None, False, ModelDtype.float32),
    ],
)
def test_auto_is_bfloat16_where_the_machine_multiplies_it(processor, gpu, expected, tmp_path, monkeypatch):
    if processor is not None:
        (tmp_path / "cpuinfo").write_text(processor)
    if gpu:
        (tmp_path / "driver").write_text("")
    monkeypatch.setattr(model, "_PROCESSOR", tmp_path / "cpuinfo")
    monkeypatch.setattr(model, "_GPU_DRIVER", tmp_path / "driver")
    assert ModelConfig(path="x", dtype=ModelDtype.auto).dtype is expected
    assert ModelConfig(path="x", dtype=ModelDtype.float16).dtype is ModelDtype.float16


def test_a_run_is_called_by_what_auto_was(monkeypatch):
    directories = {}
    for bfloat16 in (True, False):
        monkeypatch.setattr(model, "multiplies_bfloat16", lambda bfloat16=bfloat16: bfloat16)
        for dtype in ("auto", "bfloat16", "float32"):
            config = configured(TrainConfig, [f"model.dtype={dtype}"])
            directories[bfloat16, dtype] = run_directory(config, {})
    assert directories[True, "auto"] == directories[True, "bfloat16"] != directories[True, "float32"]
    assert directories[False, "auto"] == directories[False, "float32"]
