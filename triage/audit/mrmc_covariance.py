"""How readers' figures covary over the drawing of cases, by DeLong, by the jackknife, and by Gallas without bias."""

from __future__ import annotations

from enum import StrEnum

import numpy as np

from triage.audit.bootstrap import NAN, Floats
from triage.audit.figures_of_merit import Figures
from triage.audit.performance import components
from triage.audit.ratings import Ratings
from triage.audit.reader_table import Flags


class Covariance(StrEnum):
    """How the covariance of the figures was estimated."""

    DELONG = "DeLong"
    JACKKNIFE = "jackknife"
    UNBIASED = "unbiased"


SHARED = ("positive and negative", "positive", "negative", "nothing")
"""What two kernel pairs, each a positive and a negative case, have in common: the moments M1 to M4 of Gallas (2006)."""
APART = np.array([[1, 0, 0, 0], [-1, 1, 0, 0], [-1, 0, 1, 0], [1, -1, -1, 1]], dtype=np.float64)
"""From sums over pairs that share at least so much to sums over pairs that share just that."""


def jackknife(figures: Figures) -> Floats:
    """
    Covariance of any figure of merit, (K - 1) / K times the products of what leaving out a case changes.

    K counts the cases that anyone read. A case is left out of the whole study, so the covariance of two readers rests
    on the cases both read.

    Returns:
        (modalities, readers, modalities, readers); NaN where the figure is undefined without some case.
    """
    read = figures.is_read.any(axis=(0, 1))
    without = figures.without[..., read]
    count = without.shape[-1]
    changed = without - without.mean(axis=-1, keepdims=True)
    flat = changed.reshape(-1, count)
    covariance: Floats = (flat @ flat.T * (count - 1) / count).reshape(changed.shape[:2] * 2)
    return covariance


def delong(ratings: Ratings) -> Floats:
    """
    Covariance of the AUCs (DeLong 1988); where readings are missing, from the cases that both readers read.

    Means of n_a and n_b components with n cases in common covary by n / (n_a n_b) times what two components of a case
    do, and this the n products of distances from the means give, less what estimating the means takes from them.
    With all readings made that is DeLong's.

    Returns:
        (modalities, readers, modalities, readers); NaN where a reader read one case of a class, or none.
    """
    shape = ratings.score.shape[:2]
    value = np.zeros(ratings.score.shape)
    defined = np.zeros(shape, dtype=np.bool_)
    positive = ratings.is_positive
    for m, r in np.ndindex(*shape):
        read = ratings.is_read[m, r]
        found = components(ratings.score[m, r, read], positive[read])
        if not np.isnan(found.area[0]):
            defined[m, r] = True
            value[m, r, read & positive] = found.positives[0] - found.area[0]
            value[m, r, read & ~positive] = found.negatives[0] - found.area[0]
    flat, made = value.reshape(-1, len(positive)), ratings.is_read.reshape(-1, len(positive))
    between = _of_means(flat[:, positive], made[:, positive]) + _of_means(flat[:, ~positive], made[:, ~positive])
    between[~defined.ravel()] = NAN
    between[:, ~defined.ravel()] = NAN
    return between.reshape(*shape, *shape)


def unbiased(ratings: Ratings) -> Floats:
    """
    Unbiased covariance of the AUCs from U-statistics, for any design (Gallas, Academic Radiology 13, 2006).

    The product of two areas, less the mean product of kernel pairs without a case in common: as such pairs are
    independent, that mean estimates the product of the two expectations. A variance may come out negative.

    Returns:
        (modalities, readers, modalities, readers); NaN where there are no such pairs: one case of a class.
    """
    shape = ratings.score.shape[:2]
    success, pairs = (products(kernel) for kernel in kernels(ratings))
    with np.errstate(divide="ignore", invalid="ignore"):
        covariance: Floats = success[-1] / pairs[-1] - (APART[-1] @ success) / (APART[-1] @ pairs)
    return covariance.reshape(*shape, *shape)


def kernels(ratings: Ratings) -> tuple[Floats, Floats]:
    """(c, negatives, positives): whether the positive scores higher, ties half; and whether both were read."""
    score = ratings.score.reshape(-1, ratings.score.shape[-1])
    x, y = score[:, None, ratings.is_positive], score[:, ~ratings.is_positive, None]
    made = ~(np.isnan(x) | np.isnan(y))
    # no comparison with NaN is true
    return (x > y) + 0.5 * (x == y), made.astype(np.float64)


def products(kernel: Floats) -> Floats:
    """(4, c * c) sums of products of two kernels over the pairs of kernel pairs that share at least SHARED[i]."""
    sums = (kernel.reshape(len(kernel), -1), kernel.sum(axis=1), kernel.sum(axis=2), kernel.sum(axis=(1, 2))[:, None])
    return np.array([(x @ x.T).ravel() for x in sums])


def _of_means(distance: Floats, read: Flags) -> Floats:
    """Covariance (c, c) of the rows' means; *distance* (c, n) from them is 0 where not *read*."""
    w = read.astype(np.float64)
    own, common = w.sum(axis=1), w @ w.T
    with np.errstate(divide="ignore", invalid="ignore"):
        kept = 1 - np.add.outer(1 / own, 1 / own) + common / np.multiply.outer(own, own)
        covariance = distance @ distance.T / np.multiply.outer(own, own) / np.where(kept > 1e-12, kept, NAN)
    # without a common case the two are independent
    return np.where((common == 0) & (np.multiply.outer(own, own) > 0), 0.0, covariance)
