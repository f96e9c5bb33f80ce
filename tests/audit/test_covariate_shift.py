"""Images against the same mix of classes: a new mix alone is no change of images, a new detector is one."""

import math

import numpy as np
import pytest

from triage.audit.covariate_shift import CLIP, covariate_shift, in_the_mix

BEFORE, AFTER = (0.5, 0.3, 0.2), (0.3, 0.25, 0.45)
MEANS = np.array([[0, 0, 0, 0], [2.0, 0, 0, 0], [1, 1.7, 0, 0]])


def make_images(n, shares, seed=1, shift=0.0):
    rng = np.random.default_rng((seed, n))
    truth = rng.choice(3, n, p=shares)
    return MEANS[truth] + rng.normal(size=(n, 4)) + [0, 0, 0, shift], truth


def test_the_mix_is_met_without_drawing_a_case_twice():
    truth = np.repeat([0, 1, 2], [50, 30, 20])
    rows = in_the_mix(truth, [0.25, 0.25, 0.5], 1000, seed=1)
    assert np.bincount(truth[rows]).tolist() == [10, 10, 20] and len(set(rows.tolist())) == 40
    assert np.bincount(truth[in_the_mix(truth, [0.25, 0.25, 0.5], 20, seed=1)]).tolist() == [5, 5, 10]
    assert np.bincount(truth[in_the_mix(truth, [0.5, 0.5, 0.0], 1000, seed=1)]).tolist() == [30, 30]


def test_a_new_mix_alone_is_found_no_more_often_than_it_says():
    found, naive = [], []
    for seed in range(30):
        (x, truth), (y, now) = make_images(300, BEFORE, seed), make_images(120, AFTER, seed)
        shares = np.bincount(now) / len(now)
        found.append(covariate_shift(x, truth, y, shares, draws=39, seed=seed).p <= 0.05)
        naive.append(covariate_shift(x, truth, y, BEFORE, draws=39, seed=seed).p <= 0.05)
    assert np.mean(found) <= 0.134 and np.mean(naive) > 0.5


def test_another_detector_is_found_and_the_reference_weighted_to_look_like_it():
    (x, truth), (y, _) = make_images(800, BEFORE), make_images(400, BEFORE, shift=1.0)
    found = covariate_shift(x, truth, y, BEFORE, draws=99)
    assert found.p == 2 / 100 and found.is_supported
    assert found.support == pytest.approx(1, abs=0.35)
    assert len(found.weight) == len(found.rows) and 30 < found.effective < 0.8 * len(found.rows)
    weighted = found.weight @ x[found.rows] / found.weight.sum()
    assert weighted[3] == pytest.approx(y[:, 3].mean(), abs=0.25)


def test_images_unlike_all_before_leave_nothing_to_weigh():
    (x, truth), (y, _) = make_images(300, BEFORE), make_images(100, BEFORE, shift=12.0)
    found = covariate_shift(x, truth, y, BEFORE, draws=49)
    assert found.p == 2 / 50 and not found.is_supported and found.weight.max() <= CLIP


def test_a_mix_the_reference_cannot_show_is_not_judged():
    x, truth = make_images(300, (0.6, 0.36, 0.04))
    y, _ = make_images(100, (0.05, 0.05, 0.9))
    found = covariate_shift(x, truth, y, (0.05, 0.05, 0.9), draws=9)
    assert math.isnan(found.p) and not found.is_supported and len(found.rows) < 30


def test_rounding_never_draws_more_rows_than_asked() -> None:
    truth = np.repeat([0, 1, 2], 2000)
    shares = np.array([0.5555, 0.2995, 0.145])
    for most in range(990, 1011):
        assert len(in_the_mix(truth, shares / shares.sum(), most, 1)) <= most
    third = np.full(3, 1 / 3)
    assert all(len(in_the_mix(truth, third, most, 1)) <= most for most in (500, 1000, 1001))
