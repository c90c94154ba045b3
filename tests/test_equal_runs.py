"""Every command computes what it did at an earlier commit, bit for bit: for changes that are to change nothing.

SAE_EQUAL_TO=HEAD~1 python -m pytest -m slow tests/test_equal_runs.py
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.skipif("SAE_EQUAL_TO" not in os.environ, reason="SAE_EQUAL_TO=COMMIT says what to compare with")
def test_every_command_computes_what_it_did(tmp_path):
    archive = subprocess.run(
        ["git", "-C", ROOT, "archive", os.environ["SAE_EQUAL_TO"]], check=True, capture_output=True
    ).stdout
    subprocess.run(["tar", "-x", "-C", tmp_path], input=archive, check=True)
    words = [sys.executable, ROOT / "tests" / "equal_runs.py", tmp_path, ROOT]
    ended = subprocess.run(words, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
