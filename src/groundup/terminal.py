"""What a person sees while a run goes down the river: headings, tables, progress bars, notes.

The parts never print; workflow and its stages say here what is to be shown. `quiet` turns all of it off.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from groundup.core.plan import format_bytes, format_seconds
from groundup.core.structure import format_count, format_shape

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID
    from torch import nn

    from groundup.core.batch import Step
    from groundup.core.dataset import Entry
    from groundup.core.plan import Plan
    from groundup.core.preprocessing import Encoded, Preprocessing
    from groundup.core.report import LayerSignal, Metric, Proof, StartedWeight
    from groundup.core.schema import Schema
    from groundup.core.structure import Layer


class Parts(Protocol):
    """Train, validation and test, in memory or in shards."""

    def parts(self) -> Mapping[str, Any]:
        """By name, in order."""
        ...


MOST_LAYERS = 24
"""Rows of a table of layers, at most."""

_shown: dict[str, Any] = {"quiet": False, "stages": [], "started": time.monotonic()}


def console() -> Console:
    """The one console; made when first needed."""
    if "console" not in _shown:
        from rich.console import Console

        _shown["console"] = Console(highlight=False, soft_wrap=False, width=_width())
    made: Console = _shown["console"]
    return made


def _width() -> int | None:
    return None if os.environ.get("COLUMNS") or os.isatty(1) else 100


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing is shown inside."""
    before = _shown["quiet"]
    _shown["quiet"] = True
    try:
        yield
    finally:
        _shown["quiet"] = before


def begin(title: str, lines: Sequence[str] = ()) -> None:
    """The heading of a run; stages are counted from here."""
    if _shown["quiet"]:
        return
    _shown["stages"], _shown["started"] = [], time.monotonic()
    from rich.panel import Panel

    console().print()
    body = "\n".join(lines)
    console().print(Panel(body, title=f"[bold]{title}[/bold]", title_align="left", border_style="blue"))


def stage(title: str, what: str = "") -> None:
    """The heading of one bank of the river, numbered, with the time since the start."""
    if _shown["quiet"]:
        return
    _close_stage()
    _shown["stages"].append({"stage": title, "time_s": time.monotonic(), "peak_bytes": 0})
    elapsed = format_seconds(time.monotonic() - _shown["started"])
    console().print()
    console().rule(
        f"[bold blue]{len(_shown['stages'])}[/bold blue]  [bold]{title}[/bold]"
        + (f"  [dim]{what}[/dim]" if what else "")
        + f"  [dim]{elapsed}[/dim]",
        align="left",
        style="blue",
    )


def stages() -> list[dict[str, Any]]:
    """The stages since the heading: wall time and peak memory of each; the last one is closed by this."""
    _close_stage()
    return list(_shown["stages"])


def spent(found: Sequence[Mapping[str, Any]]) -> None:
    """Wall time and peak memory of each stage."""
    rows = [(one["stage"], format_seconds(one["time_s"]), format_bytes(one["peak_bytes"])) for one in found]
    table(("stage", "wall time", "peak memory"), rows)


def _close_stage() -> None:
    """Book the time since the last heading, and the most memory that the process held in between."""
    if _shown["stages"] and not _shown["stages"][-1]["peak_bytes"]:
        last = _shown["stages"][-1]
        last.update(time_s=time.monotonic() - last["time_s"], peak_bytes=_peak_bytes())


def _peak_bytes() -> int:
    """Most memory held since the last call on Linux, since the process began elsewhere."""
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    try:
        line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM"))
        clear.write_text("5", encoding="ascii")
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        if sys.platform == "win32":
            return 0
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def say(text: str, style: str = "") -> None:
    """One line."""
    if not _shown["quiet"]:
        console().print(text, style=style or None)


def warn(text: str) -> None:
    """One line that must not be overlooked."""
    if not _shown["quiet"]:
        console().print(f"  [yellow]![/yellow] {escape(text)}")


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "") -> None:
    """A table; columns after the first are set right when they hold figures."""
    if _shown["quiet"]:
        return
    from rich import box
    from rich.table import Table

    rows = [[value.markup if isinstance(value, Marked) else escape(_cell(value)) for value in row] for row in rows]
    made = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False, header_style="dim")
    for i, name in enumerate(columns):
        figures = i > 0 and all(_is_figure(row[i]) for row in rows)
        made.add_column(name, justify="right" if figures else "left", overflow="fold")
    for row in rows:
        made.add_row(*row)
    console().print(made)


