"""Verdict B: every state, what each is promised, and that nothing is said on five labels."""

import math
from dataclasses import replace

import numpy as np
import pytest

from triage.audit import confidence_sequence, eprocess, performance
from triage.audit.states import State
from triage.audit.watch import Rules, area_baseline, share_baseline, watch

BASELINE = share_baseline(7330, 10_000)
RULES = Rules(runs=100)


def make_stream(until=100, *, falls_at=10_000, to=0.55, labels=15, seed=1):
    """Days, labels and hits: 0.733 until the fall."""
    rng = np.random.default_rng(seed)
    days = np.arange(until)
    n = rng.poisson(labels, size=until)
    return days, n, rng.binomial(n, np.where(days < falls_at, 0.733, to))


@pytest.mark.parametrize("hits", range(6))
@pytest.mark.parametrize("baseline", [BASELINE, share_baseline(999, 1000), share_baseline(0, 0)])
def test_five_labels_say_nothing_whatever_they_are(hits, baseline):
    found = watch([7], [5], [hits], baseline, RULES)
    assert found.state is State.INSUFFICIENT and found.first_alarm_day is None and found.below_day is None
    assert "Too few labels" in found.reason


def test_five_misses_are_insufficient_though_their_evidence_passes_the_threshold():
    found = watch([7, 8, 9], [2, 2, 1], [0, 0, 0], share_baseline(9999, 10_000), RULES)
    assert found.course.evidence[-1] > math.log(found.alarm_at)
    assert found.state is State.INSUFFICIENT


def test_a_stable_service_is_in_control_once_a_fall_would_have_been_seen():
    found = watch(*make_stream(), BASELINE, RULES, figure="Accuracy")
    assert found.state is State.IN_CONTROL
    assert (found.first_alarm_day, found.since_day, found.below_day) == (None, None, None)
    assert found.course.low[-1] < 0.733 < found.course.high[-1]
    assert found.reason.startswith("Accuracy is 0.7") and "No evidence of a fall" in found.reason
    early = watch(*make_stream(6), BASELINE, RULES)
    assert early.state is State.INSUFFICIENT and "Too early" in early.reason


def test_a_fall_is_an_alarm_with_its_day_and_where_it_began():
    found = watch(*make_stream(140, falls_at=100), BASELINE, RULES)
    assert found.state is State.ALARM
    assert 100 < found.first_alarm_day < 115 and abs(found.since_day - 100) <= 5
    assert f"the alarm came on day {found.first_alarm_day}" in found.reason and "once" not in found.reason
    assert found.course.evidence[found.first_alarm_day] >= math.log(found.alarm_at)
    assert found.delay.median < 25


def test_an_alarm_stays_when_the_figure_recovers_and_when_labels_dry_up():
    days, n, hits = make_stream(140, falls_at=100)
    later = np.r_[days, 140 + np.arange(60)], np.r_[n, np.full(60, 20)], np.r_[hits, np.full(60, 16)]
    better = watch(*later, BASELINE, RULES)
    assert better.state is State.ALARM and better.course.evidence[-1] < math.log(better.alarm_at)
    silent = watch(np.r_[days, 400], np.r_[n, 0], np.r_[hits, 0], BASELINE, RULES)
    assert silent.state is State.ALARM and silent.first_alarm_day == better.first_alarm_day
    assert silent.since_day == better.since_day


def test_no_good_news_when_labels_have_dried_up():
    days, n, hits = make_stream()
    found = watch(np.r_[days, 130], np.r_[n, 0], np.r_[hits, 0], BASELINE, RULES)
    assert found.state is State.INSUFFICIENT and "Only 0 labels came in the last 28 days" in found.reason


def test_the_first_days_of_a_fall_are_watch_before_they_are_an_alarm():
    days, n, hits = make_stream(140, falls_at=100)
    states = [watch(days[:k], n[:k], hits[:k], BASELINE, RULES) for k in range(95, 118)]
    alarm = next(i for i, found in enumerate(states) if found.state is State.ALARM)
    before = states[alarm - 1]
    assert before.state is State.WATCH and before.first_alarm_day is None and abs(before.since_day - 100) <= 5
    assert "7.5% of days" in before.reason
    assert all(found.state is State.ALARM for found in states[alarm:])


def test_a_shorter_stream_gives_what_was_known_then():
    days, n, hits = make_stream(140, falls_at=100)
    whole, then = watch(days, n, hits, BASELINE, RULES), watch(days[:90], n[:90], hits[:90], BASELINE, RULES)
    for path in ("evidence", "recent", "low", "high"):
        assert getattr(whole.course, path)[:90] == getattr(then.course, path)
    assert watch(days, n, hits, BASELINE, RULES) == whole


def test_days_without_labels_may_be_given_or_left_out():
    days, n, hits = make_stream()
    n[::3] = hits[::3] = 0
    some = n > 0
    given, left_out = watch(days, n, hits, BASELINE, RULES), watch(days[some], n[some], hits[some], BASELINE, RULES)
    assert given.state is left_out.state and given.course.evidence[-1] == pytest.approx(left_out.course.evidence[-1])
    assert given.delay == left_out.delay


