"""The replay of a site's own openings in another order: by hand, against a known truth, with studies still unread."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from triage.audit import queueing, replay
from triage.audit.reader_load import load_by_hour
from triage.audit.reading_lines import ReadingList, strict
from triage.audit.reading_lines import first_come as in_order
from triage.audit.reading_simulation import drawn, started, taken_at
from triage.audit.waits import UNKNOWN, Group, groups
from triage.domain.order import RequestedPriority
from triage.domain.priority import PriorityPolicy

NAN = float("nan")
DAY, HOUR = 86400.0, 3600.0
NAMES = ("COVID", "other")
PRIORITIES = tuple(RequestedPriority)
pure = settings(deadline=None, derandomize=True, max_examples=80)


def make_site(n=6000, *, load=0.85, seed=1, unread=0, down=False):
    """What a site that reads by AI class would have logged: studies, openings, as of when."""
    s = drawn(n, load=load, mean_read=600, prevalence=[0.1, 0.9], confusion=[[0.9, 0.1], [0.19, 0.81]], seed=seed)
    opened = started(s.arrived, s.read, strict(np.ones(n) if down else s.ai))
    as_of = float(np.sort(opened)[n - unread - 1])
    came = s.arrived <= as_of
    return s.arrived[came], np.where(opened > as_of, NAN, opened)[came], s.truth[came], s.ai[came], as_of


def compare(arrived, opened, ai, truth, as_of, *, instead=None, **keywords):
    other = replay.first_come(arrived, opened) if instead is None else instead
    found = replay.replayed(
        arrived,
        opened,
        other,
        as_of=as_of,
        day=arrived // DAY,
        groups=groups(ai, truth, NAMES, disease=0),
        **{"horizon": DAY, "draws": 200, **keywords},
    )
    return {(r.kind, r.name): r for r in found}


def test_the_replay_by_hand():
    # three wait at 3; the reader takes the flagged one that came last
    arrived, opened, ai = np.array([0.0, 1, 2, 3]), np.array([0.0, 6, 9, 3]), np.array([1, 1, 1, 0])
    assert replay.first_come(arrived, opened).tolist() == [0, 3, 6, 9]
    found = compare(arrived, opened, ai, [1, 0, 1, 0], 10.0, limit=[1, 1, 1, 5])
    flagged, missed = found["AI class", "COVID"], found["true class", "COVID missed"]
    assert (flagged.real.mean, flagged.other.mean, flagged.saving.value) == (0, 6, 6)
    assert (missed.real.mean, missed.other.mean, missed.saving.value) == (5, 2, -3)
    assert (flagged.real.past_limit, flagged.other.past_limit, missed.real.past_limit) == (0, 1, 1)
    assert (flagged.moved.mean, flagged.moved.forward, flagged.moved.furthest_forward) == (2, 1, 2)
    assert (missed.moved.back, missed.moved.furthest_back) == (1, 1)
    everyone = found["all", "all studies"]
    assert everyone.saving.value == 0 and everyone.moved.mean == 0 and everyone.moved.back == 2
    assert (
        math.isnan(flagged.saving.low) and flagged.saving.method == "bootstrap by day"
    )  # one day says nothing of days


logs = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 20), st.booleans()), min_size=1, max_size=30)


@pure
@given(logs)
def test_first_come_is_what_a_line_would_give_and_only_the_order_differs(rows):
    arrived = np.array([float(a) for a, _, _ in rows])
    opened = np.array([a + w if is_read else NAN for a, w, is_read in rows], dtype=float)
    instead = replay.first_come(arrived, opened)
    order = np.argsort(arrived, kind="stable")
    line = taken_at(opened[~np.isnan(opened)], arrived[order], in_order(arrived[order]))
    assert np.array_equal(instead[order], line, equal_nan=True)
    assert np.array_equal(np.sort(instead), np.sort(opened), equal_nan=True)
    assert not (instead < arrived).any()
    if not np.isnan(opened).any():
        assert (instead - opened).sum() == pytest.approx(0)
        assert (instead - arrived).max() <= (opened - arrived).max()  # first come keeps the longest wait shortest


def test_what_reading_by_class_saved_is_found_again():
    # reads all alike: then the openings are the same in any order and the replay is the truth itself
    n = 5000
    s = drawn(n, load=0.85, mean_read=600, prevalence=[0.1, 0.9], confusion=[[0.9, 0.1], [0.19, 0.81]], spread=0)
    opened, plain = (started(s.arrived, s.read, line) for line in (strict(s.ai), in_order(s.arrived)))
    assert replay.first_come(s.arrived, opened) == pytest.approx(plain)
    found = compare(s.arrived, opened, s.ai, s.truth, 1e9)
    flagged = found["AI class", "COVID"]
    assert flagged.saving.value == pytest.approx((plain - opened)[s.ai == 0].mean())
    assert flagged.saving.low > 0 > found["AI class", "other"].saving.high
    assert found["true class", "COVID missed"].saving.high < 0
    assert found["all", "all studies"].saving.value == pytest.approx(0, abs=1e-6)
    longest = [getattr(found["AI class", "other"], which).longest for which in ("real", "other")]
    assert longest[0] > longest[1]


def test_the_replay_of_reads_that_differ_is_close_to_theory():
    arrived, opened, truth, ai, as_of = make_site(40_000, load=0.7)
    found = compare(arrived, opened, ai, truth, as_of, draws=100)
    theory = queueing.triaged(0.7, 600, *queueing.two_classes(0.1, 0.9, 0.81))
    flagged, missed = found["AI class", "COVID"], found["true class", "COVID missed"]
    assert flagged.saving.value == pytest.approx(theory.first_come - theory.by_ai[0], rel=0.15)
    assert missed.real.mean == pytest.approx(theory.missed[0], rel=0.2)


def test_a_site_whose_ai_is_down_saves_nothing_and_its_studies_still_count():
    arrived, opened, truth, ai, as_of = make_site(down=True)
    found = compare(arrived, opened, np.full(len(ai), UNKNOWN), truth, as_of)
    unassessed = found["true class", "COVID not assessed"]
    assert unassessed.real.studies == (truth == 0).sum()
    assert (unassessed.saving.value, unassessed.saving.low, unassessed.saving.high) == (0, 0, 0)
    assert found["AI class", "not assessed"].moved.forward == 0 and found["AI class", "COVID"].real.studies == 0
    assert math.isnan(found["AI class", "COVID"].saving.value)


def test_hours_without_the_ai_dilute_what_it_saves():
    s = drawn(6000, load=0.85, mean_read=600, prevalence=[0.1, 0.9], confusion=[[0.9, 0.1], [0.19, 0.81]], spread=0)
    savings = []
    for up in (1.0, 0.5):
        is_up = (s.arrived / DAY) % 1 < up
        flagged_at = np.where((s.ai == 0) & is_up, s.arrived, NAN)
        line = ReadingList(s.arrived, [RequestedPriority.ROUTINE] * 6000, flagged_at, PriorityPolicy())
        found = compare(s.arrived, started(s.arrived, s.read, line), np.where(is_up, s.ai, UNKNOWN), s.truth, 1e9)
        savings.append(found["true class", "COVID"].saving.value)
    assert 0 < savings[1] < 0.75 * savings[0]


def test_studies_still_unread_are_followed_to_the_end_of_the_log():
    # overloaded, so that those not flagged pile up: without them it would look as if nobody waited longer
    arrived, opened, truth, ai, as_of = make_site(3000, load=1.1, unread=250)
    found = compare(arrived, opened, ai, truth, as_of, horizon=12 * HOUR)
    others = found["AI class", "other"]
    assert others.real.unread > 100 and math.isnan(others.real.mean)
    assert others.real.unread != others.other.unread
    assert others.read_in_both < others.real.studies - others.real.unread + 1
    shorter = others.restricted_saving
    assert shorter.value == pytest.approx(others.other.restricted_mean - others.real.restricted_mean)
    assert shorter.low < shorter.value < shorter.high
    assert found["AI class", "COVID"].restricted_saving.low > 0


def test_a_physician_s_stat_is_not_the_ai_s_merit():
    n, policy = 3000, PriorityPolicy()
    s = drawn(n, load=0.9, mean_read=600, prevalence=[0.1, 0.9], confusion=[[1, 0], [0, 1]], spread=0)
    priority = [RequestedPriority.STAT if t == 0 else RequestedPriority.ROUTINE for t in s.truth]
    opened = started(s.arrived, s.read, ReadingList(s.arrived, priority, np.full(n, NAN), policy))
    against_first_come = compare(s.arrived, opened, s.ai, s.truth, 1e9)["true class", "COVID"]
    clinical = replay.clinical_order(s.arrived, opened, priority, policy)
    against_clinical = compare(s.arrived, opened, s.ai, s.truth, 1e9, instead=clinical)["true class", "COVID"]
    assert against_first_come.saving.low > 0 and against_clinical.saving.value == 0
    # in whatever order the log is kept
    back = np.arange(n)[::-1]
    again = replay.clinical_order(s.arrived[back], opened[back], [priority[i] for i in back], policy)
    assert np.array_equal(again[back], clinical)


def test_days_are_drawn_whole():
    day = np.repeat(np.arange(60), 50)
    of_day = np.random.default_rng(1).normal(size=60)
    together = replay.by_day(of_day[day], day)
    assert together.high - together.low == pytest.approx(2 * 1.96 * of_day.std() / 60**0.5, rel=0.15)
    assert replay.by_day(of_day[day], day) == together
    alone = replay.by_day(of_day[day], np.arange(3000))
    assert alone.high - alone.low < 0.3 * (together.high - together.low)


def test_the_interval_holds_the_saving_as_often_as_it_says():
    truth = np.mean([flagged_saving(seed, draws=1).value for seed in range(1000, 1060)])
    held = [(s := flagged_saving(seed)).low <= truth <= s.high for seed in range(80)]
    assert 0.85 <= np.mean(held) <= 1


def flagged_saving(seed, draws=200):
    """Sixty days that begin with an empty list."""
    rng = np.random.default_rng(seed)
    arrived = np.sort(rng.uniform(0, 8 * HOUR, size=(60, 40)), axis=1)
    ai = (rng.random((60, 40)) > 0.2).astype(int)
    opened = np.array([started(a, np.full(40, 650.0), strict(c)) for a, c in zip(arrived, ai, strict=True)])
    start = np.arange(60)[:, None] * DAY
    flat, when = (arrived + start).ravel(), (opened + start).ravel()
    rows = Group("AI class", "COVID", ai.ravel() == 0)
    (found,) = replay.replayed(
        flat, when, replay.first_come(flat, when), as_of=1e9, day=flat // DAY, groups=[rows], horizon=DAY, draws=draws
    )
    return found.saving


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: replay.first_come([5.0], [4.0]), "1 studies opened before they came"),
        (lambda: replay.first_come([NAN], [4.0]), "instant of arrival"),
        (lambda: replay.first_come([1.0, 2], [4.0]), "instant of arrival"),
        (lambda: compare(np.array([1.0]), np.array([4.0]), [0], [0], 9.0, instead=[5.0]), "other openings"),
        (lambda: compare(np.array([1.0]), np.array([4.0]), [0], [0], 3.0), "end of the log"),
    ],
)
def test_a_log_that_cannot_be_is_refused(ask, words):
    with pytest.raises(ValueError, match=words):
        ask()


def make_hours(days=40, *, by_hour=None, growth=0.0, seed=1):
    """Reads of ten minutes, so many an hour on average."""
    rng = np.random.default_rng(seed)
    mean = np.full(24, 5.0) if by_hour is None else np.asarray(by_hour)
    count = rng.poisson(mean * (1 + growth * np.arange(days)[:, None]))
    day, hour = (np.repeat(v.ravel(), count.ravel()) for v in np.indices(count.shape))
    return np.full(len(day), 600.0), hour, day


def test_load_by_hour_is_work_over_capacity():
    read, hour, day = make_hours()
    found = load_by_hour(read, hour, day, 1)
    assert found.overall == pytest.approx(5 / 6, rel=0.05) and found.days == 40
    assert found.studies.mean() == pytest.approx(5, rel=0.05)
    assert found.load.mean() == pytest.approx(found.overall)
    assert (found.low < found.load).all() and (found.load < found.high).all()
    assert np.mean((found.low <= 5 / 6) & (found.high >= 5 / 6)) >= 0.8
    on_duty = np.where(np.arange(24) < 8, 0, 2)
    half = load_by_hour(read, hour, day, on_duty)
    assert np.isnan(half.load[:8]).all() and half.load[8:] == pytest.approx(found.load[8:] / 2)


def test_a_load_that_is_always_the_same_is_told_from_one_that_is_not():
    even = [load_by_hour(*make_hours(seed=s), 1) for s in range(100)]
    assert 0.01 <= np.mean([f.p_hours < 0.05 for f in even]) <= 0.12
    assert 0.01 <= np.mean([f.p_trend < 0.05 for f in even]) <= 0.12
    busy = np.where((np.arange(24) > 7) & (np.arange(24) < 18), 7.0, 3.0)
    by_hour = load_by_hour(*make_hours(by_hour=busy), 1)
    assert by_hour.p_hours < 1e-6 and by_hour.p_trend > 0.01
    assert by_hour.overall < 1 and set(by_hour.overloaded) <= set(range(8, 18)) and len(by_hour.overloaded) >= 9
    assert load_by_hour(*make_hours(growth=0.01), 1).p_trend < 1e-3


def test_the_test_of_the_hours_is_friedman_s():
    read, hour, day = make_hours(12)
    work = np.bincount(day * 24 + hour, weights=read, minlength=12 * 24).reshape(12, 24)
    assert load_by_hour(read, hour, day, 1).p_hours == pytest.approx(stats.friedmanchisquare(*work.T).pvalue)


def test_days_on_which_nothing_came_are_days_without_load():
    found = load_by_hour([3600.0, 3600], [9, 9], [3, 6], 1)
    assert found.days == 4 and found.load[9] == pytest.approx(0.5) and found.overall == pytest.approx(2 / 96)
    one = load_by_hour([600.0], [9], [3], 1)
    assert one.load[9] == pytest.approx(1 / 6) and math.isnan(one.low[9])
    assert math.isnan(one.p_hours) and math.isnan(one.p_trend)
    none = load_by_hour([], [], [], 1)
    assert none.days == 0 and math.isnan(none.overall) and np.isnan(none.load).all()
    for wrong in (([1.0], [24], [0], 1), ([1.0], [-1], [0], 1), ([-1.0], [0], [0], 1), ([1.0], [0, 1], [0], 1)):
        with pytest.raises(ValueError, match=r"hour|read"):
            load_by_hour(*wrong)
