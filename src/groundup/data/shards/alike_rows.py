"""Rows that are like an earlier one, found in bounded memory: keys of rows go to buckets, and each bucket is looked at.

What rows are compared by lies in files, of which those of a few pairs at a time are read. The same functions look at
the rows of a table in memory (``cleaning.clusters``).
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from groundup.core.contract import ByLikeness
from groundup.data.cleaning.clusters import (
    Buckets,
    Clusters,
    Links,
    Near,
    Pairs,
    apart,
    fill_in,
    measured,
    strongest_of,
    to_first,
)
from groundup.data.shards.equal_rows import KEY_BYTES, Reasons, later_ones, told_by_shard, write_keys
from groundup.data.shards.exchange import Array, read_piece, read_told, split_by, write_pieces, write_told
from groundup.data.shards.executors import Executor
from groundup.data.shards.folder import Piece, Shards
from groundup.data.shards.memory import Room
from groundup.data.shards.states import load_state, remembered, save_state

ROWS_AT_ONCE = 4096
"""Rows of a shard whose keys are in memory together: of short texts they may take more than the texts."""

BAND_BYTES = 64
"""What one key of a row takes while its bucket is looked at."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where what is known of rows lies, and how they are numbered: by their position in all shards."""

    folder: Path
    starts: Array
    """[shards + 1]: the first row of each shard."""
    slices: Array
    """[slices + 1]: the first row of each slice; every shard is cut into slices of at most ROWS_AT_ONCE."""
    step: ByLikeness
    evidence_bytes: int
    """The most that is read of evidence together, unless one pair has more."""

    @classmethod
    def of(cls, folder: Path, shards: Shards, step: ByLikeness, room: Room) -> Place:
        """In a folder that is there."""
        starts = shards.starts
        slices = [np.arange(a, b, ROWS_AT_ONCE) for a, b in itertools.pairwise(starts)]
        return cls(folder, starts, np.append(np.concatenate(slices), starts[-1]), step, room.shard_bytes // 2)

    def slices_of(self, shard: int) -> range:
        """The numbers of a shard's slices."""
        return range(*np.searchsorted(self.slices, self.starts[shard : shard + 2]).tolist())

    def measure(self, pairs: Pairs) -> Array:
        """How alike the rows of each pair are; evidence is read for some pairs at a time."""
        one, other = apart(pairs)
        rows = np.union1d(one, other)
        where, kind = self._where(rows)
        sizes = where[np.searchsorted(rows, one), 2] + where[np.searchsorted(rows, other), 2]
        portions = np.flatnonzero(np.diff(np.cumsum(sizes) // self.evidence_bytes)) + 1
        return np.concatenate([self._measured(part, rows, where, kind) for part in np.split(pairs, portions)])

    def _measured(self, pairs: Pairs, rows: Array, where: Array, kind: str) -> Array:
        some = np.unique(np.concatenate(apart(pairs)))
        places = where[np.searchsorted(rows, some)]
        content = bytearray()
        for shard in np.unique(places[:, 0]).tolist():
            with (self.folder / f"evidence-{shard}").open("rb") as file:
                for start, size in places[places[:, 0] == shard, 1:].tolist():
                    file.seek(start)
                    content += file.read(size)
        values = np.frombuffer(content, dtype=kind)
        return measured(self.step, some, values, places[:, 2] // values.itemsize)(pairs)

    def _where(self, rows: Array) -> tuple[Array, str]:
        """Of rows, which rise, [n, 3]: shard, where the evidence begins, and how long it is, in bytes; its type."""
        shard = np.searchsorted(self.starts, rows, side="right") - 1
        found = np.empty((len(rows), 3), dtype=np.int64)
        kind = "u1"
        for number in np.unique(shard).tolist():
            told = load_state(self.folder / f"evidence-{number}.npz")
            at = np.searchsorted(told["rows"], rows[shard == number])
            assert np.array_equal(told["rows"][at], rows[shard == number]), "what is compared has evidence"
            found[shard == number] = np.stack([np.full(len(at), number), told["starts"][at], told["sizes"][at]], axis=1)
            kind = told["type"]
        return found, kind

    def write(self, shard: int, parts: Iterable[tuple[Array, Array, Array]]) -> None:
        """Evidence of rows of a shard: rows, values and lengths, some rows at a time."""
        path = self.folder / f"evidence-{shard}"
        partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        rows, sizes, kind = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], "u1"
        with partial.open("wb") as file:
            for some, values, lengths in parts:
                file.write(np.ascontiguousarray(values).data)
                rows.append(some)
                sizes.append(lengths * values.itemsize)
                kind = values.dtype.str
        os.replace(partial, path)
        size = np.concatenate(sizes)
        known = {"rows": np.concatenate(rows), "starts": np.cumsum(size) - size, "sizes": size, "type": kind}
        save_state(path.with_suffix(".npz"), known)


def find_alike(executor: Executor, room: Room, shards: Shards, step: ByLikeness, folder: Path) -> Reasons:
    """For each shard, position of each row that goes -> reason: the rows and reasons that a table in memory has.

    Of all rows 20 bytes each are in memory together; of those that go, 24 more, and the name of the row each is like.
    """
    place = Place.of(folder / "keys", shards, step, room)
    for name in ("same", "bands", "buckets"):
        (place.folder / name).mkdir(parents=True, exist_ok=True)
    links = _linked(executor, room, shards, place)
    columns = {}
    for name, rows in (("", links.rows), ("first_", links.likes.astype(np.int64))):
        shard = np.searchsorted(place.starts, rows, side="right") - 1
        columns[f"{name}shard"] = pl.Series(shard, dtype=pl.UInt32)
        columns[f"{name}place"] = pl.Series(rows - place.starts[shard], dtype=pl.UInt32)
    found = pl.DataFrame({**columns, "value": links.values})
    return told_by_shard(executor, shards.pieces(), found, step.reason)


def _linked(executor: Executor, room: Room, shards: Shards, place: Place) -> Links:
    """What goes of all rows, by their positions in all shards: as ``clusters.linked`` has it of a table."""
    if not len(shards):
        return Links(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    pieces, numbers = shards.pieces(), range(len(place.slices) - 1)
    count = max(1, -(-len(shards) * KEY_BYTES // room.shard_bytes))
    origins = [place.folder / "same" / f"{i}.arrow" for i in range(len(pieces))]
    told = list(executor.each(sign, [(*one, place, count) for one in zip(pieces, origins, strict=True)]))
    first = np.arange(len(shards), dtype=np.uint32)
    for found in executor.each(later_ones, [(origins, bucket) for bucket in range(count)]):
        row, earlier = (
            place.starts[found[f"{n}shard"].to_numpy()] + found[f"{n}place"].to_numpy() for n in ("", "first_")
        )
        first[row] = earlier
    np.save(place.folder / "first.npy", first)
    count = max(1, -(-len(shards) * max(one["keys"] for one in told) * BAND_BYTES // room.shard_bytes))
    origins = [place.folder / "bands" / f"{k}.arrow" for k in numbers]
    for _ in executor.each(part_bands, [(place, k, count, path) for k, path in zip(numbers, origins, strict=True)]):
        pass
    company = np.zeros(len(shards), dtype=bool)
    buckets = [place.folder / "buckets" / f"{b}.arrow" for b in range(count)]
    for rows in executor.each(look_at_bucket, [(place, origins, b, path) for b, path in enumerate(buckets)]):
        company[rows] = True
    if not all(one["evidence"] for one in told):
        looking = [(piece, place, i, _positions(company, place, i)) for i, piece in enumerate(pieces)]
        for _ in executor.each(look_again, looking):
            pass
    clusters = Clusters(len(shards))
    for near in executor.each(hold_against_first, [(place, buckets, k) for k in numbers]):
        clusters.join(near)
    np.save(place.folder / "roots.npy", clusters.roots())
    for near in executor.each(hold_against_others, [(place, path) for path in buckets]):
        clusters.join(near)
    np.save(place.folder / "roots-of-all.npy", clusters.roots()[first])
    del company, clusters, first
    links = Links(*map(np.concatenate, zip(*executor.each(gone_of, [(place, k) for k in numbers]), strict=True)))
    chained = links.rows[links.values == 0]
    if len(chained):
        paths = [place.folder / f"near-{k}.npz" for k in numbers] + [path.with_suffix(".near.npz") for path in buckets]
        fill_in(links, executor.each(strongest_in, [(path, chained) for path in paths]))
    return links


def _positions(company: Array, place: Place, shard: int) -> Array:
    """The rows in company of one shard, by their position in it."""
    return np.flatnonzero(company[slice(*place.starts[shard : shard + 2])])


def sign(piece: Piece, path: Path, place: Place, buckets: int) -> dict[str, Any]:
    """A task: of one shard's rows what is the same by bucket, and files of keys; tells how many keys a row has."""
    if (told := read_told(path)) is not None:
        return told
    dataset, shard = piece.read(), int(path.stem)
    same = [np.zeros(0, np.uint64)]
    told = {"keys": 0, "evidence": True}

    def evidence() -> Iterator[tuple[Array, Array, Array]]:
        for k in place.slices_of(shard):
            rows = np.arange(*place.slices[k : k + 2])
            known = place.step.signature(dataset.take(rows - place.starts[shard]))
            there = known["same"] != 0
            named = {name: known[name][there] for name in ("keys", "tags") if name in known}
            save_state(place.folder / f"keys-{k}.npz", {"rows": rows[there], **named})
            same.append(known["same"])
            told.update(keys=known["keys"].shape[1], evidence="values" in known)
            if "values" in known:
                yield rows, known["values"], known["lengths"]

    place.write(shard, evidence())
    values = np.concatenate(same)
    rows = np.flatnonzero(values)
    write_keys(np.stack([values[rows], np.zeros(len(rows), np.uint64)], axis=1), rows, buckets, path)
    write_told(path, told)
    return told


def part_bands(place: Place, number: int, buckets: int, path: Path) -> bool:
    """A task: the keys of one slice's rows by bucket, but for copies of earlier rows, into one file."""
    if read_told(path) is not None:
        return True
    known = load_state(place.folder / f"keys-{number}.npz")
    first = np.load(place.folder / "first.npy", mmap_mode="r")
    alone = first[known["rows"]] == known["rows"]
    keys = known["keys"][alone]
    columns = {name: np.repeat(known[name][alone], keys.shape[1]) for name in ("rows", "tags") if name in known}
    frame = pl.DataFrame({"keys": keys.reshape(-1), **columns}).with_columns(pl.col("rows").cast(pl.UInt32))
    write_pieces(split_by(frame, (keys.reshape(-1) % np.uint64(buckets)).astype(np.int64), buckets), path)
    write_told(path, {})
    return True


def look_at_bucket(place: Place, origins: Sequence[Path], bucket: int, path: Path) -> Array:
    """A task: of one bucket the rows that share a key, which are given back, and pairs with their first, by slice."""
    if read_told(path) is None:
        frame = pl.concat([read_piece(origin, bucket) for origin in origins])
        tags = frame["tags"].to_numpy() if "tags" in frame.columns else np.zeros(0, np.uint64)
        found = Buckets.of(frame["keys"].to_numpy(), frame["rows"].to_numpy(), tags)
        save_state(path.with_suffix(".npz"), found._asdict())
        pairs = found.stars(place.step)
        target = np.searchsorted(place.slices, apart(pairs)[1], side="right") - 1
        write_pieces(split_by(pl.DataFrame({"pairs": pairs}), target, len(place.slices) - 1), path)
        write_told(path, {})
    return np.unique(load_state(path.with_suffix(".npz"))["rows"])


def look_again(piece: Piece, place: Place, shard: int, positions: Array) -> None:
    """A task: the evidence of rows of one shard that share a key with others."""
    done = place.folder / f"looked-{shard}"
    if done.is_file():
        return
    dataset = piece.read()
    cuts = np.split(positions, range(ROWS_AT_ONCE, len(positions), ROWS_AT_ONCE))
    place.write(shard, ((some + place.starts[shard], *place.step.evidence(dataset, some)) for some in cuts))
    done.touch()


def hold_against_first(place: Place, buckets: Sequence[Path], number: int) -> Near:
    """A task: what is alike of one slice's rows and the first of their buckets."""

    def look() -> dict[str, Any]:
        pairs = np.unique(np.concatenate([read_piece(path, number)["pairs"].to_numpy() for path in buckets]))
        return Near.of(pairs, place.measure)._asdict()

    return Near(**remembered(place.folder / f"near-{number}.npz", look))


def hold_against_others(place: Place, path: Path) -> Near:
    """A task: what else is alike in one bucket."""

    def look() -> dict[str, Any]:
        bucket = Buckets(**load_state(path.with_suffix(".npz")))
        label = np.load(place.folder / "roots.npy", mmap_mode="r")[bucket.rows]
        return Near.joined(bucket.others(place.step, label, place.measure))._asdict()

    return Near(**remembered(path.with_suffix(".near.npz"), look))


def gone_of(place: Place, number: int) -> Links:
    """A task: the rows of one slice that go, and how each is like the first of its cluster."""
    rows = np.arange(*place.slices[number : number + 2])
    root, first = (
        np.load(place.folder / name, mmap_mode="r")[rows[0] : rows[-1] + 1]
        for name in ("roots-of-all.npy", "first.npy")
    )
    return to_first(rows, root, first, place.measure)


def strongest_in(path: Path, wanted: Array) -> Links:
    """A task: for some rows what each is most alike, of the pairs in one file."""
    return strongest_of(Near(**load_state(path)), wanted)
