"""Verdict A: is the local figure consistent with the external validation, when both of them are uncertain?"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import hypot, isfinite
from types import MappingProxyType

from scipy.special import ndtri

from triage.audit.bootstrap import NAN
from triage.audit.operating import Share
from triage.audit.performance import Area, published, wilson
from triage.audit.states import State
from triage.audit.subgroups import LEAST

POWER = 0.8


class Outcome(StrEnum):
    """What the data say of "not worse than external by more than the margin"."""

    SUPPORTED = "SUPPORTED"
    REFUTED = "REFUTED"
    UNDECIDED = "UNDECIDED"


class Basis(StrEnum):
    """What a figure rests on."""

    CASES = "cases"
    PUBLISHED = "published"
    GOAL = "declared goal"


@dataclass(frozen=True)
class Estimate:
    """
    A figure with its interval.

    Attributes:
        fewest: cases in the scarcer class, or independent cases of a share; a declared goal has none.
        note: what the reason must say beside it.
    """

    value: float
    low: float
    high: float
    basis: Basis
    fewest: int | None
    level: float = 0.95
    note: str = ""


@dataclass(frozen=True)
class Published:
    """
    What a paper printed of its network.

    Attributes:
        area: one class against the rest.
        class_cases: how many cases each class is taken to have had; an assumption where *assumed*.
    """

    source: str
    cases: int
    accuracy: float
    area: MappingProxyType[str, float]
    class_cases: MappingProxyType[str, int]
    assumed: str


PAPER = Published(
    source="Nishio et al., the network alone in the observer study",
    cases=180,
    accuracy=0.733,
    area=MappingProxyType({"normal": 0.913, "pneumonia": 0.937, "covid": 0.786}),
    class_cases=MappingProxyType({"normal": 60, "pneumonia": 60, "covid": 60}),
    assumed="The paper's classes are taken to have 60 cases each of its 180: an assumption, not read there.",
)


@dataclass(frozen=True)
class Verdict:
    """
    Verdict A on one figure.

    Attributes:
        state: the outcome as a report's state: REFUTED is ALARM; UNDECIDED is WATCH if the figure itself lies below
            the margin, else INSUFFICIENT; too few cases are always INSUFFICIENT.
        difference, low, high: local less external.
        detectable_drop: a true drop below the external figure that would be refuted in POWER of such windows; NaN
            where no drop would be.
        is_decidable: whether a local figure known without error and equal to the external one could be supported.
        reason: in plain language.
    """

    outcome: Outcome
    state: State
    difference: float
    low: float
    high: float
    margin: float
    detectable_drop: float
    is_decidable: bool
    reason: str


def of_area(found: Area) -> Estimate:
    """An AUC of cases at hand: the local window's, or the baseline's."""
    return Estimate(found.value, found.low, found.high, Basis.CASES, min(found.positives, found.negatives), found.level)


def of_share(found: Share) -> Estimate:
    """A share of cases at hand, such as accuracy or sensitivity; as adequate as its effective size."""
    return Estimate(found.value, found.low, found.high, Basis.CASES, int(found.effective + 1e-9), found.level)


def published_area(value: float, positives: int, negatives: int, *, level: float = 0.95, note: str = "") -> Estimate:
    """A published AUC with Hanley and McNeil's uncertainty."""
    found = published(value, positives, negatives, level=level)
    return Estimate(value, found.low, found.high, Basis.PUBLISHED, min(positives, negatives), level, note)


def published_share(value: float, cases: int, *, level: float = 0.95) -> Estimate:
    """A published share of *cases* with Wilson's uncertainty, its hits rounded to whole ones as they must have been."""
    low, high = wilson(round(value * cases), cases, level)
    return Estimate(value, low, high, Basis.PUBLISHED, cases, level)


def goal(value: float, *, level: float = 0.95) -> Estimate:
    """A performance goal declared before looking: a number without uncertainty, to be justified where declared."""
    return Estimate(value, value, value, Basis.GOAL, None, level)


def paper_accuracy() -> Estimate:
    """The paper's three-class accuracy."""
    return published_share(PAPER.accuracy, PAPER.cases)


def paper_area(name: str) -> Estimate:
    """The paper's AUC of a class against the rest, with the class counts assumed."""
    positives = PAPER.class_cases[name]
    return published_area(PAPER.area[name], positives, PAPER.cases - positives, note=PAPER.assumed)


