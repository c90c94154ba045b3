"""Whatever is in a file of another tool: a dictionary, or one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from foreign import attack, make, read


def test_damaged_dictionaries_of_every_format(tmp_path):
    addresses = make(tmp_path)
    assert len(addresses) == 13 and all(read(each) for each in addresses)
    assert attack(addresses, 300)[""] > 100


@pytest.mark.slow
def test_many_damaged_dictionaries():
    """10,000 of them, in a process of its own."""
    script = Path(__file__).with_name("foreign.py")
    done = subprocess.run([sys.executable, str(script), "--inputs", "10000"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "10,000 inputs" in done.stdout
