"""What every decoder does alike: tokens to states to logits or their loss, with documents kept apart and a cache.

A family gives its parts (embedding, blocks, final norm, head) and is a Decoder; nothing here is overridden.
Shapes: B batch, T steps, S steps attended to, F hidden size, V vocabulary.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from groundup.core.errors import GroundupError
from groundup.nn.cache import KeyValueCache
from groundup.nn.losses import linear_cross_entropy
from groundup.nn.losses.reading import MASKED
from groundup.nn.masks import causal_mask
from groundup.nn.rope import Rotary


class Given(NamedTuple):
    """What one block is given beside the states: plain values, so that equal blocks are compiled once."""

    rotary: tuple[Tensor, Tensor] | None
    """Cosine and sine for these steps; None for a layer without positions."""
    mask: Tensor | None
    """What is added to the scores; None where plain causal does."""
    cache: Any
    layer: int
    """The block's number, under which the cache keeps its part."""
    documents: Tensor | None
    dtype: torch.dtype
    """Of the residual stream."""


class Context:
    """What the blocks share of one input, each thing made once, when a block first asks for it.

    ``cache`` holds what was read before, or is None; ``documents`` [B, S] say which document each step is of.
    """

    def __init__(
        self, states: Tensor, documents: Tensor | None = None, cache: KeyValueCache | None = None, seen: int = 0
    ) -> None:
        self.steps = states.shape[1]
        self.dtype = states.dtype
        self.device = states.device
        self.documents = documents
        self.cache = cache
        self.seen = seen
        self._masks: dict[int | None, Tensor | None] = {}
        self._tables: dict[int, tuple[Tensor, Tensor]] = {}

    def mask(self, window: int | None = None) -> Tensor | None:
        """What hides the future, other documents, and what lies ``window`` steps back; None where plain causal does."""
        if window not in self._masks:
            made = causal_mask(self.steps, self.dtype, self.device, self.seen, self.documents, window)
            self._masks[window] = made
        return self._masks[window]

    def rotary(self, positions: Rotary | None) -> tuple[Tensor, Tensor] | None:
        """Cosine and sine for these steps; None for layers without positions."""
        if positions is None:
            return None
        if self.seen and not positions.same_angles(self.seen, self.seen + self.steps):
            raise GroundupError(
                f"beyond {self.seen} tokens this model's positions are scaled anew, and what was read before no longer "
                "fits. Read all of it again into a new cache."
            )
        key = id(positions)
        if key not in self._tables:
            self._tables[key] = positions(self.seen, self.steps, self.dtype, self.device)
        return self._tables[key]

    def given(self, layer: int, block: nn.Module) -> Given:
        """What this block is given: by its attention's window and its own positions."""
        attention = getattr(block, "attention", None)
        positions = getattr(block, "positions", (None,))[0]
        mask = None if attention is None else self.mask(getattr(attention, "window", None))
        return Given(self.rotary(positions), mask, self.cache, layer, self.documents, self.dtype)

    def places(self) -> Tensor:
        """The place of each new step within its document, [B or 1, T] int64, for learned positions."""
        if self.documents is None:
            return torch.arange(self.seen, self.seen + self.steps, device=self.device)[None]
        new = torch.ones_like(self.documents, dtype=torch.bool)
        new[:, 1:] = self.documents[:, 1:] != self.documents[:, :-1]
        steps = torch.arange(self.documents.shape[1], device=self.device).expand_as(self.documents)
        begun = torch.where(new, steps, 0).cummax(dim=1).values
        return (steps - begun)[:, self.seen :]


class Block(nn.Module):
    """One layer of most decoders: x + scale attention(norm(x)), then the same with the feed-forward net.

    ``positions`` None is a layer without rotary positions; ``dropout`` acts on what each half adds. The norm stands
    first: Xiong et al. 2020.
    """

    def __init__(
        self,
        attention: nn.Module,
        feed_forward: nn.Module,
        norms: tuple[nn.Module, nn.Module],
        positions: Rotary | None = None,
        scale: float = 1.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention_norm, self.feed_forward_norm = norms
        self.attention = attention
        self.feed_forward = feed_forward
        self.positions = (positions,)  # in a tuple, for they belong to all layers and are no part of this one
        self.scale = scale
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, given: Given) -> Tensor:
        """[B, T, F] -> [B, T, F]."""
        attended = self.dropout(attend_in(given, self.attention, self.attention_norm(states)))
        states = states + (attended if self.scale == 1.0 else attended * self.scale)
        fed = self.dropout(self.feed_forward(self.feed_forward_norm(states)))
        outputs: Tensor = states + (fed if self.scale == 1.0 else fed * self.scale)
        return outputs


def attend_in(given: Given, attention: nn.Module, inputs: Tensor) -> Tensor:
    """An attention layer with what its block was given."""
    outputs: Tensor = attention(inputs, given.rotary, given.mask, given.cache, given.layer)
    return outputs


