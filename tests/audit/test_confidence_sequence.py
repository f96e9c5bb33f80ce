"""Intervals for every look: the published code's answers, the closed form's definition, and how seldom they miss."""

import json
from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import brentq
from scipy.special import betaln

from tests.audit.conftest import DATA
from triage.audit import confidence_sequence, performance
from triage.audit.confidence_sequence import beta_binomial


@pytest.fixture(scope="module")
def confseq():
    return {k: np.array(v) for k, v in json.loads((DATA / "expected_confseq.json").read_text()).items()}


def test_the_empirical_bernstein_sequence_is_that_of_confseq(confseq):
    found = confidence_sequence.empirical_bernstein(confseq["x"])
    assert found.low[confseq["idx"]] == pytest.approx(confseq["eb_lower"], abs=1e-12)
    assert found.high[confseq["idx"]] == pytest.approx(confseq["eb_upper"], abs=1e-12)


def test_the_betting_sequence_is_that_of_confseq(confseq):
    found = confidence_sequence.betting(confseq["x"])
    assert found.low[confseq["idx"]] == pytest.approx(confseq["bet_lower"], abs=1e-12)
    assert found.high[confseq["idx"]] == pytest.approx(confseq["bet_upper"], abs=1e-12)


def test_the_mixture_sequence_after_200_labels_is_the_known_one(confseq):
    hits = confseq["x"][:200].sum()
    found = beta_binomial(hits, 200)
    assert (float(found.low), float(found.high)) == pytest.approx((0.615, 0.827), abs=5e-4)


@given(st.integers(1, 5000), st.data())
@settings(max_examples=60, deadline=None)
def test_the_limits_of_a_share_are_the_roots_of_the_mixture_s_equation(n, data):
    hits = data.draw(st.integers(0, n))
    alpha = data.draw(st.sampled_from([0.01, 0.05, 0.5]))
    wanted = betaln(0.5 + hits, 0.5 + n - hits) - betaln(0.5, 0.5) + log(alpha)

    def above(p):
        return stats.binom.logpmf(hits, n, p) - stats.binom.logpmf(hits, n, hits / n) - (wanted - at_peak)

    at_peak = (hits * log(hits / n) if hits else 0) + ((n - hits) * log(1 - hits / n) if hits < n else 0)
    found = beta_binomial(hits, n, alpha=alpha)
    assert found.low == (0 if hits == 0 else pytest.approx(brentq(above, 1e-300, hits / n, xtol=1e-14), abs=1e-9))
    assert found.high == (1 if hits == n else pytest.approx(brentq(above, hits / n, 1 - 1e-16, xtol=1e-14), abs=1e-9))
    turned = beta_binomial(n - hits, n, alpha=alpha)
    assert (turned.low, turned.high) == pytest.approx((1 - found.high, 1 - found.low), abs=1e-14)


def test_without_a_label_nothing_is_known():
    found = beta_binomial([0, 0, 1], [0, 1, 1])
    assert (found.low[0], found.high[0]) == (0, 1)
    assert (found.low[1], found.high[2]) == (0, 1) and 0.9 < found.high[1] < 1


def test_a_million_labels_do_not_overflow():
    found = beta_binomial(700_000, 1_000_000)
    assert 0.697 < found.low < 0.6985 and 0.7015 < found.high < 0.703  # some 4.5 standard errors of 0.00046


def years_outside(limits, truth):
    return float(((limits.low > truth) | (limits.high < truth)).any(axis=-1).mean())


@pytest.mark.parametrize("share", [0.5, 0.733, 0.97])
def test_in_400_stable_years_looked_at_daily_the_mixture_misses_no_more_often_than_it_says(share):
    rng = np.random.default_rng(4)
    n = rng.poisson(15, size=(400, 365))
    hits = rng.binomial(n, share)
    found = beta_binomial(hits.cumsum(axis=1), n.cumsum(axis=1), alpha=0.05)
    assert years_outside(found, share) <= 0.05 + 2 * (0.05 * 0.95 / 400) ** 0.5
    totals = (v.cumsum(axis=1)[:40, ::7].ravel() for v in (hits, n))
    naive = [performance.wilson(h, k) for h, k in zip(*totals, strict=True)]
    low, high = np.array(naive).reshape(40, -1, 2).transpose(2, 0, 1)
    assert float(((low > share) | (high < share)).any(axis=1).mean()) > 0.15  # what it is for


def test_sequences_of_bounded_values_miss_no_more_often_than_they_say():
    rng = np.random.default_rng(5)
    value = rng.choice([0, 0.5, 1], p=[0.1, 0.2, 0.7], size=(400, 800))
    assert years_outside(confidence_sequence.empirical_bernstein(value), 0.8) <= 0.05
    n = np.arange(1, 801)
    assert years_outside(beta_binomial(value.cumsum(axis=1), n), 0.8) <= 0.05  # fractions are no less safe
    missed = [years_outside(confidence_sequence.betting(row[:100]), 0.8) for row in value[:60]]
    assert np.mean(missed) <= 0.05 + 2 * (0.05 * 0.95 / 60) ** 0.5


