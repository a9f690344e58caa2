"""A recipe for images in folders: a small convolutional network, and changes that keep what an image shows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from groundup.core.errors import DataError
from groundup.core.use import Use
from groundup.data.drafting.tables import RAREST_CLASS, is_imbalanced, weighted
from groundup.data.drafting.toml import Draft, Said
from groundup.data.inspection.images import Images

SIGNS = 2
"""Class names of so few letters are digits, letters or signs, which mean something else when mirrored."""

STEPS = 1200


def draft_images(images: Images, image: str, label: str, source: Mapping[str, Any], head: tuple[str, ...]) -> Draft:
    """The recipe. Raises DataError for fewer than two classes."""
    counts = [count for _, count in images.classes]
    if len(counts) < 2:
        raise DataError(f"the images are all of one class, {images.classes[0][0] if counts else 'none'!r}.")
    rows = sum(counts)
    edge = edge_of(images)
    held = {"valid": 0.15, "test": 0.2} if rows < 5000 else {"valid": 0.1, "test": 0.1}
    rare = [(name, n) for name, n in images.classes if n < RAREST_CLASS]
    cleaning = [Said(Use("drop_exact_duplicates"), "Copies of one image in train and in test would be a leak.")]
    if images.copies:
        near = f"{len(images.copies):,} of {images.seen:,} images show what an earlier one shows."
        cleaning.append(Said(Use("drop_near_images"), near))
    if rare:
        shown = ", ".join(f"{name} ({n})" for name, n in rare[:4])
        cleaning.append(
            Said(Use("drop_rare", column=label, at_least=RAREST_CLASS), f"Too rare to be learned: {shown}.")
        )
    train = max(1, round(rows * (1 - sum(held.values()))))
    tables: dict[str, Mapping[str, Any]] = {
        "": {"name": source["name"]},
        "data": {
            "source": source["source"],
            "clean": cleaning,
            "split": Said(Use("stratified", column=label, **held), "Each class in the same share everywhere."),
            "samples": _samples(images, image, label, edge),
            "augment": _augment(images),
        },
        "model": _model(edge or images.edge),
        "training": _training(images, train),
        "evaluation": _evaluation(images),
    }
    return Draft(head, tables)


def edge_of(images: Images) -> int | None:
    """Pixels that every image is resized to; None where all are of one size that is small enough."""
    if images.alike and max(images.sizes[0][0]) <= 64:
        return None
    return 96 if images.rows < 600 else 64


def _samples(images: Images, image: str, label: str, edge: int | None) -> Said:
    height, width = images.sizes[0][0]
    if edge is None:
        return Said(Use("Images", image=image, target=label), f"All are {height} x {width} pixels.")
    seen = (
        f"All are {height} x {width}" if images.alike else f"{len(images.sizes)} sizes, {images.edge} pixels short edge"
    )
    why = f"{seen}; resized to {edge} x {edge}, which a network learns from quickly. Finer detail needs a larger size."
    return Said(Use("Images", image=image, target=label, size=edge), why)


def _augment(images: Images) -> list[Any]:
    signs = sum(len(name) <= SIGNS for name, _ in images.classes) > len(images.classes) / 2
    steps: list[Any] = (
        [] if signs else [Said(Use("Flip"), "A mirrored one is as good; take this out where sides matter.")]
    )
    why = "Turned, moved and scaled a little, anew in each epoch: what is shown stays the same, the pixels do not."
    return [
        *steps,
        Said(Use("Rotate", degrees=10), why),
        Use("Translate", fraction=0.08),
        Use("Scale", low=0.9, high=1.1),
    ]


def _model(edge: int) -> dict[str, Any]:
    layers: list[Any] = []
    size, channels = edge, 32
    while size >= 8 and len(layers) < 16:
        layers += [
            Use("Conv2d", channels=channels, kernel=3),
            Use("BatchNorm2d"),
            Use("ReLU"),
            Use("MaxPool2d", kernel=2),
        ]
        size, channels = size // 2, min(128, channels * 2)
    if not layers:
        layers = [Use("Conv2d", channels=32, kernel=3), Use("BatchNorm2d"), Use("ReLU")]
    layers += [
        Said(Use("GlobalAveragePool2d"), "The mean over all places: what is there counts, not where."),
        Use("Dropout", p=0.2),
        Said(Use("Dense"), "As wide as there are classes."),
    ]
    return {
        "use": "Sequential",
        "layers": Said(layers, "Each stage sees twice as far and half as fine as the one before."),
    }


def _training(images: Images, train: int) -> dict[str, Any]:
    counts = tuple(count for _, count in sorted(images.classes))
    objective = Said(Use("supervised", loss="cross_entropy"), "The loss of probabilities over classes.")
    if is_imbalanced(counts):
        objective = Said(weighted(counts), "Classes are uneven: rare ones count more, by the root of how rare.")
    epochs = int(min(60, max(3, round(STEPS * 32 / train))))
    return {
        "objective": objective,
        "optimizer": Said(Use("AdamW", lr=2e-3, weight_decay=0.05), "Learns steadily without being tuned."),
        "schedule": Said(Use("cosine", warmup=0.05), "The rate rises for a moment, then falls to nothing."),
        "batch_size": 32,
        "epochs": Said(epochs, f"About {math.ceil(train / 32) * epochs:,} steps over {train:,} images."),
        "keep": Said("best", "The weights that did best on the validation part, not the last ones."),
    }


def _evaluation(images: Images) -> dict[str, Any]:
    counts = tuple(count for _, count in images.classes)
    metrics = ["accuracy", "f1", "log_loss"]
    if is_imbalanced(counts):
        metrics = ["balanced_accuracy", *metrics]
    return {
        "metrics": Said(metrics, "How many are right; precision and recall in one; how good the probabilities are."),
        "baselines": Said(["majority"], "What must be beaten: always the commonest class."),
    }
