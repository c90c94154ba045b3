"""Memory: how much there is, what is said when it will not do, and what when it has run out."""

import os
import resource
import subprocess
import sys

import pytest

from sae_cli.config.commands.harvest import HarvestConfig
from sae_cli.errors import JobError, is_out_of_memory
from sae_cli.jobs import estimate
from sae_cli.jobs.estimate import available_memory, expect_memory
from sae_cli.jobs.memory import memory_explained

GB = 2**30


@pytest.fixture
def machine(tmp_path):
    """Files as Linux shows them: 8 GB available."""
    (tmp_path / "meminfo").write_text(f"MemTotal: 99999999 kB\nMemAvailable:  {8 * GB // 1024} kB\n")
    (tmp_path / "own").write_text("")
    (tmp_path / "groups").mkdir()

    def found(own="", **files):
        (tmp_path / "own").write_text(own)
        for name, content in files.items():
            file = tmp_path / "groups" / name.replace("__", "/").replace("0", ".")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{content}\n")
        return available_memory(tmp_path / "meminfo", tmp_path / "groups", tmp_path / "own")

    return found


def test_without_limits_the_machine_says(machine):
    assert machine() == 8 * GB
    assert machine("0::/job\n", job__memory0max="max", job__memory0current=GB) == 8 * GB


def test_a_limit_of_the_group_counts_without_the_cache(machine):
    files = {
        "job__memory0max": 3 * GB,
        "job__memory0current": 2 * GB,
        "job__memory0stat": f"anon 1\ninactive_file {GB}",
    }
    assert machine("0::/job\n", **files) == 2 * GB


def test_a_limit_of_a_group_above_counts(machine):
    files = {"job__memory0max": 3 * GB, "job__memory0current": GB, "job__step__memory0max": "max"}
    assert machine("0::/job/step\n", **files) == 2 * GB


def test_the_older_interface(machine):
    files = {"memory__job__memory0limit_in_bytes": 5 * GB, "memory__job__memory0usage_in_bytes": GB}
    assert machine("4:memory:/job\n0::/\n", **files) == 4 * GB


def test_elsewhere_nothing_is_known(tmp_path):
    assert available_memory(tmp_path / "no", tmp_path / "no", tmp_path / "no") is None


@pytest.mark.parametrize(("available", "said"), [(None, False), (5 * GB, False), (3 * GB, True)])
def test_too_little_is_said_and_not_refused(monkeypatch, capsys, available, said):
    monkeypatch.setattr(estimate, "available_memory", lambda: available)
    expect_memory(4 * GB)
    shown = "warning: about 4.29 GB of memory will be needed, found 3.22 GB available"
    assert (shown in capsys.readouterr().err) == said


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 8.00 GiB for an array with shape (1,) and data type float64"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_the_ways_in_which_libraries_say_it(error):
    with pytest.raises(JobError) as caught, memory_explained(HarvestConfig(layer=0, tokens=1, model_rows=64)):
        raise error
    assert str(caught.value).startswith("out of memory: ")
    assert str(caught.value).endswith(
        "; lower model_rows= (now 64), shard_tokens= (now 65,536), or use a larger machine"
    )


@pytest.mark.parametrize("error", [RuntimeError("shapes do not fit"), FileNotFoundError(2, "No such file", "x")])
def test_other_errors_stay_what_they_are(error):
    assert not is_out_of_memory(error)
    with pytest.raises(type(error)) as caught, memory_explained(HarvestConfig(layer=0, tokens=1)):
        raise error
    assert caught.value is error


@pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space are Linux's")
def test_a_dictionary_too_large_for_the_process_is_one_line(tmp_path):
    command = [
        *(sys.executable, "-m", "sae_cli", "train", "data=synthetic", "data.d=512", "dict_size=400_000"),
        *("tokens=4096", "train.shuffle_buffer=1024", "device=cpu", f"runs_dir={tmp_path}"),
    ]
    ended = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (6 * GB, 6 * GB)),
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    line = ended.stderr.splitlines()[-1]
    assert line.startswith("sae: error: out of memory: expected to need about 7.79 GB, found ")
    assert "lower dict_size= (now 400,000), train.batch_size= (now 256), train.shuffle_buffer= (now 1,024)" in line
    assert "Traceback" not in ended.stderr
    assert not list(tmp_path.rglob("*.safetensors"))
