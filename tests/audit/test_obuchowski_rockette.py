"""Obuchowski and Rockette's tests against MRMCaov, printed answers of classic studies, Dorfman's route, and chance."""

import numpy as np
import pytest

from tests.audit.known_studies import example, synthetic
from triage.audit.figures_of_merit import areas
from triage.audit.mrmc_covariance import Covariance, delong, jackknife, unbiased
from triage.audit.mrmc_inference import equality
from triage.audit.mrmc_ustatistic import Estimator, mean_areas
from triage.audit.obuchowski_rockette import analyse
from triage.audit.ratings import Ratings, against_rest
from triage.audit.synthetic_study import Design, expected_areas, make_study
from triage.audit.variance_components import OneModality, VarianceComponents, variance_components

OF = {Covariance.DELONG: delong, Covariance.JACKKNIFE: lambda r: jackknife(areas(r)), Covariance.UNBIASED: unbiased}
KINDS = ("rrrc", "frrc", "rrfc")

# Van Dyke's study as MRMCaov and RJafroc print it: AUCs of two modalities by five readers, jackknife covariances
VAN_DYKE = np.array(
    [
        [0.9196457, 0.8587762, 0.9038647, 0.9731079, 0.8297907],
        [0.9478261, 0.9053140, 0.9217391, 0.9993559, 0.9299517],
    ]
)
VAR, COV1, COV2, COV3 = 0.00080228827, 0.00034661371, 0.00034407483, 0.00023902837


def analysed(ratings, method=Covariance.UNBIASED):
    found = variance_components(areas(ratings).value, OF[method](ratings), len(ratings.cases))
    return analyse(found, ratings.modalities)


def compound(t, j, var=VAR, cov1=COV1, cov2=COV2, cov3=COV3):
    """A covariance that has just these components."""
    found = np.full((t, j, t, j), cov3)
    for a in range(t):
        found[a, :, a] = cov2
    for r in range(j):
        found[:, r, :, r] = np.where(np.eye(t, dtype=bool), var, cov1)
    return found


def make_components(cov2=0.0003, cov3=0.0002, ms_tr=0.0006, j=5):
    one = tuple(OneModality(mean, 0.003, 0.0008, cov2) for mean in (0.80, 0.75))
    return VarianceComponents(j, 100, j * 0.05**2 / 2, 0.004, ms_tr, 0.0008, 0.0004, cov2, cov3, one)


def assert_answers(known, method):
    found = analysed(known.ratings, method)
    for kind in KINDS:
        expected = known.mrmcaov[f"{method}.{kind}"]
        # MRMCaov does not clip Cov2 - Cov3 with fixed readers
        ours = found.frrc_unclipped if kind == "frrc" else getattr(found, kind)
        test, difference = expected["test_equality"][0], expected["test_diffs"][0]
        assert ours.equality.statistic == pytest.approx(test.get("F", test.get("X2")), rel=1e-9)
        assert ours.equality.df2 == pytest.approx(test.get("df2", np.inf), rel=1e-9)
        # R computes small p-values as 1 less the rest, so they hold to 1e-15 and no further
        assert ours.equality.p == pytest.approx(test["p-value"], rel=1e-9, abs=1e-15)
        gain = ours.gains[0]
        assert f"{gain.first} - {gain.second}" == difference["Comparison"]
        assert [gain.value, gain.error, gain.low, gain.high] == pytest.approx(
            [difference["Estimate"], difference["StdErr"], *difference["CI"]], rel=1e-9
        )
        assert gain.df == pytest.approx(difference.get("df", np.inf), rel=1e-9)
        assert gain.statistic == pytest.approx(difference.get("t", difference.get("z")), rel=1e-9)
        assert gain.p == pytest.approx(difference["p-value"], rel=1e-9, abs=1e-15)
        for mean, row in zip(ours.means, expected["test_means"], strict=True):
            assert mean.modality == row["_row"]
            assert [mean.value, mean.error, mean.low, mean.high] == pytest.approx(
                [row["Estimate"], row["StdErr"], *row["CI"]], rel=1e-9
            )
            assert mean.df == pytest.approx(row.get("df", np.inf), rel=1e-9)
    squares = known.mrmcaov[f"{method}.rrrc"]["MS"]
    assert [found.components.ms_t, found.components.ms_r, found.components.ms_tr] == pytest.approx(
        [squares["T"], squares["R"], squares["T:R"]], rel=1e-9
    )


@pytest.mark.parametrize("method", Covariance)
def test_every_test_and_limit_is_that_of_mrmcaov(method):
    assert_answers(synthetic(), method)


@pytest.mark.parametrize("method", Covariance)
def test_every_test_and_limit_of_imrmcs_example_is_that_of_mrmcaov(corpus, method):
    assert_answers(example(corpus), method)


