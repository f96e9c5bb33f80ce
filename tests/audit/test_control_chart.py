"""Control charts: R's run lengths, FDA's example, limits by simulation that hold on fresh draws."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.audit.conftest import DATA
from triage.audit import case_chart, control_chart

SPC = json.loads((DATA / "expected_spc.json").read_text())


@pytest.mark.parametrize("answer", SPC["arl"], ids=lambda a: f"k{a['k']}-h{a['h']}-mu{a['mu']}")
def test_run_lengths_and_settled_delays_are_those_of_spc(answer):
    k, h, shift = answer["k"], answer["h"], answer["mu"]
    assert control_chart.run_length(k, h, shift) == pytest.approx(answer["arl_one"], abs=1e-8)
    assert control_chart.run_length(k, h, shift, sides=2) == pytest.approx(answer["arl_two"], abs=1e-8)
    assert control_chart.settled_delay(k, h, shift) == pytest.approx(answer["ad_one"], abs=1e-8)


@pytest.mark.parametrize("answer", SPC["crit"], ids=lambda a: f"arl{a['ARL0']}")
def test_limits_for_a_wanted_run_length_are_those_of_spc(answer):
    arl = answer["ARL0"]
    assert control_chart.limit(0.5, arl) == pytest.approx(answer["h_k0.5_one"], abs=1e-8)
    assert control_chart.limit(0.5, arl, sides=2) == pytest.approx(answer["h_k0.5_two"], abs=1e-8)
    assert control_chart.reference_value(4, arl) == pytest.approx(answer["k_for_h4"], abs=1e-8)
    for weight in (0.1, 0.2):
        assert control_chart.ewma_width(weight, arl) == pytest.approx(answer[f"ewma_c_l{weight}"], abs=1e-8)


def test_a_chart_of_both_sides_with_the_limit_of_one_cries_wolf_twice_as_often():
    k = control_chart.reference_value(4, 100)
    assert k == pytest.approx(0.2996, abs=1e-4)
    assert control_chart.run_length(k, 4) == pytest.approx(100)
    assert control_chart.run_length(k, 4, sides=2) == pytest.approx(50)


def test_the_cusum_of_aim_cu_s_example_ends_where_aim_cu_s_does(corpus):
    value = np.loadtxt(corpus / "audit" / "aimcu_spec-60-60.csv", delimiter=",", skiprows=1)[:, 1]
    centre, sd = value[:30].mean(), value[:30].std()
    z = control_chart.standardised(value, np.ones(120), centre=centre, sd=sd)
    fall, rise = control_chart.cusum(z, 0.5), control_chart.cusum(-z, 0.5)
    assert fall[-1] * sd == pytest.approx(2.6, abs=0.005)  # its own test rounds to two places
    assert np.flatnonzero(fall > 4)[0] == 63 and not (rise > 4).any()  # the change came with day 60
    known = control_chart.run_length_as_estimated(z[:30], 0.5, 4, sides=2)
    assert known.value == pytest.approx(control_chart.run_length(0.5, 4, sides=2), rel=0.3)
    assert known.high > 3 * known.value  # 30 days say little of the run length


def test_a_run_length_is_quoted_with_its_baseline_s_uncertainty():
    z = np.random.default_rng(1).normal(size=400)
    z = (z - z.mean()) / z.std(ddof=1)
    long, short = (control_chart.run_length_as_estimated(days, 0.5, 4, draws=100) for days in (z, z[:40]))
    assert long.value == pytest.approx(335.37, abs=0.01)
    assert long.low < 335.37 < long.high and long.high / long.low < short.high / short.low
    assert math.isnan(control_chart.run_length_as_estimated([math.nan, 1.0], 0.5, 4).low)


@given(st.lists(st.floats(-3, 3) | st.just(math.nan), min_size=1, max_size=50))
def test_the_cusum_is_its_recursion_and_a_day_without_cases_leaves_it(z):
    at, path = 0.0, []
    for value in z:
        at = at if math.isnan(value) else max(0.0, at - value - 0.5)
        path.append(at)
    assert control_chart.cusum(z, 0.5) == pytest.approx(path, abs=1e-9)


def test_days_are_standardised_by_their_own_size():
    found = control_chart.standardised([0.6, math.nan, 0.6], [16, 0, 64], centre=0.7, sd=0.5)
    assert found == pytest.approx([-0.8, math.nan, -1.6], nan_ok=True)


def test_the_simulated_run_length_is_the_computed_one():
    z = np.random.default_rng(2).normal(size=(400, 600))
    alarm = control_chart.cusum(z, 0.5) > 2.8494
    run = np.where(alarm.any(axis=1), alarm.argmax(axis=1) + 1, 600)
    assert run.mean() == pytest.approx(100, abs=15)


def test_ewma_limits_widen_on_small_days_and_skip_empty_ones():
    n = [25, 25, 25, 0, 4]
    found = control_chart.ewma([0.7, 0.6, 0.8, math.nan, 0.5], n, centre=0.7, sd=0.45, weight=0.2, width=3)
    t = np.arange(1, 4)
    half = 3 * 0.45 * np.sqrt(0.2 / 1.8 * (1 - 0.8 ** (2 * t)) / 25)
    assert found.high[:3] - 0.7 == pytest.approx(half, rel=1e-12)
    assert 0.7 - found.low == pytest.approx(found.high - 0.7)
    assert found.path == pytest.approx([0.7, 0.68, 0.704, 0.704, 0.6632])
    assert found.high[3] == found.high[2] and found.high[4] - 0.7 > 1.9 * (found.high[3] - 0.7)


def test_an_ewma_with_full_weight_is_a_chart_of_single_days():
    assert control_chart.ewma_run_length(1.0, 3.0) == pytest.approx(1 / 0.0026997960632601866, rel=1e-6)
    assert control_chart.ewma_run_length(0.1, 2.7, shift=1) < 15 < control_chart.ewma_run_length(0.1, 2.7)


@pytest.mark.parametrize("arl", [1.0, 1e30])
def test_a_run_length_that_cannot_be_had_is_refused(arl):
    with pytest.raises(ValueError, match="CUSUM"):
        control_chart.limit(0.5, arl)


EXPECTED = np.random.default_rng(3).beta(2, 6, size=500)


def test_a_case_weighs_as_its_likelihood_ratio_says():
    found = case_chart.case_weights([1, 0], [0.2, 0.2], 2)
    assert np.exp(found) == pytest.approx([(2 * 0.2 / 1.2) / 0.2, (0.8 / 1.2) / 0.8])
    assert case_chart.case_cusum([0, 1, 0], [0.2] * 3, 2) == pytest.approx([0, math.log(2 / 1.2), math.log(2 / 1.44)])


def test_the_case_chart_s_limit_keeps_its_run_length_on_fresh_draws():
    chart = case_chart.case_chart(EXPECTED, 2, 500, runs=300)
    assert chart.arl >= 500 and (chart.runs, chart.seed) == (300, 1)
    assert chart == case_chart.case_chart(EXPECTED, 2, 500, runs=300)
    assert case_chart.case_run_length(EXPECTED, chart, 1.0) == pytest.approx(500, rel=0.25)
    assert case_chart.case_run_length(EXPECTED, chart, 2.0) < 80
    assert chart.limit < case_chart.case_chart(EXPECTED, 2, 2000, runs=100).limit


@given(st.integers(0, 1000))
@settings(max_examples=20)
def test_harder_cases_excuse_errors(seed):
    rng = np.random.default_rng(seed)
    error = rng.random(30) < 0.3
    easy, hard = (case_chart.case_cusum(error, np.full(30, p), 2) for p in (0.1, 0.4))
    assert (easy >= hard - 1e-12).all()


@pytest.mark.parametrize(("p", "odds", "what"), [(1.2, 2, "expected probability"), (0.2, 0, "odds ratio of 0")])
def test_bad_input_is_named(p, odds, what):
    with pytest.raises(ValueError, match=what):
        case_chart.case_weights([1], [p], odds)
