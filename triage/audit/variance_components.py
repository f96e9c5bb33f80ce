"""Variance components of a reader study: Obuchowski and Rockette's from figures and covariances, and Dorfman's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triage.audit.bootstrap import NAN, Floats


@dataclass(frozen=True)
class OneModality:
    """What the variance of one modality's mean rests on."""

    mean: float
    ms_r: float
    var: float
    cov2: float


@dataclass(frozen=True)
class DorfmanBerbaumMetz:
    """Variance components of the pseudovalues' model: T modality, R reader, C case; the last two are one here."""

    var_r: float
    var_c: float
    var_tr: float
    var_tc: float
    var_rc: float
    var_trc_error: float


@dataclass(frozen=True)
class VarianceComponents:
    """
    Mean squares of the readers' figures, and how their errors covary over cases.

    Attributes:
        var, cov1, cov2, cov3: of one figure; of the same reader in two modalities; of two readers in the same
            modality; of two readers in two modalities. Means over all such pairs.
        one: each modality by itself.
    """

    readers: int
    cases: int
    ms_t: float
    ms_r: float
    ms_tr: float
    var: float
    cov1: float
    cov2: float
    cov3: float
    one: tuple[OneModality, ...]

    @property
    def var_r(self) -> float:
        """Of the readers' skill."""
        return (self.ms_r - self.ms_tr) / len(self.one) - self.cov1 + self.cov3

    @property
    def var_tr(self) -> float:
        """Of how differently readers fare in the modalities; may be estimated below 0."""
        return self.ms_tr - self.var + self.cov1 + (self.cov2 - self.cov3)

    @property
    def is_clipped(self) -> bool:
        """Cov2 < Cov3, which the model does not allow: results with and without clipping at 0 differ."""
        return self.cov2 < self.cov3

    @property
    def dbm(self) -> DorfmanBerbaumMetz:
        """As components of the pseudovalues (Hillis et al., Statistics in Medicine 24, 2005)."""
        k, var, cov1, cov2, cov3 = self.cases, self.var, self.cov1, self.cov2, self.cov3
        return DorfmanBerbaumMetz(
            self.var_r, k * cov3, self.var_tr, k * (cov2 - cov3), k * (cov1 - cov3), k * (var - cov1 - cov2 + cov3)
        )


def variance_components(value: Floats, covariance: Floats, cases: int) -> VarianceComponents:
    """
    Args:
        value: (modalities, readers) figures of merit.
        covariance: (modalities, readers, modalities, readers) of their errors over cases.
        cases: how many, of all classes.
    Returns:
        NaN for what cannot be given: all of it where a figure is missing, what compares modalities or readers where
        there is but one.
    """
    t, j = value.shape
    effects = value - value.mean(axis=0) - value.mean(axis=1, keepdims=True) + value.mean()
    ms_t = _mean_square(j * (value.mean(axis=1) - value.mean()) ** 2, t - 1)
    ms_r = _mean_square(t * (value.mean(axis=0) - value.mean()) ** 2, j - 1)
    same_t, same_r = np.eye(t, dtype=bool)[:, None, :, None], np.eye(j, dtype=bool)[None, :, None, :]
    var, cov1, cov2, cov3 = (
        _mean(covariance[np.broadcast_to(chosen, covariance.shape)])
        for chosen in (same_t & same_r, ~same_t & same_r, same_t & ~same_r, ~same_t & ~same_r)
    )
    one = tuple(_one_modality(value[m], covariance[m, :, m]) for m in range(t))
    return VarianceComponents(
        j, cases, ms_t, ms_r, _mean_square(effects**2, (t - 1) * (j - 1)), var, cov1, cov2, cov3, one
    )


def _one_modality(value: Floats, covariance: Floats) -> OneModality:
    j = len(value)
    ms_r = _mean_square((value - value.mean()) ** 2, j - 1)
    other = ~np.eye(j, dtype=bool)
    return OneModality(float(value.mean()), ms_r, _mean(np.diag(covariance)), _mean(covariance[other]))


def _mean_square(squares: Floats, freedom: int) -> float:
    return float(squares.sum() / freedom) if freedom else NAN


def _mean(values: Floats) -> float:
    return float(values.mean()) if values.size else NAN
