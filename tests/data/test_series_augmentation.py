"""Windows changed for training: the forecast origin stays, past and future change alike, gaps and flags as they are."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline

from groundup.core.dataset import Dataset
from groundup.core.errors import RecipeError
from groundup.data.augmentation import Jitter, MagnitudeWarp, MixUp, RowNoise, Scaling, TimeWarp, WindowSlice
from groundup.data.augmentation.series import Window
from groundup.data.samples import Windows
from groundup.data.samples.windows import EncodedWindows

STEPS: list[Any] = [Jitter(0.1), Scaling(0.2), MagnitudeWarp(), TimeWarp(), WindowSlice(0.6)]


def encoded(**options: Any) -> EncodedWindows:
    draw = np.random.default_rng(0)
    time = np.arange(90)
    frame = pl.DataFrame(
        {"y": 3 + np.sin(time / 5) + 0.1 * draw.normal(size=90), "x": draw.normal(size=90), "b": time % 7 < 3}
    )
    data = dataclasses.replace(Dataset.of(frame), split="train")
    return Windows("y", 20, 5, **options).fit(data).encode(data)


def window(steps: int = 24, at: int | None = 0) -> Window:
    draw = np.random.default_rng(1)
    inputs = np.stack([draw.normal(size=steps), draw.normal(size=steps), draw.integers(0, 2, steps)], axis=1)
    return Window(inputs, draw.normal(size=6), np.array([True, True, False]), at)


@pytest.mark.parametrize("step", [*STEPS, MixUp(0.4)], ids=repr)
@given(size=st.integers(3, 66), epoch=st.integers(0, 3))
@settings(max_examples=8)
def test_what_becomes_of_a_window_does_not_depend_on_its_batch(step: Any, size: int, epoch: int) -> None:
    windows = encoded()
    order = np.random.default_rng(size).permutation(len(windows))
    whole, targets = windows.batch(order, [step], 7, epoch)
    for start in range(0, len(order), size):
        part, some = windows.batch(order[start : start + size], [step], 7, epoch)
        assert torch.equal(part["inputs"], whole["inputs"][start : start + size])
        assert torch.equal(some["targets"], targets["targets"][start : start + size])
    other, _ = windows.batch(order, [step], 7, epoch + 1)
    assert not torch.equal(other["inputs"], whole["inputs"])
    plain, _ = windows.batch(order)
    again, _ = encoded().batch(order)
    assert torch.equal(plain["inputs"], again["inputs"]), "without augmentation nothing is changed"


@pytest.mark.parametrize("step", STEPS, ids=repr)
@pytest.mark.parametrize("steps", [1, 2, 24])
def test_shapes_flags_and_the_origin(step: Any, steps: int) -> None:
    before = window(steps)
    for seed in range(20):
        after = step.change_window(np.random.default_rng(seed), before)
        assert after.inputs.shape == before.inputs.shape
        assert np.isfinite(after.inputs).all()
        assert set(np.unique(after.inputs[:, 2])) <= {0.0, 1.0}, "yes and no stay yes and no"
        if isinstance(step, (TimeWarp, WindowSlice)):
            assert np.array_equal(after.inputs[-1], before.inputs[-1]), "the forecast origin"
            assert np.array_equal(after.targets, before.targets)
            assert after.inputs[:, :2].min() >= before.inputs[:, :2].min() - 1e-12, "nothing is invented beyond"
    assert np.array_equal(before.inputs, window(steps).inputs), "the window itself stays"


def test_size_changes_past_and_future_alike() -> None:
    before = window()
    after = Scaling(0.3).change_window(np.random.default_rng(0), before)
    factors = 1 + 0.3 * np.random.default_rng(0).standard_normal((1, 3))[0]
    np.testing.assert_allclose(after.inputs[:, :2], before.inputs[:, :2] * factors[:2])
    np.testing.assert_allclose(after.targets, before.targets * factors[0])
    alone = Scaling(0.3).change_window(np.random.default_rng(0), window(at=None))
    assert np.array_equal(alone.targets, before.targets), "a target whose past is unseen stays"
    after = MagnitudeWarp(0.2, knots=3).change_window(np.random.default_rng(0), before)
    points = 1 + 0.2 * np.random.default_rng(0).standard_normal((5, 3))
    curves = CubicSpline(np.linspace(0, 29, 5), points)(np.arange(30))
    np.testing.assert_allclose(after.inputs[:, :2], before.inputs[:, :2] * curves[:24, :2])
    np.testing.assert_allclose(after.targets, before.targets * curves[24:, 0])


def test_jitter_has_its_size() -> None:
    before = Window(np.zeros((4000, 2)), np.zeros(3), np.array([True, True]), 0)
    after = Jitter(0.25).change_window(np.random.default_rng(0), before)
    assert after.inputs.std() == pytest.approx(0.25, rel=0.03)
    assert not after.targets.any()


def test_time_is_read_in_order() -> None:
    clock = Window(np.arange(30.0)[:, None], np.zeros(2), np.array([True]), 0)  # a series that tells its own time
    for seed in range(30):
        times = TimeWarp(0.5).change_window(np.random.default_rng(seed), clock).inputs[:, 0]
        assert times[0] == pytest.approx(0)
        assert times[-1] == 29
        assert (np.diff(times) > 0).all()
        times = WindowSlice(0.5).change_window(np.random.default_rng(seed), clock).inputs[:, 0]
        assert 0 <= times[0] <= 0.5 * 29
        assert times[-1] == 29
        np.testing.assert_allclose(np.diff(times), (29 - times[0]) / 29, rtol=1e-9)


def test_in_the_units_of_the_model() -> None:
    windows = encoded(inputs=["x", "y", "b"])
    assert windows.samples.sizes()["target_input"] == 1
    assert encoded(inputs=["x"]).samples.sizes()["target_input"] is None
    assert encoded(target_scale="min_max").samples.sizes()["target_input"] is None
    inputs, targets = windows.batch(np.arange(10), [Scaling(0.5)], 0, 0)
    plain, wanted = windows.batch(np.arange(10))
    for i in range(10):
        factor = inputs["inputs"][i, :, 1] / plain["inputs"][i, :, 1]
        torch.testing.assert_close(targets["targets"][i] / wanted["targets"][i], factor[:5], rtol=1e-4, atol=1e-4)
    with pytest.raises(RecipeError, match=r"RowNoise has no change_window\(rng, window\)"):
        windows.batch(np.arange(2), [RowNoise()])
    for kind, options in ((Jitter, {"deviation": -1}), (TimeWarp, {"knots": -1}), (WindowSlice, {"share": 0})):
        with pytest.raises(ValueError, match="expected"):
            kind(**options)  # type: ignore[operator]
