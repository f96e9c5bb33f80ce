"""Obuchowski and Rockette's analysis of a reader study, for random readers, random cases, or both."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from triage.audit.bootstrap import NAN
from triage.audit.mrmc_inference import Equality, Gain, Mean, equality, gain, mean
from triage.audit.variance_components import VarianceComponents


@dataclass(frozen=True)
class Generalisation:
    """One generalisation: are all modalities equal, each pair of them, each by itself."""

    equality: Equality
    gains: tuple[Gain, ...]
    means: tuple[Mean, ...]


@dataclass(frozen=True)
class Analysis:
    """
    A reader study by Obuchowski & Rockette (1995), with Hillis's degrees of freedom.

    Attributes:
        rrrc: random readers, random cases: other readers and other cases could have been drawn.
        frrc: these readers, other cases, with Cov2 - Cov3 clipped at 0 (OR-DBM, RJafroc).
        frrc_unclipped: the same with Cov2 - Cov3 as estimated (MRMCaov).
        rrfc: other readers, these cases.
    """

    components: VarianceComponents
    rrrc: Generalisation
    frrc: Generalisation
    frrc_unclipped: Generalisation
    rrfc: Generalisation
    level: float


def analyse(components: VarianceComponents, modalities: tuple[str, ...], *, level: float = 0.95) -> Analysis:
    """
    All tests (Hillis, Statistics in Medicine 33, 2014), NaN where a denominator is not positive.

    Random readers and cases always clip Cov2 - Cov3 at 0, as all programs do: unclipped, the denominator could fall
    below the readers' own variation.
    """
    clipped = max(components.cov2 - components.cov3, 0.0) if np.isfinite(components.cov2) else NAN
    return Analysis(
        components,
        _random_both(components, modalities, clipped, level),
        _fixed_readers(components, modalities, clipped, level),
        _fixed_readers(components, modalities, components.cov2 - components.cov3, level),
        _fixed_cases(components, modalities, level),
        level,
    )


def _random_both(c: VarianceComponents, modalities: tuple[str, ...], between: float, level: float) -> Generalisation:
    j, freedom = c.readers, (len(c.one) - 1) * (c.readers - 1)
    denominator = c.ms_tr + j * between
    means = []
    for name, one in zip(modalities, c.one, strict=True):
        total = one.ms_r + j * max(one.cov2, 0.0)
        means.append(mean(name, one.mean, total / j, _hillis(total, one.ms_r, j - 1), level))
    return _tests(c, modalities, denominator, _hillis(denominator, c.ms_tr, freedom), tuple(means), level)


def _fixed_readers(c: VarianceComponents, modalities: tuple[str, ...], between: float, level: float) -> Generalisation:
    j = c.readers
    means = tuple(
        mean(name, one.mean, (one.var + _times(j - 1, max(one.cov2, 0.0))) / j, np.inf, level)
        for name, one in zip(modalities, c.one, strict=True)
    )
    return _tests(c, modalities, c.var - c.cov1 + _times(j - 1, between), np.inf, means, level)


def _fixed_cases(c: VarianceComponents, modalities: tuple[str, ...], level: float) -> Generalisation:
    j = c.readers
    means = tuple(mean(name, one.mean, one.ms_r / j, j - 1, level) for name, one in zip(modalities, c.one, strict=True))
    return _tests(c, modalities, c.ms_tr, (len(c.one) - 1) * (j - 1), means, level)


def _tests(
    c: VarianceComponents,
    modalities: tuple[str, ...],
    denominator: float,
    df: float,
    means: tuple[Mean, ...],
    level: float,
) -> Generalisation:
    gains = tuple(
        gain(modalities[a], modalities[b], c.one[a].mean - c.one[b].mean, 2 * denominator / c.readers, df, level)
        for a, b in combinations(range(len(c.one)), 2)
    )
    return Generalisation(equality(c.ms_t, denominator, len(c.one) - 1, df), gains, means)


def _hillis(total: float, mean_square: float, freedom: int) -> float:
    """Degrees of freedom of a denominator (Hillis, Statistics in Medicine 26, 2007); inf where readers do not vary."""
    if np.isnan(total) or np.isnan(mean_square):
        return NAN
    return total**2 / (mean_square**2 / freedom) if mean_square > 0 else np.inf


def _times(count: int, value: float) -> float:
    """Of no pairs nothing is known, and nothing is needed."""
    return count * value if count else 0.0
