"""The scoring rule of benchmarks/nab.py, held against the scores that NAB publishes for its own baseline."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

PUBLISHED = {
    "artificialNoAnomaly/art_daily_no_noise.csv": 0.0,
    "artificialNoAnomaly/art_noisy.csv": 0.0,
    "artificialWithAnomaly/art_daily_flatmiddle.csv": -1.0,
    "artificialWithAnomaly/art_daily_jumpsup.csv": -1.0,
    "artificialWithAnomaly/art_increase_spike_density.csv": -1.0,
    "artificialWithAnomaly/art_load_balancer_spikes.csv": -0.6924446095227346,
    "realKnownCause/ambient_temperature_system_failure.csv": -2.0,
    "realKnownCause/cpu_utilization_asg_misconfiguration.csv": -1.11,
    "realKnownCause/ec2_request_latency_system_failure.csv": -0.06591011872780705,
    "realKnownCause/nyc_taxi.csv": -5.0,
    "realKnownCause/rogue_agent_key_hold.csv": -2.44,
    "realKnownCause/rogue_agent_key_updown.csv": -1.3964908955014117,
}
"""NAB's results/windowedGaussian/windowedGaussian_standard_scores.csv, at its threshold 1.0."""

PUBLISHED_LOW_FN = {
    "artificialWithAnomaly/art_load_balancer_spikes.csv": -0.692444609523,
    "realKnownCause/ec2_request_latency_system_failure.csv": -1.06591011873,
    "realKnownCause/rogue_agent_key_hold.csv": -4.44,
    "realKnownCause/rogue_agent_key_updown.csv": -2.3964908955,
}


@pytest.fixture(scope="module")
def nab(project: Path) -> ModuleType:
    folder = project / "benchmarks"
    sys.path.insert(0, str(folder))
    try:
        spec = importlib.util.spec_from_file_location("nab", folder / "nab.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["nab"] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
    return module


def test_published_scores_of_the_baseline_come_out(nab: ModuleType, shared_data: Path) -> None:
    streams = {stream.name: stream for stream in nab.read(shared_data / "ts_nab")}
    assert len(streams) == 18
    for name, expected in PUBLISHED.items():
        scores = nab.windowed_gaussian(streams[name])
        found = nab.score_at(streams[name], scores, 1.0, nab.PROFILES["standard"])
        assert found == pytest.approx(expected, abs=1e-9), name
        if name in PUBLISHED_LOW_FN:
            found = nab.score_at(streams[name], scores, 1.0, nab.PROFILES["reward low FN"])
            assert found == pytest.approx(PUBLISHED_LOW_FN[name], abs=1e-9), name


def test_perfect_and_null_and_the_sweep(nab: ModuleType) -> None:
    rng = np.random.default_rng(0)
    streams = [
        nab.Stream("a", rng.normal(size=400), ((100, 139), (300, 309))),
        nab.Stream("b", rng.normal(size=300), ((80, 99),)),
        nab.Stream("c", rng.normal(size=200), ()),
    ]
    for profile in nab.PROFILES.values():
        perfect = []
        for stream in streams:
            scores = np.zeros(len(stream.values))
            scores[[first for first, _ in stream.windows]] = 1.0
            perfect.append(scores)
        total, threshold = nab.best(streams, perfect, profile)
        assert nab.normalised(total, streams, profile) == pytest.approx(100)
        assert threshold == 1.0
        nothing = [np.zeros(len(stream.values)) for stream in streams]
        total, threshold = nab.best(streams, nothing, profile)
        assert nab.normalised(total, streams, profile) == pytest.approx(0)
        assert threshold == np.inf
        by_chance = [np.round(rng.random(len(stream.values)), 2) for stream in streams]
        total, threshold = nab.best(streams, by_chance, profile)
        totals = {
            t: sum(nab.score_at(s, f, t, profile) for s, f in zip(streams, by_chance, strict=True))
            for t in [np.inf, *np.unique(np.concatenate(by_chance))]
        }
        assert total == pytest.approx(max(totals.values()))
        assert totals[threshold] == pytest.approx(total)


def test_an_early_detection_counts_more_and_a_far_false_one_costs_all(nab: ModuleType) -> None:
    stream = nab.Stream("a", np.zeros(1000), ((400, 499),))
    counts, inside = nab.worth(stream, nab.PROFILES["standard"])
    assert counts[400] == pytest.approx(1.0)
    assert (np.diff(counts[400:500]) < 0).all()
    assert counts[399] == -0.11
    assert counts[900] == pytest.approx(-0.11)
    assert -0.11 < counts[510] < 0
    assert (inside[400:500] == 0).all()
    assert inside[399] == inside[500] == -1
