"""A home for bare names that holds one part of each kind, so that tests of recipes need no part of ours."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from groundup.core import use


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module ``named_parts``, in which every slot looks bare names up."""
    spec = importlib.util.spec_from_file_location("named_parts", Path(__file__).with_name("named_parts.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "named_parts", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(use, "HOMES", dict.fromkeys(use.HOMES, ("named_parts",)))
    monkeypatch.setattr(sys, "path", [*sys.path])
    return module
