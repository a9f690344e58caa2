"""Whatever bytes a file holds, a source gives rows and rejects that add up, or one DataError; it never hangs."""

from __future__ import annotations

import gzip
import io
import json as json_text
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from groundup.core.dataset import Dataset
from groundup.core.errors import DataError
from groundup.data.pixels import MAX_PIXELS, open_image
from groundup.data.sources import (
    any_file,
    arrow,
    csv,
    idx,
    image_folder,
    json,
    json_lines,
    parquet,
    text_files,
    text_lines,
)

QUICK, LONG = 60, 1000

checked = settings(
    max_examples=QUICK, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=5000
)
checked_long = settings(checked, max_examples=LONG)


def table() -> bytes:
    rows = [f'{i},{i / 7:.3f},2024-01-{i % 28 + 1:02},"name, {i % 3}",{"é" * (i % 4)}' for i in range(40)]
    return ("id,value,when,name,accents\n" + "\n".join(rows) + "\n").encode()


def lines() -> bytes:
    rows = [{"a": i, "b": {"c": "é" * (i % 3)}, "d": [{"role": "user", "content": str(i)}]} for i in range(30)]
    return "".join(json_text.dumps(row, ensure_ascii=i % 2 == 0) + "\n" for i, row in enumerate(rows)).encode()


def picture(form: str) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (9, 11, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, format=form)
    return buffer.getvalue()


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("a/1.png", "a/2.png", "b/3.png"):
            member = tarfile.TarInfo(name)
            member.size = len(picture("PNG"))
            archive.addfile(member, io.BytesIO(picture("PNG")))
    return buffer.getvalue()


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a/1.png", "a/2.png", "b/3.png"):
            archive.writestr(name, picture("PNG"))
    return buffer.getvalue()


def idx_file() -> bytes:
    return bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (5, 4, 3)) + bytes(range(60))


def columns(form: str) -> bytes:
    buffer = io.BytesIO()
    frame = pl.DataFrame({"a": [1, 2, 3], "b": ["x", "y", None], "c": [[1.5], [], None]})
    if form == "parquet":
        frame.write_parquet(buffer, use_pyarrow=True)
    else:
        frame.write_ipc(buffer, compat_level=pl.CompatLevel.oldest())
    return buffer.getvalue()


