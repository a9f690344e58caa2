"""Each check holds on sound data and sees a planted fault of its kind."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from groundup.core.batch import Batch
from groundup.proof import constant_target, end_of_text_learned, masks, no_leaks


def text(targets: list[list[int]], rows: list[int] | None = None) -> Batch:
    values = torch.tensor(targets)
    return Batch(
        {"tokens": torch.zeros_like(values)}, {"targets": values}, rows=None if rows is None else np.array(rows)
    )


def test_masks_pass_and_count() -> None:
    check = masks([text([[1, 2, -100, 4]]), text([[-100, -100, 3, 4]])])
    assert check.passed
    assert "5 of 8 targets are learned (62.5%)" in check.saw


def test_masks_see_a_sample_whose_mask_hides_everything() -> None:
    check = masks([text([[1, -100], [-100, -100]], rows=[40, 41])])
    assert not check.passed
    assert "1 of 2 samples" in check.saw
    assert "row 41" in check.saw
    assert "row 40" not in check.saw
    assert check.mend


def test_masks_name_few_rows_of_many() -> None:
    check = masks([text([[-100]] * 9, rows=list(range(9)))])
    assert "row 4 and 4 more" in check.saw


def test_masks_see_targets_that_are_no_numbers() -> None:
    values = torch.tensor([[1.0, 2.0], [float("nan"), 3.0]])
    check = masks([Batch({"inputs": values}, {"targets": values}, rows=np.array([7, 8]))])
    assert not check.passed
    assert "row 8" in check.saw
    sound = masks([Batch({"inputs": values}, {"targets": torch.full((2, 2), -100.0)})])
    assert sound.passed, "-100 is a value like any other where targets are no classes"


def test_masks_need_targets() -> None:
    assert not masks([]).passed
    assert not masks([Batch({"inputs": torch.zeros(2)}, {})]).passed


def test_end_of_text() -> None:
    assert end_of_text_learned(text([[1, 2, 9]]), 9).passed
    masked = end_of_text_learned(text([[1, 2, -100]]), 9)
    assert not masked.passed
    assert "token 9 is a target 0 times among 2" in masked.saw


def test_leaks() -> None:
    assert no_leaks([]).passed
    check = no_leaks([("test", "a.py", "train: b.py", 0.93)])
    assert not check.passed
    assert "test a.py is 93% like train: b.py" in check.saw
    assert no_leaks([("test", "row 1", "train: row 2", 1.0)], allowed=1).passed
    assert not no_leaks([("test", "row 1", "train: row 2", 1.0)] * 2, allowed=1).passed


@pytest.mark.parametrize("values", [np.array([1, 2, 1]), torch.tensor([[0.1], [0.2]])])
def test_a_target_that_varies(values: np.ndarray | torch.Tensor) -> None:
    assert constant_target(values).passed


def test_a_constant_target() -> None:
    check = constant_target(np.ones(5, dtype=int), "Survived")
    assert not check.passed
    assert "Survived is 1 in all 5 samples" in check.saw
    assert not constant_target(np.zeros(0)).passed


def test_leaks_that_are_reported_are_told_and_let_pass() -> None:
    found = [("test", "row 3", "train: row 1", 1.0, 3)]
    refused, told = no_leaks(found), no_leaks(found, refuse=False)
    assert not refused.passed
    assert 'recipe.data.leaks = "report"' in refused.mend
    assert told.passed
    assert "1 rows stand in two splits: test row 3 is 100% like train: row 1" in told.saw
    assert no_leaks([], refuse=False).saw == "no row of valid or test is in an earlier split"
