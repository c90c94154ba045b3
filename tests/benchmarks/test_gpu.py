"""`benchmarks/gpu.sh`: what it would run, and what it says of what it has run."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import gpu  # noqa: E402


def test_the_commands_are_printed_without_a_gpu():
    environment = {"PYTHON": sys.executable, "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    script = ROOT / "benchmarks" / "gpu.sh"
    ran = subprocess.run(
        ["sh", script, "--dry", "layer=1"], capture_output=True, text=True, env=environment, check=True
    )
    commands = ran.stdout.splitlines()
    assert sum("train_step.py" in each for each in commands) == len(gpu.STEPS)
    for width in (512, 768, 2304):
        assert any(f"4096,{width},1048576" in each for each in commands)
    assert all("layer=1" in each for each in commands if " train " in each or "harvest.py" in each)


def test_what_has_failed_is_said_and_the_others_are_measured(tmp_path):
    file = tmp_path / "a.json"
    file.write_text('{"benchmark": "harvest", "share": 0.9}')
    works = gpu.Measurement("works", [sys.executable, "-c", ""], file)
    fails = gpu.Measurement("fails", [sys.executable, "-c", "raise SystemExit('no memory')"])
    found = {each.name: gpu.measured(each) for each in (works, fails)}
    assert found["works"]["share"] == 0.9 and found["fails"]["failed"] == "no memory"
    assert [row[:3] for row in gpu.summary(found)] == [
        ("works", "", "share of the bare forward pass"),
        ("fails", "", "no memory"),
    ]
