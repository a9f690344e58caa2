"""Rows changed for training: the same whatever the batch, between real rows of the class, and never outside train."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.core.batch import Bookmark
from groundup.core.dataset import Dataset
from groundup.core.errors import DataError, RecipeError
from groundup.core.use import Use, make
from groundup.data.augmentation import Flip, Jitter, MixUp, RowNoise, Smote
from groundup.data.loading import batches
from groundup.data.samples import Rows
from groundup.data.samples.rows import EncodedRows
from groundup.data.sampling import balanced


def table(rows: int = 60, rare: int = 9, seed: int = 0) -> Dataset:
    draw = np.random.default_rng(seed)
    label = np.array(["common"] * (rows - rare) + ["rare"] * rare)[draw.permutation(rows)]
    frame = pl.DataFrame(
        {"x": draw.normal(size=rows), "y": 5 * draw.normal(size=rows), "b": draw.random(rows) < 0.5, "label": label}
    )
    return dataclasses.replace(Dataset.of(frame), split="train")


def encoded(task: str = "classify", **options: Any) -> EncodedRows:
    data = table(**options)
    target = "label" if task == "classify" else "y"
    inputs = ["x", "y", "b"] if task == "classify" else ["x", "b"]
    return Rows(target, inputs=inputs).fit(data).encode(data)


STEPS = [RowNoise(0.3), Smote(3), Smote(2, probability=1.0), MixUp(0.4)]


@pytest.mark.parametrize("step", STEPS, ids=repr)
@given(size=st.integers(1, 60), epoch=st.integers(0, 3))
@settings(max_examples=12)
def test_what_becomes_of_a_row_does_not_depend_on_its_batch(step: Any, size: int, epoch: int) -> None:
    rows = encoded()
    order = np.random.default_rng(size).permutation(60)
    whole, targets = rows.batch(order, [step], 7, epoch)
    for start in range(0, 60, size):
        part, some = rows.batch(order[start : start + size], [step], 7, epoch)
        assert torch.equal(part["inputs"], whole["inputs"][start : start + size])
        assert torch.equal(some["targets"], targets["targets"][start : start + size])
    again, _ = encoded().batch(order, [step], 7, epoch)
    assert torch.equal(again["inputs"], whole["inputs"]), "nothing is kept that another run lacks"
    other, _ = rows.batch(order, [step], 7, epoch + 1)
    assert not torch.equal(other["inputs"], whole["inputs"])
    plain, _ = rows.batch(order)
    assert torch.equal(plain["inputs"], torch.from_numpy(rows.inputs[order])), "the rows themselves stay"


def test_a_resumed_stream_is_augmented_alike() -> None:
    rows, steps = encoded(), [RowNoise(0.2), Smote(), MixUp()]
    whole = list(itertools.islice(batches(rows, 16, seed=3, augment=steps, weights=balanced(rows)), 12))
    for cut in (1, 4, 7):
        rest = batches(encoded(), 16, seed=3, augment=steps, weights=balanced(rows), bookmark=whole[cut - 1].bookmark)
        for batch in whole[cut:]:
            other = next(rest)
            assert torch.equal(batch.inputs["inputs"], other.inputs["inputs"])
            assert torch.equal(batch.targets["targets"], other.targets["targets"])


def test_noise_is_of_the_columns_own_size_and_leaves_yes_and_no() -> None:
    rows = encoded(rows=4000, rare=100)
    changed = rows.batch(np.arange(4000), [RowNoise(0.1)], 0, 0)[0]["inputs"].numpy()
    noise = changed - rows.inputs
    np.testing.assert_allclose(noise.std(axis=0)[:2], 0.1 * rows.inputs.std(axis=0)[:2], rtol=0.05)
    assert not noise[:, 2].any()


def test_new_rows_lie_between_neighbours_of_the_rare_class() -> None:
    rows = encoded()
    assert rows.targets is not None
    rare = np.flatnonzero(rows.targets == 1)
    ways = []
    for epoch in range(40):
        changed = rows.batch(np.arange(60), [Smote(3, probability=1.0)], 1, epoch)[0]["inputs"].numpy()
        assert np.array_equal(changed[rows.targets == 0], rows.inputs[rows.targets == 0]), "the largest class stays"
        for position in rare.tolist():
            own = rows.inputs[position]
            others = [other for other in rare.tolist() if other != position]
            nearest = sorted(others, key=lambda other: np.linalg.norm(rows.inputs[other] - own))[:3]  # brute force
            fits = []
            for other in nearest:
                along = rows.inputs[other] - own
                way = (changed[position, :2] - own[:2]) @ along[:2] / (along[:2] @ along[:2])
                on_line = np.allclose(own[:2] + way * along[:2], changed[position, :2], atol=1e-5)
                category = own[2] if way < 0.5 else rows.inputs[other][2]
                fits.append(bool(on_line and -1e-6 <= way <= 1 + 1e-6 and changed[position, 2] == category))
                ways += [way] if fits[-1] else []
            assert any(fits)
    assert np.mean(ways) == pytest.approx(0.5, abs=0.05), "drawn evenly along the line"
    assert changed[rare].tolist() != rows.inputs[rare].tolist()


def test_by_default_as_many_rows_are_new_as_the_class_lacks() -> None:
    rows = encoded(rows=400, rare=100)
    assert rows.targets is not None
    rare = np.flatnonzero(rows.targets == 1)
    moved = [
        (rows.batch(rare, [Smote()], 0, epoch)[0]["inputs"].numpy() != rows.inputs[rare]).any(axis=1).mean()
        for epoch in range(30)
    ]
    assert np.mean(moved) == pytest.approx(1 - 100 / 300, abs=0.03)


def test_a_sample_that_is_drawn_again_is_moved_anew() -> None:
    rows = encoded(rows=60, rare=3)
    batch = next(batches(rows, 60, seed=0, augment=[Smote(probability=1.0)], weights=balanced(rows)))
    rare = batch.inputs["inputs"][batch.targets["targets"] == 1].numpy()
    assert len(rare) > 20
    assert len(np.unique(rare, axis=0)) == len(rare)


def test_mixed_rows_carry_probabilities_and_mixed_values() -> None:
    rows = encoded()
    inputs, targets = rows.batch(np.arange(60), [MixUp(1.0)], 0, 0)
    assert targets["targets"].shape == (60, 2)
    torch.testing.assert_close(targets["targets"].sum(1), torch.ones(60))
    share = targets["targets"].max(1).values
    assert (share < 1).any()
    values = encoded("regress")
    inputs, targets = values.batch(np.arange(60), [MixUp(1.0)], 0, 0)
    assert values.targets is not None
    plain, wanted = values.inputs, values.targets
    for position in range(60):
        rng = np.random.default_rng([0, 0, int(values.rows[position])])
        partner, share = rng.integers(60), rng.beta(1.0, 1.0)
        np.testing.assert_allclose(
            inputs["inputs"][position], share * plain[position] + (1 - share) * plain[partner], atol=1e-5
        )
        np.testing.assert_allclose(
            targets["targets"][position], share * wanted[position] + (1 - share) * wanted[partner], atol=1e-5
        )


def test_what_is_refused() -> None:
    rows = encoded()
    for step in (Flip(), Jitter()):
        with pytest.raises(RecipeError, match=r"has no change_row\(rng, inputs, position, table\)"):
            rows.batch(np.arange(3), [step])
    with pytest.raises(RecipeError, match="put the steps that mix last"):
        rows.batch(np.arange(3), [MixUp(), RowNoise()])
    with pytest.raises(DataError, match="Smote: there are no classes"):
        encoded("regress").batch(np.arange(3), [Smote()])
    with pytest.raises(DataError, match="there is no class 'odd'; train has common, rare"):
        rows.batch(np.arange(3), [Smote(classes=["odd"])])
    for options, words in (({"neighbours": 0}, "at least 1"), ({"probability": 2.0}, "0 to 1")):
        with pytest.raises(ValueError, match=words):
            Smote(**options)
    with pytest.raises(ValueError, match="deviation"):
        RowNoise(-1)


def test_a_class_of_one_row_has_no_neighbours() -> None:
    rows = encoded(rows=20, rare=1)
    changed = rows.batch(np.arange(20), [Smote(probability=1.0)], 0, 0)[0]["inputs"]
    assert torch.equal(changed, torch.from_numpy(rows.inputs))


def test_weights_draw_classes_equally_often() -> None:
    rows = encoded(rows=1000, rare=40)
    assert rows.targets is not None
    for use, share in (
        (Use("balanced"), 0.5),
        (Use("balanced", strength=0.0), 0.04),
        (Use("by_class", weights={"rare": 8.0}), 0.25),
    ):
        weights = make(use, "sampling")(rows)
        stream = batches(rows, 250, seed=1, weights=weights)
        drawn = [next(stream) for _ in range(40)]
        assert float(np.mean([b.targets["targets"].float().mean() for b in drawn])) == pytest.approx(share, abs=0.02)
        assert [b.bookmark for b in drawn[:4]] == [Bookmark(0, 250), Bookmark(0, 500), Bookmark(0, 750), Bookmark(1, 0)]
        again = next(batches(rows, 250, seed=1, weights=weights, bookmark=drawn[5].bookmark))
        assert np.array_equal(again.rows, drawn[6].rows)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"no class 'rar'\. Did you mean 'rare'"):
        make(Use("by_class", weights={"rar": 2.0}), "sampling")(rows)
    with pytest.raises(DataError, match="have no classes"):
        balanced(encoded("regress"))
    for wrong in (np.ones(3), np.zeros(1000), -np.ones(1000), np.full(1000, np.nan)):
        with pytest.raises(DataError, match="expected 1000 weights of 0 or more"):
            batches(rows, 10, seed=0, weights=wrong)
    with pytest.raises(DataError, match="weights are for drawing"):
        batches(rows, 10, seed=0, weights=np.ones(1000), shuffle=False)


@pytest.mark.parametrize(("step", "allowed"), [(RowNoise(), True), (MixUp(), False), (Smote(), False)])
def test_the_index_of_a_category_is_not_calculated_with(step: Any, allowed: bool) -> None:
    data = table()
    data = data.with_frame(data.frame.with_columns(shop=pl.Series(["p", "q", "r"] * 20)), {"shop": "category"})
    rows = Rows("label").fit(data).encode(data)
    if not allowed:
        with pytest.raises(RecipeError, match=f"{type(step).__name__} calculates with inputs, and 'shop' is an index"):
            rows.batch(np.arange(4), [step])
        return
    inputs = rows.batch(np.arange(4), [step])[0]["inputs"]
    assert inputs[:, 3].tolist() == [1, 2, 3, 1]
    assert not np.allclose(inputs[:, 0], rows.inputs[:4, 0])
