"""A checkpoint is written whole or not at all, and nothing that changed since is ever read."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from groundup.core import checkpoint as module
from groundup.core.checkpoint import MANIFEST, Checkpoint, latest_checkpoint, write_checkpoint
from groundup.core.errors import CheckpointError

TEXTS = {"recipe.toml": 'name = "x"\n', "preprocessing.json": '{"prepare": []}', "notes.txt": "line\r\nline\rÄ"}


def tensors(scale: float = 1.0) -> dict[str, dict[str, Tensor]]:
    weight = torch.arange(12.0).view(4, 3) * scale
    model = {"embed.weight": weight, "other.weight": torch.ones(4, 3), "head.weight": weight}
    return {"model.safetensors": model, "training.safetensors": {"optimizer.0.step": torch.tensor(3.0)}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path / "step-1", tensors(), TEXTS)
    return tmp_path / "step-1"


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def rewrite_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """A manifest changed by someone who also made its digest fit."""
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    text = module._render(manifest["schema"], manifest["files"], manifest["aliases"])
    (folder / MANIFEST).write_text(text)


# --------------------------------------------------------------------------------------------- round trip


def test_round_trip(folder: Path) -> None:
    opened = Checkpoint.open(folder)
    assert opened.files == set(TEXTS) | {"model.safetensors", "training.safetensors"}
    for name, text in TEXTS.items():
        assert opened.text(name) == text
    assert opened.json("preprocessing.json") == {"prepare": []}
    for name, table in tensors().items():
        read = opened.tensors(name)
        assert read.keys() == table.keys()
        assert all(torch.equal(read[key], table[key]) for key in table)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_every_bit_of_every_dtype_returns(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    table: dict[str, Tensor] = {}
    for i in range(data.draw(st.integers(0, 4))):
        kind = data.draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.uint8]))
        shape = data.draw(st.lists(st.integers(0, 3), max_size=3))
        size = torch.empty(0, dtype=kind).element_size()
        count = int(np.prod(shape, dtype=int)) * size
        raw = list(data.draw(st.binary(min_size=count, max_size=count)))
        table[f"t{i}"] = torch.tensor(raw, dtype=torch.uint8).view(kind).view(shape)
        if data.draw(st.booleans()):
            table[f"t{i}.alias"] = table[f"t{i}"]
    folder = tmp_path_factory.mktemp("any") / "step-1"
    write_checkpoint(folder, {"model.safetensors": table}, {})
    read = Checkpoint.open(folder).tensors("model.safetensors")
    assert read.keys() == table.keys()
    for name, tensor in table.items():
        assert read[name].dtype == tensor.dtype
        assert read[name].shape == tensor.shape
        assert torch.equal(read[name].reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 5)
        self.head = nn.Linear(5, 7, bias=False)
        self.head.weight = self.embed.weight


def test_tied_weights_are_stored_once_and_stay_tied(tmp_path: Path) -> None:
    model = Tied()
    written = write_checkpoint(tmp_path / "c", {"model.safetensors": model.state_dict()}, {})
    assert written.aliases == {"model.safetensors": {"head.weight": "embed.weight"}}
    assert (tmp_path / "c" / "model.safetensors").stat().st_size < 2 * 7 * 5 * 4
    read = Checkpoint.open(tmp_path / "c").tensors("model.safetensors")
    again = Tied()
    again.load_state_dict(read)
    assert again.head.weight is again.embed.weight
    assert torch.equal(again.embed.weight, model.embed.weight)


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(lambda w: w.view(-1), id="reshaped"),
        pytest.param(lambda w: w[1:3], id="slice"),
        pytest.param(lambda w: w.t(), id="transposed"),
        pytest.param(lambda w: w.view(torch.int32), id="reinterpreted"),
        pytest.param(lambda w: w.expand(2, 4, 4), id="expanded"),
    ],
)
def test_views_of_one_memory_are_saved_as_what_they_show(tmp_path: Path, second: Callable[[Tensor], Tensor]) -> None:
    weight = torch.randn(4, 4)
    table = {"a": weight, "b": second(weight), "c": weight}
    write_checkpoint(tmp_path / "c", {"m.safetensors": table}, {})
    read = Checkpoint.open(tmp_path / "c").tensors("m.safetensors")
    assert all(torch.equal(read[name], table[name]) for name in table)


def test_writing_leaves_the_tensors_as_they_were(tmp_path: Path) -> None:
    weight = torch.randn(4, 4)
    pointer, before = weight.data_ptr(), weight.clone()
    write_checkpoint(tmp_path / "c", {"m.safetensors": {"a": weight, "b": weight[:2]}}, {})
    assert weight.data_ptr() == pointer
    assert torch.equal(weight, before)


# ------------------------------------------------------------------------------------------------- damage


def test_each_flipped_bit_is_found(folder: Path) -> None:
    """Some bit of each position of the small files, and of a sample of the tensors' bytes."""
    rng = np.random.default_rng(0)
    for name, content in files_of(folder).items():
        for position in range(len(content)):
            if name.endswith(".safetensors") and position % 5:
                continue
            changed = bytearray(content)
            changed[position] ^= 1 << int(rng.integers(8))
            (folder / name).write_bytes(changed)
            with pytest.raises(CheckpointError, match="step-1"):
                Checkpoint.open(folder)
        (folder / name).write_bytes(content)
    Checkpoint.open(folder)


