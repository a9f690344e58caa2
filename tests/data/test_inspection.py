"""What is said of columns, their relations, images and texts is what numpy, scipy and scikit-learn say."""

from __future__ import annotations

import contextlib
import datetime
import io
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import stats  # type: ignore[import-untyped]

from groundup.core.dataset import ROW, Dataset
from groundup.core.errors import DataError
from groundup.data.inspection.columns import describe_column, describe_numbers, histogram, word_counts
from groundup.data.inspection.images import describe_images, odd_ones
from groundup.data.inspection.relations import correlate, find_gaps, find_target, find_twins, what_tells
from groundup.data.inspection.roles import find_group, is_id, what_to_drop
from groundup.data.inspection.table import describe_table
from groundup.data.inspection.texts import describe_texts, language_of, repeated_lines


def dataset(**columns: Any) -> Dataset:
    return Dataset.of(pl.DataFrame(columns))


def test_numbers_are_those_of_numpy_and_scipy() -> None:
    values = np.random.default_rng(0).gamma(2.0, size=500)
    found = describe_numbers(values)
    assert found.mean == pytest.approx(values.mean())
    assert found.deviation == pytest.approx(values.std())
    assert found.skew == pytest.approx(stats.skew(values))
    assert found.median == np.median(values)
    q25, q75 = np.quantile(values, [0.25, 0.75])
    assert found.outliers == int(((values < q25 - 1.5 * (q75 - q25)) | (values > q75 + 1.5 * (q75 - q25))).sum())


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1, max_size=80))
def test_a_histogram_counts_every_value_once(values: list[float]) -> None:
    array = np.array(values)
    found = histogram(array, whole=bool((array == np.round(array)).all()))
    assert sum(found.counts) + found.below + found.above == len(values)
    assert all(low < high for low, high in zip(found.edges[:-1], found.edges[1:], strict=True))
    assert len(found.counts) == len(found.edges) - 1


def test_a_number_that_stands_for_missing_is_seen() -> None:
    values = [*np.linspace(1, 9, 50).tolist(), -200.0, -200.0, -200.0]
    assert describe_numbers(np.array(values)).sentinel == (-200.0, 3)
    assert describe_numbers(np.linspace(-200, 200, 60)).sentinel is None


def test_values_that_pile_up_at_their_end_are_seen() -> None:
    rng = np.random.default_rng(0)
    incomes = np.minimum(rng.lognormal(3, 0.8, 2000), 60.0)
    assert describe_numbers(incomes).ceiling == (60.0, int((incomes == 60.0).sum()))
    assert describe_numbers(rng.lognormal(3, 0.8, 2000)).ceiling is None
    assert describe_numbers(rng.integers(0, 12, 2000).astype(float)).ceiling is None


def test_columns_of_every_kind() -> None:
    start = datetime.datetime(2024, 1, 1)
    data = dataset(
        number=[1.0, None, float("nan"), 4.0],
        text=["Male", "male ", "Female", None],
        flag=[True, None, False, True],
        when=[start, start + datetime.timedelta(hours=1), start + datetime.timedelta(hours=4), None],
        empty=pl.Series([None] * 4, dtype=pl.Float64),
        endless=[1.0, float("inf"), 2.0, 3.0],
        raw=[b"1", b"2", None, b"1"],
    )
    found = {name: describe_column(data, name) for name in data.columns}
    assert (found["number"].missing, found["number"].distinct) == (2, 2)
    assert found["text"].spellings == (("Male", "male "),)
    assert dict(found["flag"].top) == {"true": 2, "false": 1}
    times = found["when"].times
    assert times is not None
    assert (times.step_s, times.gaps, times.ordered) == (3600.0, 1, True)
    assert found["empty"].present == 0
    assert found["endless"].numbers is not None
    assert found["endless"].numbers.endless == 1
    assert found["raw"].distinct == 2


