"""Covariances of readers' AUCs against MRMCaov and iMRMC, and by definition where they are small."""

from itertools import product

import numpy as np
import pytest

from tests.audit.known_studies import example, incomplete, synthetic
from triage.audit import performance
from triage.audit.figures_of_merit import accuracy, areas
from triage.audit.mrmc_covariance import Covariance, delong, jackknife, unbiased
from triage.audit.ratings import Ratings
from triage.audit.reader_table import grid
from triage.audit.synthetic_study import Design, make_study
from triage.audit.variance_components import variance_components

OF = {Covariance.DELONG: delong, Covariance.JACKKNIFE: lambda r: jackknife(areas(r)), Covariance.UNBIASED: unbiased}


def make_ratings(score, positives):
    score = np.asarray(score, dtype=float)
    t, r, k = score.shape
    names = (tuple(f"{name}{i}" for i in range(n)) for name, n in zip("rcm", (r, k, t), strict=True))
    return Ratings(*names, score, np.arange(k) < positives)


def small_study(seed=1, kept=1.0):
    rng = np.random.default_rng(seed)
    score = rng.integers(0, 4, size=(2, 2, 9)).astype(float) + (np.arange(9) < 4)
    return make_ratings(np.where(rng.random(score.shape) < kept, score, np.nan), positives=4)


def assert_components(known, method):
    found = variance_components(areas(known.ratings).value, OF[method](known.ratings), len(known.ratings.cases))
    expected = {row["_row"]: row["Estimate"] for row in known.mrmcaov[f"{method}.rrrc"]["vcov"]}
    names = (("Error", found.var), ("Cov1", found.cov1), ("Cov2", found.cov2), ("Cov3", found.cov3))
    for name, value in (*names, ("readerID", found.var_r), ("modalityID:readerID", found.var_tr)):
        assert value == pytest.approx(expected[name], rel=1e-9)


@pytest.mark.parametrize("method", Covariance)
def test_the_components_are_those_of_mrmcaov(method):
    assert_components(synthetic(), method)


@pytest.mark.parametrize("method", Covariance)
def test_the_components_of_imrmcs_example_are_those_of_mrmcaov(corpus, method):
    assert_components(example(corpus), method)


@pytest.mark.parametrize("known", [synthetic(), incomplete()], ids=["complete", "incomplete"])
def test_each_readers_variances_are_those_of_imrmc(known):
    found, names = unbiased(known.ratings), known.ratings
    for row in known.imrmc["perReader"]:
        r, a = names.readers.index(row["readerID"]), names.modalities.index(row["modalityA"])
        assert found[a, r, a, r] == pytest.approx(row["varAUCA"], rel=1e-9)
        if row["modalityB"] != "NO_MOD":
            b = names.modalities.index(row["modalityB"])
            variance = found[a, r, a, r] + found[b, r, b, r] - 2 * found[a, r, b, r]
            assert variance == pytest.approx(row["varAUCAminusAUCB"], rel=1e-9)


def test_delongs_covariance_of_a_complete_study_is_that_of_performance():
    ratings = synthetic().ratings
    shape = ratings.score.shape[:2]
    expected = performance.covariance(performance.components(ratings.score.reshape(16, -1), ratings.is_positive))
    np.testing.assert_allclose(delong(ratings), expected.reshape(*shape, *shape), rtol=1e-11)


@pytest.mark.parametrize("kept", [1.0, 0.8])
def test_the_unbiased_covariance_is_the_product_less_the_mean_of_pairs_with_no_case_in_common(kept):
    ratings = small_study(kept=kept)
    found = unbiased(ratings)
    for a, b in product(np.ndindex(2, 2), repeat=2):
        x, y = ratings.score[a], ratings.score[b]
        pairs = [[(i, j) for i in range(4) for j in range(4, 9) if np.isfinite(s[i] + s[j])] for s in (x, y)]
        psi = [
            {(i, j): (s[i] > s[j]) + (s[i] == s[j]) / 2 for i, j in kept} for s, kept in zip((x, y), pairs, strict=True)
        ]
        apart = [psi[0][p] * psi[1][q] for p in pairs[0] for q in pairs[1] if p[0] != q[0] and p[1] != q[1]]
        expected = np.mean(list(psi[0].values())) * np.mean(list(psi[1].values())) - np.mean(apart)
        assert found[(*a, *b)] == pytest.approx(expected, abs=1e-14)


