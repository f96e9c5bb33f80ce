"""A whole three-class study: figures, tests and adjustments, pooled ROC points, the paper beside it, its speed."""

import time
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ttest_rel

from tests.audit.known_studies import ratings_of
from triage.audit.mrmc_covariance import Covariance
from triage.audit.mrmc_inference import holm
from triage.audit.mrmc_ustatistic import Estimator
from triage.audit.ratings import Ratings, against_rest
from triage.audit.reader_figures import PAPER, PAPER_P, PAPER_READERS, beside_paper, implied_sd, pooled_roc, spreads
from triage.audit.reader_study import COMPLETE, INCOMPLETE, analyse_ratings, analyse_study
from triage.audit.reader_table import grid, read_table, write_table
from triage.audit.reading_order import Flag
from triage.audit.synthetic_study import Design, expected_areas, make_study

TABLE = make_study(Design(), seed=1)
STUDY = analyse_study(TABLE, washout_days=28)


def kept(table, rows):
    """The readings at some rows, as if read from a file."""
    chosen = replace(
        table,
        **{name: getattr(table, name)[rows] for name in ("reader", "case", "modality", "session", "response", "score")},
    )
    return read_table(write_table(chosen))


def test_the_whole_study_takes_less_than_two_seconds():
    began = time.process_time()
    analyse_study(TABLE)
    assert time.process_time() - began < 2


def test_the_figures_are_those_of_the_readings():
    places = grid(TABLE)
    assert STUDY.modalities == ("with", "without")
    assert (len(STUDY.readers), STUDY.cases, STUDY.is_complete) == (8, (60, 60, 60), True)
    np.testing.assert_allclose(STUDY.accuracy.value, (places.response == places.truth).mean(axis=-1))
    spread = STUDY.accuracy.spreads[1]
    assert (spread.figure, spread.modality, spread.readers) == ("accuracy", "without", 8)
    row = STUDY.accuracy.value[1]
    assert (spread.mean, spread.sd, spread.low, spread.high) == pytest.approx(
        (row.mean(), row.std(ddof=1), row.min(), row.max())
    )


def test_the_readers_gain_what_the_model_was_made_to_add():
    design = Design(readers=12, cases=(150, 150, 150))
    found = analyse_study(make_study(design, seed=4))
    for k, each in enumerate(found.classes):
        truth = expected_areas(design, "with")[k] - expected_areas(design, "without")[k]
        gain = each.figure.primary.rrrc.gains[0]
        assert (gain.first, gain.second) == ("with", "without")
        assert gain.value == pytest.approx(truth, abs=3 * gain.error)
    assert found.accuracy.primary.rrrc.gains[0].p < 0.05


def test_fixed_cases_are_a_paired_t_over_the_readers():
    expected = ttest_rel(STUDY.accuracy.value[0], STUDY.accuracy.value[1])
    gain = STUDY.accuracy.primary.rrfc.gains[0]
    assert (gain.statistic, gain.df, gain.p) == pytest.approx((expected.statistic, 7, expected.pvalue))


def test_areas_have_three_covariances_and_other_figures_the_jackknife():
    assert all(set(each.figure.analyses) == set(Covariance) for each in STUDY.classes)
    assert set(STUDY.hand_till.analyses) == {Covariance.JACKKNIFE}
    assert STUDY.hand_till.primary is STUDY.hand_till.analyses[Covariance.JACKKNIFE]
    assert STUDY.classes[0].figure.primary is STUDY.classes[0].figure.analyses[COMPLETE]


def test_the_primary_variance_is_imrmcs():
    for each in STUDY.classes:
        tests = each.figure.primary
        if not tests.components.is_clipped:
            difference = each.by_moments[Estimator.U_STATISTIC][2]
            assert tests.rrrc.gains[0].error ** 2 == pytest.approx(difference.variance, rel=1e-10)
    assert not all(each.figure.primary.components.is_clipped for each in STUDY.classes)


def test_the_classes_p_values_are_adjusted_together():
    for method in Covariance:
        for found in STUDY.adjusted[method]:
            p = tuple(getattr(each.figure.analyses[method], found.generalisation).equality.p for each in STUDY.classes)
            assert found.p == p
            assert found.adjusted == holm(p)
    assert [found.generalisation for found in STUDY.adjusted[COMPLETE]] == ["rrrc", "frrc", "frrc_unclipped", "rrfc"]


@pytest.mark.parametrize(
    ("p", "adjusted"),
    [
        ((0.01, 0.04, 0.03), (0.03, 0.06, 0.06)),
        ((0.5, 0.001, 0.6), (1.0, 0.003, 1.0)),
        ((0.02, 0.02), (0.04, 0.04)),
        ((0.3,), (0.3,)),
        ((), ()),
        ((float("nan"), 0.01, 0.02), (float("nan"), 0.03, 0.04)),
    ],
)
def test_holms_adjustment(p, adjusted):
    assert holm(p) == pytest.approx(adjusted, nan_ok=True)


