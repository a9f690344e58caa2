"""What encoders do alike: tokens or patches to states, each step seeing all others, and then a head.

Shapes: B batch, T steps, F hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from groundup.core.errors import DataError
from groundup.nn.masks import full_mask, kept_of
from groundup.nn.rope import Rotary


class Surroundings:
    """What the blocks of an encoder share of one input: which steps count, masks by window, rotary tables."""

    def __init__(self, states: Tensor, lengths: Tensor | None = None) -> None:
        self.steps = states.shape[1]
        self.dtype = states.dtype
        self.device = states.device
        self.kept = None if lengths is None else kept_of(lengths, self.steps)
        self._masks: dict[int | None, Tensor | None] = {}
        self._tables: dict[int, tuple[Tensor, Tensor]] = {}

    def mask(self, window: int | None = None) -> Tensor | None:
        """What hides padding, and what lies ``window`` steps away and more; None where nothing has to be hidden."""
        if window not in self._masks:
            self._masks[window] = full_mask(self.steps, self.dtype, self.device, window=window, kept=self.kept)
        return self._masks[window]

    def rotary(self, positions: Rotary | None) -> tuple[Tensor, Tensor] | None:
        """Cosine and sine for these steps; None without positions."""
        if positions is None:
            return None
        if id(positions) not in self._tables:
            self._tables[id(positions)] = positions(0, self.steps, self.dtype, self.device)
        return self._tables[id(positions)]


class PostNormBlock(nn.Module):
    """norm(x + attention(x)), then norm(x + feed_forward(x)). Vaswani et al. 2017, section 3.1."""

    def __init__(
        self, attention: nn.Module, feed_forward: nn.Module, norms: tuple[nn.Module, nn.Module], dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.attention = attention
        self.attended_norm, self.fed_norm = norms
        self.feed_forward = feed_forward
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, around: Surroundings) -> Tensor:
        """[B, T, F] -> [B, T, F]."""
        states = self.attended_norm(states + self.dropout(self.attention(states, None, around.mask())))
        outputs: Tensor = self.fed_norm(states + self.dropout(self.feed_forward(states)))
        return outputs


class PreNormBlock(nn.Module):
    """x + scale * attention(norm(x)), then the same with the feed-forward net; the scales are learned, one a feature.

    Xiong et al. 2020; ``scale`` is where they begin, None is none (Touvron et al. 2021, LayerScale).
    """

    def __init__(
        self,
        attention: nn.Module,
        feed_forward: nn.Module,
        norms: tuple[nn.Module, nn.Module],
        scale: float | None = None,
        width: int = 0,
        positions: Rotary | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention_norm, self.feed_forward_norm = norms
        self.attention = attention
        self.feed_forward = feed_forward
        self.positions = positions
        self.dropout = nn.Dropout(dropout)
        self.attended_scale = None if scale is None else nn.Parameter(torch.full((width,), scale))
        self.fed_scale = None if scale is None else nn.Parameter(torch.full((width,), scale))

    def forward(self, states: Tensor, around: Surroundings) -> Tensor:
        """[B, T, F] -> [B, T, F]."""
        window = getattr(self.attention, "window", None)
        rotary = around.rotary(self.positions)
        attended = self.dropout(self.attention(self.attention_norm(states), rotary, around.mask(window)))
        states = states + (attended if self.attended_scale is None else attended * self.attended_scale)
        fed = self.dropout(self.feed_forward(self.feed_forward_norm(states)))
        outputs: Tensor = states + (fed if self.fed_scale is None else fed * self.fed_scale)
        return outputs


class TextEmbedding(nn.Module):
    """norm(word + place + segment), where there is each: tokens [B, T] -> [B, T, F].

    Places are counted from ``first``. ``project`` is the width that a narrower embedding is brought to.
    """

    def __init__(
        self,
        vocabulary: int,
        width: int,
        norm: nn.Module,
        places: int | None = None,
        segments: int | None = None,
        first: int = 0,
        project: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.places = None if places is None else nn.Embedding(places, width)
        self.segments = nn.Embedding(segments, width) if segments else None
        self.first = first
        self.norm = norm
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(width, project) if project is not None and project != width else None

    def forward(self, tokens: Tensor, segments: Tensor | None = None) -> Tensor:
        """[B, T] -> [B, T, F]; ``segments`` [B, T] int64, 0 where they are not given."""
        states: Tensor = self.words(tokens)
        steps = tokens.shape[1]
        if self.places is not None:
            room = self.places.num_embeddings - self.first
            if steps > room:
                raise DataError(f"a text of {steps} tokens is longer than the {room} places that this model learned.")
            states = states + self.places.weight[self.first : self.first + steps]
        if self.segments is not None:
            states = states + (self.segments.weight[0] if segments is None else self.segments(segments))
        states = self.dropout(self.norm(states))
        return states if self.project is None else self.project(states)


class WordHead(nn.Module):
    """norm(activation(W x)), then a logit for each word: states [B, T, F] -> [B, T, V].

    Devlin et al. 2019, section 3.1. Without a weight of its own (``tied``) it takes the embedding's.
    """

    def __init__(
        self,
        width: int,
        vocabulary: int,
        activation: Callable[[Tensor], Tensor],
        norm: nn.Module,
        embedded: int | None = None,
        *,
        tied: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.inner = nn.Linear(width, embedded or width, bias)
        self.activation = activation
        self.norm = norm
        self.weight = None if tied else nn.Parameter(torch.empty(vocabulary, embedded or width).normal_(0.0, 0.02))
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, states: Tensor, words: Tensor) -> Tensor:
        """[B, T, F] and the embedding's weight [V, F] -> [B, T, V]."""
        inner = self.norm(self.activation(self.inner(states)))
        return F.linear(inner, words if self.weight is None else self.weight, self.bias)


