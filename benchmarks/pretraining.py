"""How many tokens a second does pre-training take in, beside the same model in a plain PyTorch loop?

Every contestant trains a Llama of the same sizes and first weights on the same batches: the sources of Python's
standard library, packed. groundup's runs through ``fit`` as a recipe would run it, and keeps documents apart;
transformers' runs in the loop that its users write, with the default settings of model and optimizer.
The model's FLOP/s are held against the rate of matrix products measured in the same run.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import arguments, save, show, summary, take_turns
from tokenizers import ByteLevelBPETokenizer

from groundup.core.batch import Batch, Bookmark
from groundup.core.processor import has_bf16
from groundup.core.state import TrainState
from groundup.models import Llama
from groundup.nn.weights import write_names
from groundup.optim import AdamW, Muon, parameter_groups
from groundup.training import fit, language_modelling, settle

SEED = 0
MASKED = -100


# ------------------------------------------------------------------------------------------------- tokens


def documents(vocabulary: int, count: int) -> list[np.ndarray[Any, Any]]:
    """Tokens of ``count`` files of the standard library, by a byte-level BPE trained on them."""
    paths = sorted(Path(sysconfig.get_path("stdlib")).glob("**/*.py"))
    paths = [path for path in paths if "site-packages" not in path.parts and "test" not in path.parts]
    chosen = np.random.default_rng(SEED).permutation(len(paths))[:count]
    texts = [paths[i].read_text(encoding="utf-8", errors="replace") for i in chosen]
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(texts, vocab_size=vocabulary, min_frequency=2, show_progress=False)
    return [np.array(encoded.ids, dtype=np.int64) for encoded in tokenizer.encode_batch(texts) if encoded.ids]


def packed(texts: list[np.ndarray[Any, Any]], batch_size: int, length: int) -> list[Batch]:
    """The documents end to end, cut into rows; the last token of a document predicts nothing."""
    tokens = torch.from_numpy(np.concatenate(texts))
    numbers = torch.from_numpy(np.repeat(np.arange(len(texts)), [len(text) for text in texts]))
    targets = torch.where(numbers[1:] == numbers[:-1], tokens[1:], MASKED)
    found = []
    for start in range(0, len(targets) - batch_size * length + 1, batch_size * length):
        cut = slice(start, start + batch_size * length)
        rows = [values[cut].view(batch_size, length) for values in (tokens, numbers, targets)]
        found.append(Batch({"tokens": rows[0], "documents": rows[1]}, {"targets": rows[2]}, Bookmark(0, start)))
    return found


# -------------------------------------------------------------------------------------------- contestants


def ours(options: argparse.Namespace) -> Llama:
    torch.manual_seed(SEED)
    return Llama(options.vocabulary, depth=options.depth)


def groundup(options: argparse.Namespace, batches: list[Batch], optimizer: str, compile: str) -> tuple[Any, str]:
    """(something that makes one step each time it is asked, what was decided)."""
    model = ours(options)
    groups = parameter_groups(model)
    made = Muon(groups) if optimizer == "Muon" else AdamW(groups, lr=1e-3)
    state = TrainState(model, made, total_steps=10**6)
    settle(state, batches[0], language_modelling, compile="on" if compile == "on" else "off")
    decided = state.decisions
    said = f"{decided['precision']['name']}; compile {'on' if decided['compile']['on'] else 'off'}"
    if compile == "on" and not decided["compile"]["on"]:
        said += f" ({decided['compile']['reason']})"
    return fit(state, itertools.cycle(batches), language_modelling), said


def theirs(options: argparse.Namespace) -> Any:
    """transformers' Llama with our sizes and first weights; that it is the same model is checked."""
    from transformers import LlamaConfig, LlamaForCausalLM

    model = ours(options)
    sizes = {name: value for name, value in model.config.to_dict().items() if name != "rope_scaling"}
    peer = LlamaForCausalLM(LlamaConfig(**sizes))
    weights = write_names({n: v for n, v in model.state_dict().items() if v.is_floating_point()}, Llama.WEIGHTS)
    missing, unexpected = peer.load_state_dict(weights, strict=False)
    assert set(missing) <= {"lm_head.weight"}, missing  # tied to the embedding
    assert not unexpected, unexpected
    tokens = torch.arange(16)[None] % options.vocabulary
    with torch.no_grad():
        torch.testing.assert_close(peer.eval()(tokens).logits, model.eval()(tokens), rtol=1e-3, atol=1e-4)
    return peer.train()


def plain_loop(options: argparse.Namespace, batches: list[Batch], autocast: bool) -> Iterator[float]:
    """What a user of transformers writes."""
    model = theirs(options)
    optimizer = torch.optim.AdamW(model.parameters())
    for batch in itertools.cycle(batches):
        tokens = batch.inputs["tokens"]
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        yield loss.item()


