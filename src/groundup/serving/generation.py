"""Text from a language model, one token at a time, so that it can be shown while it is made."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from groundup.core.errors import DataError, GroundupError, NonFiniteError


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How the next token is chosen: greedily at temperature 0, else drawn.

    The logits are divided by ``temperature``; then only the ``top_k`` likeliest tokens are kept, and of those the
    fewest whose probabilities reach ``top_p`` (nucleus sampling, Holtzman et al. 2020, equation 3). Equal seeds
    give equal text; ``seed=None`` draws another text each time.
    """

    temperature: float = 0.8
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise GroundupError(f"temperature: read {self.temperature}, expected 0 (greedy) or more.")
        if self.top_k is not None and self.top_k < 1:
            raise GroundupError(f"top_k: read {self.top_k}, expected 1 or more, or none.")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise GroundupError(f"top_p: read {self.top_p}, expected more than 0 and at most 1, or none.")


def generate(
    model: nn.Module,
    tokens: Sequence[int] | Tensor,
    max_new_tokens: int,
    sampling: Sampling | None = None,
    stop: Collection[int] = (),
    context: int | None = None,
) -> Iterator[int]:
    """The tokens that follow ``tokens``, each as soon as it is chosen; one of ``stop`` ends it and is not given.

    ``model(tokens [1, T]) -> logits [1, T, V]``; keys and values are kept between steps where the model has
    ``new_cache``. ``context`` is the most tokens that the model sees at once: when they are full, the older half
    is forgotten. Dropout is off during each step; between steps the model is as it was.
    Raises DataError for an empty prompt, NonFiniteError when the model's output is not finite.
    """
    prompt = [int(token) for token in tokens]
    if not prompt:
        raise DataError("the prompt is empty; a language model goes on from at least one token.")
    if max_new_tokens < 0 or (context is not None and context < 1):
        raise GroundupError(f"max_new_tokens {max_new_tokens}, context {context}: expected 0 and 1 or more.")
    length = len(prompt) + max_new_tokens
    reader = _Reader(model, len(prompt), length if context is None else min(context, length))
    return _stream(reader, prompt, max_new_tokens, sampling or Sampling(), frozenset(stop))


def choose(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """One token from logits [V]."""
    if sampling.temperature == 0:
        return int(logits.argmax())
    return int(torch.multinomial(probabilities(logits, sampling), 1, generator=generator))


def probabilities(logits: Tensor, sampling: Sampling) -> Tensor:
    """What a token is drawn from, [V] on the CPU: zero outside ``top_k`` and ``top_p``, else in proportion."""
    scaled = logits.detach().to("cpu", torch.float64)
    scaled = (scaled - scaled.max()) / sampling.temperature  # the largest is 0, so that no temperature overflows
    kept = torch.softmax(scaled, dim=-1)
    if sampling.top_k is not None and sampling.top_k < len(kept):
        largest = kept.topk(sampling.top_k)
        kept = torch.zeros_like(kept).scatter_(0, largest.indices, largest.values)
    if sampling.top_p is not None:
        ordered, order = (kept / kept.sum()).sort(descending=True, stable=True)
        before = ordered.cumsum(0) - ordered
        kept = torch.zeros_like(kept).scatter_(0, order, ordered.where(before < sampling.top_p, 0.0))
    return kept / kept.sum()


def _stream(
    reader: _Reader, prompt: list[int], max_new_tokens: int, sampling: Sampling, stop: frozenset[int]
) -> Iterator[int]:
    generator = torch.Generator()
    if sampling.seed is None:
        generator.seed()
    else:
        generator.manual_seed(sampling.seed)
    tokens = list(prompt)
    for _ in range(max_new_tokens):
        token = choose(reader.read(tokens), sampling, generator)
        if token in stop:
            return
        tokens.append(token)
        yield token


class _Reader:
    """The model and what it has read so far."""

    def __init__(self, model: nn.Module, prompt_length: int, context: int) -> None:
        self.model = model
        self.context = context
        self.cache: Any = None
        self.start = max(0, prompt_length - context)
        """Where the part of the text begins that the model still sees."""
        self.read_to = 0
        """How much of the text the cache holds."""

    def read(self, tokens: list[int]) -> Tensor:
        """The logits [V] of what follows ``tokens``."""
        if len(tokens) - self.start > self.context:
            self.start = len(tokens) - (self.context + 1) // 2
            self.cache = None
        training = [module for module in self.model.modules() if module.training]
        for module in training:
            module.training = False
        try:
            with torch.no_grad():
                logits = self._logits(tokens)
        finally:
            for module in training:
                module.training = True
        if not math.isfinite(float(logits.max())):  # -inf alone is a token that is ruled out
            raise NonFiniteError(f"the output after {len(tokens)} tokens is not finite; the weights may be damaged.")
        return logits

    def _logits(self, tokens: list[int]) -> Tensor:
        new_cache: Any = getattr(self.model, "new_cache", None)
        if new_cache is None:
            return self._forward(tokens[self.start :])
        if self.cache is None:
            self.cache = new_cache(1, self.context)
            self.read_to = self.start
        logits = self._forward(tokens[self.read_to :], cache=self.cache)
        self.read_to = len(tokens)
        return logits

    def _forward(self, tokens: list[int], **cache: Any) -> Tensor:
        weight = next(self.model.parameters(), None)
        logits: Tensor = self.model(torch.tensor([tokens], device=None if weight is None else weight.device), **cache)
        return logits[0, -1].detach().float()
