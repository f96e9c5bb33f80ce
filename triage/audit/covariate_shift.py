"""Does each class still look as it did? The reference drawn again in the current mix, against the current window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from triage.audit.bootstrap import NAN, Floats, Rows
from triage.audit.embedding_drift import MOST, Classifier, Kernel, classifier, kernel
from triage.audit.label_delay import effective_size
from triage.audit.two_samples import LEAST

CLIP = 20.0
"""A reference case stands for at most this many current ones."""
LEAST_SUPPORT = 0.5
"""Mean density ratio, which should be 1, below which the reference has too few cases like the current ones."""


@dataclass(frozen=True, eq=False)
class CovariateShift:
    """
    Images of the current window against images of the reference in the same mix of classes.

    Attributes:
        p: twice the smaller of the two tests' p, so that both may be looked at.
        rows: of the reference, those drawn for the mix.
        weight: (rows,) density ratio of each, by the classifier, clipped: how many current cases look like it.
        effective: how many equally weighted cases they are worth (Kish).
        support: mean weight, about 1 where the reference has cases like all current ones.
    """

    p: float
    kernel: Kernel
    classifier: Classifier
    rows: Rows
    weight: Floats
    effective: float
    support: float

    @property
    def is_supported(self) -> bool:
        """Whether the weighted reference can stand for the current window."""
        return self.effective >= LEAST and self.support >= LEAST_SUPPORT


def covariate_shift(
    embedding: npt.ArrayLike,
    truth: npt.ArrayLike,
    current: npt.ArrayLike,
    shares: npt.ArrayLike,
    *,
    blocks: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    most: int = MOST,
    draws: int = 500,
    seed: int = 1,
) -> CovariateShift:
    """
    Test whether images have changed other than by the mix of classes.

    Args:
        embedding, truth: (n, d) and (n,) of the reference, all labelled.
        current: (m, d).
        shares: (k,) of the classes in the current window, as `label_shift` found them.
        blocks: (n,) and (m,) the patient or day of each row; none given, rows are independent.
        most: rows of a window that are looked at.
    Returns:
        p, weights and what they are worth are NaN where too few cases are left for a test.
    """
    x, y = np.asarray(embedding, dtype=np.float64), np.asarray(truth, dtype=np.int64)
    rows = in_the_mix(y, shares, most, seed)
    kept = None if blocks is None else (np.asarray(blocks[0])[rows], blocks[1])
    by_kernel = kernel(x[rows], current, blocks=kept, most=most, draws=draws, seed=seed)
    by_classifier = classifier(x[rows], current, blocks=kept, most=most, draws=draws, seed=seed)
    if not np.isfinite(by_kernel.p + by_classifier.p):
        return CovariateShift(NAN, by_kernel, by_classifier, rows, np.full(len(rows), NAN), NAN, NAN)
    n, m = len(by_classifier.reference_rows), len(by_classifier.current_rows)
    weight = np.clip(np.exp(by_classifier.score[:n]) * n / m, 1 / CLIP, CLIP)
    p = min(1.0, 2 * min(by_kernel.p, by_classifier.p))
    return CovariateShift(p, by_kernel, by_classifier, rows, weight, effective_size(weight), float(weight.mean()))


def in_the_mix(truth: npt.ArrayLike, shares: npt.ArrayLike, most: int, seed: int) -> Rows:
    """
    Row numbers, ascending, of cases drawn without replacement so that the classes have *shares* (k,).

    As many as the class that is scarcest for its share allows, *most* at most. Counts are rounded: the mix is met as
    closely as can be, while that of the window it is met for was random, which makes a test err on the safe side.
    """
    y, q = np.asarray(truth), np.asarray(shares, dtype=np.float64)
    has = np.bincount(y, minlength=len(q))
    total = min(float(most), float(np.min(has[q > 0] / q[q > 0])))
    counts = np.minimum(np.round(total * q).astype(np.int64), has)
    while counts.sum() > most:  # rounding may add one or two, and more rows than *most* would be drawn from again
        counts[counts.argmax()] -= 1
    rng = np.random.default_rng(seed)
    drawn = [rng.choice(np.flatnonzero(y == k), size=n, replace=False) for k, n in enumerate(counts)]
    return np.sort(np.concatenate(drawn))