def test_van_dykes_printed_answers_follow_from_his_printed_figures():
    found = variance_components(VAN_DYKE, compound(2, 5), 114)
    assert [found.ms_t, found.ms_r, found.ms_tr] == pytest.approx([0.0047961705, 0.0038362, 0.0005510306], rel=1e-5)
    assert [found.var_r, found.var_tr] == pytest.approx([0.0015349993, 0.0002004025], rel=1e-5)
    tests = analyse(found, ("1", "2"))
    # the AUCs are printed to seven digits, which leaves the answers six
    assert tests.rrrc.equality.statistic == pytest.approx(4.456319, rel=1e-6)
    assert tests.rrrc.equality.df2 == pytest.approx(15.2597, rel=1e-5)
    assert tests.rrrc.equality.p == pytest.approx(0.051666, abs=1e-6)
    assert (tests.rrrc.gains[0].low, tests.rrrc.gains[0].high) == pytest.approx((-0.0879594986, 0.0003588544), abs=1e-7)
    assert tests.frrc.equality.statistic == pytest.approx(5.475953, rel=1e-6)
    assert tests.frrc.equality.p == pytest.approx(0.01928, abs=1e-5)
    assert tests.rrfc.equality.statistic == pytest.approx(8.704, abs=1e-3)
    assert tests.rrfc.equality.p == pytest.approx(0.04196, abs=1e-5)


@pytest.mark.parametrize(("f", "p"), [(4.694058, 0.118838), (6.005760, 0.091625)], ids=["Franken", "Kundel"])
def test_the_printed_p_values_where_cov2_is_below_cov3_are_those_of_three_degrees_of_freedom(f, p):
    assert equality(f, 1.0, 1, 3).p == pytest.approx(p, abs=1e-6)


def test_cov2_below_cov3_is_flagged_and_both_choices_are_given():
    found = analyse(make_components(cov2=0.0002, cov3=0.0003), ("with", "without"))
    assert found.components.is_clipped
    assert found.frrc.equality.denominator == pytest.approx(0.0008 - 0.0004)
    assert found.frrc_unclipped.equality.denominator == pytest.approx(0.0008 - 0.0004 - 4 * 0.0001)
    assert found.frrc_unclipped.equality.denominator < found.frrc.equality.denominator
    # clipped, nothing but the readers' own variation is left, with its degrees of freedom
    assert found.rrrc.equality.denominator == pytest.approx(0.0006)
    assert found.rrrc.equality.df2 == pytest.approx(4)
    usual = analyse(make_components(), ("with", "without"))
    assert not usual.components.is_clipped
    assert usual.frrc == usual.frrc_unclipped


def test_a_denominator_that_is_not_positive_gives_no_test():
    found = analyse(make_components(cov2=0.0001, cov3=0.0004), ("with", "without")).frrc_unclipped
    assert found.equality.denominator < 0
    assert np.isnan([found.equality.p, found.gains[0].p, found.gains[0].low]).all()
    assert found.gains[0].value == pytest.approx(0.05)


def test_the_components_are_those_of_a_three_way_analysis_of_pseudovalues():
    """Dorfman, Berbaum and Metz's own route: mean squares of the jackknife pseudovalues."""
    ratings = synthetic().ratings
    figures = areas(ratings)
    t, j, k = ratings.score.shape
    y = k * figures.value[..., None] - (k - 1) * figures.without
    centred = {(): y.mean()}
    for axes in [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]:
        rest = tuple(sorted({0, 1, 2} - set(axes)))
        centred[axes] = y.mean(axis=rest, keepdims=True) - sum(
            centred[lower] for lower in centred if set(lower) < set(axes)
        )
    size = (t, j, k)
    ms = {
        axes: (np.broadcast_to(effect, y.shape) ** 2).sum() / np.prod([size[a] - 1 for a in axes])
        for axes, effect in centred.items()
        if axes
    }
    error = ms[0, 1, 2]
    found = variance_components(figures.value, jackknife(figures), k).dbm
    assert found.var_trc_error == pytest.approx(error, rel=1e-9)
    assert found.var_tr == pytest.approx((ms[0, 1] - error) / k, rel=1e-9)
    assert found.var_tc == pytest.approx((ms[0, 2] - error) / j, rel=1e-9)
    assert found.var_rc == pytest.approx((ms[1, 2] - error) / t, rel=1e-9)
    assert found.var_c == pytest.approx((ms[2,] - ms[0, 2] - ms[1, 2] + error) / (t * j), rel=1e-9)
    assert found.var_r == pytest.approx((ms[1,] - ms[0, 1] - ms[1, 2] + error) / (t * k), rel=1e-9)


