"""Hamiltonian Monte Carlo on densities whose means, spreads and bad places are known."""

import math

import numpy as np
import pytest

from triage.audit.chains import ess_bulk, r_hat
from triage.audit.hmc import StepSize, sample

SPREADS = np.array([0.01, 1.0, 300.0])
CORRELATION = np.array([[1, 0.8, 0], [0.8, 1, -0.3], [0, -0.3, 1]])
COVARIANCE = CORRELATION * SPREADS * SPREADS[:, None]
MEAN = np.array([1.0, -2.0, 500.0])


def normal(points):
    precision = np.linalg.inv(COVARIANCE)
    slope = -(points - MEAN) @ precision
    return 0.5 * ((points - MEAN) * slope).sum(axis=1), slope


def half_normal(points):
    inside = (points > 0).all(axis=1)
    return np.where(inside, -(points**2).sum(axis=1) / 2, -np.inf), -points


def log_of_gamma(points):
    """The logarithm of a gamma variable with shape 3 and scale 1: mean digamma(3), variance trigamma(3)."""
    return (3 * points - np.exp(points)).sum(axis=1), 3 - np.exp(points)


def funnel(points):
    """Neal's: the spread of the others is exp(half the first), hopeless for one step size."""
    v, x = points[:, :1], points[:, 1:]
    value = -(v[:, 0] ** 2) / 18 - (x**2 * np.exp(-v)).sum(axis=1) / 2 - x.shape[1] * v[:, 0] / 2
    by_v = -v / 9 + (x**2 * np.exp(-v)).sum(axis=1, keepdims=True) / 2 - x.shape[1] / 2
    return value, np.concatenate([by_v, -x * np.exp(-v)], axis=1)


def starts(chains, dimensions, seed=1):
    return np.random.default_rng(seed).standard_normal((chains, dimensions))


def test_a_correlated_normal_on_very_different_scales_is_found():
    found = sample(normal, MEAN + 3 * SPREADS * starts(8, 3), warmup=400, draws=1000, seed=3)
    draws = found.draws.reshape(-1, 3)
    assert found.divergences == 0 and found.draws.shape == (8, 1000, 3)
    assert r_hat(found.draws).max() < 1.01
    error = SPREADS / np.sqrt(ess_bulk(found.draws))
    assert (np.abs(draws.mean(axis=0) - MEAN) < 4 * error).all()
    assert np.cov(draws.T) / SPREADS / SPREADS[:, None] == pytest.approx(CORRELATION, abs=0.08)


def test_a_skewed_density_is_found():
    found = sample(log_of_gamma, starts(8, 2), warmup=300, draws=1500)
    draws = found.draws.reshape(-1)
    assert draws.mean() == pytest.approx(1.5 - np.euler_gamma, abs=0.02)
    assert draws.var() == pytest.approx(math.pi**2 / 6 - 1.25, abs=0.02)


def test_a_place_without_density_is_never_entered():
    # half of the longer trajectories end outside, however small the step
    found = sample(half_normal, np.abs(starts(8, 1)), warmup=100, draws=1000, length=1, target=0.5)
    assert found.draws.min() > 0
    assert found.draws.mean() == pytest.approx(math.sqrt(2 / math.pi), abs=0.03)


def test_the_step_brings_acceptance_to_its_target_and_scales_are_learnt():
    low, high = (sample(normal, MEAN + SPREADS * starts(4, 3), target=target) for target in (0.6, 0.9))
    assert low.acceptance < high.acceptance and low.step > high.step and low.gradients < high.gradients
    assert high.acceptance == pytest.approx(0.9, abs=0.06)
    assert low.scale[2] / low.scale[0] == pytest.approx(SPREADS[2] / SPREADS[0], rel=1.0)


def test_dual_averaging_finds_the_step_of_a_given_acceptance():
    adapted = StepSize(5.0, 0.8)
    for _ in range(2000):
        adapted.learn(math.exp(-adapted.now))
    assert math.exp(-adapted.settled) == pytest.approx(0.8, abs=0.01)


def test_the_same_seed_gives_the_same_draws_to_the_bit():
    first, again, other = (sample(normal, MEAN + starts(3, 3), warmup=100, draws=50, seed=s) for s in (5, 5, 6))
    assert np.array_equal(first.draws, again.draws) and first.step == again.step
    assert not np.array_equal(first.draws, other.draws)


def test_divergences_are_counted():
    assert sample(funnel, starts(8, 10), draws=500, target=0.6).divergences > 0
    assert sample(normal, MEAN + starts(8, 3), draws=500).divergences == 0


def test_chains_far_away_come_home():
    found = sample(lambda x: (-(x**2).sum(axis=1) / 2, -x), 200 * starts(4, 5), draws=200)
    assert np.abs(found.draws).max() < 6


@pytest.mark.parametrize(
    ("start", "settings", "words"),
    [
        ([1.0, 2.0, 3.0], {}, "start: shape"),
        (np.zeros((0, 3)), {}, "start: shape"),
        ([[1.0], [-1.0]], {}, "chain 1 starts"),
        ([[1.0]], {"warmup": 5}, "too few"),
        ([[1.0]], {"draws": 0}, "too few"),
    ],
)
def test_what_cannot_be_sampled_is_refused(start, settings, words):
    with pytest.raises(ValueError, match=words):
        sample(half_normal, start, **settings)
