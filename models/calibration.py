"""
Logits become probabilities: a temperature and a bias for each class, fitted on held-out patients.

Bias-corrected temperature scaling (Alexandari et al. 2020). The fit gives every class the same weight, so the
probabilities hold where the three classes are equally frequent; a site's own share of each shifts the true ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, logit

Floats = npt.NDArray[np.floating]
Truths = npt.NDArray[np.bool_]
PRIOR = "each class weighs the same"
BIAS_PENALTY = 1e-3
"""Keeps the bias finite where the held-out classes can be parted without an error."""


def probabilities(logits: Floats, temperature: float, bias: Sequence[float] | None = None) -> npt.NDArray[np.float64]:
    """(n, classes) probabilities that sum to 1: softmax of logits / temperature + bias."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    if bias is not None:
        scaled = scaled + np.asarray(bias, dtype=np.float64)
    scaled = scaled - scaled.max(axis=1, keepdims=True)
    odds = np.exp(scaled)
    result: npt.NDArray[np.float64] = odds / odds.sum(axis=1, keepdims=True)
    return result


def log_loss(
    logits: Floats, labels: npt.NDArray[np.integer], temperature: float = 1.0, bias: Sequence[float] | None = None
) -> float:
    """Mean negative log-likelihood, every class weighing the same however many cases it has."""
    own = probabilities(logits, temperature, bias)[np.arange(len(labels)), labels]
    loss = -np.log(np.maximum(own, 1e-12))
    return float(np.mean([loss[labels == k].mean() for k in np.unique(labels)]))


def fit(logits: Floats, labels: npt.NDArray[np.integer]) -> tuple[float, tuple[float, ...]]:
    """The temperature in [0.05, 20] and the bias (summing to zero) with the least class-balanced log loss."""

    def loss(x: npt.NDArray[np.float64]) -> float:
        bias = x[1:] - x[1:].mean()
        return log_loss(logits, labels, float(np.exp(x[0])), bias) + BIAS_PENALTY * float(bias @ bias)

    classes = logits.shape[1]
    limits = [(np.log(0.05), np.log(20)), *[(-5.0, 5.0)] * classes]
    found = minimize(loss, np.zeros(1 + classes), method="L-BFGS-B", bounds=limits)
    bias = found.x[1:] - found.x[1:].mean()
    return float(np.exp(found.x[0])), tuple(float(b) for b in bias)


def threshold_for_sensitivity(probability: Floats, is_positive: Truths, sensitivity: float) -> float:
    """The highest threshold at which at least *sensitivity* of the positives are at or above it."""
    positives = np.sort(np.asarray(probability, dtype=np.float64)[is_positive])[::-1]
    if len(positives) == 0:
        raise ValueError("no positive case to set a threshold on")
    needed = int(np.ceil(sensitivity * len(positives) - 1e-9))
    return float(positives[max(needed, 1) - 1])


def brier(probability: Floats, labels: npt.NDArray[np.integer]) -> float:
    """Mean squared distance to the truth over all classes: 0 is perfect, 2 always and surely wrong."""
    truth = np.eye(probability.shape[1])[labels]
    return float(((probability - truth) ** 2).sum(1).mean())


def slope_and_intercept(probability: Floats, is_positive: Truths) -> tuple[float, float]:
    """
    How one class's probabilities must be bent to fit (Cox 1958).

    Returns:
        The slope of a logistic regression on their logit (1 is right, below 1 too extreme), and the intercept with
        the slope held at 1 (0 is right, below 0 too high on the whole). NaN where one side is missing.
    """
    if is_positive.all() or not is_positive.any():
        return float("nan"), float("nan")
    x = logit(np.clip(np.asarray(probability, dtype=np.float64), 1e-6, 1 - 1e-6))

    sloped = _newton(np.stack([np.ones_like(x), x], axis=1), np.zeros_like(x), is_positive)
    shifted = _newton(np.ones((len(x), 1)), x, is_positive)
    return float(sloped[1]), float(shifted[0])


def _newton(features: Floats, offset: Floats, is_positive: Truths) -> npt.NDArray[np.float64]:
    """Coefficients of a logistic regression; a trace of ridge keeps them finite where the sides can be parted."""
    found = np.zeros(features.shape[1])
    ridge = 1e-4 * np.eye(len(found))
    for _ in range(30):
        said = expit(offset + features @ found)
        pull = features.T @ (said - is_positive) + ridge @ found
        bend = (features * (said * (1 - said))[:, None]).T @ features + ridge
        step = np.clip(np.linalg.solve(bend, pull), -2, 2)
        found = found - step
        if np.abs(step).max() < 1e-9:
            break
    return found


@dataclass(frozen=True)
class Bin:
    """Cases of like probability: how many, what was said on average, and how many were truly positive."""

    n: int
    said: float
    hits: int


def bins(probability: Floats, is_positive: Truths, count: int = 10) -> list[Bin]:
    """Equally filled bins in order of the probability; at most *count*, each with two cases or more."""
    order = np.argsort(probability, kind="stable")
    parts = np.array_split(order, max(1, min(count, len(order) // 2)))
    return [Bin(len(p), float(probability[p].mean()), int(is_positive[p].sum())) for p in parts if len(p)]


def calibration_error(probability: Floats, is_positive: Truths, count: int = 10) -> float:
    """Root mean squared gap between said and seen over *bins*, less what chance alone adds (Kumar et al. 2019)."""
    total = 0.0
    for part in bins(probability, is_positive, count):
        seen = part.hits / part.n
        by_chance = seen * (1 - seen) / max(part.n - 1, 1)
        total += part.n * ((part.said - seen) ** 2 - by_chance)
    return float(np.sqrt(max(total / len(probability), 0.0)))
