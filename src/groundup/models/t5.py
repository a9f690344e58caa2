"""T5: an encoder reads a source text, a decoder writes another; positions are biases by distance. Raffel et al. 2020.

Version 1.1 (Shazeer 2020) has a gated feed-forward net and an output layer of its own.
Shapes: B batch, S steps of the source, T steps that are written, H heads, D head size, F d_model, V vocabulary.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from groundup.models.config import read_config
from groundup.nn.activations import gelu_tanh, relu
from groundup.nn.attention import Attention, CrossAttention
from groundup.nn.cache import KeyValueCache
from groundup.nn.decoder import Block, Given, attend_in, start_small
from groundup.nn.feed_forward import FeedForward, GatedFeedForward
from groundup.nn.losses import linear_cross_entropy
from groundup.nn.masks import padding_mask, triangle
from groundup.nn.norm import RMSNorm
from groundup.nn.weights import Weight


@dataclasses.dataclass(frozen=True, kw_only=True)
class T5Config:
    """The sizes of a T5, under the names of its published config.json."""

    vocab_size: int
    d_model: int = 512
    d_kv: int = 64
    """Features of one head, whatever d_model is."""
    d_ff: int = 2048
    num_layers: int = 6
    num_decoder_layers: int | None = None
    """As many as num_layers where it is None."""
    num_heads: int = 8
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    dropout_rate: float = 0.1
    layer_norm_epsilon: float = 1e-6
    feed_forward_proj: Literal["relu", "gated-gelu"] = "relu"
    tie_word_embeddings: bool = True
    """Where tied, the last states are multiplied with d_model**-0.5 before the output layer."""
    decoder_start_token_id: int = 0
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = None

    FIXED: ClassVar[Mapping[str, Any]] = {"model_type": "t5", "is_encoder_decoder": True, "is_decoder": False}
    INERT: ClassVar = frozenset(
        {"dense_act_fn", "gradient_checkpointing", "is_gated_act", "n_positions", "output_past"}
        | {"scale_decoder_outputs", "task_specific_params", "tokenizer_class"}
    )

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], ignore: tuple[str, ...] = ()) -> Self:
        """Read a config.json's table.

        Newer files always say that the embeddings are tied; there scale_decoder_outputs tells whether they are.
        """
        tied = table.get("tie_word_embeddings") is not False and table.get("scale_decoder_outputs") is not False
        return read_config(cls, {**table, "tie_word_embeddings": tied}, ignore)

    def __post_init__(self) -> None:
        if self.feed_forward_proj not in ("relu", "gated-gelu"):
            raise ValueError(f"feed_forward_proj: read {self.feed_forward_proj!r}, expected 'relu' or 'gated-gelu'.")
        buckets = self.relative_attention_num_buckets
        if buckets < 4 or buckets % 4 or self.relative_attention_max_distance <= buckets // 2:
            raise ValueError(
                f"relative_attention_num_buckets {buckets}, relative_attention_max_distance "
                f"{self.relative_attention_max_distance}: expected a multiple of 4, and more than half of it."
            )

    def norm(self) -> RMSNorm:
        """A norm over d_model."""
        return RMSNorm(in_features=self.d_model, eps=self.layer_norm_epsilon)

    def attention(self) -> Attention:
        """Over a series itself; scores are not scaled, and what is seen is said by the mask."""
        return Attention(self.num_heads, causal=False, in_features=self.d_model, head_dim=self.d_kv, scale=1.0)

    def feed_forward(self) -> nn.Module:
        """Of the kind that feed_forward_proj names."""
        options: dict[str, Any] = {"in_features": self.d_model, "bias": False, "dropout": self.dropout_rate}
        if self.feed_forward_proj == "relu":
            return FeedForward(self.d_ff, relu, **options)
        return GatedFeedForward(self.d_ff, gelu_tanh, **options)


def _stack(theirs: str, feed_forward: int) -> tuple[Weight, ...]:
    """The rows that encoder and decoder share; the feed-forward net is the last part of a published block."""
    block, inner = f"{theirs}.block.*.layer", f"{theirs}.block.*.layer.{feed_forward}.DenseReluDense"
    return (
        Weight(f"{theirs}.block.0.layer.0.SelfAttention.relative_attention_bias.weight", f"{theirs}.bias.weight"),
        Weight(f"{theirs}.final_layer_norm.weight", f"{theirs}.norm.weight"),
        Weight(f"{block}.0.layer_norm.weight", f"{theirs}.blocks.*.attention_norm.weight"),
        *_attention(f"{block}.0.SelfAttention", f"{theirs}.blocks.*.attention"),
        Weight(f"{block}.{feed_forward}.layer_norm.weight", f"{theirs}.blocks.*.feed_forward_norm.weight"),
        Weight(f"{inner}.wi.weight", f"{theirs}.blocks.*.feed_forward.up.weight"),
        Weight(f"{inner}.wo.weight", f"{theirs}.blocks.*.feed_forward.down.weight"),
    )


def _attention(theirs: str, ours: str) -> tuple[Weight, ...]:
    names = {"q": "query", "k": "key", "v": "value", "o": "output"}
    return tuple(Weight(f"{theirs}.{short}.weight", f"{ours}.{name}.weight") for short, name in names.items())


WEIGHTS = (
    Weight("shared.weight", "embedding.weight"),
    Weight("lm_head.weight", "head.weight"),
    *_stack("encoder", 1),
    *_stack("decoder", 2),
    Weight("decoder.block.*.layer.1.layer_norm.weight", "decoder.blocks.*.cross_norm.weight"),
    *_attention("decoder.block.*.layer.1.EncDecAttention", "decoder.blocks.*.cross"),
)
"""Published name, our name, with a plain feed-forward net."""


def _gated(row: Weight) -> tuple[Weight, ...]:
    """The rows of a gated net in place of a plain one's."""
    if not row.theirs.endswith(".wi.weight"):
        return (row,)
    gate = str(row.ours).replace(".up.", ".gate.")
    return (
        Weight(row.theirs.replace(".wi.", ".wi_0."), gate),
        Weight(row.theirs.replace(".wi.", ".wi_1."), str(row.ours)),
    )


