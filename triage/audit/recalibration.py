"""Probabilities of k classes made to mean what they say: one slope, an intercept a class, and another case mix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from triage.audit.bootstrap import Floats

NEAREST = 1e-6
SPREAD = 10.0
"""Standard deviation of a normal prior about (0, 1): without it, classes wholly apart would have no finite fit."""
STEPS, CLOSE = 50, 1e-4
"""Newton's error is squared with each step: the one after so short a step could change nothing."""


@dataclass(frozen=True, eq=False)
class Recalibration:
    """
    Logits slope * log p + intercept, of which softmax makes probabilities (bias-corrected temperature scaling).

    Attributes:
        intercept: (k,), the first 0.
    """

    slope: float
    intercept: Floats

    @property
    def coefficients(self) -> Floats:
        """(k,): the other classes' intercepts, then the slope."""
        return np.append(self.intercept[1:], self.slope)

    def of(self, probability: npt.ArrayLike) -> Floats:
        """Recalibrated probabilities (n, k)."""
        logits = self.slope * _log(probability) + self.intercept
        grown = np.exp(logits - logits.max(axis=1, keepdims=True))
        found: Floats = grown / grown.sum(axis=1, keepdims=True)
        return found

    def log_likelihood(self, probability: npt.ArrayLike, truth: npt.ArrayLike) -> float:
        """Of the true classes (n,), given *probability* (n, k) recalibrated."""
        return float(np.log(np.take_along_axis(self.of(probability), np.asarray(truth)[:, None], axis=1)).sum())


def unchanged(classes: int) -> Recalibration:
    """The recalibration that leaves everything as it is."""
    return Recalibration(1.0, np.zeros(classes))


def fitted(
    probability: npt.ArrayLike,
    truth: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    *,
    near: Recalibration | None = None,
) -> Recalibration:
    """
    The likeliest recalibration, by Newton's method (Alexandari, Kundaje & Shrikumar, ICML 2020, section 3).

    Its probabilities are, on average over the cases, the shares of the classes: what label shift starts from.

    Args:
        probability: (n, k); nearer than NEAREST to 0 they are moved there.
        truth: (n,) class, 0 ... k - 1.
        weight: (n,) how many cases each stands for.
        near: a fit to begin at, which saves time.
    Raises:
        ValueError: no case, or a class that is none of the k.
    """
    x, y = _log(probability), np.asarray(truth, dtype=np.int64)
    n, k = x.shape
    if y.shape != (n,) or n == 0:
        raise ValueError(f"recalibration: {y.shape} classes for {x.shape} probabilities")
    if y.min() < 0 or y.max() >= k:
        raise ValueError(f"recalibration: a class outside 0 ... {k - 1}")
    w = np.ones(n) if weight is None else np.asarray(weight, dtype=np.float64)
    is_class = np.arange(k) == y[:, None]
    at = (near or unchanged(k)).coefficients
    reached, gradient, information = _derivatives(at, x, is_class, w)
    for _ in range(STEPS):
        step = np.linalg.solve(information, gradient)
        there = _derivatives(at + step, x, is_class, w)
        while there[0] < reached - 1e-10 * abs(reached):
            step /= 2
            there = _derivatives(at + step, x, is_class, w)
        at, (reached, gradient, information) = at + step, there
        if np.abs(step).max() < CLOSE:
            break
    return Recalibration(float(at[-1]), np.append(0.0, at[:-1]))


def adjusted(probability: npt.ArrayLike, ratio: npt.ArrayLike) -> Floats:
    """Probabilities (n, k) where class k has become *ratio* (k,) times as frequent and looks as it did."""
    joint = np.asarray(probability, dtype=np.float64) * np.asarray(ratio, dtype=np.float64)
    found: Floats = joint / joint.sum(axis=1, keepdims=True)
    return found


def _log(probability: npt.ArrayLike) -> Floats:
    found: Floats = np.log(np.clip(np.asarray(probability, dtype=np.float64), NEAREST, 1.0))
    return found


def _derivatives(at: Floats, x: Floats, is_class: npt.NDArray[np.bool_], w: Floats) -> tuple[float, Floats, Floats]:
    """Log posterior density but for a constant, its gradient (k,), and minus its second derivatives (k, k)."""
    k = x.shape[1]
    logits = at[-1] * x
    logits[:, 1:] += at[:-1]
    logits -= logits.max(axis=1, keepdims=True)
    p = np.exp(logits)
    total = p.sum(axis=1)
    p /= total[:, None]
    off = at.copy()
    off[-1] -= 1.0
    value = float(w @ (logits[is_class] - np.log(total))) - float(off @ off) / (2 * SPREAD**2)
    left = (is_class - p) * w[:, None]
    gradient = np.empty(k)
    gradient[:-1] = left[:, 1:].sum(axis=0)
    gradient[-1] = np.vdot(left, x)
    weighted = p * w[:, None]
    mean = (p * x).sum(axis=1)
    information = np.eye(k) / SPREAD**2
    information[:-1, :-1] += np.diag(weighted[:, 1:].sum(axis=0)) - weighted[:, 1:].T @ p[:, 1:]
    cross = (weighted * (x - mean[:, None]))[:, 1:].sum(axis=0)
    information[:-1, -1] += cross
    information[-1, :-1] += cross
    information[-1, -1] += float(np.vdot(weighted, x**2) - w @ mean**2)
    return value, gradient - off / SPREAD**2, information
