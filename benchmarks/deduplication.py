"""How many documents a second a core are freed of exact and of near duplicates, and is what stays right?

Documents of 200 words are made on the spot; a fifth are near copies of others with up to a twentieth of their words
changed, a twentieth exact copies. Peers take turns with ours in one process on one thread: datasketch (MinHash and its
LSH, the usual script) and rensa alone (its tokens made by a regular expression, its own index). Wall time and process
time of each; quality is held against the exact Jaccard index of all pairs.
"""

from __future__ import annotations

import os

os.environ["POLARS_MAX_THREADS"] = "1"  # before polars is loaded: the question is about one core
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import hashlib
import itertools
import random
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from data_at_scale import one_turn
from measuring import arguments, memory_bytes, save, show, summary, take_turns, versions

from groundup.core.dataset import ROW, Dataset
from groundup.data.cleaning import drop_exact_duplicates, drop_near_duplicates
from groundup.data.cleaning.shingles import shingles
from groundup.data.shards import Room, cut, open_shards, parse_bytes
from groundup.data.shards.folder import gathered, shard_names, write_shard

NEAR, EXACT, WORDS = 0.2, 0.05, 200
SIMILARITY = 0.8
TOKEN = re.compile(r"\w+|[^\w\s]")

Kept = list[int]


