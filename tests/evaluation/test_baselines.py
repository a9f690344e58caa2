from __future__ import annotations

import dataclasses
import itertools
import lzma
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge

from groundup.core.errors import DataError
from groundup.core.use import public_names
from groundup.evaluation import baselines
from groundup.evaluation.baselines import compressed_size
from groundup.evaluation.ngram import NGram


@dataclasses.dataclass
class Samples:
    inputs: np.ndarray
    targets: np.ndarray

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        return self.inputs, self.targets


@dataclasses.dataclass
class Series(Samples):
    lasts: np.ndarray

    def last(self) -> np.ndarray:
        return self.lasts


@dataclasses.dataclass
class Text:
    """Characters as tokens, 0 closes each document; its first token is given."""

    texts: list[str]

    def __post_init__(self) -> None:
        pieces = [[ord(letter) for letter in text] + [0] for text in self.texts]
        self.tokens = np.array(list(itertools.chain(*pieces)), dtype=np.int32)
        lengths = np.array([len(piece) for piece in pieces], dtype=np.int64)
        self.starts = np.cumsum(lengths) - lengths
        self.given = np.ones(len(pieces), dtype=np.int64)
        self.num_bytes = sum(max(0, len(text.encode()) - 1) for text in self.texts)


def test_majority_and_mean() -> None:
    train = Samples(np.zeros((4, 2)), np.array([2, 0, 2, 2]))
    found = baselines.majority(train, Samples(np.zeros((3, 2)), np.array([0, 1, 2])))
    np.testing.assert_array_equal(found, [[0.25, 0, 0.75]] * 3)
    steps = Samples(np.zeros((2, 2)), np.array([[1.0, 2.0], [3.0, 6.0]]))
    np.testing.assert_array_equal(baselines.mean(steps, train), [[2.0, 4.0]] * 4)
    with pytest.raises(DataError, match="is for classes"):
        baselines.majority(steps, steps)


def test_logistic_regression_is_scikit_learns() -> None:
    draw = np.random.default_rng(0)
    inputs = draw.normal(size=(200, 2, 3))
    targets = (inputs[:, 0, 0] + draw.normal(size=200) > 0).astype(int) * 2
    train, test = Samples(inputs[:150], targets[:150]), Samples(inputs[150:], targets[150:])
    found = baselines.logistic_regression(train, test)
    expected = LogisticRegression(max_iter=2000).fit(inputs[:150].reshape(150, 6), targets[:150])
    np.testing.assert_allclose(found[:, [0, 2]], expected.predict_proba(inputs[150:].reshape(50, 6)), atol=1e-12)
    assert (found[:, 1] == 0).all(), "a class that train does not have"
    with pytest.raises(DataError, match="every target of train is class 1"):
        baselines.logistic_regression(Samples(np.zeros((3, 1)), np.ones(3, dtype=int)), test)


def test_linear_is_ridge_regression() -> None:
    draw = np.random.default_rng(0)
    inputs = draw.normal(size=(300, 4, 2)).astype(np.float32)
    targets = inputs.reshape(300, 8) @ draw.normal(size=(8, 3)) + 5 + draw.normal(size=(300, 3))
    found = baselines.linear(Samples(inputs[:200], targets[:200]), Samples(inputs[200:], targets[200:]), ridge=0.1)
    flat = inputs.reshape(300, 8).astype(np.float64)
    weight = 0.1 * np.trace(np.cov(flat[:200].T, bias=True)) / 8 * 200
    expected = Ridge(alpha=weight).fit(flat[:200], targets[:200]).predict(flat[200:])
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_linear_with_columns_that_are_constant_or_copies() -> None:
    column = np.arange(10.0)[:, None]
    inputs = np.concatenate([column, column, np.ones((10, 1))], axis=1)
    found = baselines.linear(Samples(inputs, 3 * np.arange(10.0) + 1), Samples(inputs, np.zeros(10)))
    np.testing.assert_allclose(found, 3 * np.arange(10.0) + 1, rtol=1e-3, atol=2e-3)
    assert found.shape == (10,)


