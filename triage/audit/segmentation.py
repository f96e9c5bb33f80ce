"""How well masks agree: Dice, 95 % surface distance, the worst cases of a method, two methods compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_erosion, distance_transform_edt
from scipy.stats import wilcoxon

from triage.audit.bootstrap import NAN, Floats, Patients, Resampled, bca, percentile
from triage.audit.performance import wilson

Mask = npt.NDArray[np.bool_]
FAILED_UNDER = 0.8


@dataclass(frozen=True)
class Summary:
    """
    Dice over cases, in three figures with intervals.

    Attributes:
        mean, worst_decile: over all cases, and over the lowest tenth (at least one case); bootstrap by patient.
        under, under_low, under_high: share of cases below *limit*, with Wilson's interval for as many trials as there
            are patients, so that several films of one patient do not pass for independent ones. No bootstrap: it would
            call a failure impossible that has not happened yet.
    """

    cases: int
    mean: Resampled
    worst_decile: Resampled
    limit: float
    under: float
    under_low: float
    under_high: float


@dataclass(frozen=True)
class Comparison:
    """Two methods on the same cases: mean of first minus second (BCa by patient), Wilcoxon's signed-rank p."""

    cases: int
    difference: Resampled
    p: float


def dice(found: Mask, truth: Mask) -> float:
    """Twice the overlap over the sum of both areas (Dice 1945); 1 of two empty masks, which agree."""
    _check_alike(found, truth)
    both = int(found.sum()) + int(truth.sum())
    return 2 * int((found & truth).sum()) / both if both else 1.0


def hd95(found: Mask, truth: Mask, spacing: float | tuple[float, float] = 1.0) -> float:
    """
    95 % surface distance (HD95): how far 95 % of both outlines lie at most from the other outline.

    The percentile of both directions pooled, as MedPy has it; the greater of the two directed percentiles, as MONAI
    and Metrics Reloaded (Maier-Hein et al., Nature Methods 21, 2024) have it, is at least this. The outline is the
    pixels of a mask with one of the four neighbours outside it; what lies beyond the image counts as outside.

    Args:
        found: (rows, columns).
        truth: (rows, columns).
        spacing: edge of a pixel, or (row spacing, column spacing), in mm; 1 for distances in pixels.
    Returns:
        Distance in the unit of *spacing*; 0 of two empty masks; the image's diagonal, more than any distance in it,
        where one mask is empty, so that a mean over cases stays finite and a missed lung is never left out of it.
    """
    _check_alike(found, truth)
    row_mm, column_mm = (spacing, spacing) if isinstance(spacing, (int, float)) else spacing
    if not found.any() or not truth.any():
        alike = found.any() == truth.any()
        return 0.0 if alike else float(np.hypot(found.shape[0] * row_mm, found.shape[1] * column_mm))
    outlines = _outline(found), _outline(truth)
    to_found, to_truth = (distance_transform_edt(~o, sampling=(row_mm, column_mm)) for o in outlines)
    return float(np.percentile(np.concatenate([to_truth[outlines[0]], to_found[outlines[1]]]), 95))


def worst_decile_mean(values: npt.ArrayLike) -> float:
    """Mean of the lowest tenth of *values* (cases,), rounded to whole cases, at least one; NaN without a case."""
    value = np.sort(np.asarray(values, dtype=np.float64))
    return float(value[: max(1, round(len(value) / 10))].mean()) if len(value) else NAN


def summary(
    dices: npt.ArrayLike, patients: npt.ArrayLike, *, limit: float = FAILED_UNDER, draws: int = 1000, seed: int = 1
) -> Summary:
    """
    Mean, worst tenth and failures of a method.

    Args:
        dices: (cases,) Dice of each case.
        patients: (cases,) the patient of each case.
        limit: a case below it has failed.
    Returns:
        NaN figures without a case; NaN limits of the mean and the worst tenth with fewer than two patients.
    """
    value = np.asarray(dices, dtype=np.float64)
    under = float((value < limit).mean()) if len(value) else NAN
    people = len(Patients(patients))
    return Summary(
        len(value),
        percentile(lambda rows: float(value[rows].mean()) if len(rows) else NAN, patients, draws=draws, seed=seed),
        percentile(lambda rows: worst_decile_mean(value[rows]), patients, draws=draws, seed=seed),
        limit,
        under,
        *wilson(under * people if people else 0, people),
    )


def compared(
    first: npt.ArrayLike, second: npt.ArrayLike, patients: npt.ArrayLike, *, draws: int = 2000, seed: int = 1
) -> Comparison:
    """
    Compare two methods on the same cases by any figure of a case (Dice, HD95), first minus second.

    Args:
        first: (cases,).
        second: (cases,), in the same order.
        patients: (cases,) the patient of each case.
    Returns:
        The mean difference with its BCa interval, patients drawn whole; p of Wilcoxon's signed-rank test of the
        patients' mean differences (of the cases', then, where each patient has one): zeros ranked as Pratt (1959)
        would, p = 1 where no patient differs, NaN without a case.
    """
    difference = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    whose = Patients(patients)
    mean = bca(lambda rows: float(difference[rows].mean()) if len(rows) else NAN, patients, draws=draws, seed=seed)
    return Comparison(len(difference), mean, _signed_rank_p(np.bincount(whose.number, difference) / whose.sizes))


def _signed_rank_p(differences: Floats) -> float:
    if not len(differences) or not np.isfinite(differences).all():
        return NAN
    return float(wilcoxon(differences, zero_method="pratt").pvalue) if differences.any() else 1.0


def _outline(mask: Mask) -> Mask:
    outline: Mask = mask & ~binary_erosion(mask)
    return outline


def _check_alike(found: Mask, truth: Mask) -> None:
    if found.shape != truth.shape:
        raise ValueError(f"masks of {found.shape} and {truth.shape} pixels")
