"""Does a very deep and a very wide network build, start at a stable scale, and take a step?

200 layers deep, in four kinds, and about one billion parameters wide: that one in bf16 with plain SGD, so that it
fits beside its gradients in 4 bytes a parameter, and only when asked for.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from measuring import arguments, memory_bytes, save, show
from torch import nn

from groundup.core.batch import Batch, Loss
from groundup.core.use import Use
from groundup.models import MLP, Llama
from groundup.nn import Sequential
from groundup.proof import signal

DEPTH = 200


def rows(width: int = 64) -> Batch:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(64, width, generator=generator)
    return Batch({"inputs": inputs}, {"targets": (inputs.sum(1) > 0).long()})


def images() -> Batch:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(16, 3, 8, 8, generator=generator)
    return Batch({"inputs": inputs}, {"targets": (inputs.sum((1, 2, 3)) > 0).long()})


def tokens(vocab_size: int, length: int) -> Batch:
    found = torch.randint(0, vocab_size, (2, length + 1), generator=torch.Generator().manual_seed(0))
    return Batch({"tokens": found[:, :-1]}, {"targets": found[:, 1:]})


def classified(model: nn.Module, batch: Batch) -> Loss:
    return Loss(F.cross_entropy(model(**batch.inputs).float(), batch.targets["targets"]), batch.num_samples)


def written(model: nn.Module, batch: Batch) -> Loss:
    return Loss(model(**batch.inputs, **batch.targets), batch.num_tokens)


def relu() -> nn.Module:
    return MLP([64] * DEPTH, in_features=64, out_features=2, init=Use("he_normal"))


def tanh() -> nn.Module:
    return MLP([64] * DEPTH, in_features=64, out_features=2, init=Use("orthogonal", gain=1.05), activation=torch.tanh)


def convolutions() -> nn.Module:
    conv = Use("Conv2d", channels=16, init=Use("he_normal"))
    block = Use("Residual", layers=[Use("BatchNorm2d"), Use("ReLU"), conv], scale=DEPTH**-0.5)
    stem = Use("Conv2d", channels=16, init=Use("he_normal"))
    layers = [stem, Use("Repeat", times=DEPTH, layers=[block]), Use("BatchNorm2d"), Use("ReLU"), Use("ClassHead")]
    return Sequential(layers, (3, 8, 8), 2)


def decoder() -> nn.Module:
    return Llama(256, hidden_size=64, num_hidden_layers=DEPTH, num_attention_heads=4)


def wide() -> nn.Module:
    """12 layers of width 2,560: 1.0 B parameters."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        return Llama(32_000, hidden_size=2560, intermediate_size=6912, num_hidden_layers=12, num_attention_heads=20)
    finally:
        torch.set_default_dtype(before)


Objective = Callable[[nn.Module, Batch], Loss]
Case = tuple[Callable[[], nn.Module], Batch, Objective, float]
CASES: dict[str, Case] = {
    "relu, He": (relu, rows(), classified, 1e-1),
    "tanh, orthogonal": (tanh, rows(), classified, 1e-1),
    "residual convolutions": (convolutions, images(), classified, 1e-1),
    "decoder": (decoder, tokens(256, 64), written, 3e-3),
}
WIDE = {"1 B parameters": (wide, tokens(32_000, 64), written, 3e-3)}


def measured(name: str, case: Case) -> dict[str, object]:
    make, batch, objective, lr = case
    torch.manual_seed(0)
    started = time.perf_counter()
    model = make()
    built = time.perf_counter() - started
    started = time.perf_counter()
    check, layers = signal(model, objective, batch)
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr)
    losses = []
    for _ in range(2):
        optimizer.zero_grad()
        total = objective(model, batch).total
        losses.append(float(total.detach()))
        if len(losses) == 1:
            total.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    return {
        "net": name,
        "layers": len(layers),
        "parameters": sum(p.numel() for p in model.parameters()),
        "build s": built,
        "steps s": time.perf_counter() - started,
        "first activation": layers[0].activation,
        "last activation": layers[-2].activation,
        "first gradient": layers[0].gradient,
        "last gradient": layers[-1].gradient,
        "sound": check.passed and not check.warned,
        "loss": losses[0],
        "loss after a step": losses[1],
        "peak GB": memory_bytes()[1] / 1e9,
    }


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--wide", action="store_true", help="1 B parameters as well: some 5 GB, and minutes")
    options = parser.parse_args()
    chosen = {**CASES, **WIDE} if options.wide else CASES
    rows = [measured(name, case) for name, case in chosen.items()]
    columns = ("net", "layers", "parameters", "first activation", "last activation", "sound", "loss after a step")
    show("Depth and width", [{name: row[name] for name in columns} for row in rows])
    if options.quick:
        print(json.dumps(rows))
    else:
        save("depth_and_width", rows, {"depth": DEPTH, "wide": options.wide})


if __name__ == "__main__":
    main()