class RelativeBias(nn.Module):
    """A learned number for each head and range of distances, added to the scores of all layers. Section 2.1.

    Half of the ranges are single distances, the others grow in logarithm up to ``farthest``. Looking to both sides,
    each side has half of the ranges.
    """

    def __init__(self, num_buckets: int, num_heads: int, farthest: int, both_sides: bool) -> None:
        super().__init__()
        self.num_embeddings = num_buckets  # optimizers treat it as an embedding by this
        self.weight = nn.Parameter(torch.empty(num_buckets, num_heads))
        self.farthest = farthest
        self.both_sides = both_sides

    def forward(self, steps: int, seen: int) -> Tensor:
        """[1, H, steps, seen] in the weight's type, for the last ``steps`` of ``seen``.

        A row is the one above it moved by one, so that only steps + seen - 1 numbers are looked up.
        """
        distances = torch.arange(1 - seen, steps, device=self.weight.device)  # from a step to what it attends to
        table = self.weight[self.buckets(distances)].T
        return table.unfold(-1, seen, 1).flip(1)[None]

    def buckets(self, distances: Tensor) -> Tensor:
        """Which number a distance has; negative ones look back."""
        ranges, first = self.num_embeddings, torch.zeros_like(distances)
        if self.both_sides:
            ranges //= 2
            first = ranges * (distances > 0)
            distances = distances.abs()
        else:
            distances = -distances.clamp(max=0)
        single = ranges // 2
        share = torch.log(distances.float().clamp(min=1) / single) / math.log(self.farthest / single)
        far = (single + (share * (ranges - single)).long()).clamp(max=ranges - 1)
        return first + torch.where(distances < single, distances, far)


class Memory(NamedTuple):
    """What the decoder is given of the source."""

    states: Tensor
    """[B, S, F], as the encoder leaves them."""
    mask: Tensor | None
    """[B, 1, 1, S], -inf where the source is padding; None where nothing is."""
    remembered: tuple[tuple[Tensor, Tensor], ...] | None = None
    """Each layer's keys and values [B, S, H, D] of the states, where several passes share them."""

    def of(self, layer: int) -> Tensor | tuple[Tensor, Tensor]:
        """What one layer's cross attention takes."""
        return self.states if self.remembered is None else self.remembered[layer]


