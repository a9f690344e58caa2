"""Data of any size: rows in Parquet shards, and the same steps over them, by this process, a pool, or Ray."""

from groundup.data.shards.carry import Workshop, carry_out, cut, delivered, fingerprint, fit, fit_and_carry, written
from groundup.data.shards.encoded import EncodedShards, encode_shards
from groundup.data.shards.executors import Local, Processes, RayCluster, executor
from groundup.data.shards.folder import Shards, open_shards, verify
from groundup.data.shards.identity import identity
from groundup.data.shards.leaks import find_twins
from groundup.data.shards.memory import Room, check_runner, parse_bytes
from groundup.data.shards.page import cleaned_page
from groundup.data.shards.parts import ShardSplits, split_shards
from groundup.data.shards.reading import read
from groundup.data.shards.removed import gather_removed
from groundup.data.shards.schema import learn_schema

__all__ = [
    "EncodedShards",
    "Local",
    "Processes",
    "RayCluster",
    "Room",
    "ShardSplits",
    "Shards",
    "Workshop",
    "carry_out",
    "check_runner",
    "cleaned_page",
    "cut",
    "delivered",
    "encode_shards",
    "executor",
    "find_twins",
    "fingerprint",
    "fit",
    "fit_and_carry",
    "gather_removed",
    "identity",
    "learn_schema",
    "open_shards",
    "parse_bytes",
    "read",
    "split_shards",
    "verify",
    "written",
]
