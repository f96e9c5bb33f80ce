"""Chain diagnostics against ArviZ, against chains whose answers are known, and where there is no answer."""

import math

import numpy as np
import pytest
from scipy.signal import lfilter

from triage.audit.chains import diagnose, ess_bulk, ess_tail, r_hat


def wave(chains, n, apart):
    """Chains without a random number, so that another program can be given the same ones."""
    c, t = np.arange(chains)[:, None], np.arange(n)
    slow = np.cumsum(np.cos(1.7 * (t + 1) * (c + 2)), axis=1) * 0.5
    return np.sin((c + 1) * 0.7 * (t + 1) ** 1.3) + slow + apart * c


def noise(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape)


def autoregressive(correlation, chains=4, n=5000, seed=1):
    start = noise(chains, 1, seed=seed + 1)
    driven = noise(chains, n, seed=seed) * math.sqrt(1 - correlation**2)
    return lfilter([1], [1, -correlation], driven, axis=1, zi=correlation * start)[0]


# ArviZ 0.23.4: rhat, ess(method="bulk"), ess(method="tail"); it gives no R-hat of one chain
@pytest.mark.parametrize(
    ("chains", "n", "apart", "expected"),
    [
        (4, 100, 0, (1.0145844400052502, 266.23780886041294, 177.07431031314812)),
        (4, 100, 0.4, (1.1553381126001798, 29.966094874884046, 242.80178189851833)),
        (2, 101, 0, (1.025805928733023, 175.43790028379559, 137.35472433803903)),
        (1, 250, 0, (None, 599.4850021680094, 277.8795551012271)),
    ],
)
def test_figures_are_those_of_arviz(chains, n, apart, expected):
    draws = wave(chains, n, apart)
    for figure, answer in zip((r_hat, ess_bulk, ess_tail), expected, strict=True):
        if answer is not None:
            assert figure(draws) == pytest.approx(answer, rel=1e-9)


def test_independent_draws_count_in_full():
    draws = noise(4, 1000, 30)
    assert r_hat(draws).max() < 1.01
    assert np.median(ess_bulk(draws)) == pytest.approx(4000, rel=0.05)
    assert np.median(ess_tail(draws)) == pytest.approx(4000, rel=0.05)


@pytest.mark.parametrize("correlation", [0.3, 0.6, 0.9, -0.4])
def test_dependent_draws_count_as_theory_says(correlation):
    expected = 20_000 * (1 - correlation) / (1 + correlation)
    found = np.median([ess_bulk(autoregressive(correlation, seed=s)) for s in range(10, 30)])
    assert found == pytest.approx(expected, rel=0.1)


def test_alternating_draws_count_for_more_than_themselves_up_to_a_cap():
    assert 4000 < ess_bulk(autoregressive(-0.2, n=1000)) < 8000
    assert ess_bulk(autoregressive(-0.95, n=1000)) == pytest.approx(4000 * math.log10(4000))


@pytest.mark.parametrize(
    "fault",
    [
        lambda draws: draws + np.array([0, 0, 0, 1.0])[:, None],  # a chain elsewhere
        lambda draws: draws * np.array([1, 1, 1, 3.0])[:, None],  # a chain in the right place, too wide
        lambda draws: draws + np.linspace(0, 2, draws.shape[1]),  # all on their way
        lambda draws: np.sort(draws, axis=1),
    ],
)
def test_every_kind_of_disagreement_is_seen(fault):
    draws = noise(4, 1000)
    assert r_hat(draws) < 1.01 < 1.05 < r_hat(fault(draws))


def test_ranks_make_diagnostics_of_draws_without_a_variance():
    draws = np.random.default_rng(1).standard_cauchy((4, 1000))
    assert r_hat(draws) < 1.01 and ess_bulk(draws) > 3000
    assert ess_bulk(draws) == pytest.approx(ess_bulk(np.arctan(draws)), rel=1e-12)


def test_what_cannot_be_said_is_not_a_number():
    draws = noise(4, 100, 4)
    draws[..., 0] = 7.0
    draws[0, 3, 1], draws[0, 3, 2] = np.inf, np.nan
    for figure in (r_hat, ess_bulk, ess_tail):
        assert np.isnan(figure(draws)).tolist() == [True, True, True, False]


def test_chains_stuck_apart_are_infinitely_wrong():
    assert r_hat(np.repeat([[0.0], [1.0]], 50, axis=1)) == math.inf


def test_any_shape_of_quantity_is_taken_and_many_at_once():
    draws = noise(2, 40, 13, 11)
    found = r_hat(draws)
    assert found.shape == (13, 11)
    assert found[12, 10] == r_hat(draws[:, :, 12, 10])


@pytest.mark.parametrize("shape", [(100,), (4, 3), (0, 100)])
def test_too_little_is_refused(shape):
    with pytest.raises(ValueError, match="draws: shape"):
        r_hat(np.zeros(shape))


def test_good_chains_are_usable():
    found = diagnose({"theta": noise(4, 1000, 3), "tau": noise(4, 1000, seed=2)}, 0)
    assert found.is_usable and found.verdict.startswith("usable")
    assert found.r_hat < 1.01 and min(found.ess_bulk, found.ess_tail) > 400 and found.divergences == 0


@pytest.mark.parametrize(
    ("change", "divergences", "words"),
    [
        (lambda tau: tau + np.array([0, 0, 0, 1.0])[:, None], 0, "R-hat of tau is"),
        (lambda tau: tau[:, :90], 0, "bulk effective sample size of tau is"),
        (lambda tau: np.ones_like(tau), 0, "R-hat of tau is nan"),
        (lambda tau: tau, 3, "3 divergent trajectories"),
    ],
)
def test_a_verdict_names_the_fault(change, divergences, words):
    found = diagnose({"theta": noise(4, 1000, 3), "tau": change(noise(4, 1000, seed=2))}, divergences)
    assert not found.is_usable and found.verdict.startswith("not usable") and words in found.verdict