def ledger(entries: Iterable[Entry]) -> None:
    """What each cleaning step did: rows in and out, cells changed, reasons."""
    rows = []
    for entry in entries:
        reasons = ", ".join(f"{count} {reason}" for reason, count in entry.reasons().items())
        cells = sum(entry.cells_changed.values())
        rows.append((entry.step, entry.split or "all", entry.rows_before, entry.rows_after, cells, reasons or "-"))
    table(("step", "rows of", "in", "out", "cells changed", "removed because"), rows)


def source(dataset: Any, memory_bytes: int = 0) -> None:
    """What was read: rows, columns with their kinds and missing values, and what could not be read.

    A dataset, or shards of one that does not fit in a memory of so many bytes.
    """
    from groundup.core.dataset import Dataset

    if not isinstance(dataset, Dataset):
        return _shards(dataset, memory_bytes)
    size_read = format_bytes(dataset.frame.estimated_size())
    say(f"  {len(dataset):,} rows from {escape(dataset.origin or 'memory')}, {size_read} in memory")
    rows = []
    for name in dataset.columns:
        column = dataset.frame[name]
        example = next((v for v in column.head(50).to_list() if v is not None), None)
        rows.append((name, dataset.kinds[name], column.null_count(), _short(example)))
    table(("column", "kind", "missing", "for example"), rows)
    for entry in dataset.history:
        for line in entry.notes:
            say(f"  [dim]{escape(line)}[/dim]")
    if dataset.quarantine.rejected:
        warn(str(dataset.quarantine))
        for one in dataset.quarantine.rejected[:5]:
            warn(f"  {one}")
    for line in dataset.notes:
        warn(line)


def mapping(tables: Mapping[str, Sequence[tuple[str, str, str]]], counts: Mapping[str, int]) -> None:
    """Which foreign tensors are which of ours, by how that was found, and how many there are of each kind."""
    for how, lines in tables.items():
        table(("theirs", "ours", "tensors"), lines, how)
    say(f"  {', '.join(f'{count} {name}' for name, count in counts.items())}")


def schema(found: Schema) -> None:
    """What train's columns are, and what is held against later data."""
    rows = [
        (name, column.kind, column.dtype, f"{column.missing:.1%}", column.said())
        for name, column in found.columns.items()
    ]
    table(("schema of train", "kind", "type", "missing", "range or categories"), rows)
    declared = [f"{name.replace('_', ' ')} {value}" for name, value in dataclasses.asdict(found.on_new).items()]
    say(f"  [dim]at prediction: {escape(', '.join(declared))}[/dim]")


def _shards(read: Any, memory_bytes: int) -> None:
    """What was read of a source that does not fit in memory."""
    say(
        f"  {len(read):,} rows from {escape(read.origin or 'the source')}, {format_bytes(read.size_bytes)}, in "
        f"{len(read.files)} shards, since they do not fit in a memory of {format_bytes(memory_bytes)}"
    )
    if read.rejected:
        warn(f"{len(read) + read.rejected:,} rows read = {len(read):,} accepted + {read.rejected:,} rejected")
    table(("column", "kind", "type"), [(name, read.kinds[name], read.schema[name]) for name in read.columns])


def splits(made: Parts, leaks: Sequence[Any]) -> None:
    """Rows of each part, and whether any stands in two of them."""
    total = sum(len(part) for part in made.parts().values()) or 1
    table(("split", "rows", "share"), [(n, len(p), f"{len(p) / total:.1%}") for n, p in made.parts().items()])
    say(f"  [red]{len(leaks)} rows stand in two splits[/red]" if leaks else "  no row of valid or test stands in train")


def prepared(made: Parts) -> None:
    """What each step of the preparation changed, and what its statistics were learned from."""
    done = {name: _since_split(part.history) for name, part in made.parts().items()}
    if not done["train"]:
        return
    rows = [
        (
            entry.step,
            *(sum(entries[i].cells_changed.values()) for entries in done.values()),
            ", ".join(f"{count:,} rows of {split}" for split, count in entry.learned_from.items()) or "nothing",
        )
        for i, entry in enumerate(done["train"])
    ]
    table(("step", *(f"cells of {name}" for name in done), "learned from"), rows)


