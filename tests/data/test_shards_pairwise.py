"""Duplicates among rows that are never all in memory, and what happens where what is compared does not fit."""

from __future__ import annotations

import dataclasses
import io
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from groundup.core.dataset import Dataset, Kind, apply
from groundup.core.errors import DataError
from groundup.data.cleaning import drop_exact_duplicates, drop_near_duplicates, drop_near_images
from groundup.data.shards import Local, Room, Workshop, carry_out, gather_removed
from groundup.data.shards.carry import cut

ROOM = Room(10**9, 2)


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("key_bytes", [1, 200_000])
def test_equal_rows_are_found_in_buckets(
    named: bool, key_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("groundup.data.shards.equal_rows.KEY_BYTES", key_bytes)
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"a": rng.integers(0, 40, 3000), "b": rng.choice(["x", "y", None], 3000)}).with_columns(
        name=pl.Series([f"n{i}" for i in range(3000)])
    )
    kinds: dict[str, Kind] = {"a": "number", "b": "category", "name": "id" if named else "text"}
    dataset = Dataset.of(frame if named else frame.drop("name"), kinds if named else {"a": "number", "b": "category"})
    step = drop_exact_duplicates()
    expected = apply(step, dataset, "exact")
    (tmp_path / "in").mkdir()
    shards = cut(dataset, tmp_path / "in", int(dataset.frame.estimated_size()) // 7)
    found = carry_out(Workshop(Local(2), Room(10**9, 2), tmp_path / "out"), step, shards, "exact")
    assert found.whole().frame.equals(expected.frame)
    assert found.history[-1].num_removed == expected.history[-1].num_removed == 3000 - 120
    assert set(found.history[-1].removed) <= set(expected.history[-1].removed)


WORDS = [f"word{i}" for i in range(400)]


def document(seed: int, changed: int = 0) -> str:
    """Of 120 words, in so many places six others: near to what has one place less, and not to what has two."""
    words = random.Random(seed).choices(WORDS, k=120)
    for place in range(changed):
        words[20 * place : 20 * place + 6] = [f"new{seed}at{place}and{k}" for k in range(6)]
    return " ".join(words)


SOME = [document(i, changed) for i in range(4) for changed in range(7)]
ODD = ["", "a b", "b a", "a  b", "x " * 9, "x " * 12, None]


def texts(values: Sequence[str | None]) -> Dataset:
    columns = {"path": [f"{i}.txt" for i in range(len(values))], "text": list(values)}
    frame = pl.DataFrame(columns, schema={"path": pl.String, "text": pl.String})
    return Dataset.of(frame, {"path": "id", "text": "text"})


def pictures(seeds: Sequence[int | None]) -> Dataset:
    """Smooth colours, as a photograph's are; the same once more for a seed beyond ten, in poorer quality."""
    values: list[bytes | None] = []
    for seed in seeds:
        rough = np.random.default_rng((seed or 0) % 10).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        image = Image.fromarray(rough).resize((64, 48), Image.Resampling.BICUBIC)
        image.save(buffer, format="JPEG", quality=95 if (seed or 0) < 10 else 30 + (seed or 0))
        values.append(None if seed is None else buffer.getvalue())
    frame = pl.DataFrame(
        {"path": [f"{i}.jpg" for i in range(len(values))], "image": pl.Series(values, dtype=pl.Binary)}
    )
    return Dataset.of(frame, {"path": "id", "image": "image"})


def removed(folder: Path) -> dict[str, str]:
    """Every row that a step removed, with its reason."""
    count = gather_removed([folder], folder / "removed.jsonl")
    lines = (folder / "removed.jsonl").read_text().splitlines() if count else []
    return {line["row"]: line["reason"] for line in map(json.loads, lines)}


def assert_same(step: Any, dataset: Dataset, folder: Path, count: int, room: Room = ROOM) -> None:
    """The same rows and reasons over so many shards as over the table."""
    (folder / "in").mkdir(parents=True)
    shards = cut(dataset, folder / "in", max(1, int(dataset.frame.estimated_size()) // count))
    found = carry_out(Workshop(Local(2), room, folder / "out"), step, shards, "near")
    expected = apply(step, dataset, "near")
    assert found.whole().frame.equals(expected.frame)
    assert removed(folder / "out") == dict(expected.history[-1].removed)
    assert not list((folder / "out" / "near").glob("keys*"))


@given(
    values=st.lists(st.sampled_from([*SOME, *ODD]), max_size=40),
    count=st.integers(1, 5),
    similarity=st.sampled_from([0.3, 0.8, 0.95, 1.0]),
    sizes=st.sampled_from([(4096, 64, 100_000), (3, 200_000, 2), (1, 10**7, 100_000)]),
)
@settings(max_examples=60, deadline=None)
def test_texts_in_shards_lose_what_the_table_loses(
    values: list[str | None],
    count: int,
    similarity: float,
    sizes: tuple[int, int, int],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("groundup.data.shards.alike_rows.ROWS_AT_ONCE", sizes[0])
        patch.setattr("groundup.data.shards.alike_rows.BAND_BYTES", sizes[1])
        patch.setattr("groundup.data.cleaning.clusters.PAIRS_AT_ONCE", sizes[2])
        step = drop_near_duplicates(similarity=similarity)
        assert_same(step, texts(values), tmp_path_factory.mktemp("near"), count)


def test_many_texts_in_shards_lose_what_the_table_loses(tmp_path: Path) -> None:
    draw = random.Random(0)
    values = [document(draw.randrange(300), draw.randrange(7)) for _ in range(3000)]
    dataset = texts(values)
    kept = drop_near_duplicates()(dataset)
    assert 300 <= len(kept) < 1500
    stay = set(kept.frame["path"].to_list())
    assert any(why.split()[-1] not in stay for _, why in kept.pending), "some are linked to their first by others only"
    assert_same(drop_near_duplicates(), dataset, tmp_path, 9, Room(64_000_000, 1))


@given(
    seeds=st.lists(st.sampled_from([*range(6), *range(10, 16), *range(20, 26), None]), max_size=20),
    count=st.integers(1, 4),
    distance=st.sampled_from([2, 4, 11]),
)
@settings(max_examples=20, deadline=None)
def test_images_in_shards_lose_what_the_table_loses(
    seeds: list[int | None], count: int, distance: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    step = drop_near_images(distance=distance, similarity=0.99)
    assert_same(step, pictures(seeds), tmp_path_factory.mktemp("near"), count)


@pytest.mark.parametrize("stop", ["part_bands", "look_again", "hold_against_first", "hold_against_others", "gone_of"])
def test_near_duplicates_go_on_where_they_were_stopped(
    stop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = texts([*SOME, *ODD, *reversed(SOME)])
    (tmp_path / "in").mkdir()
    shards = cut(dataset, tmp_path / "in", int(dataset.frame.estimated_size()) // 4)
    step = drop_near_duplicates(similarity=0.6)
    whole = carry_out(Workshop(Local(1), ROOM, tmp_path / "whole"), step, shards, "near")
    stopped = Workshop(Local(1), ROOM, tmp_path / "stopped")
    with monkeypatch.context() as patch:
        patch.setattr(f"groundup.data.shards.alike_rows.{stop}", lambda *_: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            carry_out(stopped, step, shards, "near")
    monkeypatch.setattr("groundup.data.cleaning.duplicates.signatures", lambda *_: 1 // 0)  # all were made before
    found = carry_out(stopped, step, shards, "near")
    assert found.files == whole.files
    assert found.history == whole.history


@dataclasses.dataclass(frozen=True)
class DropLonger:
    """A step of one's own, by signatures."""

    CONTRACT: ClassVar = "pairwise"

    def signature(self, shard: Dataset) -> Any:
        return np.zeros((len(shard), 128))

    def removed(self, signatures: list[Any]) -> list[dict[int, str]]:
        return [{} for _ in signatures]


def test_signatures_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    texts = [" ".join(str(i * k) for k in range(20)) for i in range(400)]
    dataset = Dataset.of(pl.DataFrame({"text": texts}), {"text": "text"})
    (tmp_path / "in").mkdir()
    shards = cut(dataset, tmp_path / "in", int(dataset.frame.estimated_size()) // 4)
    small = Workshop(Local(1), Room(200_000, 1), tmp_path / "out")
    with pytest.raises(
        DataError, match=r"near: what is compared of the first 2 of 5 shards takes .* of a memory of .* by keys"
    ):
        carry_out(small, DropLonger(), shards, "near")
