"""What an update of the model changed, told apart from what the data changed; two versions on the same studies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri
from scipy.stats import binom

from triage.audit.bootstrap import NAN, Floats, Patients
from triage.audit.operating import confusion
from triage.audit.performance import Difference, paired

DECAY = 0.5
UNKNOWN = -1


@dataclass(frozen=True)
class Update:
    """
    One version against the one before (FDA DIDSR, VIGILANT), S being performance, M the model, D its time's data.

    Attributes:
        version: counted from 1; the first that has one before it is 2.
        learning: S(M_V | D_V) - S(M_V-1 | D_V): what the new model gained on the new data.
        potential: S(M_V-1 | D_V-1) - S(M_V-1 | D_V): what the old model lost as the data changed.
        retention: the new model on all data before, the older weighing the less.
    """

    version: int
    learning: float
    potential: float
    retention: float


@dataclass(frozen=True)
class Discordance:
    """
    Where two versions differ in being right.

    Attributes:
        only_old, only_new: cases that only one had right.
        difference, low, high: share right of the new version less that of the old.
        p: exact (McNemar), or by patient where one has several cases; 1 where they never differ.
    """

    cases: int
    patients: int
    only_old: int
    only_new: int
    difference: float
    low: float
    high: float
    p: float
    method: Literal["McNemar, exact", "McNemar, clustered by patient"]
    level: float = 0.95


@dataclass(frozen=True, eq=False)
class Shadow:
    """
    Two versions on the same studies, one of them in the shadow of the other.

    Attributes:
        agreement: (k, k) studies, labelled or not, by the old version's class (row) and the new one's (column).
        agreed: share of studies given the same class; kappa: the same beyond chance (Cohen 1960).
        right: of the labelled studies.
        areas: new less old, one class against the rest, on the labelled studies.
    """

    agreement: Floats
    agreed: float
    kappa: float
    right: Discordance
    areas: tuple[Difference, ...]


def decomposed(performance: npt.ArrayLike, decay: float = DECAY) -> tuple[Update, ...]:
    """
    Learning, potential and retention of each version after the first.

    Args:
        performance: (v, v) S of each version (row) on the data of each version's time (column); NaN where not
            measured, which makes NaN of what needs it.
        decay: retention weighs the data of *a* versions ago by exp(-decay a), weights summing to 1.
    """
    s = np.asarray(performance, dtype=np.float64)
    if s.ndim != 2 or s.shape[0] != s.shape[1]:
        raise ValueError(f"performance of {s.shape}, not of as many data sets as versions")
    return tuple(
        Update(v + 1, float(s[v, v] - s[v - 1, v]), float(s[v - 1, v - 1] - s[v - 1, v]), _retention(s[v, :v], decay))
        for v in range(1, len(s))
    )


def compared(
    old: npt.ArrayLike,
    new: npt.ArrayLike,
    truth: npt.ArrayLike,
    patients: npt.ArrayLike | None = None,
    *,
    level: float = 0.95,
) -> Shadow:
    """
    Hold two versions' probabilities of the same studies side by side.

    Args:
        old, new: (n, k); a study's class is the likeliest, the first of equals.
        truth: (n,) class, or UNKNOWN of a study without a label.
        patients: (n,) the patient of each study; none given, each study is its own patient.
    """
    first, second = np.asarray(old, dtype=np.float64), np.asarray(new, dtype=np.float64)
    true = np.asarray(truth, dtype=np.int64)
    if first.shape != second.shape or first.ndim != 2 or len(first) != len(true):
        raise ValueError(f"probabilities of {first.shape} and {second.shape} for {len(true)} studies")
    whose = np.arange(len(true)) if patients is None else Patients(patients).number
    chosen = (first.argmax(axis=1), second.argmax(axis=1))
    table = confusion(chosen[1], chosen[0], first.shape[1])
    known = true != UNKNOWN
    return Shadow(
        table,
        *_agreement(table),
        discordance(chosen[0][known] == true[known], chosen[1][known] == true[known], whose[known], level=level),
        tuple(
            paired(second[known, k], first[known, k], true[known] == k, whose[known], level=level)
            for k in range(first.shape[1])
        ),
    )


def discordance(
    old_right: npt.ArrayLike, new_right: npt.ArrayLike, patients: npt.ArrayLike | None = None, *, level: float = 0.95
) -> Discordance:
    """
    Test two versions on the same cases for being right equally often (McNemar 1947).

    With several cases a patient the sums s of new less old by patient take the place of cases: z = sum s / root of sum
    s², which is McNemar's without a correction where each patient has one. The interval adds half a case to each of
    the table's four fields (Agresti & Min, Statistics in Medicine 24, 2005), so it has a width where they never
    differ; repeated patients widen it by their design effect, they never narrow it.

    Args:
        old_right, new_right: (n,) also any other property of each version's result, such as the flag of a positive.
        patients: (n,).
    Returns:
        NaN for difference, limits and p without a case.
    """
    old, new = np.asarray(old_right, dtype=bool), np.asarray(new_right, dtype=bool)
    whose = np.arange(len(old)) if patients is None else Patients(patients).number
    if not len(old) == len(new) == len(whose):
        raise ValueError(f"{len(old)} and {len(new)} results of {len(whose)} cases")
    n, people = len(old), len(np.unique(whose))
    only_old, only_new = int((old & ~new).sum()), int((new & ~old).sum())
    if n == 0:
        return Discordance(0, 0, 0, 0, NAN, NAN, NAN, NAN, "McNemar, exact", level)
    step = new.astype(np.float64) - old
    sums = np.bincount(whose, step)
    low, high = _agresti_min(n, only_old, only_new, _design_effect(step, whose, people), level)
    common = (n, people, only_old, only_new, float(step.mean()), low, high)
    if people == n:
        p = min(1.0, 2 * float(binom.cdf(min(only_old, only_new), only_old + only_new, 0.5)))
        return Discordance(*common, p, "McNemar, exact", level)
    squares = float((sums**2).sum())
    p = 2 * float(ndtr(-abs(step.sum()) / np.sqrt(squares))) if squares else 1.0
    return Discordance(*common, p, "McNemar, clustered by patient", level)


def _retention(before: Floats, decay: float) -> float:
    weight = np.exp(-decay * np.arange(len(before), 0, -1))
    return float(weight @ before / weight.sum())


def _agreement(table: Floats) -> tuple[float, float]:
    """Share of studies on the diagonal, and Cohen's kappa; NaN without a study, kappa also if all are of one class."""
    total = float(table.sum())
    if total == 0:
        return NAN, NAN
    agreed = float(np.trace(table)) / total
    chance = float(table.sum(axis=0) @ table.sum(axis=1)) / total**2
    return agreed, (agreed - chance) / (1 - chance) if chance < 1 else NAN


def _agresti_min(n: int, only_old: int, only_new: int, effect: float, level: float) -> tuple[float, float]:
    difference = (only_new - only_old) / (n + 2)
    variance = ((only_new + only_old + 1) / (n + 2) - difference**2) / (n + 2) * effect
    half = float(ndtri(0.5 + level / 2) * np.sqrt(variance))
    return max(-1.0, difference - half), min(1.0, difference + half)


def _design_effect(step: Floats, whose: npt.NDArray[np.intp], people: int) -> float:
    """How much more the mean step varies than that of independent cases; at least 1, cases a patient if none differ."""
    n = len(step)
    centred = step - step.mean()
    squares = float((centred**2).sum())
    if squares == 0 or people < 2:
        return float((np.bincount(whose) ** 2).sum()) / n
    between = float((np.bincount(whose, centred) ** 2).sum())
    return max(1.0, between / squares)
