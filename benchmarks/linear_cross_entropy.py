"""What does a loss without full logits save in memory, and what does it cost in time?

Forward and backward of the mean cross entropy of ``hidden @ weight.T``. Times are taken in turns in one process;
peak memory is that of a process of its own, less what it held before.
"""

from __future__ import annotations

import argparse
import functools
import subprocess
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from measuring import arguments, memory_bytes, save, show, summary, take_turns
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from groundup.core.processor import has_bf16
from groundup.nn.losses import linear_cross_entropy

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
MASKED = -100


def full(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(hidden, weight).float(), targets, ignore_index=MASKED)


def checkpointed(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Chunks whose logits are computed again in the backward pass: what one writes without a function of one's own."""

    def part(rows: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(F.linear(rows, weight).float(), labels, ignore_index=MASKED, reduction="sum")

    total = hidden.new_zeros((), dtype=torch.float32)
    for rows, labels in zip(hidden.split(1024), targets.split(1024), strict=True):
        total = total + checkpoint(part, rows, labels, use_reentrant=False)
    return total / (targets != MASKED).sum()


LOSSES: dict[str, Loss] = {
    "full logits": full,
    "checkpointed chunks": checkpointed,
    "groundup": linear_cross_entropy,
}
if hasattr(F, "linear_cross_entropy"):
    LOSSES["torch's own"] = functools.partial(F.linear_cross_entropy, ignore_index=MASKED)


def tensors(options: argparse.Namespace) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    dtype = getattr(torch, options.dtype)
    hidden = torch.randn(options.positions, options.features, generator=generator).to(dtype).requires_grad_()
    weight = (torch.randn(options.vocabulary, options.features, generator=generator) * 0.02).to(dtype).requires_grad_()
    targets = torch.randint(options.vocabulary, (options.positions,), generator=generator)
    targets[torch.rand(options.positions, generator=generator) < options.masked] = MASKED
    return hidden, weight, targets


def seconds(loss: Loss, given: tuple[Tensor, Tensor, Tensor]) -> float:
    given[0].grad = given[1].grad = None
    start = time.perf_counter()
    loss(*given).backward()
    return time.perf_counter() - start


def memory_of(name: str, words: list[str]) -> int:
    done = subprocess.run(
        [sys.executable, __file__, *words, "--memory-of", name], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def error_of(loss: Loss, given: tuple[Tensor, Tensor, Tensor]) -> float:
    """The loss's distance from the one computed in fp64."""
    hidden, weight, targets = given
    with torch.no_grad():
        exact = F.cross_entropy(hidden.double() @ weight.double().T, targets, ignore_index=MASKED)
        return abs(float(loss(hidden, weight, targets)) - float(exact))


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--positions", type=int)
    parser.add_argument("--features", type=int, default=384)
    parser.add_argument("--vocabulary", type=int)
    parser.add_argument("--masked", type=float, default=0.0, help="the share of positions that are not learned from")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16" if has_bf16() else "float32")
    parser.add_argument("--memory-of", choices=sorted(LOSSES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.positions = options.positions or (256 if options.quick else 4096)
    options.vocabulary = options.vocabulary or (1000 if options.quick else 32768)
    given = tensors(options)
    if options.memory_of:
        tiny = argparse.Namespace(**{**vars(options), "positions": 16, "vocabulary": 32, "masked": 0.0})
        LOSSES[options.memory_of](*tensors(tiny)).backward()  # what any first call loads is no matter of size
        before, _ = memory_bytes()
        LOSSES[options.memory_of](*given).backward()
        print(max(0, memory_bytes()[1] - before))
        return

    repeats = options.repeats or (2 if options.quick else 11)
    sizes = {name: getattr(options, name) for name in ("positions", "features", "vocabulary", "masked", "dtype")}
    words = [f"--{name}={value}" for name, value in sizes.items()]
    turns = {name: functools.partial(seconds, loss, given) for name, loss in LOSSES.items()}
    take_turns(turns, 1)
    found = take_turns(turns, repeats)
    reference = summary(found["full logits"])["median"]
    rows = []
    for name, values in found.items():
        timing = summary(values)
        rows.append(
            {
                "loss": name,
                "median ms": timing["median"] * 1e3,
                "least": timing["least"] * 1e3,
                "most": timing["most"] * 1e3,
                "time ratio": timing["median"] / reference,
                "peak MB": memory_of(name, words) / 1e6,
                "error": error_of(LOSSES[name], given),
            }
        )
    caption = ", ".join(f"{name} {value}" for name, value in sizes.items())
    show("Cross entropy of a linear layer, forward and backward", rows, f"{caption}; {repeats} rounds")
    if not options.quick:
        save("linear_cross_entropy", rows, {**sizes, "repeats": repeats, "threads": torch.get_num_threads()})


if __name__ == "__main__":
    main()
