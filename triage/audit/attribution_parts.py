"""What attribution measures of drift: the mix of classes, the images, and how labels follow the probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy.special import chdtrc, ndtr

from triage.audit.bootstrap import NAN, Floats
from triage.audit.covariate_shift import CovariateShift
from triage.audit.drift_figures import SCALARS, Figures
from triage.audit.recalibration import adjusted, fitted, unchanged
from triage.audit.resampling import limits, wald_p
from triage.audit.subgroups import LEAST as LEAST_OF_CLASS
from triage.audit.two_samples import LEAST


class Cause(StrEnum):
    """What drift is put down to."""

    CONCEPT = "concept"
    COVARIATE_WITH_LOSS = "covariate-with-performance-loss"
    PRIOR_ONLY = "prior-only"
    COVARIATE_BENIGN = "covariate-benign"
    COVARIATE_UNKNOWN = "covariate-performance-unknown"
    NONE = "none"


@dataclass(frozen=True)
class Figure:
    """A figure with its bootstrap limits; NaN where it cannot be given."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Prior:
    """
    How frequent each class has become, if each looks as it did.

    Attributes:
        reference, current: shares of the k classes.
        baseline: share right in the reference, and expected: that of the new mix, if nothing else has changed.
        p: of no change of the shares.
    """

    reference: tuple[float, ...]
    current: tuple[Figure, ...]
    baseline: float
    expected: Figure
    p: float


@dataclass(frozen=True, eq=False)
class Covariate:
    """
    Whether images look otherwise than the same mix of classes did.

    Attributes:
        images: the tests, the most novel cases and the weights.
        loss: by how much the share right falls short of what the mix alone would bring.
        loss_p: of a loss no larger than the tolerance; one-sided, normal.
        basis: what the loss was taken from. "labels"; or "images", the reference weighted to look like the window, the
            weights taken for known; or else "probabilities", which know nothing of images unlike all before.
        p: of no change of images; NaN where too few could be compared.
    """

    images: CovariateShift
    loss: Figure
    loss_p: float
    basis: str
    p: float

    def rules_out(self, drop: float) -> bool:
        """
        Whether labels rule out a loss larger than *drop*.

        Nothing else can: both other bases take for granted that a class is as likely as ever given the image, which
        images spoiled by a detector undo (called benign in more than half of simulated windows with a loss of 0.3).
        """
        return self.basis == "labels" and self.loss.high <= drop


@dataclass(frozen=True)
class Concept:
    """
    Whether labels follow the probabilities, once these are recalibrated on the reference and corrected for the mix.

    Attributes:
        intercepts, slope: of recalibrating once more on the labelled cases (k - 1, of the classes but the first), less
            those of the reference weighted to the mix: all 0 while labels follow the probabilities.
        likelihood_ratio, likelihood_p: of recalibrating against leaving as it is, k degrees of freedom (2 with two
            classes: intercept and slope), mix and calibration taken for known, so that its p is too small.
        gap: realised less promised share right.
        p: of no concept drift, with all that is uncertain in the bootstrap: twice the smaller of the p of coefficients
            and gap; the gap's alone with fewer than LEAST_OF_CLASS labels of a class; NaN with fewer than LEAST labels.
        is_beyond_images: the gap exceeds the share of cases whose images the classifier can tell from before; if only
            so many have changed and labels still went by the image, it could not.
    """

    labels: int
    intercepts: tuple[Figure, ...]
    slope: Figure
    likelihood_ratio: float
    likelihood_p: float
    realised: Figure
    gap: Figure
    p: float
    is_beyond_images: bool


class Drawn:
    """`Figures` of all rows and of bootstrap draws."""

    def __init__(self, figures: Figures, value: Floats, drawn: Floats, level: float) -> None:
        """*value* (f,), *drawn* (draws, f)."""
        self.figures, self.value, self.drawn, self.level, self.k = figures, value, drawn, level, figures.classes

    def prior(self) -> Prior:
        """The last class's share follows from the others', so p leaves it out."""
        k = self.k
        before, after = slice(0, k - 1), slice(k, 2 * k - 1)
        p = wald_p(self.value[after] - self.value[before], self.drawn[:, after] - self.drawn[:, before])
        shares = tuple(float(share) for share in self.value[:k])
        baseline = float(self.figures.hit.mean())
        return Prior(shares, tuple(self._at(k + i) for i in range(k)), baseline, self._named("expected"), p)

    def covariate(self, images: CovariateShift, tolerance: float) -> Covariate:
        """The loss is taken from the best that there is."""
        labels = int(self.figures.current.is_labelled.sum())
        basis = "labels" if labels >= LEAST else "images" if images.is_supported else "probabilities"
        at = self._place(f"loss by {basis}")
        loss = self._at(at)
        spread = float(np.nanstd(self.drawn[:, at]))
        p = float(ndtr((tolerance - loss.value) / spread)) if spread > 0 else NAN
        return Covariate(images, loss, p, basis, images.p)

    def concept(self, images: CovariateShift) -> Concept:
        """The part that needs labels."""
        k, current = self.k, self.figures.current
        labels = current.truth[current.is_labelled]
        coefficients = tuple(self._at(2 * k + i) for i in range(k))
        realised, gap, at = self._named("realised"), self._named("gap"), self._place("gap")
        p = wald_p(self.value[at], self.drawn[:, at : at + 1]) if len(labels) >= LEAST else NAN
        ratio = p_ratio = NAN
        if len(labels) >= LEAST and np.bincount(labels, minlength=k).min() >= LEAST_OF_CLASS:
            coded = slice(2 * k, 3 * k)
            p = min(1.0, 2 * min(p, wald_p(self.value[coded], self.drawn[:, coded])))
            calibrated = self.figures.fits["reference"].of(current.probability[current.is_labelled])
            corrected = adjusted(calibrated, self.value[k : 2 * k] / self.value[:k])
            gained = fitted(corrected, labels).log_likelihood(corrected, labels)
            ratio = 2 * (gained - unchanged(k).log_likelihood(corrected, labels))
            p_ratio = float(chdtrc(k, max(ratio, 0.0)))
        changed = images.classifier.distance
        is_beyond = gap.low > changed or gap.high < -changed
        return Concept(len(labels), coefficients[:-1], coefficients[-1], ratio, p_ratio, realised, gap, p, is_beyond)

    def _place(self, name: str) -> int:
        return 3 * self.k + SCALARS.index(name)

    def _named(self, name: str) -> Figure:
        return self._at(self._place(name))

    def _at(self, i: int) -> Figure:
        value = float(self.value[i])
        return Figure(value, *(limits(self.drawn[:, i], self.level) if np.isfinite(value) else (NAN, NAN)))
