"""Augmentation: one resampling, in the direction it says, and the same however images are batched."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from groundup.core.errors import RecipeError
from groundup.core.use import Use, make
from groundup.data.augmentation import Flip, Rotate, Scale, Shear, Translate
from groundup.data.augmentation.affine import warp
from groundup.data.augmentation.images import draw_images

STEPS = [Rotate(30), Translate(0.2), Scale(0.7, 1.4), Shear(20), Flip(0.5), Flip(0.5, "vertical")]


def draw_matrices(augment: list[Any], rows: Any, size: tuple[int, int], seed: int, epoch: int) -> Any:
    """One matrix [B, 3, 3] for each of these rows, the product of all steps."""
    return draw_images(augment, rows, (3, *size), seed, epoch).matrices


class Fixed:
    """A step with a matrix of its own, as a user may write one."""

    def __init__(self, matrix: list[list[float]]) -> None:
        self.fixed = np.array(matrix, dtype=np.float64)

    def matrix(self, rng: np.random.Generator, height: int, width: int) -> Any:
        return self.fixed


class HighestDraw:
    """A generator whose draws are all at the upper end, so that a step's direction can be seen."""

    def uniform(self, low: float = 0.0, high: float = 1.0, size: int | None = None) -> Any:
        return high if size is None else np.full(size, high)


def pictures(num: int, height: int = 16, width: int = 20, channels: int = 3) -> torch.Tensor:
    """Smooth pictures, so that ways of resampling agree."""
    rng = np.random.default_rng(3)
    raw = ndimage.gaussian_filter(rng.uniform(size=(num, channels, height, width)), (0, 0, 2, 2))
    return torch.from_numpy(raw / raw.max()).float()


@given(st.lists(st.integers(0, 11), min_size=1, max_size=12), st.integers(0, 3), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_the_same_whatever_the_batching(positions: list[int], seed: int, epoch: int) -> None:
    images, rows = pictures(12), np.arange(100, 112)

    def augmented(at: np.ndarray[Any, Any]) -> torch.Tensor:
        return warp(images[at], draw_matrices(STEPS, rows[at], (16, 20), seed, epoch))

    whole = augmented(np.arange(12))
    assert torch.equal(augmented(np.array(positions)), whole[positions])


def test_seed_epoch_and_row_each_change_the_draw() -> None:
    base = draw_matrices(STEPS, np.array([5]), (8, 8), 1, 1)
    for other in (([6], 1, 1), ([5], 2, 1), ([5], 1, 2)):
        assert not np.allclose(base, draw_matrices(STEPS, np.array(other[0]), (8, 8), other[1], other[2]))


def test_nothing_moves_at_zero() -> None:
    images = pictures(4)
    still = [Rotate(0), Translate(0), Scale(1, 1), Shear(0), Flip(0), Flip(0, "vertical")]
    matrices = draw_matrices(still, np.arange(4), (16, 20), 0, 0)
    assert torch.equal(warp(images, matrices), images)


def test_rotation_turns_as_pillow_does() -> None:
    image = pictures(1, 21, 21, 1)
    matrix = Rotate(25).matrix(HighestDraw(), 21, 21)  # type: ignore[arg-type]
    ours = warp(image, matrix[None])[0, 0].numpy()
    theirs = np.asarray(Image.fromarray(image[0, 0].numpy()).rotate(25, Image.Resampling.BILINEAR))
    np.testing.assert_allclose(ours[4:-4, 4:-4], theirs[4:-4, 4:-4], atol=1e-3)
    assert np.abs(ours - image[0, 0].numpy()).max() > 0.05


@pytest.mark.parametrize("shift", [(3.0, 0.0), (0.0, -2.0), (1.5, 0.25)])
def test_translation_moves_as_scipy_does(shift: tuple[float, float]) -> None:
    image = pictures(1, channels=1)
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1]], dtype=np.float64)
    ours = warp(image, matrix[None])[0, 0].numpy()
    theirs = ndimage.shift(image[0, 0].numpy(), (shift[1], shift[0]), order=1, mode="grid-constant")
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_translation_is_a_fraction_of_each_edge() -> None:
    matrix = Translate(0.25).matrix(HighestDraw(), 8, 100)  # type: ignore[arg-type]
    assert matrix[:2, 2].tolist() == [25.0, 2.0]


