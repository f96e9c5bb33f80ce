"""Waits in theory: the settings whose answers FDA's QuCAD gave, laws that hold for any numbers, and the edges."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.audit.conftest import DATA
from triage.audit import queueing

SETTINGS = json.loads((DATA / "qucad_expected.json").read_text())
pure = settings(deadline=None, derandomize=True, max_examples=80)
rates = st.lists(st.floats(0.01, 1), min_size=1, max_size=5)
readers = st.integers(1, 6)
# three classes, most urgent first: COVID, PNEUMONIA, NORMAL
PREVALENCE = [0.1, 0.2, 0.7]
CONFUSION = [[0.8, 0.15, 0.05], [0.1, 0.7, 0.2], [0.02, 0.08, 0.9]]


def scaled(rates, load):
    return np.array(rates) / np.sum(rates) * load


@pytest.mark.parametrize("setting", SETTINGS, ids=[str(s["inp"]) for s in SETTINGS])
def test_waits_are_those_of_qucad(setting):
    asked = setting["inp"]
    shares = queueing.two_classes(asked["prev"], asked["se"], 1 - asked["fpr"])
    found = queueing.triaged(asked["rho"], asked["ES"], *shares, readers=asked["c"], is_preemptive=True)
    ours = {
        "fifo": found.first_come,
        "ai_pos": found.by_ai[0],
        "ai_neg": found.by_ai[1],
        "diseased": found.by_truth[0],
        "nondiseased": found.by_truth[1],
        "delta_diseased": found.change[0],
        "delta_nondiseased": found.change[1],
    }
    assert {name: ours[name] for name in setting["qucad_theory"]} == pytest.approx(setting["qucad_theory"], abs=1e-3)
    assert ours == pytest.approx(setting["reference"], abs=1e-9)
    assert found.missed[0] == found.by_ai[1] and found.others == found.by_truth[1]


def test_a_read_that_is_finished_first_costs_the_diseased_a_fifth_of_what_triage_saves():
    shares = queueing.two_classes(0.1, 0.9, 1 - 0.1912)
    interrupted, finished = (queueing.triaged(0.8, 10, *shares, is_preemptive=p) for p in (True, False))
    assert interrupted.change[0] == pytest.approx(-32.3, abs=0.05)
    assert interrupted.change[1] == pytest.approx(3.6, abs=0.05)
    assert interrupted.missed[0] == pytest.approx(53, abs=0.5)
    assert finished.change[0] == pytest.approx(-25.8, abs=0.05)


def test_erlang_s_formula_by_its_sum():
    assert queueing.erlang_c(0.7, 1) == pytest.approx(0.7) and queueing.erlang_c(1, 2) == pytest.approx(1 / 3)
    for c, a in ((3, 1.2), (8, 7.9), (20, 3.0)):
        last = a**c / math.factorial(c) * c / (c - a)
        assert queueing.erlang_c(a, c) == pytest.approx(last / (sum(a**n / math.factorial(n) for n in range(c)) + last))
    assert queueing.erlang_c(0, 3) == 0 and queueing.erlang_c(3, 3) == queueing.erlang_c(9, 3) == 1
    assert 0 < queueing.erlang_c(190, 200) < 1


@pure
@given(rates, st.floats(0.1, 0.97), readers)
def test_order_takes_from_one_class_what_it_gives_to_another(weights, load, c):
    # Kleinrock's conservation law: with reads not interrupted, waits weighted by work are those of first come
    rate = scaled(weights, load * c / 7)
    everyone = queueing.first_come(rate.sum(), 7, c)
    waits = queueing.non_preemptive(rate, 7, c)
    assert rate @ waits / rate.sum() == pytest.approx(everyone)
    assert (np.diff(waits) > 0).all()
    interrupted = queueing.preemptive(rate, 7, c)
    assert rate @ interrupted / rate.sum() == pytest.approx(everyone)  # and so are these, as all reads are alike
    assert interrupted[0] <= waits[0] + 1e-9 and interrupted[-1] >= waits[-1] - 1e-9


@pure
@given(st.lists(st.tuples(st.floats(0.01, 1), st.floats(1, 20), st.floats(1, 5)), min_size=1, max_size=4))
def test_the_law_holds_for_reads_of_any_kind(kinds):
    weight, mean, ratio = np.array(kinds).T
    rate, square = weight / (weight @ mean) * 0.85, ratio * mean**2
    waits = queueing.non_preemptive_general(rate, mean, square)
    everyone = queueing.first_come_general(rate, mean, square)
    assert (rate * mean) @ waits == pytest.approx(0.85 * everyone)


@pure
@given(rates, st.floats(0.1, 0.97))
def test_with_one_reader_of_exponential_reads_both_theories_agree(weights, load):
    rate = scaled(weights, load / 7)
    reads = np.full(len(rate), 7.0), np.full(len(rate), 2 * 7.0**2)
    assert queueing.preemptive_general(rate, *reads) == pytest.approx(queueing.preemptive(rate, 7))
    assert queueing.non_preemptive_general(rate, *reads) == pytest.approx(queueing.non_preemptive(rate, 7))
    assert queueing.first_come_general(rate, *reads) == pytest.approx(queueing.first_come(rate.sum(), 7))


def test_reads_that_are_all_alike_halve_the_wait():
    exponential = queueing.first_come(0.08, 10)
    assert queueing.first_come_general([0.08], [10], [100]) == pytest.approx(exponential / 2)


def test_share_of_studies_opened_within_a_wait():
    assert queueing.first_come_quantile(0.99, 0.08, 10) == pytest.approx(50 * math.log(80))
    assert queueing.first_come_quantile(0.2, 0.08, 10) == 0  # a fifth find the reader free
    assert queueing.first_come_quantile(0.5, 0.1, 10) == math.inf
    # the mean is the area above all quantiles
    shares = (np.arange(20_000) + 0.5) / 20_000
    mean = np.mean([queueing.first_come_quantile(s, 0.5, 3, 2) for s in shares])
    assert mean == pytest.approx(queueing.first_come(0.5, 3, 2), rel=1e-3)


@pytest.mark.parametrize("is_preemptive", [True, False])
def test_the_hierarchy_reads_covid_before_pneumonia_before_normal(is_preemptive):
    found = queueing.triaged(0.85, 10, PREVALENCE, CONFUSION, readers=2, is_preemptive=is_preemptive)
    assert found.share == pytest.approx([0.114, 0.211, 0.675])
    assert found.by_ai[0] < found.by_ai[1] < found.first_come < found.by_ai[2]
    assert found.by_truth == pytest.approx(np.array(CONFUSION) @ found.by_ai)
    assert found.missed[0] == pytest.approx((0.15 * found.by_ai[1] + 0.05 * found.by_ai[2]) / 0.2)
    assert found.missed[1] == pytest.approx(found.by_ai[2]) and math.isnan(found.missed[2])
    assert np.array(PREVALENCE) @ found.by_truth == pytest.approx(found.first_come)


def test_two_classes_in_one_make_no_difference_to_those_before_and_behind():
    three = queueing.non_preemptive([0.02, 0.03, 0.04], 10)
    assert queueing.non_preemptive([0.02, 0.07], 10)[0] == pytest.approx(three[0])
    assert queueing.non_preemptive([0.05, 0.04], 10)[1] == pytest.approx(three[2])


@pytest.mark.parametrize("is_preemptive", [True, False])
def test_reads_of_each_true_class_can_differ(is_preemptive):
    means, squares = np.array([20.0, 12, 8]), np.array([600.0, 250, 90])
    found = queueing.triaged_general(0.85, means, squares, PREVALENCE, CONFUSION, is_preemptive=is_preemptive)
    assert np.array(PREVALENCE) @ found.by_truth == pytest.approx(found.share @ found.by_ai)
    same = queueing.triaged_general(0.85, [10] * 3, [200] * 3, PREVALENCE, CONFUSION, is_preemptive=is_preemptive)
    plain = queueing.triaged(0.85, 10, PREVALENCE, CONFUSION, is_preemptive=is_preemptive)
    for name in ("by_ai", "by_truth", "missed", "share"):
        assert getattr(same, name) == pytest.approx(getattr(plain, name), nan_ok=True)
    assert same.first_come == pytest.approx(plain.first_come)


def test_a_perfect_ai_misses_nobody_and_one_that_sees_nothing_makes_everyone_come_first_come():
    perfect = queueing.triaged(0.8, 10, *queueing.two_classes(0.1, 1, 1))
    assert math.isnan(perfect.missed[0]) and perfect.by_truth == pytest.approx(perfect.by_ai)
    blind = queueing.triaged(0.8, 10, *queueing.two_classes(0.1, 0, 1))
    assert math.isnan(blind.by_ai[0]) and blind.by_truth == pytest.approx([40, 40])
    no_disease = queueing.triaged(0.8, 10, *queueing.two_classes(0, 0.9, 0.8), is_preemptive=True)
    assert math.isnan(no_disease.by_truth[0]) and no_disease.others == pytest.approx(40)


@pytest.mark.parametrize("is_preemptive", [True, False])
def test_too_much_work_keeps_the_ordinary_waiting_for_ever_but_not_the_urgent(is_preemptive):
    shares = queueing.two_classes(0.1, 0.9, 0.9)
    general = queueing.triaged_general(1.3, [10, 10], [200, 200], *shares, is_preemptive=is_preemptive)
    for found in (queueing.triaged(1.3, 10, *shares, is_preemptive=is_preemptive), general):
        assert found.first_come == math.inf and found.by_ai[1] == found.missed[0] == math.inf
        urgent = 1.3 * 0.18
        # not interrupted, an urgent study always finds somebody being read
        assert found.by_ai[0] == pytest.approx((urgent if is_preemptive else 1) * 10 / (1 - urgent))
    assert queueing.preemptive([0.05, 0.06, 0.01], 10)[1:].tolist() == [math.inf] * 2


@pytest.mark.parametrize(
    "ask",
    [
        lambda: queueing.erlang_c(1, 0),
        lambda: queueing.erlang_c(-1, 1),
        lambda: queueing.non_preemptive([0.1, -0.1], 1),
        lambda: queueing.preemptive([[0.1]], 1),
        lambda: queueing.first_come_quantile(1, 0.1, 1),
        lambda: queueing.triaged(0.5, 1, [0.5, 0.6], [[1, 0], [0, 1]]),
        lambda: queueing.triaged(0.5, 1, [0.5, 0.5], [[1, 0], [0.5, 0.6]]),
        lambda: queueing.triaged(0.5, 1, [0.5, 0.5], [[1, 0, 0], [0, 1, 0]]),
        lambda: queueing.triaged(0.5, 1, [float("nan"), 0.5], [[1, 0], [0, 1]]),
    ],
)
def test_what_is_no_queue_is_refused(ask):
    with pytest.raises(ValueError, match=r"readers|offered|rates|share|classes"):
        ask()
