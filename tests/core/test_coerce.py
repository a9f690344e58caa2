from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.core.coerce import coerce, read_table
from groundup.core.errors import RecipeError
from groundup.core.use import Use


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float
    with_: Use | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    inner: Inner | None = None
    many: tuple[Inner, ...] = ()
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (1, float, 1.0),
        (1, int, 1),
        (True, bool, True),
        ("a", str, "a"),
        ("a/b.csv", Path, Path("a/b.csv")),
        (None, None | int, None),
        (3, int | None, 3),
        (3, float | None, 3.0),
        (False, float | None, None),
        (False, bool | None, False),
        ([1, 2], tuple[float, ...], (1.0, 2.0)),
        ([1, 2], tuple[float, int], (1.0, 2)),
        ((1, 2), Sequence[float], [1.0, 2.0]),
        ([[1], []], list[list[float]], [[1.0], []]),
        ({"a": 1}, Mapping[str, float], {"a": 1.0}),
        ({"a": 1}, dict, {"a": 1}),
        ("median", Literal["mean", "median"], "median"),
        (4, Annotated[float, "metres"], 4.0),
        ("ReLU", Use, Use("ReLU")),
        ({"use": "Dense", "features": 3}, Use, Use("Dense", features=3)),
        (["ReLU", {"use": "Dense"}], Sequence[Use], [Use("ReLU"), Use("Dense")]),
        ("anything", Any, "anything"),
        ("relu", Callable[..., Any], "relu"),
        ({"rate": 1}, Inner, Inner(rate=1.0)),
        ({"rate": 1, "with": "ReLU"}, Inner, Inner(rate=1.0, with_=Use("ReLU"))),
    ],
)
def test_what_fits_is_read(value: Any, annotation: Any, expected: Any) -> None:
    read = coerce(value, annotation, "here")
    assert read == expected
    assert type(read) is type(expected)


@pytest.mark.parametrize(
    ("value", "annotation", "said"),
    [
        ("1", int, "here: read '1', expected a whole number."),
        (1.0, int, "here: read 1.0, expected a whole number."),
        (True, int, "here: read True, expected a whole number."),
        (True, float, "here: read True, expected a number."),
        (1, bool, "here: read 1, expected true or false."),
        (1, str, "here: read 1, expected a string."),
        (True, float | None, "here: read True, expected a number."),
        ("Age", Sequence[str], "here: read 'Age', expected a list."),
        (["a", 1], tuple[str, ...], "here[1]: read 1, expected a string."),
        ([1, 2, 3], tuple[int, int], "here: read 3 values, expected 2."),
        ([{"rate": 1}, {"rate": "x"}], list[Inner], "here[1].rate: read 'x', expected a number."),
        ({"a": "x"}, Mapping[str, int], "here.a: read 'x', expected a whole number."),
        ([1], Mapping[str, int], "here: read [1], expected a table."),
        ("medain", Literal["mean", "median"], "here: read 'medain', expected 'mean' or 'median'."),
        (1, Literal[True], "here: read 1, expected True."),
        (3, Use, 'here: read 3, expected a table such as { use = "Name", argument = 1 }.'),
        ({"name": "Dense"}, Use, "here: read {'name': 'Dense'}, expected a table such as"),
        (5, Inner, "here: read 5, expected a table with rate, with_"),
        ("x" * 200, int, "..., expected a whole number."),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(value: Any, annotation: Any, said: str) -> None:
    with pytest.raises(RecipeError) as refused:
        coerce(value, annotation, "here")
    assert said in str(refused.value)
    assert len(str(refused.value)) < 200


def test_of_a_choice_the_deepest_complaint_is_told() -> None:
    with pytest.raises(RecipeError, match=r"^here\.rate: read 'fast', expected a number"):
        coerce({"rate": "fast"}, str | Inner | None, "here")


def test_a_table_is_read_whole() -> None:
    table = {"name": "a", "inner": {"rate": 2}, "many": [{"rate": 1}], "counts": {"x": 3}}
    expected = Outer(name="a", inner=Inner(rate=2.0), many=(Inner(rate=1.0),), counts={"x": 3})
    assert read_table(Outer, table, "recipe") == expected
    assert read_table(Outer, expected, "recipe") is expected


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"name": "a", "iner": {}}, "recipe.iner: no such field. Did you mean 'inner'?"),
        ({"name": "a", "inner": {"rat": 1}}, "recipe.inner.rat: no such field. Did you mean 'rate'?"),
        ({"name": "a", "inner": {"rate": 1, "with_": "X"}}, "recipe.inner.with_: no such field. Did you mean 'with'?"),
        ({"name": "a", "many": [{"rate": 1}, {}]}, "recipe.many[1].rate: this field is required"),
        ({}, "recipe.name: this field is required and is not there."),
    ],
)
def test_fields_are_held_to_their_names(table: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError) as refused:
        read_table(Outer, table, "recipe")
    assert str(refused.value).startswith(said)


scalars = st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False), st.text())


@given(scalars, st.sampled_from([bool, int, float, str]))
def test_a_scalar_is_read_as_it_is_or_refused(value: Any, kind: type) -> None:
    fits = type(value) is kind or (kind is float and type(value) is int)
    if fits:
        assert coerce(value, kind, "here") == value
        assert type(coerce(value, kind, "here")) is kind
    else:
        with pytest.raises(RecipeError, match=r"^here: read "):
            coerce(value, kind, "here")


@given(st.lists(st.one_of(st.integers(), st.floats(allow_nan=False))))
def test_reading_twice_changes_nothing(values: list[Any]) -> None:
    once = coerce(values, tuple[float, ...], "here")
    assert coerce(once, tuple[float, ...], "here") == once
    assert len(once) == len(values)
