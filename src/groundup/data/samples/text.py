"""Text as samples of a language model: packed into sequences, each token learned from those before it."""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import polars as pl
import torch
from torch import Tensor

from groundup.core.batch import Batch
from groundup.core.dataset import ROW, Dataset, Kind
from groundup.core.errors import DataError
from groundup.core.use import Use, make
from groundup.data.cleaning.text import text_column
from groundup.data.packing import MASKED, PADDING_DOCUMENT, PackedSequences, cut_stream
from groundup.data.sources.text import text_files

Array = np.ndarray[Any, Any]


class Tokenizer(Protocol):
    """What a tokenizer must offer; ``learned`` is plain JSON, so that it travels inside a checkpoint."""

    learned: Mapping[str, Any] | None
    joins_space: ClassVar[bool]
    """Whether tokens take the white space in front of them along, so that a prompt must not end in any."""

    @property
    def vocab_size(self) -> int:
        """Ids run from 0 to one less."""
        ...

    @property
    def end_of_text(self) -> int:
        """The id that ends each document."""
        ...

    def fit(self, texts: list[str]) -> Self:
        """The tokenizer trained on these texts."""
        ...

    def encode(self, text: str) -> list[int]:
        """Ids of one text."""
        ...

    def encode_many(self, texts: list[str]) -> list[Array]:
        """Ids of each text, int32."""
        ...

    def decode(self, ids: Any) -> str:
        """The text of these ids."""
        ...

    def byte_lengths(self) -> Array:
        """Bytes of UTF-8 that each id stands for."""
        ...