class T5EncoderStack(nn.Module):
    """Blocks in which each step sees all others."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.bias = _bias(config, both_sides=True)
        self.blocks = nn.ModuleList(
            Block(
                config.attention(), config.feed_forward(), (config.norm(), config.norm()), dropout=config.dropout_rate
            )
            for _ in range(config.num_layers)
        )
        self.norm = config.norm()
        self.dropout = nn.Dropout(config.dropout_rate)

    def forward(self, states: Tensor, padding: Tensor | None) -> Tensor:
        """[B, S, F] -> [B, S, F]; ``padding`` [B, 1, 1, S] hides what is none of the source."""
        steps = states.shape[1]
        mask = self.bias(steps, steps).to(states.dtype)
        mask = mask if padding is None else mask + padding
        for layer, block in enumerate(self.blocks):
            states = block(states, Given(None, mask, None, layer, None, states.dtype))
        normalised: Tensor = self.dropout(self.norm(states))
        return normalised


class T5DecoderBlock(nn.Module):
    """x + attention(norm(x)), then the same with attention to the source, then with the feed-forward net."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.attention_norm, self.attention = config.norm(), config.attention()
        self.cross_norm = config.norm()
        self.cross = CrossAttention(config.num_heads, in_features=config.d_model, head_dim=config.d_kv, scale=1.0)
        self.feed_forward_norm, self.feed_forward = config.norm(), config.feed_forward()
        self.dropout = nn.Dropout(config.dropout_rate)

    def forward(
        self, states: Tensor, given: Given, context: Tensor | tuple[Tensor, Tensor], padding: Tensor | None
    ) -> Tensor:
        """[B, T, F] -> [B, T, F]; ``context`` and its ``padding`` as ``CrossAttention`` takes them."""
        states = states + self.dropout(attend_in(given, self.attention, self.attention_norm(states)))
        states = states + self.dropout(self.cross(self.cross_norm(states), context, padding))
        outputs: Tensor = states + self.dropout(self.feed_forward(self.feed_forward_norm(states)))
        return outputs


