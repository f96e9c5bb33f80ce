"""How frequent has each class become, if each still looks as it did? Prevalence without a label, and what follows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from triage.audit.bootstrap import NAN, Floats, Rows
from triage.audit.operating import confusion, weighted_area
from triage.audit.recalibration import fitted
from triage.audit.resampling import Windows, at_most, blocks_of, limits, wald_p
from triage.audit.subgroups import LEAST as LEAST_OF_CLASS

LEAST = 30
"""Current cases below which nothing is said."""
ROWS = 5000
"""Rows of a window that are looked at; more would say hardly more of so few shares."""
STEPS, CLOSE = 500, 1e-8


@dataclass(frozen=True, eq=False)
class LabelShift:
    """
    Class shares of the current window, as its probabilities tell.

    Attributes:
        reference: (k,) class shares of the reference.
        current, low, high: (k,) by expectation-maximisation, with its bootstrap interval over both windows.
        by_confusion, by_confusion_low, by_confusion_high: (k,) by black box shift estimation, which may leave 0 ... 1.
        condition: condition number of that method's matrix; the larger, the less its answer is worth.
        p: of no change of the shares (Wald, over the bootstrap's covariance).
        reference_cases, current_cases: looked at. Everything but counts is NaN with fewer than LEAST_OF_CLASS cases of
            a class in the reference or LEAST current ones.
    """

    reference: Floats
    current: Floats
    low: Floats
    high: Floats
    by_confusion: Floats
    by_confusion_low: Floats
    by_confusion_high: Floats
    condition: float
    p: float
    reference_cases: int
    current_cases: int
    draws: int
    seed: int

    @property
    def ratio(self) -> Floats:
        """(k,) how many times as frequent each class has become."""
        return self.current / self.reference


def label_shift(
    probability: npt.ArrayLike,
    truth: npt.ArrayLike,
    current: npt.ArrayLike,
    *,
    blocks: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    draws: int = 500,
    seed: int = 1,
    level: float = 0.95,
) -> LabelShift:
    """
    Class shares of a window without labels; right only if each class still looks as it did in the reference.

    The probabilities are recalibrated on the reference first, and anew in every draw.

    Args:
        probability, truth: (n, k) and (n,) of the reference, all labelled.
        current: (m, k).
        blocks: (n,) and (m,) the patient or day of each row; none given, rows are independent.
    """
    given = (None, None) if blocks is None else blocks
    p, y, q = (np.asarray(v) for v in (probability, truth, current))
    of_reference, of_current = blocks_of(given[0], len(p)), blocks_of(given[1], len(q))
    first, second = at_most(ROWS, len(p), seed), at_most(ROWS, len(q), seed)
    p, y, q = p[first].astype(np.float64), y[first].astype(np.int64), q[second].astype(np.float64)
    k = p.shape[1]
    if not is_enough(y, len(q), k):
        nothing = np.full(k, NAN)
        return LabelShift(*(nothing,) * 7, NAN, NAN, len(p), len(q), 0, seed)

    whole = fitted(p, y)

    def figures(r: Rows, c: Rows) -> Floats:
        model = fitted(p[r], y[r], near=whole)
        shares = np.bincount(y[r], minlength=k) / len(r)
        found = em(model.of(q[c]), shares)
        of_confusion, _ = bbse(p[r].argmax(axis=1), y[r], q[c].argmax(axis=1), k)
        return np.concatenate([found, of_confusion, found - shares])

    everything = figures(np.arange(len(p)), np.arange(len(q)))
    drawn = Windows(of_reference[first], of_current[second]).redrawn(figures, draws, seed)
    low, high = np.array([limits(column, level) for column in drawn.T]).T
    _, condition = bbse(p.argmax(axis=1), y, q.argmax(axis=1), k)
    return LabelShift(
        np.bincount(y, minlength=k) / len(y), everything[:k], low[:k], high[:k],
        everything[k : 2 * k], low[k : 2 * k], high[k : 2 * k],
        condition, wald_p(everything[2 * k : -1], drawn[:, 2 * k : -1]), len(p), len(q), draws, seed,
    )  # fmt: skip


def is_enough(truth: npt.NDArray[np.int64], current: int, classes: int) -> bool:
    """Whether the reference has LEAST_OF_CLASS cases of each class and the current window LEAST."""
    return current >= LEAST and bool((np.bincount(truth, minlength=classes) >= LEAST_OF_CLASS).all())


def em(probability: npt.ArrayLike, reference: npt.ArrayLike) -> Floats:
    """
    Likeliest class shares (k,) by expectation-maximisation (Saerens, Latinne & Decaestecker, Neural Computation 2002).

    Args:
        probability: (n, k) calibrated where class shares are *reference* (k,), all above 0.
    """
    before = np.asarray(reference, dtype=np.float64)
    ratio = np.asarray(probability, dtype=np.float64) / before
    q = before / before.sum()
    for _ in range(STEPS):
        once = _em_step(q, ratio)
        twice = _em_step(once, ratio)
        step, turn = once - q, twice - 2 * once + q
        size = float(np.abs(turn).max())
        # extrapolated along the path, where that stays inside (SQUAREM; Varadhan & Roland 2008); then one plain step
        stride = float(np.linalg.norm(step) / np.linalg.norm(turn)) if size > 1e-300 else 1.0
        ahead = q + 2 * stride * step + stride**2 * turn
        q = _em_step(ahead if stride > 1 and (ahead > 0).all() else twice, ratio)
        if np.abs(twice - once).max() < CLOSE:
            break
    found: Floats = q
    return found


def _em_step(q: Floats, ratio: Floats) -> Floats:
    found: Floats = q * (ratio.T @ (1 / (ratio @ q))) / len(ratio)
    return found


def bbse(chosen: npt.ArrayLike, truth: npt.ArrayLike, current: npt.ArrayLike, classes: int) -> tuple[Floats, float]:
    """
    Class shares (k,) by black box shift estimation (Lipton, Wang & Smola, ICML 2018), and the condition number.

    Args:
        chosen, truth: (n,) most probable and true class in the reference.
        current: (m,) most probable class.
    Returns:
        Shares that sum to 1 and may lie outside 0 ... 1; NaN and infinity where the matrix cannot be inverted.
    """
    joint = confusion(chosen, truth, classes).T / len(np.asarray(truth))
    condition = float(np.linalg.cond(joint))
    if not condition < 1e12:
        return np.full(classes, NAN), float("inf")
    said = np.bincount(np.asarray(current), minlength=classes) / len(np.asarray(current))
    found: Floats = np.linalg.solve(joint, said) * joint.sum(axis=0)
    return found, condition


def expected_share(hit: npt.ArrayLike, truth: npt.ArrayLike, ratio: npt.ArrayLike) -> float:
    """Mean of *hit* (n,), such as being right, were class k *ratio* (k,) times as frequent and nothing else changed."""
    weight = np.asarray(ratio, dtype=np.float64)[np.asarray(truth, dtype=np.int64)]
    total = float(weight.sum())
    return float(weight @ np.asarray(hit, dtype=np.float64)) / total if total > 0 else NAN


def expected_areas(probability: npt.ArrayLike, truth: npt.ArrayLike, ratio: npt.ArrayLike) -> Floats:
    """AUC (k,) of each class against the rest, likewise; only the mix of the rest can change one."""
    p, y = np.asarray(probability, dtype=np.float64), np.asarray(truth)
    weight = np.maximum(np.asarray(ratio, dtype=np.float64)[y], 0.0)
    return np.array([weighted_area(p[:, j], y == j, weight).value for j in range(p.shape[1])])