class SentenceHead(nn.Module):
    """Pool the steps, then activation(W x), norm, and a class or value: [B, T, F] -> [B, out_features].

    Pooled by the first step, where encoders put what stands for the whole, or by the mean of those that count.
    """

    def __init__(
        self,
        width: int,
        out_features: int,
        activation: Callable[[Tensor], Tensor],
        norm: nn.Module | None = None,
        *,
        mean: bool = False,
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.mean = mean
        self.inner = nn.Linear(width, width, bias)
        self.activation = activation
        self.norm = nn.Identity() if norm is None else norm
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(width, out_features)

    def forward(self, states: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[B, T, F] -> [B, out_features]."""
        pooled = mean_over(states, lengths) if self.mean else states[:, 0]
        outputs: Tensor = self.output(self.dropout(self.norm(self.activation(self.inner(pooled)))))
        return outputs


def mean_over(states: Tensor, lengths: Tensor | None) -> Tensor:
    """The mean of the steps that count: [B, T, F] -> [B, F]."""
    if lengths is None:
        return states.mean(1)
    kept = kept_of(lengths, states.shape[1])[..., None].to(states.dtype)
    return (states * kept).sum(1) / kept.sum(1)


class Encoder(nn.Module):
    """Blocks between an embedding and a head: tokens [B, T] -> states [B, T, F], or what the head makes of them."""

    def __init__(
        self, embedding: TextEmbedding, blocks: Iterable[nn.Module], norm: nn.Module | None, head: nn.Module | None
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm
        self.head = head

    def forward(self, tokens: Tensor, lengths: Tensor | None = None, segments: Tensor | None = None) -> Tensor:
        """tokens [B, T] int64; lengths [B], what lies behind is padding and is not seen; segments [B, T] int64."""
        states = self.states(tokens, lengths, segments)
        if self.head is None:
            return states
        if isinstance(self.head, WordHead):
            words: Tensor = self.head(states, self.embedding.words.weight)
            return words
        outputs: Tensor = self.head(states, lengths) if takes_lengths(self.head) else self.head(states)
        return outputs

    def states(self, tokens: Tensor, lengths: Tensor | None = None, segments: Tensor | None = None) -> Tensor:
        """The last states [B, T, F], before the head."""
        states: Tensor = self.embedding(tokens, segments)
        around = Surroundings(states, lengths)
        for block in self.blocks:
            states = block(states, around)
        return states if self.norm is None else self.norm(states)

    def embed(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """One vector of length 1 for each text, [B, F]: the mean of its states. Reimers and Gurevych 2019."""
        return F.normalize(mean_over(self.states(tokens, lengths), lengths), dim=-1)


def takes_lengths(head: nn.Module) -> bool:
    """Whether a head asks which steps are padding."""
    return "lengths" in head.forward.__code__.co_varnames[: head.forward.__code__.co_argcount]
