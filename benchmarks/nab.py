"""How well do our detectors find known anomalies in streams, by the Numenta Anomaly Benchmark's own rule?

The files of NAB that lie in ../shared/data/ts_nab (those with an anomaly of known cause and the artificial ones), each
seen once, in order of time. A detector may learn from the probationary period, 15% of a file and at most 750 rows,
in which nothing is scored. The threshold is the best one over all files, for each profile, as NAB has it.

The rule (Lavin and Ahmad: Evaluating Real-time Anomaly Detection Algorithms, 2015; as in NAB 1.1): the first detection
in a window of an anomaly counts tp sigma(x) / sigma(-1), x from -1 at the window's first row towards 0 at its last,
sigma(x) = 2 / (1 + e^5x) - 1; a window without one counts -fn; a detection outside counts fp sigma(x), x its distance
behind the last window in windows' lengths, -1 from 3 on and before the first. 100 is every window at its first row and
nothing else, 0 is no detection at all.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from measuring import FOLDER, arguments, save, show, versions
from scipy.special import erfc

from groundup.core.dataset import Dataset
from groundup.core.errors import DataError
from groundup.data.prepare.detectors import (
    ECOD,
    Detector,
    IsolationForest,
    LocalOutlierFactor,
    OneClassSVM,
    RobustCovariance,
)
from groundup.data.prepare.outlier_rows import OutlierRows
from groundup.data.series.recursive import kalman
from groundup.data.series.windowed import local_median, local_spread

Values = np.ndarray[Any, Any]

DATA = FOLDER.parent.parent / "shared" / "data" / "ts_nab"

PROFILES: Mapping[str, tuple[float, float, float]] = {
    "standard": (1.0, 0.11, 1.0),
    "reward low FP": (1.0, 0.22, 1.0),
    "reward low FN": (1.0, 0.11, 2.0),
}
"""What a true positive, a false positive and a missed window weigh (NAB's config/profiles.json)."""

PROBATION, MOST_PROBATION = 0.15, 750
FAR = 3.0


@dataclasses.dataclass(frozen=True)
class Stream:
    """One file: its values in order of time, and the first and last row of each window."""

    name: str
    values: Values
    windows: tuple[tuple[int, int], ...]

    @property
    def probation(self) -> int:
        """Rows at its beginning that are not scored."""
        return int(min(np.floor(PROBATION * len(self.values)), MOST_PROBATION))


def read(folder: Path) -> list[Stream]:
    """Every file of the corpus, with its windows."""
    labels = json.loads((folder / "labels" / "combined_windows.json").read_text("utf-8"))
    streams = []
    for path in sorted((folder / "data").glob("*/*.csv")):
        name = f"{path.parent.name}/{path.name}"
        frame = pl.read_csv(path)
        rows = {stamp: row for row, stamp in enumerate(frame["timestamp"].to_list())}
        windows = [(rows[start[:19]], rows[end[:19]]) for start, end in labels[name]]
        streams.append(Stream(name, frame["value"].cast(pl.Float64).to_numpy(), tuple(sorted(windows))))
    return streams


# ------------------------------------------------------------------------------- the scoring rule


def sigma(x: Values) -> Values:
    """2 / (1 + e^5x) - 1, and -1 from 3 on."""
    return np.where(x >= FAR, -1.0, 2 / (1 + np.exp(5 * np.minimum(x, FAR))) - 1)


def worth(stream: Stream, profile: tuple[float, float, float]) -> tuple[Values, Values]:
    """What a detection at each row would count, and the number of the window that it lies in, -1 for none."""
    tp, fp, _ = profile
    row = np.arange(len(stream.values))
    counts, inside = np.full(len(row), -fp), np.full(len(row), -1)
    for number, (first, last) in enumerate(stream.windows):
        width = last - first + 1
        behind = row > last
        counts[behind] = fp * sigma((row[behind] - last) / max(width - 1, 1))
        within = (row >= first) & (row <= last)
        counts[within] = tp * sigma(-(last - row[within] + 1) / width) / sigma(np.array(-1.0))
        inside[within] = number
    return counts, inside


def score_at(stream: Stream, scores: Values, threshold: float, profile: tuple[float, float, float]) -> float:
    """What one file counts when every row of at least this score is a detection."""
    counts, inside = worth(stream, profile)
    found = (scores >= threshold) & (np.arange(len(scores)) >= stream.probation)
    total = float(counts[found & (inside < 0)].sum())
    for number, (_, last) in enumerate(stream.windows):
        if last < stream.probation:
            continue
        hits = counts[found & (inside == number)]
        total += float(hits.max()) if len(hits) else -profile[2]
    return total


def best(
    streams: Sequence[Stream], scores: Sequence[Values], profile: tuple[float, float, float]
) -> tuple[float, float]:
    """The best total over all thresholds, and that threshold; infinity is to detect nothing."""
    every, counts, windows, number = [], [], [], 0
    for stream, found in zip(streams, scores, strict=True):
        value, inside = worth(stream, profile)
        scored = slice(stream.probation, None)
        every.append(found[scored])
        counts.append(value[scored])
        windows.append(np.where(inside[scored] < 0, -1, inside[scored] + number))
        number += len(stream.windows)
    score, count, window = (np.concatenate(parts) for parts in (every, counts, windows))
    order = np.argsort(-score, kind="stable")
    reached = np.full(number, -profile[2])
    total = most = float(reached.sum())
    threshold = np.inf
    for place, i in enumerate(order.tolist()):
        w = window[i]
        if w < 0:
            total += count[i]
        elif count[i] > reached[w]:
            total += count[i] - reached[w]
            reached[w] = count[i]
        last_of_its_score = place + 1 == len(order) or score[order[place + 1]] != score[i]
        if last_of_its_score and total > most:
            most, threshold = total, float(score[i])
    return most, threshold


def normalised(total: float, streams: Sequence[Stream], profile: tuple[float, float, float]) -> float:
    """0 for no detection at all, 100 for a perfect detector."""
    count = sum(len(stream.windows) for stream in streams)
    null, perfect = -profile[2] * count, profile[0] * count
    return 100 * (total - null) / (perfect - null)


# ------------------------------------------------------------------------------- detectors


def windowed_gaussian(stream: Stream, width: int = 6400, step: int = 100) -> Values:
    """NAB's own baseline: 1 - the upper tail of a normal distribution with mean and deviation of the values so far.

    Of the first 6,400; then of the last 6,400, moved on every 100 rows. As in NuPIC's table the tail is read at tenths
    of a deviation, and is 0 beyond 7.
    """
    values, scores = stream.values, np.zeros(len(stream.values))
    for t in range(1, len(values)):
        end = t if t <= width else width + (t - width) // step * step
        window = values[max(0, end - width) : end]
        deviation = np.std(window) or 1e-6
        tenths = np.round(10 * (values[t] - np.mean(window)) / deviation)
        scores[t] = 1.0 if tenths > 70 else 1 - 0.5 * erfc(tenths / 10 / np.sqrt(2))
    return scores


def hampel_score(stream: Stream, width: int = 500) -> Values:
    """Distance from the median of the last values, in their 1.4826 MAD."""
    column = stream.values[None, :, None]
    spread = local_spread(column, width, True)[0, :, 0]
    floor = 1e-3 * (np.std(stream.values[: stream.probation]) or 1.0)
    return np.abs(stream.values - local_median(column, width, True)[0, :, 0]) / np.maximum(spread, floor)


def kalman_score(stream: Stream, ratio: float = 0.05) -> Values:
    """How far a value lies from the level that the values before it tell, in the deviation of such distances so far."""
    level = kalman(stream.values[None, :, None], ratio)[0, :, 0]
    expected = np.concatenate([level[:1], level[:-1]])
    return _against_past(np.abs(stream.values - expected), stream.probation)


def row_score(stream: Stream, detector: Detector, lags: int = 8) -> Values:
    """The strangeness of the last values together, by what the probationary period taught."""
    padded = np.pad(stream.values, (lags - 1, 0), mode="edge")
    rows = np.lib.stride_tricks.sliding_window_view(padded, lags)
    frame = pl.DataFrame({f"lag {i}": rows[:, -1 - i] for i in range(lags)})
    dataset = Dataset.of(frame)
    train = dataclasses.replace(dataset.take(np.arange(stream.probation)), split="train")
    try:
        fitted = OutlierRows(detector).fit(train)
    except DataError:  # nothing varies in the probationary period, so nothing is known
        return np.zeros(len(dataset))
    return _against_past(fitted.scores(dataset), stream.probation)


def _against_past(scores: Values, probation: int) -> Values:
    """Scores in deviations from their mean over the probationary period, so that files can be compared."""
    known = scores[:probation]
    return (scores - known.mean()) / (known.std() or 1.0)


def once_an_episode(scores: Values, quiet: int = 200) -> Values:
    """A row keeps its score where it is higher than any of the last ``quiet`` rows': an alarm is not repeated."""
    padded = np.pad(scores, (quiet, 0), constant_values=-np.inf)
    before = np.lib.stride_tricks.sliding_window_view(padded, quiet)[:-1].max(axis=1)
    return np.where(scores > before, scores, -np.inf)


Score = Callable[[Stream], Values]

OURS: Mapping[str, Score] = {
    "hampel": hampel_score,
    "kalman": kalman_score,
    "isolation forest": partial(row_score, detector=IsolationForest()),
    "ECOD": partial(row_score, detector=ECOD()),
    "robust covariance": partial(row_score, detector=RobustCovariance()),
    "one-class SVM": partial(row_score, detector=OneClassSVM()),
    "local outlier factor": partial(row_score, detector=LocalOutlierFactor()),
}


def main() -> None:
    options = arguments(__doc__ or "").parse_args()
    streams = read(DATA)
    if options.quick:
        streams = [s for s in streams if "artificialWith" in s.name][:3]
    rows = []
    contestants: dict[str, tuple[Score, bool]] = {"windowed Gaussian (NAB's)": (windowed_gaussian, False)}
    contestants |= {name: (score, True) for name, score in OURS.items()}
    for name, (score, quietly) in contestants.items():
        start = time.process_time()
        found = [score(stream) for stream in streams]
        spent = time.process_time() - start
        if quietly:
            found = [once_an_episode(scores) for scores in found]
        row: dict[str, Any] = {"detector": name}
        for profile, weights in PROFILES.items():
            row[profile] = round(normalised(best(streams, found, weights)[0], streams, weights), 2)
        rows.append({**row, "rows a second": sum(len(s.values) for s in streams) / max(spent, 1e-9)})
    count = sum(len(stream.windows) for stream in streams)
    caption = f"{len(streams)} files, {count} windows, {sum(len(s.values) for s in streams):,} rows; 100 is perfect"
    show("NAB, by its own rule", rows, caption)
    if not options.quick:
        settings = {"files": len(streams), "windows": count, **versions("scikit-learn", "scipy")}
        save("nab", rows, settings)


if __name__ == "__main__":
    main()
