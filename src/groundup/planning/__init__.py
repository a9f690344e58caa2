"""Memory, time and hardware, before anything is spent."""

from groundup.planning.hardware import Hardware, hardware
from groundup.planning.memory import plan_memory
from groundup.planning.structure import outline
from groundup.planning.time import Speed, flops_per_step, matmul_rate, measure_speed, memory_rate, plan_time

__all__ = [
    "Hardware",
    "Speed",
    "flops_per_step",
    "hardware",
    "matmul_rate",
    "measure_speed",
    "memory_rate",
    "outline",
    "plan_memory",
    "plan_time",
]
