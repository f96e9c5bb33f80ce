"""
Why has the window drifted: other patients, other images, or a disease that is not what the model learnt any more?

Three parts are always measured. *Prior*: how frequent each class has become, if each looks as it did. *Covariate*:
whether images look otherwise than the same mix of classes did. *Concept*: whether labels still follow the
probabilities, corrected for the mix. One cause is named by a rule that spends a stated alpha: a window without drift
is given one with at most that probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.special import ndtri

from triage.audit.attribution_parts import Cause, Concept, Covariate, Drawn, Prior
from triage.audit.attribution_words import sentence
from triage.audit.covariate_shift import covariate_shift
from triage.audit.drift_figures import Cases, Figures, Window
from triage.audit.label_shift import LEAST, is_enough
from triage.audit.resampling import Windows
from triage.audit.states import State
from triage.audit.subgroups import LEAST as LEAST_OF_CLASS
from triage.audit.two_samples import LEAST_BLOCKS


@dataclass(frozen=True)
class Rules:
    """
    What is decided before looking.

    Attributes:
        prior_alpha, covariate_alpha, concept_alpha: how likely each part may find drift where there is none.
        tolerance: loss of the share right that is put up with.
        drop: loss that must be ruled out where images have changed, and gap that must have been findable, with a power
            of 0.8, for a window to be IN CONTROL.
        rows: of a window, and images: of which the embeddings, are looked at; more are drawn from.
        draws: of the bootstrap, and exchanges: of the tests of images.
    """

    prior_alpha: float = 0.01
    covariate_alpha: float = 0.02
    concept_alpha: float = 0.02
    tolerance: float = 0.02
    drop: float = 0.1
    rows: int = 5000
    images: int = 1000
    draws: int = 500
    exchanges: int = 500
    seed: int = 1
    level: float = 0.95

    @property
    def alpha(self) -> float:
        """How likely a cause is named where there is no drift, at most (by the union bound)."""
        return self.prior_alpha + self.covariate_alpha + self.concept_alpha


@dataclass(frozen=True, eq=False)
class Attribution:
    """
    The cause, and what it was judged by.

    Attributes:
        state: ALARM for concept drift and a loss by changed images; WATCH for the other causes; IN CONTROL without a
            cause if all parts were judged and a gap of the rules' drop would have been found; else INSUFFICIENT.
        prior, covariate, concept: None where a window is too small for anything.
        reference_cases, current_cases: looked at.
    """

    cause: Cause
    state: State
    sentence: str
    prior: Prior | None
    covariate: Covariate | None
    concept: Concept | None
    reference_cases: int
    current_cases: int
    rules: Rules = field(default_factory=Rules)


def attribute(
    reference: Window, current: Window, rules: Rules | None = None, *, names: Sequence[str] | None = None
) -> Attribution:
    """
    Measure the three parts and name the cause, the first of these that has evidence within its alpha.

    1. Concept: labels do not follow the probabilities while images look as they did, or by more than the share of
       cases whose images have changed. Otherwise changed images go first, as what they do to the labels and what a
       changed disease does cannot be told apart.
    2. Covariate, with performance loss: images have changed, and the loss exceeds the tolerance.
    3. Prior only: the mix has changed and images have not. Never a fault of the model.
    4. Covariate, benign: images have changed, and labels show no such loss and rule out one of more than `drop`.
    5. Covariate, performance unknown: images have changed, and labels are too few for that, or there are none.

    Args:
        reference: all labelled, at least LEAST_OF_CLASS cases a class.
        current: at least LEAST cases; labels may be missing.
        names: of the k classes, for the sentence.
    Raises:
        ValueError: a reference case without a label, or windows of different classes.
    """
    by = rules or Rules()
    r, c = Cases(reference, by.rows, by.seed), Cases(current, by.rows, by.seed)
    k = r.probability.shape[1]
    if not r.is_labelled.all() or c.probability.shape[1] != k:
        raise ValueError("attribution: a reference case without a label, or windows of different classes")
    if not is_enough(r.truth, len(c), k) or min(len(np.unique(w.blocks)) for w in (r, c)) < LEAST_BLOCKS:
        few = (
            f"Too few cases: {len(r)} in the reference and {len(c)} now. Asked are {LEAST_OF_CLASS} of each class in "
            f"the one and {LEAST} in the other, and {LEAST_BLOCKS} patients or days in both."
        )
        return Attribution(Cause.NONE, State.INSUFFICIENT, few, None, None, None, len(r), len(c), by)
    figures = Figures(r, c)
    everything = np.arange(len(r)), np.arange(len(c))
    images = covariate_shift(
        r.embedding,
        r.truth,
        c.embedding,
        figures(*everything)[k : 2 * k],
        blocks=(r.blocks, c.blocks) if r.has_blocks or c.has_blocks else None,
        most=by.images,
        draws=by.exchanges,
        seed=by.seed,
    )
    figures.weight[images.rows] = np.nan_to_num(images.weight)
    drawn = Windows(r.blocks, c.blocks).redrawn(figures, by.draws, by.seed)
    found = Drawn(figures, figures(*everything), drawn, by.level)
    prior, covariate, concept = found.prior(), found.covariate(images, by.tolerance), found.concept(images)
    cause = _cause(prior, covariate, concept, by)
    words = sentence(
        cause,
        prior,
        covariate,
        concept,
        is_mixed=prior.p <= by.prior_alpha,
        is_changed=covariate.p <= by.covariate_alpha,
        is_off=concept.p <= by.concept_alpha,
        tolerance=by.tolerance,
        drop=by.drop,
        names=names or [f"class {i}" for i in range(k)],
    )
    return Attribution(
        cause, _state(cause, covariate, concept, by), words, prior, covariate, concept, len(r), len(c), by
    )


def _cause(prior: Prior, covariate: Covariate, concept: Concept, by: Rules) -> Cause:
    is_changed = covariate.p <= by.covariate_alpha
    if concept.p <= by.concept_alpha and (not is_changed or concept.is_beyond_images):
        return Cause.CONCEPT
    if is_changed:
        if covariate.loss_p <= by.covariate_alpha:
            return Cause.COVARIATE_WITH_LOSS
        return Cause.COVARIATE_BENIGN if covariate.rules_out(by.drop) else Cause.COVARIATE_UNKNOWN
    return Cause.PRIOR_ONLY if prior.p <= by.prior_alpha else Cause.NONE


def _state(cause: Cause, covariate: Covariate, concept: Concept, by: Rules) -> State:
    if cause in (Cause.CONCEPT, Cause.COVARIATE_WITH_LOSS):
        return State.ALARM
    if cause is not Cause.NONE:
        return State.WATCH
    sd = (concept.gap.high - concept.gap.low) / 2 / ndtri(0.5 + by.level / 2)
    findable = sd * (ndtri(1 - by.concept_alpha / 4) + ndtri(0.8))
    is_judged = np.isfinite(covariate.p + concept.p) and findable <= by.drop
    return State.IN_CONTROL if is_judged else State.INSUFFICIENT
