"""Figures by subgroup with their adequacy, drawn towards the whole so that a league table does not rank noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import expit, logit, ndtri

from triage.audit.bootstrap import NAN, Floats, Patients, Rows
from triage.audit.operating import Share, shares, weighted_area
from triage.audit.performance import Area, area
from triage.audit.states import State

LEAST = 10
"""Positives, and negatives, below which a subgroup's figures are not given."""
AGE_BANDS = (18, 40, 65, 80)
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Shrunk:
    """A subgroup's figure with its own interval, and drawn towards its factor's mean; NaN where it is not given."""

    value: float
    low: float
    high: float
    shrunk: float
    shrunk_low: float
    shrunk_high: float


@dataclass(frozen=True)
class Subgroup:
    """One value of one factor; its figures are NaN unless it is adequate."""

    factor: str
    name: str
    positives: int
    negatives: int
    sensitivity: Shrunk
    specificity: Shrunk
    area: Shrunk

    @property
    def is_adequate(self) -> bool:
        """At least LEAST positives and LEAST negatives."""
        return min(self.positives, self.negatives) >= LEAST


@dataclass(frozen=True, eq=False)
class Pooled:
    """
    Normal estimates drawn towards their mean (Efron & Morris 1975).

    Attributes:
        mean: weighted by 1 / (variance + between).
        between: variance of the true values about their mean (Paule & Mandel 1982), 0 where they differ no more than
            their errors would have them.
        value, variance: (g,) of the shrunken estimates.
    """

    mean: float
    between: float
    value: Floats
    variance: Floats


def by_factor(
    factor: str,
    name: npt.ArrayLike,
    is_flagged: npt.ArrayLike,
    is_positive: npt.ArrayLike,
    *,
    score: npt.ArrayLike | None = None,
    weight: npt.ArrayLike | None = None,
    patients: npt.ArrayLike | None = None,
    level: float = 0.95,
) -> tuple[Subgroup, ...]:
    """
    Sensitivity, specificity and AUC of each subgroup of one factor, in the order of their names.

    A case of weight 0, such as one without a label, counts nowhere.

    Args:
        factor: such as "sex".
        name: (n,) the value of each case, text or numbers; `age_bands` and `months` make some.
        is_flagged, is_positive: (n,).
        score: (n,) for the AUC; none given, it is NaN.
        weight, patients: (n,) as in `operating.shares`; patients numbered 0 ... once for all factors save time.
    """
    flagged, positive = np.asarray(is_flagged, dtype=bool), np.asarray(is_positive, dtype=bool)
    names, group = np.unique(np.asarray(name), return_inverse=True)
    count = len(names)
    whose = None if patients is None else Patients(patients).number
    w = np.ones(len(group)) if weight is None else np.asarray(weight, dtype=np.float64)
    positives = np.bincount(group[positive & (w > 0)], minlength=count)
    negatives = np.bincount(group[~positive & (w > 0)], minlength=count)
    adequate = np.minimum(positives, negatives) >= LEAST
    kept = np.where(adequate[group], group, -1)
    found = shares(flagged, np.where(positive, kept, -1), count, w, whose, level=level)
    spared = shares(~flagged, np.where(positive, -1, kept), count, w, whose, level=level)
    areas = _areas(score, positive, group, None if weight is None else w, whose, adequate, level)
    figures = (
        _shrunk_shares(found, adequate, level),
        _shrunk_shares(spared, adequate, level),
        _shrunk_areas(areas, level),
    )
    return tuple(
        Subgroup(
            factor,
            str(names[g]),
            int(positives[g]),
            int(negatives[g]),
            *(f[g] for f in figures),
        )
        for g in range(count)
    )


def judged(figure: Shrunk, is_adequate: bool, reference: float, margin: float) -> State:
    """
    Whether a subgroup lies more than *margin* below *reference*, the figure of all; never ALARM, which is sequential.

    WATCH if both the upper limit of its own interval and its shrunken figure lie lower than that: many subgroups are
    looked at, and one of them is always the lowest. IN CONTROL if its lower limit does not. INSUFFICIENT otherwise.
    """
    least = reference - margin
    if not is_adequate or not np.isfinite([figure.low, figure.high, figure.shrunk, least]).all():
        return State.INSUFFICIENT
    if figure.high < least and figure.shrunk < least:
        return State.WATCH
    return State.IN_CONTROL if figure.low >= least else State.INSUFFICIENT


def age_bands(years: npt.ArrayLike, edges: tuple[int, ...] = AGE_BANDS) -> npt.NDArray[np.str_]:
    """Names of the age bands of *years* (n,), such as 018-039, in order when sorted; unknown where NaN or negative."""
    age = np.asarray(years, dtype=np.float64)
    ends = [f"{edge - 1:03d}" for edge in edges]
    names = [f"{low:03d}-{high}" for low, high in zip((0, *edges[:-1]), ends, strict=True)]
    bands = np.array([*names, f"{edges[-1]:03d}+", UNKNOWN])
    place = np.where(age >= 0, np.searchsorted(edges, age, side="right"), len(bands) - 1)
    return bands[place]


