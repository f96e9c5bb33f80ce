"""Sensitivity and specificity where not every study's truth is found out: corrected, by random audit, at the worst."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from triage.audit.bootstrap import NAN, Floats, Patients
from triage.audit.performance import clopper_pearson, logit_interval

DELTA = "Begg-Greenes, delta method on the logit"
DRAWN = "Begg-Greenes, drawn from Jeffreys' posteriors"
DESIGN = "design weights, linearised by patient"
NONE_MISSED = "design weights, exact limit of none found"


@dataclass(frozen=True, eq=False)
class Verification:
    """
    Who was tested with what result, and who of them was verified.

    Attributes:
        flagged: (k,) whether studies of the row count as found by the AI: its two results, or results x covariate.
        studies: (k,) all studies of the row.
        verified: (k,) those with a truth.
        diseased: (k,) the diseased among the verified.
    """

    flagged: npt.NDArray[np.bool_]
    studies: Floats
    verified: Floats
    diseased: Floats

    def __post_init__(self) -> None:
        """Refuse more verified than studies or more diseased than verified."""
        if not ((self.diseased >= 0) & (self.diseased <= self.verified) & (self.verified <= self.studies)).all():
            raise ValueError("verification: not 0 <= diseased <= verified <= studies in every row")


@dataclass(frozen=True)
class Corrected:
    """A share corrected for who was verified, with its interval and how that was found."""

    value: float
    low: float
    high: float
    method: str
    level: float = 0.95


@dataclass(frozen=True)
class Rates:
    """Sensitivity and specificity."""

    sensitivity: Corrected
    specificity: Corrected


def tabulated(is_flagged: npt.ArrayLike, is_diseased: npt.ArrayLike, is_verified: npt.ArrayLike) -> Verification:
    """The table of two rows, flagged and unflagged; all (n,), *is_diseased* is looked at where verified."""
    flagged, verified = np.asarray(is_flagged, dtype=bool), np.asarray(is_verified, dtype=bool)
    diseased = np.asarray(is_diseased, dtype=bool) & verified
    rows = [flagged, ~flagged]
    counts = [np.array([float((row & of).sum()) for row in rows]) for of in (np.ones_like(flagged), verified, diseased)]
    return Verification(np.array([True, False]), *counts)


def as_if_complete(table: Verification) -> tuple[float, float]:
    """Sensitivity and specificity among the verified alone, biased where the flag decides who is; NaN of none."""
    return _rates(table, table.diseased, table.verified - table.diseased)


def begg_greenes(table: Verification, *, draws: int = 20_000, seed: int = 1, level: float = 0.95) -> Rates:
    """
    Sensitivity and specificity of all studies, truth missing at random within a row (Begg & Greenes 1983, Biometrics).

    A = sum of n P(diseased) over flagged rows and B over the others make the sensitivity A / (A + B). The delta method
    takes log A - log B: rows' sizes multinomial, shares of diseased binomial. Where all or none of a row's verified
    are diseased its variance would pass for 0: the interval is then that of *draws* from Jeffreys' posteriors.

    Returns:
        NaN everywhere if a row has studies and none verified: nothing then says how many of them are diseased; NaN for
        the rate whose class nobody has.
    """
    held = table.studies > 0
    n, v, d = table.studies[held], table.verified[held], table.diseased[held]
    if not len(n) or (v == 0).any():
        nothing = Corrected(NAN, NAN, NAN, DELTA, level)
        return Rates(nothing, nothing)
    flagged, p = table.flagged[held], d / v
    kept = Verification(flagged, n, v, d)
    values = _rates(table=kept, diseased=n * p, healthy=n * (1 - p))
    if ((d == 0) | (d == v)).any():
        limits = _drawn(kept, draws, seed, level)
        return Rates(*(_corrected(x, *limit, DRAWN, level) for x, limit in zip(values, limits, strict=True)))
    variances = _log_odds_variance(n, v, p, flagged), _log_odds_variance(n, v, 1 - p, ~flagged)
    # the variance is the logit's: logit_interval wants that of the share
    inner = (logit_interval(x, s * (x * (1 - x)) ** 2, level) for x, s in zip(values, variances, strict=True))
    return Rates(*(_corrected(x, *limit, DELTA, level) for x, limit in zip(values, inner, strict=True)))


def not_at_random(table: Verification, flagged: npt.ArrayLike, unflagged: npt.ArrayLike) -> tuple[Floats, Floats]:
    """
    Sensitivity and specificity if the unverified have other odds of disease than the verified of their row.

    Args:
        flagged, unflagged: (g,) odds ratio of an unverified against a verified study among flagged and unflagged rows;
            1 is Begg and Greenes' assumption.
    Returns:
        (g,) and (g,); NaN as there.
    """
    ratios = np.atleast_1d(np.asarray(flagged, np.float64)), np.atleast_1d(np.asarray(unflagged, np.float64))
    if not all((ratio > 0).all() for ratio in ratios):
        raise ValueError("an odds ratio that is not above 0")
    ratio = np.where(table.flagged, ratios[0][:, None], ratios[1][:, None])
    # a row without a verified study has a share of disease only if it has no studies: then it counts for nothing
    p = np.divide(table.diseased, table.verified, out=np.where(table.studies > 0, NAN, 0.0), where=table.verified > 0)
    unseen = ratio * p / (1 - p + ratio * p)
    diseased = table.diseased + (table.studies - table.verified) * unseen
    healthy = table.studies - diseased
    return _share(diseased, table.flagged), _share(healthy, ~table.flagged)


def bounds(table: Verification, ratio: float = 2.0) -> tuple[tuple[float, float], tuple[float, float]]:
    """
    Lowest and highest sensitivity, and specificity, over all odds ratios of [1 / ratio, ratio] in either row.

    Both rates rise or fall with each ratio alone, so the ends are at the four corners.
    """
    ends = np.array([1 / ratio, ratio])
    both = not_at_random(table, np.repeat(ends, 2), np.tile(ends, 2))
    sensitivity, specificity = ((float(rates.min()), float(rates.max())) for rates in both)
    return sensitivity, specificity


def by_design(
    is_flagged: npt.ArrayLike,
    is_diseased: npt.ArrayLike,
    weight: npt.ArrayLike,
    patients: npt.ArrayLike | None = None,
    *,
    level: float = 0.95,
) -> Rates:
    """
    Sensitivity and specificity from studies that each stand for *weight* studies: no assumption but the draw's.

    With flagged studies at weight 1 (all have a truth) and unflagged ones from a random audit at 1 / rate, this holds
    whatever decides who else is verified. The variance is linearised over patients (Horvitz & Thompson 1952 for the
    totals, Woodruff 1971 for their ratio). Where the audit found no missed case the sensitivity's lower limit comes
    from Clopper and Pearson's upper limit of none found among the audited, as many as there are patients; likewise
    the specificity's without a false alarm.

    Args:
        is_flagged, is_diseased, weight: (n,) of the studies with a truth; weight 0 leaves a study out.
        patients: (n,) the patient of each; none given, each study is its own patient.
    Returns:
        NaN for the rate whose class nobody has, and for the sensitivity (specificity) if no study with a truth is
        unflagged (flagged): what is missed was not looked for.
    """
    w = np.asarray(weight, dtype=np.float64)
    flagged, diseased = np.asarray(is_flagged, dtype=bool), np.asarray(is_diseased, dtype=bool)
    if (w < 0).any() or not np.isfinite(w).all():
        raise ValueError("a weight that is negative or not finite")
    number = np.arange(len(w)) if patients is None else Patients(patients).number
    counted = w > 0
    w, number, flagged, diseased = w[counted], number[counted], flagged[counted], diseased[counted]
    return Rates(_found(w, number, flagged, diseased, level), _found(w, number, ~flagged, ~diseased, level))


def _found(
    w: Floats, number: npt.NDArray[np.intp], found: npt.NDArray[np.bool_], ill: npt.NDArray[np.bool_], level: float
) -> Corrected:
    """Share of *ill* that are *found*."""
    total = float(w[ill].sum())
    if total == 0 or found.all():
        return Corrected(NAN, NAN, NAN, DESIGN, level)
    value = float(w[ill & found].sum()) / total
    if not (ill & ~found).any():
        missed = float(w[~found].sum()) * clopper_pearson(0, len(np.unique(number[~found])), level)[1]
        return Corrected(value, total / (total + missed), 1.0, NONE_MISSED, level)
    score = np.bincount(number[ill], w[ill] * (found[ill] - value)) / total
    people = len(np.unique(number))
    variance = float((score**2).sum()) * people / (people - 1) if people > 1 else NAN
    if value == 0:
        audited = len(np.unique(number[ill]))
        return Corrected(value, *clopper_pearson(0, audited, level), DESIGN, level)
    return Corrected(value, *logit_interval(value, variance, level), DESIGN, level)


def _corrected(value: float, low: float, high: float, method: str, level: float) -> Corrected:
    return Corrected(value, low, high, method, level) if np.isfinite(value) else Corrected(NAN, NAN, NAN, method, level)


def _rates(table: Verification, diseased: Floats, healthy: Floats) -> tuple[float, float]:
    return float(_share(diseased, table.flagged)), float(_share(healthy, ~table.flagged))


def _share(count: Floats, found: npt.NDArray[np.bool_]) -> Floats:
    """Share of *count* (..., k) in the rows *found* (k,); NaN of nothing."""
    total = count.sum(axis=-1)
    among: Floats = np.divide((count * found).sum(axis=-1), total, out=np.full_like(total, NAN), where=total > 0)
    return among


def _log_odds_variance(n: Floats, v: Floats, p: Floats, found: npt.NDArray[np.bool_]) -> float:
    """Variance of log A - log B; both sums' slopes are n-weighted to 1, so the multinomial's covariance cancels."""
    expected = n * p
    side = np.where(found, expected[found].sum(), expected[~found].sum())
    if (side == 0).any():
        return NAN
    return float(((p / side) ** 2 * n + (n / side) ** 2 * p * (1 - p) / v).sum())


def _drawn(table: Verification, draws: int, seed: int, level: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Limits of both rates with rows' sizes and shares drawn from their posteriors."""
    rng = np.random.default_rng(seed)
    size = rng.dirichlet(table.studies + 0.5, size=draws)
    p = rng.beta(table.diseased + 0.5, table.verified - table.diseased + 0.5, size=(draws, len(table.studies)))
    rates = _share(size * p, table.flagged), _share(size * (1 - p), ~table.flagged)
    tails = (0.5 - level / 2, 0.5 + level / 2)
    sensitivity, specificity = ((float(a), float(b)) for a, b in (np.quantile(rate, tails) for rate in rates))
    return sensitivity, specificity
