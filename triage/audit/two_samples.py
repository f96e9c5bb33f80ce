"""
Has one column changed between a reference and a current window? Numbers, categories, and the stability index.

The size of a change is always the largest difference of shares: for numbers, of cases at or below some value
(Kolmogorov and Smirnov's D); else, of cases in some set of categories or bins (total variation). p says whether there
is one, `detectable` what these windows could have found, and neither stands for the other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import chdtrc, chdtri, chndtr, kolmogi, ndtri
from scipy.stats import ks_2samp, kstwo

from triage.audit.bootstrap import NAN, Floats
from triage.audit.resampling import blocks_of, exchange_p
from triage.audit.share_tables import (
    Blocks,
    Codes,
    Distance,
    chi_squared,
    design_effect,
    differences,
    exchanged,
    frequent_cells,
    kolmogorov_smirnov,
    quantile_cells,
    sample,
    simulated,
    stability,
    table,
)
from triage.audit.states import State

Kind = Literal["numbers", "categories", "stability index"]

NONE = "not compared"
LEAST, LEAST_BLOCKS = 30, 5
"""Rows, and blocks where they are given, below which a window is not compared."""
EXACT_PAIRS = 1_000_000
"""Pairs of rows up to which p without ties is exact."""
EXPECTED = 5
"""Expected count below which a formula's p is not trusted."""


@dataclass(frozen=True)
class Comparison:
    """
    One column of two windows.

    Attributes:
        statistic, p: of the test *method*; p is NaN with fewer than LEAST rows, or LEAST_BLOCKS blocks, in a window.
        effect: largest difference of shares, 0 to 1.
        distance: Wasserstein's, of the values that are given, in standard deviations of the reference; NaN for
            categories, and where the reference has no spread.
        reference, current: rows.
        cells: categories, bins or different values.
        design_effect: how many times more the exchanged shares vary than those of as many independent rows would; 1
            without blocks.
        draws: exchanges or simulations that p rests on; 0 where it is a formula's.
    """

    kind: Kind
    statistic: float
    p: float
    effect: float
    distance: float
    method: str
    reference: int
    current: int
    cells: int
    design_effect: float = 1.0
    draws: int = 0
    seed: int = 1

    @property
    def is_adequate(self) -> bool:
        """Whether both windows are large enough to be compared at all."""
        return bool(np.isfinite(self.p))

    def detectable(self, alpha: float = 0.05, power: float = 0.8) -> float:
        """
        The effect from which on a difference is found with about this power or more, whatever its shape.

        For numbers: D's asymptotic critical value and the normal spread of a share of 1/2 at one place. Else: the
        noncentral chi-squared distribution's, total variation t being worth at least (2 t)² (Cauchy and Schwarz).
        Above 1 where no difference would be found, NaN in too small a window.
        """
        if not self.is_adequate:
            return NAN
        one = float(np.sqrt(self.design_effect * (1 / self.reference + 1 / self.current)))
        if self.kind == "numbers":
            return one * float(kolmogi(alpha) + ndtri(power) / 2)
        return one / 2 * float(np.sqrt(_noncentrality(max(self.cells - 1, 1), alpha, power)))


def judged(found: Comparison, p: float, *, margin: float, alpha: float = 0.05, among: int = 1) -> State:
    """
    What a report says of a comparison; never ALARM, as a changed input is no harm by itself.

    WATCH if p is at most alpha, unless the effect lies below a margin that would have been found; IN CONTROL if it
    would have been, at alpha / *among*; INSUFFICIENT otherwise.

    Args:
        p: adjusted for the comparisons made together.
        margin: the difference of shares that matters, declared beforehand.
        among: how many comparisons are made together.
    """
    if not np.isfinite(p) or not found.is_adequate:
        return State.INSUFFICIENT
    is_findable = found.detectable(alpha / among) <= margin
    if p <= alpha and (found.effect >= margin or not is_findable):
        return State.WATCH
    return State.IN_CONTROL if is_findable else State.INSUFFICIENT