def preprocessing(fitted: Preprocessing, made: Parts, parts: Mapping[str, Encoded]) -> None:
    """What was learned from train, what each step changed, and the samples that came of it."""
    from groundup.core.schema import Schema

    if isinstance(fitted.schema, Schema):
        schema(fitted.schema)
    done = {name: _since_split(part.history) for name, part in made.parts().items()}
    if done["train"]:
        cells = {name: [sum(e.cells_changed.values()) for e in entries] for name, entries in done.items()}
        removed = {name: sum(e.num_removed for e in entries) for name, entries in done.items()}
        rows = [
            (entry.step, *(cells[name][i] if i < len(cells[name]) else 0 for name in done), "; ".join(entry.notes))
            for i, entry in enumerate(done["train"])
        ]
        table(("step", *(f"cells of {name}" for name in done), "seen in train"), rows)
        if any(removed.values()):
            say("  removed: " + ", ".join(f"{count} of {name}" for name, count in removed.items() if count))
    encoded(fitted.samples, parts)


def _since_split(history: Sequence[Entry]) -> list[Entry]:
    return [entry for entry in history if entry.split and not entry.step.startswith("split ")]


def encoded(builder: Any, parts: Mapping[str, Encoded]) -> None:
    """How many samples came of each split, and what a model may ask for."""
    table(("split", "samples"), [(name, len(samples)) for name, samples in parts.items()])
    say(f"  [dim]{escape(', '.join(f'{name} {value}' for name, value in builder.sizes().items()))}[/dim]")


def findings(found: Iterable[Any]) -> None:
    """What was noticed in data, the gravest first."""
    marks = {"mend": "[red]mend[/red]", "look": "[yellow]look[/yellow]", "know": "[dim]know[/dim]"}
    rows = [(Marked(marks[one.level]), one.what, one.saw) for one in found]
    table(("", "what", "seen"), rows) if rows else say("  [green]nothing stands out[/green]")


def undone(steps: Sequence[Any], number: int) -> None:
    """The steps from the data as they were read to the cleaned ones, and which of them are undone."""
    rows = [(one.number, one.name, one.cells, one.rows, "undone" if one.number >= number else "stays") for one in steps]
    table(("", "step", "cells changed", "rows removed", ""), rows)


def difference(found: Any) -> None:
    """What differs from one version of data to another."""
    seen, columns = found.rows, found.columns
    say(f"  {seen.before:,} rows before, {seen.after:,} after; rows told apart {escape(seen.matched_by)}")
    if not found.differs:
        say("  [green]nothing differs[/green]")
        return
    rows = [
        ("rows added", seen.added, "; ".join(seen.added_examples)),
        ("rows removed", seen.removed, "; ".join(seen.removed_examples)),
        ("rows changed", seen.changed, ""),
        ("rows in another order", "yes" if seen.moved else "no", ""),
        ("columns added", len(columns.added), ", ".join(columns.added)),
        ("columns removed", len(columns.removed), ", ".join(columns.removed)),
        ("types changed", len(columns.retyped), "; ".join(f"{n}: {a} -> {b}" for n, a, b in columns.retyped[:5])),
        ("duplicate rows", f"{seen.duplicates[0]:,} -> {seen.duplicates[1]:,}", ""),
    ]
    table(("", "how many", "such as"), rows)
    if found.cells:
        shown = [(c.column, c.count, "; ".join(f"{r}: {a} -> {b}" for r, a, b in c.examples[:3])) for c in found.cells]
        table(("cells of", "changed", "such as"), shown)
    moved = [one for one in found.drift if one.stability >= 0.01 or one.new][:12]
    if moved:
        drift = [
            (one.column, f"{one.stability:.3f}", "moved" if one.moved else "", ", ".join(one.new[:4])) for one in moved
        ]
        table(("distribution of", "stability index", "", "new values"), drift)


def sample(tokens: Sequence[tuple[str, bool]]) -> None:
    """One text as the model sees it, its first tokens; those that are not learned from are dimmed."""
    if _shown["quiet"] or not tokens:
        return
    from rich.text import Text

    line = Text("  ")
    for text, trained in tokens[:160]:
        line.append(text, style="green" if trained else "dim")
    line.append(" …" if len(tokens) > 160 else "")
    learned = sum(trained for _, trained in tokens)
    say(f"  one sample as the model sees it; [green]what it learns[/green] are {learned} of its {len(tokens)} tokens")
    console().print(line)


def model(built: nn.Module) -> None:
    """The structure, one row a part, equal neighbours together; and how many parameters there are."""
    table(("part", "kind", "parameters"), _parts(built))
    parameters = list(built.parameters())
    total = sum(p.numel() for p in parameters)
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    frozen = "" if trained == total else f", {trained:,} of them trained ({trained / total:.1%})"
    say(f"  [bold]{total:,}[/bold] parameters{frozen}")


