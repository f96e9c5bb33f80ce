"""Recalibration finds what was put in, agrees with binary logistic regression, and stays finite."""

import numpy as np
import pytest
from scipy.special import logit, softmax

from triage.audit.calibration import calibration
from triage.audit.recalibration import Recalibration, adjusted, fitted, unchanged


def make_classes(n=4000, k=3, seed=1, slope=1.0, intercept=0.0):
    """Probabilities (n, k), and classes drawn from them recalibrated."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(k), n)
    return p, (rng.random(n)[:, None] > softmax(slope * np.log(p) + intercept, axis=1).cumsum(axis=1)).sum(axis=1)


def test_what_was_put_in_is_found_again():
    found = fitted(*make_classes(60_000, slope=0.7, intercept=np.array([0, 0.5, -0.4])))
    assert found.coefficients == pytest.approx([0.5, -0.4, 0.7], abs=0.05)
    assert fitted(*make_classes(60_000)).coefficients == pytest.approx([0, 0, 1], abs=0.05)


def test_the_result_has_the_classes_shares_and_no_better_neighbour():
    p, y = make_classes(slope=0.6, intercept=np.array([0, 1.0, 0]))
    found = fitted(p, y)
    assert found.of(p).mean(axis=0) == pytest.approx(np.bincount(y) / len(y), abs=1e-5)
    best = found.log_likelihood(p, y)
    assert best > unchanged(3).log_likelihood(p, y)
    for step in 0.01 * np.vstack([np.eye(3), -np.eye(3)]):
        near = Recalibration(found.slope + step[2], found.intercept + np.append(0, step[:2]))
        assert near.log_likelihood(p, y) < best


def test_two_classes_are_binary_calibration():
    p, y = make_classes(2000, k=2, slope=0.8, intercept=np.array([0, 0.3]))
    found, binary = fitted(p, y), calibration(p[:, 1], y)
    assert found.slope == pytest.approx(binary.slope, abs=1e-3)  # the prior pulls a little
    assert logit(found.of([[0.5, 0.5]])[0, 1]) == pytest.approx(found.intercept[1])


def test_weights_count_cases_and_a_near_start_changes_nothing():
    p, y = make_classes(300)
    twice = np.repeat(np.arange(300), 1 + (np.arange(300) % 2))
    weighted = fitted(p, y, 1 + (np.arange(300) % 2))
    assert weighted.coefficients == pytest.approx(fitted(p[twice], y[twice]).coefficients, abs=1e-6)
    start = fitted(*make_classes(300, seed=2))
    assert fitted(p, y, near=start).coefficients == pytest.approx(fitted(p, y).coefficients, abs=1e-6)


def test_classes_wholly_apart_or_missing_leave_finite_numbers():
    sure = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.2, 0.8]])
    assert np.isfinite(fitted(sure, [0, 0, 1, 1]).coefficients).all() and fitted(sure, [0, 0, 1, 1]).slope > 2
    assert np.isfinite(fitted(sure, [0, 0, 0, 0]).coefficients).all()
    assert np.isfinite(fitted(np.eye(3)[[0, 1, 2, 0]], [1, 1, 2, 0]).of([[1, 0, 0]])).all()


def test_another_case_mix_is_bayes_rule():
    assert adjusted([[0.5, 0.5], [0.2, 0.8]], [3, 1]).tolist() == [[0.75, 0.25], pytest.approx([0.6 / 1.4, 0.8 / 1.4])]
    p, _ = make_classes(50)
    assert adjusted(p, np.ones(3)) == pytest.approx(p)


@pytest.mark.parametrize("y", [[0, 1, 3], [0, 1, -1], [0, 1]])
def test_bad_classes_are_refused(y):
    with pytest.raises(ValueError, match="recalibration"):
        fitted(np.full((3, 3), 1 / 3), y)
    with pytest.raises(ValueError, match="recalibration"):
        fitted(np.zeros((0, 3)), [])
