"""Parts of a run's page that tell of figures, checks and plans; the page itself is ``core.page``."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from html import escape

from groundup.core.charts import format_number
from groundup.core.page import html_table
from groundup.core.plan import Plan, format_bytes, format_seconds
from groundup.core.report import Check, Metric, Report


def metrics_table(report: Report) -> str:
    """The model beside its baselines, metric by metric, with intervals and n."""
    names = list(report.metrics)
    for table_ in report.baselines.values():
        names += [name for name in table_ if name not in names]
    header = ["", *names, "n"]
    rows = [["<b>this model</b>", *(_metric(report.metrics.get(n)) for n in names), _n(report.metrics)]]
    for label, found in report.baselines.items():
        rows.append([escape(label), *(_metric(found.get(name)) for name in names), _n(found)])
    return html_table(header, rows, range(1, len(header)))


def checks_table(checks: Sequence[Check]) -> str:
    """Each check of the proof, whether it held, what it saw, and how to mend it if it did not."""
    rows = []
    for check in checks:
        shown = check.mend and (check.warned or not check.passed)
        mend = f'<div class="mend">{escape(check.mend)}</div>' if shown else ""
        rows.append([_mark(check.passed, check.warned), f"<b>{escape(check.name)}</b>", escape(check.saw) + mend])
    return html_table(["", "check", "what it saw"], rows)


def plan_table(
    plan: Plan, measured_bytes: Mapping[str, float] | None = None, measured_s: Mapping[str, float] | None = None
) -> str:
    """What was planned beside what was measured ("total" is the peak), and what the plan rests on."""
    seen_bytes, seen_s = dict(measured_bytes or {}), dict(measured_s or {})
    rows = [
        [escape(part), format_bytes(amount), format_bytes(seen_bytes[part]) if part in seen_bytes else ""]
        for part, amount in plan.memory_bytes.items()
    ]
    total = format_bytes(seen_bytes["total"]) if "total" in seen_bytes else ""
    rows.append(["<b>memory in all</b>", f"<b>{format_bytes(plan.total_bytes)}</b>", f"<b>{total}</b>"])
    for part in [*plan.time_s, *(name for name in seen_s if name not in plan.time_s)]:
        planned = format_seconds(plan.time_s[part]) if part in plan.time_s else ""
        rows.append([escape(part), planned, format_seconds(seen_s[part]) if part in seen_s else ""])
    lines = "".join(f"<li>{escape(line)}</li>" for line in plan.assumptions)
    notes = f"<details><summary>what the plan rests on</summary><ul>{lines}</ul></details>" if lines else ""
    return html_table(["", "planned", "measured"], rows, (1, 2)) + notes


def samples_block(samples: Sequence[tuple[str, str]]) -> str:
    """(prompt, what the model wrote) pairs; the prompt stands out from what follows it."""
    return "".join(
        f'<pre class="code sample"><b>{escape(prompt)}</b>{escape(written)}</pre>' for prompt, written in samples
    )


def masked_block(tokens: Sequence[tuple[str, bool]]) -> str:
    """Tokens in order with their loss mask; those that are not learned from stand out."""
    spans = []
    for learned, group in itertools.groupby(tokens, key=lambda pair: bool(pair[1])):
        text = escape("".join(text for text, _ in group))
        spans.append(text if learned else f"<b>{text}</b>")
    return f'<pre class="code sample">{"".join(spans)}</pre>'


def _metric(metric: Metric | None) -> str:
    if metric is None:
        return ""
    interval = ""
    if metric.low is not None and metric.high is not None:
        interval = f'<div class="interval">{format_number(metric.low)} to {format_number(metric.high)}</div>'
    unit = f' <span class="unit">{escape(metric.unit)}</span>' if metric.unit else ""
    return f"{format_number(metric.value)}{unit}{interval}"


def _n(metrics: Mapping[str, Metric]) -> str:
    return " / ".join(f"{n:,}" for n in dict.fromkeys(metric.n for metric in metrics.values()))


def _mark(passed: bool, warned: bool = False) -> str:
    if passed and warned:
        return '<span class="mark warn">! look</span>'
    return '<span class="mark pass">✓ held</span>' if passed else '<span class="mark fail">✗ failed</span>'
