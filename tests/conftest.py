"""Fixtures that every test may use, and one thread per process so that workers do not fight over cores."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
from hypothesis import settings

# A busy machine is no reason to fail: a property is judged by what it finds, not by how long an example takes.
settings.register_profile("groundup", deadline=None)
settings.load_profile("groundup")

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets beside the checkout; the test is skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the folder ../shared/data with real data sets is not beside this checkout")
    return SHARED_DATA


@pytest.fixture(scope="session")
def project() -> Path:
    """The project's root folder."""
    return ROOT
