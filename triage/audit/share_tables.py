"""Counts of two windows over the same cells: how far their shares lie apart, and how far in exchanged windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from scipy import sparse

from triage.audit.bootstrap import Floats
from triage.audit.resampling import AT_ONCE, Windows, at_most

CELLS = 1024
"""Cells that exchanges look at, at most."""
MOST = 10_000
"""Rows of a window, at most, where blocks are exchanged."""

Codes = npt.NDArray[np.intp]
Blocks = tuple[npt.ArrayLike, npt.ArrayLike]
Distance = Callable[[Floats, Floats], Floats]
"""Of counts (..., cells) of the reference and of the current window: (...)."""


def table(code: Codes, reference: int, cells: int) -> Floats:
    """Counts (2, cells) of rows' cells, the first *reference* rows being the reference's."""
    rows = (code[:reference], code[reference:])
    return np.array([np.bincount(c, minlength=cells) for c in rows], dtype=np.float64)


def differences(reference: Floats, current: Floats) -> Floats:
    """Shares of the current window less those of the reference, (..., cells) as the counts; 0 of an empty window."""
    found: Floats = current / _total(current) - reference / _total(reference)
    return found


def kolmogorov_smirnov(reference: Floats, current: Floats) -> Floats:
    """Largest difference of the shares at or below a cell."""
    return np.asarray(np.abs(np.cumsum(differences(reference, current), axis=-1)).max(axis=-1))


def chi_squared(reference: Floats, current: Floats) -> Floats:
    """Pearson's statistic of homogeneity; a cell empty in both windows adds nothing."""
    n, m = _total(reference)[..., 0], _total(current)[..., 0]
    pooled = (reference + current) / (n + m)[..., None]
    squares = np.divide(differences(reference, current) ** 2, pooled, out=np.zeros_like(pooled), where=pooled > 0)
    return np.asarray(n * m / (n + m) * squares.sum(axis=-1))


def stability(reference: Floats, current: Floats) -> Floats:
    """Population stability index, half a case added to each cell so that an empty one is not infinitely far."""
    p, q = ((c + 0.5) / _total(c + 0.5) for c in (reference, current))
    return np.asarray(((q - p) * np.log(q / p)).sum(axis=-1))


def quantile_cells(code: Codes, cells: int) -> tuple[Codes, int]:
    """Ordered cells merged to at most CELLS, at quantiles of all rows together, which no exchange changes."""
    if cells <= CELLS:
        return code, cells
    up_to = np.cumsum(np.bincount(code, minlength=cells))
    place = (up_to - 1) * CELLS // up_to[-1]
    _, merged = np.unique(place, return_inverse=True)
    return merged[code], int(merged[-1]) + 1


def frequent_cells(code: Codes, cells: int) -> tuple[Codes, int]:
    """Cells without an order merged to at most CELLS: the rarest of all rows together become one."""
    if cells <= CELLS:
        return code, cells
    rank = np.empty(cells, dtype=np.intp)
    rank[np.argsort(-np.bincount(code, minlength=cells), kind="stable")] = np.arange(cells)
    return np.minimum(rank, CELLS - 1)[code], CELLS


def exchanged(
    code: Codes, reference: int, cells: int, blocks: Blocks | None, distance: Distance, draws: int, seed: int
) -> Floats:
    """(draws,) distances of windows whose rows, or whole blocks where these are given, were exchanged."""
    if blocks is None:
        batches = _rows_exchanged(table(code, reference, cells), draws, seed)
    else:
        batches = _blocks_exchanged(code, cells, blocks, draws, seed)
    return np.concatenate([distance(*counts) for counts in batches])


def simulated(counts: Floats, distance: Distance, draws: int, seed: int) -> Floats:
    """
    (draws,) distances of the reference from current windows like it, its bins made at its own quantiles.

    The true shares of bins between quantiles of n values are a Dirichlet distribution's, with n per bin each (Wilks,
    Mathematical Statistics, 1962, section 8.7); a bin that the reference leaves empty counts as half a case.
    """
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.maximum(counts[0], 0.5), size=draws)
    current = rng.multinomial(int(counts[1].sum()), shares).astype(np.float64)
    return distance(np.broadcast_to(counts[0], current.shape), current)


def sample(code: Codes, reference: int, blocks: Blocks, seed: int) -> tuple[Codes, int, Blocks]:
    """Codes, number of reference rows and blocks of at most MOST rows a window."""
    of_reference, of_current = (np.asarray(b) for b in blocks)
    first, second = (at_most(MOST, len(b), seed) for b in (of_reference, of_current))
    kept = np.concatenate([code[:reference][first], code[reference:][second]])
    return kept, len(first), (of_reference[first], of_current[second])


def design_effect(code: Codes, reference: int, cells: int, blocks: Blocks, seed: int, draws: int = 200) -> float:
    """How many times more the shares at or below a cell vary between exchanged blocks than between rows, 1 or more."""
    counts = table(code, reference, cells)
    up_to = np.cumsum(counts.sum(axis=0)) / counts.sum()
    rows = float((up_to * (1 - up_to)).sum() * (1 / counts[0].sum() + 1 / counts[1].sum()))
    squares = [
        (np.cumsum(differences(*batch), axis=-1) ** 2).sum(axis=-1)
        for batch in _blocks_exchanged(code, cells, blocks, draws, seed)
    ]
    return max(1.0, float(np.concatenate(squares).mean()) / rows) if rows > 0 else 1.0


def _rows_exchanged(counts: Floats, draws: int, seed: int) -> Iterator[tuple[Floats, Floats]]:
    rng = np.random.default_rng(seed)
    pooled = counts.sum(axis=0).astype(np.int64)
    batch = max(1, AT_ONCE // len(pooled))
    for start in range(0, draws, batch):
        current = rng.multivariate_hypergeometric(
            pooled, int(counts[1].sum()), size=min(batch, draws - start), method="marginals"
        ).astype(np.float64)
        yield pooled - current, current


def _blocks_exchanged(
    code: Codes, cells: int, blocks: Blocks, draws: int, seed: int
) -> Iterator[tuple[Floats, Floats]]:
    windows = Windows(*blocks)
    by_block = sparse.csr_array((np.ones(len(code)), (windows.number, code)), shape=(len(windows.is_current), cells))
    by_block.sum_duplicates()
    pooled = np.bincount(code, minlength=cells)
    for is_current in windows.exchanged(draws, seed):
        current: Floats = is_current.astype(np.float64) @ by_block
        yield pooled - current, current


def _total(counts: Floats) -> Floats:
    total: Floats = np.maximum(counts.sum(axis=-1, keepdims=True), 1e-300)
    return total