def test_the_unbiased_variance_is_right_on_average_where_delongs_is_too_large():
    rng = np.random.default_rng(5)
    score = rng.normal(size=(800, 1, 1, 9))
    score[..., :4] += 0.7
    studies = [make_ratings(each, positives=4) for each in score]
    truth = np.var([areas(each).value[0, 0] for each in studies])
    without_bias = np.mean([unbiased(each)[0, 0, 0, 0] for each in studies])
    assert without_bias == pytest.approx(truth, rel=0.15)
    assert np.mean([delong(each)[0, 0, 0, 0] for each in studies]) > 1.1 * without_bias


@pytest.mark.parametrize("method", Covariance)
def test_readers_without_a_case_in_common_covary_by_nothing(method):
    score = np.full((1, 2, 12), np.nan)
    score[0, 0, ::2], score[0, 1, 1::2] = np.random.default_rng(6).normal(size=(2, 6))
    found = OF[method](make_ratings(score, positives=6))
    # the jackknife centres what does not change, and so keeps a remainder of the order of 1 / cases
    least = 0.1 * found[0, 0, 0, 0] if method is Covariance.JACKKNIFE else 1e-15
    assert abs(found[0, 0, 0, 1]) <= least
    assert found[0, 1, 0, 1] > 0


def test_with_missing_readings_delongs_covariances_and_the_jackknifes_are_about_the_same():
    ratings = incomplete().ratings
    one, other = (
        variance_components(areas(ratings).value, OF[each](ratings), 180)
        for each in (Covariance.DELONG, Covariance.JACKKNIFE)
    )
    for name in ("var", "cov1", "cov2", "cov3"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=0.04)


def test_delongs_covariance_of_common_cases_is_right_on_average():
    """Of plain means, which is what an AUC is with one negative far below: the components are 0 and 1."""
    rng = np.random.default_rng(9)
    hits = rng.random((1000, 1, 1, 8)) < 0.6
    score = np.concatenate([np.where(hits, 1.0, -1.0), np.zeros((1000, 1, 1, 4))], axis=-1).repeat(2, axis=2)
    score[:, 0, 0, 6:8] = score[:, 0, 1, 0:2] = np.nan
    found = np.array([delong(make_ratings(each, positives=8))[0, :, 0] for each in score])
    # the negatives do not vary; 4 cases in common of 6 each, of variance 0.6 x 0.4
    np.testing.assert_allclose(found.mean(axis=0), 0.24 * np.array([[1 / 6, 4 / 36], [4 / 36, 1 / 6]]), rtol=0.05)


def test_where_covariances_cannot_be_given_they_are_not():
    one = make_ratings(np.random.default_rng(7).normal(size=(1, 2, 5)), positives=1)
    assert all(np.isnan(OF[method](one)).all() for method in Covariance)
    score = np.random.default_rng(7).normal(size=(1, 2, 8))
    score[0, 1, :4] = np.nan
    half = make_ratings(score, positives=4)
    for method in Covariance:
        found = OF[method](half)
        assert np.isfinite(found[0, 0, 0, 0])
        assert np.isnan(found[0, 1]).all()


def test_the_jackknife_variance_of_an_accuracy_is_that_of_a_share():
    places = grid(make_study(Design(readers=2, cases=(10, 10, 10)), seed=8))
    found = accuracy(places)
    expected = found.value * (1 - found.value) / 29
    np.testing.assert_allclose(np.einsum("mrmr->mr", jackknife(found)), expected, rtol=1e-12)
