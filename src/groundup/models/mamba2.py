"""Mamba-2: a recurrence whose decay depends on the input, carried out as products of matrices, chunk by chunk.

Dao and Gu 2024, "Transformers are SSMs". Shapes: B batch, T steps, H heads, P features of a head, G groups,
N features of a state, C steps of a chunk, K taps of the convolution.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from groundup.core.errors import GroundupError
from groundup.models.config import read_config
from groundup.nn.decoder import Decoder, Given, start_small
from groundup.nn.norm import RMSNorm
from groundup.nn.weights import Weight


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mamba2Config:
    """The sizes of a Mamba-2, under the names of its published config.json."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_heads: int = 128
    head_dim: int = 64
    state_size: int = 128
    expand: float = 2
    """num_heads * head_dim = expand * hidden_size."""
    conv_kernel: int = 4
    n_groups: int = 8
    use_bias: bool = False
    use_conv_bias: bool = True
    layer_norm_epsilon: float = 1e-5
    residual_in_fp32: bool = True
    time_step_min: float = 0.001
    time_step_max: float = 0.1
    time_step_floor: float = 1e-4
    time_step_limit: Sequence[float] = (0.0, float("inf"))
    chunk_size: int = 256
    """Steps that are done by one product; changes nothing of what is computed."""
    tie_word_embeddings: bool = False
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    pad_token_id: int | None = None

    FIXED: ClassVar[Mapping[str, Any]] = {"model_type": "mamba2", "hidden_act": "silu"}
    INERT: ClassVar = frozenset({"norm_before_gate", "rescale_prenorm_residual", "rms_norm", "time_step_rank"})

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], ignore: tuple[str, ...] = ()) -> Self:
        """Read a config.json's table; newer files write infinity as ``{"__float__": "Infinity"}``."""
        limits = table.get("time_step_limit", cls.time_step_limit)
        plain = [float(v["__float__"]) if isinstance(v, Mapping) else float(v) for v in limits]
        return read_config(cls, {**table, "time_step_limit": plain}, ignore)

    def __post_init__(self) -> None:
        if self.num_heads * self.head_dim != int(self.expand * self.hidden_size) or self.num_heads % self.n_groups:
            raise ValueError(
                f"num_heads {self.num_heads} * head_dim {self.head_dim} must be expand {self.expand} * hidden_size "
                f"{self.hidden_size}, and n_groups {self.n_groups} must divide the heads."
            )


WEIGHTS = (
    Weight("backbone.embeddings.weight", "embedding.weight"),
    Weight("backbone.norm_f.weight", "norm.weight"),
    Weight("lm_head.weight", "head.weight"),
    Weight("backbone.layers.*.norm.weight", "blocks.*.norm.weight"),
    Weight("backbone.layers.*.mixer.dt_bias", "blocks.*.mixer.step_bias"),
    Weight("backbone.layers.*.mixer.A_log", "blocks.*.mixer.log_decay"),
    Weight("backbone.layers.*.mixer.D", "blocks.*.mixer.skip"),
    Weight("backbone.layers.*.mixer.norm.weight", "blocks.*.mixer.norm.weight"),
    *(
        Weight(f"backbone.layers.*.mixer.{theirs}.{part}", f"blocks.*.mixer.{ours}.{part}")
        for theirs, ours in (("in_proj", "inner"), ("out_proj", "output"), ("conv1d", "taps"))
        for part in ("weight", "bias")
    ),
)
"""Published name, our name."""


class Mamba2(Decoder):
    """A language model: tokens [B, T] -> logits [B, T, V], or with targets their mean cross entropy."""

    CONFIG = Mamba2Config
    ARCHITECTURE = "Mamba2ForCausalLM"
    WEIGHTS = WEIGHTS
    UNUSED = ()
    TIED: ClassVar[Mapping[str, str]] = {"lm_head.weight": "backbone.embeddings.weight"}

    def __init__(self, config: Mamba2Config) -> None:
        self.config = config
        width, vocabulary = config.hidden_size, config.vocab_size
        head = None if config.tie_word_embeddings else nn.Linear(width, vocabulary, bias=False)
        norm = RMSNorm(in_features=width, eps=config.layer_norm_epsilon)
        blocks = (Mamba2Block(config) for _ in range(config.num_hidden_layers))
        super().__init__(nn.Embedding(vocabulary, width), blocks, norm, head)
        start_small(self)
        for module in self.modules():
            if isinstance(module, Mamba2Mixer):
                module.start(config)

    def new_cache(self, batch_size: int, length: int) -> Any:
        """An empty cache for ``batch_size`` sequences; its size does not depend on ``length``."""
        return StateCache(batch_size, length)


