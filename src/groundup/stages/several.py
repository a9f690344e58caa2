"""One recipe as several runs, for its seeds or folds, and the figures over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from groundup import terminal
from groundup.core.recipe import Recipe
from groundup.core.report import Report
from groundup.core.run import Run
from groundup.evaluation import over_runs
from groundup.stages.learning import write_page


def parts_of(folder: Path) -> list[Path]:
    """The runs of single seeds or folds inside a run over several."""
    found = [path for kind in ("seed", "fold") for path in folder.glob(f"{kind}-*") if (path / "run.json").is_file()]
    return sorted(found, key=lambda path: int(path.name.partition("-")[2]))


def can_resume(recipe: Recipe, folder: Path) -> bool:
    """Whether one of the runs was begun, and got as far as a checkpoint."""
    return any((folder / "checkpoints").glob("step-*")) or (bool(recipe.runs()) and (folder / "run.json").is_file())


def means(reports: Sequence[Report], folders: Sequence[Path]) -> Report:
    """The means over the runs in these folders. Folds share most of their training rows, which widens intervals."""
    overlap = 1 / (len(folders) - 1) if folders[0].name.startswith("fold-") else 0.0
    return over_runs(reports, overlap)


def conclude_all(parent: Run, folders: Sequence[Path]) -> Report:
    """The figures over all the runs, and the first of them as the one whose model is used, in the parent's folder."""
    report = means([Report.from_dict(Run.open(folder).read_json("report.json")) for folder in folders], folders)
    what = folders[0].name.partition("-")[0]
    terminal.stage(f"all {what}s", f"means over {len(folders)} {what}s, with 95% intervals")
    terminal.metrics(report.split, {"model": report.metrics, **report.baselines})
    parent.write_json("report.json", report.to_dict())
    first = Run.open(folders[0])
    parent.write_json(
        "chosen.json", {"checkpoint": f"{first.folder.name}/{first.read_json('chosen.json')['checkpoint']}"}
    )
    write_page(parent)
    return report