def test_repeat_last() -> None:
    test = Series(np.zeros((3, 5)), np.zeros((3, 4)), np.array([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(baselines.repeat_last(test, test), [[1.0] * 4, [2.0] * 4, [3.0] * 4])
    with pytest.raises(DataError, match="windows of a series"):
        baselines.repeat_last(test, Samples(np.zeros((1, 1)), np.zeros(1)))  # type: ignore[arg-type]


WORDS = st.lists(st.text(alphabet="abc", min_size=1, max_size=12), min_size=1, max_size=6)


@settings(max_examples=40, deadline=None)
@given(WORDS, st.text(alphabet="abcd", max_size=5), st.integers(1, 4))
def test_ngram_probabilities_add_up_to_one(texts: list[str], context: str, order: int) -> None:
    """Over every token that can follow, whatever the context, one that train never had included."""
    train = Text(texts)
    vocab_size = 102
    model = NGram.fit(train.tokens, train.starts, order, vocab_size)
    before = np.array([ord(letter) for letter in context], dtype=np.int64)
    documents = np.concatenate([np.append(before, token) for token in range(vocab_size)]).astype(np.int64)
    starts = np.arange(vocab_size) * (len(before) + 1)
    nats = model.nats(documents, starts)[len(before) :: len(before) + 1]
    assert len(nats) == vocab_size
    assert np.isfinite(nats).all()
    assert math.fsum(np.exp(-nats)) == pytest.approx(1.0, abs=1e-12)


def slow_kneser_ney(texts: list[str], order: int, vocab_size: int) -> dict[tuple[int, ...], float]:
    """The same model by dictionaries, one gram at a time: p of every gram that the texts have."""
    padded = [[-1] * (order - 1) + [ord(letter) for letter in text] + [0] for text in texts]
    grams: dict[int, dict[tuple[int, ...], int]] = {n: {} for n in range(1, order + 1)}
    for text in padded:
        for end in range(order - 1, len(text)):
            gram = tuple(text[end - order + 1 : end + 1])
            grams[order][gram] = grams[order].get(gram, 0) + 1
    for n in range(order - 1, 0, -1):
        for gram, count in grams[n + 1].items():
            shorter = gram[1:]
            if shorter[0] == -1:
                grams[n][shorter] = grams[n].get(shorter, 0) + count
            else:
                grams[n][shorter] = grams[n].get(shorter, 0) + 1
    discounts: dict[int, list[float]] = {}
    for n, counts in grams.items():
        once, twice, thrice, four = (sum(c == k for c in counts.values()) for k in (1, 2, 3, 4))
        share = once / (once + 2 * twice) if once and twice else 0.5
        found = [share] * 3
        if once and twice and thrice and four:
            full = [1 - 2 * share * twice / once, 2 - 3 * share * thrice / twice, 3 - 4 * share * four / thrice]
            found = full if min(full) > 0 else found
        discounts[n] = [0.0, *found]

    def probability(gram: tuple[int, ...]) -> float:
        shorter = probability(gram[1:]) if len(gram) > 1 else 1 / vocab_size
        counts = grams[len(gram)]
        same = {g: c for g, c in counts.items() if g[:-1] == gram[:-1]}
        if not same:
            return shorter
        taken = discounts[len(gram)]
        own = counts.get(gram, 0)
        left = sum(taken[min(c, 3)] for c in same.values())
        return (own - taken[min(own, 3)] + left * shorter) / sum(same.values())

    return {
        tuple(text[end - order + 1 : end + 1]): probability(tuple(text[end - order + 1 : end + 1]))
        for text in padded
        for end in range(order - 1, len(text))
    }


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_ngram_is_the_textbooks_model(order: int) -> None:
    draw = np.random.default_rng(0)
    texts = ["".join(draw.choice(list("aabbcdd"), draw.integers(1, 40))) for _ in range(12)]
    train = Text(texts)
    nats = NGram.fit(train.tokens, train.starts, order, 128).nats(train.tokens, train.starts)
    expected = slow_kneser_ney(texts, order, 128)
    at = 0
    for text in texts:
        padded = [-1] * (order - 1) + [ord(letter) for letter in text] + [0]
        for end in range(order - 1, len(padded)):
            gram = tuple(padded[end - order + 1 : end + 1])
            assert nats[at] == pytest.approx(-math.log(expected[gram]), abs=1e-12), gram
            at += 1
    assert at == len(nats)


def test_ngram_contexts_do_not_cross_documents() -> None:
    train = Text(["ab", "cd"] * 50)
    model = NGram.fit(train.tokens, train.starts, 3, 128)
    alone = model.nats(*_stream(["xy", "cd"]))
    after_other = model.nats(*_stream(["ab", "cd"]))
    np.testing.assert_array_equal(alone[3:], after_other[3:])
    one = model.nats(*_stream(["abcd"]))
    assert one[2] > after_other[3] + 1, "c after ab within a document was never seen"


def _stream(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    found = Text(texts)
    return found.tokens, found.starts


def test_order3_charges_what_is_predicted() -> None:
    train, test = Text(["the cat sat on the mat"] * 20), Text(["the cat sat", "on the mat"])
    found = baselines.order3(train, test)
    nats = {n: NGram.fit(train.tokens, train.starts, n, 117).nats(test.tokens, test.starts) for n in (3, 4)}
    predicted = np.ones(len(test.tokens), dtype=bool)
    predicted[test.starts] = False
    best = min(values[predicted].sum() for values in nats.values())
    assert found["bits_per_byte"] == pytest.approx(best / math.log(2) / test.num_bytes)
    assert found["loss"] == pytest.approx(best / predicted.sum())
    assert found["bits_per_byte"] == min(found["bits_per_byte_trigrams"], found["bits_per_byte_three_back"])
    assert found["bits_per_byte"] < 1


def test_xz_counts_both_ways() -> None:
    source = Path(baselines.__file__).read_text()
    train, test = Text([source]), Text([source[1000:3000], source[500:900]])
    found = baselines.xz(train, test)
    held_out = "".join(test.texts).encode()
    assert found["bits_per_byte_alone"] == 8 * compressed_size(held_out) / len(held_out)
    assert found["bits_per_byte_after_train"] < 0.2, "train holds the very same lines"
    assert found["bits_per_byte"] == found["bits_per_byte_after_train"]
    unlike = baselines.xz(Text(["1" * 10]), test)
    assert unlike["bits_per_byte"] == pytest.approx(unlike["bits_per_byte_alone"], rel=0.05)
    with pytest.raises(DataError, match="no held-out text"):
        baselines.xz(train, Text([]))


def test_xz_sees_as_far_back_as_train_goes() -> None:
    """A dictionary too small would forget the beginning of train."""
    draw = np.random.default_rng(0)
    noise = "".join(chr(32 + value) for value in draw.integers(0, 90, 300_000))
    found = baselines.xz(Text([noise]), Text([noise[:20_000]]))
    assert found["bits_per_byte_after_train"] < 0.1
    cut = baselines.xz(Text([noise * 4]), Text([noise[:20_000]]), context_megabytes=1)
    assert cut["bits_per_byte_after_train"] < 0.1


def test_compressed_size_is_what_lzma_writes() -> None:
    text = Path(baselines.__file__).read_bytes()
    assert compressed_size(text) <= len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)) - 32


def test_a_recipe_finds_the_baselines_and_nothing_else() -> None:
    assert set(public_names(baselines)) == set(baselines.__all__)
