"""Each reader's figure of merit in each modality, and the same figure with one case at a time left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from triage.audit.bootstrap import NAN, Floats
from triage.audit.performance import components
from triage.audit.ratings import Ratings
from triage.audit.reader_table import Flags, Grid


@dataclass(frozen=True, eq=False)
class Figures:
    """
    A figure of merit by reader and modality.

    Attributes:
        value: (modalities, readers); NaN where it is not defined.
        without: (modalities, readers, cases) the figure without that case; where the case was not read, the value.
        is_read: (modalities, readers, cases).
    """

    value: Floats
    without: Floats
    is_read: Flags


def areas(ratings: Ratings) -> Figures:
    """AUCs by ranks, ties counting half; NaN where a reader read no positive or no negative case."""
    return _by_reader(ratings.is_read, lambda m, r, read: _area(ratings.score[m, r, read], ratings.is_positive[read]))


def accuracy(grid: Grid) -> Figures:
    """Shares of right choices among the classes."""

    def of(m: int, r: int, read: Flags) -> tuple[float, Floats]:
        hit = (grid.response[m, r, read] == grid.truth[read]).astype(np.float64)
        return float(hit.mean()), _without_one(hit)

    return _by_reader(grid.is_read, of)


def hand_till(grid: Grid) -> Figures:
    """Hand & Till's M of the scores, as `performance.hand_till`; NaN where a class is missing among the cases read."""
    pairs = list(permutations(range(grid.score.shape[-1]), 2))

    def of(m: int, r: int, read: Flags) -> tuple[float, Floats]:
        score, truth = grid.score[m, r, read], grid.truth[read]
        values, without = np.empty(len(pairs)), np.empty((len(pairs), len(truth)))
        for place, (i, j) in enumerate(pairs):
            either = (truth == i) | (truth == j)
            values[place], less = _area(score[either, i], truth[either] == i)
            without[place] = values[place]
            without[place, either] = less
        return float(values.mean()), without.mean(axis=0)

    return _by_reader(grid.is_read, of)


def _by_reader(is_read: Flags, of: Callable[[int, int, Flags], tuple[float, Floats]]) -> Figures:
    """*of* gives the figure of one reader in one modality on the cases read, and without each of these."""
    value, without = np.full(is_read.shape[:2], NAN), np.full(is_read.shape, NAN)
    for m, r in np.ndindex(*value.shape):
        read = is_read[m, r]
        if read.any():
            value[m, r], less = of(m, r, read)
            without[m, r] = value[m, r]
            without[m, r, read] = less
    return Figures(value, without, is_read)


def _area(score: Floats, positive: Flags) -> tuple[float, Floats]:
    """The area, and without each case: it is the mean of the components of either class, so the rest's mean."""
    found = components(score, positive)
    without = np.full(len(score), NAN)
    if not np.isnan(found.area[0]):
        without[positive] = _without_one(found.positives[0])
        without[~positive] = _without_one(found.negatives[0])
    return float(found.area[0]), without


def _without_one(x: Floats) -> Floats:
    """Means of all but one of *x* (n,)."""
    return (x.sum() - x) / (len(x) - 1) if len(x) > 1 else np.full(len(x), NAN)