def numbers(
    reference: npt.ArrayLike, current: npt.ArrayLike, *, blocks: Blocks | None = None, draws: int = 1999, seed: int = 1
) -> Comparison:
    """
    Kolmogorov-Smirnov's test; missing values count as one above all others, so that a change of them is found too.

    Without ties p is exact up to EXACT_PAIRS pairs of rows, then asymptotic, both as in scipy. With ties it comes from
    exchanging rows; with blocks from exchanging those, of `share_tables.MOST` rows a window drawn at random where there
    are more. Both look at `share_tables.CELLS` places of the distribution at most, quantiles of all rows together.

    Args:
        reference, current: (n,) and (m,), NaN where missing.
        blocks: (n,) and (m,) the day or patient of each row; none given, rows are independent.
    Raises:
        ValueError: a value is infinite.
    """
    x, y = (np.asarray(v, dtype=np.float64) for v in (reference, current))
    if np.isinf(x).any() or np.isinf(y).any():
        raise ValueError("numbers: an infinite value")
    _check_blocks(blocks, len(x), len(y))
    values, code = np.unique(np.concatenate([x, y]), return_inverse=True)
    counts = table(code, len(x), len(values))
    effect = float(kolmogorov_smirnov(*counts)) if len(values) else NAN
    distance = _wasserstein(values, counts)
    found = Comparison("numbers", effect, NAN, effect, distance, NONE, len(x), len(y), len(values), seed=seed)
    if not _is_enough(found, blocks):
        return found
    if blocks is None and len(values) == len(x) + len(y):
        return _without_ties(found, x, y)
    return _by_exchange(found, *quantile_cells(code, len(values)), kolmogorov_smirnov, blocks, draws)


def categories(
    reference: npt.ArrayLike, current: npt.ArrayLike, *, blocks: Blocks | None = None, draws: int = 1999, seed: int = 1
) -> Comparison:
    """
    Chi-squared test of homogeneity; a missing value (None, NaN, an empty text) is a category like any other.

    p is the formula's where every expected count is EXPECTED or more and rows are independent; else it comes from
    exchanging rows or blocks, the rarest categories merged where there are more than `share_tables.CELLS`.

    Args:
        reference, current: (n,) and (m,) texts, numbers or None.
        blocks: as in `numbers`.
    """
    x, y = np.asarray(reference), np.asarray(current)
    _check_blocks(blocks, len(x), len(y))
    code, cells = _coded(x, y)
    counts = table(code, len(x), cells)
    statistic, effect = float(chi_squared(*counts)), _total_variation(counts)
    found = Comparison("categories", statistic, NAN, effect, NAN, NONE, len(x), len(y), cells, seed=seed)
    if not _is_enough(found, blocks):
        return found
    if blocks is None and counts.sum(axis=0).min() * min(len(x), len(y)) >= EXPECTED * (len(x) + len(y)):
        return replace(found, p=_upper_tail(statistic, cells - 1), method="chi-squared")
    return _by_exchange(found, *frequent_cells(code, cells), chi_squared, blocks, draws)


def deciles(reference: npt.ArrayLike, bins: int = 10) -> Floats:
    """Inner edges (at most bins - 1,) between quantiles of *reference* (n,), to be frozen at acceptance; ties merge."""
    x = np.asarray(reference, dtype=np.float64)
    edges: Floats = np.unique(np.quantile(x[np.isfinite(x)], np.linspace(0, 1, bins + 1)[1:-1]))
    return edges


def stability_index(
    reference: npt.ArrayLike,
    current: npt.ArrayLike,
    edges: npt.ArrayLike,
    *,
    blocks: Blocks | None = None,
    draws: int = 1999,
    seed: int = 1,
) -> Comparison:
    """
    Population stability index over frozen bins, tested against its own chance distribution and by no rule of thumb.

    Without drift n m / (n + m) times the index is chi-squared with as many degrees of freedom as bins but one, so its
    size alone says nothing: of windows of 50 cases a third to two thirds exceed 0.2. p is that formula's where each bin
    expects EXPECTED cases or more and rows are independent. With fewer it is simulated, the bins' true shares being as
    uncertain as the reference leaves them; exchanged rows would not do, as only the reference fills its bins evenly.
    With blocks these are exchanged. Half a case is added to each bin, so that an empty one is not infinitely far away.

    Args:
        reference, current: (n,) and (m,); NaN goes to a bin of its own if there is any.
        edges: of `deciles`.
        blocks: as in `numbers`.
    """
    x, y = (np.asarray(v, dtype=np.float64) for v in (reference, current))
    _check_blocks(blocks, len(x), len(y))
    inner = np.asarray(edges, dtype=np.float64)
    pooled = np.concatenate([x, y])
    code = np.where(np.isnan(pooled), len(inner) + 1, np.searchsorted(inner, pooled))
    cells = len(inner) + 1 + bool(np.isnan(pooled).any())
    counts = table(code, len(x), cells)
    statistic, effect = float(stability(*counts)), _total_variation(counts)
    found = Comparison("stability index", statistic, NAN, effect, NAN, NONE, len(x), len(y), cells, seed=seed)
    if not _is_enough(found, blocks):
        return found
    n, m = len(x), len(y)
    if blocks is None and counts.sum(axis=0).min() * min(n, m) >= EXPECTED * (n + m):
        return replace(found, p=_upper_tail(n * m / (n + m) * statistic, cells - 1), method="chi-squared of the index")
    if blocks is None:
        drawn = simulated(counts, stability, draws, seed)
        return replace(found, p=exchange_p(statistic, drawn), method="index, simulated", draws=draws)
    return _by_exchange(found, code, cells, stability, blocks, draws)