def test_pooled_points_are_all_readers_scores_put_together():
    ratings = against_rest(TABLE, "covid")
    found = pooled_roc("AUC", ratings)[0]
    score, positive = ratings.score[0].ravel(), np.tile(ratings.is_positive, 8)
    assert found.readings == 8 * 180
    np.testing.assert_array_equal(found.points[[0, -1]], [[0, 0], [1, 1]])
    assert len(found.points) == 1 + len(np.unique(score))
    for threshold in (30, 60):
        point = ((score >= threshold)[~positive].mean(), (score >= threshold)[positive].mean())
        assert np.isclose(found.points, point).all(axis=1).any()
    x, y = found.points.T
    assert (np.diff(x) >= 0).all()
    assert (np.diff(y) >= 0).all()
    assert np.trapezoid(y, x) == pytest.approx(found.area, abs=1e-12)
    assert STUDY.classes[2].pooled[0].area == found.area


def test_readers_who_use_the_scale_unlike_pool_to_less_than_their_mean():
    ratings = ratings_of("synthetic_reader_study")
    shifted = Ratings(
        ratings.readers,
        ratings.cases,
        ratings.modalities,
        ratings.score + 100 * np.arange(8)[:, None],
        ratings.is_positive,
    )
    mean = analyse_ratings(shifted).figure.spreads[0].mean
    assert mean == pytest.approx(0.834505208333333, abs=1e-12)
    assert pooled_roc("AUC", shifted)[0].area < 0.6


def test_the_papers_table_stands_beside_ours():
    lines = {(row.figure, row.modality): (row, ours) for row, ours in beside_paper(STUDY.spreads)}
    row, ours = lines["AUC covid against rest", "with"]
    assert (row.mean, row.sd) == (0.762, 0.029)
    assert ours is STUDY.classes[2].figure.spreads[0]
    assert len(lines) == len(PAPER) == 7
    assert all(ours is not None for _, ours in lines.values())
    assert all(ours is None for _, ours in beside_paper(()))


def test_the_papers_p_value_is_that_of_a_paired_t_over_its_readers():
    """AUDIT.md 2.1: a SD of the readers' gains of .031, which readers as unlike as the paper's may well have."""
    mean = {(row.figure, row.modality): row.mean for row in PAPER}
    (figure, p) = next(iter(PAPER_P.items()))
    assert implied_sd(mean[figure, "with"] - mean[figure, "without"], p, PAPER_READERS) == pytest.approx(
        0.031, abs=5e-4
    )


def test_an_incomplete_study_is_analysed_by_the_cases_in_common():
    rows = np.flatnonzero(np.random.default_rng(5).random(len(TABLE)) < 0.8)
    found = analyse_study(kept(TABLE, rows))
    assert not found.is_complete
    assert found.classes[0].figure.quoted is INCOMPLETE
    for figure in (found.accuracy, found.hand_till, *(each.figure for each in found.classes)):
        for analysis in figure.analyses.values():
            assert 0 <= analysis.rrrc.equality.p <= 1
    whole, part = (study.classes[0].figure.primary.rrrc.gains[0] for study in (STUDY, found))
    assert part.value == pytest.approx(whole.value, abs=3 * part.error)


def test_the_order_of_reading_is_told():
    assert STUDY.order.flags == ()
    assert analyse_study(TABLE).order.flags == (Flag.WASHOUT_UNKNOWN,)
    assert analyse_study(replace(TABLE, modalities=("film", "screen"))).order is None


@pytest.mark.parametrize(
    "design", [Design(readers=1), Design(readers=3, cases=(5, 5, 0)), Design(readers=2, cases=(1, 1, 1))]
)
def test_a_study_too_small_for_a_figure_says_so_by_nan_and_nothing_worse(design):
    found = analyse_study(make_study(design, seed=1))
    assert np.isnan(found.classes[2].figure.primary.rrrc.equality.p)
    assert np.isfinite(found.accuracy.spreads[0].mean)
    assert len(found.spreads) == 10


def test_a_study_of_one_modality_has_its_means():
    found = analyse_study(kept(TABLE, np.flatnonzero(TABLE.modality == 1)))
    assert found.modalities == ("without",)
    assert found.order is None
    tests = found.classes[1].figure.primary.rrrc
    assert tests.gains == ()
    assert tests.means[0].low < tests.means[0].value < tests.means[0].high
    assert found.classes[1].by_moments[Estimator.U_STATISTIC][0].second is None


def test_a_reader_without_a_figure_is_left_out_of_the_spread():
    found = spreads("accuracy", np.array([[0.5, np.nan, 0.7], [np.nan, np.nan, np.nan]]), ("with", "without"))
    assert (found[0].mean, found[0].readers) == (0.6, 2)
    assert found[1].readers == 0
    assert np.isnan(found[1].mean)
    assert np.isnan(spreads("accuracy", np.array([[0.5]]), ("with",))[0].sd)
