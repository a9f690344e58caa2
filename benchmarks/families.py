"""How long do a forward pass and a training step of each family take, beside transformers with the same weights?

Ours is made and written, transformers reads it, and both must give the same outputs first. Forward: evaluation, no
gradients. Step: the loss as each library computes it, and its gradients; no optimizer, no dropout. transformers has
the kernels that it chooses by itself (its SDPA attention, where a family has it) and keeps no cache. The short type
is that of the weights, on both sides. ``results/families.md`` is made anew from the latest line of each family.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from measuring import FOLDER, arguments, save, show, summary, take_turns
from torch import Tensor, nn

from groundup.core.batch import Batch, Bookmark
from groundup.models.hugging_face import family_of, write_folder
from groundup.training import language_modelling, supervised

SEED = 0
MASKED = -100
FARTHEST = {torch.float32: 2e-4, torch.bfloat16: 0.06}
"""How far apart outputs may lie, as a share of their norm."""


# -------------------------------------------------------------------------------------------------- sizes


class Case(NamedTuple):
    """One family at one size."""

    kind: str
    """What the model is for: "text", "words" (masked ones) or "images"."""
    sizes: Mapping[str, Any]
    """In the names of its config.json."""
    batch: int = 2
    length: int = 512
    """Tokens of a row, or pixels of an image's side."""


DECODER: dict[str, Any] = {
    "vocab_size": 8192,
    "hidden_size": 384,
    "intermediate_size": 1024,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
}
MIXTURE = {**DECODER, "num_hidden_layers": 4}
NEOX = {name: value for name, value in DECODER.items() if name not in ("num_key_value_heads", "rms_norm_eps")}
ENCODER: dict[str, Any] = {
    "vocab_size": 8192,
    "hidden_size": 384,
    "intermediate_size": 1536,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "max_position_embeddings": 514,
    "head": "words",
}
PATCHES = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 6, "num_labels": 100}
DEEPSEEK = {
    **MIXTURE,
    "num_key_value_heads": 6,
    "moe_intermediate_size": 256,
    "n_routed_experts": 16,
    "num_experts_per_tok": 4,
    "n_group": 4,
    "topk_group": 2,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 128,
    "q_lora_rank": 192,
    "qk_rope_head_dim": 32,
    "qk_nope_head_dim": 64,
    "v_head_dim": 64,
}
MAMBA = {
    "vocab_size": 8192,
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_heads": 12,
    "head_dim": 64,
    "state_size": 64,
    "n_groups": 1,
    "chunk_size": 128,
    "tie_word_embeddings": True,
}

CASES: dict[str, Case] = {
    "llama": Case("text", DECODER),
    "mistral": Case("text", {**DECODER, "sliding_window": 256}),
    "qwen2": Case("text", DECODER),
    "qwen3": Case("text", {**DECODER, "head_dim": 64}),
    "qwen3_moe": Case(
        "text", {**MIXTURE, "head_dim": 64, "moe_intermediate_size": 256, "num_experts": 16, "num_experts_per_tok": 4}
    ),
    "mixtral": Case("text", {**MIXTURE, "intermediate_size": 512, "num_local_experts": 8, "num_experts_per_tok": 2}),
    "gemma2": Case("text", {**DECODER, "head_dim": 64, "query_pre_attn_scalar": 64, "sliding_window": 256}),
    "gemma3_text": Case("text", {**DECODER, "head_dim": 64, "query_pre_attn_scalar": 64, "sliding_window": 256}),
    "phi3": Case("text", DECODER),
    "olmo2": Case("text", DECODER),
    "smollm3": Case("text", DECODER),
    "granite": Case("text", {**DECODER, "attention_multiplier": 0.125, "logits_scaling": 4.0}),
    "gpt2": Case("text", {"vocab_size": 8192, "n_embd": 384, "n_layer": 6, "n_head": 6}),
    "gpt_neox": Case("text", {**NEOX, "intermediate_size": 1536}),
    "deepseek_v3": Case("text", DEEPSEEK),
    "mamba2": Case("text", MAMBA),
    "bert": Case("words", ENCODER),
    "roberta": Case("words", ENCODER),
    "distilbert": Case("words", {"vocab_size": 8192, "dim": 384, "hidden_dim": 1536, "n_layers": 6, "n_heads": 6}),
    "electra": Case("words", {**ENCODER, "embedding_size": 128}),
    "modernbert": Case("words", {**ENCODER, "intermediate_size": 768, "local_attention": 128}),
    "vit": Case("images", {**PATCHES, "intermediate_size": 1536}, 8, 224),
    "dinov2": Case("images", {**PATCHES, "image_size": 224}, 4, 224),
    "resnet": Case("images", {"num_labels": 100}, 4, 160),
    "convnext": Case(
        "images", {"depths": [3, 3, 9, 3], "hidden_sizes": [64, 128, 256, 512], "num_labels": 100}, 4, 160
    ),
    "mobilenet_v1": Case("images", {"num_labels": 100}, 8, 160),
    "mobilenet_v2": Case("images", {"num_labels": 100}, 8, 160),
}
SMALL = {"text": (1, 32), "words": (1, 32), "images": (1, 224)}
CLASSES = {"text": "AutoModelForCausalLM", "words": "AutoModelForMaskedLM", "images": "AutoModelForImageClassification"}


