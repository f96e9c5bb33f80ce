"""Begg and Greenes' correction against its known answers; the random audit; how far a wrong assumption could carry."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triage.audit import verification
from triage.audit.operating import operating_point
from triage.audit.verification import Verification


def make_table(*rows):
    """Rows of (flagged, studies, verified, diseased)."""
    flagged, *counts = zip(*rows, strict=True)
    return Verification(np.array(flagged), *(np.array(c, dtype=float) for c in counts))


SCINTIGRAPHY = make_table((True, 429, 263, 231), (False, 221, 81, 27))


def test_hepatic_scintigraphy_is_corrected_as_known():
    assert verification.as_if_complete(SCINTIGRAPHY) == pytest.approx((0.895, 0.628), abs=5e-4)
    found = verification.begg_greenes(SCINTIGRAPHY)
    assert (found.sensitivity.value, found.specificity.value) == pytest.approx((0.836, 0.738), abs=5e-4)
    assert found.sensitivity.method == verification.DELTA
    assert found.sensitivity.low < 0.836 < found.sensitivity.high < 0.895


def redrawn(rng, table, reps):
    """Tables of as many studies drawn from *table*'s own shares, verified at random within a row."""
    size = rng.multinomial(int(table.studies.sum()), table.studies / table.studies.sum(), size=reps)
    verified = rng.binomial(size, table.verified / table.studies)
    return size, verified, rng.binomial(verified, table.diseased / table.verified)


def test_the_interval_of_the_correction_holds_what_is_true_as_often_as_it_says():
    rng = np.random.default_rng(4)
    true = verification.begg_greenes(SCINTIGRAPHY)
    held = np.zeros(2)
    for size, verified, diseased in zip(*redrawn(rng, SCINTIGRAPHY, 600), strict=True):
        found = verification.begg_greenes(
            Verification(SCINTIGRAPHY.flagged, size * 1.0, verified * 1.0, diseased * 1.0)
        )
        held += [
            rate.low <= value.value <= rate.high
            for rate, value in ((found.sensitivity, true.sensitivity), (found.specificity, true.specificity))
        ]
    assert (held / 600 > 0.93).all() and (held / 600 < 0.975).all()


def test_the_delta_method_is_the_two_row_formula():
    n, v, d = SCINTIGRAPHY.studies, SCINTIGRAPHY.verified, SCINTIGRAPHY.diseased
    p = d / v
    log_odds = 650 / (n[0] * n[1])
    sensitivity = log_odds + ((1 - p) / (v * p)).sum()
    specificity = log_odds + (p / (v * (1 - p))).sum()
    found = verification.begg_greenes(SCINTIGRAPHY)
    for rate, variance in ((found.sensitivity, sensitivity), (found.specificity, specificity)):
        half = 1.959963984540054 * math.sqrt(variance)
        middle = math.log(rate.value / (1 - rate.value))
        assert (rate.low, rate.high) == pytest.approx(
            tuple(1 / (1 + math.exp(-x)) for x in (middle - half, middle + half)), abs=1e-12
        )


def test_with_everyone_verified_nothing_is_corrected():
    table = make_table((True, 120, 120, 80), (False, 300, 300, 20))
    found = verification.begg_greenes(table)
    assert (found.sensitivity.value, found.specificity.value) == pytest.approx(verification.as_if_complete(table))
    assert found.sensitivity.value == pytest.approx(0.8)
    # the share's own variance, p (1 - p) / n on the logit, is what the delta method gives with nothing missing
    half = 1.959963984540054 / math.sqrt(100 * 0.8 * 0.2)
    assert found.sensitivity.low == pytest.approx(1 / (1 + math.exp(half) / 4), abs=1e-12)


def test_a_covariate_that_decides_who_is_verified_belongs_in_the_rows():
    rng = np.random.default_rng(9)
    n = 40_000
    ward, diseased = rng.random(n) < 0.3, rng.random(n)
    diseased = diseased < np.where(ward, 0.5, 0.1)
    flagged = rng.random(n) < np.where(diseased, np.where(ward, 0.9, 0.6), 0.1)
    verified = rng.random(n) < np.where(ward, 0.9, 0.1)
    true = flagged[diseased].mean()
    rows = [
        (f, (at := (flagged == f) & (ward == w)).sum(), (at & verified).sum(), (at & verified & diseased).sum())
        for f in (True, False)
        for w in (True, False)
    ]
    by_ward = verification.begg_greenes(make_table(*rows)).sensitivity
    without = verification.begg_greenes(verification.tabulated(flagged, diseased, verified)).sensitivity
    assert by_ward.low < true < by_ward.high
    assert without.high < true


def test_where_no_missed_case_was_found_the_interval_still_has_a_width():
    found = verification.begg_greenes(make_table((True, 60, 60, 40), (False, 940, 50, 0))).sensitivity
    assert found.value == 1 and found.method == verification.DRAWN
    assert 0.3 < found.low < 0.75 < found.high <= 1
    again = verification.begg_greenes(make_table((True, 60, 60, 40), (False, 940, 50, 0))).sensitivity
    assert found == again


@pytest.mark.parametrize(
    ("rows", "sensitivity", "specificity"),
    [
        ([(True, 10, 5, 4), (False, 90, 0, 0)], math.nan, math.nan),
        ([(True, 0, 0, 0), (False, 0, 0, 0)], math.nan, math.nan),
        ([(True, 10, 5, 0), (False, 90, 9, 0)], math.nan, 0.9),
        ([(True, 10, 10, 10), (False, 90, 90, 90)], 0.1, math.nan),
    ],
)
def test_what_nobody_was_looked_at_for_is_not_given(rows, sensitivity, specificity):
    found = verification.begg_greenes(make_table(*rows))
    assert (found.sensitivity.value, found.specificity.value) == pytest.approx((sensitivity, specificity), nan_ok=True)
    for rate in (found.sensitivity, found.specificity):
        assert math.isnan(rate.value) == math.isnan(rate.low)


