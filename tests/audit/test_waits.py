"""Waits of groups: by hand, against leaving studies out one at a time, and where too much is unread to say."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from triage.audit import waits
from triage.audit.waits import UNKNOWN

NAN = float("nan")
pure = settings(deadline=None, derandomize=True, max_examples=60)


def make_log(n=60, seed=1, unread=0.2):
    """Waits of exponential length, those still unread at the end of the log NaN, and how long each was followed."""
    rng = np.random.default_rng(seed)
    wait, followed = rng.exponential(10, size=n), rng.uniform(0, 10 / unread, size=n)
    return np.where(wait <= followed, wait, NAN), followed


def area_under_curve(wait, followed, horizon):
    """The restricted mean from its definition: the area under the curve of waiting, step by step."""
    known = np.where(np.isnan(wait), followed, wait)
    area, still, at = 0.0, 1.0, 0.0
    for t in np.unique(wait[~np.isnan(wait)]):
        if t >= horizon:
            break
        area += still * (t - at)
        still *= 1 - (wait == t).sum() / (known >= t).sum()
        at = t
    return area + still * (horizon - at)


def test_figures_of_waits_by_hand():
    found = waits.summary([1.0, 2, 3, 4, 10, 20, 30, 40, 50, 60], [100.0] * 10, horizon=25, limit=30)
    assert (found.studies, found.unread, found.mean, found.longest, found.longest_is_unread) == (10, 0, 22, 60, False)
    assert (found.median, found.p90, found.restricted_mean) == (10, 50, 14)  # (1 + 2 + 3 + 4 + 10 + 20 + 4 x 25) / 10
    assert found.past_limit == pytest.approx(0.3)  # a wait as long as the limit keeps it
    assert math.isnan(found.p99)  # of ten studies none lies beyond it


def test_who_still_waits_counts_with_the_time_waited():
    found = waits.summary([1.0, 2, NAN, 3], [9.0, 9, 2.5, 9], horizon=3, limit=2)
    assert (found.unread, found.longest, found.longest_is_unread, found.median) == (1, 3, False, 2)
    assert math.isnan(found.mean) and found.past_limit == pytest.approx(0.5)
    assert found.restricted_mean == pytest.approx(1 + 0.75 + 0.5)
    still = waits.summary([1.0, NAN], [9.0, 8], horizon=8)
    assert still.longest == 8 and still.longest_is_unread and still.median == 1 and math.isnan(still.past_limit)


def test_each_study_has_its_own_limit():
    assert waits.summary([5.0, 5, 5, 50], [99.0] * 4, horizon=9, limit=[4, 10, 10, 60]).past_limit == pytest.approx(
        0.25
    )
    with pytest.raises(ValueError, match="limit"):
        waits.summary([5.0], [9.0], horizon=9, limit=0)


def test_what_is_not_known_yet_is_not_given():
    found = waits.summary([NAN] * 4, [1.0, 2, 3, 4], horizon=10, limit=5)
    assert all(math.isnan(v) for v in (found.mean, found.restricted_mean, found.median, found.past_limit))
    assert (found.longest, found.longest_is_unread) == (4, True)
    assert waits.summary([NAN] * 4, [1.0, 2, 3, 6], horizon=4, limit=5).past_limit == 1
    none = waits.summary([], [], horizon=10, limit=5)
    figures = (none.mean, none.restricted_mean, none.median, none.longest, none.past_limit)
    assert none.studies == 0 and all(math.isnan(v) for v in figures) and len(none.curve.age) == 0


def test_with_nobody_unread_the_restricted_wait_is_the_shorter_of_wait_and_horizon():
    wait = np.random.default_rng(2).exponential(10, size=50)
    assert waits.restricted(wait, np.full(50, 99.0), 12).tolist() == np.minimum(wait, 12).tolist()
    # one more, unread and followed past the horizon, changes nothing for the others
    with_one = waits.restricted([*wait, NAN], np.full(51, 99.0), 12)
    assert with_one == pytest.approx([*np.minimum(wait, 12), 12])


@pure
@example(303, 3, False)
@given(st.integers(0, 10_000), st.integers(3, 60), st.booleans())
def test_the_mean_of_restricted_waits_is_the_area_under_the_curve(seed, n, in_whole_minutes):
    wait, followed = make_log(n, seed)
    if in_whole_minutes:
        wait, followed = np.floor(wait), np.floor(followed)
    found = waits.restricted(wait, followed, 8.0)
    if np.isnan(found).any():
        # the curve is not known to the horizon: the last that was seen of anyone is a study still unread
        seen = np.where(np.isnan(wait), followed, wait)
        assert seen.max() < 8 and np.isnan(wait[seen == seen.max()]).any() and np.isnan(found).all()
    else:
        assert found.mean() == pytest.approx(area_under_curve(wait, followed, 8.0))


def test_restricted_waits_are_what_leaving_each_study_out_says():
    wait, followed = make_log(4000)
    found = waits.restricted(wait, followed, 15.0)
    whole = area_under_curve(wait, followed, 15.0)
    for i in (0, 7, 100, int(np.flatnonzero(np.isnan(wait))[0])):
        without = area_under_curve(np.delete(wait, i), np.delete(followed, i), 15.0)
        assert found[i] == pytest.approx(4000 * whole - 3999 * without, abs=0.05)
    # and their spread is the error of the restricted mean
    means = [area_under_curve(*make_log(400, seed=s), 15.0) for s in range(200)]
    assert waits.restricted(*make_log(400), 15.0).std() / 20 == pytest.approx(np.std(means), rel=0.15)


def test_a_span_leaves_out_what_has_not_begun_and_counts_what_came_in_the_wrong_order():
    found = waits.span([0.0, NAN, 5, 6, 7], [3.0, 4, NAN, 5, 7], as_of=10)
    assert found.counts.tolist() == [True, False, True, False, True] and found.reversed == 1
    assert found.wait[[0, 4]].tolist() == [3, 0] and np.isnan(found.wait[[1, 2, 3]]).all()
    assert found.followed[[0, 2, 4]].tolist() == [10, 5, 3]
    with pytest.raises(ValueError, match="end of the log"):
        waits.span([0.0], [11.0], as_of=10)
    with pytest.raises(ValueError, match="instants"):
        waits.span([0.0, 1], [1.0], as_of=10)


def test_groups_show_what_was_missed_and_what_was_never_looked_at():
    ai, truth = [2, 0, 1, UNKNOWN, 0, 2], [2, 2, 2, 2, 0, UNKNOWN]
    found = {(g.kind, g.name): np.flatnonzero(g.rows).tolist() for g in waits.groups(ai, truth, "NPC", disease=2)}
    assert found == {
        ("all", "all studies"): [0, 1, 2, 3, 4, 5],
        ("AI class", "N"): [1, 4],
        ("AI class", "P"): [2],
        ("AI class", "C"): [0, 5],
        ("AI class", "not assessed"): [3],
        ("true class", "N"): [4],
        ("true class", "P"): [],
        ("true class", "C"): [0, 1, 2, 3],
        ("true class", "C missed"): [1, 2],
        ("true class", "C not assessed"): [3],
    }
    for wrong in ([3], [-2]):
        with pytest.raises(ValueError, match="class code"):
            waits.groups(wrong, [0], "NPC", disease=2)
    with pytest.raises(ValueError, match="classes"):
        waits.groups([0], [0, 1], "NPC", disease=2)
