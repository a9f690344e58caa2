"""A recipe for text: a language model of a size that the text can teach, or a network that tells classes of texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from groundup.core.dataset import Dataset
from groundup.core.errors import DataError
from groundup.core.use import Use
from groundup.data.drafting.tables import RAREST_CLASS, is_imbalanced, shares, weighted
from groundup.data.drafting.toml import Draft, Said
from groundup.data.inspection.relations import Target
from groundup.data.inspection.table import Table
from groundup.data.inspection.texts import Texts

FEWEST_CHARACTERS = 2_000
MOST_SINGLE_CHARACTERS = 256
LARGEST_BY_CHARACTER = 3_000_000
FEW_DOCUMENTS = 10


def draft_language_model(dataset: Dataset, texts: Texts, source: Mapping[str, Any], head: tuple[str, ...]) -> Draft:
    """The recipe. Raises DataError for a text too short to learn from."""
    column, total = texts.column, texts.total_characters
    if total < FEWEST_CHARACTERS:
        raise DataError(f"{total:,} characters are too few for a language model; {FEWEST_CHARACTERS:,} would do.")
    by_character = texts.distinct_characters <= MOST_SINGLE_CHARACTERS and total <= LARGEST_BY_CHARACTER
    cleaning = _cleaning(dataset, texts)
    tables: dict[str, Mapping[str, Any]] = {
        "": {"name": source["name"], **_prompts(dataset, column)},
        "data": {
            "source": source["source"],
            **({"clean": cleaning} if cleaning else {}),
            "split": _split(texts),
            "samples": _samples(texts, by_character=by_character),
        },
        "model": _model(total),
        "training": _training(total),
        "evaluation": {
            "metrics": Said(["loss", "bits_per_byte"], "Bits per byte do not depend on the tokenizer."),
            "baselines": Said(
                ["order3", "xz"], "What must be beaten: counts of the last three tokens, and a compressor."
            ),
        },
    }
    return Draft(head, tables)


def draft_labelled_text(
    table: Table, texts: Texts, rest: list[str], source: Mapping[str, Any], head: tuple[str, ...]
) -> Draft:
    """The recipe for texts with a class or a number; ``rest`` are columns beside them, which are left aside."""
    target = table.target
    assert target is not None
    rows = table.rows - texts.copies.exact - target.missing
    held = shares(rows)
    words = f"{texts.words.median:.0f} words in the median text"
    if target.task == "classify":
        split = Said(Use("stratified", column=target.name, **held), "Each class in the same share everywhere.")
    else:
        split = Said(Use("random", **held), "Each text by chance.")
    tables: dict[str, Mapping[str, Any]] = {
        "": {"name": source["name"]},
        "data": {
            "source": source["source"],
            "clean": _cleaning_labelled(table, texts, rest),
            "split": split,
            "samples": Said(
                Use("LabelledText", target=target.name, column=texts.column),
                f"Words by number, the vocabulary learned on train; {words}.",
            ),
        },
        "model": {
            "use": Said("TextCNN", "Looks for runs of three to five words wherever they stand (Kim 2014)."),
            "features": 64,
            "channels": 64,
            "dropout": Said(0.5, "Forgets half of its signals at each step, so that it does not learn by heart."),
        },
        "training": _training_labelled(target, max(1, round(rows * (1 - sum(held.values()))))),
        "evaluation": _evaluation_labelled(target),
    }
    return Draft(head, tables)


def _cleaning_labelled(table: Table, texts: Texts, rest: list[str]) -> list[Said]:
    target, column = table.target, texts.column
    assert target is not None
    steps = []
    lacking = [name for name in (column, target.name) if table.column(name).missing]
    if lacking:
        steps.append(Said(Use("drop_without", columns=lacking), "Neither a text nor a target is invented."))
    copies = texts.copies
    said = (
        f"{copies.exact:,} texts stand there before." if copies.exact > 1 else "A text in train and in test is a leak."
    )
    steps.append(Said(Use("drop_exact_duplicates", columns=[column]), said))
    near = f"{copies.near:,} of {copies.compared:,} are nearly alike: one in train and one in test would be a leak."
    steps.append(Said(Use("drop_near_duplicates", column=column), near))
    if any(count < RAREST_CLASS for count in target.counts):
        use = Use("drop_rare", column=target.name, at_least=RAREST_CLASS)
        steps.append(Said(use, "Classes on fewer rows can be neither learned nor measured."))
    if rest:
        steps.append(Said(Use("drop_columns", columns=rest), "The text alone is read."))
    return steps


def _training_labelled(target: Target, train: int) -> dict[str, Any]:
    batch = 32 if train < 5000 else 64
    epochs = int(min(30, max(3, round(800 * batch / train))))
    objective = Said(Use("supervised", loss="cross_entropy"), "The loss of probabilities over classes.")
    if target.task == "regress":
        objective = Said(Use("supervised", loss="mse"), "Squared error: what the mean minimises.")
    elif is_imbalanced(target.counts):
        objective = Said(weighted(target.counts), "Classes are uneven: rare ones count more, by the root of how rare.")
    return {
        "objective": objective,
        "optimizer": Said(Use("AdamW", lr=1e-3, weight_decay=0.05), "Learns steadily without being tuned."),
        "schedule": Said(Use("cosine", warmup=0.05), "The rate rises for a moment, then falls to nothing."),
        "batch_size": batch,
        "epochs": Said(epochs, f"About {-(-train // batch) * epochs:,} steps over {train:,} texts."),
        "keep": Said("best", "The weights that did best on the validation part, not the last ones."),
    }


def _evaluation_labelled(target: Target) -> dict[str, Any]:
    metrics, baselines = ["accuracy", "f1", "log_loss"], ["majority", "logistic_regression"]
    if target.task == "regress":
        metrics, baselines = ["mae", "rmse", "r2"], ["mean", "linear"]
    elif is_imbalanced(target.counts):
        metrics = ["balanced_accuracy", *metrics]
    why = "What must be beaten: always the same answer, and a straight line on counts of words."
    return {"metrics": metrics, "baselines": Said(baselines, why)}


def _prompts(dataset: Dataset, column: str) -> dict[str, Any]:
    text = next((t for t in dataset.frame[column].to_list() if t and t.strip()), "")
    words = text.split()
    start = " ".join(words[: 3 if len(words) > 3 else 1])[:40]
    return {"prompts": Said([start], "What it goes on from, with groundup run.")} if start else {}


def _cleaning(dataset: Dataset, texts: Texts) -> list[Any]:
    if texts.rows < 2:
        return []
    steps = [
        Said(
            Use("drop_exact_duplicates", columns=[texts.column]),
            "Copies teach nothing new, and leak from train to test.",
        )
    ]
    if texts.copies.near and texts.copies.near > texts.copies.exact:
        steps.append(
            Said(
                Use("drop_near_duplicates", column=texts.column), f"{texts.copies.near:,} are nearly copies of others."
            )
        )
    if texts.faults.broken:
        steps.insert(
            0,
            Said(
                Use("repair_text", column=texts.column),
                f"{texts.faults.broken:,} have characters that were decoded wrongly.",
            ),
        )
    return steps


def _split(texts: Texts) -> Said:
    if texts.rows < FEW_DOCUMENTS:
        use = Use("contiguous", column=texts.column, valid=0.1, test=0.1)
        return Said(use, "Each text is cut: its beginning to train, then validation, its end to test.")
    return Said(Use("random", valid=0.1, test=0.1), "Whole documents by chance, so that none is known in part.")


def _samples(texts: Texts, *, by_character: bool) -> Said:
    if by_character:
        tokenizer, length = Use("Characters"), 128
        why = f"{texts.distinct_characters} different characters: each is a token, and nothing is learned first."
    else:
        vocabulary = 1024 if texts.total_characters < 1e6 else 4096 if texts.total_characters < 2e7 else 16_384
        tokenizer, length = Use("BytePairEncoding", vocab_size=vocabulary), 128
        why = f"{vocabulary:,} pieces of words, learned from train: more than the text could teach would go unlearned."
    return Said(Use("PackedText", column=texts.column, length=length, tokenizer=tokenizer), why)


def _model(total: int) -> dict[str, Any]:
    small = total < 300_000
    width, layers = (96, 3) if small else (128, 4)
    return {
        "use": Said("Llama", "A decoder: attention over what came before, and nothing after."),
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
    }


def _training(total: int) -> dict[str, Any]:
    steps = 1000 if total < 300_000 else 2000
    return {
        "objective": Said(Use("language_modelling"), "Each token from those before it."),
        "optimizer": Said(Use("Muon"), "Learns such models in fewer steps than AdamW."),
        "schedule": Said(Use("cosine", warmup=0.05, floor=0.1), "The rate rises for a moment, then falls to a tenth."),
        "batch_size": 12,
        "steps": Said(
            steps, f"About {steps * 12 * 128:,} tokens in all; more steps learn more, until valid stops falling."
        ),
        "keep": Said("best", "The weights that did best on the validation part, not the last ones."),
    }