def test_each_truncation_and_extension_is_found(folder: Path) -> None:
    for name, content in files_of(folder).items():
        for changed in (b"", content[:-1], content[: len(content) // 2], content + b"\0", content + b"\n"):
            (folder / name).write_bytes(changed)
            said = "damaged" if name == MANIFEST else f"{len(changed)} bytes, {len(content)} were written"
            with pytest.raises(CheckpointError, match=f"{name}: {said}"):
                Checkpoint.open(folder)
        (folder / name).write_bytes(content)


def test_each_missing_file_is_named(folder: Path) -> None:
    for name, content in files_of(folder).items():
        (folder / name).unlink()
        with pytest.raises(CheckpointError, match=name):
            Checkpoint.open(folder)
        (folder / name).mkdir()
        with pytest.raises(CheckpointError, match=name):
            Checkpoint.open(folder)
        (folder / name).rmdir()
        (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"3",
        b'"schema"',
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"schema": 1, "files": [], "aliases": {}}',
        b'{"schema": 1, "files": {}, "aliases": []}',
        b'{"schema": 1, "files": {}, "aliases": {}}',
        b'{"schema": 1, "files": {"recipe.toml": 7}, "aliases": {}}',
        b'{"schema": 1, "files": {"recipe.toml": {"bytes": []}}, "aliases": {}}',
        b'{"schema": {}, "files": {}, "aliases": {}}',
    ],
)
def test_a_manifest_that_is_none_is_refused(folder: Path, content: bytes) -> None:
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(CheckpointError, match=MANIFEST):
        Checkpoint.open(folder)


