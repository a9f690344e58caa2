"""How long do a forward pass, a training step and greedy generation of a T5 take beside transformers, same weights?

Random weights of the sizes of t5-small and of t5-v1_1-small, a padded batch. transformers takes part with both of its
kernels of attention; the ratio is to the faster of them.
"""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from measuring import arguments, save, show, summary, take_turns
from torch import Tensor

from groundup.models.hugging_face import read_folder

SIZES: dict[str, dict[str, Any]] = {
    "t5-small": {},
    "t5-v1_1-small": {
        "d_ff": 1024,
        "num_layers": 8,
        "num_heads": 6,
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False,
    },
}
QUICK = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 2, "vocab_size": 100}


def main() -> None:
    """Measure each size in fp32 and in bf16 mixed precision."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--shape", type=int, nargs=3, default=(4, 128, 32), help="batch, source steps, target steps")
    parser.add_argument("--only", choices=SIZES, help="one of the sizes")
    given = parser.parse_args()
    rows = []
    for name, sizes in SIZES.items():
        if given.only not in (None, name):
            continue
        config = transformers.T5Config(**{**sizes, **(QUICK if given.quick else {})}, decoder_start_token_id=0)
        for precision in ("fp32", "bf16"):
            rows += measured(name, config, precision, tuple(given.shape), given.repeats or (1 if given.quick else 5))
    show("T5 beside transformers, milliseconds (medians)", rows)
    if not given.quick:
        save("encoder_decoder", rows, {"shape": list(given.shape), "threads": torch.get_num_threads()})


def measured(name: str, config: Any, precision: str, shape: tuple[int, ...], repeats: int) -> list[dict[str, Any]]:
    """A row for each kind of work."""
    batch, steps, written = shape
    generator = torch.Generator().manual_seed(0)
    source = torch.randint(2, config.vocab_size, (batch, steps), generator=generator)
    targets = torch.randint(2, config.vocab_size, (batch, written), generator=generator)
    lengths = torch.randint(steps // 4, steps + 1, (batch,), generator=generator)
    lengths[0] = steps
    kept = (torch.arange(steps)[None] < lengths[:, None]).long()
    works: dict[str, dict[str, Callable[[], Any]]] = {"forward": {}, "training step": {}, "generation": {}}
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        transformers.T5ForConditionalGeneration(config).save_pretrained(Path(folder) / "m")
        for kernel in ("sdpa", "eager"):
            theirs = transformers.T5ForConditionalGeneration.from_pretrained(
                Path(folder) / "m", attn_implementation=kernel
            )
            shifted = theirs._shift_right(targets)
            forward = functools.partial(theirs, source, kept, shifted, use_cache=False)
            works["forward"][kernel] = forward
            works["training step"][kernel] = functools.partial(_loss_of_theirs, theirs, source, kept, targets)
            works["generation"][kernel] = functools.partial(_generated, theirs, source, kept, written)
        ours = read_folder(Path(folder) / "m").eval()  # as from_pretrained leaves theirs: no dropout on either side
        works["forward"]["ours"] = functools.partial(ours, source, shifted, lengths)
        works["training step"]["ours"] = functools.partial(ours, source, shifted, lengths, targets)
        works["generation"]["ours"] = functools.partial(_written, ours, source, lengths, written)
        return [
            {"model": name, "precision": precision, "work": work, **_row(work, contestants, precision, repeats)}
            for work, contestants in works.items()
        ]


def _row(work: str, contestants: dict[str, Callable[[], Any]], precision: str, repeats: int) -> dict[str, float]:
    turns = {name: functools.partial(_time, call, work, precision) for name, call in contestants.items()}
    take_turns(turns, 1)  # to warm up
    found = {name: summary(times)["median"] * 1000 for name, times in take_turns(turns, repeats).items()}
    return {**found, "ours / faster of theirs": found["ours"] / min(found["sdpa"], found["eager"])}


def _time(call: Callable[[], Any], work: str, precision: str) -> float:
    training = work == "training step"
    started = time.perf_counter()
    with torch.set_grad_enabled(training), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        output = call()
    if training:
        output.backward()
    return time.perf_counter() - started


def _loss_of_theirs(model: Any, source: Tensor, kept: Tensor, targets: Tensor) -> Tensor:
    loss: Tensor = model(source, kept, labels=targets, use_cache=False).loss
    return loss


def _generated(model: Any, source: Tensor, kept: Tensor, steps: int) -> Any:
    options = {"max_new_tokens": steps, "do_sample": False, "num_beams": 1, "eos_token_id": None, "pad_token_id": 0}
    return model.generate(source, attention_mask=kept, **options)


def _written(model: Any, source: Tensor, lengths: Tensor, steps: int) -> Tensor:
    writer = model.writer(source, lengths)
    cache = writer.new_cache(len(source), steps + 1)
    new = torch.zeros(len(source), 1, dtype=torch.int64)
    for _ in range(steps):
        new = writer(new, cache=cache)[:, -1].argmax(-1, keepdim=True)
    return new


if __name__ == "__main__":
    main()
