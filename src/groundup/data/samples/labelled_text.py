"""Texts with a class or a number to predict: words of a vocabulary learned on train, or a published model's tokens."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import polars as pl
from torch import Tensor

from groundup.core.contract import State
from groundup.core.dataset import ROW, Dataset, Kind
from groundup.core.errors import DataError
from groundup.core.preprocessing import as_tensor
from groundup.core.statistics import merge_counts
from groundup.core.use import Use, make
from groundup.data.augmentation.text import rewrite_text
from groundup.data.augmentation.words import Language, Words, cut
from groundup.data.samples.raw import read_rows
from groundup.data.samples.targets import (
    TargetScale,
    class_names,
    decode_output,
    decode_target,
    encode_target,
    finish_target,
    merge_targets,
    partial_target,
    present_output,
    target_sizes,
    tell_target,
)
from groundup.data.samples.text import documents
from groundup.data.samples.vocabulary import BAG, PADDING, PublishedTokens, WordsOfTrain, tokens_of
from groundup.data.tokenizer_file import TokenizerFile


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedTexts:
    """Texts ready for the model: words are kept, so that augmentation may change them anew each epoch."""

    dataset: Dataset
    samples: LabelledText
    words: tuple[Words, ...]
    numbers: np.ndarray[Any, Any]
    """int64 [N, T] of the texts as they are."""
    lengths: np.ndarray[Any, Any]
    """int64 [N], without the padding behind them."""
    targets: np.ndarray[Any, Any] | None
    rows: np.ndarray[Any, Any]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def batch(
        self, positions: np.ndarray[Any, Any], augment: Sequence[Any] = (), seed: int = 0, epoch: int = 0
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """``{"inputs": [B, T]}`` int64, 0 behind a text's end, and ``{"targets": ...}``.

        Tokens of a published model are ``{"tokens": [B, T], "lengths": [B]}`` instead, T that of the batch's longest.
        """
        numbers, lengths = self.numbers[positions], self.lengths[positions]
        if augment:
            numbers, lengths, _ = self.samples.number(self._rewritten(positions, augment, seed, epoch))
        targets = {} if self.targets is None else {"targets": as_tensor(self.targets[positions])}
        return self.samples.vocabulary.inputs(numbers, lengths), targets

    def augmented(
        self, positions: np.ndarray[Any, Any], augment: Sequence[Any] = (), seed: int = 0, epoch: int = 0
    ) -> list[str]:
        """These texts as training sees them, to look at."""
        return [words.text for words in self._rewritten(positions, augment, seed, epoch)]

    def _rewritten(self, positions: np.ndarray[Any, Any], augment: Sequence[Any], seed: int, epoch: int) -> list[Words]:
        return [
            rewrite_text(self.words[position].keeping(self.samples.label_words), augment, seed, epoch, row)
            for position, row in zip(positions.tolist(), self.rows[positions].tolist(), strict=True)
        ]

    def arrays(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """What a linear model of text is given, how often each of train's 2,000 most frequent words stands in a text
        [N, 2000], and targets [N]: class numbers or values."""
        if self.targets is None:
            raise DataError("LabelledText: these texts have no targets.")
        place = np.full(self.samples.vocabulary.size, -1)
        frequent = self.samples.vocabulary.frequent
        place[frequent] = np.arange(len(frequent))
        counts = np.zeros((len(self), len(frequent)), dtype=np.float32)
        known = np.arange(self.numbers.shape[1]) < self.lengths[:, None]
        columns = np.where(known, place[self.numbers], -1)
        row, column = np.nonzero(columns >= 0)
        np.add.at(counts, (row, columns[row, column]), 1)
        return counts, decode_target(as_tensor(self.targets), self.samples.need()["target"])

    def describe(self, position: int) -> dict[str, Any]:
        """One text as it is and as the model sees it, word by word, and its target decoded."""
        shown: dict[str, Any] = {
            "text": self.words[position].text,
            "words": self.samples.vocabulary.spell(self.numbers[position, : self.lengths[position]]),
        }
        if self.targets is not None:
            told = tell_target(as_tensor(self.targets[[position]]), self.samples.need()["target"])
            shown[f"target {self.samples.target}"] = told
        return shown


@dataclasses.dataclass(frozen=True)
class LabelledText:
    """Each text is a sample: its words and signs as numbers int64 [T], 0 behind its end; ``target`` is predicted.

    Text with Chinese characters is cut into words by jieba, other text at spaces and signs (``language`` "auto");
    case is ignored. The vocabulary is train's most frequent words: at most ``vocab_size``, each at least ``min_count``
    times. A word that it lacks becomes 1, or, with ``buckets``, one of so many further numbers by its CRC-32, so that
    words which augmentation brings in can be learned. T is the longest text of train, at most ``length``; what is
    longer is cut off. A model tells padding by its number, as ``TextCNN`` does. ``target`` and ``target_scale`` are
    as in ``Rows``. Augmentation rewrites train's words before they are numbered; the words of class names are
    protected from it.

    A published encoder knows the tokens of its own tokenizer and no others: ``tokenizer = { use = "TokenizerFile",
    path = FOLDER }`` takes those instead, with what it puts around a text ("[CLS]" and "[SEP]", say); nothing is
    learned of train's words then, and batches are as long as their longest text.
    """

    target: str
    column: str = "text"
    length: int = 256
    vocab_size: int = 20_000
    min_count: int = 1
    buckets: int = 0
    language: Language = "auto"
    task: Literal["auto", "classify", "regress"] = "auto"
    target_scale: TargetScale = "z_score"
    tokenizer: Use | None = None
    learned: Mapping[str, Any] | None = dataclasses.field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in ("length", "vocab_size", "min_count"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: read {getattr(self, name)}, expected at least 1.")
        if self.buckets < 0:
            raise ValueError(f"buckets: read {self.buckets}, expected 0 or more.")

    def fit(self, train: Dataset) -> Self:
        """Learn the vocabulary, the length and the target. Raises DataError for a text that is missing."""
        return self.finish(self.partial(train))

    def partial(self, shard: Dataset) -> State:
        """How often each word or token stands in these texts, the longest one's length, and targets."""
        counts: Counter[Any] = Counter()
        longest = 0
        tokenizer = _published(self)
        texts = documents(shard, self.column, "LabelledText")
        pieces = (tokens_of(cut(text, self.language)) for text in texts)
        for tokens in pieces if tokenizer is None else (ids.tolist() for ids in tokenizer.encode_framed(texts)[0]):
            counts.update(tokens)
            longest = max(longest, len(tokens))
        target = partial_target(shard, self.target, "LabelledText", self.target_scale)
        return {"rows": len(shard), "counts": dict(counts), "longest": longest, "target": target}

    def merge(self, one: State, other: State) -> State:
        """Of both together."""
        return {
            "rows": one["rows"] + other["rows"],
            "counts": merge_counts(one["counts"], other["counts"]),
            "longest": max(one["longest"], other["longest"]),
            "target": merge_targets(one["target"], other["target"]),
        }

    def finish(self, state: State) -> Self:
        """The same builder with what was learned."""
        target = finish_target(state["target"], self.target, self.task, "LabelledText", self.target_scale)
        learned = {"rows": state["rows"], "length": min(self.length, state["longest"]), "target": target}
        frequent = sorted(state["counts"].items(), key=lambda pair: (-pair[1], pair[0]))
        if (tokenizer := _published(self)) is not None:
            learned["tokenizer"] = dict(tokenizer.learned or {})
            learned["frequent"] = [token for token, _ in frequent[:BAG]]
        else:
            words = [word for word, count in frequent if count >= self.min_count][: self.vocab_size]
            if not words:
                raise DataError(f"LabelledText: no word of {self.column!r} stands {self.min_count} times in train.")
            learned["words"] = words
        return dataclasses.replace(self, task=target["task"], learned=learned)

    def sizes(self) -> dict[str, Any]:
        """``vocab_size`` (padding, unknown and buckets counted), ``length``, ``input_shape`` and the target's."""
        length, target = self.need()["length"], self.need()["target"]
        sizes = {"vocab_size": self.vocabulary.size, "length": length, "input_shape": (length,)}
        return {**sizes, **target_sizes(target)}

    def encode(self, dataset: Dataset) -> EncodedTexts:
        """The texts as words and numbers; what train, or the tokenizer, did not have is noted."""
        targets = encode_target(dataset, self.target, self.need()["target"], "LabelledText")
        words = tuple(cut(text, self.language) for text in documents(dataset, self.column, "LabelledText"))
        numbers, lengths, whole = self.number(words)
        longest = self.need()["length"]
        cut_off = sum(size > longest for size in whole)
        notes = self.vocabulary.notes(words, numbers[np.arange(longest) < lengths[:, None]])
        notes += [f"{cut_off} texts are longer than {longest} {self.vocabulary.unit} and cut off"] if cut_off else []
        rows = dataset.frame[ROW].to_numpy()
        return EncodedTexts(dataset, self, words, numbers, lengths, targets, rows, tuple(notes))

    def number(self, texts: Sequence[Words]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], list[int]]:
        """The numbers of texts int64 [N, T], 0 behind their end; how many each has [N], and would have uncut."""
        length = self.need()["length"]
        found, whole = self.vocabulary.number(texts, length)
        numbers = np.full((len(texts), length), PADDING, dtype=np.int64)
        for i, one in enumerate(found):
            numbers[i, : len(one)] = one
        return numbers, np.array([len(one) for one in found], dtype=np.int64), whole

    def read(self, raw: Any, schema: Mapping[str, Kind] | None = None) -> Dataset:
        """A text, a list of texts, or rows as ``Rows`` reads them: dicts, a frame, the path of a CSV or JSON file."""
        items = list(raw) if isinstance(raw, (list, tuple)) else [raw]
        tables = (Path, pl.DataFrame, Mapping)
        if any(isinstance(item, tables) for item in items) or (isinstance(raw, str) and _is_table(raw)):
            kinds = {name: kind for name, kind in (schema or {self.column: "text"}).items() if name != self.target}
            return read_rows(raw, kinds, [self.column], "LabelledText")
        for item in items:
            if not isinstance(item, str) or not item.strip():
                raise DataError(f"LabelledText: read {item!r:.80}, expected some text.")
        frame = pl.DataFrame({self.column: items}, schema={self.column: pl.String})
        return dataclasses.replace(Dataset.of(frame, {self.column: "text"}, origin="the text"), split="serve")

    def decode(self, output: Tensor) -> np.ndarray[Any, Any]:
        """Logits [N, C] as probabilities [N, C], or [N, 1] as values [N] in the target's own units."""
        return decode_output(output, self.need()["target"])

    def decode_targets(self, targets: Mapping[str, Tensor]) -> np.ndarray[Any, Any]:
        """Class numbers [N], or values [N] in the target's own units."""
        return decode_target(targets["targets"], self.need()["target"])

    def present(self, decoded: np.ndarray[Any, Any]) -> list[dict[str, Any]]:
        """The label with its probabilities, or the value, for each text."""
        return present_output(decoded, self.need()["target"])

    def need(self) -> Mapping[str, Any]:
        """What was learned. Raises DataError before ``fit``."""
        if self.learned is None:
            raise DataError("LabelledText: has learned nothing yet; call fit(train) first.")
        return self.learned

    @functools.cached_property
    def label_words(self) -> frozenset[str]:
        """The words of the class names, which augmentation leaves alone."""
        target = self.need()["target"]
        names = class_names(target) if "classes" in target else []
        return frozenset(word.lower() for name in names for word in [name, *name.replace("_", " ").split()])

    @functools.cached_property
    def vocabulary(self) -> WordsOfTrain | PublishedTokens:
        """What texts are numbered by. Raises DataError before ``fit``."""
        learned, tokenizer = self.need(), _published(self)
        if tokenizer is None:
            return WordsOfTrain(learned["words"], self.buckets)
        return PublishedTokens(tokenizer, learned["frequent"])


def _published(samples: LabelledText) -> TokenizerFile | None:
    """The published tokenizer, read or as it was learned; None for words. Raises DataError for any other."""
    if samples.tokenizer is None:
        return None
    made = make(samples.tokenizer, "tokenizer")
    if not isinstance(made, TokenizerFile):
        raise DataError(
            f"LabelledText.tokenizer: read {samples.tokenizer.target}; expected a published model's TokenizerFile. "
            "Without it words of train are numbered."
        )
    if samples.learned is not None:
        return dataclasses.replace(made, learned=samples.learned["tokenizer"])
    return made.fit([])


def _is_table(raw: str) -> bool:
    """Whether a string is the path of a table, or JSON, and no text."""
    if raw.lstrip().startswith(("{", "[{")):
        return True
    return (
        len(raw) < 1000
        and "\n" not in raw
        and Path(raw).suffix.lower() in (".csv", ".tsv", ".json")
        and Path(raw).is_file()
    )
