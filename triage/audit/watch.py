"""
Verdict B: has a figure fallen since the local baseline? Looked at every day, from one stream of labels, by one rule.

The alarm is the e-SR detector's alone, so there is one clock of false alarms; the confidence sequence says where the
figure lies now. The baseline is an estimate too, and evidence is therefore counted against its *lower* limit, which is
too high with probability `spent`; the detector's threshold is raised to make up for that. So while the service is as
stable as its baseline, days with labels until a false alarm number `alarm_every` at least on average over both
baselines and streams, however the figure wandered above. The price is that small baselines find small falls late or
never, which `Watch.delay` says. A rise is no alarm.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, log

import numpy as np
import numpy.typing as npt

from triage.audit import eprocess
from triage.audit.bootstrap import NAN, Floats
from triage.audit.confidence_sequence import beta_binomial
from triage.audit.performance import Area, clopper_pearson, logit_interval
from triage.audit.states import State


@dataclass(frozen=True)
class Baseline:
    """
    A figure frozen at acceptance.

    Attributes:
        reference: its lower limit, what evidence of a fall is counted against; NaN if there is none.
        spent: how likely it is that the reference lies above the truth.
    """

    value: float
    reference: float
    spent: float


@dataclass(frozen=True)
class Rules:
    """
    What is decided before the watch begins.

    Attributes:
        alarm_every: days with labels between false alarms, on average, at least.
        watch_share: of a stable service's days that may be WATCH, at most, besides the baseline's `spent`.
        drop: the fall from the baseline's value that matters, for the delay that is stated.
        tolerance: a fall below the reference that is put up with.
        alpha: of the confidence sequence; of being wholly below the baseline, both uncertain.
        least: labels below which nothing is said.
        recent_days, recent_least: labels the last days must have for good news.
        horizon: looks that a fall may take to be found, and over which a false alarm's probability is stated.
    """

    alarm_every: float = 1000
    watch_share: float = 0.05
    drop: float = 0.1
    tolerance: float = 0.0
    alpha: float = 0.05
    least: int = 30
    recent_days: int = 28
    recent_least: int = 10
    horizon: int = 365
    runs: int = 400
    seed: int = 1


@dataclass(frozen=True)
class Course:
    """
    The stream day by day, and what was known after each.

    Attributes:
        evidence: log M of the e-SR detector; NaN throughout without a reference.
        recent: log of the largest evidence since any one day.
        low, high: the confidence sequence of all labels so far, at 1 - alpha.
    """

    days: tuple[int, ...]
    n: tuple[int, ...]
    hits: tuple[float, ...]
    evidence: tuple[float, ...]
    recent: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class Watch:
    """
    Verdict B as of the last day.

    Attributes:
        alarm_at: the M of `Course.evidence` that is an alarm.
        watch_at: the size of `Course.recent`, not its logarithm, from which a day is WATCH.
        first_alarm_day: stays, whatever comes after; None without one.
        since_day: where the fall most likely began; None unless WATCH or ALARM.
        below_day: first day on which all labels together showed the figure below the baseline, both uncertain.
        false_alarm: the most that a false alarm within the rules' horizon can be likely.
        delay: of the rules' drop, at the stream's day sizes.
    """

    state: State
    reason: str
    course: Course
    alarm_at: float
    watch_at: float
    first_alarm_day: int | None
    since_day: int | None
    below_day: int | None
    false_alarm: float
    delay: eprocess.Delay
    baseline: Baseline
    rules: Rules


def share_baseline(hits: float, n: int, *, spent: float = 0.025) -> Baseline:
    """A share of *n* independent cases, with the one-sided Clopper-Pearson limit."""
    return Baseline(hits / n if n else NAN, clopper_pearson(hits, n, 1 - 2 * spent)[0] if n else NAN, spent)


def area_baseline(found: Area, *, spent: float = 0.025) -> Baseline:
    """An AUC, for a stream of `confidence_sequence.pairs`; its limit is DeLong's, so right for many cases only."""
    return Baseline(found.value, logit_interval(found.value, found.variance, 1 - 2 * spent)[0], spent)


def watch(
    days: npt.ArrayLike,
    n: npt.ArrayLike,
    hits: npt.ArrayLike,
    baseline: Baseline,
    rules: Rules | None = None,
    *,
    figure: str = "The figure",
) -> Watch:
    """
    The verdict on a stream of labels, as of its last day; that of a shorter stream is what was known then.

    The first of these that holds: INSUFFICIENT with fewer than `least` labels, or no reference; ALARM if the detector
    has ever reached its threshold with that many; INSUFFICIENT if labels have dried up; WATCH if there is recent
    evidence; INSUFFICIENT while the stated fall would not be found yet in half of all cases; IN CONTROL.

    Args:
        days: (d,) whole numbers, ascending; days without labels may be left out. End with the day of the report.
        n: (d,) independent labels of each day, of one exam a patient.
        hits: (d,) how many of them were hits, or the sum of values in [0, 1] such as `confidence_sequence.pairs`.
        figure: its name, for the reason.
    Raises:
        ValueError: days do not ascend, or hits lie outside 0 ... n.
    """
    by = rules or Rules()
    if not by.alpha > baseline.spent:
        raise ValueError(f"watch: alpha {by.alpha} leaves nothing beside the baseline's {baseline.spent}")
    day, count, total = np.asarray(days, np.int64), np.asarray(n, np.int64), np.asarray(hits, np.float64)
    if not day.shape == count.shape == total.shape or np.any(np.diff(day) <= 0):
        raise ValueError("watch: days, n and hits are not as many, or days do not ascend")
    if np.any(count != np.asarray(n)):
        raise ValueError("watch: n is not whole")
    reference, alarm_at = baseline.reference - by.tolerance, by.alarm_every / (1 - baseline.spent)
    course = _course(day, count, total, reference, by.alpha)
    enough = count.cumsum() >= by.least
    alarm = _first(enough & (np.array(course.evidence) >= log(alarm_at)))
    high = beta_binomial(total.cumsum(), count.cumsum(), alpha=by.alpha - baseline.spent).high
    below = _first(enough & (high < reference))
    delay = _delay(count, baseline, reference, alarm_at, by)
    state, why = _judged(course, reference, alarm, delay, by)
    since = None
    if state in (State.ALARM, State.WATCH):
        looks = len(day) if alarm is None else alarm + 1
        since = eprocess.began(total[:looks], count[:looks], reference)
    first_alarm_day, since_day, below_day = (None if at is None else course.days[at] for at in (alarm, since, below))
    return Watch(
        state,
        " ".join([_figures(course, baseline, figure), why, *_when(course, alarm, since, baseline, by)]),
        course,
        alarm_at,
        1 / by.watch_share,
        first_alarm_day,
        since_day,
        below_day,
        min(1.0, baseline.spent + eprocess.alarm_probability(by.horizon, alarm_at)),
        delay,
        baseline,
        by,
    )


