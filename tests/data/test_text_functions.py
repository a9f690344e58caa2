"""Functions as prompt and body: what is taken, what is masked, and that no mask is empty."""

from __future__ import annotations

import ast
import collections

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.core.dataset import Dataset
from groundup.core.errors import DataError
from groundup.core.preprocessing import Preprocessing
from groundup.core.use import Use
from groundup.data import splitting
from groundup.data.functions import Example, examples, prompt_of
from groundup.data.loading import once
from groundup.data.packing import MASKED
from groundup.data.samples import FunctionBodies, PackedText
from groundup.data.sources import standard_library

SOURCE = '''
import os

@decorated
def first(a, b=1,
          *, c: int = 2) -> int:
    """Adds.

    At length."""
    # a comment
    total = a + b
    return total + c

class Thing:
    """A class."""
    @property
    def method(self):
        """Says."""
        text = """
  left
"""

        def inner():
            """Not by itself."""
            x = 1
            return x
        return inner, text

    async def waits(self):
        "Short string."
        await self
        return

def bare(x):
    x += 1
    return x

def abstract(self):
    """To be written."""
    raise NotImplementedError("soon")

def dots():
    """Nothing."""
    ...

def one_liner(x):
    """Twice."""
    return 2 * x

def same(): """Doc."""; return 1

if os.name:
    def branch():
        """In a branch."""
        x = 1
        return x
'''


def taken(source: str, min_lines: int = 2) -> tuple[list[Example], collections.Counter[str]]:
    skipped: collections.Counter[str] = collections.Counter()
    return list(examples(source, min_lines, skipped)), skipped


def test_prompts_and_bodies_are_the_source() -> None:
    found, skipped = taken(SOURCE)
    assert [example.prompt.split("(")[0] for example in found] == [
        "def first",
        "def method",
        "async def waits",
        "def branch",
    ]
    assert found[0].prompt.endswith('    """Adds.\n\n    At length."""')
    assert found[0].completion == "\n    # a comment\n    total = a + b\n    return total + c"
    assert found[1].prompt == 'def method(self):\n    """Says."""'
    assert "decorated" not in found[0].prompt
    assert found[2].prompt.endswith('"Short string."')
    assert skipped == {
        "functions without a docstring": 1,
        "functions without a body of their own": 2,
        "functions with a body of fewer than 2 lines": 1,
        "functions written on one line with their docstring": 1,
    }
    assert len(taken(SOURCE, min_lines=1)[0]) == 5


def test_what_does_not_parse_is_counted() -> None:
    for broken in ("print 'old'", "def f(:\n", "\0", "x = " + "(" * 5000):
        found, skipped = taken(broken)
        assert found == []
        assert skipped == {"files that do not parse as Python": 1}


def test_examples_of_the_standard_library_stand_alone() -> None:
    count = 0
    for text in standard_library(limit_bytes=2_000_000).frame["text"]:
        for example in taken(text)[0]:
            count += 1
            [function] = ast.parse(example.prompt + example.completion + "\n").body
            assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
            assert not function.decorator_list
            [alone] = ast.parse(example.prompt + "\n").body
            assert ast.get_docstring(alone) == ast.get_docstring(function)  # type: ignore[arg-type]
            assert len(alone.body) == 1  # type: ignore[attr-defined]
            assert prompt_of(example.prompt) == example.prompt, "a served prompt is the trained one"
    assert count > 300


def dataset(*sources: str, split: str = "train") -> Dataset:
    whole = Dataset.of(pl.DataFrame({"text": list(sources)}), {"text": "text"}, origin="the test")
    return whole.take(np.arange(len(sources)), split)  # type: ignore[arg-type]


def pretrained() -> PackedText:
    return PackedText(length=64, tokenizer=Use("BytePairEncoding", vocab_size=400)).fit(dataset(SOURCE))


def test_loss_is_on_the_body_alone_and_the_tokenizer_is_the_trained_one() -> None:
    trained = pretrained()
    samples = FunctionBodies(length=128).with_tokenizer(trained).fit(dataset(SOURCE))
    assert samples.learned_tokenizer == trained.learned_tokenizer
    encoded = samples.encode(dataset(SOURCE))
    found = taken(SOURCE)[0]
    bodies, prompts = [], []
    for batch in once(encoded, 2):
        for i in range(batch.num_samples):
            text = "".join(token for token, learned in samples.describe(batch, i) if learned)
            bodies += text.split("<|endoftext|>")[:-1]
            prompts.append("".join(token for token, learned in samples.describe(batch, i) if not learned))
    assert sorted(bodies) == sorted(example.completion for example in found)
    assert sum(map(len, prompts)) == sum(len(example.prompt) for example in found)
    assert encoded.num_bytes == sum(len(example.completion.encode()) for example in found)
    assert sorted(encoded.texts) == sorted(example.prompt + example.completion for example in found)
    assert encoded.notes[0].startswith("4 functions in ")
    assert "1 functions without a docstring" in encoded.notes