def _without_ties(found: Comparison, x: Floats, y: Floats) -> Comparison:
    n, m = len(x), len(y)
    if n * m <= EXACT_PAIRS:
        p = float(ks_2samp(x, y, method="exact").pvalue)
        return replace(found, p=p, method="Kolmogorov-Smirnov, exact")
    p = float(kstwo.sf(found.statistic, round(n * m / (n + m))))
    return replace(found, p=p, method="Kolmogorov-Smirnov, asymptotic")


def _by_exchange(
    found: Comparison, code: Codes, cells: int, distance: Distance, blocks: Blocks | None, draws: int
) -> Comparison:
    reference, design = found.reference, 1.0
    if blocks is not None:
        code, reference, blocks = sample(code, reference, blocks, found.seed)
        fewer = (1 / reference + 1 / (len(code) - reference)) / (1 / found.reference + 1 / found.current)
        design = fewer * design_effect(code, reference, cells, blocks, found.seed)
    drawn = exchanged(code, reference, cells, blocks, distance, draws, found.seed)
    p = exchange_p(float(distance(*table(code, reference, cells))), drawn)
    name = {"numbers": "Kolmogorov-Smirnov", "categories": "chi-squared", "stability index": "index"}[found.kind]
    method = f"{name}, {'rows' if blocks is None else 'blocks'} exchanged"
    return replace(found, p=p, method=method, design_effect=design, draws=draws)


def _check_blocks(blocks: Blocks | None, reference: int, current: int) -> None:
    if blocks is not None:
        for given, rows in zip(blocks, (reference, current), strict=True):
            blocks_of(given, rows)


def _is_enough(found: Comparison, blocks: Blocks | None) -> bool:
    if min(found.reference, found.current) < LEAST:
        return False
    return blocks is None or min(len(np.unique(np.asarray(b))) for b in blocks) >= LEAST_BLOCKS


def _coded(x: npt.NDArray[np.generic], y: npt.NDArray[np.generic]) -> tuple[Codes, int]:
    """Each row's category as a number, and how many there are."""
    if x.dtype.kind in "biuf" and y.dtype.kind in "biuf":
        values, code = np.unique(np.concatenate([x, y]), return_inverse=True)
        return code, len(values)
    texts = ["" if v is None or v != v else str(v) for v in (*x.tolist(), *y.tolist())]
    number = {text: i for i, text in enumerate(sorted(set(texts)))}
    return np.fromiter((number[t] for t in texts), np.intp, len(texts)), len(number)


def _total_variation(counts: Floats) -> float:
    return float(np.abs(differences(*counts)).sum() / 2)


def _wasserstein(values: Floats, counts: Floats) -> float:
    """Area between the distribution functions of the values given (V,), in standard deviations of the reference."""
    given = np.isfinite(values)
    v, of_reference, of_current = values[given], *counts[:, given]
    if not of_reference.sum() or not of_current.sum():
        return NAN
    mean = float(of_reference @ v / of_reference.sum())
    spread = float(of_reference @ (v - mean) ** 2 / of_reference.sum()) ** 0.5
    between = np.abs(np.cumsum(differences(of_reference, of_current)))[:-1] @ np.diff(v)
    return float(between) / spread if spread > 0 else NAN


def _upper_tail(statistic: float, df: int) -> float:
    """Of the chi-squared distribution; 1 where only one category exists and nothing can differ."""
    return float(chdtrc(df, statistic)) if df > 0 else 1.0


def _noncentrality(df: int, alpha: float, power: float) -> float:
    """With which a chi-squared test at *alpha* has *power*."""
    critical = float(chdtri(df, alpha))
    return float(brentq(lambda x: float(chndtr(critical, df, x)) - (1 - power), 0, 10 * (critical + 100)))
