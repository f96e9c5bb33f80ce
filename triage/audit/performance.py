"""How well a score tells cases apart: AUC by DeLong with repeated patients, comparisons, shares, balanced accuracy."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit, ndtr, ndtri, stdtr, stdtrit
from scipy.stats import beta, rankdata

from triage.audit.bootstrap import NAN, Floats, Patients

DELONG = "DeLong"
CLUSTERED = "DeLong, clustered by patient"
EXACT = "exact, pairs of different patients"
PUBLISHED = "Hanley-McNeil, from a published figure"


@dataclass(frozen=True, eq=False)
class Components:
    """
    DeLong's structural components of k scores on the same m positive and n negative cases.

    `positives[s, i]` is the share of negatives that score s puts below positive i (ties count half), `negatives[s, j]`
    the share of positives above negative j; `area` (k,) is the mean of either.
    """

    area: Floats
    positives: Floats
    negatives: Floats
    is_positive: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Area:
    """An AUC with its variance and interval; the numbers of cases and patients it rests on."""

    value: float
    variance: float
    low: float
    high: float
    method: str
    positives: int
    negatives: int
    patients: int
    level: float = 0.95


@dataclass(frozen=True)
class Difference:
    """The difference of two AUCs, tested: `statistic` is t with `df` degrees of freedom, normal where that is inf."""

    value: float
    low: float
    high: float
    statistic: float
    df: float
    p: float
    level: float = 0.95


def auc(score: npt.ArrayLike, is_positive: npt.ArrayLike) -> float:
    """Area under the ROC curve by ranks, ties counting half; NaN where one class is missing or a score is NaN."""
    positive = np.asarray(is_positive, dtype=bool)
    m, n = int(positive.sum()), int((~positive).sum())
    if m == 0 or n == 0:
        return NAN
    return float((rankdata(score)[positive].sum() - m * (m + 1) / 2) / (m * n))


def components(scores: npt.ArrayLike, is_positive: npt.ArrayLike) -> Components:
    """
    Structural components by mid-ranks, in n log n (Sun & Xu, IEEE Signal Processing Letters 21, 2014).

    Args:
        scores: (cases,) or (k, cases); a row with a NaN gives NaN.
        is_positive: (cases,) truth.
    Returns:
        (k,), (k, m) and (k, n); all NaN where one class is missing.
    """
    score = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    positive = np.asarray(is_positive, dtype=bool)
    x, y = score[:, positive], score[:, ~positive]
    m, n = x.shape[1], y.shape[1]
    if m == 0 or n == 0:
        return Components(np.full(len(score), NAN), np.full(x.shape, NAN), np.full(y.shape, NAN), positive)
    ranks = rankdata(score, axis=1)
    of_positives = (ranks[:, positive] - rankdata(x, axis=1)) / n
    of_negatives = 1 - (ranks[:, ~positive] - rankdata(y, axis=1)) / m
    return Components(of_positives.mean(axis=1), of_positives, of_negatives, positive)


def covariance(found: Components, patients: npt.ArrayLike | None = None) -> Floats:
    """
    Covariance of the k areas: DeLong's, or Obuchowski's (Biometrics 53, 1997) where patients have several cases.

    Obuchowski's small-sample factors I/(I-1) count patients with a positive case, with a negative case, and in all.
    With one case a patient they are DeLong's m/(m-1) and n/(n-1), so both estimates are the same number.

    Args:
        patients: (cases,) the patient of each case; none given, each case is its own patient.
    Returns:
        (k, k); NaN where fewer than two patients have a positive case or fewer than two a negative one.
    """
    number = _numbered(found.is_positive, patients)
    count = int(number.max(initial=-1)) + 1
    of_positives, of_negatives = number[found.is_positive], number[~found.is_positive]
    with_positive, with_negative = len(np.unique(of_positives)), len(np.unique(of_negatives))
    if with_positive < 2 or with_negative < 2:
        return np.full((len(found.area), len(found.area)), NAN)
    a = _summed(found.positives - found.area[:, None], of_positives, count) / len(of_positives)
    b = _summed(found.negatives - found.area[:, None], of_negatives, count) / len(of_negatives)
    both = a @ b.T
    between: Floats = _inflation(with_positive) * (a @ a.T) + _inflation(with_negative) * (b @ b.T)
    return between + _inflation(count) * (both + both.T)


def area(
    score: npt.ArrayLike, is_positive: npt.ArrayLike, patients: npt.ArrayLike | None = None, *, level: float = 0.95
) -> Area:
    """
    AUC with its variance and an interval on the logit scale, which stays inside [0, 1].

    The degenerate cases, all without a warning:

    - one class missing, a NaN score: everything NaN;
    - area 0 or 1, where the variance is 0 and says nothing: the exact interval of as many successes in as many trials
      (Clopper-Pearson), a trial being a positive and a negative of two patients in no other pair. Such pairs are
      independent and each is in order with probability AUC, so the interval holds, though it is wide;
    - a constant score: 0.5 with no width, as no draw of cases could change it;
    - otherwise fewer than two patients with a positive, or with a negative: the area, with NaN limits.

    Args:
        score: (cases,) higher for positives.
        is_positive: (cases,) truth.
        patients: (cases,) the patient of each case; none given, each case is its own patient.
    """
    found = components(score, is_positive)
    number = _numbered(found.is_positive, patients)
    value, variance = float(found.area[0]), float(covariance(found, number)[0, 0])
    count = len(np.unique(number))
    method = DELONG if patients is None else CLUSTERED
    low, high = logit_interval(value, variance, level)
    if value in (0.0, 1.0):
        pairs = _pairs_of_patients(number, found.is_positive)
        low, high = clopper_pearson(value * pairs, pairs, level) if pairs else (NAN, NAN)
        method = EXACT
    m = int(found.is_positive.sum())
    return Area(value, variance, low, high, method, m, len(number) - m, count, level)


def one_against_rest(
    probabilities: npt.ArrayLike, classes: npt.ArrayLike, patients: npt.ArrayLike | None = None, *, level: float = 0.95
) -> tuple[Area, ...]:
    """
    The area of each class against all others.

    Args:
        probabilities: (cases, k).
        classes: (cases,) true class, 0 ... k - 1.
    """
    of_class, truth = np.asarray(probabilities, dtype=np.float64).T, np.asarray(classes)
    return tuple(area(score, truth == k, patients, level=level) for k, score in enumerate(of_class))


def logit_interval(value: float, variance: float, level: float = 0.95) -> tuple[float, float]:
    """Interval of a share-like figure by the delta method on the logit; NaN where the variance is, or at 0 and 1."""
    if not np.isfinite(variance) or not 0 < value < 1:
        return NAN, NAN
    half = ndtri(0.5 + level / 2) * np.sqrt(variance) / (value * (1 - value))
    middle = logit(value)
    return float(expit(middle - half)), float(expit(middle + half))


def paired(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    is_positive: npt.ArrayLike,
    patients: npt.ArrayLike | None = None,
    *,
    level: float = 0.95,
) -> Difference:
    """
    Test two scores on the same cases (DeLong 1988; Obuchowski 1997 with repeated patients): first minus second, normal.

    Two scores that rank all cases alike differ by 0 with p = 1; a difference without any variance (1 against a constant
    score) has NaN for its test and limits, as has one with too few patients for a variance.
    """
    found = components(
        np.stack([np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)]), is_positive
    )
    # subtracted case by case: where both rank alike this is 0, and S11 + S22 - 2 S12 only nearly so
    between = replace(
        found,
        area=found.area[:1] - found.area[1:],
        positives=found.positives[:1] - found.positives[1:],
        negatives=found.negatives[:1] - found.negatives[1:],
    )
    return _tested(float(between.area[0]), float(covariance(between, patients)[0, 0]), float("inf"), level)


def unpaired(first: Area, second: Area, *, level: float = 0.95) -> Difference:
    """
    Test two areas of different patients, t with Welch's degrees of freedom as in pROC: first minus second.

    v1 and v2 being the variances and N the patients, df = (v1 + v2)² / (v1² / (N1 - 1) + v2² / (N2 - 1)).
    An area of 0 or 1 has no variance to test with: NaN, as where neither area has any.
    """
    value, v1, v2 = first.value - second.value, first.variance, second.variance
    if {first.value, second.value} & {0.0, 1.0} or not v1 + v2 > 0:
        return _tested(value, NAN, NAN, level)
    # in shares of the sum: the squares of tiny variances would be lost
    a, b = v1 / (v1 + v2), v2 / (v1 + v2)
    return _tested(value, v1 + v2, 1 / (a**2 / (first.patients - 1) + b**2 / (second.patients - 1)), level)


def hanley_mcneil(value: float, positives: int, negatives: int) -> float:
    """Standard error of an AUC of which only the value and the class counts are known (Radiology 143, 1982)."""
    if positives < 1 or negatives < 1:
        return NAN
    q1, q2 = value / (2 - value), 2 * value**2 / (1 + value)
    spread = value * (1 - value) + (positives - 1) * (q1 - value**2) + (negatives - 1) * (q2 - value**2)
    return float(np.sqrt(max(spread, 0.0) / (positives * negatives)))


def published(value: float, positives: int, negatives: int, *, level: float = 0.95) -> Area:
    """A published AUC with the uncertainty it must have had, to hold ours against; a case counts as a patient."""
    variance = hanley_mcneil(value, positives, negatives) ** 2
    low, high = logit_interval(value, variance, level)
    return Area(value, variance, low, high, PUBLISHED, positives, negatives, positives + negatives, level)


def hand_till(probabilities: npt.ArrayLike, classes: npt.ArrayLike) -> float:
    """
    Hand & Till's M (Machine Learning 45, 2001): the mean over pairs of classes of how well each tells the two apart.

    Args:
        probabilities: (cases, k).
        classes: (cases,) true class, 0 ... k - 1; NaN where one of the k is missing.
    """
    p, truth = np.asarray(probabilities, dtype=np.float64), np.asarray(classes)
    k = p.shape[1]
    areas = []
    for i, j in ((i, j) for i in range(k) for j in range(k) if i != j):
        either = (truth == i) | (truth == j)
        areas.append(auc(p[either, i], truth[either] == i))
    return float(np.mean(areas)) if areas else NAN


def balanced_accuracy(chosen: npt.ArrayLike, classes: npt.ArrayLike) -> float:
    """Mean recall of the classes that occur in *classes* (cases,); NaN without a case."""
    found, truth = np.asarray(chosen), np.asarray(classes)
    recalls = [float((found[truth == k] == k).mean()) for k in np.unique(truth)]
    return float(np.mean(recalls)) if recalls else NAN


def wilson(hits: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of a share (Wilson 1927); (0, 1) of nothing."""
    if n == 0:
        return 0.0, 1.0
    z = float(ndtri(0.5 + level / 2))
    p, denominator = hits / n, 1 + z**2 / n
    middle = (p + z**2 / (2 * n)) / denominator
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / denominator
    # with no hits the lower limit is 0 but for rounding, with nothing else the upper one 1
    return (0.0 if hits == 0 else float(middle - half)), (1.0 if hits == n else float(middle + half))


