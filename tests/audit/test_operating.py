"""The flag's shares with weights and repeated patients, net benefit by its formula, weighted areas."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from triage.audit import bootstrap, operating, performance

NAN = float("nan")


def make_flags(n=400, seed=1, sensitivity=0.8, specificity=0.85, prevalence=0.3):
    rng = np.random.default_rng(seed)
    positive = rng.random(n) < prevalence
    return rng.random(n) < np.where(positive, sensitivity, 1 - specificity), positive


def test_the_paper_s_accuracy_has_its_known_intervals():
    found = operating.share(np.arange(180) < 132)
    assert found.value == pytest.approx(0.733, abs=5e-4)
    assert (found.low, found.high) == pytest.approx((0.664, 0.793), abs=5e-4)
    assert performance.clopper_pearson(found.hits, found.cases) == pytest.approx((0.662, 0.796), abs=5e-4)
    assert (found.cases, found.patients, found.effective, found.method) == (180, 180, 180, operating.WILSON)


def test_the_operating_point_is_counted():
    flagged = [True] * 8 + [False] * 2 + [True] * 5 + [False] * 15
    positive = [True] * 10 + [False] * 20
    found = operating.operating_point(flagged, positive)
    for share, hits, n in (
        (found.sensitivity, 8, 10),
        (found.specificity, 15, 20),
        (found.ppv, 8, 13),
        (found.npv, 15, 17),
    ):
        assert (share.value, share.hits, share.cases) == (pytest.approx(hits / n), hits, n)
        assert (share.low, share.high) == performance.wilson(hits, n)


def test_shares_by_group_are_those_of_each_group_alone():
    rng = np.random.default_rng(2)
    hit, group = rng.random(500) < 0.7, rng.integers(-1, 4, 500)
    weight, patients = rng.choice([0, 0.5, 1, 3], 500), rng.integers(0, 120, 500)
    found = operating.shares(hit, group, 5, weight, patients)
    for g in range(4):
        at = group == g
        alone = operating.share(hit[at], weight[at], patients[at])
        assert alone.value == pytest.approx(np.average(hit[at], weights=weight[at]))
        assert (found[g].value, found[g].low, found[g].high, found[g].effective) == pytest.approx(
            (alone.value, alone.low, alone.high, alone.effective)
        )
        assert (found[g].cases, found[g].patients) == (alone.cases, alone.patients)
    assert math.isnan(found[4].value) and (found[4].low, found[4].high, found[4].cases) == (0, 1, 0)


def test_copies_of_a_patient_s_cases_make_nothing_surer():
    flagged, positive = make_flags(200)
    copies = np.repeat(np.arange(200), 4)
    once = operating.operating_point(flagged, positive).sensitivity
    again = operating.operating_point(flagged[copies], positive[copies], patients=copies).sensitivity
    assert again.value == pytest.approx(once.value) and again.patients == once.cases
    assert once.effective - 1.1 <= again.effective <= once.effective
    assert again.low == pytest.approx(once.low, abs=3e-3) and again.high == pytest.approx(once.high, abs=3e-3)
    asif = operating.operating_point(flagged[copies], positive[copies]).sensitivity
    assert asif.high - asif.low < 0.6 * (again.high - again.low)


@pytest.mark.parametrize("value", [0, 1])
def test_a_share_of_nothing_or_everything_is_as_sure_as_there_are_patients(value):
    found = operating.share([value] * 60, patients=np.repeat(np.arange(12), 5))
    assert (found.low, found.high) == performance.wilson(12 * value, 12)
    assert found.method == operating.DESIGN_EFFECT


def test_one_patient_says_nothing():
    found = operating.share([1, 0, 1, 1], patients=["a"] * 4)
    assert found.value == 0.75 and found.effective == 1
    assert (found.low, found.high) == performance.wilson(0.75, 1)


def test_the_interval_with_repeated_patients_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(8)
    held = plain = 0
    for _ in range(400):
        skill = rng.beta(4 * 0.8, 4 * 0.2, 60)
        whose = rng.integers(0, 60, 240)
        hit = rng.random(240) < skill[whose]
        found, asif = operating.share(hit, patients=whose), operating.share(hit)
        held += found.low <= 0.8 <= found.high
        plain += asif.low <= 0.8 <= asif.high
    assert held / 400 > 0.92 and plain / 400 < 0.9


def test_equal_weights_change_nothing_and_unequal_ones_cost_certainty():
    flagged, positive = make_flags()
    plain = operating.operating_point(flagged, positive).specificity
    sevens = operating.operating_point(flagged, positive, np.full(400, 7.0)).specificity
    assert (sevens.low, sevens.high, sevens.effective) == pytest.approx((plain.low, plain.high, plain.effective))
    assert sevens.hits == pytest.approx(7 * plain.hits)
    uneven = operating.share(flagged, np.where(np.arange(400) % 10, 1.0, 20.0))
    assert uneven.effective <= 400 * (0.9 + 2) ** 2 / (0.9 + 40) + 1e-9


def test_a_weight_of_nothing_leaves_the_case_out():
    found = operating.share([1, 0, 1, 0], [1, 0, 1, 1])
    assert (found.value, found.cases) == (pytest.approx(2 / 3), 3)


@pytest.mark.parametrize(
    ("weight", "patients", "message"),
    [
        ([1.0], None, r"\(1,\) weights for 2 cases"),
        ([-1.0, 1.0], None, "negative or not finite"),
        ([NAN, 1.0], None, "negative or not finite"),
        (None, [1, 2, 3], "3 patients for 2 cases"),
    ],
)
def test_weights_and_patients_must_fit(weight, patients, message):
    with pytest.raises(ValueError, match=message):
        operating.share([True, False], weight, patients)


def test_confusion_counts_true_classes_in_rows():
    found = operating.confusion([0, 1, 1, 2], [0, 0, 1, 1], 3)
    assert found.tolist() == [[1, 1, 0], [0, 1, 1], [0, 0, 0]]
    assert operating.confusion([0, 1], [0, 0], 2, [2.5, 1]).tolist() == [[2.5, 1], [0, 0]]
    with pytest.raises(ValueError, match=r"truth: a class outside 0 \.\.\. 2"):
        operating.confusion([0], [3], 3)


@given(st.integers(0, 10_000), st.floats(0.02, 0.9), st.floats(0.01, 0.99))
@settings(max_examples=40, deadline=None)
def test_net_benefit_is_its_formula(seed, threshold, prevalence):
    flagged, positive = make_flags(seed=seed)
    odds = threshold / (1 - threshold)
    found = operating.net_benefit(flagged, positive, threshold, draws=20)
    true, false = (flagged & positive).sum(), (flagged & ~positive).sum()
    assert found.value == pytest.approx(true / 400 - false / 400 * odds, abs=1e-12)
    elsewhere = operating.net_benefit(flagged, positive, threshold, prevalence=prevalence, draws=20)
    sensitivity, specificity = flagged[positive].mean(), 1 - flagged[~positive].mean()
    by_hand = sensitivity * prevalence - (1 - specificity) * (1 - prevalence) * odds
    assert elsewhere.value == pytest.approx(by_hand, abs=1e-12)
    here = operating.net_benefit(flagged, positive, threshold, prevalence=positive.mean(), draws=20)
    assert here.value == pytest.approx(found.value, abs=1e-12)


def test_the_net_benefit_s_interval_is_that_of_the_bootstrap_by_patient():
    flagged, positive = make_flags(600)
    patients = np.random.default_rng(3).integers(0, 200, 600)

    def benefit(rows):
        return float((flagged[rows] & positive[rows]).mean() - (flagged[rows] & ~positive[rows]).mean() * 0.25)

    ours = operating.net_benefit(flagged, positive, 0.2, patients=patients, draws=4000)
    slow = bootstrap.percentile(benefit, patients, draws=4000)
    assert (ours.value, ours.patients, ours.method) == (pytest.approx(slow.value), slow.patients, slow.method)
    assert (ours.low, ours.high) == pytest.approx((slow.low, slow.high), abs=3e-3)
    assert ours == operating.net_benefit(flagged, positive, 0.2, patients=patients, draws=4000)
    assert ours != operating.net_benefit(flagged, positive, 0.2, patients=patients, draws=4000, seed=2)


def test_many_kinds_of_patients_are_drawn_one_by_one(monkeypatch):
    flagged, positive = make_flags(300)
    weight = np.random.default_rng(4).uniform(1, 3, 300)
    counted = operating.net_benefit(flagged, positive, 0.2, weight=weight, draws=2000)
    monkeypatch.setattr(operating, "FEW_PATTERNS", 10)
    drawn = operating.net_benefit(flagged, positive, 0.2, weight=weight, draws=2000)
    assert drawn.value == pytest.approx(counted.value) and drawn.patients == counted.patients == 300
    assert (drawn.low, drawn.high) == pytest.approx((counted.low, counted.high), abs=5e-3)


@pytest.mark.parametrize(
    ("flagged", "positive", "prevalence", "value", "low"),
    [
        ([], [], None, NAN, NAN),
        ([True], [True], None, 1, NAN),
        ([True, True], [True, True], None, 1, 1),
        ([True, True], [True, True], 0.1, NAN, NAN),
    ],
)
def test_too_little_for_a_net_benefit_gives_what_the_docstring_says(flagged, positive, prevalence, value, low):
    found = operating.net_benefit(flagged, positive, 0.2, prevalence=prevalence, draws=50)
    assert (found.value, found.low) == pytest.approx((value, low), nan_ok=True)


@pytest.mark.parametrize("threshold", [0, 1, -0.1])
def test_thresholds_are_odds(threshold):
    with pytest.raises(ValueError, match=r"not in \(0, 1\)"):
        operating.net_benefit([True], [True], threshold)
    with pytest.raises(ValueError, match=r"not in \(0, 1\)"):
        operating.decision_curve([0.5], [True], [0.2, threshold])


def test_each_point_of_a_decision_curve_is_the_net_benefit_of_flagging_at_it():
    rng = np.random.default_rng(6)
    positive = rng.random(200) < 0.3
    probability = np.round(rng.random(200) * 0.5 + positive * 0.4, 1)
    weight = rng.choice([1.0, 2.5], 200)
    thresholds = np.array([0.05, 0.1, 0.3, 0.5, 0.95])
    found = operating.decision_curve(probability, positive, thresholds, weight=weight)
    for t, model, everyone in zip(thresholds, found.model, found.flag_all, strict=True):
        at = operating.net_benefit(probability >= t, positive, t, weight=weight, draws=2)
        assert model == pytest.approx(at.value, abs=1e-12)
        every = operating.net_benefit(np.ones(200, bool), positive, t, weight=weight, draws=2)
        assert everyone == pytest.approx(every.value, abs=1e-12)
    assert np.isnan(operating.decision_curve([], [], [0.2]).model).all()


def make_scores(seed=1, n=120):
    rng = np.random.default_rng(seed)
    positive = rng.random(n) < 0.4
    return np.round(rng.normal(positive * 1.0), 1), positive, rng.integers(0, 40, n)


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_with_equal_weights_the_weighted_area_is_the_ordinary_one(seed):
    score, positive, patients = make_scores(seed)
    plain = performance.area(score, positive, patients)
    found = operating.weighted_area(score, positive, np.full(120, 3.0), patients)
    assert (found.value, found.variance, found.low, found.high) == pytest.approx(
        (plain.value, plain.variance, plain.low, plain.high), abs=1e-12
    )
    assert (found.positives, found.patients) == (plain.positives, plain.patients)


def test_a_weighted_area_counts_pairs_by_their_weights():
    score, positive, _ = make_scores()
    weight = np.random.default_rng(2).choice([0.0, 1, 2, 5], 120)
    x, y, a, b = score[positive], score[~positive], weight[positive], weight[~positive]
    order = (x[:, None] > y) + 0.5 * (x[:, None] == y)
    found = operating.weighted_area(score, positive, weight)
    assert found.value == pytest.approx((a @ order @ b) / (a.sum() * b.sum()), abs=1e-12)
    copies = np.repeat(np.arange(120), weight.astype(int))
    assert found.value == pytest.approx(performance.auc(score[copies], positive[copies]))
    # copies of a case under its own name as patient: the same sums, but for the count of patients in both
    clustered = performance.area(score[copies], positive[copies], copies)
    assert found.variance == pytest.approx(clustered.variance, rel=1e-9)


def test_a_weighted_area_without_both_classes_or_with_a_missing_score_is_not_given():
    assert math.isnan(operating.weighted_area([0.1, 0.2], [True, True], [1, 1]).value)
    assert math.isnan(operating.weighted_area([0.1, 0.2], [True, False], [1, 0]).value)
    assert math.isnan(operating.weighted_area([0.1, NAN], [True, False], [1, 1]).value)
    perfect = operating.weighted_area([1, 2, 3, 4], [False, False, True, True], [1, 2, 1, 1])
    assert perfect.value == 1 and math.isnan(perfect.low)


def test_wilson_s_interval_holds_a_share_in_general():
    n, p = 60, 0.8
    limits = [performance.wilson(k, n) for k in range(n + 1)]
    held = sum(binom.pmf(k, n, p) for k, (low, high) in enumerate(limits) if low <= p <= high)
    assert 0.93 < held < 0.98