def test_betting_is_narrower_than_empirical_bernstein():
    value = np.random.default_rng(6).choice([0, 0.5, 1], p=[0.05, 0.1, 0.85], size=400)
    bets, bernstein = confidence_sequence.betting(value), confidence_sequence.empirical_bernstein(value)
    assert bets.high[-1] - bets.low[-1] < 0.9 * (bernstein.high[-1] - bernstein.low[-1])
    assert bets.low[-1] < value.mean() < bets.high[-1]


def test_narrowed_limits_only_ever_close_in():
    value = np.r_[np.ones(200), np.zeros(400)]
    found = confidence_sequence.empirical_bernstein(value).narrowed()
    assert (np.diff(found.low) >= 0).all() and (np.diff(found.high) <= 0).all()
    assert found.low[-1] > found.high[-1]  # the mean has moved, and the limits say so


def test_the_asymptotic_sequence_is_the_paper_s_and_narrowest_where_asked():
    rng = np.random.default_rng(7)
    mean, variance = rng.normal(0.8, 0.05, 60), np.full(60, 0.0025)
    found = confidence_sequence.asymptotic(mean, variance, narrowest_at=40)
    t, s2 = np.arange(1, 61), 0.0025
    r2 = (-2 * log(0.05) + log(-2 * log(0.05)) + 1) / 40 / s2
    half = np.sqrt(2 * (t * s2 * r2 + 1) / (t**2 * r2) * np.log(np.sqrt(t * s2 * r2 + 1) / 0.05))
    inside = half < 0.15
    assert ((found.high - found.low) / 2)[inside] == pytest.approx(half[inside], rel=1e-12)
    others = [confidence_sequence.asymptotic(mean, variance, narrowest_at=at) for at in (10, 40, 160)]
    widths = [float((other.high - other.low)[39]) for other in others]
    assert widths[1] == min(widths)


def test_the_asymptotic_sequence_holds_for_batches_of_real_scores():
    missed = 0
    truth = stats.norm.cdf(1 / 2**0.5)
    for seed in range(100):
        rng = np.random.default_rng(seed)
        positive = rng.random(700) < 0.3
        values, variances = confidence_sequence.batch_areas(rng.normal(size=700) + positive, positive, each=10)
        found = confidence_sequence.asymptotic(values, variances, narrowest_at=15)
        missed += bool(((found.low > truth) | (found.high < truth))[4:].any())
    assert missed / 100 <= 0.05 + 2 * (0.05 * 0.95 / 100) ** 0.5


def test_batches_are_disjoint_and_each_has_its_own_delong_variance():
    rng = np.random.default_rng(8)
    positive = rng.random(400) < 0.25
    score = rng.normal(size=400) + positive
    values, variances = confidence_sequence.batch_areas(score, positive, each=10)
    assert len(values) == positive.sum() // 10
    ends = np.flatnonzero(positive)[9::10] + 1  # positives are the scarcer class throughout
    for value, variance, start, end in zip(values, variances, np.r_[0, ends], ends, strict=False):
        one = performance.area(score[start:end], positive[start:end])
        assert (value, variance) == (pytest.approx(one.value), pytest.approx(one.variance))
    copied, whose = (np.repeat(score, 2), np.repeat(positive, 2)), np.repeat(np.arange(400), 2)
    clustered, wider = confidence_sequence.batch_areas(*copied, each=20, patients=whose)
    assert clustered == pytest.approx(values) and wider == pytest.approx(variances)
    assert len(confidence_sequence.batch_areas(score[:20], positive[:20], each=10)[0]) == 0


def test_pairs_use_each_case_once_in_the_order_it_came():
    score, positive = [0.9, 0.1, 0.4, 0.4, 0.2, 0.7], [True, False, False, True, True, False]
    value, at = confidence_sequence.pairs(score, positive)
    assert value.tolist() == [1, 0.5, 0] and at.tolist() == [1, 3, 5]
    value, at = confidence_sequence.pairs(score, positive, negatives_each=3)
    assert value.tolist() == [pytest.approx(1)] and at.tolist() == [5]
    none, rows = confidence_sequence.pairs([1, 2], [True, True])
    assert len(none) == len(rows) == 0


def test_pairs_make_the_area_a_stream():
    rng = np.random.default_rng(9)
    positive = rng.random(3000) < 0.25
    score = rng.normal(size=3000) + 1.2 * positive
    value, at = confidence_sequence.pairs(score, positive, negatives_each=2)
    assert (np.diff(at) >= 0).all()
    assert value.mean() == pytest.approx(performance.auc(score, positive), abs=0.03)
    found = confidence_sequence.betting(value)
    assert found.low[-1] < stats.norm.cdf(1.2 / 2**0.5) < found.high[-1]
    assert found.high[-1] - found.low[-1] < 0.15


@pytest.mark.parametrize(
    ("what", "call"),
    [
        ("outside", lambda: confidence_sequence.empirical_bernstein([0.5, 1.1])),
        ("outside", lambda: confidence_sequence.betting([float("nan")])),
        ("hits lie outside", lambda: beta_binomial([3], [2])),
        ("2 variances|\\(2,\\) variances", lambda: confidence_sequence.asymptotic([0.5], [0.1, 0.1])),
        ("at least 2", lambda: confidence_sequence.batch_areas([0.5], [True], each=1)),
        ("0 negatives", lambda: confidence_sequence.pairs([0.5], [True], negatives_each=0)),
    ],
)
def test_bad_input_is_named(what, call):
    with pytest.raises(ValueError, match=what):
        call()