@dataclasses.dataclass(frozen=True)
class TextSamples(abc.ABC):
    """What all samples for models that write share: a tokenizer that was learned once, and reading and showing text."""

    length: int = 512
    tokenizer: Use | None = None
    learned: Mapping[str, Any] | None = dataclasses.field(default=None, repr=False)
    task: str = dataclasses.field(default="generate", init=False)

    def __post_init__(self) -> None:
        if self.length < 1:
            raise DataError(f"{type(self).__name__}: length is {self.length}; expected at least 1 token.")

    @functools.cached_property
    def learned_tokenizer(self) -> Tokenizer:
        """The tokenizer as it was trained. Raises DataError before that."""
        if self.learned is None or self.tokenizer is None:
            raise DataError(f"{type(self).__name__}: there is no tokenizer yet; fit on the train split first.")
        made = make(self.tokenizer, "tokenizer")
        fitted: Tokenizer = dataclasses.replace(made, learned=self.learned["tokenizer"])
        return fitted

    def learned_from(self, texts: list[str], rows: int) -> dict[str, Any]:
        """What is learned: a tokenizer trained on these texts, or the one that is there already.

        Raises DataError when there is neither a tokenizer to train nor a trained one.
        """
        if self.learned is not None:
            return {**self.learned, "rows": rows}
        if self.tokenizer is None:
            raise DataError(
                f"{type(self).__name__}: which tokenizer? Name one to train (tokenizer = {{ use = 'BytePairEncoding' "
                "}}), or, to go on with a trained model, take its own: with_tokenizer(its samples)."
            )
        fitted = make(self.tokenizer, "tokenizer").fit(texts)
        return {"rows": rows, "tokenizer": fitted.learned}

    def with_tokenizer(self, trained: TextSamples) -> Self:
        """The same builder with the tokenizer of another one that is fitted, such as the pre-trained model's."""
        if trained.learned is None:
            raise DataError(f"{type(trained).__name__}: it is not fitted, so it has no tokenizer to hand on.")
        return dataclasses.replace(self, tokenizer=trained.tokenizer, learned=trained.learned)

    def sizes(self) -> dict[str, Any]:
        """``vocab_size``, ``length``, ``input_shape`` and ``out_features``."""
        size = self.learned_tokenizer.vocab_size
        return {"vocab_size": size, "length": self.length, "input_shape": (self.length,), "out_features": size}

    @property
    @abc.abstractmethod
    def column(self) -> str:
        """The column that a prompt stands in."""

    @abc.abstractmethod
    def fit(self, train: Dataset) -> Self:
        """The same builder with its tokenizer trained on train's texts; one that is trained already stays."""

    @abc.abstractmethod
    def encode(self, dataset: Dataset) -> Any:
        """The texts as tokens."""

    @abc.abstractmethod
    def prompt(self, text: str) -> str:
        """A prompt as the model saw the like in training."""

    @abc.abstractmethod
    def prompt_tokens(self, text: str) -> list[int]:
        """The ids that a model is given to go on from."""

    @abc.abstractmethod
    def describe(self, batch: Batch, sequence: int = 0) -> list[tuple[str, bool]]:
        """One sequence as the model sees it: each token's text, and whether the model is trained to predict it."""

    def read(self, raw: Any, schema: Mapping[str, Kind] | None = None) -> Dataset:
        """A text, a list of texts, a table ``{column: text}``, or the path of a text file, as documents."""
        if isinstance(raw, str) and "\n" not in raw and len(raw) < 1000 and Path(raw).is_file():
            raw = Path(raw)
        if isinstance(raw, Path):
            frame = text_files(raw).frame
            texts, origin = frame["text"].to_list(), str(raw)
        else:
            texts = raw if isinstance(raw, list) else [raw]
            texts = [one.get(self.column) if isinstance(one, Mapping) else one for one in texts]
            origin = "the text"
        for text in texts:
            if not isinstance(text, str) or not text.strip():
                raise DataError(f"{type(self).__name__}: read {text!r:.80}, expected some text.")
        frame = pl.DataFrame({self.column: texts}, schema={self.column: pl.String})
        return dataclasses.replace(Dataset.of(frame, {self.column: "text"}, origin=origin), split="serve")

    def decode(self, output: Tensor) -> Array:
        """Ids [B, T] as texts [B]; logits [..., V] as probabilities of the next token, float32."""
        if not output.is_floating_point():
            return np.array([self.learned_tokenizer.decode(ids) for ids in output.tolist()], dtype=object)
        return torch.softmax(output.float(), dim=-1).cpu().numpy()

    def decode_targets(self, targets: Mapping[str, Tensor]) -> Array:
        """Ids of the next tokens [B, T], -100 where nothing is learned."""
        return targets["targets"].cpu().numpy()

    def present(self, decoded: Array) -> list[dict[str, Any]]:
        """The text, or the five likeliest next tokens after the last one, for each sample."""
        if decoded.dtype == object:
            return [{"text": text} for text in decoded]
        last = decoded.reshape(len(decoded), -1, decoded.shape[-1])[:, -1]
        return [
            {"next": {self.learned_tokenizer.decode([i]): float(row[i]) for i in np.argsort(-row)[:5].tolist()}}
            for row in last
        ]


@dataclasses.dataclass(frozen=True)
class PackedSamples(TextSamples):
    """Samples for language models that go on from a prompt: documents of one column, packed into sequences."""

    column: str = "text"

    def fit(self, train: Dataset) -> Self:
        """The same builder with its tokenizer trained on these documents; one that is trained already stays.

        Raises DataError when there is neither a tokenizer to train nor a trained one.
        """
        texts = documents(train, self.column, type(self).__name__)
        return dataclasses.replace(self, learned=self.learned_from(texts, len(texts)))

    @abc.abstractmethod
    def encode(self, dataset: Dataset) -> PackedSequences:
        """The documents as sequences."""

    def prompt_tokens(self, text: str) -> list[int]:
        """The ids that a model is given to go on from. Raises DataError for a prompt without any."""
        ids = self.learned_tokenizer.encode(self.prompt(text))
        if not ids:
            raise DataError("the prompt is empty; write at least one word to go on from.")
        return ids

    def describe(self, batch: Batch, sequence: int = 0) -> list[tuple[str, bool]]:
        """One sequence as the model sees it: each token's text, and whether the model is trained to predict it."""
        ids = batch.inputs["tokens"][sequence].tolist()
        targets = batch.targets["targets"][sequence].tolist()
        shown = sum(document != PADDING_DOCUMENT for document in batch.inputs["documents"][sequence].tolist())
        learned = [False, *(target != MASKED for target in targets[: shown - 1])]
        pairs = list(zip(ids[:shown], learned, strict=True))
        if targets[shown - 1] != MASKED:  # the last target stands beyond the window
            pairs.append((targets[shown - 1], True))
        return [(self.learned_tokenizer.decode([token]), trained) for token, trained in pairs]


