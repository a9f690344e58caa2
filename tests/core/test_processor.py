"""What the processor can do is read off its flags, and its cores off what the container leaves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from groundup.core import processor

CPUS = {
    "zen4": ("flags\t\t: fpu sse4_2 avx avx2 fma avx512f avx512bw avx512vl avx512_bf16 avx512_vnni", "avx512_bf16"),
    "sapphire rapids": ("flags : avx2 avx512f avx512_bf16 avx512_fp16 amx_bf16 amx_tile amx_int8", "avx512_bf16"),
    "sierra with amx alone": ("flags : avx2 amx_bf16 amx_tile", "amx_bf16"),
    "graviton 3": ("Features\t: fp asimd sve asimdhp bf16 i8mm svebf16", "bf16"),
    "skylake with avx512": ("flags : avx avx2 avx512f avx512bw avx512dq avx512cd avx512vl", None),
    "haswell": ("flags : fpu sse sse2 ssse3 fma avx avx2 f16c bmi2", None),
    "lunar lake converts only": ("flags : avx2 avx_vnni avx_ne_convert", None),
    "graviton 2": ("Features : fp asimd asimdhp asimddp", None),
    "big and little cores": ("Features : fp bf16\n\nFeatures : fp asimd", None),
    "nothing": ("", None),
}


@pytest.mark.parametrize("cpu", CPUS)
def test_fast_bf16_is_read_off_the_processors_flags(cpu: str) -> None:
    text, expected = CPUS[cpu]
    assert processor.fast_bf16_flag(processor.read_flags(text)) == expected


def test_this_machine_agrees_with_torchs_own_probe() -> None:
    probe = torch.cpu.get_capabilities()
    if probe.get("architecture") == "x86_64":
        assert processor.has_bf16() == bool(probe["avx512_bf16"] or probe["amx_bf16"])


def test_cores_are_those_of_the_container(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    monkeypatch.setattr(processor, "CPU_QUOTA", tmp_path / "cpu.max")
    for text, cores in (("max 100000", 64), ("250000 100000", 3), ("5000 100000", 1), ("nonsense", 64)):
        (tmp_path / "cpu.max").write_text(text)
        assert processor.usable_cores() == cores
    (tmp_path / "cpu.max").unlink()
    assert processor.usable_cores() == 64