def verdict_on(local: Estimate, external: Estimate, margin: float, *, figure: str = "the figure") -> Verdict:
    """
    Hold the local figure against the external one.

    SUPPORTED if the lower limit of local less external lies above -margin, REFUTED if the upper limit lies below it,
    else UNDECIDED. The limits combine both intervals' arms (MOVER; Newcombe, Statistics in Medicine 17, 1998, method
    10; Zou & Donner 2008), so they hold for any two independent figures, skewed or clustered; against a goal they are
    the local interval's. Fewer than LEAST local cases in the scarcer class decide nothing.

    Args:
        margin: declared before looking, above 0 (0 allowed against a goal).
        figure: its name, for the reason.
    """
    if margin < 0 or (margin == 0 and external.basis is not Basis.GOAL):
        raise ValueError(f"{figure}: the margin is not above 0")
    if local.level != external.level:
        raise ValueError(f"{figure}: intervals of different levels")
    difference = local.value - external.value
    below, above = _arms(local, external)
    low, high = difference - below, difference + above
    outcome = _outcome(local, low, high, margin)
    state = _state(outcome, local, difference, margin)
    drop = _detectable(local, external, above, margin)
    decidable = external.high - external.value < margin or external.basis is Basis.GOAL
    reason = " ".join(
        [
            _compared(local, external, difference, low, high, margin, figure),
            _said(outcome, local, margin, figure),
            _power(drop),
            *([] if decidable else [_undecidable(external, margin)]),
            *filter(None, [external.note, local.note]),
        ]
    )
    return Verdict(outcome, state, difference, low, high, margin, drop, decidable, reason)


def _arms(local: Estimate, external: Estimate) -> tuple[float, float]:
    below = hypot(local.value - local.low, external.high - external.value)
    above = hypot(local.high - local.value, external.value - external.low)
    return below, above


def _is_adequate(local: Estimate) -> bool:
    return isfinite(local.value) and (local.fewest or 0) >= LEAST


def _outcome(local: Estimate, low: float, high: float, margin: float) -> Outcome:
    if not _is_adequate(local):
        return Outcome.UNDECIDED
    if low > -margin:
        return Outcome.SUPPORTED
    return Outcome.REFUTED if high < -margin else Outcome.UNDECIDED


def _state(outcome: Outcome, local: Estimate, difference: float, margin: float) -> State:
    if outcome is Outcome.UNDECIDED:
        return State.WATCH if _is_adequate(local) and difference < -margin else State.INSUFFICIENT
    return State.IN_CONTROL if outcome is Outcome.SUPPORTED else State.ALARM


def _detectable(local: Estimate, external: Estimate, above: float, margin: float) -> float:
    """The upper arm is z standard errors long; power asks for as many more as its quantile."""
    z, more = float(ndtri(0.5 + local.level / 2)), float(ndtri(POWER))
    drop = margin + above * (1 + more / z)
    return drop if _is_adequate(local) and drop < external.value else NAN


def _compared(
    local: Estimate, external: Estimate, difference: float, low: float, high: float, margin: float, figure: str
) -> str:
    theirs = f"{external.value:.3f} as declared" if external.basis is Basis.GOAL else f"{_text(external)} externally"
    if not isfinite(local.value):
        return f"{figure} cannot be given here; {theirs}."
    return (
        f"{figure} is {_text(local)} here, {theirs}: a difference of {difference:+.3f} ({low:+.3f} to {high:+.3f}), "
        f"with a margin of {margin:.3f} declared."
    )


def _text(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


def _said(outcome: Outcome, local: Estimate, margin: float, figure: str) -> str:
    if not isfinite(local.value):
        return "Nothing to judge."
    if not _is_adequate(local):
        return f"Too few cases to judge: {local.fewest or 0} where at least {LEAST} are needed."
    if outcome is Outcome.SUPPORTED:
        return f"Consistent with the external figure: a drop of {margin:.3f} or more is ruled out."
    if outcome is Outcome.REFUTED:
        return f"Not consistent: {figure} lies below the external figure by more than the margin."
    return "Undecided: the data neither rule out a drop as large as the margin nor show one."


def _power(drop: float) -> str:
    if not isfinite(drop):
        return f"No drop, however large, would be shown by {POWER:.0%} of such windows."
    return f"A true drop of {drop:.3f} would be shown by {POWER:.0%} of such windows."


def _undecidable(external: Estimate, margin: float) -> str:
    return (
        f"The external figure is itself an estimate, uncertain upwards by {external.high - external.value:.3f}: "
        "however many local cases, a model that performs exactly as it says cannot be shown to be within "
        f"{margin:.3f} of it. That needs a performance goal declared beforehand, or external data pooled to more cases."
    )
