"""Performance without labels: right for probabilities that are right, blind to concept drift, and seen in the gap."""

import math

import numpy as np
import pytest

from triage.audit.estimated_performance import ASSUMPTION, ROWS, estimated, expected_area, gap
from triage.audit.performance import auc


def make_cases(n=400, seed=1, flip=0.0):
    """Probabilities (n, 3) and classes drawn from them, a share of covid's drawn from any class instead."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet([0.6, 0.4, 0.3], n)
    truth = (rng.random(n)[:, None] > p.cumsum(axis=1)).sum(axis=1)
    return p, np.where((truth == 2) & (rng.random(n) < flip), rng.integers(0, 3, n), truth)


def test_probabilities_that_are_right_promise_what_comes_true():
    p, truth = make_cases(200_000)
    found = estimated(p, draws=20)
    said = p.argmax(axis=1)
    assert found.accuracy.value == pytest.approx((said == truth).mean(), abs=0.005)
    for true in range(3):
        for given in range(3):
            seen = ((truth == true) & (said == given)).mean()
            assert found.confusion[true][given].value == pytest.approx(seen, abs=0.005)
        assert found.areas[true].value == pytest.approx(auc(p[:, true], truth == true), abs=0.005)
    assert sum(f.value for row in found.confusion for f in row) == pytest.approx(1)


def test_the_expected_area_is_the_mean_over_all_labels_there_could_be():
    p = np.array([0.2, 0.2, 0.5, 0.9])
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    order = sum(p[i] * (1 - p[j]) * ((p[i] > p[j]) + (p[i] == p[j]) / 2) for i, j in pairs)
    assert expected_area(p) == pytest.approx(order / sum(p[i] * (1 - p[j]) for i, j in pairs))
    assert (
        expected_area([0.0, 1.0, 1.0]) == 1 and math.isnan(expected_area([1.0, 1.0])) and math.isnan(expected_area([]))
    )


def test_intervals_hold_what_all_such_cases_would_promise():
    truth = estimated(make_cases(300_000)[0], draws=2).accuracy.value
    held = [
        found.low <= truth <= found.high
        for found in (estimated(make_cases(200, s)[0], draws=100, seed=s).accuracy for s in range(60))
    ]
    assert 0.86 <= np.mean(held) <= 0.99


def test_many_cases_have_the_interval_their_number_deserves():
    p, _ = make_cases(4 * ROWS)
    found = estimated(p, draws=200).accuracy
    sd = p.max(axis=1).std() / math.sqrt(len(p))
    assert found.high - found.low == pytest.approx(2 * 1.96 * sd, rel=0.2)


def test_exams_of_a_patient_make_nothing_surer():
    p, _ = make_cases(100)
    once, copied = estimated(p), estimated(np.repeat(p, 5, axis=0), patients=np.repeat(np.arange(100), 5))
    assert (copied.accuracy.low, copied.accuracy.high) == pytest.approx((once.accuracy.low, once.accuracy.high))
    assert (copied.cases, copied.patients) == (500, 100)


def test_the_assumption_stands_beside_the_figures():
    assert estimated(make_cases(50)[0], draws=2).assumption == ASSUMPTION and "only labels" in ASSUMPTION


def test_concept_drift_leaves_the_estimate_flat_and_opens_the_gap():
    before, (p, truth) = make_cases(3000), make_cases(3000, seed=2, flip=1.0)
    assert estimated(p, draws=2).accuracy.value == pytest.approx(estimated(before[0], draws=2).accuracy.value, abs=0.02)
    usual, drifted = gap(*before), gap(p, truth)
    assert usual.low < 0 < usual.high and usual.p > 0.05
    assert drifted.high < -0.03 and drifted.p < 1e-6
    assert drifted.value == pytest.approx(drifted.realised - drifted.estimated)


def test_without_drift_a_gap_is_found_as_often_as_it_says():
    found = [gap(*make_cases(150, seed)).p <= 0.05 for seed in range(400)]
    assert 0.02 <= np.mean(found) <= 0.085


def test_a_gap_counts_patients_not_exams():
    p, truth = make_cases(100)
    once, copied = (
        gap(p, truth),
        gap(np.repeat(p, 4, axis=0), np.repeat(truth, 4), patients=np.repeat(np.arange(100), 4)),
    )
    assert copied.p == pytest.approx(once.p) and copied.low == pytest.approx(once.low)


def test_the_class_given_may_be_another_than_the_most_probable():
    p, truth = make_cases(300)
    found = estimated(p, np.full(300, 2), draws=2)
    assert found.accuracy.value == pytest.approx(p[:, 2].mean())
    assert gap(p, truth, np.full(300, 2)).realised == pytest.approx((truth == 2).mean())


def test_too_few_cases_have_no_interval():
    nothing = estimated(np.zeros((0, 3)))
    assert math.isnan(nothing.accuracy.value) and math.isnan(nothing.areas[2].low) and nothing.cases == 0
    one = estimated(np.array([[0.2, 0.8]]))
    assert one.accuracy.value == pytest.approx(0.8) and math.isnan(one.accuracy.low)
    few = gap(*make_cases(5))
    assert math.isfinite(few.value) and math.isnan(few.p) and math.isnan(few.low)
    assert math.isnan(gap(np.zeros((0, 3)), []).value)


@pytest.mark.parametrize("p", [[[np.nan, 1.0]], [[1.5, -0.5]], [0.5]])
def test_what_is_no_probability_is_refused(p):
    with pytest.raises(ValueError, match="probabilities"):
        estimated(p)
    with pytest.raises(ValueError, match="chosen"):
        estimated([[0.5, 0.5]], [2])