@given(st.integers(8, 200), st.permutations(range(4)))
@settings(max_examples=40, deadline=None)
def test_no_mask_is_empty_and_nothing_crosses(length: int, order: list[int]) -> None:
    trained = pretrained()
    tokenizer = trained.learned_tokenizer
    sources = [SOURCE, SOURCE.replace("total", "sum_of_all"), "x = 1\n", SOURCE.replace("Adds", "Adds up " * 20)]
    samples = FunctionBodies(length=length).with_tokenizer(trained)
    shortest = min(len(tokenizer.encode(example.prompt)) for source in sources for example in taken(source)[0])
    if shortest > length:
        with pytest.raises(DataError, match="fill the sequence"):
            samples.encode(dataset(*sources))
        return
    encoded = samples.encode(dataset(*[sources[i] for i in order]))
    total = 0
    for batch in once(encoded, 3):
        targets, tokens, where = batch.targets["targets"], batch.inputs["tokens"], batch.inputs["documents"]
        assert bool((targets != MASKED).any(dim=1).all())
        assert bool((targets[tokens == tokenizer.end_of_text] == MASKED).all())
        for i in range(batch.num_samples):
            for document in range(int(where[i].max()) + 1):
                assert bool((targets[i][where[i] == document] != MASKED).any()), "an example with an empty mask"
        total += int((targets != MASKED).sum())
    assert total == encoded.num_targets


def test_long_bodies_are_cut_and_counted_and_long_prompts_left_out() -> None:
    trained = pretrained()
    prompt = 'def f(x):\n    """Doc."""'
    size = len(trained.learned_tokenizer.encode(prompt))
    long = prompt + "\n    x += 1" * 100 + "\n    return x\n"
    samples = FunctionBodies(length=size + 20).with_tokenizer(trained)
    encoded = samples.encode(dataset(long))
    assert "1 functions cut in their body" in encoded.notes
    [batch] = once(encoded, 1)
    learned = batch.targets["targets"][batch.targets["targets"] != MASKED]
    assert len(learned) == 21
    assert trained.learned_tokenizer.end_of_text not in learned.tolist(), "a cut body teaches no end"
    assert "".join(token for token, _ in samples.describe(batch)) == long[: len(prompt) + encoded.num_bytes]
    with pytest.raises(DataError, match=r"no function to learn from.*1 functions left out: their signature"):
        FunctionBodies(length=size - 1).with_tokenizer(trained).encode(dataset(long))
    one = FunctionBodies(length=size).with_tokenizer(trained).encode(dataset(long))
    assert one.num_targets == 1


def test_prompts_as_a_person_writes_them() -> None:
    trained = FunctionBodies(length=64).with_tokenizer(pretrained())
    said = '\n    @cached\n    def f(x):\n        """Doc."""\n        '
    assert trained.prompt(said) == 'def f(x):\n    """Doc."""'
    assert trained.prompt_tokens(said) == trained.learned_tokenizer.encode('def f(x):\n    """Doc."""')


def test_which_tokenizer_must_be_said() -> None:
    with pytest.raises(DataError, match="with_tokenizer"):
        FunctionBodies(length=64).fit(dataset(SOURCE))
    with pytest.raises(DataError, match="not fitted"):
        FunctionBodies(length=64).with_tokenizer(PackedText())
    own = FunctionBodies(length=64, tokenizer=Use("BytePairEncoding", vocab_size=300)).fit(dataset(SOURCE))
    assert own.sizes()["vocab_size"] == 300
    with pytest.raises(DataError, match="no function to learn from"):
        own.encode(dataset("x = 1\n"))
    assert len(own.encode(dataset(split="test"))) == 0


def test_real_functions_through_preprocessing_and_json() -> None:
    splits = splitting.by_hash(standard_library(limit_bytes=400_000), "path", 0.2, 0.2)
    base, splits = Preprocessing.fit(
        (), PackedText(length=64, tokenizer=Use("BytePairEncoding", vocab_size=600)), splits
    )
    samples = FunctionBodies(length=256).with_tokenizer(base.samples)
    fitted, splits = Preprocessing.fit((), samples, splits)
    again = Preprocessing.from_json(fitted.to_json())
    assert again.samples == fitted.samples
    one, other = (each.samples.encode(splits.train) for each in (fitted, again))
    assert np.array_equal(one.tokens, other.tokens)
    assert len(one.tokens) / 257 <= len(one) <= 11 / 9 * len(one.tokens) / 257 + 2, "windows are nearly full"
    assert set(one.rows.tolist()) <= set(splits.train.frame["_row"].to_list())
