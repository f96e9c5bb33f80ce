"""Which columns of the DICOM header, the pixels' statistics or the scores have changed: one table, one family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import false_discovery_control

from triage.audit.bootstrap import Floats
from triage.audit.share_tables import Blocks
from triage.audit.states import State
from triage.audit.two_samples import Comparison, categories, judged, numbers

MARGIN = 0.1
"""Difference of shares that matters, where the caller declares no other."""

Columns = Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]]
"""By name: (n,) of the reference and (m,) of the current window."""


@dataclass(frozen=True)
class Row:
    """
    One column of the table.

    Attributes:
        effect: largest difference of shares, 0 to 1; `found` has all else of the comparison.
        missing: share of missing values in the reference and in the current window.
        p, adjusted_p: NaN where a window is too small. An adjusted p of 0.05 or less in all rows that have it means
            that one in twenty of these are false on average.
        detectable: effect that would have been found with a power of 0.8, even as the only one of the table.
        state: never ALARM, see `two_samples.judged`.
    """

    name: str
    effect: float
    p: float
    adjusted_p: float
    detectable: float
    missing: tuple[float, float]
    state: State
    found: Comparison


def drift(
    of_numbers: Columns,
    of_categories: Columns,
    *,
    blocks: Blocks | None = None,
    alpha: float = 0.05,
    margin: float = MARGIN,
    draws: int = 1999,
    seed: int = 1,
) -> tuple[Row, ...]:
    """
    Compare every column, numbers first, each in the order given; no column is left out for what it holds.

    Args:
        of_numbers: NaN where missing.
        of_categories: texts or codes; None, NaN or an empty text where missing.
        blocks: (n,) and (m,) the day or patient of each row, the same for all columns; none given, rows are
            independent, which exams of one patient or day hardly are.
        margin: difference of shares that matters.
        draws: exchanges, where p needs them: no p is below 1 / (draws + 1).
    Raises:
        ValueError: a name stands twice, or columns of a window differ in length.
    """
    if set(of_numbers) & set(of_categories):
        raise ValueError("columns: a name stands among the numbers and the categories")
    pairs = [(np.asarray(x), np.asarray(y)) for columns in (of_numbers, of_categories) for x, y in columns.values()]
    if len({(x.shape, y.shape) for x, y in pairs}) > 1:
        raise ValueError("columns: they differ in length")
    names = (*of_numbers, *of_categories)
    found = [
        (numbers if name in of_numbers else categories)(x, y, blocks=blocks, draws=draws, seed=seed)
        for name, (x, y) in zip(names, pairs, strict=True)
    ]
    adjusted = benjamini_hochberg(np.array([f.p for f in found]))
    among = len(found)
    return tuple(
        Row(
            name,
            f.effect,
            f.p,
            float(p),
            f.detectable(alpha / among),
            (_missing(x), _missing(y)),
            judged(f, float(p), margin=margin, alpha=alpha, among=among),
            f,
        )
        for name, (x, y), f, p in zip(names, pairs, found, adjusted, strict=True)
    )


def benjamini_hochberg(p: npt.ArrayLike) -> Floats:
    """
    Adjusted p (k,): believe those at most alpha, and alpha of them are false on average (JRSS B 57, 1995).

    Right for independent and for positively dependent figures, which columns of one header mostly are. NaN, a figure
    that could not be judged, stays NaN but counts in k.
    """
    given = np.asarray(p, dtype=np.float64)
    if not given.size:
        return given
    adjusted: Floats = false_discovery_control(np.nan_to_num(given, nan=1.0))
    return np.where(np.isnan(given), np.nan, adjusted)


def _missing(column: npt.NDArray[np.generic]) -> float:
    if not len(column):
        return float("nan")
    if column.dtype.kind == "f":
        return float(np.isnan(column.astype(np.float64)).mean())
    if column.dtype.kind in "biu":
        return 0.0
    return float(np.mean([v is None or v != v or v == "" for v in column.tolist()]))