# ---------------------------------------------------------------------------------------------- contestants


def ours(family: str, case: Case) -> Any:
    """Our model in fp32, its weights moved so that every part of it shows in what it gives."""
    kind = family_of({"model_type": family})
    sizes = {**case.sizes, "head": "words"} if case.kind == "words" else dict(case.sizes)
    dropped = {field.name: 0.0 for field in dataclasses.fields(kind.CONFIG) if "drop" in field.name}
    config = kind.CONFIG(**{**sizes, **dropped})
    torch.manual_seed(SEED)
    model = kind.from_config(config) if hasattr(kind, "from_config") else kind(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim in (1, 2):
                parameter.add_(torch.randn_like(parameter), alpha=0.02)
    return model


def theirs(model: Any, case: Case, dtype: torch.dtype) -> Any:
    """transformers' model, read from what ours was written as."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        write_folder(model, Path(folder) / "m")
        config = transformers.AutoConfig.from_pretrained(Path(folder) / "m")
        for name, value in config.to_dict().items():
            if isinstance(value, float) and ("drop" in name or name.endswith("pdrop")):
                setattr(config, name, 0.0)
        config.use_cache = False
        kind = getattr(transformers, CLASSES[case.kind])
        return kind.from_pretrained(Path(folder) / "m", config=config, dtype=dtype)


def batch_of(case: Case, sizes: tuple[int, int], dtype: torch.dtype) -> tuple[Batch, dict[str, Tensor]]:
    """(our batch, what transformers is called with)."""
    rows, length = sizes
    generator = torch.Generator().manual_seed(SEED)
    if case.kind == "images":
        images = torch.randn(rows, 3, length, length, generator=generator).to(dtype)
        labels = torch.arange(rows) % 100
        return Batch({"inputs": images}, {"targets": labels}, Bookmark(0, 0)), {
            "pixel_values": images,
            "labels": labels,
        }
    tokens = torch.randint(3, 8192, (rows, length), generator=generator)
    if case.kind == "text":
        targets = tokens.roll(-1, dims=1)
        targets[:, -1] = MASKED
        return Batch({"tokens": tokens}, {"targets": targets}, Bookmark(0, 0)), {"input_ids": tokens, "labels": tokens}
    hidden = torch.rand(rows, length, generator=generator) < 0.15
    targets = torch.where(hidden, tokens, MASKED)
    return Batch({"tokens": tokens}, {"targets": targets}, Bookmark(0, 0)), {"input_ids": tokens, "labels": targets}


def forward(call: Callable[[], Any], model: nn.Module) -> float:
    model.eval()
    with torch.no_grad():
        start = time.perf_counter()
        call()
        return time.perf_counter() - start


def step(loss: Callable[[], Tensor], model: nn.Module) -> float:
    model.train()
    model.zero_grad(set_to_none=True)
    start = time.perf_counter()
    loss().backward()
    return time.perf_counter() - start


def turns(
    family: str, dtype: torch.dtype, *, quick: bool
) -> tuple[dict[str, Callable[[], float]], dict[str, int | float]]:
    """(what takes turns, what is to be told of this family), once both sides have given the same."""
    case = CASES[family]
    model = ours(family, case)
    peer = theirs(model, case, dtype)
    model = model.to(dtype)
    sizes = SMALL[case.kind] if quick else (case.batch, case.length)
    batch, called = batch_of(case, sizes, dtype)
    inputs = {name: value for name, value in called.items() if name != "labels"}
    objective = language_modelling if case.kind == "text" else supervised
    model.eval(), peer.eval()
    with torch.no_grad():
        found, wanted = model(*inputs.values()).float(), peer(**inputs).logits.float()
    apart = float((found - wanted).norm() / wanted.norm())
    if not apart < FARTHEST[dtype]:
        raise SystemExit(f"{family}, {dtype}: the outputs lie {apart:.3g} of their norm apart; nothing to compare.")
    told = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "rows": sizes[0],
        "length": sizes[1],
        "apart": apart,
    }
    contestants = {
        "forward, ours": functools.partial(forward, lambda: model(*inputs.values()), model),
        "forward, theirs": functools.partial(forward, lambda: peer(**inputs), peer),
        "step, ours": functools.partial(step, lambda: objective(model, batch).total, model),
        "step, theirs": functools.partial(step, lambda: peer(**called).loss, peer),
    }
    return contestants, told


# ------------------------------------------------------------------------------------------------ measuring


def measured(family: str, dtype: torch.dtype, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row for the forward pass and one for the step."""
    contestants, told = turns(family, dtype, quick=options.quick)
    take_turns(contestants, 2)  # the first ones allocate and choose kernels
    found = take_turns(contestants, options.repeats)
    rows = []
    for what in ("forward", "step"):
        mine, other = found[f"{what}, ours"], found[f"{what}, theirs"]
        ratios = sorted(a / b for a, b in zip(mine, other, strict=True))
        first, middle, third = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        rows.append(
            {
                "family": family,
                "type": str(dtype).removeprefix("torch."),
                "what": what,
                "ours ms": 1000 * summary(mine)["median"],
                "theirs ms": 1000 * summary(other)["median"],
                "ratio": middle,
                "quarter": first,
                "three quarters": third,
                **told,
            }
        )
    return rows


def write_table() -> None:
    """``results/families.md``: what ``results/families.jsonl`` has, the latest of each family."""
    latest: dict[tuple[str, str], dict[str, Any]] = {}
    for line in map(json.loads, (FOLDER / "results" / "families.jsonl").read_text(encoding="utf-8").splitlines()):
        for row in line["rows"]:
            latest[row["family"], f"{row['type']} {row['what']}"] = {**row, "line": line}
    columns = [f"{dtype} {what}" for dtype in ("float32", "bfloat16") for what in ("forward", "step")]
    text = [
        "# Families beside transformers",
        "",
        "Written by `benchmarks/families.py`. Our time over theirs, below 1 is faster: the median of the ratios of all",
        "rounds, in brackets their quartiles, then both times in ms (ours / theirs).",
        "",
        "| family | parameters | input | " + " | ".join(columns) + " | made by |",
        "|---|---|---|" + "---|" * (len(columns) + 1),
    ]
    for family in CASES:
        cells = [latest.get((family, column)) for column in columns]
        known = [cell for cell in cells if cell is not None]
        if not known:
            continue
        line = known[-1]["line"]
        shape = f"{known[0]['rows']} x {known[0]['length']}"
        made = f"{line['commit']}, {line['machine']['processor']}, transformers {line['versions']['transformers']}"
        told = [family, f"{known[0]['parameters'] / 1e6:.1f} M", shape, *map(_cell, cells), made]
        text.append("| " + " | ".join(told) + " |")
    (FOLDER / "results" / "families.md").write_text("\n".join(text) + "\n", encoding="utf-8")


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    spread = f"{row['quarter']:.2f} to {row['three quarters']:.2f}"
    return f"{row['ratio']:.2f} ({spread}), {row['ours ms']:.0f} / {row['theirs ms']:.0f}"


def read_options() -> argparse.Namespace:
    parser = arguments(__doc__ or "")
    parser.add_argument("--families", nargs="+", choices=CASES, default=list(CASES), metavar="NAME")
    parser.add_argument("--dtype", nargs="+", choices=["float32", "bfloat16"], default=["float32", "bfloat16"])
    parser.add_argument("--try", action="store_true", dest="only_try", help="show, but save nothing")
    options = parser.parse_args()
    options.repeats = options.repeats or (1 if options.quick else 9)
    return options


def main() -> None:
    options = read_options()
    every = []
    for family in options.families:
        rows = []
        for dtype in options.dtype:
            rows += measured(family, getattr(torch, dtype), options)
        every += rows
        settings = {"repeats": options.repeats, "threads": torch.get_num_threads(), "sizes": dict(CASES[family].sizes)}
        if not options.quick and not options.only_try:
            save("families", rows, settings)
            write_table()  # after each, so that a run that is stopped leaves what it measured
    columns = ("family", "type", "what", "ours ms", "theirs ms", "ratio", "quarter", "three quarters", "parameters")
    caption = (
        f"{options.repeats} rounds, {torch.get_num_threads()} threads; ratio: ours over theirs, with its quartiles."
    )
    show("Families", [{name: row[name] for name in columns} for row in every], caption)


if __name__ == "__main__":
    main()