@dataclasses.dataclass(frozen=True)
class PackedText(PackedSamples):
    """Documents one after another, each closed by the end of text, cut into sequences of ``length`` tokens.

    Every token is learned once an epoch, the end of text too, but for the first of each document: nothing of its own
    document comes before it, and no document sees another. The last sequence is filled up with masked padding.
    ``tokenizer`` is trained on the train split alone. ``learned``: documents seen as "rows", and the "tokenizer".
    ``context``: outside train each sequence begins with so many tokens of the one before, masked, so that a token is
    predicted from at least so many, as a compressor predicts each from all before it. Every token still counts once.
    """

    tokenizer: Use | None = Use("BytePairEncoding")
    context: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.context < self.length:
            raise DataError(
                f"PackedText: context is {self.context}; expected 0 or more, below the length {self.length}."
            )

    def encode(self, dataset: Dataset) -> PackedSequences:
        """The documents as sequences. Raises DataError for documents that hold nothing to predict."""
        tokenizer = self.learned_tokenizer
        texts = documents(dataset, self.column, "PackedText")
        ids = tokenizer.encode_many(texts)
        end = np.array([tokenizer.end_of_text], dtype=np.int32)
        tokens = np.concatenate([piece for one in ids for piece in (one, end)] or [end[:0]])
        lengths = np.array([len(one) + 1 for one in ids], dtype=np.int64)
        starts = np.cumsum(lengths) - lengths
        context = 0 if dataset.split == "train" else self.context
        firsts, ends = cut_stream(lengths.tolist(), self.length - context)
        begins = np.maximum(firsts - context, 0)
        if len(texts) and len(begins) == 0:
            raise DataError(f"PackedText: {dataset.origin or 'the data'} has no document with a token to predict.")
        weights = tokenizer.byte_lengths()
        knows_all = not hasattr(tokenizer, "unknown")
        unknown = 0 if knows_all else int((tokens > tokenizer.end_of_text).sum())  # such a token is the last one
        where = f" of {dataset.split}" if dataset.split else ""
        return PackedSequences(
            tokens=tokens,
            starts=starts,
            given=np.ones(len(starts), dtype=np.int64),
            begins=begins,
            ends=ends,
            rows=_rows(dataset)[np.searchsorted(starts, firsts, side="right") - 1],
            length=self.length,
            end_of_text=tokenizer.end_of_text,
            texts=texts,
            num_bytes=int(weights[tokens].sum() - weights[tokens[starts]].sum()),
            notes=(f"{unknown} characters{where} are unknown to the tokenizer",) if unknown else (),
            repeated=firsts - begins if context else None,
        )

    def prompt(self, text: str) -> str:
        """The prompt; without the white space at its end where tokens take that along with what follows."""
        return (text.rstrip() or text) if self.learned_tokenizer.joins_space else text


def documents(dataset: Dataset, column: str, by: str) -> list[str]:
    """The texts of a column. Raises DataError when one is missing."""
    texts = text_column(dataset, column, by)
    missing = [i for i, text in enumerate(texts) if text is None]
    if missing:
        raise DataError(
            f"{by}: {dataset.row_names()[missing[0]]} has no {column!r} ({len(missing)} such rows). "
            "Drop them before the split: clean = ['drop_short']."
        )
    return [text for text in texts if text is not None]


def _rows(dataset: Dataset) -> Array:
    return dataset.frame[ROW].to_numpy().astype(np.int64)