def test_impossible_tables_are_refused():
    for row in ((True, 5, 6, 1), (True, 5, 3, 4), (True, 5, 3, -1)):
        with pytest.raises(ValueError, match="not 0 <= diseased <= verified <= studies"):
            make_table(row)


def test_without_a_difference_the_unverified_are_as_begg_and_greenes_have_them():
    found = verification.begg_greenes(SCINTIGRAPHY)
    sensitivity, specificity = verification.not_at_random(SCINTIGRAPHY, 1, 1)
    assert sensitivity == pytest.approx([found.sensitivity.value])
    assert specificity == pytest.approx([found.specificity.value])


def test_an_odds_ratio_of_two_by_hand():
    # verified 10 of 30 unflagged, 2 diseased: odds 1/4, of the other 20 then 1/2, so 20/3 diseased
    table = make_table((True, 20, 20, 16), (False, 30, 10, 2))
    sensitivity, specificity = verification.not_at_random(table, 1, 2)
    missed = 2 + 20 / 3
    assert sensitivity == pytest.approx([16 / (16 + missed)])
    assert specificity == pytest.approx([(30 - missed) / (30 - missed + 4)])


@given(st.floats(0.5, 2), st.floats(0.5, 2))
@settings(max_examples=60, deadline=None)
def test_the_bounds_hold_every_odds_ratio_between_a_half_and_two(flagged, unflagged):
    rates = verification.not_at_random(SCINTIGRAPHY, flagged, unflagged)
    for (low, high), rate in zip(verification.bounds(SCINTIGRAPHY), rates, strict=True):
        assert low - 1e-12 <= rate[0] <= high + 1e-12


def test_odds_ratios_must_be_above_nothing():
    with pytest.raises(ValueError, match="odds ratio that is not above 0"):
        verification.not_at_random(SCINTIGRAPHY, 0, 1)


def make_audited(rng, n=6000, rate=0.1):
    """All flagged studies have a truth; of the unflagged those drawn, and others only where disease showed itself."""
    diseased = rng.random(n) < 0.2
    flagged = rng.random(n) < np.where(diseased, 0.8, 0.1)
    drawn = ~flagged & (rng.random(n) < rate)
    return diseased, flagged, drawn


def test_the_random_audit_finds_the_sensitivity_whatever_decides_who_else_is_verified():
    rng = np.random.default_rng(11)
    values, held = [], 0
    for _ in range(300):
        diseased, flagged, drawn = make_audited(rng, 1500)
        weight = np.where(flagged, 1.0, np.where(drawn, 10.0, 0.0))
        found = verification.by_design(flagged, diseased, weight).sensitivity
        values.append(found.value)
        held += found.low <= 0.8 <= found.high
    assert np.mean(values) == pytest.approx(0.8, abs=0.01)
    assert held / 300 > 0.92


def test_design_weights_of_one_are_the_plain_shares():
    diseased, flagged, _ = make_audited(np.random.default_rng(3), 500)
    found, plain = verification.by_design(flagged, diseased, np.ones(500)), operating_point(flagged, diseased)
    assert found.sensitivity.value == pytest.approx(plain.sensitivity.value)
    assert found.specificity.value == pytest.approx(plain.specificity.value)
    assert (found.sensitivity.low, found.sensitivity.high) == pytest.approx(
        (plain.sensitivity.low, plain.sensitivity.high), abs=0.01
    )


def test_copies_of_a_patient_make_the_audit_no_surer():
    diseased, flagged, drawn = make_audited(np.random.default_rng(3), 2000)
    weight = np.where(flagged, 1.0, np.where(drawn, 10.0, 0.0))
    copies = np.repeat(np.arange(2000), 3)
    once = verification.by_design(flagged, diseased, weight).sensitivity
    thrice = verification.by_design(flagged[copies], diseased[copies], weight[copies], copies).sensitivity
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high), abs=1e-4)


def test_an_audit_that_finds_no_missed_case_limits_how_many_there_can_be():
    flagged = np.repeat([True, False], [30, 50])
    found = verification.by_design(flagged, flagged, np.where(flagged, 1.0, 20.0)).sensitivity
    assert (found.value, found.high, found.method) == (1, 1, verification.NONE_MISSED)
    assert found.low == pytest.approx(30 / (30 + 1000 * (1 - 0.025 ** (1 / 50))))


@pytest.mark.parametrize(
    ("flagged", "diseased", "sensitivity", "specificity"),
    [
        ([True, True], [True, True], math.nan, math.nan),
        ([True, True, False], [False, False, False], math.nan, 1 / 3),
        ([False, False], [True, True], 0.0, math.nan),
        ([], [], math.nan, math.nan),
    ],
)
def test_a_rate_that_was_not_looked_for_is_not_given(flagged, diseased, sensitivity, specificity):
    found = verification.by_design(flagged, diseased, np.ones(len(flagged)))
    assert (found.sensitivity.value, found.specificity.value) == pytest.approx((sensitivity, specificity), nan_ok=True)


def test_weights_must_be_weights():
    for weight in ([-1.0, 1.0], [math.inf, 1.0], [math.nan, 1.0]):
        with pytest.raises(ValueError, match="negative or not finite"):
            verification.by_design([True, False], [True, False], weight)
