"""Two windows of cases whose whole blocks (days or patients) are exchanged between them, or drawn anew in each."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc

from triage.audit.bootstrap import NAN, Floats, Patients, Rows

AT_ONCE = 2_000_000
"""Marks of one batch of exchanges, to bound memory."""


class Windows:
    """
    Which block each row belongs to: the reference's rows first, then the current ones.

    A block seen in both windows, such as a patient who came back, counts as one in each. Exchanging whole blocks keeps
    a test's level when cases of a block resemble each other, as long as blocks themselves are independent.
    """

    def __init__(self, reference: npt.ArrayLike, current: npt.ArrayLike) -> None:
        """*reference*, *current*: (n,) and (m,) one name or number a row; all different where rows are independent."""
        of_reference, of_current = Patients(reference), Patients(current)
        self.number: Rows = np.concatenate([of_reference.number, len(of_reference) + of_current.number])
        self.is_current = np.arange(len(of_reference) + len(of_current)) >= len(of_reference)
        self.of_reference, self.of_current = of_reference, of_current

    def exchanged(self, draws: int, seed: int) -> Iterator[npt.NDArray[np.bool_]]:
        """Batches (b, blocks) of which blocks are called current, as many of them as there are; *draws* in all."""
        rng = np.random.default_rng(seed)
        batch = max(1, AT_ONCE // max(len(self.is_current), 1))
        for start in range(0, draws, batch):
            yield rng.permuted(np.tile(self.is_current, (min(batch, draws - start), 1)), axis=1)

    def redrawn(self, figures: Callable[[Rows, Rows], Floats], draws: int, seed: int) -> Floats:
        """
        Bootstrap over both windows: *figures* (f,) of as many blocks of each, drawn with replacement.

        Args:
            figures: of row numbers of the reference and of the current window, each counted from 0.
        Returns:
            (draws, f).
        """
        rng = np.random.default_rng(seed)
        sets = (
            (whose.rows_of(rng.integers(len(whose), size=len(whose))) for whose in (self.of_reference, self.of_current))
            for _ in range(draws)
        )
        return np.array([figures(*rows) for rows in sets], dtype=np.float64)


def blocks_of(blocks: npt.ArrayLike | None, rows: int) -> npt.NDArray[np.generic]:
    """The blocks of *rows* cases; none given, each is its own."""
    found = np.arange(rows) if blocks is None else np.asarray(blocks)
    if found.shape != (rows,):
        raise ValueError(f"blocks: {found.shape} for {rows} rows")
    return found


def at_most(most: int, rows: int, seed: int) -> Rows:
    """
    Numbers, ascending, of at most *most* of *rows* rows drawn at random; all where there are no more.

    Blocks become smaller by it, hardly fewer, and remain as independent and as exchangeable as they were.
    """
    if rows <= most:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, size=most, replace=False))


def exchange_p(observed: float, exchanged: Floats) -> float:
    """Share of exchanges (draws,) at least as large, the observed one being one of them (Phipson & Smyth 2010)."""
    as_large = exchanged >= observed - 1e-12 * max(abs(observed), 1e-300)
    return float((1 + np.count_nonzero(as_large)) / (len(exchanged) + 1))


def wald_p(value: npt.ArrayLike, drawn: Floats) -> float:
    """
    Chi-squared test that the figures *value* (f,) estimate are all 0, their covariance taken from bootstrap draws.

    Args:
        drawn: (draws, f); draws with a NaN are left out.
    Returns:
        NaN where a figure is, where half the draws were undefined, or where nothing varies.
    """
    figures = np.atleast_1d(np.asarray(value, dtype=np.float64))
    defined = drawn[np.isfinite(drawn).all(axis=1)]
    if not np.isfinite(figures).all() or 2 * len(defined) < len(drawn) or len(defined) < 2:
        return NAN
    between = np.atleast_2d(np.cov(defined, rowvar=False))
    rank = int(np.linalg.matrix_rank(between, hermitian=True))
    return float(chdtrc(rank, figures @ np.linalg.pinv(between, hermitian=True) @ figures)) if rank else NAN


def limits(drawn: Floats, level: float = 0.95) -> tuple[float, float]:
    """Percentile limits of one figure's draws (draws,); NaN where half of them or more were undefined."""
    defined = drawn[np.isfinite(drawn)]
    if 2 * len(defined) <= len(drawn):
        return NAN, NAN
    low, high = np.quantile(defined, (0.5 - level / 2, 0.5 + level / 2))
    return float(low), float(high)
