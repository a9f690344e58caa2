"""What a run leaves: metrics with their uncertainty, the checks it passed, and where it was made."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from groundup.core.errors import ProofError


@dataclasses.dataclass(frozen=True)
class Metric:
    """A figure, over how many things, with its confidence interval where there is one."""

    value: float
    n: int
    low: float | None = None
    high: float | None = None
    unit: str = ""

    def __str__(self) -> str:
        interval = "" if self.low is None else f" ({self.low:.4g} to {self.high:.4g})"
        return f"{self.value:.4g}{' ' + self.unit if self.unit else ''}{interval}"


@dataclasses.dataclass(frozen=True)
class Check:
    """One check of a proof: whether it held, what it saw, and if not, what to do."""

    name: str
    passed: bool
    saw: str
    mend: str = ""
    warned: bool = False
    """Whether it held, but something was seen that a person should look at; ``mend`` then says what to try."""


@dataclasses.dataclass(frozen=True)
class LayerSignal:
    """How large a signal is behind one layer, on its way forward and back."""

    name: str
    kind: str
    activation: float
    """Standard deviation of what the layer gives, over samples and places."""
    gradient: float
    """Euclidean norm of the loss's gradient by what the layer gives, for one sample in the mean."""


@dataclasses.dataclass(frozen=True)
class StartedWeight:
    """A parameter that an initialiser filled: the standard deviation that it promises, and the one found."""

    name: str
    initialiser: str
    promised: float | None
    """None for an initialiser of one's own, or one that draws nothing."""
    found: float
    size: int


@dataclasses.dataclass(frozen=True)
class Proof:
    """The checks that ran, and what each saw."""

    checks: tuple[Check, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every check held."""
        return all(check.passed for check in self.checks)

    def demand(self) -> Proof:
        """The proof itself, or a ProofError with every check that failed."""
        failed = [f"{c.name}: {c.saw}.{' ' + c.mend if c.mend else ''}" for c in self.checks if not c.passed]
        if failed:
            raise ProofError("the run was stopped before it could go wrong:\n  " + "\n  ".join(failed))
        return self

    def __add__(self, other: Proof) -> Proof:
        return Proof(self.checks + other.checks)


@dataclasses.dataclass(frozen=True)
class Report:
    """Metrics of one split beside its baselines, with what they were made from."""

    split: str
    metrics: Mapping[str, Metric]
    baselines: Mapping[str, Mapping[str, Metric]] = dataclasses.field(default_factory=dict)
    recipe_digest: str = ""
    data_fingerprint: str = ""
    machine: Mapping[str, str] = dataclasses.field(default_factory=lambda: machine())
    figures: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What pictures are drawn from, such as a confusion matrix."""
    leaks: Mapping[str, Mapping[str, Metric]] = dataclasses.field(default_factory=dict)
    """"clean" and "leaked" -> the metrics on those rows alone, where a run with leaks was asked for."""

    def to_dict(self) -> dict[str, Any]:
        """Plain tables and scalars."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Report:
        """What ``to_dict`` gave, read back."""

        def metrics(table: Mapping[str, Any]) -> dict[str, Metric]:
            return {name: Metric(**values) for name, values in table.items()}

        several = {
            field: {name: metrics(table) for name, table in saved.get(field, {}).items()}
            for field in ("baselines", "leaks")
        }
        return cls(**{**saved, "metrics": metrics(saved["metrics"]), **several})


def machine() -> dict[str, str]:
    """Processor kind, system and versions: what figures depend on; nothing that names a person or host."""
    found = {"system": platform.system(), "processor": platform.machine(), "python": platform.python_version()}
    for package in ("groundup", "torch", "numpy", "polars"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
