"""
Logits become probabilities: a temperature and a bias for each class, fitted on held-out patients.

Bias-corrected temperature scaling (Alexandari et al. 2020). The fit gives every class the same weight, so the
probabilities hold where the three classes are equally frequent; a site's own share of each shifts the true ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

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
    logits: Floats,
    labels: npt.NDArray[np.integer],
    temperature: float = 1.0,
    bias: Sequence[float] | None = None,
    weights: Floats | None = None,
) -> float:
    """
    Mean negative log-likelihood.

    Args:
        labels: (n,) class indices; the number of classes itself says: any class but the first.
        weights: (n,) how much each case counts; by default every class weighs the same however many cases it has.
    """
    said = probabilities(logits, temperature, bias)
    own = np.column_stack([said, said[:, 1:].sum(axis=1)])[np.arange(len(labels)), labels]
    loss = -np.log(np.maximum(own, 1e-12))
    if weights is None:
        return float(np.mean([loss[labels == k].mean() for k in np.unique(labels)]))
    return float(np.average(loss, weights=weights))


def fit(
    logits: Floats, labels: npt.NDArray[np.integer], weights: Floats | None = None
) -> tuple[float, tuple[float, ...]]:
    """The temperature in [0.05, 20] and the bias (summing to zero) with the least `log_loss`."""

    def loss(x: npt.NDArray[np.float64]) -> float:
        bias = x[1:] - x[1:].mean()
        return log_loss(logits, labels, float(np.exp(x[0])), bias, weights) + BIAS_PENALTY * float(bias @ bias)

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
