"""Whether Markov chains can be believed: rank-normalised split R-hat, bulk and tail effective sample size, verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.fft import irfft, next_fast_len, rfft
from scipy.special import ndtri
from scipy.stats import rankdata

from triage.audit.bootstrap import NAN, Floats

R_HAT_BELOW = 1.01
ESS_ABOVE = 400.0
BLOCK = 128
"""Quantities at a time: bounds the memory of the Fourier transforms."""


@dataclass(frozen=True)
class Diagnosis:
    """The worst of all quantities, and a verdict in plain words: `is_usable` says whether it begins with "usable"."""

    r_hat: float
    ess_bulk: float
    ess_tail: float
    divergences: int
    is_usable: bool
    verdict: str


def diagnose(quantities: Mapping[str, npt.ArrayLike], divergences: int) -> Diagnosis:
    """
    The verdict over all quantities drawn: usable if R-hat < 1.01, both sizes > 400 (Vehtari et al.) and no divergence.

    Args:
        quantities: name to draws (chains, draws, ...). One that never moves has no diagnosis, so none of all is usable.
        divergences: of all chains.
    """
    worst = {
        "R-hat": _worst(r_hat, quantities, np.max),
        "bulk effective sample size": _worst(ess_bulk, quantities, np.min),
        "tail effective sample size": _worst(ess_tail, quantities, np.min),
    }
    faults = []
    for figure, (value, name) in worst.items():
        is_right, limit = (value < R_HAT_BELOW, "below 1.01") if figure == "R-hat" else (value > ESS_ABOVE, "above 400")
        if not is_right:
            faults.append(f"{figure} of {name} is {value:.{3 if figure == 'R-hat' else 0}f}, not {limit}")
    if divergences:
        faults.append(f"{divergences} divergent trajectories")
    verdict = "not usable: " + "; ".join(faults) if faults else "usable: chains agree, enough draws, no divergence"
    hat, bulk, tail = (value for value, _ in worst.values())
    return Diagnosis(hat, bulk, tail, divergences, not faults, verdict)


def r_hat(draws: npt.ArrayLike) -> Floats:
    """
    Rank-normalised split R-hat: the larger of bulk and folded (Vehtari et al., Bayesian Analysis 16, 2021).

    Args:
        draws: (chains, draws, ...) at least four draws.
    Returns:
        (...); near 1 where all halves of all chains agree in place and spread; inf where each stays in one place of its
        own, NaN where nothing moves or a draw is not finite.
    """

    def of_block(values: Floats) -> Floats:
        halves = _halves(values)
        folded = np.abs(halves - np.median(halves, axis=(0, 1)))
        return np.maximum(_split_r_hat(_normal_scores(halves)), _split_r_hat(_normal_scores(folded)))

    return _by_block(of_block, draws)


def ess_bulk(draws: npt.ArrayLike) -> Floats:
    """
    Effective sample size of the normal scores: how well the centre of a distribution is known (ibid.).

    Args:
        draws: (chains, draws, ...).
    Returns:
        (...); NaN where nothing moves or a draw is not finite.
    """
    return _by_block(lambda values: _ess(_normal_scores(_halves(values))), draws)


def ess_tail(draws: npt.ArrayLike) -> Floats:
    """Effective sample size of being below the 5 % or the 95 % quantile, the smaller (ibid.): as `ess_bulk`."""

    def of_block(values: Floats) -> Floats:
        low, high = np.quantile(values, (0.05, 0.95), axis=(0, 1))
        # of a quantity of few values all may lie below a quantile, which then says nothing
        return np.fmin(_ess(_halves(values <= low)), _ess(_halves(values <= high)))

    return _by_block(of_block, draws)


def _worst(
    figure: Callable[[npt.ArrayLike], Floats], quantities: Mapping[str, npt.ArrayLike], pick: Callable[[Floats], float]
) -> tuple[float, str]:
    """The worst value of a figure and the quantity it is of; NaN is worst of all."""
    of_each = {name: float(pick(figure(draws))) for name, draws in quantities.items()}
    values = np.array(list(of_each.values()))
    worst = float(pick(values))
    at = int(np.argmax(np.isnan(values))) if np.isnan(worst) else int(np.argmax(values == worst))
    return worst, list(of_each)[at]


def _by_block(figure: Callable[[Floats], Floats], draws: npt.ArrayLike) -> Floats:
    """A figure of (chains, draws, block) at a time; NaN where not every draw is finite, or all are alike."""
    values = np.asarray(draws, dtype=np.float64)
    if values.ndim < 2 or values.shape[0] < 1 or values.shape[1] < 4:
        raise ValueError(f"draws: shape {values.shape}, not (chains, at least 4 draws, ...)")
    flat = values.reshape(*values.shape[:2], -1)
    found = np.full(flat.shape[2], NAN)
    finite = np.flatnonzero(np.isfinite(flat).all(axis=(0, 1)))
    columns = finite[np.ptp(flat[:, :, finite], axis=(0, 1)) > 0]
    for start in range(0, len(columns), BLOCK):
        block = columns[start : start + BLOCK]
        found[block] = figure(flat[:, :, block])
    return found.reshape(values.shape[2:])


def _halves(values: npt.NDArray[np.generic]) -> Floats:
    """Both halves of each chain as chains; the middle draw of an odd number belongs to neither."""
    half = values.shape[1] // 2
    return np.concatenate([values[:, :half], values[:, -half:]]).astype(np.float64)


def _normal_scores(values: Floats) -> Floats:
    """Each draw's normal quantile of its rank among all chains (Blom's 3/8)."""
    flat = values.reshape(-1, values.shape[2])
    scores: Floats = ndtri((rankdata(flat, axis=0) - 0.375) / (len(flat) + 0.25))
    return scores.reshape(values.shape)


def _variances(values: Floats) -> tuple[Floats, Floats]:
    """Mean variance within chains, and the estimate of the variance that is too large while chains disagree."""
    n = values.shape[1]
    within = values.var(axis=1, ddof=1).mean(axis=0)
    return within, (n - 1) / n * within + values.mean(axis=1).var(axis=0, ddof=1)


def _split_r_hat(values: Floats) -> Floats:
    within, pooled = _variances(values)
    ratio = np.divide(pooled, within, out=np.full_like(pooled, np.inf), where=within > 0)
    # folded draws can all be alike where the draws are not: two values, equally often
    ratio[pooled == 0] = 1.0
    return np.sqrt(ratio)


def _ess(values: Floats) -> Floats:
    """
    Effective sample size of (chains, draws, k) from the autocorrelation, cut by Geyer's initial monotone sequence.

    As in Stan and ArviZ: with half of the pair at which it stops, if positive, and at most S log10 S of S draws.
    """
    chains, n, _ = values.shape
    within, pooled = _variances(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = 1 - (within - _autocovariance(values).mean(axis=0)) / pooled
    correlation[0] = 1.0
    pairs = max((n - 2) // 2, 1)
    even = correlation[0 : 2 * pairs : 2]
    together = even + correlation[1 : 2 * pairs : 2]
    # a sequence stops at the first pair that is not positive, at the last one there is otherwise
    is_last = together <= 0
    is_last[-1] = True
    last = np.argmax(is_last, axis=0)
    summed = np.cumsum(np.minimum.accumulate(together, axis=0), axis=0)
    columns = np.arange(len(last))
    before = np.where(last > 0, summed[last - 1, columns], 0.0)
    time = -1 + 2 * before + np.maximum(even[last, columns], 0)
    size: Floats = chains * n / np.maximum(time, 1 / np.log10(chains * n))
    return size


def _autocovariance(values: Floats) -> Floats:
    """(chains, draws, k) by lag instead of draw, divided by the number of draws."""
    n = values.shape[1]
    length = next_fast_len(2 * n, real=True)
    spectrum = rfft(values - values.mean(axis=1, keepdims=True), length, axis=1)
    found: Floats = irfft(np.abs(spectrum) ** 2, length, axis=1)[:, :n] / n
    return found
