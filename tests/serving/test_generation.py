"""Generation: the cache changes nothing, a seed repeats a text, and the drawing keeps to its bounds."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from groundup.core.errors import DataError, GroundupError, NonFiniteError
from groundup.models.llama import Llama
from groundup.serving.generation import Sampling, choose, generate, probabilities

GREEDY = Sampling(temperature=0)


@pytest.fixture(scope="module")
def llama() -> Llama:
    torch.manual_seed(0)
    model = Llama(23, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, dropout=0.5)
    with torch.no_grad():  # weights as large as after training, so that no two logits are close
        for parameter in model.parameters():
            parameter.mul_(4.0)
    return model.eval()


class Uncached(nn.Module):
    """The same model without its cache: every token is read again at each step."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.lengths: list[int] = []

    def forward(self, tokens: Tensor) -> Tensor:
        self.lengths.append(tokens.shape[1])
        logits: Tensor = self.model(tokens)
        return logits


class Fixed(nn.Module):
    """Gives the same logits whatever it reads."""

    def __init__(self, logits: Sequence[float]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.logits.expand(*tokens.shape, -1)


class Counting(nn.Module):
    """Answers each token with the one behind it, 0 to 9."""

    def forward(self, tokens: Tensor) -> Tensor:
        return nn.functional.one_hot((tokens + 1) % 10, 10).float()


# --------------------------------------------------------------------------------------------------- cache


@pytest.mark.parametrize("prompt", [[5], [3, 1, 4, 1, 5, 9]])
@pytest.mark.parametrize("context", [None, 64, 8, 7, 1])
def test_greedy_with_cache_equals_greedy_without(llama: Llama, prompt: list[int], context: int | None) -> None:
    cached = list(generate(llama, prompt, 30, GREEDY, context=context))
    uncached = Uncached(llama)
    assert list(generate(uncached, prompt, 30, GREEDY, context=context)) == cached
    assert len(cached) == 30
    assert len(set(cached)) > 1
    assert max(uncached.lengths) <= (context or 36)


def test_greedy_is_the_likeliest_token_of_a_plain_forward_pass(llama: Llama) -> None:
    tokens = [7, 7, 2]
    for token in generate(llama, list(tokens), 12, GREEDY):
        with torch.no_grad():
            assert token == int(llama(torch.tensor([tokens]))[0, -1].argmax())
        tokens.append(token)


def test_the_cache_reads_each_token_once(llama: Llama, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    forward = llama.forward

    def watch(tokens: Tensor, **rest: Any) -> Tensor:
        read.append(tokens.shape[1])
        return forward(tokens, **rest)

    monkeypatch.setattr(llama, "forward", watch)
    list(generate(llama, [1, 2, 3], 5, GREEDY))
    assert read == [3, 1, 1, 1, 1]


def test_a_long_prompt_is_seen_from_its_end(llama: Llama) -> None:
    first = next(generate(llama, list(range(20)), 5, GREEDY, context=6))
    assert first == next(generate(llama, list(range(14, 20)), 5, GREEDY))


def test_bfloat16_weights_give_text(llama: Llama) -> None:
    half = Llama(23, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
    half.load_state_dict(llama.state_dict())
    half = half.to(torch.bfloat16).eval()
    assert len(list(generate(half, [1, 2], 10, GREEDY))) == 10
    cached = list(generate(half, [1, 2], 10, Sampling(seed=3)))
    assert cached == list(generate(half, [1, 2], 10, Sampling(seed=3)))


def test_under_autocast_it_gives_text(llama: Llama) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert len(list(generate(llama, [1, 2], 5, GREEDY))) == 5


# ------------------------------------------------------------------------------------- the caller's model


def test_dropout_is_off_in_each_step_and_on_between_them(llama: Llama) -> None:
    expected = list(generate(llama, [4, 2], 8, GREEDY))
    llama.train()
    llama.blocks[0].eval()  # a mixture of modes must return as it was
    before = {name: module.training for name, module in llama.named_modules()}
    try:
        seen = []
        for token in generate(llama, [4, 2], 8, GREEDY):
            seen.append(token)
            assert {name: module.training for name, module in llama.named_modules()} == before
            assert torch.is_grad_enabled()
        assert seen == expected
    finally:
        llama.eval()


def test_training_goes_on_after_generating(llama: Llama) -> None:
    list(generate(llama, [4, 2], 20, GREEDY))
    loss = llama(torch.tensor([[1, 2, 3]]), targets=torch.tensor([[2, 3, 4]]))
    loss.backward()
    assert llama.embedding.weight.grad is not None
    llama.zero_grad(set_to_none=True)


def test_drawing_leaves_torchs_own_generator_alone(llama: Llama) -> None:
    state = torch.get_rng_state()
    list(generate(llama, [4, 2], 5, Sampling()))
    list(generate(llama, [4, 2], 5, Sampling(seed=None)))
    assert torch.equal(torch.get_rng_state(), state)


# -------------------------------------------------------------------------------------------------- choice


def test_a_seed_repeats_a_text_and_another_changes_it(llama: Llama) -> None:
    def texts(seed: int | None) -> list[int]:
        return list(generate(llama, [1], 24, Sampling(temperature=1.5, seed=seed)))

    assert texts(1) == texts(1)
    assert len({tuple(texts(seed)) for seed in range(5)}) == 5
    assert len({tuple(texts(None)) for _ in range(3)}) == 3


def test_it_streams(llama: Llama) -> None:
    endless: Iterator[int] = generate(Counting(), [0], 10**6, GREEDY, context=4)
    assert list(itertools.islice(endless, 12)) == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2]


def test_it_stops_at_a_stop_token_and_keeps_it_back() -> None:
    assert list(generate(Counting(), [0], 100, GREEDY, stop=[5, 8])) == [1, 2, 3, 4]
    assert list(generate(Counting(), [4], 100, GREEDY, stop={5})) == []
    assert list(generate(Counting(), [5], 3, GREEDY, stop={5})) == [6, 7, 8]  # a stop token in the prompt is no end


def test_the_number_of_tokens_is_kept_to() -> None:
    assert list(generate(Counting(), torch.tensor([0, 1]), 3, GREEDY)) == [2, 3, 4]
    assert list(generate(Counting(), [0], 0, GREEDY)) == []


logits_lists = st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=12)


@settings(max_examples=150, deadline=None)
@given(logits=logits_lists, temperature=st.floats(0.05, 5), top_p=st.floats(0.01, 1))
def test_top_p_keeps_the_fewest_likeliest_tokens_that_reach_its_mass(
    logits: list[float], temperature: float, top_p: float
) -> None:
    whole = torch.softmax(torch.tensor(logits, dtype=torch.float64) / temperature, 0)
    drawn = probabilities(torch.tensor(logits), Sampling(temperature=temperature, top_p=top_p))
    kept = drawn > 0
    assert float(whole[kept].sum()) >= top_p - 1e-9
    assert float(whole[kept].sum() - whole[kept].min()) < top_p + 1e-9  # one fewer would not reach it
    if not bool(kept.all()):
        assert float(whole[~kept].max()) <= float(whole[kept].min()) + 1e-12
    torch.testing.assert_close(drawn[kept], whole[kept] / whole[kept].sum(), rtol=1e-9, atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(logits=logits_lists, top_k=st.integers(1, 14))
def test_top_k_keeps_exactly_the_k_likeliest(logits: list[float], top_k: int) -> None:
    drawn = probabilities(torch.tensor(logits), Sampling(temperature=50.0, top_k=top_k))
    kept = drawn > 0
    assert int(kept.sum()) == min(top_k, len(logits))
    assert float(drawn.sum()) == pytest.approx(1)
    if not bool(kept.all()):
        assert (
            max(value for value, k in zip(logits, kept, strict=True) if not k)
            <= min(value for value, k in zip(logits, kept, strict=True) if k) + 1e-9
        )  # closer than that, two logits have one probability


def test_top_p_counts_within_top_k() -> None:
    logits = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    kept = probabilities(logits, Sampling(temperature=1, top_k=2, top_p=0.5))
    assert kept.tolist() == [1, 0, 0, 0]  # 0.4 is 4/7 of the two that top_k leaves


@pytest.mark.parametrize("temperature", [1e-300, 1e-40, 1e-3])
def test_a_tiny_temperature_is_greedy(temperature: float) -> None:
    assert probabilities(torch.tensor([1.0, 3.0, 2.0]), Sampling(temperature=temperature)).tolist() == [0, 1, 0]


def test_a_token_that_is_ruled_out_is_never_drawn() -> None:
    logits = torch.tensor([0.0, float("-inf"), 0.0])
    generator = torch.Generator().manual_seed(0)
    assert {choose(logits, Sampling(temperature=5.0), generator) for _ in range(100)} == {0, 2}


def test_draws_follow_the_probabilities() -> None:
    logits = torch.tensor([0.5, 0.3, 0.2]).log()
    generator = torch.Generator().manual_seed(0)
    draws = [choose(logits, Sampling(temperature=1.0), generator) for _ in range(4000)]
    for token, share in enumerate([0.5, 0.3, 0.2]):
        assert draws.count(token) / 4000 == pytest.approx(share, abs=4 * (share * (1 - share) / 4000) ** 0.5)


# ------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperature": -1.0}, "temperature: read -1.0"),
        ({"temperature": float("nan")}, "temperature: read nan"),
        ({"temperature": float("inf")}, "temperature: read inf"),
        ({"top_k": 0}, "top_k: read 0"),
        ({"top_p": 0.0}, "top_p: read 0.0"),
        ({"top_p": 1.5}, "top_p: read 1.5"),
    ],
)
def test_bounds_of_the_options(options: dict[str, Any], said: str) -> None:
    with pytest.raises(GroundupError, match=said):
        Sampling(**options)


def test_bad_calls_are_refused_at_once_not_at_the_first_token() -> None:
    with pytest.raises(DataError, match="prompt is empty"):
        generate(Counting(), [], 5)
    for count, context in ((-1, None), (5, 0)):
        with pytest.raises(GroundupError, match="max_new_tokens"):
            generate(Counting(), [1], count, context=context)


@pytest.mark.parametrize("logits", [[float("nan"), 0.0], [float("inf"), 0.0], [float("-inf")] * 2])
def test_an_output_that_is_not_finite_stops_it(logits: list[float]) -> None:
    with pytest.raises(NonFiniteError, match="after 1 tokens is not finite"):
        list(generate(Fixed(logits), [0], 5))