class T5DecoderStack(nn.Module):
    """Blocks in which each step sees those before it, and the source."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.bias = _bias(config, both_sides=False)
        layers = config.num_layers if config.num_decoder_layers is None else config.num_decoder_layers
        self.blocks = nn.ModuleList(T5DecoderBlock(config) for _ in range(layers))
        self.norm = config.norm()
        self.dropout = nn.Dropout(config.dropout_rate)

    def forward(self, states: Tensor, memory: Memory, cache: KeyValueCache | None = None) -> Tensor:
        """[B, T, F] -> [B, T, F]; these steps stand behind what the ``cache`` holds."""
        steps = states.shape[1]
        seen = steps + (0 if cache is None else cache.held)
        mask = self.bias(steps, seen).to(states.dtype)
        if steps > 1:
            mask = mask + triangle(steps, seen, states.dtype, states.device)
        for layer, block in enumerate(self.blocks):
            given = Given(None, mask, cache, layer, None, states.dtype)
            states = block(states, given, memory.of(layer), memory.mask)
        normalised: Tensor = self.dropout(self.norm(states))
        return normalised


def _bias(config: T5Config, both_sides: bool) -> RelativeBias:
    buckets, farthest = config.relative_attention_num_buckets, config.relative_attention_max_distance
    return RelativeBias(buckets, config.num_heads, farthest, both_sides)


RESIDUAL_SHARE = 0.2
"""What writes into the residual stream begins with so much of what keeps the variance. With the hundredth that decoders
begin with, finding what to read took twice as long (words turned round: a loss of 1.05 in place of 0.44, 200 steps)."""


class T5(nn.Module):
    """A source [B, S] and what was written of the target [B, T] -> logits [B, T, V], or with targets their mean loss.

    What is written begins with ``decoder_start_token_id``. ``writer`` makes a language model of it for one source.
    """

    CONFIG = T5Config
    ARCHITECTURE = "T5ForConditionalGeneration"
    UNUSED = ("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",)
    TIED: ClassVar[Mapping[str, str]] = {"lm_head.weight": "shared.weight"}
    COPIES: ClassVar[Mapping[str, str]] = {
        f"{part}.embed_tokens.weight": "shared.weight" for part in ("encoder", "decoder")
    }

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.encoder = T5EncoderStack(config)
        self.decoder = T5DecoderStack(config)
        tied = config.tie_word_embeddings
        self.head = None if tied else nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.dropout = nn.Dropout(config.dropout_rate)
        self.scale_in, self.scale_out = 1.0, config.d_model**-0.5 if tied else 1.0
        self.places = None
        self._start()

    def _start(self) -> None:
        """As decoders start, but for what writes into the residual stream, and queries that do what a scale does."""
        start_small(cast("Any", self), residual=())
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name.endswith("query.weight"):
                    parameter.mul_(self.config.d_kv**-0.5)
                elif name.endswith(("output.weight", "down.weight")):
                    parameter.mul_(RESIDUAL_SHARE)
                elif name.endswith("bias.weight"):
                    nn.init.normal_(parameter, 0.0, 0.02)

    @property
    def blocks(self) -> nn.ModuleList:
        """All layers, the encoder's first."""
        return nn.ModuleList([*self.encoder.blocks, *self.decoder.blocks])

    @property
    def WEIGHTS(self) -> tuple[Weight, ...]:
        """Published name, our name."""
        if self.config.feed_forward_proj == "relu":
            return WEIGHTS
        return tuple(gated for row in WEIGHTS for gated in _gated(row))

    def forward(
        self, tokens: Tensor, decoder_tokens: Tensor, lengths: Tensor | None = None, targets: Tensor | None = None
    ) -> Tensor:
        """Logits [B, T, V] of the token behind each of ``decoder_tokens``; with ``targets``, their mean cross entropy.

        tokens [B, S] int64, the source; lengths [B], what lies behind is padding and is not seen. decoder_tokens [B, T]
        int64: the start, and then the target but for its last token. targets [B, T] int64, -100 where masked.
        """
        hidden = self.decode(decoder_tokens, self.encode(tokens, lengths))
        if targets is None:
            return self.logits(hidden)
        return linear_cross_entropy(hidden.flatten(0, 1), self._output(), targets.flatten())

    def logits(self, hidden: Tensor) -> Tensor:
        """Last states [B, T, F] -> [B, T, V]."""
        return F.linear(hidden, self._output())

    def encode(self, tokens: Tensor, lengths: Tensor | None = None) -> Memory:
        """What the decoder is given of a source [B, S]."""
        states = self._embedded(tokens)
        mask = None if lengths is None else padding_mask(lengths, tokens.shape[1], states.dtype)
        return Memory(self.encoder(states, mask), mask)

    def remember(self, tokens: Tensor, lengths: Tensor | None = None) -> Memory:
        """The same, with each layer's keys and values made once, for all steps of a generation."""
        memory = self.encode(tokens, lengths)
        crosses = (cast("T5DecoderBlock", block).cross for block in self.decoder.blocks)
        return memory._replace(remembered=tuple(cross.remembered(memory.states) for cross in crosses))

    def decode(self, decoder_tokens: Tensor, memory: Memory, cache: KeyValueCache | None = None) -> Tensor:
        """The last states [B, T, F], from which the logits are one product away."""
        if cache is not None:
            cache.start(decoder_tokens, None)
        states: Tensor = self.decoder(self._embedded(decoder_tokens), memory, cache)
        if cache is not None:
            cache.advance(decoder_tokens.shape[1])
        return states if self.scale_out == 1.0 else states * self.scale_out

    def writer(self, tokens: Tensor, lengths: Tensor | None = None) -> T5Writer:
        """A language model of what is written from these sources."""
        return T5Writer(self, tokens, lengths)

    def _output(self) -> Tensor:
        weight: Tensor = self.embedding.weight if self.head is None else self.head.weight
        return weight

    def _embedded(self, tokens: Tensor) -> Tensor:
        states: Tensor = self.embedding(tokens)
        device = states.device.type
        if torch.is_autocast_enabled(device):  # the residual stream in the short type too, as ``Decoder`` has it
            states = states.to(torch.get_autocast_dtype(device))
        dropped: Tensor = self.dropout(states)
        return dropped


class T5Writer(nn.Module):
    """A T5 with its sources: what was written [B, T] -> logits [B, T, V]. They are read once, when first needed."""

    def __init__(self, model: T5, tokens: Tensor, lengths: Tensor | None = None) -> None:
        super().__init__()
        self.model = model
        self.source = (tokens, lengths)
        self.memory: Memory | None = None

    def forward(self, tokens: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """tokens [B, T] int64, the first of all is ``decoder_start_token_id``; they are added to what a cache holds."""
        if self.memory is None:
            self.memory = self.model.remember(*self.source)
        return self.model.logits(self.model.decode(tokens, self.memory, cache))

    def new_cache(self, batch_size: int, length: int) -> KeyValueCache:
        """An empty cache for ``batch_size`` targets of up to ``length`` tokens, the start included."""
        return KeyValueCache(len(self.model.decoder.blocks), batch_size, length)