def months(instants: npt.NDArray[np.datetime64]) -> npt.NDArray[np.str_]:
    """Names of the calendar months in UTC of *instants* (n,), such as 2026-03; unknown where missing."""
    month, place = np.unique(instants.astype("datetime64[M]"), return_inverse=True)
    return np.where(np.isnat(month), UNKNOWN, month.astype(np.str_))[place]


def shrunken(estimate: npt.ArrayLike, variance: npt.ArrayLike) -> Pooled:
    """
    Draw normal estimates towards their common mean, the more the less sure they are.

    The variances given are those of the shrunken values, with that of the mean and, after Morris (JASA 78, 1983), one
    for not knowing `between`; up to three estimates say too little of it, their variances stay as they are.

    Args:
        estimate: (g,) on a scale where they are about normal, such as the logit.
        variance: (g,) above 0.
    Returns:
        NaN throughout without an estimate; a single one stays as it is.
    """
    x, v = np.asarray(estimate, dtype=np.float64), np.asarray(variance, dtype=np.float64)
    if not (v > 0).all():
        raise ValueError("a variance that is not above 0")
    if not len(x):
        return Pooled(NAN, NAN, x, v)
    between = _between(x, v)
    weight = 1 / (v + between)
    mean = float(weight @ x / weight.sum())
    pull = v * weight if len(x) > 1 else np.zeros(1)
    value = mean + (1 - pull) * (x - mean)
    if len(x) <= 3:
        return Pooled(mean, between, value, v)
    unsure = 2 / (len(x) - 3) * (pull * (x - mean)) ** 2
    return Pooled(mean, between, value, (1 - pull) * v + pull**2 / weight.sum() + unsure)


def _between(x: Floats, v: Floats) -> float:
    """Paule and Mandel's: with it, the weighted squares about the mean are as many as they should be, g - 1."""

    def excess(between: float) -> float:
        weight = 1 / (v + between)
        return float(weight @ (x - weight @ x / weight.sum()) ** 2) - (len(x) - 1)

    if len(x) < 2 or excess(0.0) <= 0:
        return 0.0
    # each term's weight is at most 1 / between, so that at the plain sum of squares the excess is not above 0
    return float(brentq(excess, 0.0, float(((x - x.mean()) ** 2).sum()) + 1e-12, xtol=1e-14))


def _areas(
    score: npt.ArrayLike | None,
    positive: npt.NDArray[np.bool_],
    group: npt.NDArray[np.intp],
    weight: Floats | None,
    patients: npt.NDArray[np.intp] | None,
    adequate: npt.NDArray[np.bool_],
    level: float,
) -> tuple[Area | None, ...]:
    if score is None:
        return (None,) * len(adequate)
    x = np.asarray(score, dtype=np.float64)
    order = np.argsort(group, kind="stable")
    rows = np.split(order, np.cumsum(np.bincount(group, minlength=len(adequate)))[:-1])

    def of(r: Rows) -> Area:
        whose = None if patients is None else patients[r]
        if weight is None:
            return area(x[r], positive[r], whose, level=level)
        return weighted_area(x[r], positive[r], weight[r], whose, level=level)

    return tuple(of(r) if enough else None for r, enough in zip(rows, adequate, strict=True))


def _shrunk_shares(found: tuple[Share, ...], adequate: npt.NDArray[np.bool_], level: float) -> tuple[Shrunk, ...]:
    """Shares on the logit scale, half a case added to either side so that none is infinite (Anscombe 1956)."""
    size = np.array([max(share.effective, 0.0) for share in found])
    hits = np.nan_to_num([share.value for share in found]) * size
    x, v = np.log((hits + 0.5) / (size - hits + 0.5)), 1 / (hits + 0.5) + 1 / (size - hits + 0.5)
    own = [(share.value, share.low, share.high) for share in found]
    return _shrunk(own, x, v, adequate & (size > 0), level)


def _shrunk_areas(found: tuple[Area | None, ...], level: float) -> tuple[Shrunk, ...]:
    """Areas on the logit scale; one of 0 or 1 has no variance to be drawn by and is given without."""
    own = [(a.value, a.low, a.high) if a else (NAN, NAN, NAN) for a in found]
    value = np.array([a.value if a else NAN for a in found])
    variance = np.array([a.variance if a else NAN for a in found])
    usable = (value > 0) & (value < 1) & (variance > 0)
    inside = np.where(usable, value, 0.5)
    return _shrunk(own, logit(inside), np.where(usable, variance, 1.0) / (inside * (1 - inside)) ** 2, usable, level)


def _shrunk(
    own: list[tuple[float, float, float]], x: Floats, v: Floats, usable: npt.NDArray[np.bool_], level: float
) -> tuple[Shrunk, ...]:
    pooled = shrunken(x[usable], v[usable])
    half = ndtri(0.5 + level / 2) * np.sqrt(pooled.variance)
    drawn = np.full((len(x), 3), NAN)
    drawn[usable] = expit(np.column_stack([pooled.value, pooled.value - half, pooled.value + half]))
    given = [mine if np.isfinite(mine[0]) else (NAN, NAN, NAN) for mine in own]
    return tuple(Shrunk(*mine, *map(float, d)) for mine, d in zip(given, drawn, strict=True))
