"""iMRMC's variances and degrees of freedom, for complete and incomplete studies; and that they are Obuchowski's."""

import numpy as np
import pytest

from tests.audit.known_studies import example, incomplete, synthetic
from triage.audit.figures_of_merit import areas
from triage.audit.mrmc_covariance import unbiased
from triage.audit.mrmc_ustatistic import Estimator, mean_areas
from triage.audit.obuchowski_rockette import analyse
from triage.audit.ratings import Ratings, against_rest
from triage.audit.synthetic_study import Design, make_study
from triage.audit.variance_components import variance_components

THEIRS = {Estimator.U_STATISTIC: "Ustat", Estimator.V_STATISTIC: "MLEstat"}


def part(ratings, readers=slice(None), cases=slice(None)):
    return Ratings(
        ratings.readers[readers],
        ratings.cases[cases],
        ratings.modalities,
        ratings.score[:, readers, cases],
        ratings.is_positive[cases],
    )


def assert_answers(known, estimator):
    found = mean_areas(known.ratings, estimator)
    assert len(found) == 3
    for ours, row in zip(found, known.imrmc[THEIRS[estimator]], strict=True):
        assert ours.first == row["modalityA"]
        assert (ours.second or "NO_MOD") == row["modalityB"]
        value, variance = ("AUCAminusAUCB", "varAUCAminusAUCB") if ours.second else ("AUCA", "varAUCA")
        assert ours.value == pytest.approx(row[value], rel=1e-9)
        assert ours.variance == pytest.approx(row[variance], rel=1e-9)
        assert ours.df == pytest.approx(row["dfBDG"], rel=1e-9)
        assert [ours.low, ours.high] == pytest.approx([row["botCIBDG"], row["topCIBDG"]], rel=1e-9)
        # R computes small p-values as 1 less the rest, so they hold to 1e-15 and no further
        assert ours.p == pytest.approx(row["pValueBDG"], rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("estimator", Estimator)
@pytest.mark.parametrize("known", [synthetic(), incomplete()], ids=["complete", "incomplete"])
def test_areas_variances_and_degrees_of_freedom_are_those_of_imrmc(known, estimator):
    assert_answers(known, estimator)


@pytest.mark.parametrize("estimator", Estimator)
def test_imrmcs_own_example_is_answered_as_there(corpus, estimator):
    assert_answers(example(corpus), estimator)


@pytest.mark.parametrize("seed", range(5))
def test_obuchowskis_analysis_with_unbiased_covariances_has_imrmcs_variance(seed):
    """Acceptance test 5; where Cov2 >= Cov3, so that nothing is clipped."""
    ratings = against_rest(make_study(Design(readers=4, cases=(15, 12, 10), modality_share=0.3), seed), "normal")
    components = variance_components(areas(ratings).value, unbiased(ratings), 37)
    assert not components.is_clipped
    tests = analyse(components, ratings.modalities).rrrc
    *means, difference = mean_areas(ratings, Estimator.U_STATISTIC)
    assert tests.gains[0].error ** 2 == pytest.approx(difference.variance, rel=1e-10)
    assert tests.gains[0].value == pytest.approx(difference.value, rel=1e-12)
    for mean, theirs in zip(tests.means, means, strict=True):
        assert mean.error**2 == pytest.approx(theirs.variance, rel=1e-10)


def test_obuchowskis_and_imrmcs_variance_of_known_data_are_the_same():
    ratings = synthetic().ratings
    tests = analyse(variance_components(areas(ratings).value, unbiased(ratings), 180), ratings.modalities).rrrc
    expected = synthetic().imrmc["Ustat"][2]["varAUCAminusAUCB"]
    assert tests.gains[0].error ** 2 == pytest.approx(expected, rel=1e-11)


def test_a_reader_who_read_in_one_modality_only_still_counts():
    ratings = synthetic().ratings
    score = ratings.score.copy()
    score[0, 0] = np.nan
    found = mean_areas(
        Ratings(ratings.readers, ratings.cases, ratings.modalities, score, ratings.is_positive), Estimator.U_STATISTIC
    )
    assert found[0].value == pytest.approx(areas(part(ratings, slice(1, None))).value[0].mean(), rel=1e-12)
    assert found[0].df > 0
    assert found[2].value == pytest.approx(found[0].value - found[1].value, abs=1e-15)


@pytest.mark.parametrize("estimator", Estimator)
@pytest.mark.parametrize(
    ("readers", "cases"),
    [
        (slice(0, 1), slice(None)),
        (slice(None), slice(0, 60)),
        (slice(None), slice(119, None)),
        (slice(None), slice(0, 121)),
    ],
    ids=["one reader", "no positive", "no negative", "one positive"],
)
def test_with_too_little_of_anything_there_is_no_interval(estimator, readers, cases):
    ratings = synthetic().ratings
    order = np.argsort(ratings.is_positive, kind="stable")
    negatives_first = Ratings(
        ratings.readers,
        tuple(ratings.cases[i] for i in order),
        ratings.modalities,
        ratings.score[:, :, order],
        ratings.is_positive[order],
    )
    for found in mean_areas(part(negatives_first, readers, cases), estimator):
        assert np.isnan([found.df, found.low, found.high, found.p]).all()
