"""AUCs and shares against pROC's answers, by definition, and where there is too little to say anything."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from tests.audit.conftest import CLASSES
from triage.audit import performance
from triage.audit.performance import Area

ONE_CLASS = [(site, k) for site in "EL" for k in range(3)]
by_class = pytest.mark.parametrize(("site", "k"), ONE_CLASS, ids=[f"{s}.{CLASSES[k]}" for s, k in ONE_CLASS])


def make_cases(n=60, positives=25, seed=1, shift=1.0):
    rng = np.random.default_rng(seed)
    truth = np.arange(n) < positives
    return rng.normal(shift * truth), truth


@by_class
def test_areas_and_their_variances_are_those_of_proc(sites, expected, site, k):
    answer, truth = expected[f"{site}.{CLASSES[k]}"], sites[site].truth == k
    found = performance.area(sites[site].a[:, k], truth)
    assert found.value == pytest.approx(answer["auc_a"], abs=1e-9)
    assert found.variance == pytest.approx(answer["var_a"], abs=1e-9)
    half = norm.ppf(0.975) * math.sqrt(found.variance)
    assert (found.value - half, found.value, found.value + half) == pytest.approx(tuple(answer["ci_a"]), abs=1e-9)
    assert found.positives == answer["npos"] and found.patients == answer["n"]
    both = performance.components([sites[site].a[:, k], sites[site].b[:, k]], truth)
    covariance = performance.covariance(both)
    assert both.area[1] == pytest.approx(answer["auc_b"], abs=1e-9)
    assert covariance[1, 1] == pytest.approx(answer["var_b"], abs=1e-9)
    assert covariance[0, 1] == covariance[1, 0] == pytest.approx(answer["cov_ab"], abs=1e-9)
    assert performance.auc(sites[site].a[:, k], truth) == pytest.approx(found.value, abs=1e-12)


@by_class
def test_the_paired_test_is_that_of_proc(sites, expected, site, k):
    answer, at = expected[f"{site}.{CLASSES[k]}"], sites[site]
    found = performance.paired(at.a[:, k], at.b[:, k], at.truth == k)
    assert found.statistic == pytest.approx(answer["Z"], abs=1e-9)
    assert found.p == pytest.approx(answer["p"], abs=1e-9)
    assert (found.low > 0 or found.high < 0) == (found.p < 0.05)


@pytest.mark.parametrize("k", range(3), ids=CLASSES)
def test_the_unpaired_test_is_that_of_proc(sites, expected, k):
    answer = expected[f"unpaired_E_vs_L.{CLASSES[k]}"]
    external, local = (performance.one_against_rest(sites[s].a, sites[s].truth)[k] for s in "EL")
    found = performance.unpaired(external, local)
    assert found.statistic == pytest.approx(answer["D"], abs=1e-9)
    assert found.df == pytest.approx(answer["df"], abs=1e-9)
    assert found.p == pytest.approx(answer["p"], abs=1e-9)


@pytest.mark.parametrize("site", "EL")
def test_hand_till_and_accuracy_are_those_of_r(sites, expected, site):
    at, answer = sites[site], expected[f"acc.{site}"]
    assert performance.hand_till(at.a, at.truth) == pytest.approx(expected[f"handtill.{site}"], abs=1e-9)
    hits, n = int((at.a.argmax(1) == at.truth).sum()), len(at.truth)
    assert (hits, n) == (answer["k"], answer["n"])
    assert performance.clopper_pearson(hits, n) == pytest.approx(tuple(answer["clopper_pearson"]), abs=1e-9)
    assert performance.wilson(hits, n) == pytest.approx(tuple(answer["wilson"]), abs=1e-9)


def test_the_paper_s_accuracy_has_its_known_intervals(expected):
    answer = expected["paper_acc_132_of_180"]
    assert performance.clopper_pearson(132, 180) == pytest.approx(tuple(answer["cp"]), abs=1e-9)
    assert performance.wilson(132, 180) == pytest.approx(tuple(answer["wilson"]), abs=1e-9)


def test_a_published_area_has_the_error_of_hanley_and_mcneil():
    assert performance.hanley_mcneil(0.786, 60, 120) == pytest.approx(0.039, abs=5e-4)
    paper, ours = performance.published(0.786, 60, 120), performance.area(*make_cases(400, 150))
    assert paper.low < 0.786 < paper.high
    assert 0 < performance.unpaired(ours, paper).p < 1
    assert math.isnan(performance.hanley_mcneil(0.8, 0, 10))


def obuchowski(score, truth, patients):
    """Obuchowski 1997, equations for one test, written as there."""
    x, y = score[truth], score[~truth]
    m, n = len(x), len(y)
    kernel = (x[:, None] > y[None]) + 0.5 * (x[:, None] == y[None])
    theta, v10, v01 = kernel.mean(), kernel.mean(1), kernel.mean(0)
    names = np.unique(patients)
    a = np.array([(v10[patients[truth] == i] - theta).sum() for i in names])
    b = np.array([(v01[patients[~truth] == i] - theta).sum() for i in names])
    i10, i01, i = len(np.unique(patients[truth])), len(np.unique(patients[~truth])), len(names)
    s10, s01 = i10 / ((i10 - 1) * m) * (a**2).sum(), i01 / ((i01 - 1) * n) * (b**2).sum()
    return theta, s10 / m + s01 / n + 2 * i / (i - 1) * (a * b).sum() / (m * n)


@given(st.integers(0, 10_000), st.integers(3, 30))
@settings(max_examples=40, deadline=None)
def test_the_clustered_area_is_obuchowski_s(seed, patients):
    rng = np.random.default_rng(seed)
    number = rng.integers(patients, size=80)
    truth = rng.random(80) < 0.4
    truth[:4] = True, False, True, False
    number[:4] = 0, 0, 1, 1  # two patients on either side, so that there is a variance
    score = np.round(rng.normal(size=80) + truth + rng.normal(size=patients)[number], 1)
    found = performance.area(score, truth, [f"p{i}" for i in number])
    assert (found.value, found.variance) == pytest.approx(obuchowski(score, truth, number), abs=1e-12)
    assert found.variance >= 0 and found.low <= found.value <= found.high


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_with_one_case_a_patient_the_clustered_area_is_the_ordinary_one(seed):
    score, truth = make_cases(seed=seed)
    plain = performance.area(score, truth)
    clustered = performance.area(score, truth, [str(i) for i in range(len(score))])
    assert clustered.variance == pytest.approx(plain.variance, rel=1e-12)
    assert (clustered.low, clustered.high) == pytest.approx((plain.low, plain.high), abs=1e-12)
    assert (plain.method, clustered.method) == ("DeLong", "DeLong, clustered by patient")


def test_copies_of_a_patient_s_case_make_nothing_surer():
    score, truth = make_cases()
    once = performance.area(score, truth)
    copies = np.repeat(np.arange(60), 5)
    asif, clustered = (performance.area(score[copies], truth[copies], who) for who in (None, copies))
    assert clustered.variance == pytest.approx(once.variance, rel=1e-9)
    assert asif.variance < 0.25 * once.variance
    assert clustered.patients == 60


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=40))
def test_the_area_is_the_share_of_pairs_in_order(cases):
    score, truth = np.array([s for s, _ in cases], dtype=float), np.array([t for _, t in cases])
    found = performance.area(score, truth)
    if truth.all() or not truth.any():
        assert math.isnan(found.value) and math.isnan(found.low) and math.isnan(performance.auc(score, truth))
        return
    pairs = [(x > y) + (x == y) / 2 for x, y in product(score[truth], score[~truth])]
    assert found.value == pytest.approx(np.mean(pairs), abs=1e-12)
    stretched = performance.area(np.exp(score), truth)
    assert (stretched.value, stretched.variance) == pytest.approx((found.value, found.variance), nan_ok=True)
    assert performance.auc(-score, truth) == pytest.approx(1 - found.value, abs=1e-12)
    if min(truth.sum(), (~truth).sum()) > 1:
        assert 0 <= found.low <= found.value <= found.high <= 1


def test_a_perfect_score_gets_the_exact_interval_of_disjoint_pairs():
    found = performance.area([1, 2, 3, 4, 5, 6, 7], [False] * 4 + [True] * 3)
    assert (found.value, found.variance, found.high) == (1, 0, 1)
    assert found.low == pytest.approx(0.025 ** (1 / 3))
    assert found.method == performance.EXACT
    turned = performance.area([1, 2, 3, 4, 5, 6, 7], [True] * 4 + [False] * 3)
    assert (turned.value, turned.low, turned.high) == (0, 0, pytest.approx(1 - 0.025 ** (1 / 3)))
    two_patients = performance.area([1, 2, 3, 4], [False, False, True, True], ["a", "b", "a", "b"])
    assert two_patients.low == pytest.approx(0.025)  # one pair is all that two patients can make


NAN = float("nan")


@pytest.mark.parametrize(
    ("what", "score", "truth", "patients", "value", "low", "high"),
    [
        ("no case", [], [], None, NAN, NAN, NAN),
        ("one class missing", [0.1, 0.2], [True, True], None, NAN, NAN, NAN),
        ("one positive", [0.1, 0.4, 0.2], [False, False, True], None, 0.5, NAN, NAN),
        ("one patient", [0.1, 0.4, 0.2, 0.3], [False, True, True, False], ["a"] * 4, 0.75, NAN, NAN),
        ("one patient, perfect", [0.1, 0.2], [False, True], ["a", "a"], 1, NAN, NAN),
        ("constant", [0.5] * 5, [False, True, True, False, True], None, 0.5, 0.5, 0.5),
        ("a NaN score", [0.1, NAN, 0.3, 0.2], [False, True, True, False], None, NAN, NAN, NAN),
    ],
)
def test_too_little_to_go_by_gives_what_the_docstring_says(what, score, truth, patients, value, low, high):
    found = performance.area(score, truth, patients)
    assert (found.value, found.low, found.high) == pytest.approx((value, low, high), nan_ok=True)


def test_tests_without_a_variance_say_so():
    score, truth = make_cases()
    same = performance.paired(score, 2 * score + 1, truth)
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)
    perfect = performance.paired(truth.astype(float), np.zeros(60), truth)
    assert perfect.value == 0.5 and math.isnan(perfect.p) and math.isnan(perfect.low)
    none = performance.paired(score[:10], score[:10], truth[:10])
    assert math.isnan(none.value) and math.isnan(none.p)
    best = performance.area(truth, truth)
    assert math.isnan(performance.unpaired(best, performance.area(score, truth)).p)
    assert math.isnan(performance.unpaired(best, best).p)


def test_the_paired_test_takes_repeated_patients():
    score, truth = make_cases()
    other = score + np.random.default_rng(2).normal(size=60)
    copies = np.repeat(np.arange(60), 4)
    once = performance.paired(score, other, truth)
    clustered = performance.paired(score[copies], other[copies], truth[copies], copies)
    assert (clustered.value, clustered.p) == pytest.approx((once.value, once.p), rel=1e-9)


def test_each_class_is_held_against_the_rest(sites):
    at = sites["E"]
    found = performance.one_against_rest(at.a, at.truth, np.arange(len(at.truth)))
    assert [type(f) for f in found] == [Area] * 3
    assert [f.positives for f in found] == [58, 55, 67]
    missing = performance.one_against_rest(at.a, np.zeros(len(at.truth)))
    assert all(math.isnan(f.value) for f in missing)
    assert math.isnan(performance.hand_till(at.a, np.zeros(len(at.truth))))


def test_balanced_accuracy_weighs_classes_alike():
    assert performance.balanced_accuracy([0, 0, 0, 1], [0, 0, 0, 0]) == 0.75
    assert performance.balanced_accuracy([0, 0, 0, 1, 0], [0, 0, 0, 1, 1]) == 0.75
    assert math.isnan(performance.balanced_accuracy([], []))


@given(st.integers(0, 400), st.data())
def test_intervals_of_a_share_hold_it_and_stay_in_bounds(n, data):
    hits = data.draw(st.integers(0, n))
    for interval in (performance.wilson, performance.clopper_pearson):
        low, high = interval(hits, n)
        assert 0 <= low <= (hits / n if n else 0.5) <= high <= 1
        narrow = interval(hits, n, 0.5)
        assert n == 0 or (low <= narrow[0] and narrow[1] <= high)


def test_the_ends_of_a_share_are_exact():
    assert performance.clopper_pearson(0, 10) == (0, pytest.approx(1 - 0.025**0.1))
    assert performance.wilson(0, 10)[0] == 0 and performance.wilson(10, 10)[1] == 1
    assert performance.wilson(0, 0) == performance.clopper_pearson(0, 0) == (0, 1)


def test_patients_must_be_as_many_as_cases():
    with pytest.raises(ValueError, match="2 patients for 3 cases"):
        performance.area([1, 2, 3], [True, False, True], ["a", "b"])