@settings(max_examples=60, deadline=None)
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=4),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=6,
    ),
    place=st.sampled_from(["schema", "files", "aliases", "entry", "table"]),
)
def test_wrong_types_with_a_fitting_digest_give_one_clear_error(
    value: Any, place: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("types") / "step-1"
    write_checkpoint(folder, tensors(), TEXTS)

    def change(manifest: dict[str, Any]) -> None:
        if place == "entry":
            manifest["files"]["recipe.toml"] = value
        elif place == "table":
            manifest["aliases"]["model.safetensors"] = value
        else:
            manifest[place] = value

    rewrite_manifest(folder, change)
    try:
        Checkpoint.open(folder).tensors("model.safetensors")
    except CheckpointError:
        pass
    else:
        harmless = place in ("aliases", "table") and isinstance(value, dict)
        assert harmless or (place == "schema" and value == 1)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/../../secret", "a/b", "..", ".", "", "a\\b", "a\0b"])
def test_a_manifest_cannot_reach_outside_its_folder(folder: Path, name: str) -> None:
    (folder.parent / "secret").write_bytes(b"x")
    entry = {"bytes": 1, "sha256": hashlib.sha256(b"x").hexdigest()}
    rewrite_manifest(folder, lambda manifest: manifest["files"].update({name: entry}))
    with pytest.raises(CheckpointError, match="step-1"):
        Checkpoint.open(folder).text(name)


def test_an_alias_of_nothing_is_refused(folder: Path) -> None:
    rewrite_manifest(folder, lambda manifest: manifest["aliases"]["model.safetensors"].update(a="gone"))
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        Checkpoint.open(folder).tensors("model.safetensors")


def test_another_schema_is_named(folder: Path) -> None:
    rewrite_manifest(folder, lambda manifest: manifest.update(schema=99))
    with pytest.raises(CheckpointError, match=r"schema 99, this version reads 1"):
        Checkpoint.open(folder)


def test_a_file_outside_the_manifest_is_never_read(folder: Path) -> None:
    (folder / "extra.json").write_text("{}")
    opened = Checkpoint.open(folder)
    for read in (opened.text, opened.json, opened.tensors):
        with pytest.raises(CheckpointError, match=r"extra\.json: this checkpoint has no such file"):
            read("extra.json")
    with pytest.raises(CheckpointError, match=r"Did you mean 'recipe\.toml'"):
        opened.text("recipe.tml")


def test_the_wrong_reader_gives_one_clear_error(folder: Path) -> None:
    opened = Checkpoint.open(folder)
    with pytest.raises(CheckpointError, match=r"recipe\.toml: cannot be read"):
        opened.tensors("recipe.toml")
    with pytest.raises(CheckpointError, match=r"recipe\.toml: not valid JSON"):
        opened.json("recipe.toml")


def test_text_that_is_not_utf8_gives_one_clear_error(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "c", {"m.safetensors": {"a": torch.full((9,), float("nan"))}}, {})
    with pytest.raises(CheckpointError, match=r"m\.safetensors: cannot be read"):
        Checkpoint.open(tmp_path / "c").text("m.safetensors")


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(CheckpointError, match="not a checkpoint"):
            Checkpoint.open(path)


def test_an_unreadable_file_gives_one_clear_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(module, "_sha256", refuse)
    with pytest.raises(CheckpointError, match="cannot be read"):
        Checkpoint.open(folder)


# ------------------------------------------------------------------------------------ written whole or not


def make_file(path: Path) -> None:
    path.write_text("mine")


def make_full_folder(path: Path) -> None:
    path.mkdir()
    (path / "mine").write_text("mine")


def make_dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize("occupy", [make_file, Path.mkdir, make_full_folder, make_dangling_link])
def test_what_exists_is_never_overwritten(tmp_path: Path, occupy: Callable[[Path], None]) -> None:
    folder = tmp_path / "step-1"
    occupy(folder)
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    with pytest.raises(CheckpointError, match="exists already"):
        write_checkpoint(folder, tensors(), TEXTS)
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before
    assert not folder.is_file() or folder.read_text() == "mine"


def test_a_checkpoint_is_not_written_twice(folder: Path) -> None:
    before = files_of(folder)
    with pytest.raises(CheckpointError, match="exists already"):
        write_checkpoint(folder, tensors(2.0), TEXTS)
    assert files_of(folder) == before


def test_any_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnicodeEncodeError):
        write_checkpoint(tmp_path / "step-1", tensors(), {"x.txt": "\ud800"})
    monkeypatch.setattr(module, "_sha256", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(tmp_path / "step-1", tensors(), TEXTS)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_place_of_the_parent_folder(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("mine")
    with pytest.raises(CheckpointError, match="could not be written"):
        write_checkpoint(tmp_path / "checkpoints" / "step-1", tensors(), TEXTS)
    assert (tmp_path / "checkpoints").read_text() == "mine"


def test_the_manifest_is_last_and_everything_is_on_disk_before_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    rename = Path.rename

    def watch_rename(self: Path, target: Path) -> Path:
        synced.append("rename")
        return rename(self, target)

    fsync = module._fsync
    monkeypatch.setattr(module, "_fsync", lambda path: (synced.append(path.name), fsync(path)))
    monkeypatch.setattr(Path, "rename", watch_rename)
    write_checkpoint(tmp_path / "step-1", tensors(), TEXTS)
    assert set(synced[:5]) == {*TEXTS, "model.safetensors", "training.safetensors"}
    assert synced[5:] == [MANIFEST, "step-1.tmp", "rename", tmp_path.name]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB; needs the right to mount one."""
    place = tmp_path / "small"
    place.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    done = subprocess.run([mount, "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], capture_output=True)
    if done.returncode:
        pytest.skip(f"no small file system here: {done.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("room", [0, 1, 5, 8, 26, 28])
def test_a_full_disk_leaves_the_earlier_checkpoint_and_nothing_else(small_disk: Path, room: int) -> None:
    """Filled up to ``room`` pages, so that it is each time another write that fails."""
    write_checkpoint(small_disk / "step-1", tensors(), TEXTS)
    before = files_of(small_disk / "step-1")
    with (small_disk / "filler").open("wb", buffering=0) as filler:
        while shutil.disk_usage(small_disk).free > room * 4096:
            filler.write(bytes(4096))
    with pytest.raises(
        CheckpointError, match=r"step-2: the checkpoint could not be written: .*No space left"
    ) as caught:
        write_checkpoint(
            small_disk / "step-2",
            {"a.safetensors": {"a": torch.ones(6000)}, "b.safetensors": {"b": torch.ones(20000)}},
            TEXTS,
        )
    assert "Earlier checkpoints are untouched" in str(caught.value)
    assert sorted(path.name for path in small_disk.iterdir()) == ["filler", "step-1"]
    assert files_of(small_disk / "step-1") == before
    assert latest_checkpoint(small_disk)[0].folder.name == "step-1"
    (small_disk / "filler").unlink()
    write_checkpoint(small_disk / "step-2", tensors(), TEXTS)


def run_script(script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


LIMITED = """
import resource, sys
import torch
from groundup.core.checkpoint import write_checkpoint
from groundup.core.errors import CheckpointError
write_checkpoint(sys.argv[1] + "/step-1", {"m.safetensors": {"a": torch.ones(100)}}, {})
for limit in (8000, 300, 1):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        write_checkpoint(sys.argv[1] + "/step-2", {"m.safetensors": {"a": torch.ones(4000)}}, {"t.txt": "text"})
    except CheckpointError as error:
        print("refused", error)
"""


def test_a_file_size_limit_is_one_clear_error(tmp_path: Path) -> None:
    said = run_script(LIMITED, str(tmp_path))
    assert said.count("refused") == 3
    assert "could not be written" in said
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]
    Checkpoint.open(tmp_path / "step-1")


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from groundup.core import checkpoint as module

folder, kind, times = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
tensors = {"model.safetensors": {"a": torch.ones(200_000)}, "training.safetensors": {"b": torch.zeros(50_000)}}
texts = {"state.json": "{}", "recipe.toml": ""}

def write(step):
    module.write_checkpoint(folder / f"step-{step}", tensors, texts)

def die_before(call_number):
    # Each call that touches the disk counts; the process dies just before the given one.
    calls = [0]
    def guard(function):
        def guarded(*arguments, **options):
            calls[0] += 1
            if calls[0] == call_number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)
        return guarded
    module.save_file, module._fsync, module._sha256 = map(guard, (module.save_file, module._fsync, module._sha256))
    for name in ("write_bytes", "mkdir", "rename"):
        setattr(Path, name, guard(getattr(Path, name)))

random.seed(0)
begin = time.perf_counter(); write(0); whole_s = time.perf_counter() - begin
for i in range(1, times + 1):
    child = os.fork()
    if child == 0:
        if kind == "calls":
            die_before(i)
            write(i)
            os._exit(0)
        step = i * 1000
        while True:
            write(step)
            step += 1
    if kind == "moments":
        time.sleep(random.random() * 3 * whole_s)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    print(os.WTERMSIG(status))
"""


@pytest.mark.parametrize(("kind", "times"), [("moments", 25), ("calls", 20)])
def test_a_kill_leaves_a_whole_checkpoint_or_none(tmp_path: Path, kind: str, times: int) -> None:
    """SIGKILL at random moments, and before each single call that touches the disk."""
    signals = run_script(KILLED, str(tmp_path), kind, str(times)).split()
    killed = signals.count("9")
    assert killed == times if kind == "moments" else killed == 18  # 18 calls, then two undisturbed writes
    names = {path.name for path in tmp_path.iterdir()}
    whole = {name for name in names if not name.endswith(".tmp")}
    assert "step-0" in whole
    for name in whole:
        Checkpoint.open(tmp_path / name).tensors("training.safetensors")
    found, passed_over = latest_checkpoint(tmp_path)
    assert passed_over == []
    assert found.folder.name == max(whole, key=lambda name: int(name.removeprefix("step-")))
    torn = sorted(names - whole)
    assert torn  # the test has no teeth unless some kill struck in the middle
    write_checkpoint(tmp_path / torn[0].removesuffix(".tmp"), tensors(), TEXTS)  # a torn folder is no obstacle
    assert not (tmp_path / torn[0]).exists()


# ------------------------------------------------------------------------------------------------- latest


def test_the_latest_is_the_highest_step_that_verifies(tmp_path: Path) -> None:
    for step in (9, 10, 100):
        write_checkpoint(tmp_path / f"step-{step}", tensors(step), TEXTS)
    for other in ("step-200.tmp", "step-best", "step-", "step-²"):
        (tmp_path / other).mkdir()
    (tmp_path / "step-300").write_text("a file")
    assert latest_checkpoint(tmp_path)[0].folder.name == "step-100"

    (tmp_path / "step-100" / "recipe.toml").write_text("changed")
    found, passed_over = latest_checkpoint(tmp_path)
    assert found.folder.name == "step-10"
    assert len(passed_over) == 1
    assert "step-100/recipe.toml" in passed_over[0]

    (tmp_path / "step-10" / MANIFEST).unlink()
    assert latest_checkpoint(tmp_path)[0].folder.name == "step-9"

    shutil.rmtree(tmp_path / "step-9")
    with pytest.raises(CheckpointError, match=r"no usable checkpoint: .*step-100.*; .*step-10"):
        latest_checkpoint(tmp_path)


def test_no_checkpoint_at_all(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(CheckpointError, match="no usable checkpoint"):
            latest_checkpoint(path)
