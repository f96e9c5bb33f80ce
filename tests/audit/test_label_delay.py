"""Label-delay curves against scipy's Kaplan-Meier; early labels weighed so that reading order does not bias them."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import CensoredData, ecdf

from triage.audit import label_delay
from triage.audit.operating import share

NAN = float("nan")


def test_a_curve_by_hand():
    # labels at 1, 2, 2 and 4 days; two studies still without one, 2 and 5 days old
    (curve,) = label_delay.curves([1, 2, 2, NAN, 4, NAN], [9, 9, 9, 2, 9, 5], [0] * 6, least_arrivals=1)
    assert curve.age.tolist() == [1, 2, 4]
    assert curve.share == pytest.approx([1 - 5 / 6, 1 - 5 / 6 * 3 / 5, 1 - 5 / 6 * 3 / 5 * 1 / 2])
    assert curve.by([0, 0.99, 1, 3, 4, 100]) == pytest.approx([0, 0, 1 / 6, 0.5, 0.75, 0.75])
    assert (curve.studies, curve.arrived, curve.pooled) == (6, 4, False)


@given(st.integers(0, 10_000), st.integers(5, 60))
@settings(max_examples=40, deadline=None)
def test_curves_and_their_limits_are_scipy_s(seed, n):
    rng = np.random.default_rng(seed)
    delay, age = rng.integers(1, 12, size=(2, n)).astype(float)
    arrived = delay <= age
    arrived[0], delay[0] = True, min(delay[0], age[0])
    (curve,) = label_delay.curves(np.where(arrived, delay, NAN), age, np.zeros(n), least_arrivals=1)
    theirs = ecdf(CensoredData(uncensored=delay[arrived], right=age[~arrived]))
    assert curve.by(np.arange(15)) == pytest.approx(theirs.cdf.evaluate(np.arange(15)), abs=1e-12)
    with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
        interval = theirs.cdf.confidence_interval(method="log-log")
    at = np.searchsorted(theirs.cdf.quantiles, curve.age)
    inside = (curve.share > 0) & (curve.share < 1)
    for ours, limits in ((curve.low, interval.low), (curve.high, interval.high)):
        assert ours[inside] == pytest.approx(limits.probabilities[at][inside], abs=1e-9)


def test_each_stratum_has_its_own_curve_unless_it_has_too_few_labels():
    stratum = np.repeat([0, 1, 2], [40, 40, 3])
    delay = np.concatenate([np.linspace(0.1, 1, 40), np.linspace(1, 10, 40), [NAN, 20, 30]])
    fast, slow, few = label_delay.curves(delay, np.full(83, 60.0), stratum)
    assert fast.by(1.0) == 1 and slow.by(1.0) == pytest.approx(1 / 40)
    assert few.pooled and few.stratum == 2 and few.studies == 3 and few.arrived == 2
    (everyone,) = label_delay.curves(delay, np.full(83, 60.0), np.zeros(83))
    assert few.by([1, 5, 25]) == pytest.approx(everyone.by([1, 5, 25]))


def test_columns_are_crossed_to_the_combinations_that_occur():
    code = label_delay.crossed(["covid", "normal", "covid", "normal"], [1, 1, 2, 1], ["b", "a", "b", "a"])
    assert code.tolist() == [0, 2, 1, 2]


def test_a_label_stands_for_those_of_its_age_still_missing():
    delay = np.array([1.0, 1, NAN, NAN, 1, NAN, 0.2])
    age = np.array([10.0, 10, 10, 10, 2, 2, 0.5])
    curve = label_delay.Curve(0, np.array([0.2, 1.0]), np.array([0.01, 0.5]), *np.zeros((2, 2)), 7, 4)
    found = label_delay.inverse_probability(delay, age, np.zeros(7), [curve], least_age=1)
    assert found.weight.tolist() == [2, 2, 0, 0, 2, 0, 0]
    assert (found.old_enough, found.floored, found.effective) == (6, 0, pytest.approx(3))
    young = label_delay.inverse_probability(delay, age, np.zeros(7), [curve], least_age=0)
    assert young.weight[-1] == 50 and young.floored == 1
    assert young.effective == pytest.approx(56**2 / (3 * 4 + 2500))
    none = label_delay.inverse_probability(np.full(2, NAN), [1, 2], [0, 0], [curve], least_age=0)
    assert none.effective == 0 and none.weight.tolist() == [0, 0]


def test_the_mature_cohort_waits_for_the_slowest_stratum():
    stratum = np.repeat([0, 1], 100)
    delay = np.concatenate([np.arange(1, 101) / 100, np.arange(1, 101) / 10])
    found = label_delay.curves(delay, np.full(200, 30.0), stratum)
    assert label_delay.mature_age(found[:1]) == 0.99 and label_delay.mature_age(found) == 9.9
    assert label_delay.is_mature([9.8, 9.9, 30], found).tolist() == [False, True, True]


def test_without_enough_labels_no_cohort_is_mature_unless_waiting_has_an_end():
    delay = np.where(np.arange(100) < 80, np.arange(100) / 10, NAN)
    found = label_delay.curves(delay, np.full(100, 60.0), np.zeros(100))
    assert label_delay.mature_age(found) == float("inf")
    assert not label_delay.is_mature([1000.0], found).any()
    assert label_delay.mature_age(found, within=30) == pytest.approx(7.9)


def test_a_figure_gets_few_points_of_the_same_curve():
    rng = np.random.default_rng(1)
    delay = rng.exponential(size=5000)
    (curve,) = label_delay.curves(delay, np.full(5000, 60.0), np.zeros(5000))
    few = label_delay.thinned(curve, 50)
    assert len(few.age) == 50 and few.age[-1] == curve.age[-1]
    assert few.by(few.age) == pytest.approx(curve.by(few.age))
    assert label_delay.thinned(few) is few


@pytest.mark.parametrize(
    ("delay", "age", "stratum", "message"),
    [
        ([1.0], [1.0, 2.0], [0], r"\(1,\) delays, \(2,\) ages"),
        ([3.0], [2.0], [0], "after the as-of instant"),
        ([-1.0], [2.0], [0], "labelled before it was made"),
        ([NAN], [NAN], [0], "younger than nothing"),
        ([1.0], [2.0], [-1], "stratum below 0"),
    ],
)
def test_impossible_delays_are_refused(delay, age, stratum, message):
    with pytest.raises(ValueError, match=message):
        label_delay.curves(delay, age, stratum)


def make_window(rng, n=1500):
    """A month in which the flagged are read first: delays of days, the truth known to us, sensitivity .793."""
    diseased = rng.random(n) < 0.35
    flagged = rng.random(n) < np.where(diseased, 0.793, 0.15)
    age = rng.uniform(0, 30, n)
    delay = rng.exponential(np.where(flagged, 1.0, 8.0))
    return diseased, flagged, age, np.where(delay <= age, delay, NAN)


def test_labels_so_far_flatter_the_sensitivity_and_their_weights_put_it_right():
    rng = np.random.default_rng(20260301)
    naive, weighted = np.empty((2, 300))
    for rep in range(300):
        diseased, flagged, age, delay = make_window(rng)
        sick = diseased & ~np.isnan(delay)
        naive[rep] = flagged[sick].mean()
        stratum = flagged.astype(int)
        weight = label_delay.inverse_probability(
            delay, age, stratum, label_delay.curves(delay, age, stratum), least_age=1
        ).weight
        weighted[rep] = np.average(flagged[diseased], weights=weight[diseased])
    assert abs(weighted.mean() - 0.793) < 0.02
    assert naive.mean() - 0.793 > 0.04


def test_the_interval_of_a_weighted_sensitivity_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(200):
        diseased, flagged, age, delay = make_window(rng)
        stratum = flagged.astype(int)
        weight = label_delay.inverse_probability(
            delay, age, stratum, label_delay.curves(delay, age, stratum), least_age=1
        ).weight
        found = share(flagged[diseased], weight[diseased])
        held += found.low <= 0.793 <= found.high
    assert held / 200 > 0.92