def _course(
    day: npt.NDArray[np.int64], count: npt.NDArray[np.int64], total: Floats, reference: float, alpha: float
) -> Course:
    limits = beta_binomial(total.cumsum(), count.cumsum(), alpha=alpha)
    evidence = recent = np.full(len(day), NAN)
    if 0 < reference < 1:
        evidence, recent = (f(total, count, reference) for f in (eprocess.shiryaev_roberts, eprocess.recent))
    paths = (day, count, total, evidence, recent, limits.low, limits.high)
    return Course(*(tuple(path.tolist()) for path in paths))


def _delay(
    count: npt.NDArray[np.int64], baseline: Baseline, reference: float, alarm_at: float, by: Rules
) -> eprocess.Delay:
    before, after = baseline.value, max(baseline.value - by.drop, 0.0)
    if not 0 < reference < 1:
        return eprocess.Delay(before, after, NAN, NAN, NAN, by.horizon, 0, 0, by.seed)
    return eprocess.delay(
        lambda hits, n: eprocess.shiryaev_roberts(hits, n, reference) >= log(alarm_at),
        before,
        after,
        count,
        horizon=by.horizon,
        runs=by.runs,
        seed=by.seed,
    )


def _first(is_so: npt.NDArray[np.bool_]) -> int | None:
    return int(is_so.argmax()) if is_so.any() else None


def _judged(course: Course, reference: float, alarm: int | None, delay: eprocess.Delay, by: Rules) -> tuple[State, str]:
    """The state and why, in the order that `watch` states."""
    labels, looks = sum(course.n), sum(n > 0 for n in course.n)
    recently = sum(n for day, n in zip(course.days, course.n, strict=True) if day > course.days[-1] - by.recent_days)
    if labels < by.least:
        return State.INSUFFICIENT, f"Too few labels to judge: at least {by.least} are needed."
    if not 0 < reference < 1:
        return State.INSUFFICIENT, "The baseline has no lower limit to watch against."
    if alarm is not None:
        return State.ALARM, "It was found to have fallen below its baseline."
    if recently < by.recent_least:
        return State.INSUFFICIENT, f"Only {recently} labels came in the last {by.recent_days} days."
    if course.recent[-1] >= -log(by.watch_share):
        return State.WATCH, "There is recent evidence of a fall, too little for an alarm."
    if not isfinite(delay.median):
        return State.INSUFFICIENT, (
            f"A fall of {by.drop:.3g} would more likely than not go unseen for {by.horizon} days with labels: "
            "the baseline rests on too few cases, or too few labels come."
        )
    if looks < delay.median:
        return State.INSUFFICIENT, (
            f"Too early: a fall of {by.drop:.3g} takes {delay.median:.0f} days with labels to be found in half of all "
            f"cases, {looks} have passed."
        )
    return State.IN_CONTROL, (
        f"No evidence of a fall; one of {by.drop:.3g} would be found within {delay.median:.0f} days with labels in "
        "half of all cases."
    )


def _figures(course: Course, baseline: Baseline, figure: str) -> str:
    labels = sum(course.n)
    here = f"{sum(course.hits) / labels:.3f} of {labels} labels" if labels else "without a label"
    limits = f", {course.low[-1]:.3f} to {course.high[-1]:.3f} at every look" if labels else ""
    then = f"at the baseline it was {baseline.value:.3f}, at least {baseline.reference:.3f}"
    then = then if isfinite(baseline.reference) else "there is no baseline to hold it against"
    return f"{figure} is {here}{limits}; {then}."


def _when(course: Course, alarm: int | None, since: int | None, baseline: Baseline, by: Rules) -> list[str]:
    """When a fall came and how often a stable service looks like that; nothing where there was none."""
    if since is None:
        return []
    began = f"It most likely began about day {course.days[since]}"
    if alarm is None:
        return [f"{began}. A stable service is in this state on {by.watch_share + baseline.spent:.1%} of days at most."]
    return [
        f"{began}, the alarm came on day {course.days[alarm]}. A stable service raises one in {by.alarm_every:g} days "
        "with labels on average, or fewer."
    ]
