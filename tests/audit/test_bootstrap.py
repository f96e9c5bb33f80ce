"""The bootstrap by patient: the same draws as scipy's, whole patients, the seed recorded."""

import math

import numpy as np
import pytest
from scipy import stats

from triage.audit import bootstrap
from triage.audit.performance import auc


def test_percentile_and_bca_are_scipy_s_where_each_patient_has_one_case():
    value = np.random.default_rng(3).exponential(size=40)
    for ours, theirs in ((bootstrap.percentile, "percentile"), (bootstrap.bca, "BCa")):
        found = ours(lambda rows: float(value[rows].mean()), np.arange(40), draws=500, seed=7)
        answer = stats.bootstrap(
            (value,), np.mean, n_resamples=500, method=theirs, rng=np.random.default_rng(7)
        ).confidence_interval
        assert (found.low, found.high) == pytest.approx((answer.low, answer.high), abs=1e-12)
        assert found.value == pytest.approx(value.mean())
        assert (found.seed, found.draws, found.patients, found.undefined) == (7, 500, 40, 0)


def test_the_same_seed_draws_the_same_interval():
    value = np.random.default_rng(3).normal(size=50)

    def mean(rows):
        return float(value[rows].mean())

    again = [bootstrap.bca(mean, np.arange(50), draws=200, seed=s) for s in (1, 1, 2)]
    assert again[0] == again[1] and (again[0].low, again[0].high) != (again[2].low, again[2].high)


def test_patients_are_drawn_whole():
    patients = np.array(["b", "a", "b", "c", "a", "b"])
    whose = bootstrap.Patients(patients)
    assert [patients[whose.rows_of(np.array([i]))].tolist() for i in range(3)] == [["a"] * 2, ["b"] * 3, ["c"]]
    assert whose.rows_of(np.array([1, 0, 1])).tolist() == [0, 2, 5, 1, 4, 0, 2, 5]


def test_copies_of_a_patient_s_case_make_nothing_surer():
    value = np.random.default_rng(3).normal(size=40)
    copied = np.repeat(value, 6)
    once = bootstrap.bca(lambda rows: float(value[rows].mean()), np.arange(40))
    many = bootstrap.bca(lambda rows: float(copied[rows].mean()), np.repeat(np.arange(40), 6))
    assert (many.low, many.high) == pytest.approx((once.low, once.high), abs=1e-9)


def test_intervals_hold_the_truth_as_often_as_they_say():
    held = {bootstrap.percentile: 0, bootstrap.bca: 0}
    for seed in range(150):
        rng = np.random.default_rng(seed)
        patients = rng.integers(40, size=80)
        value = rng.normal(size=40)[patients] + 0.5 * rng.normal(size=80)
        for interval in held:
            found = interval(lambda rows, v=value: float(v[rows].mean()), patients, draws=200, seed=seed)
            held[interval] += found.low <= 0 <= found.high
    assert all(0.86 <= hits / 150 <= 1 for hits in held.values()), held


@pytest.mark.parametrize("interval", [bootstrap.percentile, bootstrap.bca])
def test_too_little_to_go_by_gives_nan_limits(interval):
    def mean(rows):
        return float(np.arange(9.0)[rows].mean())

    one = interval(mean, ["a"] * 9, draws=20)
    assert one.value == 4 and math.isnan(one.low) and math.isnan(one.high) and one.undefined == 20
    none = interval(mean, [], draws=20)
    assert math.isnan(none.value) and math.isnan(none.low)
    never = interval(lambda rows: float("nan"), np.arange(9), draws=20)
    assert math.isnan(never.value) and math.isnan(never.high) and never.undefined == 20
    constant = interval(lambda rows: 0.25, np.arange(9), draws=20)
    assert (constant.low, constant.high) == (0.25, 0.25)
    highest = interval(lambda rows: float(rows.max()), np.arange(9), draws=50)
    assert 0 <= highest.low <= highest.high == 8


def test_draws_that_miss_a_class_are_counted_and_left_out():
    truth = np.arange(12) < 1
    score = np.arange(12.0)[::-1]
    found = bootstrap.percentile(lambda rows: auc(score[rows], truth[rows]), np.arange(12), draws=300)
    assert 0.2 * 300 < found.undefined < 0.5 * 300  # (11 / 12) ** 12 = 0.35 of the draws miss the one positive
    assert found.low == found.high == 1
