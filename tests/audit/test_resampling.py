"""Whole blocks stay whole, whether exchanged or drawn anew, and p counts the observed windows themselves."""

import math

import numpy as np
import pytest
from scipy import stats

from triage.audit.resampling import Windows, at_most, blocks_of, exchange_p, limits, wald_p

DAYS, NOW = np.array(["b", "a", "b", "c", "d"]), np.array(["a", "e", "e"])


def test_a_patient_seen_in_both_windows_is_a_block_in_each():
    windows = Windows(DAYS, NOW)
    assert windows.number.tolist() == [1, 0, 1, 2, 3, 4, 5, 5]
    assert windows.is_current.tolist() == [False] * 4 + [True] * 2


def test_exchanges_keep_the_number_of_blocks_and_reach_every_labelling():
    drawn = np.concatenate(list(Windows(DAYS, NOW).exchanged(400, seed=1)))
    assert drawn.shape == (400, 6) and (drawn.sum(axis=1) == 2).all()
    assert len(np.unique(drawn, axis=0)) == math.comb(6, 2)
    again = np.concatenate(list(Windows(DAYS, NOW).exchanged(400, seed=1)))
    assert (drawn == again).all()


def test_blocks_are_drawn_whole_from_their_own_window():
    def figures(r, c):
        names, counts = np.unique(DAYS[r], return_counts=True)
        assert all(n % 2 == 0 for name, n in zip(names, counts, strict=True) if name == "b")
        return np.array([len(np.unique(r)), len(c), (NOW[c] == "e").sum() % 2])

    drawn = Windows(DAYS, NOW).redrawn(figures, 100, seed=1)
    assert drawn.shape == (100, 3) and (drawn[:, 2] == 0).all() and drawn[:, 1].min() == 2 and drawn[:, 1].max() == 4


def test_a_part_of_a_window_is_drawn_once_each_and_again_alike():
    rows = at_most(50, 200, seed=1)
    assert len(set(rows.tolist())) == 50 and (np.diff(rows) > 0).all() and rows.max() < 200
    assert at_most(50, 200, seed=1).tolist() == rows.tolist() != at_most(50, 200, seed=2).tolist()
    assert at_most(200, 200, seed=1).tolist() == list(range(200))


def test_rows_without_blocks_are_their_own_and_others_must_be_as_many():
    assert blocks_of(None, 3).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="3 rows"):
        blocks_of([1, 2], 3)


def test_p_is_never_zero_and_counts_ties():
    assert exchange_p(5.0, np.arange(5.0)) == 1 / 6
    assert exchange_p(0.3, np.array([0.1 + 0.2, 0.1])) == 2 / 3  # 0.1 + 0.2 is 0.3 but for rounding
    assert exchange_p(0.0, np.zeros(9)) == 1


def test_wald_s_test_is_the_chi_squared_of_the_covariance():
    drawn = np.random.default_rng(1).multivariate_normal([0, 0], [[1, 0.5], [0.5, 2]], 200_000)
    value = np.array([1.0, 2.0])
    answer = stats.chi2.sf(value @ np.linalg.solve([[1, 0.5], [0.5, 2]], value), 2)
    assert wald_p(value, drawn) == pytest.approx(answer, rel=0.02)
    twice = np.column_stack([drawn, drawn.sum(axis=1)])  # a figure that says nothing new adds no degree of freedom
    assert wald_p(np.append(value, 3.0), twice) == pytest.approx(wald_p(value, drawn), rel=1e-6)


def test_figures_that_are_mostly_undefined_have_no_p_and_no_limits():
    drawn = np.array([[1.0], [np.nan], [np.nan]])
    assert math.isnan(wald_p([1.0], drawn)) and limits(drawn[:, 0]) == pytest.approx((math.nan,) * 2, nan_ok=True)
    assert math.isnan(wald_p([np.nan], np.ones((9, 1)))) and math.isnan(wald_p([1.0], np.ones((9, 1))))
    assert limits(np.array([*range(101), np.nan])) == pytest.approx((2.5, 97.5))
