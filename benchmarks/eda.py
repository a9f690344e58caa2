"""Does augmentation of text help with 500 examples, as EDA's and AEDA's papers say?

SST-2 and TREC, 500 training examples drawn anew for each seed, Kim's convolutional network from scratch, the same
steps for every contestant, the weights that are best on validation, the whole test set. Test texts that have a near
twin in train are kept and the twin in train is left out. Figures are paired: each contestant less none, on the same
examples and first weights; intervals are Student's, over seeds. A recipe makes each run.
"""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from measuring import FOLDER, arguments, save, show
from scipy import stats

from groundup import terminal
from groundup.core.dataset import Dataset, Splits
from groundup.core.recipe import recipe_from_dict
from groundup.data.cleaning import drop_near_duplicates
from groundup.workflow import train

DATA = FOLDER.parent.parent / "shared" / "data"
EXAMPLES = 500
WORDNET = (DATA / "lex_wordnet" / "wordnet30_dict.tar.gz").as_posix()
KEPT = 16 / 17
"""Of 17 texts that the paper trains on, 16 are changed: n_aug for 500 examples; alpha is 0.05 (its table 3)."""
CONTESTANTS: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "EDA": [{"use": "EDA", "synonyms": WORDNET, "alpha": 0.05, "probability": KEPT}],
    "AEDA": [{"use": "AEDA", "probability": KEPT}],
}


def read(name: str) -> Iterator[tuple[str, str, str]]:
    """(part, label, text) of a set as it was published."""
    if name == "TREC":
        for part in ("test", "train"):
            for line in (DATA / "cls_kim2014" / f"TREC.{part}.all").read_text("latin-1").splitlines():
                label, _, text = line.partition(" ")
                yield part, label, text.strip()
        return
    for part, file in (("test", "test"), ("valid", "dev"), ("train", "train")):
        for line in (DATA / "cls_sst2" / f"{file}.tsv").read_text("utf-8").splitlines():
            text, _, label = line.rpartition("\t")
            yield part, label, text.strip()


def distinct(name: str) -> pl.DataFrame:
    """A set without near twins, of which the first stays: test comes first, then validation."""
    frame = pl.DataFrame(list(read(name)), schema=["part", "label", "text"], orient="row")
    dataset = Dataset.of(frame, {"part": "category", "label": "category", "text": "text"})
    return drop_near_duplicates(dataset).frame


def write(frame: pl.DataFrame, seed: int, path: Path) -> None:
    """One seed's examples: 500 of train, and of TREC 500 others to watch on."""
    rng = np.random.default_rng(seed)
    rows = frame.filter(pl.col("part") == "train").to_dicts()
    order = rng.permutation(len(rows))
    chosen = [rows[i] for i in order[:EXAMPLES]]
    watched = frame.filter(pl.col("part") == "valid").to_dicts()
    watched = watched or [{**rows[i], "part": "valid"} for i in order[EXAMPLES : 2 * EXAMPLES]]
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.DictWriter(file, ["part", "label", "text"], extrasaction="ignore")
        out.writeheader()
        out.writerows([*chosen, *watched, *frame.filter(pl.col("part") == "test").to_dicts()])


def by_part(dataset: Dataset, seed: int = 0) -> Splits:
    """The split that the column ``part`` names."""
    part = dataset.frame["part"]
    at = {name: np.flatnonzero((part == name).to_numpy()) for name in ("train", "valid", "test")}
    return Splits(
        dataset.take(at["train"], "train"), dataset.take(at["valid"], "valid"), dataset.take(at["test"], "test")
    )


def recipe(path: Path, augment: list[dict[str, Any]], seed: int, epochs: int) -> Any:
    table = {
        "name": "eda",
        "seed": seed,
        "model": {"use": "TextCNN", "features": 64, "channels": 64},
        "data": {
            "source": {"use": "csv", "path": str(path)},
            "split": {"use": "eda:by_part"},
            # Words that only augmentation brings in have numbers of their own, or it could teach none.
            "samples": {"use": "LabelledText", "target": "label", "length": 60, "buckets": 4000, "task": "classify"},
            "augment": augment,
        },
        "training": {
            "optimizer": {"use": "AdamW", "lr": 1e-3}, "batch_size": 32, "epochs": epochs, "keep": "best",
            "compile": "off", "precision": "fp32", "evaluate_every": 48,
        },
        "evaluation": {"metrics": ["accuracy"], "baselines": ["majority", "logistic_regression"]},
    }  # fmt: skip
    return recipe_from_dict(table, folder=FOLDER).checked()


def main() -> None:
    options = arguments(__doc__ or "").parse_args()
    seeds, epochs = (1, 1) if options.quick else (options.repeats or 5, 24)
    found: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as temporary, terminal.quiet():
        for name in ("SST-2", "TREC"):
            frame = distinct(name)
            for seed in range(seeds):
                path = Path(temporary) / f"{name}-{seed}.csv"
                write(frame, seed, path)
                for contestant, augment in CONTESTANTS.items():
                    run = train(
                        recipe(path, augment, seed, epochs), out=Path(temporary) / f"{name}-{seed}-{contestant}"
                    )
                    report = json.loads((run / "report.json").read_text("utf-8"))
                    found.setdefault((name, contestant), []).append(report["metrics"]["accuracy"]["value"])
                    linear = report["baselines"]["logistic_regression"]["accuracy"]["value"]
                found.setdefault((name, "logistic regression"), []).append(linear)
    rows = []
    for (name, contestant), values in found.items():
        gains = 100 * (np.array(values) - np.array(found[name, "none"]))
        half = float(stats.t.ppf(0.975, seeds - 1) * gains.std(ddof=1) / np.sqrt(seeds)) if seeds > 1 else None
        rows.append(
            {
                "set": name,
                "augmentation": contestant,
                "accuracy %": 100 * float(np.mean(values)),
                "gain": float(gains.mean()),
                "95% from": None if half is None else float(gains.mean()) - half,
                "to": None if half is None else float(gains.mean()) + half,
                "seeds better": f"{int((gains > 0).sum())} of {seeds}",
            }
        )
    show("500 examples", rows, f"{seeds} seeds, {epochs} epochs; gains in percentage points over none, paired by seed")
    if not options.quick:
        save("eda", rows, {"examples": EXAMPLES, "seeds": seeds, "epochs": epochs})


if __name__ == "__main__":
    main()