@st.composite
def damaged(draw: Any, whole: bytes) -> bytes:
    """A good file with bytes flipped, put in, taken out, or cut off."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        kind = draw(st.sampled_from(["flip", "insert", "delete", "cut", "double", "zero"]))
        if kind == "flip" and data:
            data[at] ^= draw(st.integers(1, 255))
        elif kind == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=8))
        elif kind == "delete":
            del data[at : at + draw(st.integers(1, 40))]
        elif kind == "cut":
            del data[at:]
        elif kind == "double":
            data[at:at] = data[at : at + draw(st.integers(1, 200))]
        else:
            data[at : at + 4] = b"\0\0\0\0"
    return bytes(data)


def accounted(read: Callable[[], Dataset]) -> Dataset | None:
    """Rows and rejects that add up, or one DataError that says something."""
    try:
        dataset = read()
    except DataError as error:
        assert len(str(error)) > 20  # noqa: PT017
        return None
    quarantine = dataset.quarantine
    assert quarantine.accepted == len(dataset)
    assert quarantine.accepted + len(quarantine.rejected) == quarantine.read
    assert all(one.reason for one in quarantine.rejected)
    dataset.fingerprint()
    return dataset


SOURCES: dict[str, tuple[Callable[[Path], Callable[[], Dataset]], bytes]] = {
    "csv": (lambda path: csv(path), table()),
    "csv, times": (lambda path: csv(path, time="when", max_rejected=1000), table()),
    "csv, gz": (lambda path: csv(path), gzip.compress(table())),
    "csv, utf-16": (lambda path: csv(path), table().decode().encode("utf-16")),
    "csv, gb18030": (lambda path: csv(path, max_rejected=0.5), "名,值\n上海,1\n北京,2\n广州,3\n".encode("gb18030")),
    "json_lines": (lambda path: json_lines(path, max_rejected=0.9), lines()),
    "json": (lambda path: json(path), b"[" + b",".join(lines().strip().split(b"\n")) + b"]"),
    "text_lines": (lambda path: text_lines(path, label="first", max_rejected=0.9), table()),
    "text_files": (lambda path: lambda: text_files(path, encoding="detect"), table()),
    "idx": (lambda path: lambda: idx(path), idx_file()),
    "tar": (lambda path: lambda: image_folder(path), tar()),
    "tar.gz": (lambda path: lambda: image_folder(path), gzip.compress(tar())),
    "zip": (lambda path: lambda: image_folder(path), zipped()),
    "text in a tar": (lambda path: lambda: text_files(path), tar()),
    "any csv": (lambda path: lambda: any_file(path), table()),
    "any tar": (lambda path: lambda: any_file(path), tar()),
    "any zip": (lambda path: lambda: any_file(path), zipped()),
    "any json": (lambda path: lambda: any_file(path), lines()),
    "any idx": (lambda path: lambda: any_file(path), idx_file()),
}


@pytest.mark.parametrize("name", SOURCES)
def test_the_good_file_is_read(tmp_path: Path, name: str) -> None:
    source, whole = SOURCES[name]
    path = tmp_path / "file"
    path.write_bytes(whole)
    if name != "text in a tar":
        assert accounted(source(path)) is not None


def fuzz(name: str, tmp_path: Path, data: Any) -> None:
    source, whole = SOURCES[name]
    path = tmp_path / "file"
    path.write_bytes(data.draw(damaged(whole)))
    found = accounted(source(path))
    made = source(path)
    if found is not None and hasattr(made, "shards"):
        shards = list(made.shards(7))
        assert pl.concat([shard.frame for shard in shards]).equals(found.frame)
        assert sum(len(shard.quarantine.rejected) for shard in shards) == len(found.quarantine.rejected)


@pytest.mark.parametrize("name", SOURCES)
@given(data=st.data())
@checked
def test_damaged_files(tmp_path: Path, name: str, data: Any) -> None:
    fuzz(name, tmp_path, data)


@pytest.mark.slow
@pytest.mark.parametrize("name", SOURCES)
@given(data=st.data())
@checked_long
def test_damaged_files_for_long(tmp_path: Path, name: str, data: Any) -> None:
    fuzz(name, tmp_path, data)


@pytest.mark.parametrize("name", ["csv", "json_lines", "json", "text_lines", "text_files", "idx", "tar", "any csv"])
@given(data=st.binary(max_size=300))
@checked
def test_any_bytes_at_all(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    accounted(SOURCES[name][0](path))


FORMS = ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"]


@pytest.mark.parametrize("form", FORMS)
@given(data=st.data())
@checked
def test_damaged_images(form: str, data: Any) -> None:
    try:
        image = open_image(data.draw(damaged(picture(form))), "picture")
    except DataError as error:
        assert str(error).startswith("picture: ")  # noqa: PT017
        return
    assert image.width * image.height <= MAX_PIXELS


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@given(data=st.data())
@checked_long
def test_damaged_images_for_long(form: str, data: Any) -> None:
    try:
        open_image(data.draw(damaged(picture(form))), "picture")
    except DataError as error:
        assert str(error).startswith("picture: ")  # noqa: PT017


@pytest.mark.parametrize("form", ["parquet", "arrow"])
@given(data=st.data())
@settings(checked, max_examples=30)
def test_columnar_files_that_are_cut_or_not_what_they_say(tmp_path: Path, form: str, data: Any) -> None:
    """Bytes flipped inside are left to Arrow's own checks: it is a library of C++, and may end the process."""
    whole = columns(form)
    cut = whole[: data.draw(st.integers(1, len(whole) - 1))]
    path = tmp_path / "file"
    path.write_bytes(cut if data.draw(st.booleans()) else data.draw(st.binary(min_size=1, max_size=100)))
    source = parquet(path) if form == "parquet" else arrow(path)
    accounted(source)


# -------------------------------------------------------------------------------------------- attacks


