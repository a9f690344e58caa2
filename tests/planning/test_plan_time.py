from __future__ import annotations

import math

import pytest
import torch
from planned_nets import Decoder, decoder_batch

from groundup.core.plan import Plan, format_bytes, format_seconds
from groundup.planning import Speed, matmul_rate, measure_speed, memory_rate, plan_memory, plan_time

SPEED = Speed(flops={"float32": 1e9, "bfloat16": 4e9}, bytes_per_s=1e9, large_bytes_per_s=5e8, operation_s=1e-3)


def test_time_is_the_sum_of_its_parts() -> None:
    work = {"flops float32": 2e9, "flops bfloat16": 4e9, "bytes moved": 5e8, "operations": 100}
    plan = plan_time(Plan({}, work=work), SPEED, steps=10)
    assert plan.time_s["one step"] == pytest.approx(2 + 1 + 0.5 + 0.1)
    assert plan.time_s["training"] == pytest.approx(36)
    large = plan_time(Plan({}, work={**work, "bytes of large blocks": 1e9}), SPEED)
    assert large.time_s["one step"] == pytest.approx(3.6 + 2 * 1e9 * (1 / 5e8 - 1 / 1e9))


def test_minutes_say_how_many_steps_fit() -> None:
    plan = plan_time(Plan({}, work={"flops float32": 1e9}), SPEED, minutes=2)
    assert plan.time_s == {"one step": 1.0, "training": 120.0}
    assert any("120 steps fit into 2 minutes" in line for line in plan.assumptions)


def test_a_type_that_was_not_measured_counts_as_the_slowest() -> None:
    assert plan_time(Plan({}, work={"flops float64": 3e9}), SPEED).time_s["one step"] == pytest.approx(3)


def test_rates_are_measured() -> None:
    assert 1e8 < matmul_rate(size=128, seconds=0.01) < 1e15
    assert 1e7 < memory_rate(1, seconds=0.01) < 1e14
    speed = measure_speed(dtypes=(torch.float32,))
    assert 1e-8 < speed.operation_s < 1e-2
    plan = plan_time(plan_memory(Decoder(), decoder_batch(1, 32)), speed, steps=3)
    assert 0 < plan.time_s["one step"] < 60
    assert plan.time_s["training"] == pytest.approx(3 * plan.time_s["one step"])


def test_plan_as_a_value() -> None:
    plan = Plan({"weights": 2**20, "batch": 2**20}, time_s={"one step": 0.5}, work={"flops float32": 6e9})
    assert plan.total_bytes == 2**21
    assert plan.fits(2**21)
    assert not plan.fits(2**21 - 1)
    assert ("memory in all", "2.0 MiB") in plan.rows()
    assert plan.to_dict()["total_bytes"] == 2**21
    assert plan.with_time({"one step": 1.0}, "a line").assumptions == ("a line",)


@pytest.mark.parametrize(("amount", "shown"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 * 2**40, "5.0 TiB")])
def test_bytes_for_people(amount: int, shown: str) -> None:
    assert format_bytes(amount) == shown


@pytest.mark.parametrize(
    ("amount", "shown"),
    [(0.0412, "41.2 ms"), (59.94, "59.9 s"), (200, "3 min 20 s"), (7500, "2 h 05 min"), (3 * 86400, "3.0 days")],
)
def test_seconds_for_people(amount: float, shown: str) -> None:
    assert format_seconds(amount) == shown
    assert not math.isnan(amount)