def contestants(options: argparse.Namespace, batches: list[Batch]) -> tuple[dict[str, Iterator[Any]], dict[str, str]]:
    """Name -> steps, and name -> settings."""
    steps: dict[str, Iterator[Any]] = {}
    settings: dict[str, str] = {}
    for name, optimizer, compile in [
        ("groundup, Muon", "Muon", "off"),
        ("groundup, AdamW", "AdamW", "off"),
        *([("groundup, Muon, compiled", "Muon", "on")] if options.compile else []),
    ]:
        steps[name], settings[name] = groundup(options, batches, optimizer, compile)
    for name, autocast in [("transformers, default", False), ("transformers, bf16", True)]:
        steps[name] = plain_loop(options, batches, autocast)
        settings[name] = f"{'bf16 autocast' if autocast else 'fp32'}; AdamW"
    return steps, settings


# ---------------------------------------------------------------------------------------------- measuring


def flop_per_token(model: Llama, length: int) -> float:
    """Forward and backward: 6 for each weight of a matrix product, and causal attention's two products.

    Of attention only what the mask leaves is counted (half of it), and each weight once although the tied
    embedding is stored once and used twice: looking up a row is no product. Kaplan et al. 2020, section 2.1.
    """
    weights = sum(p.numel() for n, p in model.named_parameters() if p.ndim == 2 and n != "embedding.weight")
    head = model.config.vocab_size * model.config.hidden_size if model.head is None else 0
    attention = model.config.num_hidden_layers * model.config.hidden_size * length
    return 6 * (weights + head + attention)


def tokens_per_second(steps: Iterator[Any], count: int, tokens: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        next(steps)
    return count * tokens / (time.perf_counter() - start)


def matmul_rate(size: int, dtype: torch.dtype, repeats: int = 4) -> float:
    """FLOP/s of square matrix products."""
    a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    torch.mm(a, b, out=out)
    start = time.perf_counter()
    for _ in range(repeats):
        torch.mm(a, b, out=out)
    return repeats * 2 * size**3 / (time.perf_counter() - start)


def read_options() -> argparse.Namespace:
    parser = arguments(__doc__ or "")
    parser.add_argument("--depth", type=int)
    parser.add_argument("--length", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--vocabulary", type=int)
    parser.add_argument("--steps", type=int, help="steps in one turn")
    parser.add_argument("--compile", action="store_true", help="one more contestant: groundup, compiled")
    options = parser.parse_args()
    #               quick, full: those of recipes/quickstart.toml
    defaults = {"depth": (1, 6), "length": (64, 512), "batch_size": (2, 8), "vocabulary": (512, 4096), "steps": (1, 3)}
    for name, (quick, full) in {**defaults, "repeats": (2, 7)}.items():
        if getattr(options, name) is None:
            setattr(options, name, quick if options.quick else full)
    return options


def main() -> None:
    options = read_options()
    batches = packed(documents(options.vocabulary, 40 if options.quick else 400), options.batch_size, options.length)
    model = ours(options)
    flop = flop_per_token(model, options.length)
    tokens = options.batch_size * options.length
    steps, settings = contestants(options, batches)
    size = 256 if options.quick else 2048
    turns: dict[str, Callable[[], float]] = {
        name: functools.partial(tokens_per_second, each, options.steps, tokens) for name, each in steps.items()
    }
    for dtype in (torch.bfloat16, torch.float32):
        turns[str(dtype)] = functools.partial(matmul_rate, size, dtype)
    take_turns(turns, 1)  # the first steps allocate, and compile where that was asked for
    found = take_turns(turns, options.repeats)

    rates = {dtype: summary(found[str(dtype)])["median"] for dtype in (torch.bfloat16, torch.float32)}
    reference = summary(found["transformers, default"])["median"]
    rows = []
    for name in steps:
        speed = summary(found[name])
        rows.append(
            {
                "contestant": name,
                "settings": settings[name],
                "tokens/s": speed["median"],
                "least": speed["least"],
                "most": speed["most"],
                "ratio": speed["median"] / reference,
                "MFU": speed["median"] * flop / rates[torch.bfloat16],
            }
        )
    parameters = sum(p.numel() for p in model.parameters())
    caption = (
        f"{parameters:,} parameters, {options.batch_size} x {options.length} tokens a step, {options.repeats} rounds "
        f"of {options.steps} steps, {torch.get_num_threads()} threads. Matrix products of {size}: bf16 "
        f"{rates[torch.bfloat16] / 1e9:,.0f} GFLOP/s, fp32 {rates[torch.float32] / 1e9:,.0f}. MFU: the model's "
        f"{flop / 1e6:,.1f} MFLOP a token over the bf16 rate{'' if has_bf16() else ', which is not fast here'}.\n"
        + "\n".join(f"{name}: {said}" for name, said in settings.items())
    )
    show("Pre-training", [{k: v for k, v in row.items() if k != "settings"} for row in rows], caption)
    if not options.quick:
        names = ("depth", "length", "batch_size", "vocabulary", "steps", "repeats")
        chosen = {name: getattr(options, name) for name in names}
        measured = {"parameters": parameters, "flop_per_token": flop, "threads": torch.get_num_threads()}
        matmul = {"matmul_size": size, "bf16_flops": rates[torch.bfloat16], "fp32_flops": rates[torch.float32]}
        save("pretraining", rows, {**chosen, **measured, **matmul})


if __name__ == "__main__":
    main()
