"""Fitted on train alone, written as JSON, read back equal, and never running code that is not trusted."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.core.dataset import Dataset, Splits
from groundup.core.errors import CheckpointError, DataError, RecipeError
from groundup.core.preprocessing import (
    Preprocessing,
    as_tensor,
    fit_step,
    fit_steps,
    step_name,
    what_was_learned,
)
from groundup.core.use import TRUSTED, Use

HERE = (*TRUSTED, __name__)


@dataclasses.dataclass(frozen=True)
class Center:
    """Subtract the train mean: the smallest step that learns."""

    columns: tuple[str, ...] = ("x",)
    scale: float = 1.0
    learned: Mapping[str, Any] | None = None

    def fit(self, train: Dataset) -> Self:
        means = {name: train.frame[name].mean() for name in self.columns}
        return dataclasses.replace(self, learned={**means, "rows": len(train)})

    def __call__(self, dataset: Dataset) -> Dataset:
        assert self.learned is not None
        changes = [(pl.col(name) - self.learned[name]) * self.scale for name in self.columns]
        return dataset.with_frame(dataset.frame.with_columns(changes))


@dataclasses.dataclass(frozen=True)
class Greedy(Center):
    """Removes rows wherever it is called: allowed on train alone."""

    def __call__(self, dataset: Dataset) -> Dataset:
        return dataset.keep((dataset.frame["x"] < 3).to_numpy(), "outlier: too large")


@dataclasses.dataclass(frozen=True)
class Nested:
    """Holds another part, a list of parts, a call that is to be made later, and a function."""

    inner: Any = Center()
    parts: tuple[Any, ...] = ()
    later: Use = Use("Dense", features=3)
    activation: Callable[..., Any] = torch.nn.functional.relu
    folder: Path = Path("a/b")
    table: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    learned: Mapping[str, Any] | None = None

    def fit(self, train: Dataset) -> Self:
        return dataclasses.replace(self, learned={"rows": len(train)})


def double(dataset: Dataset, factor: float = 2.0) -> Dataset:
    return dataset.with_frame(dataset.frame.with_columns(pl.col("x") * factor))


def part(values: Sequence[float], split: Any) -> Dataset:
    frame = pl.DataFrame({"x": values}, schema={"x": pl.Float64})
    return dataclasses.replace(Dataset.of(frame), split=split)


def splits() -> Splits:
    return Splits(part([1.0, 2.0, 6.0], "train"), part([10.0], "valid"), part([20.0, 40.0], "test"))


# ------------------------------------------------------------------------------------------------- fitting


def test_steps_learn_from_train_alone_and_run_on_each_part() -> None:
    fitted, after = Preprocessing.fit([Center(), functools.partial(double, factor=10.0)], Center(), splits())
    assert fitted.prepare[0].learned == {"x": 3.0, "rows": 3}
    assert fitted.samples.learned == {"x": 0.0, "rows": 3}  # fitted behind the steps
    assert {name: p.frame["x"].to_list() for name, p in after.parts().items()} == {
        "train": [-20.0, -10.0, 30.0],
        "valid": [70.0],
        "test": [170.0, 370.0],
    }
    assert [entry.step for entry in after.test.history] == ["Center", "double"]
    assert fitted.schema == {"x": "number"}
    assert fitted(part([3.0], "serve")).frame["x"].to_list() == [0.0]


@dataclasses.dataclass(frozen=True)
class Told(Center):
    """Says which columns it learned from."""

    def fit(self, train: Dataset) -> Self:
        found = super().fit(train)
        return dataclasses.replace(found, learned={**(found.learned or {}), "columns": dict.fromkeys(self.columns)})


def test_each_statistic_stands_beside_its_own_step() -> None:
    _, read = fit_steps([Told(scale=9.0), Center()], splits())  # data that were prepared before they were read
    steps, after = fit_steps([double, Told(), Center(), Center()], read)
    found = what_was_learned(steps, after.train.history)
    assert [(one["step"], one["split"], one["rows"], one["columns"]) for one in found] == [
        ("Told", "train", 3, ["x"]),
        ("Center", "train", 3, []),
        ("Center", "train", 3, []),
    ]
    again = read.map(Preprocessing(steps, Center()))
    assert what_was_learned(steps, again.train.history) == []  # carried out as they were fitted in another run
    assert what_was_learned([], read.train.history) == []
    with pytest.raises(ValueError, match="zip"):
        what_was_learned(steps[2:], after.train.history[-1:])


def test_what_is_learned_does_not_depend_on_the_other_parts() -> None:
    other = dataclasses.replace(splits(), valid=part([1e9], "valid"), test=part([], "test"))
    fitted, _ = Preprocessing.fit([Center()], Center(), splits())
    again, _ = Preprocessing.fit([Center()], Center(), other)
    assert fitted == again


@pytest.mark.parametrize("split", ["valid", "test", "serve", None])
@pytest.mark.parametrize("step", [Center(), Greedy(), Nested()], ids=lambda step: type(step).__name__)
def test_fitting_on_anything_but_train_is_refused(step: Any, split: Any) -> None:
    """The planted leak: each kind of step, on each split that is not train."""
    said = split or "not yet split"
    with pytest.raises(DataError, match=f"{type(step).__name__}: fitting on .*{said}.* would leak"):
        fit_step(step, part([1.0], split))


@pytest.mark.parametrize("where", ["prepare", "samples"])
def test_splits_whose_train_is_another_part_are_refused(where: str) -> None:
    swapped = Splits(splits().test, splits().valid, splits().train)
    steps: list[Any] = [Center()] if where == "prepare" else []
    with pytest.raises(DataError, match="fitting on test would leak"):
        Preprocessing.fit(steps, Center(), swapped)


def test_a_step_that_drops_test_rows_is_refused() -> None:
    with pytest.raises(DataError, match="Greedy: removed 1 rows of the valid split"):
        Preprocessing.fit([Greedy()], Center(), splits())


def test_serving_may_not_drop_rows() -> None:
    with pytest.raises(DataError, match="of the serve split"):
        Preprocessing((Greedy(learned={}),), Center())(part([9.0], "serve"))


def test_a_function_has_nothing_to_fit() -> None:
    assert fit_step(double, part([1.0], "test")) is double


def test_step_names() -> None:
    assert step_name(Center()) == "Center"
    assert step_name(double) == "double"
    assert step_name(functools.partial(double, factor=3.0)) == "double"


# ---------------------------------------------------------------------------------------------- round trip


def same(first: Any, second: Any) -> bool:
    if isinstance(first, functools.partial) and isinstance(second, functools.partial):
        return (first.func, first.args, first.keywords) == (second.func, second.args, second.keywords)
    return bool(first == second)


scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=8)
words = st.sampled_from(["use", "arguments", "call", "x", "rows", "learned", "ä"])
plain = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3), max_leaves=8
)
steps = st.one_of(
    st.builds(
        Center,
        columns=st.lists(st.text(max_size=5), max_size=3).map(tuple),
        scale=st.floats(allow_nan=False),
        learned=st.none() | st.dictionaries(words, plain, max_size=4),
    ),
    st.just(double),
    st.floats(allow_nan=False).map(lambda factor: functools.partial(double, factor=factor)),
    st.builds(
        Nested,
        inner=st.builds(Center, learned=st.dictionaries(words, plain, max_size=3)),
        parts=st.lists(st.builds(Center, scale=st.floats(allow_nan=False)), max_size=2).map(tuple),
        later=st.builds(lambda n, part: Use("Dense", features=n, inner=part), st.integers(), st.just([Use("ReLU")])),
        activation=st.sampled_from([torch.nn.functional.relu, torch.nn.functional.softmax]),
        learned=st.none() | st.dictionaries(words, plain, max_size=3),
    ),
)


@settings(max_examples=150, deadline=None)
@given(prepare=st.lists(steps, max_size=3), samples=steps)
def test_json_round_trip(prepare: list[Any], samples: Any) -> None:
    written = Preprocessing(tuple(prepare), samples, {"x": "number", "use": "category"})
    text = written.to_json()
    read = Preprocessing.from_json(text, trusted=HERE)
    assert read.schema == written.schema
    assert len(read.prepare) == len(prepare)
    for ours, theirs in zip((*read.prepare, read.samples), (*prepare, samples), strict=True):
        assert same(ours, theirs)
    assert read.to_json() == text


def test_a_fitted_preprocessing_read_back_does_the_same() -> None:
    fitted, after = Preprocessing.fit([Center(("x",), 0.3), double], Nested(), splits())
    read = Preprocessing.from_json(fitted.to_json(), trusted=HERE)
    assert read(splits().test).frame.equals(after.test.frame)
    assert read.samples == fitted.samples
    assert type(read.prepare[0].columns) is tuple


# --------------------------------------------------------------------------------------------------- trust


def document(target: Any, **arguments: Any) -> str:
    call = {"use": target, "arguments": arguments}
    samples = {"use": "groundup.core.report:Metric", "arguments": {"value": 1.0, "n": 2}}
    return json.dumps({"prepare": [call], "samples": samples, "schema": {}})


def test_trusted_names_are_made() -> None:
    assert Preprocessing.from_json(document("torch.nn:Linear", in_features=2, out_features=3), TRUSTED)
    assert Preprocessing.from_json(document("torch.nn.functional:gelu"), TRUSTED)
    assert Preprocessing.from_json(document(f"{__name__}:Center"), HERE)


@pytest.mark.parametrize(
    "target",
    [
        "os:system",
        "subprocess:Popen",
        "builtins:eval",
        "torch:load",
        "torchevil:nn",
        "groundup_evil:step",
        "torch.nnevil:step",
        f"{__name__}:Center",
        "groundup.core.checkpoint:os.system",
        "groundup.core.checkpoint:shutil.rmtree",
        "groundup.core.checkpoint:load_file",
        "groundup.core.checkpoint:hashlib.new",
        "groundup.core.use:importlib.import_module",
        "groundup.core.preprocessing:functools.partial",
        "groundup.core.checkpoint:Checkpoint.__init__.__globals__",
        "groundup.core.checkpoint:Checkpoint.__class__",
        "groundup.core.checkpoint:_sha256",
        "torch.nn.modules.module:torch.load",
        "torch.nn.modules.module:functools.partial",
        "torch.nn:modules.module.itertools.chain",
    ],
)
@pytest.mark.parametrize("place", ["step", "nested", "listed"])
def test_names_outside_the_trusted_packages_are_refused(
    target: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = {"use": target, "arguments": {}}
    text = {
        "step": document(target),
        "nested": document("torch.nn:Identity", part=call),
        "listed": document("torch.nn:Identity", parts=[1, {"deeper": call}]),
    }[place]
    with pytest.raises(RecipeError, match=r"trusted|public parts only"):
        Preprocessing.from_json(text, TRUSTED)


def test_nothing_is_imported_from_a_name_that_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil_part.py").write_text("open('ran', 'w').close()\n\ndef step(dataset): return dataset\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match="list 'evil_part' as trusted"):
        Preprocessing.from_json(document("evil_part:step"), TRUSTED)
    assert not (tmp_path / "ran").exists()
    assert Preprocessing.from_json(document("evil_part:step"), (*TRUSTED, "evil_part"))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "[" * 100_000,
        '{"prepare": []}',
        '{"prepare": [3], "samples": 3, "schema": {}}',
        '{"prepare": {"a": 1}, "samples": {}, "schema": {}}',
        document(3),
        document("torch.nn:Linear", wrong=1),
        document("torch.nn:Linear"),
        document("torch.nn:Linear", in_features=-2, out_features=3),
        document("torch.nn:Linear", in_features=2, out_features=3).replace('"schema": {}', '"schema": 7'),
        document("torch.nn:Identity").replace('"arguments": {}', '"arguments": []'),
    ],
)
def test_damaged_text_gives_one_clear_error(text: str) -> None:
    with pytest.raises((CheckpointError, RecipeError)):
        Preprocessing.from_json(text, TRUSTED)


def test_as_tensor_copies_only_what_it_may_not_write() -> None:
    import numpy as np

    array = np.zeros(3)
    as_tensor(array)[0] = 1.0
    assert array[0] == 1.0
    array.flags.writeable = False
    as_tensor(array)[0] = 2.0
    assert array[0] == 1.0
