"""Figures of merit: what a model reaches on samples it has not seen, beside what simple methods reach."""

from groundup.evaluation.compare import Comparison, compare_reports, paired
from groundup.evaluation.evaluate import Outcome, evaluate, mean_loss, measure
from groundup.evaluation.figures import pictures_of
from groundup.evaluation.run_page import run_page
from groundup.evaluation.scores import metric_name, over_runs, over_seeds, score, score_apart, score_baseline

__all__ = [
    "Comparison",
    "Outcome",
    "compare_reports",
    "evaluate",
    "mean_loss",
    "measure",
    "metric_name",
    "over_runs",
    "over_seeds",
    "paired",
    "pictures_of",
    "run_page",
    "score",
    "score_apart",
    "score_baseline",
]
