"""The effect under a randomised rollout: found where there is one, seldom where there is none, by units as drawn."""

import math
from itertools import combinations

import numpy as np
import pytest

from triage.audit import randomised
from triage.audit.reading_lines import ReadingList
from triage.audit.reading_simulation import started
from triage.audit.waits import Group, groups
from triage.domain.order import RequestedPriority
from triage.domain.priority import PriorityPolicy

NAN = float("nan")
DAY, HOUR = 86400.0, 3600.0


def make_days(days=40, *, shift=0.0, of_day=200.0, seed=1, most=30):
    """Waits that differ from day to day by *of_day* seconds, *shift* longer on days that are reordered."""
    rng = np.random.default_rng(seed)
    is_reordered = rng.permutation(np.arange(days) % 2 == 0)
    unit = np.repeat(np.arange(days), rng.integers(5, most, size=days))
    arrived = unit * DAY + rng.uniform(0, 8 * HOUR, size=len(unit))
    wait = 3600 + 4 * of_day + rng.normal(size=days)[unit] * of_day + rng.exponential(600, size=len(unit))
    return arrived, arrived + wait + shift * is_reordered[unit], unit, is_reordered[unit]


def everyone(n):
    return [Group("all", "all studies", np.ones(n, dtype=bool))]


def find(arrived, opened, unit, is_reordered, **keywords):
    settings = {"as_of": 1e9, "groups": everyone(len(arrived)), "horizon": 5 * HOUR, "draws": 300, **keywords}
    found = randomised.observed(arrived, opened, unit, is_reordered, **settings)
    return found[0] if len(found) == 1 else {(o.kind, o.name): o for o in found}


@pytest.mark.parametrize("sizes", [[1] * 6, [1, 5, 2, 1, 7, 3]])
def test_the_difference_and_p_by_hand_over_all_ways_to_draw_three_days_of_six(sizes):
    of_day, size = np.array([1.0, 2, 4, 8, 16, 40]), np.array(sizes)
    chosen = np.array([0, 1, 3])
    unit = np.repeat(np.arange(6), size)
    found = find(unit * DAY, unit * DAY + of_day[unit], unit, np.isin(unit, chosen), draws=20_000)

    def arms(rows):
        return np.array(rows), np.setdiff1d(np.arange(6), rows)

    def mean(rows):
        return float(np.average(of_day[rows], weights=size[rows]))

    def median(rows):
        return float(np.quantile(np.repeat(of_day[rows], size[rows]), 0.5, method="inverted_cdf"))

    def variance(rows):  # of a ratio of sums, three days an arm
        off = (of_day[rows] - mean(rows)) * size[rows]
        return (off**2).sum() / size[rows].sum() ** 2 * 3 / 2

    def difference(figure, rows):
        with_it, without = arms(rows)
        return figure(with_it) - figure(without)

    def t(rows):
        return abs(difference(mean, rows)) / sum(variance(a) for a in arms(rows)) ** 0.5

    ways = list(combinations(range(6), 3))
    assert found.mean.value == pytest.approx(difference(mean, chosen))
    assert found.median.value == pytest.approx(difference(median, chosen))
    assert (found.units_with, found.units_without) == (3, 3)
    assert found.mean.p == pytest.approx(np.mean([t(w) >= t(chosen) - 1e-9 for w in ways]), abs=0.012)
    apart = np.abs([difference(median, w) for w in ways])
    assert found.median.p == pytest.approx(np.mean(apart >= abs(difference(median, chosen))), abs=0.012)


def test_an_effect_is_found_with_an_interval_around_it():
    found = find(*make_days(60, shift=-900))
    for effect in (found.mean, found.median, found.restricted_mean):
        assert effect.low < -900 < effect.high < 0 and effect.p < 0.02
        assert effect.low < effect.value < effect.high
    assert found.restricted_mean == found.mean  # nobody waited as long as the horizon, and nobody still waits
    assert found.reordered.studies + found.unchanged.studies == len(make_days(60)[0])


def test_where_nothing_is_changed_one_in_twenty_is_called_an_effect():
    p = np.array(
        [
            [getattr(found, name).p for name in ("mean", "median")]
            for found in (find(*make_days(16, seed=s, of_day=900), draws=99) for s in range(160))
        ]
    )
    assert ((p < 0.05 + 1e-9).mean(axis=0) <= 0.105).all() and ((p < 0.5).mean(axis=0) >= 0.38).all()


def test_days_not_studies_are_what_was_drawn():
    # every study of a day alike: a thousand studies a day say no more than one
    few = [find(*make_days(12, seed=s, of_day=2000, most=200), draws=99).mean for s in range(40)]
    assert np.mean([e.p < 0.05 + 1e-9 for e in few]) <= 0.15
    widths = [find(*make_days(40, most=m, of_day=2000)).mean for m in (6, 300)]
    assert (widths[1].high - widths[1].low) > 0.6 * (widths[0].high - widths[0].low)


def test_intervals_hold_the_average_effect_also_where_it_differs_from_study_to_study():
    held, days = [], 40
    for seed in range(80):
        rng = np.random.default_rng(seed)
        unit = np.repeat(np.arange(days), 20)
        before = 3600 + rng.normal(size=days)[unit] * 300 + rng.exponential(600, size=len(unit))
        after = before * 0.4  # the longest gain most
        arm = rng.permutation(np.arange(days) % 4 == 0)[unit]
        effect = find(unit * DAY, unit * DAY + np.where(arm, after, before), unit, arm, draws=199).mean
        held.append(effect.low <= (after - before).mean() <= effect.high)
    assert np.mean(held) >= 0.88