def table_with_a_leak(rows: int = 400) -> Dataset:
    rng = np.random.default_rng(0)
    outcome = rng.integers(0, 2, rows)
    return dataset(
        PassengerId=np.arange(1, rows + 1),
        outcome=outcome,
        alive=np.where(outcome == 1, "yes", "no"),
        useful=outcome + rng.normal(size=rows),
        chance=rng.normal(size=rows),
        many=[f"v{i}" for i in rng.integers(0, rows // 2, rows)],
        always=["x"] * rows,
        note=["some words that a person wrote down here"] * rows,
    )


def test_leaks_ids_constants_and_scattered_values_are_left_out() -> None:
    table = describe_table(table_with_a_leak(), "outcome")
    reasons = {drop.column: drop.kind for drop in table.drops}
    assert reasons == {
        "PassengerId": "id",
        "alive": "leak",
        "many": "scattered",
        "always": "constant",
        "note": "constant",
    }
    assert [column.name for column in table.features] == ["useful", "chance"]
    told = {one.column: one.share for one in table.told}
    assert told["alive"] > 0.9
    assert 0.05 < told["useful"] < 0.5
    assert told["chance"] < 0.02
    assert told["many"] < 0.02, "a column of chance tells nothing, however many values it has"


def test_what_tells_a_number_is_near_the_share_of_variance() -> None:
    rng = np.random.default_rng(1)
    x, noise = rng.normal(size=4000), rng.normal(size=4000)
    data = dataset(y=x + noise, x=x, noise_alone=rng.normal(size=4000), same=(x + noise) * 3 - 1)
    columns = [describe_column(data, name) for name in data.columns]
    told = {one.column: one for one in what_tells(data, find_target(data, "y"), columns)}
    assert told["x"].share == pytest.approx(stats.pearsonr(x, x + noise)[0] ** 2, abs=0.05)
    assert told["noise_alone"].share < 0.01
    assert told["same"].leaks
    assert not told["x"].leaks
    assert told["x"].alone == pytest.approx(abs(stats.spearmanr(x, x + noise)[0]), abs=1e-12)


def test_correlations_are_spearmans() -> None:
    rng = np.random.default_rng(2)
    a = rng.normal(size=300)
    b = a**3 + rng.normal(size=300)
    data = dataset(a=a, b=b, c=[None, *rng.normal(size=299).tolist()])
    found = correlate(data, [describe_column(data, name) for name in data.columns])
    assert found is not None
    assert found.matrix[0, 1] == pytest.approx(stats.spearmanr(a, b)[0], abs=1e-12)
    assert correlate(dataset(a=[1.0]), [describe_column(dataset(a=[1.0]), "a")]) is None


def test_twins_say_the_same() -> None:
    data = dataset(
        code=["A", "B", "C"] * 20, name=["Alpha", "Beta", "Gamma"] * 20, x=range(60), y=[2 * i for i in range(60)]
    )
    columns = [describe_column(data, name) for name in data.columns]
    assert set(find_twins(data, columns, correlate(data, columns))) == {("code", "name"), ("x", "y")}


def test_gaps_by_block_and_pattern() -> None:
    data = dataset(a=[None, None, 1, 1], b=[None, 2, 2, 2], c=[1, 2, 3, 4])
    found = find_gaps(data, [describe_column(data, name) for name in data.columns], num_blocks=2)
    assert found is not None
    assert found.blocks.tolist() == [[1.0, 0.0], [0.5, 0.0]]
    assert set(found.patterns) == {(("a", "b"), 1), (("a",), 1)}


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("PassengerId", list(range(100, 200)), True),
        ("row", list(range(100)), True),
        ("height", [i * 0.37 for i in range(100)], False),
        ("weight_g", [5 * i for i in range(100)], False),
        ("uuid", [f"{i:x}-{i * 7}" for i in range(100)], True),
        ("valid", [i % 3 for i in range(100)], False),
        ("humid", [float(i) for i in range(100)], False),
    ],
)
def test_ids_are_told_from_measurements(name: str, values: list[Any], expected: bool) -> None:
    data = dataset(**{name: values, "other": [0] * 100})
    if name == "humid":
        data = dataset(**{name: [v * 1.5 for v in values]})
    assert is_id(describe_column(data, name)) is expected


def test_rows_of_one_patient_belong_together() -> None:
    data = dataset(patient_id=[f"p{i // 4}" for i in range(80)], x=range(80))
    columns = [describe_column(data, name) for name in data.columns]
    group = find_group(columns, None)
    assert group is not None
    assert group.name == "patient_id"
    assert find_group(columns, "patient_id") is None


def test_a_table_without_rows_or_with_a_hopeless_target_is_refused() -> None:
    with pytest.raises(DataError, match="no rows"):
        describe_table(dataset(a=pl.Series([], dtype=pl.Int64)))
    with pytest.raises(DataError, match="constant"):
        describe_table(dataset(a=[1.5] * 5), "a")
    with pytest.raises(DataError, match="Did you mean 'abc'"):
        describe_table(dataset(abc=[1.5] * 5), "acb")


names = st.one_of(st.sampled_from(["*", "^.*$", "_", "split"]), st.text(max_size=5))
cells = st.one_of(st.none(), st.floats(), st.integers(-5, 5), st.text(max_size=4), st.booleans(), st.just("<script>"))


