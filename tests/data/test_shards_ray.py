"""Steps over shards on a Ray cluster of two nodes, started here: the same bytes, and nothing lost with a node."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("ray")

from groundup.core.errors import DataError, MissingExtraError
from groundup.data.shards import Local, RayCluster, Room, Workshop, carry_out, written
from groundup.data.shards.carry import cut

sys.path.insert(0, str(Path(__file__).parent))

import shard_steps as steps

pytestmark = [pytest.mark.slow, pytest.mark.distributed, pytest.mark.timeout(300)]

ROOM = Room(10**9, 2)
STORE_BYTES = 100_000_000


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def start_node(*options: str) -> subprocess.Popen[bytes]:
    """A node of one core in a session of its own, so that it can be killed whole, and nothing else with it."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
    command += [f"--object-store-memory={STORE_BYTES}", "--num-cpus=1", "--node-ip-address=127.0.0.1"]
    command += ["--min-worker-port=0", "--max-worker-port=0", f"--dashboard-agent-listen-port={free_port()}"]
    return subprocess.Popen(
        [*command, *options],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
    )


def kill_node(node: subprocess.Popen[bytes]) -> None:
    """SIGKILL to every process of the node's session."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[3]) == node.pid:
                os.kill(int(path.parent.name), signal.SIGKILL)
        except (OSError, ValueError):
            continue
    node.wait()


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Two nodes on this machine; the second may be killed."""
    ray = pytest.importorskip("ray")
    folder = tempfile.mkdtemp(prefix="ray")  # short, since a socket's path may have no more than 107 characters
    port = free_port()
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    started = [start_node("--head", f"--port={port}", f"--temp-dir={folder}", "--include-dashboard=false")]
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.5)
        started.append(start_node(f"--address=127.0.0.1:{port}"))
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
        yield started
    finally:
        if ray.is_initialized():
            ray.shutdown()
        for node in started:
            kill_node(node)
        shutil.rmtree(folder, ignore_errors=True)


def wait_for_cores(by: RayCluster, count: int) -> None:
    """Until the cluster has so many."""
    import ray

    list(by.each(len, [("",)]))
    deadline = time.monotonic() + 60
    while ray.cluster_resources().get("CPU", 0) < count:
        assert time.monotonic() < deadline, "the second node did not come up"
        time.sleep(0.2)


def river(by: Local | RayCluster, folder: Path, marks: Path) -> dict[str, bytes]:
    """Steps of several contracts one after another; every shard that came of them."""
    folder.mkdir()
    shards = cut(steps.Made(24_000)(), folder, 60_000)
    assert len(shards.files) >= 12
    at = Workshop(by, ROOM, folder / "work")
    shards = carry_out(at, partial(steps.dawdle, seconds=0.25, folder=str(marks)), shards, "dawdle")
    shards = carry_out(at, steps.fill_forward, shards, "fill")
    shards = carry_out(at, steps.DropTwins(), shards, "twins")
    shards = carry_out(at, steps.DropClose(), shards, "close")
    shards = written(at, carry_out(at, steps.clip, shards, "clip"), "end")
    assert [entry.rows_after for entry in shards.history][:2] == [24_000, 24_000]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("part-*"))}


def test_a_node_is_killed_midway_and_the_bytes_are_those_of_one_process(
    nodes: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    local_marks, marks = tmp_path / "local-marks", tmp_path / "marks"
    local_marks.mkdir()
    marks.mkdir()
    local = river(Local(1), tmp_path / "local", local_marks)
    cluster = RayCluster(ROOM)
    wait_for_cores(cluster, 2)
    workers: set[str] = set()

    def kill_midway() -> None:
        while len(seen := [path.name.split("-")[1] for path in marks.iterdir()]) < 4 or len(set(seen)) < 2:
            time.sleep(0.02)
        workers.update(seen)
        kill_node(nodes[1])

    killer = threading.Thread(target=kill_midway, daemon=True)
    killer.start()
    found = river(cluster, tmp_path / "ray", marks)
    killer.join(timeout=1)
    assert not killer.is_alive(), "both nodes were to be at work before one was killed"
    assert len(workers) == 2
    assert nodes[1].poll() is not None
    assert found == local
    with pytest.raises(DataError, match=r"removed .* rows of the valid split"):
        refused(cluster, tmp_path / "refused")
    cluster.close()


def refused(by: RayCluster, folder: Path) -> None:
    import dataclasses

    folder.mkdir()
    held_out = dataclasses.replace(cut(steps.Made(2000)(), folder, 20_000), split="valid")
    at = Workshop(by, ROOM, folder / "work")
    written(at, carry_out(at, steps.drop_negative, held_out, "drop"), "end")


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"groundup\[ray\]"):
        list(RayCluster(ROOM).each(len, [("",)]))
