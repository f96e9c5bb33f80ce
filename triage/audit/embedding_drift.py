"""Do the images of two windows look alike? Kernel distance, a classifier that tries to tell them apart, novel cases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.spatial.distance import pdist, squareform
from scipy.special import expit, logit
from scipy.stats import rankdata

from triage.audit.bootstrap import NAN, Floats, Rows
from triage.audit.performance import area
from triage.audit.resampling import Windows, at_most, blocks_of, exchange_p
from triage.audit.two_samples import LEAST, LEAST_BLOCKS

MOST = 1000
"""Rows of a window that are looked at; more are drawn from."""
FOLDS, STEPS, RIDGE = 5, 25, 1.0


@dataclass(frozen=True)
class Kernel:
    """
    Maximum mean discrepancy of two windows' embeddings (Gretton et al., JMLR 13, 2012).

    Attributes:
        squared: the unbiased estimate of MMD², about 0 without drift and then as often negative as positive.
        p: by exchange of rows or blocks; NaN in a window of fewer than LEAST rows or LEAST_BLOCKS blocks.
        reference, current: rows looked at.
    """

    squared: float
    p: float
    reference: int
    current: int
    draws: int
    seed: int


@dataclass(frozen=True, eq=False)
class Classifier:
    """
    A logistic regression that learns to tell the current window from the reference (C2ST; Lopez-Paz & Oquab 2017).

    Attributes:
        area, low, high: AUC of cases it was not fitted to; 0.5 where the windows look alike. DeLong's limits take the
            fits for given and are somewhat narrow: only p is a test.
        p: by exchange of rows or blocks, each fitted anew; NaN as in `Kernel`.
        distance: largest difference of the shares of the windows' cases above a score: at least so many cases of the
            current window look otherwise. Above 0 by chance alone.
        reference_rows, current_rows: numbers of the rows looked at, in the windows as given.
        score: (rows,) logit of being current, out of fold, reference rows first; NaN where not judged.
        novel: rows of the current window, the one that looks least like the reference first.
    """

    area: float
    low: float
    high: float
    p: float
    distance: float
    reference_rows: Rows
    current_rows: Rows
    score: Floats
    novel: Rows
    draws: int
    seed: int


def kernel(
    reference: npt.ArrayLike,
    current: npt.ArrayLike,
    *,
    blocks: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    most: int = MOST,
    draws: int = 500,
    seed: int = 1,
) -> Kernel:
    """
    MMD² with the Gaussian kernel exp(-distance² / median distance²).

    Args:
        reference, current: (n, d) and (m, d), d at most some dozens.
        blocks: (n,) and (m,) the patient or day of each row; none given, rows are independent.
        most: rows of a window that are looked at.
    Raises:
        ValueError: not two tables of as many columns, or a number that is not finite.
    """
    looked = _Looked(reference, current, blocks, most, seed)
    n, m = len(looked.reference_rows), len(looked.current_rows)
    if not looked.is_enough:
        return Kernel(NAN, NAN, n, m, 0, seed)
    squares = squareform(pdist(looked.x, "sqeuclidean"))
    apart = squares[squares > 0]
    if not len(apart):
        return Kernel(0.0, 1.0, n, m, 0, seed)
    # one matrix product a batch needs the diagonal gone: pairs of a row with itself are left out
    similar = np.exp(-squares / np.median(apart))
    np.fill_diagonal(similar, 0.0)
    squared = float(_discrepancy(similar, looked.is_current[None])[0])
    drawn = np.concatenate(
        [_discrepancy(similar, batch[:, looked.windows.number]) for batch in looked.windows.exchanged(draws, seed)]
    )
    return Kernel(squared, exchange_p(squared, drawn), n, m, draws, seed)


def classifier(
    reference: npt.ArrayLike,
    current: npt.ArrayLike,
    *,
    blocks: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    most: int = MOST,
    draws: int = 500,
    seed: int = 1,
) -> Classifier:
    """
    Cross-validated AUC of telling the windows apart, folds made of whole blocks. Arguments as of `kernel`.

    A rank test of the cross-validated scores would be wrong, as they share their fits: at a nominal 0.05 it found
    drift in 0.12 of windows without any (300 and 100 images of 64 numbers). So each exchange of labels is fitted
    again, all of them at once.
    """
    looked = _Looked(reference, current, blocks, most, seed)
    rows = looked.reference_rows, looked.current_rows
    if not looked.is_enough:
        nothing = np.full(len(looked.x), NAN)
        return Classifier(NAN, NAN, NAN, NAN, NAN, *rows, nothing, np.empty(0, dtype=np.intp), 0, seed)
    folds = np.random.default_rng(seed).permutation(len(looked.windows.is_current)) % FOLDS
    fold = folds[looked.windows.number]
    observed = _out_of_fold(looked.x, looked.is_current[:, None], fold)
    drawn = [
        _areas(_centred(_out_of_fold(looked.x, labels, fold), fold), labels)
        for labels in (b.T[looked.windows.number] for b in looked.windows.exchanged(draws, seed))
    ]
    score = _centred(observed, fold)[:, 0]
    found = area(score, looked.is_current, looked.windows.number)
    mine, theirs = np.sort(score[looked.is_current]), np.sort(score[~looked.is_current])
    below = [np.searchsorted(v, score, side="right") / len(v) for v in (mine, theirs)]
    distance = float(np.abs(below[0] - below[1]).max())
    novel = rows[1][np.argsort(-score[looked.is_current], kind="stable")]
    p = exchange_p(found.value, np.concatenate(drawn))
    return Classifier(found.value, found.low, found.high, p, distance, *rows, observed[:, 0], novel, draws, seed)


class _Looked:
    """The rows of both windows that are looked at, one below the other."""

    def __init__(
        self,
        reference: npt.ArrayLike,
        current: npt.ArrayLike,
        blocks: tuple[npt.ArrayLike, npt.ArrayLike] | None,
        most: int,
        seed: int,
    ) -> None:
        x, y = (np.asarray(v, dtype=np.float64) for v in (reference, current))
        if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
            raise ValueError(f"embedding: {x.shape} against {y.shape}")
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise ValueError("embedding: a number that is not finite")
        given = (None, None) if blocks is None else blocks
        of_x, of_y = blocks_of(given[0], len(x)), blocks_of(given[1], len(y))
        self.reference_rows, self.current_rows = at_most(most, len(x), seed), at_most(most, len(y), seed)
        self.x = np.concatenate([x[self.reference_rows], y[self.current_rows]])
        self.windows = Windows(of_x[self.reference_rows], of_y[self.current_rows])
        self.is_current = self.windows.is_current[self.windows.number]
        fewest = min(len(self.windows.of_reference), len(self.windows.of_current))
        self.is_enough = min(len(self.reference_rows), len(self.current_rows)) >= LEAST and fewest >= LEAST_BLOCKS


def _discrepancy(similar: Floats, is_current: npt.NDArray[np.bool_]) -> Floats:
    """MMD² (b,) of each labelling (b, rows), from similarities (rows, rows) with an empty diagonal."""
    y = is_current.astype(np.float64)
    n, m = (~is_current).sum(axis=1), is_current.sum(axis=1)
    to_current = y @ similar
    everything, between_all = similar.sum(), to_current.sum(axis=1)
    within_y = (to_current * y).sum(axis=1)
    across = between_all - within_y
    within_x = everything - within_y - 2 * across
    return np.asarray(within_x / (n * (n - 1)) + within_y / (m * (m - 1)) - 2 * across / (n * m))


def _out_of_fold(x: Floats, labels: npt.NDArray[np.bool_], fold: Rows) -> Floats:
    """Logits (rows, b) for each labelling (rows, b), every row's from the fit without its fold."""
    spread = x.std(axis=0)
    scaled = (x - x.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    columns = np.column_stack([np.ones(len(x)), scaled])
    found = np.empty(labels.shape)
    for f in range(FOLDS):
        inside = fold != f
        found[~inside] = columns[~inside] @ _fitted(columns[inside], labels[inside].astype(np.float64))
    return found


def _fitted(columns: Floats, y: Floats) -> Floats:
    """
    Coefficients (columns, b) of ridge logistic regressions, one for each labelling (rows, b).

    STEPS of Böhning and Lindsay's method (1988): as X'X / 4 bounds the information, one factor serves all labellings
    and every step gains likelihood. The steps are counted, not judged, so that all labellings are treated alike.
    """
    penalty = np.full(columns.shape[1], RIDGE)
    penalty[0] = 1e-6
    bound = cho_factor(columns.T @ columns / 4 + np.diag(penalty))
    at = np.zeros((columns.shape[1], y.shape[1]))
    at[0] = logit(np.clip(y.mean(axis=0), 1e-3, 1 - 1e-3))
    for _ in range(STEPS):
        at += cho_solve(bound, columns.T @ (y - expit(columns @ at)) - penalty[:, None] * at)
    return at


def _centred(scores: Floats, fold: Rows) -> Floats:
    """Scores less their fold's mean, as intercepts differ by nothing a case looks like; rounded, so that ties are."""
    sizes = np.bincount(fold, minlength=FOLDS)
    means = np.array([scores[fold == f].mean(axis=0) if sizes[f] else scores[0] for f in range(FOLDS)])
    centred: Floats = np.round(scores - means[fold], 9)
    return centred


def _areas(scores: Floats, labels: npt.NDArray[np.bool_]) -> Floats:
    """AUC (b,) of each column of scores (rows, b) for its labelling."""
    m = labels.sum(axis=0)
    above = (rankdata(scores, axis=0) * labels).sum(axis=0) - m * (m + 1) / 2
    return np.asarray(above / (m * (len(labels) - m)))
