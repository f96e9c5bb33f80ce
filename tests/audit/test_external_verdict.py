"""Verdict A with both figures uncertain: supported, refuted, undecided, undecidable; and what it could have seen."""

import math

import numpy as np
import pytest

from triage.audit import external_verdict, operating, performance
from triage.audit.external_verdict import Basis, Estimate, Outcome
from triage.audit.states import State

NAN = float("nan")


def make_estimate(value, half, fewest=200, basis=Basis.CASES):
    return Estimate(value, value - half, value + half, basis, fewest)


def share_of(hits, n):
    return external_verdict.of_share(operating.share(np.arange(n) < hits))


def test_the_paper_s_figures_carry_their_uncertainty_and_say_what_is_assumed():
    accuracy = external_verdict.paper_accuracy()
    assert (accuracy.value, accuracy.low, accuracy.high) == pytest.approx((0.733, 0.664, 0.793), abs=5e-4)
    covid = external_verdict.paper_area("covid")
    assert (covid.high - covid.low) / 2 / 1.96 == pytest.approx(0.039, abs=2e-3)
    assert covid.fewest == 60 and "assum" in covid.note
    assert dict(external_verdict.PAPER.area) == {"normal": 0.913, "pneumonia": 0.937, "covid": 0.786}
    assert sum(external_verdict.PAPER.class_cases.values()) == external_verdict.PAPER.cases == 180
    verdict = external_verdict.verdict_on(make_estimate(0.8, 0.01), covid, 0.05, figure="AUC covid")
    assert covid.note in verdict.reason


@pytest.mark.parametrize(
    ("local", "margin", "outcome", "state"),
    [
        (make_estimate(0.80, 0.02), 0.08, Outcome.SUPPORTED, State.IN_CONTROL),
        (make_estimate(0.60, 0.02), 0.08, Outcome.REFUTED, State.ALARM),
        (make_estimate(0.70, 0.02), 0.08, Outcome.UNDECIDED, State.WATCH),
        (make_estimate(0.74, 0.02), 0.08, Outcome.UNDECIDED, State.INSUFFICIENT),
        (make_estimate(0.80, 0.02, fewest=9), 0.08, Outcome.UNDECIDED, State.INSUFFICIENT),
        (make_estimate(0.60, 0.02, fewest=9), 0.08, Outcome.UNDECIDED, State.INSUFFICIENT),
        (Estimate(NAN, NAN, NAN, Basis.CASES, 40), 0.08, Outcome.UNDECIDED, State.INSUFFICIENT),
    ],
)
def test_outcomes_and_states(local, margin, outcome, state):
    verdict = external_verdict.verdict_on(local, make_estimate(0.80, 0.04, basis=Basis.PUBLISHED), margin)
    assert (verdict.outcome, verdict.state) == (outcome, state)


def test_a_figure_that_cannot_be_given_is_not_called_too_few_cases():
    verdict = external_verdict.verdict_on(Estimate(NAN, NAN, NAN, Basis.CASES, 40), external_verdict.goal(0.7), 0.05)
    assert "cannot be given here" in verdict.reason and "Too few" not in verdict.reason


@pytest.mark.parametrize("hits", range(6))
def test_five_cases_are_insufficient_whatever_they_say(hits):
    for external in (external_verdict.paper_accuracy(), external_verdict.goal(0.7)):
        verdict = external_verdict.verdict_on(share_of(hits, 5), external, 0.05)
        assert (verdict.outcome, verdict.state) == (Outcome.UNDECIDED, State.INSUFFICIENT)
        assert "Too few cases to judge: 5" in verdict.reason and math.isnan(verdict.detectable_drop)


