"""All that attribution asks of two windows, as figures of some of their rows, so that one bootstrap serves them all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from triage.audit.bootstrap import NAN, Floats, Rows
from triage.audit.label_shift import em, expected_share
from triage.audit.recalibration import Recalibration, adjusted, fitted
from triage.audit.resampling import at_most, blocks_of

UNKNOWN = -1
"""Truth of a case without a label."""
SCALARS = ("expected", "realised", "gap", "loss by labels", "loss by images", "loss by probabilities")


@dataclass(frozen=True, eq=False)
class Window:
    """
    Cases of a period.

    Attributes:
        probability: (n, k) of the service.
        truth: (n,) class 0 ... k - 1; any other number for a case without such a label. Those with one must be a fair
            sample of the window, such as a mature cohort: labels that come early are not.
        embedding: (n, d) few numbers of each image.
        blocks: (n,) the patient or day; none given, cases are independent.
    """

    probability: npt.ArrayLike
    truth: npt.ArrayLike
    embedding: npt.ArrayLike
    blocks: npt.ArrayLike | None = None


class Cases:
    """A window's arrays, at most so many rows drawn at random."""

    def __init__(self, window: Window, most: int, seed: int) -> None:
        """Raises ValueError where arrays differ in length or a probability is none."""
        p = np.asarray(window.probability, dtype=np.float64)
        truth, embedding = np.asarray(window.truth, dtype=np.int64), np.asarray(window.embedding, dtype=np.float64)
        if p.ndim != 2 or truth.shape != (len(p),) or len(embedding) != len(p):
            raise ValueError(f"window: {p.shape} probabilities, {truth.shape} truths, {embedding.shape} embedding")
        if not ((p >= 0) & (p <= 1)).all():
            raise ValueError("window: a probability outside 0 ... 1")
        blocks = blocks_of(window.blocks, len(p))
        rows = at_most(most, len(p), seed)
        self.probability, self.truth, self.embedding, self.blocks = p[rows], truth[rows], embedding[rows], blocks[rows]
        self.has_blocks = window.blocks is not None
        self.is_labelled = (self.truth >= 0) & (self.truth < p.shape[1])
        self.said = self.probability.argmax(axis=1)

    def __len__(self) -> int:
        return len(self.truth)


class Figures:
    """
    The figures of rows of both windows; call it with their numbers.

    In this order: shares of the k classes in the reference; in the current window by expectation-maximisation; how
    recalibrating labelled cases, corrected for the mix, differs from recalibrating the reference weighted to the mix
    (k: intercepts but the first, slope; NaN where labels lack a class); then SCALARS:

    - expected: share right in the reference, weighted to the current mix;
    - realised: share right of labelled cases, and gap: that less what corrected probabilities promised of them;
    - loss by labels: realised falls short of the share right in the reference weighted to the mix of the labels;
    - loss by images: the share right in the reference, weighted as its images ask for, falls short of that without
      (NaN while `weight` is unset);
    - loss by probabilities: what corrected probabilities promise of all current cases falls short of expected.
    """

    def __init__(self, reference: Cases, current: Cases) -> None:
        self.reference, self.current = reference, current
        self.classes: int = reference.probability.shape[1]
        self.hit = (reference.said == reference.truth).astype(np.float64)
        self.weight = np.zeros(len(reference))
        """(reference,) density ratio; 0 leaves a row out."""
        self.fits: dict[str, Recalibration] = {}
        self(np.arange(len(reference)), np.arange(len(current)))

    def __call__(self, r: Rows, c: Rows) -> Floats:
        """(3 k + 6,) of the reference's rows *r* and the current window's rows *c*."""
        truth, hit, said = self.reference.truth[r], self.hit[r], self.current.said[c]
        before = self._shares(truth)
        model = self._fitted("reference", self.reference.probability[r], truth)
        calibrated = model.of(self.current.probability[c])
        after = em(calibrated, before)
        ratio = _ratio(after, before)
        corrected = adjusted(calibrated, ratio)
        promised = corrected[np.arange(len(c)), said]
        expected = expected_share(hit, truth, ratio)

        labels, is_labelled = self.current.truth[c], self.current.is_labelled[c]
        labels = labels[is_labelled]
        realised = gap = by_labels = NAN
        deviation = np.full(self.classes, NAN)
        if len(labels):
            realised = float((said[is_labelled] == labels).mean())
            gap = realised - float(promised[is_labelled].mean())
            by_labels = expected_share(hit, truth, _ratio(self._shares(labels), before)) - realised
        if len(labels) and np.bincount(labels, minlength=self.classes).all():
            usual = adjusted(model.of(self.reference.probability[r]), ratio)
            deviation = (
                self._fitted("current", corrected[is_labelled], labels).coefficients
                - self._fitted("mixed", usual, truth, ratio[truth]).coefficients
            )
        by_probabilities = expected - float(promised.mean())
        scalars = (expected, realised, gap, by_labels, self._by_images(r), by_probabilities)
        return np.concatenate([before, after, deviation, scalars])

    def _by_images(self, r: Rows) -> float:
        weight, hit = self.weight[r], self.hit[r]
        matched = weight > 0
        return float(hit[matched].mean() - weight @ hit / weight.sum()) if matched.any() else NAN

    def _shares(self, truth: npt.NDArray[np.int64]) -> Floats:
        return np.bincount(truth, minlength=self.classes) / len(truth)

    def _fitted(
        self, name: str, p: Floats, truth: npt.NDArray[np.int64], weight: Floats | None = None
    ) -> Recalibration:
        """Begun at the first fit of that name, the one of all rows: draws of them are not far from it."""
        found = fitted(p, truth, weight, near=self.fits.get(name))
        self.fits.setdefault(name, found)
        return found


def _ratio(after: Floats, before: Floats) -> Floats:
    return np.divide(after, before, out=np.zeros_like(before), where=before > 0)
