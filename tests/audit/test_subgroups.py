"""Subgroups: adequacy, figures those of the group alone, shrinkage by its known formulas, no ranking of noise."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from triage.audit import operating, performance, subgroups
from triage.audit.states import State
from triage.audit.subgroups import Shrunk

NAN = float("nan")


def make_cases(n=3000, groups=6, seed=1, sensitivity=0.8):
    rng = np.random.default_rng(seed)
    group = rng.integers(0, groups, n)
    positive = rng.random(n) < 0.3
    score = rng.normal(positive * 1.2)
    flagged = rng.random(n) < np.where(positive, sensitivity, 0.1)
    return np.array([f"s{g}" for g in group]), flagged, positive, score, rng.integers(0, n // 2, n)


def test_an_adequate_subgroup_has_the_figures_of_its_cases_alone():
    name, flagged, positive, score, patients = make_cases()
    found = subgroups.by_factor("site", name, flagged, positive, score=score, patients=patients)
    assert [f.name for f in found] == [f"s{g}" for g in range(6)]
    for f in found:
        at = name == f.name
        point = operating.operating_point(flagged[at], positive[at], patients=patients[at])
        area = performance.area(score[at], positive[at], patients[at])
        assert f.is_adequate and (f.positives, f.negatives) == (positive[at].sum(), (~positive[at]).sum())
        for ours, alone in ((f.sensitivity, point.sensitivity), (f.specificity, point.specificity), (f.area, area)):
            assert (ours.value, ours.low, ours.high) == pytest.approx((alone.value, alone.low, alone.high))
            assert ours.shrunk_low < ours.shrunk < ours.shrunk_high


def test_weights_go_into_every_figure_and_a_case_without_one_counts_nowhere():
    name, flagged, positive, score, patients = make_cases()
    weight = np.random.default_rng(5).choice([0, 1.0, 4.0], 3000)
    weight[(name == "s0") & positive & (np.cumsum(positive & (name == "s0")) > 9)] = 0
    found = subgroups.by_factor("site", name, flagged, positive, score=score, weight=weight, patients=patients)
    assert found[0].positives <= 9 and not found[0].is_adequate and math.isnan(found[0].sensitivity.value)
    at = name == "s1"
    area = operating.weighted_area(score[at], positive[at], weight[at], patients[at])
    point = operating.operating_point(flagged[at], positive[at], weight[at], patients[at])
    assert (found[1].area.value, found[1].area.low) == pytest.approx((area.value, area.low))
    assert (found[1].specificity.value, found[1].specificity.low) == pytest.approx(
        (point.specificity.value, point.specificity.low)
    )
    assert found[1].negatives == (at & ~positive & (weight > 0)).sum()


@pytest.mark.parametrize(("positives", "negatives", "enough"), [(10, 10, True), (9, 500, False), (500, 9, False)])
def test_a_subgroup_of_fewer_than_ten_of_either_is_not_given(positives, negatives, enough):
    positive = np.arange(positives + negatives) < positives
    flagged = np.arange(len(positive)) % 3 == 0
    score = np.arange(len(positive)) % 7
    (found,) = subgroups.by_factor("view", ["AP"] * len(positive), flagged, positive, score=score)
    assert found.is_adequate is enough
    for figure in (found.sensitivity, found.specificity, found.area):
        assert math.isfinite(figure.value) is enough and math.isfinite(figure.shrunk) is enough
        if not enough:
            assert subgroups.judged(figure, found.is_adequate, 0.1, 0.05) is State.INSUFFICIENT


def test_one_thin_subgroup_does_not_change_the_others():
    name, flagged, positive, score, _ = make_cases()
    five = [True] * 5
    more = subgroups.by_factor(
        "site",
        np.append(name, ["thin"] * 5),
        np.append(flagged, five),
        np.append(positive, five),
        score=np.append(score, np.ones(5)),
    )
    assert more[:6] == subgroups.by_factor("site", name, flagged, positive, score=score)
    assert not more[6].is_adequate and more[6].positives == 5


def test_subgroups_all_flagged_have_an_interval_and_an_area_of_one_is_not_drawn():
    positive = np.arange(60) % 2 == 0
    name = np.repeat(["a", "b"], 30)
    found = subgroups.by_factor("sex", name, positive, positive, score=positive.astype(float))
    for f in found:
        assert f.sensitivity.value == 1 and 0.7 < f.sensitivity.low < f.sensitivity.shrunk < 1
        assert f.area.value == 1 and math.isnan(f.area.shrunk)


def test_shrinkage_by_hand():
    # g = 2, v = 1 each: Q(t) = d² / (2 (1 + t)) = 1 gives t = d² / 2 - 1
    found = subgroups.shrunken([0.0, 4.0], [1.0, 1.0])
    assert found.between == pytest.approx(7) and found.mean == pytest.approx(2)
    assert found.value == pytest.approx([2 / 8, 4 - 2 / 8])
    assert found.variance == pytest.approx([1, 1])  # of two, nobody can say how far subgroups lie apart


def test_estimates_no_further_apart_than_their_errors_become_one():
    found = subgroups.shrunken([0.1, 0.0, 0.0, -0.1], [1.0, 2.0, 2.0, 1.0])
    assert found.between == 0 and found.value == pytest.approx([0] * 4)
    assert found.variance == pytest.approx(1 / 3 + 2 * np.array([0.01, 0, 0, 0.01]))


@given(st.integers(0, 10_000), st.integers(2, 12))
@settings(max_examples=50, deadline=None)
def test_the_variance_between_solves_paule_and_mandel_s_equation(seed, n):
    rng = np.random.default_rng(seed)
    x, v = rng.normal(0, 2, n), rng.uniform(0.1, 2, n)
    found = subgroups.shrunken(x, v)
    weight = 1 / (v + found.between)
    squares = weight @ (x - found.mean) ** 2
    assert squares == pytest.approx(n - 1, rel=1e-6) if found.between > 0 else squares <= n - 1 + 1e-9
    low, high = np.minimum(x, found.mean) - 1e-9, np.maximum(x, found.mean) + 1e-9
    assert ((found.value >= low) & (found.value <= high)).all()


def test_one_estimate_stays_and_none_is_none():
    assert subgroups.shrunken([0.3], [2.0]).value.tolist() == [0.3]
    assert math.isnan(subgroups.shrunken([], []).mean)
    with pytest.raises(ValueError, match="variance that is not above 0"):
        subgroups.shrunken([0.3], [0.0])


def test_the_lowest_of_many_like_subgroups_is_drawn_to_the_rest():
    worst, shrunk = [], []
    for seed in range(20):
        name, flagged, positive, *_ = make_cases(n=1200, groups=12, seed=seed)
        found = subgroups.by_factor("site", name, flagged, positive)
        lowest = min(found, key=lambda f: f.sensitivity.value)
        worst.append(lowest.sensitivity.value)
        shrunk.append(lowest.sensitivity.shrunk)
        assert not any(subgroups.judged(f.sensitivity, f.is_adequate, 0.8, 0.05) is State.ALARM for f in found)
    assert np.mean(worst) < 0.7 and np.mean(shrunk) == pytest.approx(0.8, abs=0.04)


def test_shrunken_values_are_nearer_the_truth():
    rng = np.random.default_rng(3)
    own = drawn = covered = 0.0
    for _ in range(200):
        true, v = rng.normal(0, 0.5, 10), rng.uniform(0.2, 1, 10)
        x = rng.normal(true, np.sqrt(v))
        found = subgroups.shrunken(x, v)
        own += ((x - true) ** 2).sum()
        drawn += ((found.value - true) ** 2).sum()
        covered += (np.abs(found.value - true) < norm.ppf(0.975) * np.sqrt(found.variance)).sum()
    assert drawn < 0.55 * own
    assert 0.9 < covered / 2000 < 0.98


@pytest.mark.parametrize(
    ("figure", "adequate", "state"),
    [
        (Shrunk(0.60, 0.50, 0.70, 0.70, 0.60, 0.78), True, State.WATCH),
        (Shrunk(0.60, 0.50, 0.70, 0.76, 0.70, 0.80), True, State.INSUFFICIENT),
        (Shrunk(0.82, 0.76, 0.88, 0.81, 0.78, 0.85), True, State.IN_CONTROL),
        (Shrunk(0.82, 0.70, 0.90, 0.81, 0.78, 0.85), True, State.INSUFFICIENT),
        (Shrunk(0.82, 0.76, 0.88, 0.81, 0.78, 0.85), False, State.INSUFFICIENT),
        (Shrunk(NAN, NAN, NAN, NAN, NAN, NAN), True, State.INSUFFICIENT),
    ],
)
def test_a_subgroup_is_judged_against_all_less_the_margin(figure, adequate, state):
    assert subgroups.judged(figure, adequate, 0.8, 0.05) is state


def test_ages_and_months_become_names_in_order():
    bands = subgroups.age_bands([0, 17.9, 18, 39, 64, 65, 80, 101, NAN, -1])
    assert bands.tolist() == [
        "000-017", "000-017", "018-039", "018-039", "040-064", "065-079", "080+", "080+", "unknown", "unknown",
    ]  # fmt: skip
    assert sorted(set(bands)) == ["000-017", "018-039", "040-064", "065-079", "080+", "unknown"]
    instants = np.array(["2026-03-31T23:59:59", "2026-04-01", "NaT"], dtype="datetime64[us]")
    assert subgroups.months(instants).tolist() == ["2026-03", "2026-04", "unknown"]


def test_no_case_has_no_subgroup():
    assert subgroups.by_factor("sex", [], [], []) == ()


def test_a_hundred_thousand_rows_take_no_time_to_speak_of():
    rng = np.random.default_rng(1)
    n = 100_000
    positive = rng.random(n) < 0.1
    began = time.process_time()
    subgroups.by_factor(
        "month", rng.integers(0, 24, n), rng.random(n) < 0.2, positive, score=rng.random(n), patients=np.arange(n) // 2
    )
    assert time.process_time() - began < 5