def structure(outlined: Layer) -> None:
    """A model's tree: each layer with its shapes, parameters, operations and memory; equal neighbours one row."""
    rows: list[tuple[Any, ...]] = []

    def add(layer: Layer, depth: int) -> None:
        times = f"{layer.times} x " if layer.times > 1 else ""
        name = f"{layer.name} " if layer.name else ""
        label = f"{'  ' * depth}[dim]{escape(name)}[/dim]{escape(times + layer.kind)}"
        shapes = f"{format_shape(layer.input_shape)} -> {format_shape(layer.output_shape)}"
        shown = shapes if layer.output_shape is not None else "-"
        count = format_count(layer.parameters_of_all) if layer.num_parameters else "-"
        rows.append((Marked(label), shown, count, format_count(layer.flops), format_bytes(layer.memory_bytes)))
        for child in layer.children:
            add(child, depth + 1)

    add(outlined.folded(), 0)
    table(("layer", "one sample", "parameters", "operations", "memory"), rows)
    spent = f"{format_count(outlined.flops)} operations and {format_bytes(outlined.memory_bytes)}"
    say(f"  [bold]{outlined.num_parameters:,}[/bold] parameters; {spent} for one sample's way forward")


def _parts(built: nn.Module, prefix: str = "") -> list[tuple[str, str, int]]:
    rows: list[tuple[str, str, int]] = []
    for name, part in built.named_children():
        inner = [type(child).__name__ for child in part.children()]
        if type(part).__name__ == "ModuleList" and len(set(inner)) > 1:
            rows += _parts(part, f"{prefix}{name}.")
            continue
        kind = f"{len(inner)} x {inner[0]}" if type(part).__name__ == "ModuleList" and inner else type(part).__name__
        rows.append((prefix + name, kind, sum(p.numel() for p in part.parameters())))
    return rows


def decisions(made: Mapping[str, Any], steps: int) -> None:
    """What was decided for the whole run, each with its reason."""
    rows = [("device", f"{made['device']}, {made['threads']} threads", "")]
    rows.append(("precision", made["precision"]["name"], made["precision"]["reason"]))
    compiled = made["compile"]
    rows.append(("compiled", "yes" if compiled["on"] else "no", compiled["reason"]))
    measured = made.get("seconds_per_step")
    rows.append(("steps", f"{steps:,}", f"at {format_seconds(measured)} a step" if measured else ""))
    table(("decided", "", "because"), rows)


def plan(planned: Plan) -> None:
    """Memory and time by part, with the assumptions."""
    table(("plan", "estimate"), planned.rows())
    say(f"  [dim]{escape('; '.join(planned.assumptions))}[/dim]")


def proof(checked: Proof) -> None:
    """The checks, each with what it saw."""
    marks = {True: Marked("[green]passed[/green]"), False: Marked("[red]FAILED[/red]")}
    warned = Marked("[yellow]warning[/yellow]")
    rows = [(c.name, warned if c.warned else marks[c.passed], f"{c.saw}. {c.mend}" if c.warned else c.saw)
            for c in checked.checks]  # fmt: skip
    table(("check", "", "saw"), rows)


def signals(layers: Sequence[LayerSignal]) -> None:
    """How large the signal is behind each layer, forward and back; of many layers some from all over."""
    rows = [(layer.name, layer.kind, layer.activation, layer.gradient) for layer in layers]
    _some_of("layer", ("kind", "activation", "gradient"), rows)


def started(weights: Sequence[StartedWeight]) -> None:
    """Who filled each weight, the deviation that it promises and the one found; of many some from all over."""
    rows = [(w.name, w.initialiser, "-" if w.promised is None else w.promised, w.found) for w in weights]
    if rows:
        _some_of("weight", ("initialiser", "promised deviation", "found"), rows)


