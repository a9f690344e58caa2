"""What a step learned of one shard, kept in a file, so that work that was interrupted goes on: JSON and arrays."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from groundup.core.errors import DataError


def save_state(path: Path, state: Any) -> None:
    """Write lists, dictionaries, strings, numbers, None and arrays of numbers, whole or not at all.

    Raises DataError for anything else: it would not come back as it was.
    """
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    text = json.dumps(_flat(state, arrays), ensure_ascii=False)
    arrays["state"] = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with partial.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    os.replace(partial, path)


def load_state(path: Path) -> Any:
    """What ``save_state`` wrote. Raises OSError or ValueError for what is not there, or is no such file."""
    with np.load(path, allow_pickle=False) as arrays:
        text = arrays["state"].tobytes().decode("utf-8", "surrogatepass")
        return _restored(json.loads(text), arrays)


def remembered(path: Path, make: Callable[[], Any]) -> Any:
    """What was kept in this file, or else what ``make`` gives, which is kept."""
    try:
        return load_state(path)
    except (OSError, ValueError, KeyError):
        state = make()
        save_state(path, state)
        return state


def _flat(value: Any, arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise DataError(f"a state may hold arrays of numbers; read an array of {value.dtype}.")
        arrays[f"a{len(arrays)}"] = value
        return {"array": f"a{len(arrays) - 1}"}
    if isinstance(value, np.generic):
        return _flat(value.item(), arrays)
    if isinstance(value, dict):
        return {"items": [[_flat(key, arrays), _flat(inner, arrays)] for key, inner in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [_flat(inner, arrays) for inner in value]}
    if isinstance(value, list):
        return [_flat(inner, arrays) for inner in value]
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise DataError(
        f"a state holds lists, dictionaries, strings, numbers, None and arrays; read {type(value).__name__}."
    )


def _restored(value: Any, arrays: Any) -> Any:
    if isinstance(value, list):
        return [_restored(inner, arrays) for inner in value]
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind == "array":
        return arrays[inner]
    if kind == "items":
        return {_restored(key, arrays): _restored(found, arrays) for key, found in inner}
    if kind == "tuple":
        return tuple(_restored(one, arrays) for one in inner)
    return bytes.fromhex(inner)
