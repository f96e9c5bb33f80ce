"""Softmax regression on features: what a linear reader makes of an embedding or of trivial image statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

Floats = npt.NDArray[np.floating]
PENALTY = 1e-2


@dataclass(frozen=True)
class Linear:
    """Standardised features times weights plus bias."""

    mean: npt.NDArray[np.float64]
    sd: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64]
    """(features, classes)."""
    bias: npt.NDArray[np.float64]

    def probabilities(self, features: Floats) -> npt.NDArray[np.float64]:
        """(n, classes) for (n, features)."""
        logits = (features - self.mean) / self.sd @ self.weights + self.bias
        odds = np.exp(logits - logits.max(1, keepdims=True))
        result: npt.NDArray[np.float64] = odds / odds.sum(1, keepdims=True)
        return result


def fit(
    features: Floats,
    labels: npt.NDArray[np.integer],
    weights: Floats | None = None,
    penalty: float = PENALTY,
    classes: int | None = None,
) -> Linear:
    """
    The weighted maximum-likelihood fit with a squared penalty, by L-BFGS; deterministic.

    Args:
        features: (n, features).
        labels: (n,) class indices; where *classes* is given, that number says: any class but the first.
        weights: (n,) how much each row counts; by default every class counts alike.
        classes: how many there are, where *labels* may lack one.
    """
    mean, sd = features.mean(0), features.std(0) + 1e-9
    x = torch.from_numpy(((features - mean) / sd).astype(np.float64))
    y = torch.from_numpy(labels.astype(np.int64))
    if weights is None:
        counts = np.bincount(labels)
        weights = 1.0 / counts[labels]
    w = torch.from_numpy(np.asarray(weights, dtype=np.float64) / np.sum(weights))
    n = classes or int(labels.max()) + 1
    matrix = torch.zeros(x.shape[1], n, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(n, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([matrix, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        said = torch.log_softmax(x @ matrix + bias, 1)
        said = torch.cat([said, torch.logsumexp(said[:, 1:], 1, keepdim=True)], 1)
        loss = (w * F.nll_loss(said, y, reduction="none")).sum() + penalty * matrix.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return Linear(mean, sd, matrix.detach().numpy(), bias.detach().numpy())


def cross_validated(
    features: Floats, labels: npt.NDArray[np.integer], patients: Sequence[str], parts: int = 5, seed: int = 1
) -> npt.NDArray[np.float64]:
    """(n, classes) probabilities, each from a fit that saw no image of that patient."""
    names, inverse = np.unique(np.asarray(patients), return_inverse=True)
    part = np.random.default_rng(seed).permutation(len(names))[inverse] % parts
    classes = int(labels.max()) + 1
    found = np.zeros((len(labels), classes))
    for k in range(parts):
        if (part == k).any():
            reader = fit(features[part != k], labels[part != k], classes=classes)
            found[part == k] = reader.probabilities(features[part == k])
    return found
