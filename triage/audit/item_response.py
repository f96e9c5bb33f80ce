"""What a reader study says of its readers and cases, by the multidimensional nominal response model (MDNRM)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from triage.audit.bootstrap import NAN, Floats
from triage.audit.chains import Diagnosis, diagnose
from triage.audit.hmc import sample
from triage.audit.nominal_readings import Readings
from triage.audit.nominal_response import NominalResponse, probabilities

LEVEL = 0.95
BLOCK = 500
"""Draws at a time: bounds the memory of probabilities a draw, a reader and a case."""


@dataclass(frozen=True, eq=False)
class Fit:
    """
    Draws from the posterior, whether they can be believed, and what they are of.

    `draws` holds, by name and all as (chains, draws, ...), what `NominalResponse.parameters` returns.
    """

    readings: Readings
    draws: Mapping[str, Floats]
    diagnosis: Diagnosis
    seed: int


@dataclass(frozen=True, eq=False)
class Posterior:
    """Median and 95 % interval, and P(> 0), of quantities of any shape; NaN where the readings say nothing of one."""

    median: Floats
    low: Floats
    high: Floats
    above_0: Floats

    @property
    def direction(self) -> Floats:
        """Probability of direction: that the quantity has the sign of its median (between 1/2 and 1)."""
        return np.maximum(self.above_0, 1 - self.above_0)


@dataclass(frozen=True, eq=False)
class Help:
    """
    What reading with help changed; NaN where no reader read a class in both ways.

    Attributes:
        delta: (classes, classes) the readers' common change of centred theta; `delta.above_0` on the diagonal is the
            probability that help makes the true class more likely to be chosen.
        tau: () how much readers differ in it.
        sensitivity: (classes,) gain of sensitivity, mean over the readers who read that class in both ways.
        accuracy: () gain of accuracy, mean over the readers who read every class in both ways.
    """

    delta: Posterior
    tau: Posterior
    sensitivity: Posterior
    accuracy: Posterior


@dataclass(frozen=True, eq=False)
class Results:
    """
    Readers and cases of a study. A reader's figures are those of all its cases, whether that reader read them or not,
    and NaN for a class of which the reader read no case in that modality.

    Attributes:
        theta: (modalities, readers, classes, classes) each row less its mean: the mean of a row changes no probability.
        confusion: (modalities, readers, classes, classes) P(chosen | true class), mean over the cases of that class.
        accuracy: (modalities, readers).
        sensitivity, specificity: (modalities, readers, classes), each class against the rest.
        accuracy_difference: (modalities, readers, readers) first less second.
        sensitivity_difference, specificity_difference: (modalities, classes, readers, readers).
        difficulty: (cases,) probability of a wrong answer, mean over readers, without help where there is such.
        rank: (cases,) its rank, 1 the most difficult.
        help: None in a study of one modality.
    """

    theta: Posterior
    confusion: Posterior
    accuracy: Posterior
    sensitivity: Posterior
    specificity: Posterior
    accuracy_difference: Posterior
    sensitivity_difference: Posterior
    specificity_difference: Posterior
    difficulty: Posterior
    rank: Posterior
    help: Help | None
    diagnosis: Diagnosis


def fit(of: Readings, *, chains: int = 8, warmup: int = 500, draws: int = 1000, seed: int = 1) -> Fit:
    """
    Draw from the posterior of MDNRM, extended by a change with help where there are two modalities.

    Readings are taken as independent given reader and case: a reader who remembers a case from the first reading, or a
    classifier entered as a reader whose answer the others saw, is not described by it.

    Args:
        chains: at once; more cost little.
    Raises:
        ValueError: too few draws.
    """
    density = NominalResponse(of)
    start = np.random.default_rng((seed, 1)).standard_normal((chains, density.dimensions))
    sampled = sample(density, start, warmup=warmup, draws=draws, seed=seed)
    parameters = density.parameters(sampled.draws)
    return Fit(of, parameters, diagnose(parameters, sampled.divergences), seed)


def results(of: Fit) -> Results:
    """Everything a report says of a study."""
    readings = of.readings
    shares = np.bincount(readings.truth, minlength=readings.chosen.shape[-1]) / len(readings.truth)
    was_read = readings.counts.sum(axis=-1) > 0
    theta = np.where(was_read[..., None], _flat(of.draws["theta"]), NAN)
    confusion, difficulty = _expected(of, was_read)
    accuracy, sensitivity, specificity = _figures(confusion, shares)
    return Results(
        theta=posterior(theta),
        confusion=posterior(confusion),
        accuracy=posterior(accuracy),
        sensitivity=posterior(sensitivity),
        specificity=posterior(specificity),
        accuracy_difference=posterior(_between_readers(accuracy)),
        sensitivity_difference=posterior(_between_readers(sensitivity.swapaxes(-1, -2))),
        specificity_difference=posterior(_between_readers(specificity.swapaxes(-1, -2))),
        difficulty=posterior(difficulty),
        rank=posterior(rankdata(-difficulty, axis=-1, nan_policy="omit")),
        help=_help(of, was_read, accuracy, sensitivity) if "delta" in of.draws else None,
        diagnosis=of.diagnosis,
    )


def posterior(draws: Floats) -> Posterior:
    """Summary of draws (all, ...) of chains already put together."""
    low, median, high = np.quantile(draws, (0.5 - LEVEL / 2, 0.5, 0.5 + LEVEL / 2), axis=0)
    # half of what is 0: a reader does not differ from himself in any direction
    above = np.where(np.isnan(median), NAN, ((draws > 0) + (draws == 0) / 2).mean(axis=0))
    return Posterior(median, low, high, above)


def _flat(draws: Floats) -> Floats:
    return draws.reshape(-1, *draws.shape[2:])


def _expected(of: Fit, was_read: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Draws of confusion (draws, modalities, readers, classes, classes) and difficulty (draws, cases)."""
    theta, beta, truth = _flat(of.draws["theta"]), _flat(of.draws["beta"]), of.readings.truth
    confusion, difficulty = np.full(theta.shape, NAN), np.full(beta.shape[:2], NAN)
    for k in np.unique(truth):
        cases, readers = np.flatnonzero(truth == k), was_read[0, :, k]
        for start in range(0, len(theta), BLOCK):
            block = slice(start, start + BLOCK)
            p = probabilities(theta[block], beta[block][:, cases], truth[cases])
            confusion[block, ..., k, :] = np.where(was_read[..., k, None], p.mean(axis=-2), NAN)
            if readers.any():
                difficulty[block, cases] = 1 - p[:, 0, ..., k][:, readers].mean(axis=1)
    return confusion, difficulty