def test_two_shares_have_newcombe_s_interval():
    # Newcombe 1998, table II: 56/70 less 48/80 by method 10 is 0.0524 to 0.3339
    verdict = external_verdict.verdict_on(share_of(56, 70), share_of(48, 80), 0.05)
    assert verdict.difference == pytest.approx(0.2)
    assert (verdict.low, verdict.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_two_areas_of_cases_have_nearly_the_unpaired_test_s_interval():
    rng = np.random.default_rng(2)
    areas = []
    for n, shift in ((900, 1.0), (400, 1.3)):
        truth = np.arange(n) % 3 == 0
        areas.append(performance.area(rng.normal(truth * shift), truth))
    verdict = external_verdict.verdict_on(*map(external_verdict.of_area, areas), 0.05, figure="AUC")
    test = performance.unpaired(*areas)
    assert (verdict.difference, verdict.low, verdict.high) == pytest.approx((test.value, test.low, test.high), abs=3e-3)


def test_against_a_goal_only_the_local_figure_is_uncertain():
    local = make_estimate(0.80, 0.03)
    verdict = external_verdict.verdict_on(local, external_verdict.goal(0.76), 0)
    assert (verdict.low, verdict.high) == pytest.approx((0.01, 0.07))
    assert verdict.outcome is Outcome.SUPPORTED and verdict.is_decidable and "as declared" in verdict.reason


def test_a_margin_of_five_hundredths_cannot_be_decided_against_the_paper_s_area():
    covid = external_verdict.paper_area("covid")
    million = make_estimate(0.786, 1e-4, fewest=10**6)
    verdict = external_verdict.verdict_on(million, covid, 0.05, figure="AUC covid")
    assert verdict.outcome is Outcome.UNDECIDED and not verdict.is_decidable
    assert "however many local cases" in verdict.reason and "goal declared" in verdict.reason
    wide = external_verdict.verdict_on(million, covid, 0.10, figure="AUC covid")
    assert wide.outcome is Outcome.SUPPORTED and wide.is_decidable and "however many" not in wide.reason
    declared = external_verdict.verdict_on(million, external_verdict.goal(0.786), 0.05, figure="AUC covid")
    assert declared.outcome is Outcome.SUPPORTED


def test_the_window_shows_the_drop_it_says_as_often_as_it_says():
    rng = np.random.default_rng(7)
    external_n, n, margin = 1500, 400, 0.05
    typical = external_verdict.verdict_on(
        share_of(round(0.7 * n), n), share_of(round(0.8 * external_n), external_n), margin
    )
    drop = typical.detectable_drop
    refuted = [
        external_verdict.verdict_on(share_of(mine, n), share_of(theirs, external_n), margin).outcome is Outcome.REFUTED
        for mine, theirs in zip(rng.binomial(n, 0.8 - drop, 500), rng.binomial(external_n, 0.8, 500), strict=True)
    ]
    assert 0.05 < drop < 0.15 and f"{drop:.3f}" in typical.reason
    assert np.mean(refuted) == pytest.approx(0.8, abs=0.06)


def test_the_verdict_errs_as_seldom_as_its_level_says():
    rng = np.random.default_rng(17)
    n, margin = 400, 0.05
    at_margin = [
        external_verdict.verdict_on(share_of(mine, n), share_of(theirs, 600), margin).outcome
        for mine, theirs in zip(rng.binomial(n, 0.75, 1000), rng.binomial(600, 0.8, 1000), strict=True)
    ]
    # each is wrong where the true drop is the margin itself: one-sided, 2.5 % of windows
    assert at_margin.count(Outcome.SUPPORTED) <= 40 and at_margin.count(Outcome.REFUTED) <= 40


def test_a_window_that_could_show_no_drop_says_so():
    local = Estimate(0.3, 0.05, 0.7, Basis.CASES, 12)
    verdict = external_verdict.verdict_on(local, external_verdict.goal(0.4), 0.05)
    assert math.isnan(verdict.detectable_drop) and "No drop, however large" in verdict.reason


def test_clustered_shares_are_as_adequate_as_their_patients():
    few = external_verdict.of_share(operating.share([True] * 60, patients=np.repeat(np.arange(6), 10)))
    assert few.fewest == 6
    assert external_verdict.verdict_on(few, external_verdict.goal(0.5), 0.05).state is State.INSUFFICIENT
    area = performance.area([0.1, 0.2, 0.3, 0.4, 0.5], [False, True, False, False, True])
    assert external_verdict.of_area(area).fewest == 2


def test_margins_and_levels_must_make_sense():
    local, external = make_estimate(0.8, 0.02), make_estimate(0.8, 0.02)
    for margin in (-0.01, 0):
        with pytest.raises(ValueError, match="accuracy: the margin is not above 0"):
            external_verdict.verdict_on(local, external, margin, figure="accuracy")
    with pytest.raises(ValueError, match="different levels"):
        external_verdict.verdict_on(local, external_verdict.goal(0.8, level=0.9), 0.05)
