"""Steps over shards give what they give in memory, whoever carries them out, and go on where they were stopped."""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.core.dataset import ROW, Dataset, apply
from groundup.core.errors import DataError
from groundup.core.preprocessing import fit_step
from groundup.data.shards import (
    Local,
    Processes,
    Room,
    Shards,
    Workshop,
    carry_out,
    executor,
    fingerprint,
    fit,
    fit_and_carry,
    open_shards,
    split_shards,
    verify,
    written,
)
from groundup.data.shards.carry import cut
from groundup.data.shards.executors import Executor
from groundup.data.shards.reading import read
from groundup.data.shards.removed import gather_removed
from groundup.data.splitting import by_time, k_fold, random, stratified

sys.path.insert(0, str(Path(__file__).parent))  # where worker processes find the steps too

import shard_steps as steps

ROOM = Room(10**9, 2)
MADE = steps.Made()


def shop(folder: Path, by: Executor | None = None, room: Room = ROOM) -> Workshop:
    return Workshop(by or Local(2), room, folder)


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    """One pool for all tests: starting a process takes a while."""
    pool = Processes(2)
    yield pool
    pool.close()


def sharded(dataset: Dataset, folder: Path, count: int = 7) -> Shards:
    folder.mkdir(parents=True, exist_ok=True)
    return cut(dataset, folder, max(1, int(dataset.frame.estimated_size()) // count))


@pytest.fixture(scope="module")
def made() -> Dataset:
    return MADE()


def as_split(dataset: Any, split: str) -> Any:
    import dataclasses

    return dataclasses.replace(dataset, split=split)


# ------------------------------------------------------------------------------------------------ the value


def test_rows_come_back_as_they_were(made: Dataset, tmp_path: Path) -> None:
    shards = sharded(made, tmp_path)
    assert len(shards.files) >= 7
    assert shards.whole().frame.equals(made.frame)
    opened = open_shards(tmp_path)
    assert opened == shards
    assert opened.kinds == made.kinds
    verify(opened)


@pytest.mark.parametrize("rows", [0, 1, 65_536, 65_537, 150_000])
def test_the_fingerprint_is_that_of_the_table_wherever_it_is_cut(rows: int, tmp_path: Path) -> None:
    table = steps.Made(rows)()
    assert fingerprint(sharded(table, tmp_path / "three", 3)) == table.fingerprint()
    assert fingerprint(sharded(table, tmp_path / "eight", 8)) == table.fingerprint()
    if rows:
        changed = table.with_frame(table.frame.with_columns(x=pl.col("x").fill_null(0.125)))
        assert changed.fingerprint() != table.fingerprint()


def test_a_damaged_or_missing_shard_is_found(made: Dataset, tmp_path: Path) -> None:
    shards = sharded(made, tmp_path)
    path = tmp_path / shards.files[2].name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"part-00002.parquet: the shard is damaged"):
        verify(open_shards(tmp_path))
    path.unlink()
    with pytest.raises(DataError, match=r"1 of .* shards are gone"):
        open_shards(tmp_path)
    (tmp_path / "shards.json").unlink()
    with pytest.raises(DataError, match="was not finished"):
        open_shards(tmp_path)


# ------------------------------------------------------------------------------------------------ each contract


STEPS: dict[str, Callable[..., Any]] = {
    "row-local": steps.clip,
    "row-local that removes": steps.drop_negative,
    "keyed": steps.fill_forward,
    "keyed that removes": steps.drop_first,
    "keyed by halo": steps.centred_median,
    "pairwise": steps.DropTwins(),
    "pairwise by likeness": steps.DropClose(),
    "whole": steps.rank,
}


@pytest.mark.parametrize("name", STEPS)
def test_a_step_over_shards_gives_what_it_gives_in_memory(name: str, made: Dataset, tmp_path: Path) -> None:
    step = STEPS[name]
    expected = apply(step, made, name)
    at = shop(tmp_path / "work")
    found = written(at, carry_out(at, step, sharded(made, tmp_path / "in"), name), "end")
    whole = found.whole()
    assert whole.frame.equals(expected.frame)
    assert found.kinds == expected.kinds
    (entry,), (known,) = found.history, expected.history
    assert (entry.rows_before, entry.rows_after, dict(entry.cells_changed)) == (
        known.rows_before,
        known.rows_after,
        dict(known.cells_changed),
    )
    assert entry.reasons() == known.reasons()
    assert set(entry.removed) <= set(known.removed)
    count = gather_removed([tmp_path / "work"], tmp_path / "removed.jsonl")
    assert count == len(known.removed)


def test_a_fitted_step_learns_from_all_shards_of_train(made: Dataset, tmp_path: Path) -> None:
    train = as_split(made, "train")
    step, seen = fit(shop(tmp_path / "work"), steps.FillMean(), sharded(train, tmp_path / "in"), "fit")
    known = fit_step(steps.FillMean(), train).learned
    assert step.learned["mean"] == pytest.approx(known["mean"], rel=1e-14)
    assert step.learned["rows"] == known["rows"]
    assert seen == {"train": len(made)}


@pytest.mark.parametrize("count", [1, 3, 11])
def test_a_sample_does_not_depend_on_the_shards(count: int, made: Dataset, tmp_path: Path) -> None:
    train = as_split(made, "train")
    step, seen = fit(shop(tmp_path / "work"), steps.CenterOnSample(), sharded(train, tmp_path / "in", count), "fit")
    assert step.learned == fit_step(steps.CenterOnSample(), train).learned
    assert seen == {"train": 50}
    assert len(set(step.learned["named"])) == 50


def test_a_chain_of_steps_is_carried_out_in_one_pass_and_booked_apart(made: Dataset, tmp_path: Path) -> None:
    parts = {"train": sharded(as_split(made, "train"), tmp_path / "in")}
    at, expected = shop(tmp_path / "work"), as_split(made, "train")
    for number, step in enumerate([steps.FillMean(), steps.clip, steps.note_gaps, steps.CenterOnSample()]):
        fitted = fit_step(step, expected)
        expected = apply(fitted, expected, f"s{number}")
        _, parts = fit_and_carry(at, step, parts, f"s{number}")
    assert not (tmp_path / "work" / "s1").exists()
    found = written(at, parts["train"], "end")
    np.testing.assert_allclose(found.whole().frame["x"], expected.frame["x"], rtol=1e-12)
    assert [e.step for e in found.history] == ["FillMean", "clip", "note_gaps", "CenterOnSample"]
    assert [e.learned_from for e in found.history] == [{"train": 20_000}, {}, {}, {"train": 50}]
    assert [dict(e.cells_changed) for e in found.history] == [dict(e.cells_changed) for e in expected.history]
    assert found.history[2].notes == ("x: 0 missing",)


def test_every_removed_row_is_listed_where_a_type_was_mended(made: Dataset, tmp_path: Path) -> None:
    from groundup.core.contract import contract

    @contract("row-local")
    def drop_most(dataset: Dataset) -> Dataset:
        known = pl.lit(1.0 if dataset.frame[ROW][0] else None)  # the first shard does not tell a type
        dataset = dataset.with_frame(dataset.frame.with_columns(known=known), {"known": "number"})
        return dataset.keep((dataset.frame[ROW] % 10 == 0).to_numpy(), "most: of them")

    at = shop(tmp_path / "work")
    found = written(at, carry_out(at, drop_most, sharded(made, tmp_path / "in", 3), "drop"), "end")
    assert found.whole().frame["known"].null_count() < len(found) == len(made) // 10
    assert gather_removed([tmp_path / "work"], tmp_path / "removed.jsonl") == len(made) * 9 // 10
    assert found.history[-1].num_removed == len(made) * 9 // 10


def test_counts_in_notes_add_up(made: Dataset, tmp_path: Path) -> None:
    at = shop(tmp_path / "work")
    found = written(at, carry_out(at, steps.note_gaps, sharded(made, tmp_path / "in"), "gaps"), "end")
    assert found.history[0].notes == (f"x: {made.frame['x'].null_count()} missing",)


def test_a_step_that_must_see_all_rows_is_refused_when_they_do_not_fit(made: Dataset, tmp_path: Path) -> None:
    small = Room(1_000_000, 1)
    with pytest.raises(DataError, match=r"rank: must see all 20,000 rows .* declare what it must see"):
        carry_out(shop(tmp_path / "work", room=small), steps.rank, sharded(made, tmp_path / "in"), "rank")


@settings(max_examples=15)
@given(
    values=st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=1, max_size=60),
    count=st.integers(1, 9),
    groups=st.integers(1, 4),
)
def test_whatever_the_rows_and_the_cuts(
    values: list[float | None], count: int, groups: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("any")
    frame = pl.DataFrame(
        {
            "x": pl.Series(values, dtype=pl.Float64),
            "site": [f"s{i % groups}" for i in range(len(values))],
            "time": pl.Series([(i * 31) % 17 for i in range(len(values))]).cast(pl.Datetime("us")),
        }
    )
    dataset = Dataset.of(frame, {"x": "number", "site": "category", "time": "time"})
    for name in ("row-local that removes", "keyed", "pairwise", "pairwise by likeness"):
        at = shop(folder / name, Local(1))
        found = written(at, carry_out(at, STEPS[name], sharded(dataset, folder / f"{name}-in", count), name), "end")
        assert found.whole().frame.equals(apply(STEPS[name], dataset, name).frame)


# ------------------------------------------------------------------------------------------------ splits


@pytest.mark.parametrize(
    "split",
    [
        functools.partial(random, seed=4),
        functools.partial(stratified, column="site", seed=4),
        functools.partial(by_time, column="time", valid=0.2),
        functools.partial(k_fold, folds=4, fold=1, way="stratified", column="site", seed=4),
    ],
    ids=["random", "stratified", "by_time", "k_fold"],
)
def test_a_split_of_shards_is_the_split_of_the_table(split: Any, made: Dataset, tmp_path: Path) -> None:
    at = shop(tmp_path / "work", room=Room(10**7, 2))
    parts = split_shards(at, split, sharded(made, tmp_path / "in"), "split", "split")
    for name, part in split(made).parts().items():
        assert parts[name].split == name
        assert parts[name].whole().frame.equals(part.frame)


# ------------------------------------------------------------------------------------------------ sources


def test_a_source_that_fits_stays_in_memory_and_one_that_does_not_is_cut(made: Dataset, tmp_path: Path) -> None:
    small = read(MADE, "made", Room(10**9, 1), tmp_path / "a")
    assert isinstance(small, Dataset)
    assert small.frame.equals(made.frame)
    large = read(steps.Made(200_000), "made", Room(20_000_000, 1), tmp_path / "b")
    assert isinstance(large, Shards)
    assert len(large.files) >= 2
    assert max(file.size_bytes for file in large.files) <= Room(20_000_000, 1).shard_bytes
    assert large.whole().frame.equals(steps.Made(200_000)().frame)
    assert large.whole().frame[ROW].to_list() == list(range(200_000))
    assert large.kinds == made.kinds


# ------------------------------------------------------------------------------------------------ runners


def bytes_of(folder: Path) -> dict[str, str]:
    """SHA-256 of every file, by its place in the folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def whole_river(by: Executor, made: Dataset, folder: Path) -> dict[str, str]:
    """Every contract one after another; gives what lies in the folder at the end."""
    at = shop(folder / "work", by)
    shards = sharded(made, folder / "in")
    for name in ("keyed", "pairwise", "pairwise by likeness", "keyed by halo"):
        shards = carry_out(at, STEPS[name], shards, name)
    parts = split_shards(at, functools.partial(random, seed=1), written(at, shards, "cleaned"), "random", "split")
    for number, step in enumerate([steps.FillMean(), steps.clip, steps.CenterOnSample(), steps.TargetMean()]):
        _, parts = fit_and_carry(at, step, parts, f"prepare-{number}")
    for part in parts.values():
        written(at, part, f"end-{part.split}")
    return bytes_of(folder)


def test_threads_and_processes_give_the_same_bytes(processes: Processes, made: Dataset, tmp_path: Path) -> None:
    one = whole_river(Local(1), made, tmp_path / "one")
    assert len(one) > 50
    assert whole_river(Local(3), made, tmp_path / "three") == one
    assert whole_river(processes, made, tmp_path / "processes") == one


def test_a_worker_that_dies_is_replaced_and_nothing_is_lost(
    processes: Processes, made: Dataset, tmp_path: Path
) -> None:
    dying = functools.partial(steps.die_once, marker=str(tmp_path / "died"))
    at = shop(tmp_path / "work", processes)
    found = written(at, carry_out(at, dying, sharded(made, tmp_path / "in"), "die"), "end")
    assert (tmp_path / "died").exists()
    assert found.whole().frame.equals(made.frame)
    assert found.history[0].rows_after == len(made)


def test_a_step_that_cannot_travel_is_told(processes: Processes, made: Dataset, tmp_path: Path) -> None:
    from groundup.core.contract import contract

    at = shop(tmp_path / "work", processes)
    local = contract("row-local")(lambda dataset: dataset)
    with pytest.raises(DataError, match="cannot be handed to another process"):
        written(at, carry_out(at, local, sharded(made, tmp_path / "in"), "local"), "end")


def test_an_error_in_a_worker_is_the_steps_own(processes: Processes, made: Dataset, tmp_path: Path) -> None:
    at = shop(tmp_path / "work", processes)
    shards = as_split(sharded(made, tmp_path / "in"), "valid")
    with pytest.raises(DataError, match=r"removed .* rows of the valid split"):
        written(at, carry_out(at, steps.drop_negative, shards, "drop"), "end")


def test_finished_shards_are_not_made_again(made: Dataset, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    slow = functools.partial(steps.dawdle, seconds=0.0, folder=str(marks))
    at, shards = shop(tmp_path / "work"), sharded(made, tmp_path / "in")
    written(at, carry_out(at, slow, shards, "slow"), "end")
    before = bytes_of(tmp_path / "work")
    (tmp_path / "work" / "end" / "shards.json").unlink()
    half = tmp_path / "work" / "end" / shards.files[3].name
    half.write_bytes(half.read_bytes()[:100])
    (tmp_path / "work" / "end" / shards.files[5].name).unlink()
    assert len(list(marks.iterdir())) == len(shards.files)
    written(at, carry_out(at, slow, shards, "slow"), "end")
    assert len(list(marks.iterdir())) == len(shards.files) + 2
    assert bytes_of(tmp_path / "work") == before


def test_the_runner_of_a_recipe() -> None:
    assert executor("local", Room(10**9, 2)) == Local(2)
    assert executor("processes", Room(2 * 10**9, 2)) == Processes(2, 1)
    assert executor("processes", Room(200_000_000, 2)) == Processes(1, 2)
