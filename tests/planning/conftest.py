"""Makes this folder's small nets importable by its tests, which a script in a process of its own needs as well."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
