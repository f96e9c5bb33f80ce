"""Evidence of a fall: exact expectations, the recursions they stand for, and the promised run lengths."""

import math
from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from triage.audit import eprocess
from triage.audit.watch import share_baseline


def expectation(log_e, n, p):
    """Of exp(log_e(hits)) under n labels of share p, summed over all outcomes."""
    hits = np.arange(n + 1)
    return float(stats.binom.pmf(hits, n, p) @ np.exp(log_e(hits)))


@pytest.mark.parametrize("p0", [0.2, 0.733, 0.95])
def test_no_evidence_is_expected_of_a_stable_service(p0):
    for n in (1, 7, 40):

        def whole(hits, n=n):
            return eprocess.cumulative(hits, np.full(n + 1, n), p0)

        def day(hits, n=n):
            return eprocess.of_day(hits, np.full(n + 1, n), p0, 0.1)

        for evidence in (whole, day):
            assert expectation(evidence, n, p0) == pytest.approx(1, abs=1e-10)
            assert expectation(evidence, n, (1 + p0) / 2) < 1
            assert expectation(evidence, n, 0.9 * p0) > 1


@given(st.integers(0, 200), st.data())
@settings(max_examples=30, deadline=None)
def test_the_e_process_is_the_mixture_cut_off_at_the_null(n, data):
    hits, p0 = data.draw(st.integers(0, n)), data.draw(st.sampled_from([0.3, 0.733, 0.9]))

    def ratio(p):
        return math.exp(hits * log(p / p0) + (n - hits) * log((1 - p) / (1 - p0))) * stats.beta.pdf(p, 0.5, 0.5)

    peak = [min(max(hits / n, 1e-3), p0 - 1e-3)] if n else None
    mixed = integrate.quad(ratio, 0, p0, points=peak, limit=500)[0] / stats.beta.cdf(p0, 0.5, 0.5)
    assert float(eprocess.cumulative(hits, n, p0)) == pytest.approx(log(mixed), abs=1e-5)


def test_the_e_process_stays_finite_after_years_without_a_fall():
    n = 10 ** np.arange(1, 7)
    found = eprocess.cumulative(0.9 * n, n, 0.5)
    assert np.isfinite(found).all() and (np.diff(found) < 0).all()
    assert found[-1] > -30  # evidence fades like 1 / n, not exponentially


def days(rng, shape, p, labels=6):
    n = rng.poisson(labels, size=shape) * (rng.random(shape) < 0.8)
    return rng.binomial(n, p).astype(float), n.astype(float)


def test_the_detectors_are_their_recursions_and_days_without_labels_change_nothing():
    hits, n = days(np.random.default_rng(1), 80, 0.6)
    n[:2] = hits[:2] = 0
    m, c, sums, largest = np.zeros(5), np.zeros(5), [], []
    for h, k in zip(hits, n, strict=True):
        if k:
            e = np.exp([float(eprocess.of_day(h, k, 0.7, drop)) for drop in eprocess.DROPS])
            m, c = (m + 1) * e, np.maximum(c, 1) * e
        sums.append(m.mean())
        largest.append(c.max() / 5)
    with np.errstate(divide="ignore"):
        assert eprocess.shiryaev_roberts(hits, n, 0.7) == pytest.approx(np.log(sums), abs=1e-9)
        assert eprocess.recent(hits, n, 0.7) == pytest.approx(np.log(largest), abs=1e-9)


def test_a_share_falling_for_years_neither_overflows_nor_warns():
    n = np.full(3000, 50.0)
    for found in (eprocess.shiryaev_roberts(0 * n, n, 0.9), eprocess.recent(n, n, 0.9)):
        assert np.isfinite(found).all()


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=30), st.data())
@settings(max_examples=50)
def test_one_more_miss_never_lessens_the_evidence(counts, data):
    hits, n = np.array([min(c) for c in counts]), np.array([max(c) for c in counts])
    at = data.draw(st.integers(0, len(n) - 1))
    worse = hits.copy()
    worse[at] = max(worse[at] - 1, 0)
    for detector in (eprocess.shiryaev_roberts, eprocess.recent):
        with np.errstate(invalid="ignore"):
            assert not (detector(worse, n, 0.7) < detector(hits, n, 0.7) - 1e-9).any()


def test_the_mean_run_to_a_false_alarm_is_as_long_as_promised():
    rng = np.random.default_rng(2)
    hits, n = days(rng, (600, 700), 0.733, labels=15)
    arl = 100
    run = eprocess.first(eprocess.shiryaev_roberts(hits, n, 0.733) >= log(arl))
    passed = (n > 0).cumsum(axis=1)
    looks = np.take_along_axis(passed, np.minimum(run, 699)[:, None], axis=1)[:, 0]
    assert looks.mean() >= arl  # of runs cut short, so the true mean is longer still
    for within in (20, 50, 90):
        assert (looks <= within).mean() <= eprocess.alarm_probability(within, arl)


def test_the_mean_run_holds_over_estimated_baselines_and_streams_together():
    rng = np.random.default_rng(3)
    arl, spent, p = 100, 0.025, 0.733
    drawn = rng.binomial(2000, p, size=400)
    reference = np.array([share_baseline(int(h), 2000, spent=spent).reference for h in drawn])
    n = np.full((400, 500), 15)
    evidence = eprocess.shiryaev_roberts(rng.binomial(n, p), n, reference[:, None])
    assert (eprocess.first(evidence >= log(arl / (1 - spent))) + 1).mean() >= arl