def add(archive: tarfile.TarFile, name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> None:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    content = picture("PNG") if kind == tarfile.REGTYPE else b""
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def test_a_tar_that_leads_out_of_itself(tmp_path: Path) -> None:
    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w") as archive:
        add(archive, "cats/fine.png")
        add(archive, "../cats/up.png")
        add(archive, "/cats/absolute.png")
        add(archive, "cats/../../up.png")
        add(archive, "cats/link.png", tarfile.SYMTYPE, "/etc/hostname")
        add(archive, "cats/hard.png", tarfile.LNKTYPE, "cats/fine.png")
        add(archive, "cats/device", tarfile.CHRTYPE)
        add(archive, "cats/pipe", tarfile.FIFOTYPE)
        add(archive, "cats/fine.png")
    dataset = image_folder(path)
    assert dataset.frame["path"].to_list() == ["cats/fine.png"]
    assert dataset.quarantine.read == 9
    reasons = {one.name: one.reason.partition(":")[0] for one in dataset.quarantine.rejected}
    assert reasons == {
        "../cats/up.png": "unsafe name",
        "/cats/absolute.png": "unsafe name",
        "cats/../../up.png": "unsafe name",
        "cats/link.png": "unsafe member",
        "cats/hard.png": "unsafe member",
        "cats/device": "unsafe member",
        "cats/pipe": "unsafe member",
        "cats/fine.png": "a second file of this name",
    }
    assert [p.name for p in tmp_path.iterdir()] == ["evil.tar"]


def test_a_zip_that_leads_out_of_itself(tmp_path: Path) -> None:
    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cats/fine.png", picture("PNG"))
        archive.writestr("../up.png", picture("PNG"))
        archive.writestr("C:/windows.png", picture("PNG"))
        link = zipfile.ZipInfo("cats/link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/hostname")
    dataset = image_folder(path)
    assert dataset.frame["path"].to_list() == ["cats/fine.png"]
    assert sorted(one.name for one in dataset.quarantine.rejected) == ["../up.png", "C:/windows.png", "cats/link.png"]


def test_bombs(tmp_path: Path) -> None:
    zeros = bytes(100 << 20)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.png", zeros)
    member = tarfile.TarInfo("zeros.png")
    member.size = len(zeros)
    with tarfile.open(tmp_path / "bomb.tar.gz", "w:gz", compresslevel=9) as packed:
        packed.addfile(member, io.BytesIO(zeros))
    (tmp_path / "bomb.jsonl.gz").write_bytes(gzip.compress(b'{"a": "' + zeros + b'"}'))
    for name, read in (
        ("bomb.zip", lambda path: image_folder(path)),
        ("bomb.tar.gz", lambda path: image_folder(path)),
        ("bomb.jsonl.gz", lambda path: json_lines(path)()),
    ):
        with pytest.raises(DataError, match="taken for an attack"):
            read(tmp_path / name)


def test_an_image_of_too_many_pixels() -> None:
    buffer = io.BytesIO()
    Image.new("1", (8000, 7000)).save(buffer, format="PNG")
    assert len(buffer.getvalue()) < 100_000
    with pytest.raises(DataError, match="more than the limit of 50,000,000"):
        open_image(buffer.getvalue(), "picture")


def test_formats_that_run_other_programs_are_not_opened() -> None:
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(DataError, match="no known image format"):
        open_image(script, "picture")


def test_json_nested_deeply_and_numbers_too_long(tmp_path: Path) -> None:
    path = tmp_path / "deep.json"
    path.write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(DataError, match=r"nested|not valid"):
        json(path)()
    rows = ['{"a": 1}'] * 30 + [
        '{"a": ' + '{"b":' * 90 + "1" + "}" * 91,
        '{"a": ' + "9" * 5000 + "}",
        '{"a": "\\ud800"}',
    ]
    path.write_text("\n".join(rows))
    dataset = json_lines(path, max_rejected=3)()
    assert len(dataset) == 30
    assert [one.line for one in dataset.quarantine.rejected] == [31, 32, 33]


def test_nothing_reaches_for_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("a source reached for the network")

    monkeypatch.setattr("socket.socket", refuse)
    monkeypatch.setattr("socket.create_connection", refuse)
    for name, (source, whole) in SOURCES.items():
        path = tmp_path / "file"
        path.write_bytes(whole)
        if name != "text in a tar":
            assert accounted(source(path)) is not None