def clopper_pearson(hits: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a share (Clopper & Pearson 1934); (0, 1) of nothing."""
    tail = 0.5 - level / 2
    low = 0.0 if hits == 0 else float(beta.ppf(tail, hits, n - hits + 1))
    high = 1.0 if hits == n else float(beta.ppf(1 - tail, hits + 1, n - hits))
    return low, high


def _tested(value: float, variance: float, df: float, level: float) -> Difference:
    if value == variance == 0:
        return Difference(0.0, 0.0, 0.0, 0.0, df, 1.0, level)
    if not variance > 0:
        return Difference(value, NAN, NAN, NAN, NAN, NAN, level)
    sd = float(np.sqrt(variance))
    tail = 0.5 + level / 2
    quantile = float(ndtri(tail) if np.isinf(df) else stdtrit(df, tail))
    statistic = value / sd
    p = 2 * float(ndtr(-abs(statistic)) if np.isinf(df) else stdtr(df, -abs(statistic)))
    return Difference(value, max(-1.0, value - quantile * sd), min(1.0, value + quantile * sd), statistic, df, p, level)


def _numbered(is_positive: npt.NDArray[np.bool_], patients: npt.ArrayLike | None) -> npt.NDArray[np.intp]:
    number: npt.NDArray[np.intp] = np.arange(len(is_positive)) if patients is None else Patients(patients).number
    if len(number) != len(is_positive):
        raise ValueError(f"{len(number)} patients for {len(is_positive)} cases")
    return number


def _summed(values: Floats, number: npt.NDArray[np.intp], count: int) -> Floats:
    """(k, cases) summed by patient to (k, count)."""
    return np.array([np.bincount(number, weights=row, minlength=count) for row in values])


def _inflation(count: int) -> float:
    return count / (count - 1)


def _pairs_of_patients(number: npt.NDArray[np.intp], is_positive: npt.NDArray[np.bool_]) -> int:
    """How many pairs of a positive and a negative can be made with no patient in two places."""
    with_positive, with_negative = len(np.unique(number[is_positive])), len(np.unique(number[~is_positive]))
    return min(with_positive, with_negative, len(np.unique(number)) // 2)
