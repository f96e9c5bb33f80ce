"""How likely a planned reader study is to show a gain, by the variance components of one that was read already."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from scipy.special import chdtri, chndtr, fdtri, ncfdtr

from triage.audit.bootstrap import NAN, Floats
from triage.audit.variance_components import VarianceComponents


class Sampling(StrEnum):
    """What the planned study is to speak for."""

    RRRC = "other readers, other cases"
    FRRC = "these readers, other cases"
    RRFC = "other readers, these cases"


@dataclass(frozen=True)
class Pilot:
    """
    Variance components to plan by, of a study with two modalities and *cases* cases.

    Attributes:
        var_tr: of how differently readers fare in the two modalities.
        var, cov1, cov2, cov3: as in `VarianceComponents`.
    """

    cases: int
    var_tr: float
    var: float
    cov1: float
    cov2: float
    cov3: float


@dataclass(frozen=True)
class Power:
    """The chance of a two-sided test at *alpha* to show a difference of *effect* between two modalities."""

    readers: int
    cases: int
    effect: float
    alpha: float
    noncentrality: float
    df: float
    power: float


def pilot_of(components: VarianceComponents) -> Pilot:
    """The components of a study that was analysed."""
    c = components
    return Pilot(c.cases, c.var_tr, c.var, c.cov1, c.cov2, c.cov3)


def power(
    pilot: Pilot,
    readers: int,
    cases: int,
    effect: float,
    *,
    sampling: Sampling = Sampling.RRRC,
    alpha: float = 0.05,
) -> Power:
    """
    Power by noncentral F, with fixed readers chi-square (Hillis, Obuchowski & Berbaum, Acad Radiol 18, 2011, eq. 10).

    What errors covary over cases shrinks in proportion to their number, with the classes in the pilot's proportions.
    A negative Var_TR, and a negative Cov2 - Cov3, are planned with as 0.

    Returns:
        NaN for the power where the pilot cannot tell, as with one reader, or an error variance not above 0.
    Raises:
        ValueError: fewer than 2 readers (1 with fixed readers), or fewer than 2 cases.
    """
    least = 1 if sampling is Sampling.FRRC else 2
    if readers < least or cases < 2:
        raise ValueError(f"power: at least {least} readers and 2 cases, not {readers} and {cases}")
    noncentrality, df, chance = _planned(pilot, readers, np.array([cases]), effect, sampling, alpha)
    return Power(readers, cases, effect, alpha, float(noncentrality[0]), float(df[0]), float(chance[0]))


def cases_needed(
    pilot: Pilot,
    readers: int,
    effect: float,
    *,
    wanted: float = 0.8,
    sampling: Sampling = Sampling.RRRC,
    alpha: float = 0.05,
    most: int = 20_000,
) -> Power | None:
    """The fewest cases whose power is at least *wanted*; None where *most* are not enough, or the pilot cannot tell."""
    # all numbers are tried: with few readers, more cases can cost degrees of freedom, and power
    *_, chance = _planned(pilot, readers, np.arange(2, most + 1), effect, sampling, alpha)
    enough = np.flatnonzero(chance >= wanted)
    return power(pilot, readers, int(enough[0]) + 2, effect, sampling=sampling, alpha=alpha) if len(enough) else None


def _planned(
    pilot: Pilot, readers: int, cases: npt.NDArray[np.int_], effect: float, sampling: Sampling, alpha: float
) -> tuple[Floats, Floats, Floats]:
    """Noncentrality, degrees of freedom and power at each number of cases."""
    own, between = pilot.var - pilot.cov1, float(np.maximum(pilot.cov2 - pilot.cov3, 0.0))
    shrunk, interaction = pilot.cases / cases, max(pilot.var_tr, 0.0)
    # what the mean square of readers by modality will estimate, and what the denominator of each test will
    of_readers = interaction + shrunk * (own - between)
    denominator = {
        Sampling.RRRC: interaction + shrunk * (own + (readers - 1) * between),
        Sampling.FRRC: shrunk * (own + (readers - 1) * between),
        Sampling.RRFC: of_readers,
    }[sampling]
    denominator = np.where(denominator > 0, denominator, NAN)
    noncentrality = readers * effect**2 / 2 / denominator
    if sampling is Sampling.FRRC:
        return noncentrality, np.full(len(cases), np.inf), 1 - chndtr(chdtri(1, alpha), 1, noncentrality)
    df = (readers - 1) * (denominator / np.where(of_readers > 0, of_readers, NAN)) ** 2
    return noncentrality, df, 1 - ncfdtr(1, df, noncentrality, fdtri(1, df, 1 - alpha))