def _figures(confusion: Floats, shares: Floats) -> tuple[Floats, Floats, Floats]:
    """Accuracy (...,), sensitivity and specificity (..., classes) of confusion (..., classes, classes)."""
    sensitivity = np.diagonal(confusion, axis1=-2, axis2=-1)
    occurs = shares > 0
    accuracy = sensitivity[..., occurs] @ shares[occurs]
    # true class by chosen class: the share of a true class among all cases not of the class chosen
    weight = np.where(np.eye(len(shares), dtype=np.bool_), 0.0, shares[:, None])
    summed = np.where(weight > 0, confusion * weight, 0.0).sum(axis=-2)
    rest = weight.sum(axis=0)
    return accuracy, sensitivity, 1 - summed / np.where(rest > 0, rest, NAN)


def _between_readers(figure: Floats) -> Floats:
    return figure[..., :, None] - figure[..., None, :]


def _help(of: Fit, was_read: npt.NDArray[np.bool_], accuracy: Floats, sensitivity: Floats) -> Help:
    # readers of one way alone would be held against the prior, not against the others
    in_both = (was_read[0] & was_read[1]).any(axis=0)
    return Help(
        delta=posterior(np.where(in_both[:, None], _flat(of.draws["delta"]), NAN)),
        tau=posterior(np.where(in_both.any(), of.draws["tau"].reshape(-1), NAN)),
        sensitivity=posterior(_mean_of_known(sensitivity[:, 1] - sensitivity[:, 0])),
        accuracy=posterior(_mean_of_known(accuracy[:, 1] - accuracy[:, 0])),
    )


def _mean_of_known(values: Floats) -> Floats:
    """Mean over readers (draws, readers, ...) of those whose value is known; NaN where none is."""
    is_known = ~np.isnan(values)
    n = is_known.sum(axis=1)
    summed = np.where(is_known, values, 0.0).sum(axis=1)
    mean: Floats = np.divide(summed, n, out=np.full(summed.shape, NAN), where=n > 0)
    return mean
