"""Prevalence without labels: what was put in comes out, by both methods, with intervals that hold it."""

import math

import numpy as np
import pytest
from scipy.special import softmax

from triage.audit.label_shift import LEAST, bbse, em, expected_areas, expected_share, label_shift
from triage.audit.performance import auc

BEFORE, AFTER = (0.5, 0.3, 0.2), (0.605, 0.262, 0.133)


def make_cases(n, shares, seed=1, sharpness=1.0, lean=0.0):
    """Probabilities (n, 3) that are calibrated where the shares are BEFORE, unless too sharp or leaning to covid."""
    rng = np.random.default_rng((seed, n))
    truth = rng.choice(3, n, p=shares)
    x = rng.normal(size=(n, 3))
    x[np.arange(n), truth] += 1.6
    return softmax(sharpness * (1.6 * x + np.log(BEFORE)) + [0, 0, lean], axis=1), truth


def test_both_methods_find_shares_that_have_changed():
    q, truth = make_cases(2000, AFTER, seed=2)
    found = label_shift(*make_cases(1800, BEFORE), q, draws=100)
    seen = np.bincount(truth) / len(truth)
    assert found.current == pytest.approx(seen, abs=0.03) and found.by_confusion == pytest.approx(seen, abs=0.03)
    assert (found.low <= seen).all() and (seen <= found.high).all() and found.p < 0.001
    assert 1 < found.condition < 10 and found.ratio == pytest.approx(found.current / found.reference)


def test_probabilities_that_are_not_calibrated_are_so_first():
    q, truth = make_cases(2000, AFTER, seed=2, sharpness=2, lean=1)
    seen = np.bincount(truth) / len(truth)
    found = label_shift(*make_cases(1800, BEFORE, sharpness=2, lean=1), q, draws=20)
    assert found.current == pytest.approx(seen, abs=0.03)
    assert np.abs(em(q, BEFORE) - seen).max() > 0.02  # as they are, they mislead


def test_expectation_maximisation_ends_where_the_likelihood_is_largest():
    q, _ = make_cases(300, AFTER)
    found = em(q, BEFORE)
    assert found.sum() == pytest.approx(1)

    def likelihood(shares):
        return np.log((q / BEFORE) @ shares).sum()

    rng = np.random.default_rng(1)
    for near in found + 0.01 * rng.normal(size=(50, 3)):
        near = np.abs(near) / np.abs(near).sum()
        assert likelihood(near) <= likelihood(found) + 1e-9


def test_expectation_maximisation_ends_at_an_edge_too():
    q, _ = make_cases(200, (0.7, 0.3, 0.0))
    found = em(q, BEFORE)
    plain = np.array(BEFORE)
    for _ in range(20_000):
        plain = plain * ((q / BEFORE).T @ (1 / ((q / BEFORE) @ plain))) / len(q)
    assert found == pytest.approx(plain, abs=1e-4) and (found >= 0).all()


def test_black_box_shift_estimation_inverts_the_confusion():
    truth, chosen = np.repeat([0, 1], 50), np.array([0] * 40 + [1] * 10 + [0] * 5 + [1] * 45)
    # of a window with 0.2 of the second class, 0.2 * 0.9 + 0.8 * 0.2 are called so
    shares, condition = bbse(chosen, truth, np.repeat([0, 1], [66, 34]), 2)
    assert shares == pytest.approx([0.8, 0.2])
    assert condition == pytest.approx(np.linalg.cond([[0.4, 0.05], [0.1, 0.45]]))
    nothing, condition = bbse(np.zeros(10, int), [0, 1] * 5, [0, 1], 2)
    assert np.isnan(nothing).all() and condition == math.inf


def test_without_drift_a_change_is_found_as_often_as_it_says_and_intervals_hold():
    found, held = [], []
    for seed in range(30):
        shift = label_shift(*make_cases(400, BEFORE, seed), make_cases(200, BEFORE, seed)[0], draws=50, seed=seed)
        found.append(shift.p <= 0.05)
        held.append((shift.low <= BEFORE) & (shift.high >= BEFORE))
    assert np.mean(found) <= 0.17
    assert np.mean(held) >= 0.88


def test_blocks_are_drawn_whole():
    (p, y), (q, _) = make_cases(200, BEFORE), make_cases(100, AFTER)
    once = label_shift(p, y, q, draws=60)
    rows, now = np.repeat(np.arange(200), 3), np.repeat(np.arange(100), 3)
    copied = label_shift(p[rows], y[rows], q[now], blocks=(rows, now), draws=60)
    assert copied.current == pytest.approx(once.current, abs=1e-4)
    assert copied.high - copied.low == pytest.approx(once.high - once.low, rel=0.05)


def test_the_metric_to_be_expected_is_that_of_the_new_mix():
    p, truth = make_cases(60_000, BEFORE)
    q, now = make_cases(60_000, AFTER, seed=2)
    ratio = np.array(AFTER) / BEFORE
    hit = p.argmax(axis=1) == truth
    assert expected_share(hit, truth, ratio) == pytest.approx((q.argmax(axis=1) == now).mean(), abs=0.008)
    areas = [auc(q[:, k], now == k) for k in range(3)]
    assert expected_areas(p, truth, ratio) == pytest.approx(areas, abs=0.008)
    assert math.isnan(expected_share([], [], ratio))


def test_too_few_cases_give_no_shares():
    (p, y), (q, _) = make_cases(200, BEFORE), make_cases(5, AFTER)
    few = label_shift(p, y, q)
    assert np.isnan(few.current).all() and math.isnan(few.p) and few.current_cases == 5 < LEAST
    no_covid = y != 2
    assert np.isnan(label_shift(p[no_covid], y[no_covid], make_cases(100, AFTER)[0]).current).all()


def test_the_same_seed_gives_the_same_interval():
    (p, y), (q, _) = make_cases(200, BEFORE), make_cases(60, AFTER)
    first, again = (label_shift(p, y, q, draws=20) for _ in range(2))
    assert (first.low == again.low).all() and first.p == again.p
