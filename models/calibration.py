"""Logits become probabilities: one temperature, fitted on held-out patients (Guo et al. 2017)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

Floats = npt.NDArray[np.floating]


def probabilities(logits: Floats, temperature: float) -> npt.NDArray[np.float64]:
    """(n, classes) probabilities that sum to 1."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    odds = np.exp(scaled)
    result: npt.NDArray[np.float64] = odds / odds.sum(axis=1, keepdims=True)
    return result


def log_loss(logits: Floats, labels: npt.NDArray[np.integer], temperature: float = 1.0) -> float:
    """Mean negative log-likelihood, every class weighing the same however many cases it has."""
    own = probabilities(logits, temperature)[np.arange(len(labels)), labels]
    loss = -np.log(np.maximum(own, 1e-12))
    return float(np.mean([loss[labels == k].mean() for k in np.unique(labels)]))


def fit_temperature(logits: Floats, labels: npt.NDArray[np.integer]) -> float:
    """The temperature in [0.05, 20] with the least class-balanced log loss."""
    found = minimize_scalar(
        lambda log_t: log_loss(logits, labels, float(np.exp(log_t))),
        bounds=(np.log(0.05), np.log(20)),
        method="bounded",
    )
    return float(np.exp(found.x))


def threshold_for_sensitivity(probability: Floats, is_positive: npt.NDArray[np.bool_], sensitivity: float) -> float:
    """The highest threshold at which at least *sensitivity* of the positives are at or above it."""
    positives = np.sort(np.asarray(probability, dtype=np.float64)[is_positive])[::-1]
    if len(positives) == 0:
        raise ValueError("no positive case to set a threshold on")
    needed = int(np.ceil(sensitivity * len(positives) - 1e-9))
    return float(positives[max(needed, 1) - 1])
