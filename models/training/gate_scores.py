"""Ways to say how unfamiliar an embedding is, beside each other: the gate's, and distance to the nearest neighbours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from models.gate import KNOWN_PERCENTILE, Familiarity
from models.training.figures import area
from models.training.gate_readings import Seen

Floats = npt.NDArray[np.float64]
LEAST_IMAGES = 10
"""A set with fewer pictures that pass the lung gate has no curve of its own."""
POOLED = "all of these"
POINTS = 60
"""Of a drawn curve."""


class Score(Protocol):
    """Higher is stranger."""

    def score(self, embeddings: npt.NDArray[np.floating]) -> Floats:
        """(n,) for (n, features)."""


class Neighbours:
    """
    Distance to the k-th nearest training image (Sun et al. 2022).

    On embeddings of unit length, or in the leading principal components, whitened.
    """

    def __init__(self, known: npt.NDArray[np.floating], k: int = 10, components: int | None = None) -> None:
        x = np.asarray(known, dtype=np.float64)
        self.k = min(k, len(x))
        self.mean, self.whitening = np.zeros(x.shape[1]), None
        if components is not None:
            self.mean = x.mean(0)
            _, singular, directions = np.linalg.svd(x - self.mean, full_matrices=False)
            kept = min(components, int((singular > 1e-9 * singular[0]).sum()))
            self.whitening = (directions[:kept] / (singular[:kept, None] / np.sqrt(len(x)))).T
        self.known = self._placed(x)

    def score(self, embeddings: npt.NDArray[np.floating]) -> Floats:
        """(n,) distance."""
        x = self._placed(np.asarray(embeddings, dtype=np.float64))
        squares = (x**2).sum(1)[:, None] + (self.known**2).sum(1)[None] - 2 * x @ self.known.T
        nearest = np.partition(squares, self.k - 1, axis=1)[:, self.k - 1]
        distance: Floats = np.sqrt(np.maximum(nearest, 0))
        return distance

    def _placed(self, x: Floats) -> Floats:
        placed: Floats
        if self.whitening is None:
            placed = x / np.linalg.norm(x, axis=1, keepdims=True)
        else:
            placed = (x - self.mean) @ self.whitening
        return placed


Fit = Callable[[npt.NDArray[np.floating], npt.NDArray[np.integer]], Score]
THE_GATE = "Mahalanobis, 24 components (the gate)"
KINDS: Mapping[str, Fit] = {
    THE_GATE: lambda x, y: Familiarity.fit(x, y),
    "Mahalanobis, 64 components": lambda x, y: Familiarity.fit(x, y, components=64),
    "10th neighbour, unit length": lambda x, _: Neighbours(x),
    "10th neighbour, 64 whitened": lambda x, _: Neighbours(x, components=64),
}


def compared(
    embeddings: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
    known: Seen,
    strangers: Mapping[str, Seen],
) -> tuple[list[dict[str, Any]], dict[str, list[list[float]]]]:
    """
    AUROC of every kind of score, each set of strangers and all together against *known* held-out frontal adults.

    Only pictures that pass the lung gate: the others are refused whatever the score says.

    Returns:
        A card entry for each, with the `refused` at the kind's own `KNOWN_PERCENTILE`; and the pooled curves' points.
    """
    known = known.where(known.has_lungs)
    passing = {name: s.where(s.has_lungs) for name, s in strangers.items() if s.has_lungs.any()}
    found, curves = [], {}
    for kind, fit in KINDS.items():
        scorer = fit(embeddings, labels)
        usual = scorer.score(known.embedding)
        limit = float(np.percentile(usual, KNOWN_PERCENTILE))
        by_set = {name: scorer.score(s.embedding) for name, s in passing.items()}
        patients = {name: [str(p) for p in s.patients] for name, s in passing.items()}
        if not by_set:
            continue
        pooled = np.concatenate(list(by_set.values()))
        by_set[POOLED], patients[POOLED] = pooled, list(chain.from_iterable(patients.values()))
        for name, strange in by_set.items():
            if len(strange) >= LEAST_IMAGES:
                whose = [*(str(p) for p in known.patients), *patients[name]]
                figure = area(kind, name, np.concatenate([usual, strange]), _second(usual, strange), whose)
                found.append(figure | {"n": len(strange), "refused": int((strange > limit).sum())})
        curves[kind] = curve(usual, pooled)
    return found, curves


def left_out_refusals(
    embeddings: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
    sources: Sequence[str],
    held_out: npt.NDArray[np.floating],
    held_out_sources: Sequence[str],
) -> list[dict[str, Any]]:
    """Fitted to all sources but one: how many frontal adults of that one are refused at the others' limit."""
    trained, other = np.asarray(sources), np.asarray(held_out_sources)
    found: list[dict[str, Any]] = []
    for source in np.unique(trained):
        kept, known = trained != source, other != source
        if not kept.any() or not known.any():
            continue
        strangers = np.concatenate([embeddings[~kept], held_out[~known]])
        for kind, fit in KINDS.items():
            scorer = fit(embeddings[kept], labels[kept])
            limit = float(np.percentile(scorer.score(held_out[known]), KNOWN_PERCENTILE))
            refused = int((scorer.score(strangers) > limit).sum())
            found.append({"kind": kind, "source": str(source), "refused": refused, "n": len(strangers)})
    return found


def curve(usual: Floats, strange: Floats) -> list[list[float]]:
    """Points (share of usual pictures refused, share of strange ones refused), from no limit to the lowest."""
    limits = np.quantile(np.concatenate([usual, strange]), np.linspace(1, 0, POINTS))
    return [[round(float((usual > at).mean()), 4), round(float((strange > at).mean()), 4)] for at in limits] + [[1, 1]]


def _second(first: Floats, second: Floats) -> npt.NDArray[np.bool_]:
    return np.concatenate([np.zeros(len(first), dtype=bool), np.ones(len(second), dtype=bool)])
