"""What helps a rare class, and what does it cost in precision? Over five folds of two tables with few positives.

The same net and steps each time; weights of the classes, drawing them equally often, new rows between those of the rare
one, and the focal loss, alone and together. Recall is of the rare class at probability one half.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from measuring import FOLDER, arguments, save, show

import groundup
from groundup import terminal

CLASS_WEIGHTS = 'training.objective.class_weights="balanced"'
FOCAL = 'training.objective.loss={ use = "focal", gamma = 2.0 }'
WAYS: Mapping[str, tuple[str, ...]] = {
    "nothing": (),
    "class weights": (CLASS_WEIGHTS,),
    "balanced sampling": ("data.sampling=balanced",),
    "half-way sampling": ('data.sampling={ use = "balanced", strength = 0.5 }',),
    "sampling and SMOTE": ("data.sampling=balanced", 'data.augment=["Smote"]'),
    "sampling and MixUp": ("data.sampling=balanced", 'data.augment=["MixUp"]'),
    "focal loss": (FOCAL,),
    "focal loss, weights": (FOCAL, CLASS_WEIGHTS),
}
METRICS = ("recall", "precision", "f1", "balanced_accuracy", "roc_auc")
OIL = "../../shared/data/tab_misc_uci/oil-spill.csv"
NAMES = ", ".join([*(f'"f{i}"' for i in range(49)), '"calcified"'])
TABLES: Mapping[str, tuple[str, ...]] = {
    "mammography": (),
    "oil-spill": (
        f'data.source={{ use = "csv", path = "{OIL}", header = [{NAMES}] }}',
        'data.clean=[{ use = "drop_columns", columns = ["f0", "f22"] }]',
        "training.batch_size=64",
        "training.epochs=40",
    ),
}


def measured(table: str, way: str, quick: bool) -> dict[str, str]:
    """Means over the folds with the half-width of their interval."""
    overrides = [*TABLES[table], "training.objective.class_weights=false", *WAYS[way]]
    overrides += ["training.epochs=1", "data.split.folds=2"] if quick else []
    with tempfile.TemporaryDirectory() as folder, terminal.quiet():
        recipe = FOLDER.parent / "recipes" / "mammography.toml"
        groundup.train(recipe, *overrides, "evaluation.baselines=[]", out=Path(folder) / "run")
        found = json.loads((Path(folder) / "run" / "report.json").read_text(encoding="utf-8"))["metrics"]
    cells = {name: f"{found[name]['value']:.3f} ± {found[name]['high'] - found[name]['value']:.3f}" for name in METRICS}
    return {"table": table, "way": way, **cells}


def main() -> None:
    """Measure, show, save."""
    quick = arguments(__doc__ or "").parse_args().quick
    rows = [measured(table, way, quick) for table in TABLES for way in WAYS]
    show(
        "A rare class over five folds", rows, "mean ± half of the 95% interval, which allows for rows that folds share"
    )
    if not quick:
        save("imbalance", rows, {"recipe": "mammography", "folds": 5})


if __name__ == "__main__":
    main()
