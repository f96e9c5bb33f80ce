"""Whether the fitted reader model could have given the readings that were seen: confusion counts drawn anew."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triage.audit.bootstrap import Floats
from triage.audit.item_response import LEVEL, Fit
from triage.audit.nominal_readings import Counts, drawn_readings
from triage.audit.nominal_response import probabilities

MOST_DRAWS = 1000
BLOCK = 100


@dataclass(frozen=True, eq=False)
class Check:
    """
    Confusion counts seen, and those of studies drawn from the posterior with the same readings made.

    Attributes:
        seen: (modalities, readers, classes, classes) true class by chosen class.
        low, high: as many, the central 95 % of the counts drawn.
        p: (modalities, readers) posterior predictive p of the distance of counts and expectation, sum (n - E)² / E:
            how often a drawn table lies at least as far off as that seen. Near 0: the model does not describe this
            reader. As the readings were used to fit it, p is drawn towards 1/2 (Gelman et al., BDA3, section 6.3).
            NaN for a reader without readings in that modality.
    """

    seen: Counts
    low: Floats
    high: Floats
    p: Floats


def predictive_check(of: Fit, *, seed: int = 1) -> Check:
    """Draw at most a thousand studies, one from each of as many draws spread over all chains."""
    theta, beta = (of.draws[name].reshape(-1, *of.draws[name].shape[2:]) for name in ("theta", "beta"))
    picked = np.unique(np.linspace(0, len(theta) - 1, min(len(theta), MOST_DRAWS)).astype(np.intp))
    rng = np.random.default_rng(seed)
    seen = of.readings.counts
    drawn = np.empty((len(picked), *seen.shape))
    further = np.empty((len(picked), *seen.shape[:2]))
    for start in range(0, len(picked), BLOCK):
        block = slice(start, start + BLOCK)
        drawn[block], expected = _studies(of, theta[picked[block]], beta[picked[block]], rng)
        off, off_seen = _distance(drawn[block], expected), _distance(seen, expected)
        # tables with few readings often tie: half of them count
        further[block] = (off > off_seen) + (off == off_seen) / 2
    low, high = np.quantile(drawn, (0.5 - LEVEL / 2, 0.5 + LEVEL / 2), axis=0)
    p = np.where(seen.sum(axis=(-2, -1)) > 0, further.mean(axis=0), np.nan)
    return Check(seen, low, high, p)


def _studies(of: Fit, theta: Floats, beta: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Drawn and expected confusion counts (draws, modalities, readers, classes, classes)."""
    truth, is_made = of.readings.truth, of.readings.chosen.any(axis=-1)
    p = probabilities(theta, beta, truth)
    is_class = (truth[:, None] == np.arange(p.shape[-1])).astype(np.float64)
    drawn = np.einsum("smijl,jk->smikl", drawn_readings(p, is_made, rng).astype(np.float64), is_class)
    return drawn, np.einsum("smijl,mij,jk->smikl", p, is_made.astype(np.float64), is_class, optimize=True)


def _distance(counts: Floats | Counts, expected: Floats) -> Floats:
    off = (counts - expected) ** 2
    summed: Floats = np.divide(off, expected, out=np.zeros_like(off), where=expected > 0).sum(axis=(-2, -1))
    return summed