class StateCache:
    """What a recurrence keeps of the steps that were read: each layer's state, and the convolution's last inputs."""

    def __init__(self, batch_size: int, length: int) -> None:
        self.batch_size = batch_size
        self.length = length
        self.held = 0
        self.layers: dict[int, tuple[Tensor, Tensor]] = {}
        """Layer -> (state [B, H, P, N], inputs of the last K - 1 steps [B, K - 1, features])."""
        self.last: Tensor | None = None
        """The document of the last K - 1 steps and more, [B, S]."""

    def start(self, tokens: Tensor, documents: Tensor | None) -> Tensor | None:
        """The documents [B, S] of all steps so far, these included, if any."""
        if tokens.shape[0] != self.batch_size or self.held + tokens.shape[1] > self.length:
            raise GroundupError(
                f"the cache was made for {self.batch_size} x {self.length} tokens and holds {self.held}; "
                f"{tokens.shape[0]} x {tokens.shape[1]} more do not fit. Make it with new_cache(batch_size, length)."
            )
        if documents is None and self.last is None:
            return None
        if self.last is None:
            self.last = tokens.new_zeros(self.batch_size, self.held)
        if documents is None:  # steps read without documents belong to the last one
            documents = self.last[:, -1:].expand(-1, tokens.shape[1])
        self.last = torch.cat((self.last, documents), dim=1)
        return self.last

    def advance(self, steps: int) -> None:
        """Count ``steps`` as held, once every layer has added them."""
        self.held += steps


class Mamba2Block(nn.Module):
    """One layer: x + mixer(norm(x)), the sum in fp32 where the config says so."""

    def __init__(self, config: Mamba2Config) -> None:
        super().__init__()
        self.exact = config.residual_in_fp32
        self.norm = RMSNorm(in_features=config.hidden_size, eps=config.layer_norm_epsilon)
        self.mixer = Mamba2Mixer(config)

    def forward(self, states: Tensor, given: Given) -> Tensor:
        """[B, T, F] -> [B, T, F]."""
        mixed = self.mixer(self.norm(states.to(given.dtype)), given)
        outputs: Tensor = (states.float() if self.exact and states.dtype.itemsize < 4 else states) + mixed
        return outputs


class Mamba2Mixer(nn.Module):
    """output(norm(y * silu(gate))), y the recurrence of what a short convolution makes of the input.

    h_t = exp(a s_t) h_(t-1) + s_t x_t B_t^T and y_t = h_t C_t + D x_t, with a = -exp(log_decay) and the step s_t =
    softplus(s'_t + step_bias), for each head; gate, x, B, C and s' are linear in the input. Equation 2 and section 7.
    """

    def __init__(self, config: Mamba2Config) -> None:
        super().__init__()
        inner, states = config.num_heads * config.head_dim, config.n_groups * config.state_size
        self.sizes = (inner, inner + 2 * states, config.num_heads)
        self.shape = (config.num_heads, config.head_dim, config.n_groups, config.state_size)
        self.limits = (float(config.time_step_limit[0]), float(config.time_step_limit[1]))
        self.chunk = config.chunk_size
        self.inner = nn.Linear(config.hidden_size, sum(self.sizes), bias=config.use_bias)
        self.taps = nn.Conv1d(
            self.sizes[1], self.sizes[1], config.conv_kernel, groups=self.sizes[1], bias=config.use_conv_bias
        )
        self.step_bias = nn.Parameter(torch.zeros(config.num_heads))
        self.log_decay = nn.Parameter(torch.zeros(config.num_heads))
        self.skip = nn.Parameter(torch.ones(config.num_heads))
        self.norm = RMSNorm(in_features=inner, eps=config.layer_norm_epsilon)
        self.output = nn.Linear(inner, config.hidden_size, bias=config.use_bias)

    def start(self, config: Mamba2Config) -> None:
        """Decays 1 to H, and steps spread evenly in logarithm from time_step_min to time_step_max; section 7.1."""
        with torch.no_grad():
            self.log_decay.copy_(torch.arange(1, len(self.log_decay) + 1, dtype=torch.float32).log())
            low, high = math.log(config.time_step_min), math.log(config.time_step_max)
            steps = torch.empty_like(self.step_bias).uniform_(low, high).exp().clamp(min=config.time_step_floor)
            self.step_bias.copy_(steps + torch.log(-torch.expm1(-steps)))  # softplus undone
            nn.init.normal_(self.taps.weight, 0.0, self.taps.weight.shape[-1] ** -0.5)

    def forward(self, inputs: Tensor, given: Given) -> Tensor:
        """[B, T, F] -> [B, T, F]."""
        heads, width, groups, size = self.shape
        gate, mixed, steps = self.inner(inputs).split(self.sizes, dim=-1)
        cache, layer = given.cache, given.layer
        state, before = (None, None) if cache is None or layer not in cache.layers else cache.layers[layer]
        segments = None if given.documents is None else _segments(given.documents)
        kernel = self.taps.weight.shape[-1]
        mixed, before = self._convolved(mixed, before, None if segments is None else segments, kernel)
        x, b, c = torch.split(F.silu(mixed), [self.sizes[0], groups * size, groups * size], dim=-1)
        exact = torch.promote_types(inputs.dtype, torch.float32)
        with torch.autocast(inputs.device.type, enabled=False):
            paces = F.softplus(steps.to(exact) + self.step_bias.to(exact)).clamp(*self.limits)
            x_BTHP = torch.unflatten(x.to(exact), -1, (heads, width))
            y_BTHP, state = scan_chunks(
                x_BTHP * paces[..., None],
                -self.log_decay.to(exact).exp() * paces,
                torch.unflatten(b.to(exact), -1, (groups, size)),
                torch.unflatten(c.to(exact), -1, (groups, size)),
                state,
                segments,
                self.chunk,
            )
            y_BTHP = y_BTHP + self.skip.to(exact)[:, None] * x_BTHP
        if cache is not None:
            cache.layers[layer] = (state, before)
        gated = torch.unflatten(y_BTHP.flatten(2) * F.silu(gate.to(exact)), -1, (groups, -1))
        normal = gated * torch.rsqrt(gated.square().mean(-1, keepdim=True) + self.norm.eps)
        outputs: Tensor = self.output(normal.flatten(2).to(inputs.dtype) * self.norm.weight.to(inputs.dtype))
        return outputs

    def _convolved(
        self, inputs: Tensor, before: Tensor | None, segments: Tensor | None, kernel: int
    ) -> tuple[Tensor, Tensor]:
        """Each feature's weighted sum over the last K steps of its own document; and the last K - 1 inputs."""
        steps = inputs.shape[1]
        if before is None:
            before = inputs.new_zeros(inputs.shape[0], kernel - 1, inputs.shape[2])
        around = torch.cat((before, inputs), dim=1)
        if segments is None:
            outputs = F.conv1d(
                around.transpose(1, 2), self.taps.weight.to(inputs.dtype), groups=inputs.shape[2]
            ).transpose(1, 2)
        else:
            padded = F.pad(segments, (kernel - 1, 0), value=-1)[:, -(steps + kernel - 1) :]
            here = segments[:, -steps:]
            outputs = torch.zeros_like(inputs)
            for tap in range(kernel):
                same = (padded[:, tap : tap + steps] == here)[..., None]
                outputs = outputs + around[:, tap : tap + steps] * self.taps.weight[:, 0, tap].to(inputs.dtype) * same
        if self.taps.bias is not None:
            outputs = outputs + self.taps.bias.to(inputs.dtype)
        return outputs, around[:, steps:]


