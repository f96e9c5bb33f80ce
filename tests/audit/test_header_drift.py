"""The table of columns: the right test for each, p adjusted once for all, and what each row says of itself."""

import math

import numpy as np
import pytest
from scipy import stats

from triage.audit.header_drift import benjamini_hochberg, drift
from triage.audit.states import State
from triage.audit.two_samples import categories, numbers


def make_columns(n=1500, m=1500, seed=1, exposure=0.0, portable=0.3, unknown=0.0):
    rng = np.random.default_rng(seed)
    views = np.array(["AP", "PA"], dtype=object)

    def view(size, share):
        found = views[(rng.random(size) > share).astype(int)]
        found[rng.random(size) < (unknown if size == m and share == portable else 0)] = None
        return found

    rows = rng.integers(5, size=n + m) * 512.0
    return (
        {"exposure": (rng.normal(size=n), rng.normal(size=m) + exposure), "rows": (rows[:n], rows[n:])},
        {"view": (view(n, 0.3), view(m, portable)), "maker": (rng.integers(4, size=n), rng.integers(4, size=m))},
    )


def test_each_column_has_its_own_test_in_the_order_given():
    of_numbers, of_categories = make_columns()
    rows = drift(of_numbers, of_categories)
    assert [row.name for row in rows] == ["exposure", "rows", "view", "maker"]
    assert rows[0].found == numbers(*of_numbers["exposure"]) and rows[2].found == categories(*of_categories["view"])
    assert [row.p for row in rows] == [row.found.p for row in rows]
    assert [row.adjusted_p for row in rows] == pytest.approx(stats.false_discovery_control([row.p for row in rows]))


def test_columns_that_changed_are_to_be_watched_and_the_others_are_not():
    rows = drift(*make_columns(exposure=0.5, portable=0.6))
    assert [row.state for row in rows] == [State.WATCH, State.IN_CONTROL, State.WATCH, State.IN_CONTROL]
    assert rows[0].effect == pytest.approx(0.2, abs=0.07) and rows[2].effect == pytest.approx(0.3, abs=0.07)


def test_a_change_too_small_to_matter_is_not_watched_however_sure():
    (exposure, *_) = drift(*make_columns(40_000, 40_000, exposure=0.1))
    assert exposure.adjusted_p < 1e-6 and exposure.effect < 0.06 and exposure.state is State.IN_CONTROL
    (strict, *_) = drift(*make_columns(40_000, 40_000, exposure=0.1), margin=0.02)
    assert strict.state is State.WATCH


def test_a_window_of_five_is_never_in_control():
    rows = drift(*make_columns(m=5, n=5, exposure=9, portable=1))
    assert {row.state for row in rows} == {State.INSUFFICIENT} and all(math.isnan(row.adjusted_p) for row in rows)


def test_a_window_too_small_to_see_the_margin_is_insufficient_not_in_control():
    rows = drift(*make_columns(m=60, n=60))
    assert {row.state for row in rows} == {State.INSUFFICIENT} and all(row.detectable > 0.1 for row in rows)


def test_missing_values_are_counted_and_their_change_is_found():
    rows = drift(*make_columns(unknown=0.3, portable=0.31))
    assert rows[2].missing == (0, pytest.approx(0.3, abs=0.06)) and rows[2].state is State.WATCH
    assert rows[0].missing == rows[3].missing == (0, 0)
    gaps = np.array([1.0, np.nan] * 50)
    (row,) = drift({"kvp": (gaps, gaps)}, {})
    assert row.missing == (0.5, 0.5)


def test_without_drift_a_table_has_a_false_row_as_rarely_as_it_says():
    def columns(seed):
        rng = np.random.default_rng(seed)
        both = (rng.normal(size=150) + rng.normal(size=(8, 150)) for _ in range(2))  # columns of one exam are alike
        return {str(i): pair for i, pair in enumerate(zip(*both, strict=True))}

    any_found = [any(row.adjusted_p <= 0.05 for row in drift(columns(seed), {})) for seed in range(150)]
    assert np.mean(any_found) <= 0.1


def test_exams_of_a_day_count_as_one():
    def made(blocks, seed):
        rng = np.random.default_rng((blocks, seed))
        day = np.repeat(np.arange(blocks), 10)
        return day, rng.normal(size=blocks)[day] + 0.3 * rng.normal(size=len(day))

    naive, found = [], []
    for seed in range(40):
        (days, x), (now, y) = made(30, seed), made(10, seed)
        for p, blocks in ((naive, None), (found, (days, now))):
            p.append(drift({"mean": (x, y)}, {}, blocks=blocks, draws=99, seed=seed)[0].p <= 0.05)
    assert np.mean(found) <= 0.15 < 0.5 < np.mean(naive)


def test_adjusting_keeps_what_could_not_be_judged_and_counts_it():
    found = benjamini_hochberg([0.01, np.nan, 0.02, 0.5])
    assert found == pytest.approx([0.04, np.nan, 0.04, 2 / 3], nan_ok=True)
    assert benjamini_hochberg([]).tolist() == [] and drift({}, {}) == ()


def test_tables_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="stands among"):
        drift({"a": ([1.0], [2.0])}, {"a": (["x"], ["y"])})
    with pytest.raises(ValueError, match="length"):
        drift({"a": ([1.0], [2.0]), "b": ([1.0, 2.0], [2.0])}, {})
