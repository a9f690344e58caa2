from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.core.errors import RecipeError
from groundup.core.use import Use, make
from groundup.optim.schedules import constant, cosine, linear, trapezoid


def test_constant() -> None:
    assert constant(0.0) == constant(1.0) == 1.0
    assert constant(0.05, warmup=0.1) == pytest.approx(0.5)


def test_cosine_at_its_landmarks() -> None:
    assert cosine(0.05, warmup=0.1) == pytest.approx(0.5)
    assert cosine(0.1, warmup=0.1, floor=0.2) == pytest.approx(1.0)
    assert cosine(0.55, warmup=0.1, floor=0.2) == pytest.approx(0.6)  # half way down, between 1 and 0.2
    assert cosine(1.0, warmup=0.1, floor=0.2) == pytest.approx(0.2)


def test_linear_at_its_landmarks() -> None:
    assert linear(0.0) == 1.0
    assert linear(0.25) == pytest.approx(0.75)
    assert linear(1.0, warmup=0.3, floor=0.1) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("shape", "quarter"), [("linear", 0.75), ("cosine", 0.5 * (1 + math.cos(math.pi / 4))), ("sqrt", 0.5)]
)
def test_trapezoid_at_its_landmarks(shape: str, quarter: float) -> None:
    at = make(Use("trapezoid", warmup=0.1, cooldown=0.4, shape=shape), "schedule")
    assert at(0.05) == pytest.approx(0.5)
    assert at(0.1) == at(0.5) == at(0.6) == pytest.approx(1.0)
    assert at(0.7) == pytest.approx(quarter)
    assert at(1.0) == pytest.approx(0.0)


@given(progress=st.floats(0, 1), warmup=st.floats(0, 0.5), cooldown=st.floats(0, 0.5), floor=st.floats(0, 1))
def test_factors_stay_between_nothing_and_one(progress: float, warmup: float, cooldown: float, floor: float) -> None:
    for factor in (
        constant(progress, warmup),
        cosine(progress, warmup, floor),
        linear(progress, warmup, floor),
        trapezoid(progress, warmup, cooldown, floor),
    ):
        assert 0 <= factor <= 1


def test_steps_in_place_of_fractions_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"schedule\.warmup: read 100, expected a fraction"):
        cosine(0.5, warmup=100)
    with pytest.raises(RecipeError, match="more than the whole budget"):
        trapezoid(0.5, warmup=0.5, cooldown=0.6)
    with pytest.raises(RecipeError, match=r"schedule\.floor"):
        linear(0.5, floor=-0.1)