def test_averaged_detectors_of_the_same_labels_keep_their_promise():
    rng = np.random.default_rng(4)
    n = rng.integers(0, 6, size=(3, 300, 500))
    n[2] = n[0] + n[1]  # as dependent as can be
    hits = rng.binomial(n, 0.8)
    hits[2] = hits[0] + hits[1]
    group = eprocess.shiryaev_roberts(hits, n, 0.8)
    one = np.stack([eprocess.averaged(group[:, run]) for run in range(300)])
    assert (eprocess.first(one >= log(80)) + 1).mean() >= 80
    assert eprocess.averaged([[0.0, log(3)], [0.0, log(9)]], [1, 2]) == pytest.approx([0, log(7)])


@pytest.mark.parametrize("labels", [1, 15])
def test_a_stable_service_has_recent_evidence_on_no_more_days_than_stated(labels):
    rng = np.random.default_rng(5)
    n = np.full((400, 400), labels)
    found = eprocess.recent(rng.binomial(n, 0.733), n, 0.733)[:, 200:]
    share = (found >= log(20)).mean(axis=1)
    assert share.mean() <= 0.05 + 2 * share.std() / 20
    assert (found >= log(20)).any(axis=1).mean() > 0.02  # it is not out of reach


def test_in_400_stable_years_the_e_process_alarms_in_no_more_than_alpha():
    rng = np.random.default_rng(6)
    hits, n = days(rng, (400, 365), 0.733, labels=15)
    found = eprocess.cumulative(hits.cumsum(axis=1), n.cumsum(axis=1), 0.733)
    assert (found >= log(20)).any(axis=1).mean() <= 0.05 + 2 * (0.05 * 0.95 / 400) ** 0.5


def test_a_local_share_is_held_against_an_estimate_not_against_a_constant():
    rng = np.random.default_rng(7)
    n = np.full((300, 365), 15).cumsum(axis=1)
    alarms = constant = 0
    for run in range(300):
        external = int(rng.binomial(180, 0.733))
        hits = rng.binomial(15, 0.733, size=365).cumsum()
        alarms += bool(eprocess.below_estimate(hits, n[run], (external, 180)).is_below.any())
        constant += bool((eprocess.below_estimate(hits, n[run], (external, 180)).high < external / 180).any())
    assert alarms / 300 <= 0.05
    assert constant / 300 > 0.2  # taken for a constant, the estimate cries wolf
    found = eprocess.below_estimate([3, 300, 600], [5, 600, 1200], (132, 180))
    assert found.limit == pytest.approx(0.662, abs=5e-4)
    assert found.is_below.tolist() == [False, True, True]
    assert not eprocess.below_estimate([600], [1200], (132, 180), tolerance=0.15).is_below.any()


def test_the_delay_of_a_stated_fall_is_reproducible_and_sensible():
    def rule(hits, n):
        return eprocess.shiryaev_roberts(hits, n, 0.733) >= log(1000)

    small, large, again = (eprocess.delay(rule, 0.733, 0.733 - d, [15], runs=200) for d in (0.05, 0.1, 0.1))
    assert large == again and large.seed == 1
    assert 9 <= large.median <= 17 < small.median and large.found == 1
    never = eprocess.delay(rule, 0.733, 0.733, [15], runs=100, horizon=100)
    assert never.median == math.inf and never.found < 0.2
    assert math.isnan(eprocess.delay(rule, 0.733, 0.6, [0, 0]).median)
    always = eprocess.delay(lambda hits, n: n > 0, 0.733, 0.6, [15], runs=20)
    assert always.false == 1 and math.isnan(always.median)


def test_where_a_fall_began_is_found_about_right():
    rng = np.random.default_rng(8)
    n = np.full(130, 15)
    n[::7] = 0
    hits = rng.binomial(n, np.where(np.arange(130) < 100, 0.75, 0.5))
    assert abs(eprocess.began(hits, n, 0.733) - 100) <= 5
    assert eprocess.began([0, 0], [0, 0], 0.733) == -1


def test_evidence_since_it_began_is_the_recent_evidence():
    hits, n = days(np.random.default_rng(9), 60, 0.65)
    start = eprocess.began(hits, n, 0.7)
    best = max(eprocess.of_day(hits[start:], n[start:], 0.7, drop).sum() for drop in eprocess.DROPS)
    assert eprocess.recent(hits, n, 0.7)[-1] == pytest.approx(best - log(5))


def test_small_things():
    assert eprocess.first([[False, True, True], [False] * 3]).tolist() == [1, 3]
    assert eprocess.alarm_probability(365, 1000) == 0.365 and eprocess.alarm_probability(5, 2) == 1


@pytest.mark.parametrize(
    ("what", "call"),
    [
        ("hits lie outside", lambda: eprocess.shiryaev_roberts([2.0], [1.0], 0.7)),
        ("p0 lies outside", lambda: eprocess.cumulative(1, 2, 1.0)),
        ("p0 lies outside", lambda: eprocess.recent([1.0], [1.0], float("nan"))),
        ("weights", lambda: eprocess.averaged([[0.0], [0.0]], [1, 0])),
    ],
)
def test_bad_input_is_named(what, call):
    with pytest.raises(ValueError, match=what):
        call()
