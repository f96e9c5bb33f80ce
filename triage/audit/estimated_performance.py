"""What performance the probabilities themselves promise, before any label has come, and how far labels differ then."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from triage.audit.bootstrap import NAN, Floats, Patients, Rows
from triage.audit.resampling import blocks_of, limits
from triage.audit.two_samples import LEAST

ASSUMPTION = (
    "Estimated without labels, from the probabilities alone: right only if they still mean what they meant when they "
    "were calibrated. If a disease has come to look different, this figure does not move while the service gets worse; "
    "only labels can show that."
)
"""To be printed next to every figure of this module."""

ROWS = 5000
"""Rows of a draw; from more cases patients are drawn so that there are about as many, and limits drawn in to match."""


@dataclass(frozen=True)
class Figure:
    """An estimate with its bootstrap interval: of which cases came, not of whether their probabilities are right."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Estimated:
    """
    Confidence-based performance estimation (CBPE; NannyML's name), if the probabilities are right.

    Attributes:
        accuracy: expected share of cases whose chosen class is the true one.
        confusion: k rows of k: expected share of cases that are truly the row's class and were given the column's.
        areas: k: expected AUC of each class against the rest.
        assumption: to be printed next to them.
    """

    accuracy: Figure
    confusion: tuple[tuple[Figure, ...], ...]
    areas: tuple[Figure, ...]
    cases: int
    patients: int
    draws: int
    seed: int
    assumption: str = ASSUMPTION


@dataclass(frozen=True)
class Gap:
    """
    Realised less estimated accuracy of the same cases, now that they have labels.

    Attributes:
        p: of no gap, two-sided, normal. A gap is what concept drift looks like, or probabilities never calibrated.
    """

    realised: float
    estimated: float
    value: float
    low: float
    high: float
    p: float
    cases: int
    patients: int


def estimated(
    probability: npt.ArrayLike,
    chosen: npt.ArrayLike | None = None,
    *,
    patients: npt.ArrayLike | None = None,
    draws: int = 500,
    seed: int = 1,
    level: float = 0.95,
) -> Estimated:
    """
    Expected accuracy, confusion and AUCs of cases without labels.

    Args:
        probability: (n, k), calibrated; where the case mix has changed, `recalibration.adjusted` to the new one.
        chosen: (n,) the class given to each case; none given, the most probable.
        patients: (n,) the patient of each case; none given, each case is its own patient.
    Returns:
        All values NaN without a case, limits with fewer than two patients.
    """
    p, said = _pair(probability, chosen)
    n, k = p.shape
    whose = Patients(blocks_of(patients, n))
    count = len(whose)

    def figures(rows: Rows) -> Floats:
        shares = (np.arange(k)[:, None] == said[rows]).astype(np.float64) @ p[rows] / max(len(rows), 1)
        areas = [expected_area(column) for column in p[rows].T]
        return np.concatenate([[np.trace(shares)], shares.T.ravel(), areas])

    if n == 0:
        found = tuple(Figure(NAN, NAN, NAN) for _ in range(1 + k * k + k))
    else:
        values = figures(np.arange(n))
        each = max(2, round(count * min(1.0, ROWS / n)))
        rng = np.random.default_rng(seed)
        drawn = [figures(whose.rows_of(rng.integers(count, size=each))) for _ in range(draws if count > 1 else 0)]
        # fewer patients than there are vary more, by the root of how many fewer (m out of n bootstrap)
        spread = (np.array(drawn).reshape(-1, len(values)) - values) * min(1.0, each / count) ** 0.5
        found = tuple(
            Figure(float(value), *limits(value + column, level)) for value, column in zip(values, spread.T, strict=True)
        )
    rows = tuple(found[1 + k * i : 1 + k * (i + 1)] for i in range(k))
    return Estimated(found[0], rows, found[1 + k * k :], n, count, draws, seed)


def expected_area(probability: npt.ArrayLike) -> float:
    """
    AUC to be expected of a probability (n,) that is right: over all pairs, weighted by how likely they are in order.

    Pairs of a case with itself are left out, ties count half; NaN where no pair of both classes is possible.
    """
    p = np.asarray(probability, dtype=np.float64)
    values, place = np.unique(p, return_inverse=True)
    yes, no = np.bincount(place, p, len(values)), np.bincount(place, 1 - p, len(values))
    itself = float(p @ (1 - p))
    pairs = float(yes.sum() * no.sum()) - itself
    in_order = float(yes @ (np.cumsum(no) - no / 2)) - itself / 2
    return in_order / pairs if pairs > 1e-12 else NAN


def gap(
    probability: npt.ArrayLike,
    truth: npt.ArrayLike,
    chosen: npt.ArrayLike | None = None,
    *,
    patients: npt.ArrayLike | None = None,
    level: float = 0.95,
) -> Gap:
    """
    How far the estimate was off, on cases that have a label by now; the variance is that of patients' sums.

    Args:
        probability, chosen, patients: as of `estimated`; (n, k), (n,) and (n,).
        truth: (n,) true class, 0 ... k - 1.
    Returns:
        Limits and p NaN with fewer than LEAST patients.
    """
    p, said = _pair(probability, chosen)
    n = len(p)
    number = Patients(blocks_of(patients, n)).number
    hit = said == np.asarray(truth)
    promised = p[np.arange(n), said]
    if n == 0:
        return Gap(*(NAN,) * 6, 0, 0)
    off = hit - promised
    value, sums = float(off.mean()), np.bincount(number, off - off.mean())
    count = len(sums)
    low = high = p_value = NAN
    if count >= LEAST:
        sd = float((sums**2).sum() * count / (count - 1)) ** 0.5 / n
        half = float(ndtri(0.5 + level / 2)) * sd
        low, high = value - half, value + half
        p_value = 2 * float(ndtr(-abs(value) / sd)) if sd > 0 else NAN
    return Gap(float(hit.mean()), float(promised.mean()), value, low, high, p_value, n, count)


def _pair(probability: npt.ArrayLike, chosen: npt.ArrayLike | None) -> tuple[Floats, npt.NDArray[np.int64]]:
    p = np.asarray(probability, dtype=np.float64)
    if p.ndim != 2 or not (np.isfinite(p).all() and ((p >= 0) & (p <= 1)).all()):
        raise ValueError("estimated performance: not a table of probabilities")
    said = np.asarray(p.argmax(axis=1) if chosen is None else chosen, dtype=np.int64)
    if said.shape != (len(p),) or ((said < 0) | (said >= p.shape[1])).any():
        raise ValueError("estimated performance: a chosen class missing, or none of the k")
    return p, said