def test_a_small_baseline_is_held_by_its_lower_limit_and_says_what_it_misses():
    paper = share_baseline(132, 180)
    assert paper.reference == pytest.approx(performance.clopper_pearson(132, 180)[0])
    found = watch(*make_stream(), paper, RULES)
    assert found.delay.median > 50 > watch(*make_stream(), BASELINE, RULES).delay.median
    tiny = watch(*make_stream(), share_baseline(15, 20), RULES)
    assert tiny.state is State.INSUFFICIENT and "go unseen" in tiny.reason and tiny.delay.median == math.inf


def test_without_a_baseline_nothing_is_judged():
    found = watch(*make_stream(), share_baseline(0, 0), RULES)
    assert found.state is State.INSUFFICIENT and "no lower limit" in found.reason and "nan" not in found.reason
    assert all(math.isnan(e) for e in found.course.evidence) and math.isnan(found.delay.median)
    nothing = watch([], [], [], BASELINE, RULES)
    assert nothing.state is State.INSUFFICIENT and nothing.course.days == ()


def test_a_tolerated_fall_is_no_alarm():
    days, n, hits = make_stream(300, falls_at=50, to=0.68)
    assert watch(days, n, hits, BASELINE, RULES).state is State.ALARM
    assert watch(days, n, hits, BASELINE, replace(RULES, tolerance=0.06)).first_alarm_day is None


def test_a_fall_that_all_labels_show_is_said_to_lie_below_the_baseline():
    found = watch(*make_stream(300, falls_at=50, to=0.6), BASELINE, RULES)
    assert 50 < found.first_alarm_day < found.below_day  # what came before the fall weighs against it
    at = found.course.days.index(found.below_day)
    assert found.course.high[at] < BASELINE.reference
    assert watch(*make_stream(200), BASELINE, RULES).below_day is None


def test_false_alarms_are_as_rare_as_stated_over_baselines_and_years_together():
    """The verdict's thresholds in 400 stable years, a new baseline for each, and the engine itself in some of them."""
    rng = np.random.default_rng(3)
    by = Rules(alarm_every=365, runs=20)
    n = np.full((400, 365), 15)
    hits = rng.binomial(n, 0.733)
    baselines = [share_baseline(int(h), 1000) for h in rng.binomial(1000, 0.733, size=400)]
    reference = np.array([b.reference for b in baselines])[:, None]
    evidence = eprocess.shiryaev_roberts(hits, n, reference)
    alarm = eprocess.first(evidence >= math.log(365 / (1 - 0.025)))
    assert (alarm < 365).mean() <= 0.2  # far below the bound, as the reference lies below most truths
    assert (alarm + 1).mean() >= 300  # of years cut short at 365
    shown = (eprocess.recent(hits, n, reference) >= math.log(20)).mean()
    assert shown <= 0.05 + 0.025
    high = confidence_sequence.beta_binomial(hits.cumsum(axis=1), n.cumsum(axis=1), alpha=0.025).high
    assert (high < reference).any(axis=1).mean() <= 0.05
    for run in (*np.flatnonzero(alarm < 365)[:3], *np.flatnonzero(alarm == 365)[:3]):
        found = watch(np.arange(365), n[run], hits[run], baselines[run], by)
        assert found.first_alarm_day == (alarm[run] if alarm[run] < 365 else None)
        assert found.alarm_at == pytest.approx(365 / 0.975) and found.false_alarm == pytest.approx(1)


def test_the_stated_false_alarm_probability_is_the_bound():
    found = watch(*make_stream(), BASELINE, replace(RULES, alarm_every=3650))
    assert found.false_alarm == pytest.approx(0.025 + 365 / (3650 / 0.975))


def test_an_area_is_watched_through_its_pairs():
    rng = np.random.default_rng(4)
    positive = rng.random(12_000) < 0.4
    shift = np.where(np.arange(12_000) < 6_000, 1.6, np.where(np.arange(12_000) < 9_000, 1.6, 0.6))
    score = rng.normal(size=12_000) + shift * positive
    baseline = area_baseline(performance.area(score[:6000], positive[:6000]))
    assert baseline.reference < baseline.value < 0.9
    value, at = confidence_sequence.pairs(score[6000:], positive[6000:])
    day = at // 30
    n, hits = np.bincount(day, minlength=200), np.bincount(day, value, minlength=200)
    found = watch(np.arange(200), n, hits, baseline, RULES, figure="The AUC")
    assert found.state is State.ALARM and 100 < found.first_alarm_day < 130
    assert math.isnan(area_baseline(performance.area([1, 2], [True, True])).reference)


@pytest.mark.parametrize(
    ("what", "stream"),
    [
        ("ascend", ([1, 1], [5, 5], [1, 1])),
        ("as many", ([1, 2], [5], [1])),
        ("outside", ([1], [5], [6])),
        ("outside", ([1], [-1], [0])),
        ("whole", ([1], [1.5], [1])),
    ],
)
def test_a_stream_that_cannot_be_is_refused(what, stream):
    with pytest.raises(ValueError, match=what):
        watch(*stream, BASELINE, RULES)


def test_alpha_must_leave_something_beside_the_baseline_s():
    with pytest.raises(ValueError, match=r"alpha 0\.02"):
        watch(*make_stream(), BASELINE, replace(RULES, alpha=0.02))
