from __future__ import annotations

from pathlib import Path

import pytest

from groundup.planning import hardware

GIB = 2**30


def machine(root: Path, files: dict[str, str]) -> Path:
    base = {
        "proc/cpuinfo": "processor : 0\nmodel name : Made-up 9000\nflags : fpu avx512_bf16\n",
        "proc/meminfo": f"MemTotal: {16 * GIB // 1024} kB\nMemFree: 1 kB\nMemAvailable: {12 * GIB // 1024} kB\n",
    }
    for name, text in {**base, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_bare_machine(tmp_path: Path) -> None:
    found = hardware(machine(tmp_path, {}))
    assert found.processor == "Made-up 9000"
    assert found.bf16
    assert (found.memory_bytes, found.available_bytes) == (16 * GIB, 12 * GIB)
    assert found.num_cores >= 1
    assert ("bf16 in hardware", "yes") in found.rows()


def test_no_bf16(tmp_path: Path) -> None:
    assert not hardware(machine(tmp_path, {"proc/cpuinfo": "flags : fpu avx2 avx512f\n"})).bf16
    assert hardware(machine(tmp_path, {"proc/cpuinfo": "Features : fp asimd bf16\n"})).bf16


@pytest.mark.parametrize(
    "files",
    [
        {  # version 2: the limit stands on an outer level, the cache can be reclaimed
            "proc/self/cgroup": "0::/outer/inner\n",
            "sys/fs/cgroup/outer/inner/memory.max": "max\n",
            "sys/fs/cgroup/outer/inner/memory.current": "1\n",
            "sys/fs/cgroup/outer/memory.max": f"{4 * GIB}\n",
            "sys/fs/cgroup/outer/memory.current": f"{3 * GIB}\n",
            "sys/fs/cgroup/outer/memory.stat": f"anon 5\ninactive_file {GIB}\n",
            "sys/fs/cgroup/outer/cpu.max": "50000 100000\n",
        },
        {  # version 1
            "proc/self/cgroup": "4:memory:/job\n3:cpu,cpuacct:/job\n",
            "sys/fs/cgroup/memory/job/memory.limit_in_bytes": f"{4 * GIB}\n",
            "sys/fs/cgroup/memory/job/memory.usage_in_bytes": f"{3 * GIB}\n",
            "sys/fs/cgroup/memory/job/memory.stat": f"cache 5\ntotal_inactive_file {GIB}\n",
            "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "100000\n",
            "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000\n",
        },
        {  # inside a container only the group's own root is to be seen
            "sys/fs/cgroup/memory.max": f"{4 * GIB}\n",
            "sys/fs/cgroup/memory.current": f"{2 * GIB}\n",
            "sys/fs/cgroup/cpu.max": "100000 100000\n",
        },
    ],
    ids=["version 2", "version 1", "container"],
)
def test_a_containers_limit_counts(tmp_path: Path, files: dict[str, str]) -> None:
    found = hardware(machine(tmp_path, files))
    assert (found.memory_bytes, found.available_bytes) == (4 * GIB, 2 * GIB)
    assert found.num_cores == 1


def test_this_machine() -> None:
    found = hardware()
    assert 0 < found.available_bytes <= found.memory_bytes