def _some_of(what: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table of a model's parts in their order; of many, some from all over and how many there are."""
    shown = rows
    if len(rows) > MOST_LAYERS:
        step = (len(rows) - 1) / (MOST_LAYERS - 1)
        shown = [rows[round(i * step)] for i in range(MOST_LAYERS)]
        what += f", {len(shown)} of {len(rows)}"
    table((what, *columns), shown)


def metrics(title: str, found: Mapping[str, Mapping[str, Metric]]) -> None:
    """Metrics side by side: one row a metric, one column for the model and each baseline."""
    names = list(dict.fromkeys(name for one in found.values() for name in one))
    if not names:
        return say("  nothing is measured: recipe.evaluation.metrics names no metric")
    rows = [[name, *(str(one[name]) if name in one else "-" for one in found.values())] for name in names]
    table((title, *found), rows)


def label_errors(rows: Sequence[Mapping[str, Any]], looked_at: int) -> None:
    """The likeliest label errors, and how many there are."""
    share = len(rows) / max(1, looked_at)
    say(f"  {len(rows):,} of {looked_at:,} labels are likely wrong ({share:.1%})")
    names = ("row", "split", "label", "suggested", "margin", "content")
    if rows:
        table(names, [[_short(row[name]) for name in names] for row in rows[:20]])


@dataclasses.dataclass(frozen=True)
class Marked:
    """A cell that carries colours; every other value is shown as it is."""

    markup: str


@contextlib.contextmanager
def busy(what: str) -> Iterator[None]:
    """A spinner while something without a known length runs; nothing in a log."""
    if _shown["quiet"] or not console().is_terminal:
        yield
        return
    with console().status(f"[dim]{escape(what)}[/dim]"):
        yield


class Bar:
    """A progress bar with rate and time left; on a terminal it moves, in a log it prints each tenth."""

    def __init__(self, progress: Progress | None, task: TaskID | None, total: float, unit: str) -> None:
        self.progress, self.task, self.total, self.unit = progress, task, total, unit
        self.started, self.printed, self.marked = time.monotonic(), 0, ""
        self.first: tuple[int, float] | None = None
        self.begun: float | None = None
        self.loss = 0.0

    def update(self, done: float, text: str = "") -> None:
        """Set how much is done, and a few words beside the bar."""
        self.begun = done if self.begun is None else self.begun
        if self.progress is not None and self.task is not None:
            self.progress.update(self.task, completed=done, text=text)
        elif not _shown["quiet"] and self.total and int(10 * done / self.total) > self.printed:
            self.printed = int(10 * done / self.total)
            spent = time.monotonic() - self.started
            left = spent / (done - self.begun) * (self.total - done) if done > self.begun else 0.0
            console().print(
                f"  {done / self.total:4.0%}  {text}  "
                f"[dim]{format_seconds(spent)} spent, {format_seconds(left)} left[/dim]"
            )

    def step(self, step: Step) -> None:
        """Set it from a training step: loss, smoothed over some twenty steps, and rate."""
        done = step.tokens if self.unit == "tokens" else step.samples
        if self.first is None:
            self.first, self.loss = (done, time.monotonic()), step.loss
        self.loss += (step.loss - self.loss) / min(step.number, 20)
        spent = time.monotonic() - self.first[1]
        pace = f"  {(done - self.first[0]) / spent:,.0f} {self.unit}/s" if spent > 1 else ""
        self.update(step.number, f"loss {self.loss:.4f}{pace}{self.marked}")

    def mark(self, text: str) -> None:
        """A few words that stay beside the bar until the next ones."""
        self.marked = f"  {text}"


@contextlib.contextmanager
def bar(title: str, total: float, unit: str = "") -> Iterator[Bar]:
    """A progress bar for the duration of the block."""
    if _shown["quiet"] or not console().is_terminal:
        yield Bar(None, None, total, unit)
        return
    from rich import progress as shown

    columns = (
        shown.TextColumn("  {task.description}"),
        shown.BarColumn(bar_width=28),
        shown.TaskProgressColumn(),
        shown.TimeElapsedColumn(),
        shown.TextColumn("[dim]left[/dim]"),
        shown.TimeRemainingColumn(),
        shown.TextColumn("{task.fields[text]}"),
    )
    with shown.Progress(*columns, console=console(), transient=False) as moving:
        yield Bar(moving, moving.add_task(title, total=total, text=""), total, unit)


def code(text: str, prompt: str = "") -> None:
    """Generated text after its prompt, in a frame."""
    if _shown["quiet"]:
        return
    from rich.panel import Panel
    from rich.text import Text

    body = Text(prompt, style="bold")
    body.append(text, style="green")
    console().print(Panel(body, border_style="dim"))


def escape(text: str) -> str:
    """Text whose brackets are shown, not read as colours."""
    from rich.markup import escape as escaped

    return escaped(text)


def _short(value: Any) -> str:
    text = f"{len(value):,} bytes" if isinstance(value, bytes) else " ".join(str(value).split())
    return text if len(text) <= 44 else text[:43] + "…"


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}"
    return str(value)


def _is_figure(text: str) -> bool:
    return bool(text) and (text == "-" or text[0].isdigit() or (text[0] in "-+." and len(text) > 1))