def documents(count: int, seed: int) -> list[str]:
    """Words by Zipf's law; the vocabulary is made up."""
    draw = random.Random(seed)
    vocabulary = ["".join(draw.choices("etaoinshrdlucmfwypvbgk", k=draw.randint(2, 9))) for _ in range(30_000)]
    weights = np.cumsum(1.0 / np.arange(1, len(vocabulary) + 1)).tolist()
    own = int(count * (1 - NEAR - EXACT))
    found = [draw.choices(vocabulary, cum_weights=weights, k=WORDS) for _ in range(own)]
    for _ in range(int(count * NEAR)):
        words = list(found[draw.randrange(own)])
        for place in draw.sample(range(WORDS), draw.randint(0, WORDS // 20)):
            words[place] = draw.choice(vocabulary)
        found.append(words)
    texts = [" ".join(words) for words in found]
    texts += [texts[draw.randrange(own)] for _ in range(count - len(texts))]
    draw.shuffle(texts)
    return texts


def ours_near(texts: list[str]) -> Kept:
    step = drop_near_duplicates(similarity=SIMILARITY)
    return step(dataset_of(texts)).frame["_row"].to_list()


def ours_exact(texts: list[str]) -> Kept:
    return drop_exact_duplicates()(dataset_of(texts)).frame["_row"].to_list()


def dataset_of(texts: list[str]) -> Dataset:
    return Dataset.of(pl.DataFrame({"text": texts}), {"text": "text"})


def datasketch_near(texts: list[str]) -> Kept:
    """128 permutations, runs of five tokens, and the index as its documentation shows it; candidates are believed."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=SIMILARITY, num_perm=128)
    kept: Kept = []
    for i, text in enumerate(texts):
        minhash = MinHash(num_perm=128)
        minhash.update_batch([run.encode() for run in runs_of(text)])
        if not index.query(minhash):
            index.insert(str(i), minhash)
            kept.append(i)
    return kept


def rensa_near(texts: list[str]) -> Kept:
    """Its own index over its own hashes of runs of five tokens; candidates are held against its estimate."""
    from rensa import RMinHash, RMinHashLSH

    index = RMinHashLSH(threshold=SIMILARITY, num_perm=128, num_bands=32)
    hashes: dict[int, Any] = {}
    kept: Kept = []
    for i, text in enumerate(texts):
        minhash = RMinHash(num_perm=128, seed=1)
        minhash.update(runs_of(text))
        near = any(minhash.jaccard(hashes[j]) >= SIMILARITY for j in index.query(minhash))
        if not near:
            index.insert(i, minhash)
            hashes[i] = minhash
            kept.append(i)
    return kept


def hashlib_exact(texts: list[str]) -> Kept:
    """What one writes by hand: a set of digests."""
    seen: set[bytes] = set()
    kept: Kept = []
    for i, text in enumerate(texts):
        digest = hashlib.sha256(text.encode()).digest()
        if digest not in seen:
            seen.add(digest)
            kept.append(i)
    return kept


def polars_exact(texts: list[str]) -> Kept:
    numbered = pl.DataFrame({"text": texts}).with_row_index()
    return numbered.unique("text", keep="first", maintain_order=True)["index"].to_list()


def runs_of(text: str) -> list[str]:
    tokens = TOKEN.findall(text)
    return [" ".join(tokens[i : i + 5]) for i in range(max(1, len(tokens) - 4))]


def brute_force(texts: list[str]) -> tuple[Kept, set[tuple[int, int]]]:
    """What stays when all pairs are compared by their exact Jaccard index, and the pairs."""
    sets = shingles(texts)
    owners: dict[int, list[int]] = {}
    for i, one in enumerate(sets):
        for value in one.tolist():
            owners.setdefault(value, []).append(i)
    shared: dict[tuple[int, int], int] = {}
    for group in owners.values():
        for pair in itertools.combinations(group, 2):
            shared[pair] = shared.get(pair, 0) + 1
    pairs = {(i, j) for (i, j), count in shared.items() if count / (len(sets[i]) + len(sets[j]) - count) >= SIMILARITY}
    first = list(range(len(texts)))

    def find(i: int) -> int:
        while first[i] != i:
            first[i] = first[first[i]]
            i = first[i]
        return i

    for i, j in pairs:
        one, other = sorted((find(i), find(j)))
        first[other] = one
    return [i for i in range(len(texts)) if find(i) == i], pairs


CONTESTANTS: dict[str, dict[str, Callable[[list[str]], Kept]]] = {
    "near": {"groundup": ours_near, "rensa": rensa_near, "datasketch": datasketch_near},
    "exact": {"groundup": ours_exact, "set of SHA-256": hashlib_exact, "polars unique": polars_exact},
}


def measured(kind: str, texts: list[str], repeats: int) -> list[dict[str, Any]]:
    """A row for each contestant: documents a second of process and of wall time, and what stayed."""
    clocks: dict[str, list[tuple[float, float]]] = {}
    kept: dict[str, int] = {}

    def turn(name: str, contestant: Callable[[list[str]], Kept]) -> float:
        wall, process = time.perf_counter(), time.process_time()
        kept[name] = len(contestant(texts))
        clocks.setdefault(name, []).append((time.process_time() - process, time.perf_counter() - wall))
        return clocks[name][-1][0]

    there = {name: contestant for name, contestant in CONTESTANTS[kind].items() if is_there(name)}
    take_turns({name: (lambda n=name, c=contestant: turn(n, c)) for name, contestant in there.items()}, repeats)
    rows = []
    for name, times in clocks.items():
        process, wall = (summary([len(texts) / pair[k] for pair in times]) for k in (0, 1))
        rows.append(
            {
                f"{kind}": name,
                "documents/s": process["median"],
                "least": process["least"],
                "most": process["most"],
                "by the clock": wall["median"],
                "kept": kept[name],
            }
        )
    fastest = rows[0]["documents/s"]
    return [row | {"groundup is": fastest / row["documents/s"]} for row in rows]


def is_there(name: str) -> bool:
    if name not in ("rensa", "datasketch"):
        return True
    found = bool(versions(name))
    if not found:
        print(f"{name} is not installed, and left out")
    return found


def quality(texts: list[str]) -> list[dict[str, Any]]:
    """Of each contestant what it keeps, held against all pairs compared exactly."""
    right, pairs = brute_force(texts)
    rows = []
    for name, contestant in CONTESTANTS["near"].items():
        if is_there(name):
            kept = set(contestant(texts))
            wrong = len(kept ^ set(right))
            rows.append(
                {
                    "quality": name,
                    "kept": len(kept),
                    "by brute force": len(right),
                    "wrongly kept": len(kept - set(right)),
                    "wrongly gone": len(set(right) - kept),
                    "differ": wrong / len(texts),
                    "pairs": len(pairs),
                }
            )
    return rows


def in_shards(count: int, memory: str, parent: Path) -> tuple[Path, int, int]:
    """A folder of shards of documents, some near to others of their shard; their bytes in memory, and their number."""
    folder = parent / "documents"
    folder.mkdir()
    rows, vouched = 0, []
    room = Room.of(memory)
    for name, seed in zip(shard_names(), itertools.count(1), strict=False):
        if rows >= count:
            break
        made = documents(min(count - rows, room.shard_bytes // 1400), seed)
        frame = pl.DataFrame({"text": made}).with_row_index(ROW, rows)
        vouched.append(write_shard(Dataset(frame, {"text": "text"}), folder / name))
        rows += len(made)
    shards = gathered(folder, vouched, None, rows, origin="made")
    return folder, shards.size_bytes, rows


def limited(count: int, memory: str) -> list[dict[str, Any]]:
    """Near duplicates dropped over shards, in a process of its own that is given a fifth of what the documents take."""
    with tempfile.TemporaryDirectory(prefix="deduplication-") as parent:
        folder, size, rows = in_shards(count, memory, Path(parent))
        told = {}
        for name, source in (("ten documents", few_of(folder, Path(parent))), ("all", folder)):
            told[name] = one_turn("groundup, near duplicates", source, memory)
    rose = told["all"]["peak_bytes"] - told["ten documents"]["peak_bytes"]
    return [
        {
            "over shards": f"memory = {memory}",
            "documents": rows,
            "of the memory": size / Room.of(memory).memory_bytes,
            "documents/s": rows / told["all"]["processor_s"],
            "by the clock": rows / told["all"]["s"],
            "kept": int(told["all"]["found"]["rows"]),
            "peak MB": told["all"]["peak_bytes"] / 1e6,
            "above ten documents": rose / 1e6,
        }
    ]


def few_of(folder: Path, parent: Path) -> Path:
    """A folder of ten documents, whose peak is that of the libraries."""
    few = parent / "few"
    few.mkdir()
    cut(open_shards(folder).pieces()[0].read().take(np.arange(10)), few, 10**6)
    return few


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--documents", type=int)
    parser.add_argument("--memory", default="64MB", help="what shards may take, of documents of five times as much")
    parser.add_argument("--only-shards", action="store_true", help="neither peers nor quality")
    options: argparse.Namespace = parser.parse_args()
    count = options.documents or (500 if options.quick else 20_000)
    repeats = options.repeats or (1 if options.quick else 5)
    tables: list[Sequence[dict[str, Any]]] = []
    texts = documents(count, seed=1)
    if not options.only_shards:
        ours_near(texts[:1000])  # what any first call loads and lays out
        tables += [measured(kind, texts, repeats) for kind in CONTESTANTS]
        tables.append(quality(documents(300 if options.quick else 5_000, seed=2)))
    each = int(dataset_of(texts).frame.estimated_size()) // count
    tables.append(limited(3_000 if options.quick else 51 * parse_bytes(options.memory) // (10 * each), options.memory))
    caption = f"{count:,} documents, {sum(map(len, texts)) / count:,.0f} bytes each; {repeats} rounds, one thread"
    for table in tables:
        show("Deduplication", table, caption)
    print(f"peak memory of the process: {memory_bytes()[1] / 1e6:,.0f} MB")
    if not options.quick:
        rows = [row for table in tables for row in table]
        save("deduplication", rows, {"documents": count, "repeats": repeats, **versions("rensa", "datasketch")})


if __name__ == "__main__":
    main()
