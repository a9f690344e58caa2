"""Function bodies as samples for fine-tuning: the model is given signature and docstring, and learns the body."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

import numpy as np

from groundup.core.dataset import ROW, Dataset
from groundup.core.errors import DataError
from groundup.data.functions import Example, examples, prompt_of
from groundup.data.packing import PackedSequences, fit_whole
from groundup.data.samples.text import PackedSamples, Tokenizer, documents


@dataclasses.dataclass(frozen=True)
class FunctionBodies(PackedSamples):
    """Signature and docstring -> body, from Python sources; the loss is on the body and the end of text alone.

    A function with a docstring and ``min_lines`` or more lines of body becomes one document, prompt and body
    tokenised apart, so that a prompt has the same tokens when served. Several share a sequence of ``length`` where they
    fit whole; one that is too long is cut in its body (and then learns no end). What is passed over is counted in
    the notes. A trained model's tokenizer is taken over by ``FunctionBodies(...).with_tokenizer(its samples)``.
    """

    min_lines: int = 2

    def encode(self, dataset: Dataset) -> PackedSequences:
        """The functions as sequences. Raises DataError when rows hold no function that can be learned from."""
        tokenizer = self.learned_tokenizer
        counts: collections.Counter[str] = collections.Counter()
        found: list[Example] = []
        rows: list[int] = []
        for row, text in zip(
            dataset.frame[ROW].to_list(), documents(dataset, self.column, "FunctionBodies"), strict=True
        ):
            these = list(examples(text, self.min_lines, counts))
            found.extend(these)
            rows.extend([row] * len(these))
        ids, given, kept = _encoded(found, tokenizer, self.length + 1, counts)
        if len(dataset) and not ids:
            reasons = "; ".join(f"{count} {reason}" for reason, count in counts.items())
            raise DataError(
                f"FunctionBodies: no function to learn from in {dataset.origin or 'the data'}"
                f"{f' ({dataset.split})' if dataset.split else ''}. Left out: {reasons or 'there are none'}."
            )
        windows = fit_whole([len(one) for one in ids], self.length + 1)
        order = [document for window in windows for document in window]
        notes = [f"{len(ids)} functions in {len(windows)} sequences"]
        notes += [f"{count} {reason}" for reason, count in counts.most_common()]
        return _packed(
            ids=[ids[i] for i in order],
            given=np.array([given[i] for i in order], dtype=np.int64),
            sizes=[sum(len(ids[i]) for i in window) for window in windows],
            rows=np.array([rows[kept[window[0]]] for window in windows], dtype=np.int64),
            length=self.length,
            tokenizer=tokenizer,
            texts=[found[kept[i]].prompt + found[kept[i]].completion for i in order],
            notes=tuple(notes),
        )

    def prompt(self, text: str) -> str:
        """Signature and docstring as in training: dedented, decorators and white space at the end left out."""
        return prompt_of(text)


def _encoded(
    found: list[Example], tokenizer: Tokenizer, capacity: int, counts: collections.Counter[str]
) -> tuple[list[np.ndarray[Any, Any]], list[int], list[int]]:
    """(tokens, how many of them are prompt, number of the example) of each that fits at least in part."""
    prompts = tokenizer.encode_many([example.prompt for example in found])
    bodies = tokenizer.encode_many([example.completion for example in found])
    ids: list[np.ndarray[Any, Any]] = []
    given: list[int] = []
    kept: list[int] = []
    end = np.array([tokenizer.end_of_text], dtype=np.int32)
    for i, (prompt, body) in enumerate(zip(prompts, bodies, strict=True)):
        if len(prompt) >= capacity:
            counts["functions left out: their signature and docstring fill the sequence"] += 1
            continue
        whole = np.concatenate([prompt, body, end])
        if len(whole) > capacity:
            counts["functions cut in their body"] += 1
        ids.append(whole[:capacity])
        given.append(len(prompt))
        kept.append(i)
    return ids, given, kept


def _packed(
    ids: list[np.ndarray[Any, Any]],
    given: np.ndarray[Any, Any],
    sizes: list[int],
    tokenizer: Tokenizer,
    **known: Any,
) -> PackedSequences:
    tokens = np.concatenate([*ids, np.empty(0, dtype=np.int32)])
    lengths = np.array([len(one) for one in ids], dtype=np.int64)
    starts = np.cumsum(lengths) - lengths
    borders = np.cumsum([0, *sizes])
    weights = tokenizer.byte_lengths()
    learned = [int(weights[one[first:]].sum()) for one, first in zip(ids, given.tolist(), strict=True)]
    return PackedSequences(
        tokens=tokens,
        starts=starts,
        given=given,
        begins=borders[:-1],
        # The last token of a window has nothing behind it to predict.
        ends=borders[1:] - 1,
        end_of_text=tokenizer.end_of_text,
        num_bytes=sum(learned),
        **known,
    )