def test_three_modalities_have_three_gains_and_one_test_of_all():
    rng = np.random.default_rng(1)
    score = rng.normal(size=(3, 4, 40)) + np.array([0.2, 0.8, 1.4])[:, None, None] * (np.arange(40) < 20)
    found = analysed(Ratings(tuple("abcd"), tuple(map(str, range(40))), ("x", "y", "z"), score, np.arange(40) < 20))
    assert [(gain.first, gain.second) for gain in found.rrrc.gains] == [("x", "y"), ("x", "z"), ("y", "z")]
    assert found.rrrc.equality.df1 == 2
    assert found.rrfc.equality.df2 == 6
    means = [mean.value for mean in found.rrrc.means]
    assert found.components.ms_t == pytest.approx(4 * np.var(means, ddof=1))
    # with more than two modalities the test of all is the mean of the squared pairwise statistics
    assert found.rrrc.equality.statistic == pytest.approx(np.mean([gain.statistic**2 for gain in found.rrrc.gains]))


def test_one_reader_still_has_fixed_reader_tests():
    ratings = synthetic().ratings
    one = Ratings(ratings.readers[:1], ratings.cases, ratings.modalities, ratings.score[:, :1], ratings.is_positive)
    found = analysed(one, Covariance.DELONG)
    assert np.isnan([found.rrrc.equality.p, found.rrfc.equality.p, found.rrrc.means[0].low]).all()
    covariance = delong(one)[:, 0, :, 0]
    error = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    assert found.frrc.gains[0].error == pytest.approx(error, rel=1e-12)
    assert 0 < found.frrc.gains[0].p < 1


def test_one_modality_still_has_its_mean():
    known = synthetic()
    ratings = known.ratings
    one = Ratings(ratings.readers, ratings.cases, ("with",), ratings.score[:1], ratings.is_positive)
    found = analysed(one)
    assert found.rrrc.means[0] == analysed(ratings).rrrc.means[0]
    assert found.rrrc.gains == ()
    assert np.isnan([found.rrrc.equality.p, found.frrc.equality.p, found.components.var_tr]).all()


def test_a_reader_without_a_figure_leaves_nothing_to_test():
    ratings = synthetic().ratings
    score = ratings.score.copy()
    score[0, 3] = np.nan
    found = analysed(Ratings(ratings.readers, ratings.cases, ratings.modalities, score, ratings.is_positive))
    assert np.isnan([found.rrrc.equality.p, found.frrc.equality.p, found.rrfc.equality.p]).all()
    assert np.isnan(found.rrrc.means[0].value)
    assert np.isfinite(found.rrrc.means[1].low)


def test_limits_of_a_mean_stay_between_0_and_1():
    near = tuple(OneModality(mean, 0.003, 0.0008, 0.0003) for mean in (0.999, 0.001))
    means = analyse(
        VarianceComponents(5, 100, 0.1, 0.004, 0.0006, 0.0008, 0.0004, 0.0003, 0.0002, near), ("with", "without")
    ).rrrc.means
    assert means[0].high == 1.0
    assert means[1].low == 0.0


def test_without_a_gain_the_test_for_other_readers_and_cases_seldom_cries_wolf():
    design = Design(readers=5, cases=(20, 20, 20), gain=(0, 0, 0), gain_sd=0.0)
    p = [analysed(against_rest(make_study(design, seed), "pneumonia")).rrrc.equality.p for seed in range(150)]
    # 7.5 of 150 expected; fewer than 1 or more than 16 have probability 0.002
    assert 1 <= sum(each < 0.05 for each in p) <= 16


def test_intervals_for_other_readers_and_cases_hold_the_true_gain():
    design = Design(readers=5, cases=(20, 20, 20), gain=(0.3, 0.3, 0.3), gain_sd=0.2)
    gains = [analysed(against_rest(make_study(design, seed), "covid")).rrrc.gains[0] for seed in range(150)]
    truth = expected_areas(design, "with")[2] - expected_areas(design, "without")[2]
    held = sum(gain.low <= truth <= gain.high for gain in gains)
    assert 134 <= held <= 149


def test_with_readings_missing_at_random_delongs_variance_is_right_and_imrmcs_often_below_0():
    rng, below, variances, values = np.random.default_rng(1), 0, [], []
    for seed in range(100):
        full = against_rest(make_study(Design(readers=5, cases=(30, 30, 30)), seed), "pneumonia")
        score = np.where(rng.random(full.score.shape) < 0.3, np.nan, full.score)
        ratings = Ratings(full.readers, full.cases, full.modalities, score, full.is_positive)
        gain = analysed(ratings, Covariance.DELONG).rrrc.gains[0]
        variances.append(gain.error**2)
        values.append(gain.value)
        below += mean_areas(ratings, Estimator.U_STATISTIC)[2].variance < 0
    # the standard error of 100 studies' own variance is 14 %
    assert np.mean(variances) == pytest.approx(np.var(values), rel=0.4)
    assert 0.2 < below / 100 < 0.5
