"""How well do the nets for tables predict, beside scikit-learn's gradient boosting on the same rows?

California housing (a value, nine columns) and Adult (two classes, fourteen columns), three seeds; each seed draws
another split, another start and another order. Nets see numbers through QuantileScale; categories are one-hot for MLP
and TableResNet, and their index for FTTransformer and for the trees.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measuring import FOLDER, arguments, save, show, versions

import groundup
from groundup import DataRecipe, Recipe, Training, Use, terminal
from groundup.core.recipe import Evaluation

DATA = FOLDER.parent.parent / "shared" / "data"
ADULT = [
    *("age", "workclass", "weight", "education", "years", "marital", "occupation", "relationship", "race", "sex"),
    *("gain", "loss", "hours", "country", "income"),
]
TABLES: Mapping[str, Mapping[str, Any]] = {
    "california": {
        "source": Use("csv", path=str(DATA / "tab_california_housing" / "housing.csv")),
        "target": "median_house_value",
        "split": Use("random", valid=0.16, test=0.2),
        "metrics": ("rmse", "r2"),
    },
    "adult": {
        "source": Use("csv", path=str(DATA / "tab_adult" / "adult-train.csv"), header=ADULT, missing=["?"]),
        "target": "income",
        "split": Use("stratified", column="income", valid=0.16, test=0.2),
        "metrics": ("accuracy", "roc_auc", "log_loss"),
    },
}
MODELS: Mapping[str, Use] = {
    "mlp": Use("MLP", hidden=[256, 256], dropout=0.1),
    "table_resnet": Use("TableResNet", features=128, blocks=2),
    "ft_transformer": Use("FTTransformer", features=64, blocks=2),
}


def gradient_boosting(train: Any, test: Any) -> np.ndarray[Any, Any]:
    """scikit-learn's histogram trees, stopped early by a tenth of train: values [N], or probabilities [N, C]."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    names = train.samples.learned["inputs"]
    options = {
        "categorical_features": [name in train.categories and len(train.categories[name]) < 255 for name in names],
        **{"max_iter": 1000, "early_stopping": True, "random_state": 0},
    }
    if train.classes:
        model = HistGradientBoostingClassifier(**options).fit(train.inputs, train.arrays()[1])
        return np.asarray(model.predict_proba(test.inputs))
    found = HistGradientBoostingRegressor(**options).fit(train.inputs, train.arrays()[1]).predict(test.inputs)
    return np.asarray(found)


def measured(table: str, name: str, seed: int, epochs: int) -> dict[str, dict[str, float]]:
    """What one net reaches on test, and with FTTransformer, whose inputs they share, the trees too."""
    of = TABLES[table]
    shares = name == "ft_transformer"
    metrics = [Use(metric) for metric in of["metrics"]]
    prepare = [
        Use("Fill", method="median"),
        Use("QuantileScale", distribution="normal", exclude=[of["target"]]),
        *([] if shares else [Use("OneHot", exclude=[of["target"]])]),
    ]
    recipe = Recipe(
        name=name,
        seed=seed,
        data=DataRecipe(
            source=of["source"],
            split=of["split"],
            prepare=tuple(prepare),
            samples=Use("Rows", target=of["target"]),
            leaks="report",
        ),
        model=MODELS[name],
        training=Training(
            objective=Use("supervised", loss="mse" if "rmse" in of["metrics"] else "cross_entropy"),
            optimizer=Use("AdamW", lr=1e-3, weight_decay=1e-4),
            schedule=Use("cosine", warmup=0.05),
            batch_size=256,
            epochs=epochs,
            keep="best",
            precision="fp32",
            compile="off",
        ),
        evaluation=Evaluation(metrics=metrics, baselines=[Use("table_models:gradient_boosting")] if shares else []),
    )
    with tempfile.TemporaryDirectory() as folder, terminal.quiet():
        run = groundup.train(recipe, out=Path(folder) / "run")
        report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    found = {
        name: report["metrics"],
        **({"gradient boosting": report["baselines"]["gradient_boosting"]} if shares else {}),
    }
    return {who: {metric: values[metric]["value"] for metric in of["metrics"]} for who, values in found.items()}


def main() -> None:
    """Measure, show, save."""
    parser = arguments(__doc__ or "")
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    epochs, seeds = (1, 1) if options.quick else (options.epochs, options.repeats or 3)
    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(seeds):
        for name in MODELS:
            for who, values in measured(options.table, name, seed, epochs).items():
                found.setdefault(who, []).append(values)
                print(seed, who, values, flush=True)
    rows = [{"model": who, **_cells(values, TABLES[options.table]["metrics"])} for who, values in found.items()]
    caption = f"mean of {seeds} seeds, and the standard deviation among them; {epochs} epochs of 256 rows"
    show(options.table, rows, caption)
    if not options.quick:
        save(
            "table_models", rows, {"table": options.table, "epochs": epochs, "seeds": seeds, **versions("scikit-learn")}
        )


def _cells(values: Sequence[Mapping[str, float]], metrics: Sequence[str]) -> dict[str, str]:
    cells = {}
    for metric in metrics:
        column = [one[metric] for one in values]
        spread = statistics.stdev(column) if len(column) > 1 else 0.0
        cells[metric] = f"{statistics.mean(column):,.4g} ± {spread:.2g}"
    return cells


if __name__ == "__main__":
    main()