class Decoder(nn.Module):
    """A language model of a family's parts: tokens [B, T] -> logits [B, T, V], or with targets their cross entropy.

    Each block is called as ``block(states, given)``. ``places`` embeds learned positions. ``scale_in`` multiplies
    the embedding, ``scale_out`` the logits; ``cap`` bends logits to within +-cap (Gemma 2). ``dropout`` acts on the
    embedding. Without a ``head`` the embedding's weight is the head's.
    """

    def __init__(
        self,
        embedding: nn.Embedding,
        blocks: Iterable[nn.Module],
        norm: nn.Module,
        head: nn.Linear | None = None,
        *,
        places: nn.Embedding | None = None,
        scale_in: float = 1.0,
        scale_out: float = 1.0,
        cap: float | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.places = places
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm
        self.head = head
        self.scale_in = scale_in
        self.scale_out = scale_out
        self.cap = cap

    def forward(
        self,
        tokens: Tensor,
        documents: Tensor | None = None,
        targets: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """Logits [B, T, V] of the token that follows each; with ``targets``, their mean cross entropy.

        tokens [B, T] int64. documents [B, T] int: which packed document a token is of; none sees another's.
        targets [B, T] int64, already the next tokens, -100 where masked. cache: what was read before stands in it,
        and these tokens are added.
        """
        hidden = self.hidden(tokens, documents, cache)
        if self.scale_out != 1.0:
            hidden = hidden * self.scale_out
        weight = self.embedding.weight if self.head is None else self.head.weight
        if targets is not None and self.cap is None:
            return linear_cross_entropy(hidden.flatten(0, 1), weight, targets.flatten())
        logits = F.linear(hidden, weight)
        if self.cap is not None:
            logits = self.cap * torch.tanh(logits / self.cap)
        if targets is None:
            return logits
        exact = logits.to(torch.promote_types(logits.dtype, torch.float32)).flatten(0, 1)
        return F.cross_entropy(exact, targets.flatten(), ignore_index=MASKED)

    def hidden(self, tokens: Tensor, documents: Tensor | None = None, cache: KeyValueCache | None = None) -> Tensor:
        """The normalised last hidden states [B, T, F], from which the logits are one product away."""
        states = self.embedding(tokens)
        device = states.device
        if torch.is_autocast_enabled(device.type):
            # The residual stream in the short type too: half the memory traffic, and no cast at each layer.
            states = states.to(torch.get_autocast_dtype(device.type))
        seen = 0
        if cache is not None:
            seen = cache.held
            documents = cache.start(tokens, documents)
        context = Context(states, documents, cache, seen)
        if self.scale_in != 1.0:
            states = states * torch.tensor(self.scale_in, dtype=states.dtype, device=device)
        if self.places is not None:
            states = states + self.places(context.places()).to(states.dtype)
        states = self.dropout(states)
        for layer, block in enumerate(self.blocks):
            states = block(states, context.given(layer, block))
        if cache is not None:
            cache.advance(tokens.shape[1])
        normalised: Tensor = self.norm(states).to(context.dtype)
        return normalised

    def new_cache(self, batch_size: int, length: int) -> KeyValueCache:
        """An empty cache for ``batch_size`` sequences of up to ``length`` tokens, prompt included."""
        return KeyValueCache(len(self.blocks), batch_size, length)


RESIDUAL = ("*.output.weight", "*.down.weight", "*.experts.down")
"""Names of the weights that write into the residual stream."""


def start_small(model: Decoder, residual: Sequence[str] = RESIDUAL) -> None:
    """Normal weights that keep the variance, but for those that write into the residual stream: a hundredth of that.

    Each block then starts as almost the identity, yet every weight has a gradient from the first step; biases are 0,
    norms as they are made. The first loss is close to log(V): logits of a head of its own vary by at most 0.3; with
    a tied one a token's state starts as its own row of the head, with a logit near std * F, and std is such that this
    adds at most 5% to the loss. A scaled embedding is made smaller by its scale.
    """
    vocabulary, width = model.embedding.weight.shape
    with torch.no_grad():
        for name, parameter in model.blocks.named_parameters():
            if parameter.ndim < 2:
                if name.endswith("bias"):
                    nn.init.zeros_(parameter)
                continue
            share = 0.01 if any(fnmatch.fnmatchcase(f"blocks.{name}", pattern) for pattern in residual) else 1.0
            nn.init.normal_(parameter, 0.0, share * parameter.shape[-1] ** -0.5)
        tied = math.log(1 + vocabulary * (vocabulary**0.05 - 1)) / (width * model.scale_out)
        std = min(0.02, tied) if model.head is None else 0.02
        nn.init.normal_(model.embedding.weight, 0.0, std / max(1.0, model.scale_in if model.head is None else 1.0))
        if model.head is not None:
            nn.init.normal_(model.head.weight, 0.0, min(0.02, 0.3 * width**-0.5) / model.scale_out)
        if model.places is not None:
            nn.init.normal_(model.places.weight, 0.0, 0.01)
