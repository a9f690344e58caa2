"""Pairs of texts as samples: a model reads the source whole and learns to write the target."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from groundup.core.batch import Batch
from groundup.core.dataset import ROW, Dataset
from groundup.core.errors import DataError
from groundup.core.use import Use
from groundup.data.packing import MASKED
from groundup.data.samples.text import TextSamples, documents

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True)
class Texts:
    """Texts as one stream of tokens."""

    tokens: Array
    """[N] int32, one text after the other."""
    starts: Array
    """[D] where each text begins."""

    @classmethod
    def of(cls, ids: Sequence[Array]) -> Self:
        """These texts, one after the other."""
        lengths = np.array([len(one) for one in ids], dtype=np.int64)
        return cls(np.concatenate([*ids, np.empty(0, dtype=np.int32)]), np.cumsum(lengths) - lengths)

    @property
    def lengths(self) -> Array:
        """[D] tokens of each text."""
        return np.diff(np.append(self.starts, len(self.tokens)))

    def padded(self, positions: Array, padding: int) -> Array:
        """[B, T] int64, T tokens in the longest text of all, so that batches have one shape."""
        lengths = self.lengths
        step = np.arange(lengths.max(initial=1))
        place = np.minimum(self.starts[positions][:, None] + step, len(self.tokens) - 1)
        shown = step < lengths[positions][:, None]
        return np.where(shown, self.tokens[place], padding).astype(np.int64)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class EncodedPairs:
    """Sources and targets as tokens; what a baseline for text takes are the targets alone."""

    sources: Texts
    targets: Texts
    rows: Array
    begin: int
    """The token that each target begins with."""
    end_of_text: int
    texts: list[str]
    """The targets as text."""
    num_bytes: int
    """Bytes of UTF-8 that the targets stand for: what bits per byte divide by."""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"{len(self)} pairs: {len(self.sources.tokens):,} tokens to read, {len(self.tokens):,} to write"

    @property
    def tokens(self) -> Array:
        """[N] int32: all targets, one after the other."""
        return self.targets.tokens

    @property
    def starts(self) -> Array:
        """[D] where each target begins."""
        return self.targets.starts

    @property
    def given(self) -> Array:
        """[D] how many first tokens of each target are not learned: none."""
        return np.zeros(len(self), dtype=np.int64)

    def batch(
        self, positions: Array, augment: Sequence[Any] = (), seed: int = 0, epoch: int = 0
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """``tokens`` [B, S], ``decoder_tokens`` [B, T] and ``lengths`` [B] int64; ``targets`` [B, T], -100 behind them.

        ``decoder_tokens`` are the targets one place later, behind the token that they begin with. Nothing is drawn;
        augmentation raises DataError.
        """
        if augment:
            raise DataError("text samples take no augmentation; leave data.augment out of the recipe.")
        targets = self.targets.padded(positions, MASKED)
        before = np.roll(targets, 1, axis=1)
        before[:, 0] = self.begin
        inputs = {
            "tokens": self.sources.padded(positions, self.end_of_text),
            "decoder_tokens": np.where(before == MASKED, self.end_of_text, before),
            "lengths": self.sources.lengths[positions],
        }
        return {n: torch.from_numpy(value) for n, value in inputs.items()}, {"targets": torch.from_numpy(targets)}


@dataclasses.dataclass(frozen=True)
class TextPairs(TextSamples):
    """Each row is a pair: the model reads ``source`` and writes ``target``, both closed by the end of text.

    For models that read and write, such as T5. One tokenizer is trained on both columns of train. A source is cut to
    ``length`` tokens, a target to ``target_length`` (as ``length`` where it is left open), and then learns no end; both
    are counted in the notes. Each part of the data is padded to its longest, and padding is neither seen nor learned.
    What is written begins with the token ``begin``, or with the end of text where it is left open; published T5s begin
    with "<pad>". ``learned``: rows seen as "rows", and the "tokenizer".
    """

    tokenizer: Use | None = Use("BytePairEncoding")
    source: str = "source"
    target: str = "target"
    target_length: int | None = None
    begin: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.target_length is not None and self.target_length < 1:
            raise DataError(f"TextPairs: target_length is {self.target_length}; expected at least 1 token.")
        if self.source == self.target:
            raise DataError(f"TextPairs: source and target are both {self.source!r}; they are two columns.")

    @property
    def column(self) -> str:
        """The column that is read."""
        return self.source

    def fit(self, train: Dataset) -> Self:
        """The same builder with its tokenizer trained on both columns; one that is trained already stays.

        Raises DataError for a text that is missing.
        """
        texts = [text for column in (self.source, self.target) for text in documents(train, column, "TextPairs")]
        return dataclasses.replace(self, learned=self.learned_from(texts, len(train)))

    def first_token(self) -> int:
        """What is written begins with it. Raises DataError where ``begin`` is not one token of the tokenizer."""
        if self.begin is None:
            return self.learned_tokenizer.end_of_text
        ids = self.learned_tokenizer.encode(self.begin)
        if len(ids) != 1:
            raise DataError(f"TextPairs.begin: {self.begin!r} is {len(ids)} tokens of this tokenizer; expected one.")
        return ids[0]

    def sizes(self) -> dict[str, Any]:
        """As of all text, and the tokens that begin what is written, end it, and stand where there is padding."""
        end = self.learned_tokenizer.end_of_text
        return {
            **super().sizes(),
            "decoder_start_token_id": self.first_token(),
            "eos_token_id": end,
            "pad_token_id": end,
        }

    def encode(self, dataset: Dataset) -> EncodedPairs:
        """The pairs as tokens. Raises DataError for a text that is missing."""
        tokenizer = self.learned_tokenizer
        end = np.array([tokenizer.end_of_text], dtype=np.int32)
        sources, targets = (documents(dataset, column, "TextPairs") for column in (self.source, self.target))
        read = tokenizer.encode_many(sources)
        written = [np.concatenate((ids, end)) for ids in tokenizer.encode_many(targets)]
        longest = self.target_length or self.length
        cut = [f"{n} of {len(read)} {what}" for n, what in (
            (sum(len(ids) >= self.length for ids in read), f"sources are cut to {self.length} tokens"),
            (sum(len(ids) > longest for ids in written), f"targets are cut to {longest} tokens, and learn no end"),
        ) if n]  # fmt: skip
        kept = Texts.of([ids[:longest] for ids in written])
        return EncodedPairs(
            sources=Texts.of([np.concatenate((ids[: self.length - 1], end)) for ids in read]),
            targets=kept,
            rows=dataset.frame[ROW].to_numpy().astype(np.int64),
            begin=self.first_token(),
            end_of_text=tokenizer.end_of_text,
            texts=targets,
            num_bytes=int(tokenizer.byte_lengths()[kept.tokens].sum()),
            notes=tuple(cut),
        )

    def prompt(self, text: str) -> str:
        """The source as it is."""
        return text

    def prompt_tokens(self, text: str) -> list[int]:
        """What is written begins alike, whatever is read."""
        return [self.first_token()]

    def source_tokens(self, text: str) -> list[int]:
        """What is read before anything is written."""
        return [*self.learned_tokenizer.encode(text)[: self.length - 1], self.learned_tokenizer.end_of_text]

    def describe(self, batch: Batch, sequence: int = 0) -> list[tuple[str, bool]]:
        """One pair as the model sees it: the tokens of the source, and those of the target, which are learned."""
        length = int(batch.inputs["lengths"][sequence])
        read = batch.inputs["tokens"][sequence, :length].tolist()
        written = [token for token in batch.targets["targets"][sequence].tolist() if token != MASKED]
        pairs = [*((token, False) for token in read), *((token, True) for token in written)]
        return [(self.learned_tokenizer.decode([token]), learned) for token, learned in pairs]
