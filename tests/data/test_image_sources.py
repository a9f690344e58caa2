"""Images from folders, archives, tables and IDX files; what is none is kept aside with its reason."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from groundup.core.errors import DataError
from groundup.data.sources import idx, image_folder, image_table


def picture(grey: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (5, 4), grey).save(buffer, format="PNG")
    return buffer.getvalue()


NAMES = ["set/train/cat/0.png", "set/train/dog/1.png", "set/test/cat/2.png", "set/test/dog/notes.png"]


def packed(folder: Path, form: str) -> Path:
    contents = {name: picture(i) if "notes" not in name else b"no picture" for i, name in enumerate(NAMES)}
    path = folder / f"set.{form}"
    if form == "folder":
        for name, data in contents.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return folder / "set"
    if form == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in contents.items():
                archive.writestr(name, data)
        return path
    with tarfile.open(path, {"tar": "w", "tar.gz": "w:gz", "tar.xz": "w:xz", "tar.bz2": "w:bz2"}[form]) as tar:
        for name, data in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize("form", ["folder", "tar", "tar.gz", "tar.xz", "tar.bz2", "zip"])
def test_parts_and_classes_by_folder(tmp_path: Path, form: str) -> None:
    dataset = image_folder(packed(tmp_path, form))
    assert dataset.kinds == {"path": "id", "image": "image", "part": "category", "label": "category"}
    assert dataset.frame.select("part", "label").rows() == [("test", "cat"), ("train", "cat"), ("train", "dog")]
    assert dataset.frame["image"].to_list() == [picture(2), picture(0), picture(1)]
    assert [one.name.rpartition("/")[2] for one in dataset.quarantine.rejected] == ["notes.png"]
    assert dataset.quarantine.read == 4


def test_a_pattern_and_a_damaged_archive(tmp_path: Path) -> None:
    assert len(image_folder(packed(tmp_path, "tar"), pattern="**/cat/*.png")) == 2
    with pytest.raises(DataError, match="no file matches"):
        image_folder(tmp_path / "set.tar", pattern="*.jpg")
    whole = packed(tmp_path, "tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: 512 + 40])
    with pytest.raises(DataError, match=r"cut\.tar"):
        image_folder(tmp_path / "cut.tar")
    (tmp_path / "not.tar").write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match="neither a folder nor an archive"):
        image_folder(tmp_path / "not.tar")


def test_images_by_a_table(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for i in range(3):
        (tmp_path / "pictures" / f"{i}.png").write_bytes(picture(i))
    (tmp_path / "pictures" / "bad.png").write_bytes(b"no picture")
    (tmp_path / "secret.png").write_bytes(picture())
    (tmp_path / "pictures" / "link.png").symlink_to(tmp_path / "secret.png")
    names = ["0.png", "1.png", "2.png", "bad.png", "gone.png", "../secret.png", "/etc/hostname", "link.png", ""]
    rows = "".join(f"{name},{i},{'ab'[i % 2]}\n" for i, name in enumerate(names))
    (tmp_path / "table.csv").write_text("file,size,kind\n" + rows)
    dataset = image_table("table.csv", image="file", images="pictures", max_rejected=10, folder=tmp_path)
    assert dataset.kinds == {"path": "id", "image": "image", "size": "number", "kind": "category"}
    assert dataset.frame["path"].to_list() == ["0.png", "1.png", "2.png"]
    assert dataset.frame["kind"].to_list() == ["a", "b", "a"]
    assert dataset.frame["image"].to_list() == [picture(i) for i in range(3)]
    reasons = [(one.name, one.reason.partition(":")[0]) for one in dataset.quarantine.rejected]
    assert reasons == [
        ("bad.png", "not an image"),
        ("gone.png", "not there"),
        ("../secret.png", "unsafe path"),
        ("/etc/hostname", "unsafe path"),
        ("link.png", "unsafe path"),
        ("", "no path"),
    ]
    with pytest.raises(DataError, match="6 of 9 rows"):
        image_table("table.csv", image="file", images="pictures", folder=tmp_path)
    with pytest.raises(DataError, match="Did you mean 'file'"):
        image_table("table.csv", image="fiel", folder=tmp_path)


def write_idx(path: Path, array: np.ndarray) -> None:  # type: ignore[type-arg]
    head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    path.write_bytes(gzip.compress(head + array.astype(np.uint8).tobytes()))


def test_idx(tmp_path: Path) -> None:
    pixels = np.arange(60).reshape(5, 4, 3)
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", pixels)
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", np.arange(5))
    dataset = idx("train-images-idx3-ubyte.gz", folder=tmp_path)
    assert np.array_equal(dataset.frame["image"].to_numpy(), pixels)
    assert dataset.frame["label"].to_list() == ["0", "1", "2", "3", "4"]
    assert dataset.kinds == {"image": "image", "label": "category"}
    write_idx(tmp_path / "other.gz", np.arange(4))
    with pytest.raises(DataError, match="labels of shape"):
        idx("train-images-idx3-ubyte.gz", labels="other.gz", folder=tmp_path)
    cut = gzip.decompress((tmp_path / "train-images-idx3-ubyte.gz").read_bytes())[:-1]
    (tmp_path / "cut").write_bytes(cut)
    with pytest.raises(DataError, match=r"says it holds \[5, 4, 3\]"):
        idx("cut", folder=tmp_path)


def test_mnist_signs_and_insects(shared_data: Path) -> None:
    digits = idx(shared_data / "img_mnist" / "t10k-images-idx3-ubyte.gz")
    assert len(digits) == 10_000
    assert digits.frame["label"].value_counts().height == 10
    signs = image_folder(shared_data / "img_sign_digits" / "sign_digits.tar")
    assert len(signs) == 2062
    assert signs.frame["label"].unique().sort().to_list() == [str(i) for i in range(10)]
    insects = image_folder(shared_data / "img_hymenoptera" / "hymenoptera_256.tar")
    counted = insects.frame.group_by("part", "label").len().sort("part", "label").rows()
    assert counted == [("train", "ants", 123), ("train", "bees", 121), ("val", "ants", 70), ("val", "bees", 83)]
    assert insects.frame.schema["image"] == pl.Binary
