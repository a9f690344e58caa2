"""The tokenizer that belongs to a published model: a tokenizer.json as it stands, nothing is trained."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import tokenizers

from groundup.core.errors import DataError, nearest

ENDS = ("<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "<eos>", "</s>", "[SEP]")
"""Tokens that end a document in published tokenizers, looked for in this order."""

SPACE = "\u2581"
"""What stands for a space in the tokens of SentencePiece."""


@dataclasses.dataclass(frozen=True)
class TokenizerFile:
    """A published tokenizer: ``path`` is a tokenizer.json, or the folder that has one.

    ``end`` is the token that ends a document; by default the first there is of those in common use. ``learned``: the
    number of texts as "rows", the file's "json" and the "end", so that a checkpoint does not need the file.
    """

    joins_space: ClassVar[bool] = True

    path: str
    end: str | None = None
    learned: Mapping[str, Any] | None = dataclasses.field(default=None, repr=False)

    def fit(self, texts: Sequence[str]) -> Self:
        """The same with the file read. Raises DataError for one that is missing, damaged, or has no such end."""
        path = Path(self.path).expanduser()
        path = path / "tokenizer.json" if path.is_dir() else path
        if not path.is_file():
            raise DataError(f"TokenizerFile: {path.resolve()} is not there; name the folder of the published model.")
        text = path.read_text(encoding="utf-8")
        try:
            vocabulary = tokenizers.Tokenizer.from_str(text).get_vocab()
        except Exception as error:  # the library raises plain Exception for whatever is wrong in the file
            raise DataError(f"TokenizerFile: {path} is no tokenizer.json: {error}.") from error
        end = self.end or next((token for token in ENDS if token in vocabulary), None)
        if end not in vocabulary:
            said = f"has no token {end!r}.{nearest(end, vocabulary)}" if end else "has no token that ends a text."
            raise DataError(f"TokenizerFile: {path} {said} Say which one does by end.")
        return dataclasses.replace(self, learned={"rows": len(texts), "json": text, "end": end})

    @property
    def vocab_size(self) -> int:
        """Tokens, those that were added included."""
        return max(self._read.get_vocab().values()) + 1

    @property
    def end_of_text(self) -> int:
        """The id that ends each document."""
        found = self._read.token_to_id(self._learned()["end"])
        assert found is not None  # fit has seen it
        return found

    def encode(self, text: str) -> list[int]:
        """Token ids of one text, without tokens that the file would put around it."""
        found: list[int] = self._read.encode(text, add_special_tokens=False).ids
        return found

    def encode_many(self, texts: Sequence[str]) -> list[np.ndarray[Any, Any]]:
        """Token ids of each text as int32."""
        many = self._read.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(one.ids, dtype=np.int32) for one in many]

    def encode_framed(
        self, texts: Sequence[str], length: int | None = None
    ) -> tuple[list[np.ndarray[Any, Any]], list[int]]:
        """Ids of each text as int64 with the tokens that the file puts around it, and how many they are.

        With ``length`` the ids are cut to so many, those around the text counted and kept.
        """
        around = self._read.num_special_tokens_to_add(False)
        if length is not None and length <= around:
            raise DataError(
                f"TokenizerFile: {around} tokens stand around each text; a length of {length} is too short."
            )
        found, whole = [], []
        for one in self._read.encode_batch(list(texts), add_special_tokens=False):
            whole.append(len(one) + around)
            if length is not None:
                one.truncate(length - around)
            found.append(np.array(self._read.post_process(one).ids, dtype=np.int64))
        return found, whole

    def spell(self, ids: Iterable[int]) -> list[str]:
        """Each token as the file writes it, special ones too."""
        return [self._read.id_to_token(int(i)) or "?" for i in ids]

    @property
    def unknown(self) -> int | None:
        """The id of what the tokenizer cannot write; None where it can write everything."""
        token = getattr(self._read.model, "unk_token", None)
        return None if token is None else self._read.token_to_id(token)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of these ids, without special tokens."""
        found: str = self._read.decode([int(i) for i in ids])
        return found

    def byte_lengths(self) -> np.ndarray[Any, Any]:
        """How many bytes of UTF-8 each token stands for, by id; special tokens for none."""
        lengths = np.zeros(self.vocab_size, dtype=np.int64)
        special = {token.content for token in self._read.get_added_tokens_decoder().values() if token.special}
        in_letters = "ByteLevel" in self._learned()["json"]  # one letter a byte
        for token, i in self._read.get_vocab().items():
            if token not in special:
                byte = len(token) == 6 and token.startswith("<0x")
                plain = token.replace(SPACE, " ").removeprefix("##")
                lengths[i] = 1 if byte else len(token) if in_letters else len(plain.encode("utf-8", "surrogatepass"))
        return lengths

    def to_json(self) -> str:
        """The file."""
        return str(self._learned()["json"])

    def save(self, folder: Path) -> Path:
        """Write tokenizer.json into ``folder`` and give its path."""
        path = folder / "tokenizer.json"
        path.write_text(self.to_json(), encoding="utf-8")
        return path

    def _learned(self) -> Mapping[str, Any]:
        if self.learned is None:
            raise DataError("TokenizerFile: the file has not been read yet; call fit first.")
        return self.learned

    @functools.cached_property
    def _read(self) -> tokenizers.Tokenizer:
        found = tokenizers.Tokenizer.from_str(self._learned()["json"])
        found.no_padding()  # a file may say that every text is filled up, or cut, to one length
        found.no_truncation()
        return found
