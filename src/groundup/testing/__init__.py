"""Contract suites that we run on our parts and users run on theirs.

>>> from groundup.testing import contract
>>> contract("my_pkg.layers:Mine", input_shape=(6, 8)).demand()  # doctest: +SKIP
"""

from __future__ import annotations

from groundup.proof.contract import CHECKS, contract, public_layers

__all__ = ["CHECKS", "contract", "public_layers"]
