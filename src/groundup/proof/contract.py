"""What every layer promises, as checks: one suite over each layer of ours and over a user's own."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from groundup.core.errors import GroundupError, RecipeError
from groundup.core.report import Check, Proof
from groundup.core.use import Use, make, resolve, signature_of

SHAPES: tuple[tuple[int, ...], ...] = ((8,), (6, 8), (8, 6, 6), (4, 8, 8), (4, 4, 4, 4))
"""Samples that are tried, one after the other, until the layer takes one: a row, a series, images, a volume."""

GUESS = 4
"""What a whole number that the constructor needs, and nobody gave, is taken to be."""

BATCH = 3
NUM_IDS = 16


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer that can be made anew, and a batch that it takes."""

    name: str
    make: Callable[[], nn.Module]
    inputs: Tensor
    """[3, ...], float64 or whole numbers."""

    def layer(self, dtype: torch.dtype = torch.float64, seed: int = 0) -> nn.Module:
        """A new one, its weights drawn by the seed, in evaluation mode."""
        torch.manual_seed(seed)
        return self.make().to(dtype).eval()

    def batch(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """The inputs in a type."""
        return self.inputs.to(dtype) if self.inputs.is_floating_point() else self.inputs


def contract(layer: Use | str, input_shape: Sequence[int] | None = None, *, only: Sequence[str] | None = None) -> Proof:
    """Carry out the suite on a layer: its name or import path, with its arguments, made for samples of a shape.

    Without ``input_shape`` a row, a series, images and a volume are tried. Whole numbers that the constructor needs
    and that are not given are taken as 4. ``only`` names some of CHECKS. Raises RecipeError when the layer cannot be
    made, or takes no such sample.
    """
    case = case_of(Use(layer) if isinstance(layer, str) else layer, input_shape)
    names = CHECKS if only is None else {name: CHECKS[name] for name in only}
    return Proof(tuple(_run(name, check, case) for name, check in names.items()))


def case_of(use: Use, input_shape: Sequence[int] | None = None) -> Case:
    """The layer with what it lacks filled in, and inputs that it takes."""
    found = resolve(use.target, "layers", where="layer")
    takes = getattr(found, "takes", None)
    shapes = (
        [tuple(input_shape)] if input_shape is not None else [s for s in SHAPES if not takes or len(takes) == len(s)]
    )
    said: dict[str, list[str]] = {}
    for shape in shapes:
        for ids in (False, True) if len(shape) <= 2 else (False,):
            given = (NUM_IDS,) if ids and input_shape is None and len(shape) == 2 else shape
            try:
                case = Case(use.target, functools.partial(_made, use, found, given), _inputs(given, ids))
                with torch.no_grad():
                    output = case.layer()(case.batch())
            except (RuntimeError, ValueError, TypeError, IndexError, GroundupError) as error:
                reason = str(error).splitlines()[0] if str(error) else repr(error)
                said.setdefault(reason, []).append(f"{given}{' of ids' if ids else ''}")
                continue
            if not isinstance(output, Tensor):
                raise RecipeError(f"{use.target}: gives {type(output).__name__}; a layer gives one tensor.")
            return case
    tried = "; ".join(f"{', '.join(tries)}: {reason}" for reason, tries in said.items())
    raise RecipeError(
        f"{use.target}: takes none of the samples that were tried. Give its input_shape and its arguments, such as "
        f"input_shape=[6,8] features=16. Tried: {tried}"
    )


def _made(use: Use, found: Any, shape: tuple[int, ...]) -> nn.Module:
    available: dict[str, Any] = {
        "input_shape": shape,
        "in_features": shape[-1],
        "in_channels": shape[0],
        "out_features": GUESS,
        "vocab_size": NUM_IDS,
        "num_classes": GUESS,
    }
    parameters, hints = signature_of(found)
    for name, parameter in parameters.items() if inspect.isclass(found) else ():
        if parameter.default is parameter.empty and hints.get(name) is int:
            available.setdefault(name, GUESS)
    made = make(use, "layers", where="layer", **available)
    return made if isinstance(made, nn.Module) else _Wrapped(made)


class _Wrapped(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, inputs: Tensor) -> Tensor:
        return self.function(inputs)


def _inputs(shape: tuple[int, ...], ids: bool) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    if ids:
        return torch.randint(0, NUM_IDS, (BATCH, *shape), generator=generator)
    return torch.randn(BATCH, *shape, generator=generator, dtype=torch.float64)


def _run(name: str, check: Callable[[Case], str], case: Case) -> Check:
    """A check gives what it saw, or raises; what it raises is what it saw."""
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Check(name, True, check(case))
    except Exception as error:  # whatever a layer raises is the finding itself
        lines = [line for line in str(error).strip().splitlines() if line.strip()] or [""]
        kind = "" if isinstance(error, _BrokenError) else f"{type(error).__name__}: "
        return Check(name, False, f"{kind}{' '.join(lines[:3])}", MENDS[name])


class _BrokenError(Exception):
    """A promise that was not kept."""


def _demand(held: bool, said: str) -> None:
    if not held:
        raise _BrokenError(said)


# ---------------------------------------------------------------------------------------------- the checks


def _shapes(case: Case) -> str:
    layer, inputs = case.layer(), case.batch()
    with torch.no_grad():
        three, one = layer(inputs), layer(inputs[:1])
    _demand(len(three) == BATCH and len(one) == 1, f"{BATCH} samples and 1 give {len(three)} and {len(one)} outputs")
    shapes = [tuple(output.shape) for output in (three, one)]
    _demand(shapes[0][1:] == shapes[1][1:], f"a sample's shape hangs on the batch: {shapes[0]}, {shapes[1]}")
    with torch.device("meta"):
        shadow = case.make().eval()(torch.empty(inputs.shape, dtype=_on_meta(case)))
    _demand(
        shadow.shape == three.shape, f"on the meta device it gives {tuple(shadow.shape)}, else {tuple(three.shape)}"
    )
    return f"{tuple(inputs.shape[1:])} -> {tuple(three.shape[1:])}, on the meta device too"


def _on_meta(case: Case) -> torch.dtype:
    return torch.float32 if case.inputs.is_floating_point() else case.inputs.dtype


def _dtypes(case: Case) -> str:
    outputs = {}
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        with torch.no_grad():
            outputs[dtype] = case.layer(torch.float64).to(dtype)(case.batch(dtype))
        _demand(outputs[dtype].dtype == dtype, f"{dtype} comes out as {outputs[dtype].dtype}")
    exact = outputs[torch.float64]
    scale = float(exact.abs().max()) or 1.0
    off = float((outputs[torch.float32].double() - exact).abs().max()) / scale
    _demand(off < 1e-4, f"float32 lies {off:.1g} of its scale from float64")
    return f"float64, float32 and bfloat16 keep their type; float32 is off by {off:.1g} of the scale"


def _gradients(case: Case) -> str:
    """Each parameter's is there and finite, and the whole agrees with a difference along a random direction."""
    layer, inputs = case.layer().train(), case.batch()
    wanted: list[Tensor] = [p for p in layer.parameters() if p.requires_grad]
    if inputs.is_floating_point():
        inputs = inputs.clone().requires_grad_()
        wanted = [inputs, *wanted]
    if not wanted:
        return "it has nothing to learn, and takes ids"
    weights = torch.randn(_seeded(layer, inputs).shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def loss() -> Tensor:
        return (_seeded(layer, inputs) * weights).sum()

    found = torch.autograd.grad(loss(), wanted, allow_unused=True)
    names = ["its inputs"] * inputs.is_floating_point() + [n for n, p in layer.named_parameters() if p.requires_grad]
    missing = [name for name, gradient in zip(names, found, strict=True) if gradient is None]
    _demand(not missing, f"there is none for {', '.join(missing)}")
    gradients = [gradient for gradient in found if gradient is not None]
    _demand(all(bool(gradient.isfinite().all()) for gradient in gradients), "one is not finite")
    generator, step = torch.Generator().manual_seed(3), 1e-5
    ways = [torch.randn(tensor.shape, generator=generator, dtype=torch.float64) for tensor in wanted]
    length = torch.stack([way.norm() for way in ways]).norm()
    ways = [way / length for way in ways]
    expected = sum(float((gradient * way).sum()) for gradient, way in zip(gradients, ways, strict=True))
    values = []
    with torch.no_grad():
        for sign in (1, -2):
            for tensor, way in zip(wanted, ways, strict=True):
                tensor.add_(way, alpha=sign * step)
            values.append(float(loss()))
    measured = (values[0] - values[1]) / (2 * step)
    off = abs(measured - expected) / max(1e-3, abs(expected), abs(measured))
    _demand(off < 1e-4, f"along a random direction it is {expected:.6g}, differences say {measured:.6g}")
    return f"{len(gradients)} finite gradients, which agree with differences to {off:.0e}"


def _seeded(layer: nn.Module, inputs: Tensor) -> Tensor:
    torch.manual_seed(4)
    outputs: Tensor = layer(inputs)
    return outputs


def _determinism(case: Case) -> str:
    layer, inputs = case.layer(), case.batch()
    with torch.no_grad():
        _demand(torch.equal(layer(inputs), layer(inputs)), "in evaluation mode the same inputs give other outputs")
        first, again = (_seeded(case.layer().train(), inputs) for _ in range(2))
    _demand(torch.equal(first, again), "in training mode the same seed gives other outputs")
    return "the same inputs give the same bits, in training mode with the same seed"


def _no_hidden_state(case: Case) -> str:
    layer, inputs = case.layer(), case.batch()
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    other = inputs.flip(0) * 3 if inputs.is_floating_point() else (inputs + 1) % NUM_IDS
    with torch.no_grad():
        expected = layer(inputs)
        layer(other)
        layer(other[:1])
        _demand(torch.equal(layer(inputs), expected), "what it was given before changes what it gives")
    changed = [name for name, tensor in layer.state_dict().items() if not torch.equal(tensor, before[name])]
    _demand(not changed, f"evaluation changes {', '.join(changed)}")
    _demand(torch.equal(inputs, case.batch()), "it writes into its inputs")
    layer.train()
    with torch.no_grad():
        layer(inputs)
    parameters = dict(layer.named_parameters())
    changed = [name for name in parameters if not torch.equal(parameters[name], before[name])]
    _demand(not changed, f"a forward pass changes the parameters {', '.join(changed)}")
    return "calls do not influence one another"


def _save_and_load(case: Case) -> str:
    first, other = case.layer(seed=0), case.layer(seed=7)
    state = first.state_dict()
    odd = [name for name, value in state.items() if not isinstance(value, Tensor)]
    _demand(not odd, f"{', '.join(odd)} in its state_dict are no tensors")
    other.load_state_dict({name: tensor.clone() for name, tensor in state.items()})
    with torch.no_grad():
        same = torch.equal(first(case.batch()), other(case.batch()))
    _demand(same, "another one with the same state_dict gives other outputs: something is kept outside of it")
    twin = copy.deepcopy(first)
    with torch.no_grad():
        _demand(torch.equal(first(case.batch()), twin(case.batch())), "a deep copy gives other outputs")
    return f"{len(state)} tensors carry it"


def _export(case: Case) -> str:
    layer, inputs = case.layer(torch.float32), case.batch(torch.float32)
    size = torch.export.Dim("batch", min=1, max=1024)
    program = torch.export.export(layer, (inputs,), dynamic_shapes=({0: size},), strict=False)
    with torch.no_grad():
        off = _apart(program.module()(inputs[:2]), layer(inputs[:2]))
    _demand(off < 1e-5, f"the exported program is off by {off:.1g}")
    return f"torch.export with any batch size, off by {off:.0e}"


def _compile(case: Case) -> str:
    layer, inputs = case.layer(torch.float32), case.batch(torch.float32)
    torch.compiler.reset()
    compiled = torch.compile(layer, backend="aot_eager")
    expected, found = layer(inputs), compiled(inputs)
    off = _apart(found, expected)
    _demand(off < 1e-5, f"compiled it is off by {off:.1g}")
    parameters = [p for p in layer.parameters() if p.requires_grad]
    if parameters and expected.requires_grad:
        ours = torch.autograd.grad(expected.square().sum(), parameters, allow_unused=True)
        theirs = torch.autograd.grad(found.square().sum(), parameters, allow_unused=True)
        pairs = [(a, b) for a, b in zip(ours, theirs, strict=True) if a is not None and b is not None]
        off = max((_apart(b, a) for a, b in pairs), default=0.0)
        _demand(off < 1e-4, f"compiled its gradients are off by {off:.1g}")
    return f"torch.compile traces it forward and back, off by {off:.0e}"


def _apart(found: Tensor, wanted: Tensor) -> float:
    scale = max(1.0, float(wanted.detach().abs().max())) if wanted.numel() else 1.0
    return float((found - wanted).detach().abs().max()) / scale if wanted.numel() else 0.0


def _batch_independence(case: Case) -> str:
    layer, inputs = case.layer(), case.batch()
    with torch.no_grad():
        together = layer(inputs)
        alone = torch.cat([layer(inputs[i : i + 1]) for i in range(BATCH)])
    off = _apart(together, alone)
    _demand(off < 1e-9, f"a sample among others is off by {off:.1g} from the same one alone")
    if inputs.is_floating_point():
        inputs = inputs.clone().requires_grad_()
        output = layer(inputs)
        if output.requires_grad:
            (gradient,) = torch.autograd.grad(output[0].sum(), inputs, allow_unused=True)
            leak = 0.0 if gradient is None else float(gradient[1:].abs().max())
            _demand(leak == 0, f"a sample's output has a gradient by the others' inputs, up to {leak:.1g}")
    return "in evaluation mode no sample sees another"


def _looks_ahead(case: Case) -> str:
    layer, inputs = case.layer(), case.batch()
    if not _says_causal(layer):
        return "it does not say that it is causal (an attribute causal = True)"
    steps = inputs.shape[1]
    with torch.no_grad():
        before = layer(inputs)
        for cut in range(1, steps):
            changed = inputs.clone()
            changed[:, cut:] = (
                changed[:, cut:] * -2 + 1 if inputs.is_floating_point() else (changed[:, cut:] + 1) % NUM_IDS
            )
            off = _apart(layer(changed)[:, :cut], before[:, :cut])
            _demand(off < 1e-9, f"what comes from step {cut} on changes what it gives before, by {off:.1g}")
    return f"none of {steps} steps sees what comes later"


def _says_causal(layer: nn.Module) -> bool:
    return bool(getattr(layer, "causal", False))


CHECKS: Mapping[str, Callable[[Case], str]] = {
    "shapes": _shapes,
    "types": _dtypes,
    "gradients": _gradients,
    "determinism": _determinism,
    "no hidden state": _no_hidden_state,
    "save and load": _save_and_load,
    "batch independence": _batch_independence,
    "no look-ahead": _looks_ahead,
    "export": _export,
    "compile": _compile,
}
"""What a layer promises -> what finds out; the last two take the longest."""

MENDS: Mapping[str, str] = {
    "shapes": "The first size of inputs and outputs is the batch's; make new tensors by inputs.new_zeros and the like.",
    "types": "Make new tensors in the inputs' type (inputs.new_zeros), and parameters as nn.Parameter or buffers.",
    "gradients": "Use every parameter in forward; look for detach(), .data, no_grad, and at backward formulas by hand.",
    "determinism": "Draw random numbers with torch, and only while self.training is true.",
    "no hidden state": "Keep nothing in self between calls; pass state in and out as arguments.",
    "save and load": "Keep whatever is drawn or learned in parameters or buffers (register_buffer).",
    "batch independence": "In evaluation mode use kept statistics, not the batch's; watch reshapes that mix rows.",
    "no look-ahead": "Pad on the left alone, mask the future, or set causal = False.",
    "export": "Take tensors alone in forward, and do not branch on their values.",
    "compile": "Take tensors alone in forward, and do not branch on their values.",
}


def public_layers(*modules: Any) -> Iterator[tuple[str, type[nn.Module]]]:
    """(import path, class) of every public layer that these modules define or list."""
    seen: set[type[nn.Module]] = set()
    for module in modules:
        for name, value in vars(module).items():
            own = inspect.isclass(value) and issubclass(value, nn.Module) and not name.startswith("_")
            if (
                own
                and value not in seen
                and (value.__module__ == module.__name__ or name in getattr(module, "__all__", ()))
            ):
                seen.add(value)
                yield f"{module.__name__}:{name}", value
