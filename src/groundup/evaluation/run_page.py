"""The page of one run, made from what lies in its folder, so that it can be made again at any time."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from groundup.core.charts import Bar, Line, bar_chart, line_chart
from groundup.core.dataset import Entry
from groundup.core.page import (
    Section,
    Tile,
    figure,
    ledger_table,
    page_html,
    paragraph,
    recipe_block,
    side_by_side,
    table,
)
from groundup.core.plan import Plan, format_bytes, format_seconds
from groundup.core.report import Check, Metric, Report
from groundup.core.run import Run
from groundup.core.structure import Layer
from groundup.evaluation.figures import Bin, confusion_chart, reliability_chart
from groundup.evaluation.page import checks_table, masked_block, metrics_table, plan_table, samples_block
from groundup.evaluation.structure import structure_chart

HALF = 430
"""Pixels of a chart that has another beside it."""

LOWER_IS_BETTER = ("loss", "bits_per_byte", "perplexity", "log_loss", "mae", "mse", "rmse", "mape")


def run_page(run: Run) -> str:
    """``report.html``: figures, curves, proof, data, plan and recipe of a run, as far as its folder has them."""
    report = _report(run)
    parts: list[tuple[str, Callable[[Run], str | None]]] = [
        ("Learning", _curves),
        ("Measured", lambda _: _measured(report) if report else None),
        ("Fine-tuning", _finetuned),
        ("Written", _written),
        ("Started from", _started),
        ("Proof", _proof),
        ("Structure", _structure),
        ("Data", _data),
        ("Time and memory", _spent),
        ("Recipe", lambda r: recipe_block((r.folder / "recipe.toml").read_text(encoding="utf-8"))),
    ]
    sections = [Section(title, body) for title, make in parts if (body := make(run))]
    about = run.read_json("run.json")
    facts = {"started": about["started"], "recipe digest": about["digest"][:16], **about["machine"]}
    split = f", measured on {report.split}" if report else ""
    return page_html(run.folder.name, sections, f"A run of groundup{split}", _tiles(report), facts)


def _report(run: Run) -> Report | None:
    if not (run.folder / "report.json").is_file():
        return None
    return Report.from_dict(run.read_json("report.json"))


def _tiles(report: Report | None) -> list[Tile]:
    """The first metrics, each marked by whether it is better than every baseline that has it."""
    tiles = []
    for name, metric in list(report.metrics.items())[:4] if report else []:
        rivals = {label: found[name].value for label, found in report.baselines.items() if name in found}  # type: ignore[union-attr]
        lower = name.partition("(")[0] in LOWER_IS_BETTER
        better = all(metric.value < v if lower else metric.value > v for v in rivals.values()) if rivals else None
        note = ", ".join(f"{label} {value:.4g}" for label, value in rivals.items())
        tiles.append(Tile(name.replace("_", " "), f"{metric.value:.4g}", note or metric.unit, better))
    return tiles


def _started(run: Run) -> str | None:
    """The weights that were not learned in this run, and what a person must know of them."""
    if not (run.folder / "start.json").is_file():
        return None
    about = run.read_json("start.json")
    rows = [["folder", about["folder"]], ["model", about["model"]]]
    rows += [[f"SHA-256 of {name}", digest] for name, digest in about["sha256"].items()]
    return table(["", ""], rows) + "".join(paragraph(note) for note in about["notes"])


def _curves(run: Run) -> str | None:
    logged = run.logged()
    train = [line for line in logged if line["kind"] == "train"]
    valid = [line for line in logged if line["kind"] == "valid"]
    if not train:
        return None
    lines = [Line("train", [line["step"] for line in train], [line["loss"] for line in train], smooth=True)]
    if valid:
        lines.append(Line("valid", [line["step"] for line in valid], [line["loss"] for line in valid], dots=True))
    charts = [figure(line_chart(lines, "Loss", "step", "loss"))]
    steps = [line["step"] for line in train]
    small = []
    for name in ("learning_rate", "gradient_norm"):
        title = name.replace("_", " ")
        line = Line(name, steps, [line[name] for line in train])
        small.append(figure(line_chart([line], title, "step", title, width=HALF)))
    return charts[0] + side_by_side(*small)


def _measured(report: Report) -> str:
    charts = []
    for name, metric in report.metrics.items():
        bars = [Bar("this model", metric.value, metric.low, metric.high, ours=True)]
        bars += [Bar(b, m[name].value, m[name].low, m[name].high) for b, m in report.baselines.items() if name in m]
        if len(bars) > 1:
            better = "lower" if name.partition("(")[0] in LOWER_IS_BETTER else "higher"
            charts.append(figure(bar_chart(bars, name, metric.unit, better, width=HALF), name.replace("_", " ")))
    pairs = [side_by_side(*charts[i : i + 2]) for i in range(0, len(charts), 2)]
    shared = {
        label: {n: m for n, m in found.items() if n in report.metrics} for label, found in report.baselines.items()
    }
    of_their_own = [
        f"{label}: {name.replace('_', ' ')} {metric}"
        for label, found in report.baselines.items()
        for name, metric in found.items()
        if name not in report.metrics
    ]
    below = paragraph("; ".join(of_their_own)) if of_their_own else ""
    drawn = "".join(pairs) + _classes(report)
    return metrics_table(dataclasses.replace(report, baselines=shared)) + below + _leaks(report) + drawn


def _classes(report: Report) -> str:
    """Of a classifier, what is confused with what, and how sure it may be."""
    charts = []
    if confusion := report.figures.get("confusion"):
        charts.append(confusion_chart(np.array(confusion["counts"]), confusion["labels"], "What is taken for what"))
    if bins := report.figures.get("reliability"):
        charts.append(reliability_chart([Bin(*one) for one in bins], "How sure it is, and how right"))
    return side_by_side(*map(figure, charts)) if charts else ""


def _leaks(report: Report) -> str:
    """What rows that stand in an earlier split as well do to the figures."""
    if not report.leaks:
        return ""
    names = list(report.metrics)
    rows = [
        [label, *(str(found[name]) if name in found else "-" for name in names), f"{_most(found):,}"]
        for label, found in {"all rows": report.metrics, **report.leaks}.items()
    ]
    lead = "Rows that stand in an earlier split as well, exactly or nearly, apart from the clean ones:"
    return paragraph(lead) + table(["rows", *names, "n"], rows, range(1, len(names) + 2))


def _most(found: Mapping[str, Metric]) -> int:
    return max((metric.n for metric in found.values()), default=0)


def _finetuned(run: Run) -> str | None:
    folder = run.folder / "finetune"
    if not (folder / "report.json").is_file():
        return None
    tuned = Run(folder)
    report = _report(tuned)
    assert report is not None
    lead = paragraph("Before and after, on held-out samples of the task; the curve is the fine-tuning's own loss.")
    return lead + _measured(report) + (_curves(tuned) or "")


def _written(run: Run) -> str | None:
    for folder in (run.folder / "finetune", run.folder):
        if (folder / "samples.json").is_file():
            written = Run(folder).read_json("samples.json")
            return samples_block([(one["prompt"], one["completion"]) for one in written])
    return None


def _proof(run: Run) -> str | None:
    if not (run.folder / "proof.json").is_file():
        return None
    checks = checks_table([Check(**check) for check in run.read_json("proof.json")["checks"]])
    if not (run.folder / "sample.json").is_file():
        return checks
    lead = paragraph("One sample as the model sees it; what it is not trained to predict stands out.")
    return checks + lead + masked_block(run.read_json("sample.json"))


def _structure(run: Run) -> str | None:
    if not (run.folder / "structure.json").is_file():
        return None
    lead = "Shapes, operations and memory are one sample's; memory is what its way forward keeps for the way back."
    return paragraph(lead) + figure(structure_chart(Layer.from_dict(run.read_json("structure.json"))))


def _data(run: Run) -> str | None:
    path = run.folder / "ledger.jsonl"
    if not path.is_file():
        return None
    entries = [_entry(json.loads(line)) for line in path.read_text(encoding="utf-8").split("\n") if line]
    counts = run.read_json("data.json")
    rows = [[name, f"{counts['rows'][name]:,}", f"{counts['samples'][name]:,}"] for name in counts["rows"]]
    split = table(["split", "rows", "samples"], rows, [1, 2])
    return split + (ledger_table(entries) if entries else "") + _learned(run)


def _learned(run: Run) -> str:
    """Each statistic of the preparation, with the split that it was learned from and the rows it saw."""
    if not (run.folder / "statistics.json").is_file() or not (learned := run.read_json("statistics.json")):
        return ""
    rows = [[one["step"], one["split"], f"{one['rows']:,}", ", ".join(one["columns"][:20]) or "-"] for one in learned]
    lead = paragraph("What each fitted step was learned from; no other row was seen.")
    return lead + table(["step", "learned from", "rows seen", "columns"], rows, [2])


def _entry(saved: Mapping[str, Any]) -> Entry:
    removed = tuple((str(name), str(reason)) for name, reason in saved["removed"])
    return Entry(**{**saved, "removed": removed, "notes": tuple(saved["notes"])})


def _spent(run: Run) -> str | None:
    if not (run.folder / "plan.json").is_file():
        return None
    saved = run.read_json("plan.json")
    saved.pop("total_bytes")
    plan = Plan(**{**saved, "assumptions": tuple(saved["assumptions"])})
    train = [line for line in run.logged() if line["kind"] == "train"]
    measured = {"training": float(train[-1]["time_s"])} if train else {}
    return plan_table(plan, None, measured) + _stages(run)


def _stages(run: Run) -> str:
    if not (run.folder / "stages.json").is_file():
        return ""
    stages: Sequence[Mapping[str, Any]] = run.read_json("stages.json")
    rows = [[one["stage"], format_seconds(one["time_s"]), format_bytes(one["peak_bytes"])] for one in stages]
    return table(["stage", "wall time", "peak memory"], rows, [1, 2])
