"""Risk-adjusted CUSUM of single cases, each with its own expected probability of an error; its limit by simulation."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt

from triage.audit.bootstrap import Floats
from triage.audit.control_chart import reflected

Peaks = list[tuple[npt.NDArray[np.intp], Floats]]


@dataclass(frozen=True)
class CaseChart:
    """
    A risk-adjusted CUSUM's limit and where it comes from.

    Attributes:
        odds: odds ratio of an error that the chart looks for.
        arl: simulated mean cases to a false alarm at `limit`, at least what was asked.
    """

    odds: float
    limit: float
    arl: float
    runs: int
    seed: int


def case_weights(is_error: npt.ArrayLike, expected: npt.ArrayLike, odds: float) -> Floats:
    """
    What each case adds to the risk-adjusted CUSUM (Steiner, Cook, Farewell & Treasure, Biostatistics 1, 2000).

    The log likelihood ratio of odds of an error *odds* times the expected: e ln R - ln(1 - p + R p).

    Args:
        is_error: (...) 0 or 1.
        expected: (...) probability p of an error in this case while in control.
    """
    p = np.asarray(expected, dtype=np.float64)
    if not odds > 0:
        raise ValueError(f"risk-adjusted CUSUM: an odds ratio of {odds}")
    if not np.all((p >= 0) & (p <= 1)):
        raise ValueError("risk-adjusted CUSUM: an expected probability lies outside [0, 1]")
    found: Floats = np.asarray(is_error, dtype=np.float64) * np.log(odds) - np.log1p((odds - 1) * p)
    return found


def case_cusum(is_error: npt.ArrayLike, expected: npt.ArrayLike, odds: float) -> Floats:
    """The risk-adjusted CUSUM after each case (..., cases); an alarm lies above `CaseChart.limit`."""
    return reflected(case_weights(is_error, expected, odds))


def case_chart(expected: npt.ArrayLike, odds: float, arl: float, *, runs: int = 400, seed: int = 1) -> CaseChart:
    """
    The lowest limit whose simulated in-control run length is *arl* cases at least.

    Args:
        expected: (cases,) of the reference stream, drawn from with replacement.
        odds: above 1 for harm.
    """
    peaks = _peaks(expected, odds, 1.0, ceil(2 * arl), runs, seed)
    low, high = 0.0, max(float(values[-1]) for _, values in peaks)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _mean_run(peaks, middle, ceil(2 * arl)) < arl else (low, middle)
    return CaseChart(odds, high, _mean_run(peaks, high, ceil(2 * arl)), runs, seed)


def case_run_length(expected: npt.ArrayLike, chart: CaseChart, true_odds: float, *, seed: int = 2) -> float:
    """Mean cases to the alarm if the odds of an error are *true_odds* times the expected, simulated like the limit."""
    longest = ceil(2 * chart.arl)
    return _mean_run(_peaks(expected, chart.odds, true_odds, longest, chart.runs, seed), chart.limit, longest)


def _peaks(expected: npt.ArrayLike, odds: float, true_odds: float, cases: int, runs: int, seed: int) -> Peaks:
    """Of each simulated run: after how many cases the CUSUM was higher than ever, and how high."""
    p = np.asarray(expected, dtype=np.float64)
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(runs):
        drawn = rng.choice(p, size=cases)
        wrong = true_odds * drawn / (1 - drawn + true_odds * drawn)
        highest = np.maximum.accumulate(case_cusum(rng.random(cases) < wrong, drawn, odds))
        at = np.flatnonzero(np.diff(highest, prepend=-1.0))
        found.append((at, highest[at]))
    return found


def _mean_run(peaks: Peaks, at: float, longest: int) -> float:
    """Cases a false alarm: runs without one count with their whole length, as if run lengths had no memory."""
    passed = [(rows, int(np.searchsorted(values, at, side="right"))) for rows, values in peaks]
    alarms = [int(rows[place]) + 1 for rows, place in passed if place < len(rows)]
    total = sum(alarms) + longest * (len(peaks) - len(alarms))
    return total / len(alarms) if alarms else float("inf")
