"""Updates told apart from data changes as FDA's VIGILANT has it; two versions on the same studies."""

import json
import math

import numpy as np
import pytest
from scipy.stats import binomtest, chi2

from triage.audit import performance, updates


def test_learning_potential_and_retention_are_vigilant_s(corpus):
    cases = json.loads((corpus / "audit" / "vigilant_testcases.json").read_text())
    assert cases
    for case in cases:
        versions = max(row["model"] for row in case["input"])
        s = np.full((versions, versions), np.nan)
        for row in case["input"]:
            s[row["model"] - 1, row["dataset"] - 1] = row["performance"]
        found = updates.decomposed(s)
        assert len(found) == len(case["output"])
        for ours, theirs in zip(found, case["output"], strict=True):
            assert ours.version == theirs["version"]
            assert (ours.learning, ours.potential, ours.retention) == pytest.approx(
                (theirs["learning"], theirs["potential"], theirs["retention"]), abs=5e-5
            )


def test_retention_weighs_the_older_data_less():
    s = np.zeros((3, 3))
    s[2, :2] = 0.2, 0.4
    old, recent = math.exp(-2 * 0.5), math.exp(-0.5)
    assert updates.decomposed(s)[1].retention == pytest.approx((0.2 * old + 0.4 * recent) / (old + recent))
    assert updates.decomposed(s, decay=0)[1].retention == pytest.approx(0.3)


def test_what_was_not_measured_is_missing_only_where_it_is_needed():
    s = np.array([[0.8, np.nan], [0.7, 0.9]])
    (found,) = updates.decomposed(s)
    assert math.isnan(found.learning) and math.isnan(found.potential) and found.retention == 0.7
    assert updates.decomposed([[0.8]]) == ()
    with pytest.raises(ValueError, match="not of as many data sets"):
        updates.decomposed(np.zeros((2, 3)))


def make_versions(n=300, seed=1, gain=1.0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, n)
    logits = rng.normal(size=(n, 3)) + np.eye(3)[truth]
    better = logits + gain * np.eye(3)[truth] * rng.random((n, 1))
    return *(np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) for x in (logits, better)), truth


def test_two_versions_are_compared_on_the_labelled_and_agree_on_all():
    old, new, truth = make_versions()
    truth[:40] = updates.UNKNOWN
    found = updates.compared(old, new, truth)
    table = np.zeros((3, 3))
    np.add.at(table, (old.argmax(1), new.argmax(1)), 1)
    assert found.agreement.tolist() == table.tolist() and found.agreement.sum() == 300
    assert found.agreed == pytest.approx((old.argmax(1) == new.argmax(1)).mean())
    assert found.right.cases == 260
    assert found.right.difference == pytest.approx(
        (new.argmax(1) == truth)[40:].mean() - (old.argmax(1) == truth)[40:].mean()
    )
    for k in range(3):
        alone = performance.paired(new[40:, k], old[40:, k], truth[40:] == k)
        assert (found.areas[k].value, found.areas[k].p) == pytest.approx((alone.value, alone.p))


def test_kappa_by_hand():
    # agreed .7; by chance .5 * .6 + .5 * .4 = .5
    chosen = np.repeat([0, 0, 1, 1], [40, 10, 20, 30]), np.repeat([0, 1, 0, 1], [40, 10, 20, 30])
    found = updates.compared(np.eye(2)[chosen[0]], np.eye(2)[chosen[1]], np.full(100, updates.UNKNOWN))
    assert (found.agreed, found.kappa) == pytest.approx((0.7, 0.4))
    assert math.isnan(found.right.p) and found.right.cases == 0
    alike = updates.compared(np.eye(2)[[0, 0]], np.eye(2)[[0, 0]], [0, 1])
    assert alike.agreed == 1 and math.isnan(alike.kappa)


def pairs(both, only_old, only_new, neither):
    old = np.repeat([True, True, False, False], [both, only_old, only_new, neither])
    return old, np.repeat([True, False, True, False], [both, only_old, only_new, neither])


@pytest.mark.parametrize(("only_old", "only_new"), [(5, 15), (15, 5), (7, 7), (0, 1), (0, 0)])
def test_mcnemar_s_test_is_the_exact_one(only_old, only_new):
    found = updates.discordance(*pairs(60, only_old, only_new, 20))
    differ = only_old + only_new
    assert found.p == pytest.approx(binomtest(only_new, differ).pvalue if differ else 1)
    n = 80 + differ
    assert (found.only_old, found.only_new, found.difference) == (
        only_old,
        only_new,
        pytest.approx((only_new - only_old) / n),
    )
    assert found.low < found.difference < found.high and found.high - found.low > 0.01


def test_the_interval_of_the_difference_by_hand():
    # half a case more in each field: 5.5 and 15.5 of 102 differ
    found = updates.discordance(*pairs(60, 5, 15, 20))
    middle, variance = 10 / 102, ((5.5 + 15.5) / 102 - (10 / 102) ** 2) / 102
    half = 1.959963984540054 * math.sqrt(variance)
    assert (found.low, found.high) == pytest.approx((middle - half, middle + half), abs=1e-12)


def test_the_clustered_test_is_mcnemar_s_with_one_case_each_and_not_fooled_by_copies():
    old, new = pairs(60, 5, 15, 20)
    once = updates.discordance(old, new)
    copies = np.repeat(np.arange(100), 4)
    found = updates.discordance(old[copies], new[copies], copies)
    assert found.method == "McNemar, clustered by patient" and found.patients == 100
    assert found.p == pytest.approx(chi2.sf((15 - 5) ** 2 / 20, 1))
    assert found.high - found.low == pytest.approx(once.high - once.low, rel=0.06)
    asif = updates.discordance(old[copies], new[copies])
    assert asif.p < 1e-4 < 0.01 < found.p
    none = updates.discordance([True] * 4, [True] * 4, ["a", "a", "b", "b"])
    assert none.p == 1 and none.low < 0 < none.high


def test_the_interval_of_the_difference_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(500):
        kind = rng.choice(4, size=120, p=[0.6, 0.08, 0.16, 0.16])
        found = updates.discordance(np.isin(kind, [0, 1]), np.isin(kind, [0, 2]))
        held += found.low <= 0.08 <= found.high
    assert held / 500 > 0.93


def test_both_versions_must_have_seen_the_same_studies():
    old, new, truth = make_versions(10)
    with pytest.raises(ValueError, match="for 10 studies"):
        updates.compared(old[:9], new, truth)
    with pytest.raises(ValueError, match="2 and 3 results of 2 cases"):
        updates.discordance([True] * 2, [True] * 3)