def test_scale_shear_and_their_product_move_as_scipy_does() -> None:
    image = pictures(1, 24, 18, 1)
    highest: Any = HighestDraw()
    product = np.eye(3)
    for step in (Scale(0.8, 1.3), Shear(15), Rotate(10), Translate(0.1)):
        product = step.matrix(highest, 24, 18) @ product
    ours = warp(image, product[None])[0, 0].numpy()
    # SciPy asks where each output point (row, column), from the corner, comes from.
    inverse = np.linalg.inv(product)
    swap = np.array([[0, 1], [1, 0]])
    linear = swap @ inverse[:2, :2] @ swap
    centre = np.array([(24 - 1) / 2, (18 - 1) / 2])
    offset = centre - linear @ centre + swap @ inverse[:2, 2]
    theirs = ndimage.affine_transform(image[0, 0].numpy(), linear, offset, order=1, mode="grid-constant")
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_the_first_step_acts_first() -> None:
    right = Fixed([[1, 0, 2], [0, 1, 0], [0, 0, 1]])
    twice = Fixed([[2, 0, 0], [0, 2, 0], [0, 0, 1]])
    matrices = draw_matrices([right, twice], np.array([0]), (8, 8), 0, 0)
    assert (matrices[0] @ [0, 0, 1])[:2].tolist() == [4, 0]


@pytest.mark.parametrize(("axis", "dim"), [("horizontal", 3), ("vertical", 2)])
def test_flip_mirrors(axis: Any, dim: int) -> None:
    images = pictures(50)
    matrices = draw_matrices([Flip(1.0, axis)], np.arange(50), (16, 20), 0, 0)
    torch.testing.assert_close(warp(images, matrices), images.flip(dim))
    some = draw_matrices([Flip(0.3, axis)], np.arange(2000), (16, 20), 0, 0)
    assert 0.25 < (np.linalg.det(some) < 0).mean() < 0.35


def test_what_comes_from_outside() -> None:
    image = torch.full((1, 1, 4, 4), 0.5)
    image[..., 0] = 1.0
    right = np.array([[[1.0, 0, 2], [0, 1, 0], [0, 0, 1]]])
    assert warp(image, right, "zeros")[0, 0, 0].tolist() == [0, 0, 1, 0.5]
    assert warp(image, right, "border")[0, 0, 0].tolist() == [1, 1, 1, 0.5]
    assert warp(image, right, "reflection")[0, 0, 0].tolist() == [0.5, 1, 1, 0.5]


def test_draws_fill_their_range() -> None:
    rows = np.arange(3000)
    angles = np.degrees(np.arctan2(*draw_matrices([Rotate(10)], rows, (8, 8), 0, 0)[:, 0, 1::-1].T))
    assert -10 <= angles.min() < -9.9
    assert 9.9 < angles.max() <= 10
    assert abs(angles.mean()) < 0.5
    factors = draw_matrices([Scale(0.5, 2.0)], rows, (8, 8), 0, 0)[:, 0, 0]
    assert factors.min() >= 0.5
    assert factors.max() <= 2
    assert abs(np.log(factors).mean()) < 0.05


@pytest.mark.parametrize(
    "use",
    [
        Use("Rotate", degrees=200.0),
        Use("Translate", fraction=1.5),
        Use("Scale", low=0.0, high=1.0),
        Use("Scale", low=2.0, high=1.0),
        Use("Shear", degrees=90.0),
        Use("Flip", probability=2.0),
    ],
)
def test_options_out_of_range_name_the_place_in_the_recipe(use: Use) -> None:
    with pytest.raises(RecipeError, match=r"recipe\.data\.augment\[0\].*read"):
        make(use, "augment", where="recipe.data.augment[0]")


def test_a_step_without_a_matrix_is_named() -> None:
    with pytest.raises(RecipeError, match="int has neither matrix"):
        draw_matrices([3], np.array([0]), (8, 8), 0, 0)
