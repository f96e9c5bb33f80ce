"""Dice and surface distances against brute force, and what empty masks and few cases give."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import cdist

from triage.audit.segmentation import compared, dice, hd95, summary, worst_decile_mean


def make_mask(seed, shape=(17, 23), density=0.3):
    return np.random.default_rng(seed).random(shape) < density


def outline_by_hand(mask):
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.argwhere(mask & ~inner)


def hd95_by_hand(found, truth, spacing):
    distances = cdist(outline_by_hand(found) * spacing, outline_by_hand(truth) * spacing)
    return np.percentile(np.concatenate([distances.min(1), distances.min(0)]), 95)


masks = st.tuples(st.integers(0, 10_000), st.floats(0.005, 1)).map(lambda t: make_mask(t[0], density=t[1]))
filled = masks.filter(lambda m: bool(m.any()))


@given(filled, filled, st.sampled_from([(1.0, 1.0), (0.5, 2.0), (0.143, 0.143)]))
@settings(max_examples=80, deadline=None)
def test_surface_distances_are_those_of_brute_force(found, truth, spacing):
    assert hd95(found, truth, spacing) == pytest.approx(hd95_by_hand(found, truth, np.array(spacing)), abs=1e-9)


@given(masks, masks)
@settings(max_examples=60, deadline=None)
def test_agreement_is_mutual_and_in_bounds(found, truth):
    assert dice(found, truth) == dice(truth, found)
    assert hd95(found, truth) == pytest.approx(hd95(truth, found))
    assert 0 <= dice(found, truth) <= 1 and 0 <= hd95(found, truth) <= math.hypot(17, 23)
    assert dice(found, found) == 1 and hd95(found, found) == 0
    assert hd95(found, truth, 0.5) == pytest.approx(hd95(found, truth) / 2)


def test_masks_of_known_agreement():
    square = np.zeros((40, 40), dtype=bool)
    square[10:20, 10:20] = True
    moved = np.roll(square, 3, axis=1)
    assert dice(square, moved) == pytest.approx(0.7)
    assert hd95(square, moved) == 3 and hd95(square, moved, (1.0, 2.0)) == 6
    assert hd95(square, moved, 2) == 6


def test_a_small_part_far_away_moves_the_percentile_no_further_than_5_percent_allows():
    large = np.zeros((200, 200), dtype=bool)
    large[50:150, 50:150] = True
    with_speck = large.copy()
    with_speck[5, 5] = True
    assert hd95(with_speck, large) == 0


def test_empty_masks_have_defined_figures():
    nothing, something = np.zeros((30, 40), dtype=bool), np.ones((30, 40), dtype=bool)
    assert dice(nothing, nothing) == 1 and hd95(nothing, nothing) == 0
    assert dice(nothing, something) == 0 and hd95(nothing, something) == hd95(something, nothing) == 50
    assert hd95(nothing, something, (0.1, 0.1)) == pytest.approx(5)
    with pytest.raises(ValueError, match="masks of"):
        dice(nothing, something[:10])


def test_the_worst_decile_holds_at_least_one_case():
    assert worst_decile_mean([0.9, 0.5, 0.7]) == 0.5
    assert worst_decile_mean(np.arange(20)) == 0.5
    assert worst_decile_mean(np.arange(24)) == 0.5 and worst_decile_mean(np.arange(26)) == 1
    assert math.isnan(worst_decile_mean([]))


def test_a_summary_names_mean_worst_tenth_and_failures():
    value = np.linspace(0.7, 0.99, 30)
    found = summary(value, np.arange(30), draws=200)
    assert found.cases == 30 and found.mean.value == pytest.approx(value.mean())
    assert found.mean.low < found.mean.value < found.mean.high
    assert found.worst_decile.value == pytest.approx(value[:3].mean())
    assert found.under == pytest.approx((value < 0.8).mean()) and found.under_low < found.under < found.under_high
    assert (found.mean.seed, found.mean.draws) == (1, 200)


def test_failures_of_repeated_patients_count_as_those_of_few():
    none = summary([0.95] * 30, np.arange(30), draws=50)
    assert (none.under, none.under_low) == (0, 0) and 0.1 < none.under_high < 0.15
    repeated = summary([0.95] * 30, np.arange(30) // 6, draws=50)
    assert repeated.under_high == pytest.approx(0.434, abs=1e-3)  # Wilson, 0 of 5


def test_a_better_method_is_found_better():
    rng = np.random.default_rng(1)
    base = rng.beta(40, 3, size=65)
    better = np.minimum(base + np.abs(rng.normal(0.01, 0.01, size=65)), 1)
    found = compared(better, base, np.arange(65))
    assert 0 < found.difference.low < found.difference.value < found.difference.high
    assert found.difference.method == "BCa bootstrap by patient" and found.difference.seed == 1
    assert found.p == pytest.approx(stats.wilcoxon(better, base, zero_method="pratt").pvalue) and found.p < 1e-6
    turned = compared(base, better, np.arange(65))
    assert turned.p == pytest.approx(found.p) and turned.difference.value == pytest.approx(-found.difference.value)


def test_copies_of_a_patient_s_case_make_no_method_surer():
    rng = np.random.default_rng(1)
    a, b = rng.random(20), rng.random(20)
    copies = np.repeat(np.arange(20), 8)
    once, many = compared(a, b, np.arange(20)), compared(a[copies], b[copies], copies)
    assert many.p == pytest.approx(once.p)
    assert (many.difference.low, many.difference.high) == pytest.approx((once.difference.low, once.difference.high))


def test_too_little_to_compare_gives_what_the_docstring_says():
    same = compared([0.9, 0.8, 0.7], [0.9, 0.8, 0.7], [1, 2, 3], draws=20)
    assert (same.p, same.difference.low, same.difference.high) == (1, 0, 0)
    one = compared([0.9, 0.8], [0.8, 0.7], ["a", "a"], draws=20)
    assert one.p == 1 and math.isnan(one.difference.low)
    none = compared([], [], [], draws=20)
    assert math.isnan(none.p) and math.isnan(none.difference.value)
    empty = summary([], [], draws=20)
    assert math.isnan(empty.mean.value) and math.isnan(empty.under) and (empty.under_low, empty.under_high) == (0, 1)