@given(
    st.dictionaries(
        names,
        st.lists(cells, min_size=1, max_size=9),
        min_size=1,
        max_size=4,
    ),
    st.data(),
)
def test_any_small_table_can_be_described(columns: dict[str, list[Any]], data: st.DataObject) -> None:
    rows = min(map(len, columns.values()))
    frame = pl.DataFrame({n: pl.Series(v[:rows], strict=False) for n, v in columns.items() if n != ROW})
    if not frame.width:
        return
    found = Dataset.of(frame)
    target = data.draw(st.sampled_from([None, *frame.columns]))
    table = describe_table(found)
    if target is not None:
        with contextlib.suppress(DataError):  # constant, or not a number, category or boolean
            table = describe_table(found, target)
    assert [column.name for column in table.columns] == frame.columns
    assert {drop.column for drop in what_to_drop(table.columns, None, ())} <= set(frame.columns)


def picture(pixels: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def test_odd_images_and_near_copies_are_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    smooth = [
        np.asarray(Image.fromarray(rng.integers(60, 200, (4, 4, 3)).astype(np.uint8)).resize((40, 40)))
        for _ in range(30)
    ]
    copy = np.clip(smooth[3].astype(int) + 2, 0, 255).astype(np.uint8)
    black = np.zeros((40, 40, 3), np.uint8)
    data = Dataset.of(
        pl.DataFrame(
            {
                "path": [f"{i}.png" for i in range(32)],
                "image": [picture(p) for p in [*smooth, copy, black]],
                "label": ["a", "b"] * 16,
            }
        ),
        {"path": "id", "image": "image", "label": "category"},
    )
    found = describe_images(data, "image", "label")
    assert found.alike
    assert found.edge == 40
    assert dict(found.classes) == {"a": 16, "b": 16}
    assert [pair[:2] for pair in found.copies] == [("30.png", "3.png")]
    assert found.across == 1
    assert found.odd[0].name == "31.png"
    assert found.odd[0].address.startswith("data:image/jpeg;base64,")


def test_odd_by_the_modified_z_score() -> None:
    features = np.tile(np.linspace(0, 1, 21)[:, None], (1, 5))
    features[4, 2] = 30.0
    (first, *_) = odd_ones(features)
    assert first == (4, "very fine grain")


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The cat sat on the mat, and it was not for you to say that this is so.", "English"),
        ("Der Hund und die Katze sind nicht auf dem Sofa, sie ist mit der Frau.", "German"),
        ("Le chat est sur la table et il ne veut pas que les enfants le voient.", "French"),
        ("红楼梦曹雪芹第一回甄士隐梦幻识通灵", "Chinese"),
        ("これは日本語の文章です。", "Japanese"),
        ("Это русский текст о погоде.", "Cyrillic"),
        ("12 34 56", "no letters"),
        ("zxq vbn", "unclear"),
        ("Hey babe im at home now, wanna do something? Give me a call", "English"),
        ("Eu não sei o que ele faz em casa, mas é para uma festa", "Portuguese"),
    ],
)
def test_languages(text: str, language: str) -> None:
    assert language_of(text) == language


def test_texts_with_their_faults() -> None:
    line = "All rights reserved by the owner."
    texts = [f"Text number {i} of its own kind.\n{line}" for i in range(6)]
    texts += [texts[0], "CafÃ© is broken", "<p>markup</p>", "", "bell \x07"]
    found = describe_texts(Dataset.of(pl.DataFrame({"t": texts}), {"t": "text"}), "t")
    assert found.copies.exact == 1
    assert (found.faults.broken, found.faults.markup, found.faults.empty, found.faults.control) == (1, 1, 1, 1)
    assert found.repeats.lines[0] == (line, 7)
    assert found.repeats.share > 0.3
    assert found.characters.count == len(texts)
    assert found.extremes[0][1] == 0


def test_chinese_words_are_counted_without_spaces() -> None:
    texts = ["房间很小，确实挺小，但加上低价位因素", "the room is small", "酒店checkin很慢", "", "a - b"]
    assert word_counts(pl.Series(texts)).to_list() == [8.0, 4.0, 3.0, 0.0, 3.0]
    reviews = [
        f"{text}{i}"
        for i in range(6)
        for text in ("商务大床房，房间很大，床有二米宽，整体感觉经济实惠", "早餐太差无论去多少人")
    ]
    column = describe_table(Dataset.of(pl.DataFrame({"review": reviews}), {"review": "text"})).column("review")
    assert not is_id(column)  # each stands there once, as texts do


def test_lines_that_come_again_count_their_first_time_apart() -> None:
    lines, share = repeated_lines(["a long line here\nshort", "a long line here", "a long line here", "x"])
    assert lines == (("a long line here", 3),)
    assert share == pytest.approx(2 * 16 / (16 * 3 + 1 + 5 + 1))
