"""Calibration against R's glm and rms, by definition, and where nothing can be fitted."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from tests.audit.conftest import CLASSES
from triage.audit.calibration import brier, calibration, calibration_error, reliability

ONE_CLASS = [(site, k) for site in "EL" for k in range(3)]


def make_forecast(n, seed=1, slope=1.0, intercept=0.0):
    rng = np.random.default_rng(seed)
    p = rng.beta(1, 1.5, size=n)
    return p, (rng.random(n) < expit(intercept + slope * logit(p))).astype(int)


@pytest.mark.parametrize(("site", "k"), ONE_CLASS, ids=[f"{s}.{CLASSES[k]}" for s, k in ONE_CLASS])
def test_intercept_slope_and_brier_are_those_of_r(sites, expected, site, k):
    answer, p, y = expected[f"{site}.{CLASSES[k]}"], sites[site].a[:, k], sites[site].truth == k
    found = calibration(p, y, nearest=1e-4)  # four digits are printed, and a 0 in them stood for less than 0.0001
    assert found.slope == pytest.approx(answer["cal"]["slope"], abs=1e-6)
    assert found.intercept == pytest.approx(answer["cal"]["intercept_in_the_large"], abs=1e-6)
    # glm takes its standard errors from the weights one step before it stops
    assert found.slope_se == pytest.approx(answer["cal"]["slope_se"], rel=1e-4)
    assert found.intercept_se == pytest.approx(answer["cal"]["itl_se"], rel=1e-4)
    assert brier(p, y) == pytest.approx(answer["val_prob"]["Brier"], abs=1e-6)


def test_what_was_put_in_is_found_again():
    found = calibration(*make_forecast(200_000, slope=0.7, intercept=-0.4))
    assert found.slope == pytest.approx(0.7, abs=4 * found.slope_se) and found.slope_se < 0.01
    assert calibration(*make_forecast(200_000)).intercept == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize("outcome", [[0, 0, 0], [1, 1, 1], []])
def test_one_outcome_alone_is_not_calibrated(outcome):
    found = calibration([0.2, 0.5, 0.9][: len(outcome)], outcome)
    assert all(math.isnan(v) for v in (found.intercept, found.intercept_se, found.slope, found.slope_se))


@pytest.mark.parametrize(
    "p", [[0.1, 0.2, 0.8, 0.9], [0.1, 0.5, 0.5, 0.9], [0.5] * 4, [0, 0, 1, 1], [0.9, 0.8, 0.2, 0.1]]
)
def test_outcomes_wholly_apart_have_an_intercept_but_no_slope(p):
    found = calibration(p, [0, 0, 1, 1])
    assert math.isfinite(found.intercept) and found.intercept_se > 0
    assert math.isnan(found.slope) and math.isnan(found.slope_se)


EXTREMES = {
    "spread out": lambda rng, n: expit(rng.normal(scale=10, size=n)),
    "near 0": lambda rng, n: rng.random(n) ** rng.integers(1, 30),
    "hardly apart": lambda rng, n: np.clip(0.5 + rng.normal(size=n) * 10.0 ** -rng.integers(1, 16), 0, 1),
    "the same but for rounding": lambda rng, n: 1e-5 * (1 + 1e-12 * rng.normal(size=n)),
    "at the ends": lambda rng, n: rng.choice([0, 1, 1e-300, 1 - 1e-16, 0.5], size=n),
}


@pytest.mark.parametrize("kind", EXTREMES)
@given(st.integers(0, 10_000), st.integers(2, 40))
@settings(max_examples=60, deadline=None)
def test_any_forecast_can_be_fitted(kind, seed, n):
    rng = np.random.default_rng(seed)
    p, y = EXTREMES[kind](rng, n), rng.random(n) < 0.4
    found = calibration(p, y)
    if math.isfinite(found.intercept):
        x = logit(np.clip(p, 1e-6, 1 - 1e-6))
        assert expit(found.intercept + x).sum() == pytest.approx(y.sum(), abs=1e-6)
    assert math.isnan(found.intercept) == (y.all() or not y.any())


def test_probabilities_of_0_and_1_that_fail_leave_finite_numbers():
    found = calibration([0, 1, 0, 1, 0.5, 0.5], [1, 0, 0, 1, 1, 0])
    assert math.isfinite(found.intercept) and math.isfinite(found.slope)
    assert math.isnan(calibration([float("nan"), 0.2], [0, 1]).intercept)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60),
    st.integers(1, 20),
    st.sampled_from(["width", "count"]),
)
def test_every_case_is_in_one_bin(cases, bins, of_equal):
    p, y = np.array([c[0] for c in cases]), np.array([c[1] for c in cases])
    found = reliability(p, y, bins, of_equal=of_equal)
    filled = [b for b in found if b.n]
    assert sum(b.n for b in found) == len(cases) and len(found) <= bins
    assert sum(b.n * b.observed for b in filled) == pytest.approx(y.sum())
    assert sum(b.n * b.predicted for b in filled) == pytest.approx(p.sum())
    for b in filled:
        assert b.low - 1e-9 <= b.predicted <= b.high + 1e-9
        assert b.observed_low <= b.observed + 1e-9 and b.observed <= b.observed_high + 1e-9


def test_bins_of_equal_width_keep_their_empty_ones():
    found = reliability([0.05, 0.95, 1.0], [0, 1, 1], 10)
    assert [b.n for b in found] == [1, 0, 0, 0, 0, 0, 0, 0, 0, 2]
    assert math.isnan(found[3].observed) and (found[3].observed_low, found[3].observed_high) == (0, 1)
    assert [b.n for b in reliability([], [], 10)] == [0] * 10
    assert reliability([], [], 10, of_equal="count") == ()


def test_one_probability_alone_fills_one_bin():
    found = calibration_error([0.3] * 10, [1] * 3 + [0] * 7)
    assert found.bins == 1 and found.plain == pytest.approx(0)
    (only,) = reliability([0.3] * 10, [1] * 3 + [0] * 7, of_equal="count")
    assert only.n == 10 and only.observed == pytest.approx(0.3)


def test_a_calibrated_score_has_little_error_left_once_chance_is_taken_off():
    found = [calibration_error(*make_forecast(400, seed=s)) for s in range(200)]
    plain, debiased = (np.mean([getattr(f, name) for f in found]) for name in ("plain", "debiased"))
    squared = np.mean([f.root_mean_square**2 for f in found])
    assert plain > 0.05
    assert debiased == pytest.approx((2 - math.sqrt(2)) * plain, abs=0.006)  # what the docstring says: four tenths off
    assert squared < 0.3 * plain**2


def test_a_true_error_is_found_without_bias():
    truth = calibration_error(*make_forecast(400_000, slope=0.4))
    found = [calibration_error(*make_forecast(600, seed=s, slope=0.4)) for s in range(300)]
    plain, debiased, root = (np.mean([getattr(f, n) for f in found]) for n in ("plain", "debiased", "root_mean_square"))
    assert abs(debiased - truth.plain) < 0.5 * abs(plain - truth.plain)
    assert root == pytest.approx(truth.root_mean_square, abs=0.01)


def test_nothing_has_no_error():
    found = calibration_error([], [])
    assert math.isnan(found.plain) and math.isnan(found.debiased) and found.bins == 0
    assert math.isnan(brier([], []))
    with pytest.raises(ValueError, match="probabilities"):
        brier([0.5], [1, 0])