def _segments(documents: Tensor) -> Tensor:
    """How many documents began before each step, [B, S]: one that comes back is another."""
    new = documents[:, 1:] != documents[:, :-1]
    return F.pad(new.cumsum(dim=1), (1, 0))


def scan_chunks(
    x_BTHP: Tensor,
    decay_BTH: Tensor,
    b_BTGN: Tensor,
    c_BTGN: Tensor,
    state: Tensor | None = None,
    segments: Tensor | None = None,
    chunk: int = 256,
) -> tuple[Tensor, Tensor]:
    """y_t = h_t c_t with h_t = exp(decay_t) h_(t-1) + x_t b_t^T: (y [B, T, H, P], the last h [B, H, P, N]).

    Within a chunk as one masked product, between chunks by the states (Dao and Gu 2024, section 6). ``segments``
    [B, S], the last T of which are these steps: no state passes from one segment to the next.
    """
    batch, steps, heads, width = x_BTHP.shape
    repeats = heads // b_BTGN.shape[2]
    if state is None:
        state = x_BTHP.new_zeros(batch, heads, width, b_BTGN.shape[3])
    last = None if segments is None else segments[:, -steps - 1] if segments.shape[1] > steps else segments[:, 0]
    here = None if segments is None else segments[:, -steps:]
    found = []
    for start in range(0, steps, chunk):
        cut = slice(start, min(start + chunk, steps))
        x_BCHP, total_BCH = x_BTHP[:, cut], decay_BTH[:, cut].cumsum(dim=1)
        b_BCHN = b_BTGN[:, cut].repeat_interleave(repeats, dim=2)
        c_BCHN = c_BTGN[:, cut].repeat_interleave(repeats, dim=2)
        ends_BCH = (total_BCH[:, -1:] - total_BCH).exp()
        carried_BCH = total_BCH.exp()
        spans = total_BCH.transpose(1, 2)[..., None] - total_BCH.transpose(1, 2)[..., None, :]  # [B, H, C, C]
        length = x_BCHP.shape[1]
        seen = torch.ones(length, length, dtype=torch.bool, device=x_BTHP.device).tril()
        if here is not None and last is not None:
            part = here[:, cut]
            seen = seen & (part[:, None, :, None] == part[:, None, None, :])
            carried_BCH = carried_BCH * (part == last[:, None])[..., None]
            ends_BCH = ends_BCH * (part == part[:, -1:])[..., None]
            last = part[:, -1]
        weights = spans.masked_fill(~seen, float("-inf")).exp() * torch.einsum("blhn,bshn->bhls", c_BCHN, b_BCHN)
        y_BCHP = torch.einsum("bhls,bshp->blhp", weights, x_BCHP)
        y_BCHP = y_BCHP + torch.einsum("blhn,bhpn->blhp", c_BCHN * carried_BCH[..., None], state)
        passed = carried_BCH[:, -1, :, None, None] * state
        state = passed + torch.einsum("blhn,blhp->bhpn", b_BCHN * ends_BCH[..., None], x_BCHP)
        found.append(y_BCHP)
    return torch.cat(found, dim=1), state