def test_the_same_seed_gives_the_same_p_and_another_unit_name_none_other():
    arrived, opened, unit, arm = make_days(20, shift=-300)
    first = find(arrived, opened, unit, arm, seed=3)
    assert find(arrived, opened, unit, arm, seed=3).mean == first.mean
    assert find(arrived, opened, unit, arm, seed=3).median == first.median
    assert find(arrived, opened, [f"session {u:03}" for u in unit], arm, seed=3).mean == first.mean
    assert find(arrived, opened, unit, arm, seed=4).mean.p != first.mean.p
    assert find(arrived, opened, unit, arm, seed=4).mean.value == first.mean.value


def test_arms_are_redrawn_within_their_blocks():
    # weeks differ by hours, days of a week by minutes: only the comparison within weeks sees the effect
    rng = np.random.default_rng(1)
    unit = np.repeat(np.arange(60), 10)
    week = unit // 2
    arm = (unit % 2 == 0) ^ (rng.random(30) < 0.5)[week]
    wait = 6 * HOUR + 2 * HOUR * rng.normal(size=30)[week] + rng.exponential(300, size=600) - 300 * arm
    settings = {"horizon": 24 * HOUR, "draws": 500}
    together = find(unit * DAY, unit * DAY + wait, unit, arm, **settings)
    within = find(unit * DAY, unit * DAY + wait, unit, arm, block=week, **settings)
    assert together.mean.p > 0.3 and within.mean.p < 0.01
    assert within.mean.value == together.mean.value


def test_unread_studies_leave_the_restricted_mean_and_the_median():
    arrived, opened, unit, arm = make_days(40, shift=-900)
    as_of = 39 * DAY + 5 * HOUR
    came = arrived <= as_of
    late = np.where(opened > as_of, NAN, opened)[came]
    found = find(arrived[came], late, unit[came], arm[came], as_of=as_of)
    assert found.reordered.unread + found.unchanged.unread == np.isnan(late).sum() > 0
    assert all(math.isnan(v) for v in (found.mean.value, found.mean.low, found.mean.p))
    assert found.restricted_mean.high < 0 and found.median.high < 0
    assert found.restricted_mean.value == pytest.approx(
        found.reordered.restricted_mean - found.unchanged.restricted_mean, abs=15
    )


def test_too_few_days_of_a_group_give_its_waits_but_no_effect():
    arrived, opened, unit, arm = make_days(6)
    one_day = groups(np.where(unit == unit[arm][0], 0, 1), np.ones(len(unit)), ("COVID", "other"), disease=0)
    found = find(arrived, opened, unit, arm, groups=one_day)
    rare = found["AI class", "COVID"]
    assert (rare.units_with, rare.units_without) == (1, 0) and rare.reordered.studies > 0
    assert all(math.isnan(e.p) for e in (rare.mean, rare.median, rare.restricted_mean))
    assert found["true class", "COVID"].reordered.studies == 0
    assert math.isfinite(found["all", "all studies"].mean.value)


def test_days_too_few_to_refute_anything_leave_the_interval_open():
    found = find(*make_days(4))
    assert found.mean.p >= 1 / 3 - 0.1 and (found.mean.low, found.mean.high) == (-math.inf, math.inf)


def test_waits_that_are_all_alike_have_no_effect():
    unit = np.repeat(np.arange(10), 3)
    found = find(unit * DAY, unit * DAY + 600.0, unit, unit % 2 == 0)
    assert found.mean.value == pytest.approx(0, abs=1e-9) and found.median.value == pytest.approx(0, abs=1e-9)
    assert found.median.p == 1


def test_a_rollout_by_day_shows_what_reordering_does_to_each_class():
    # days that begin with an empty list, read by the product's rule on half of them
    rng = np.random.default_rng(7)
    n, days = 50, 30
    arrived = np.sort(rng.uniform(0, 8 * HOUR, size=(days, n)), axis=1)
    truth = (rng.random((days, n)) > 0.15).astype(int)
    ai = np.where(rng.random((days, n)) < np.where(truth == 0, 0.8, 0.1), 0, 1)
    arm = rng.permutation(np.arange(days) % 2 == 0)
    opened = np.empty((days, n))
    for d in range(days):
        flagged_at = np.where((ai[d] == 0) & arm[d], arrived[d], NAN)
        line = ReadingList(arrived[d], [RequestedPriority.ROUTINE] * n, flagged_at, PriorityPolicy())
        opened[d] = started(arrived[d], np.full(n, 560.0), line)
    unit = np.repeat(np.arange(days), n)
    start = unit * DAY
    found = find(
        arrived.ravel() + start,
        opened.ravel() + start,
        unit,
        arm[unit],
        groups=groups(ai.ravel(), truth.ravel(), ("COVID", "other"), disease=0),
        limit=30 * 60,
    )
    flagged, missed = found["AI class", "COVID"], found["true class", "COVID missed"]
    assert flagged.mean.high < 0 and flagged.mean.p < 0.01 and flagged.median.value < 0
    assert missed.mean.value > flagged.mean.value
    assert flagged.reordered.past_limit < flagged.unchanged.past_limit
    assert found["all", "all studies"].mean.p > 0.05


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"is_reordered": [True, False, True]}, "both arms"),
        ({"block": [0, 1, 1]}, "two blocks"),
        ({"unit": [0, 1]}, "units"),
        ({"opened": [0.5, 1, 0]}, "opened before"),
        ({"arrived": [0.0, NAN, 1]}, "instant of arrival"),
    ],
)
def test_a_rollout_that_cannot_be_is_refused(change, words):
    log = {"arrived": [0.0, 0, 1], "opened": [2.0, 3, 4], "unit": [0, 0, 1], "is_reordered": [True, True, False]}
    with pytest.raises(ValueError, match=words):
        randomised.observed(**{**log, **change}, as_of=9, groups=everyone(3), horizon=9)
