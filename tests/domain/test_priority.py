"""The rule that gives a place."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.making import NOON
from triage.domain.order import RequestedPriority
from triage.domain.priority import Lane, Place, PriorityPolicy, clinical_place, moved_forward

waits = st.timedeltas(timedelta(seconds=1), timedelta(days=2))
policies = st.builds(PriorityPolicy, waits, waits, waits, waits)
places = st.builds(Place, st.sampled_from(Lane), st.integers(-99999, 99999).map(lambda s: NOON + timedelta(seconds=s)))


@pytest.mark.parametrize(
    ("priority", "lane", "minutes"),
    [
        (RequestedPriority.STAT, Lane.STAT, 15),
        (RequestedPriority.URGENT, Lane.EXPEDITED, 60),
        (RequestedPriority.ROUTINE, Lane.ORDINARY, 480),
    ],
)
def test_the_clinical_place_follows_the_order_alone(priority, lane, minutes):
    assert clinical_place(priority, NOON, PriorityPolicy()) == Place(lane, NOON + timedelta(minutes=minutes))


@settings(deadline=None, derandomize=True)
@given(places, policies)
def test_a_flag_never_moves_back_and_flagging_twice_changes_nothing(place, policy):
    once = moved_forward(place, NOON, policy)
    assert not once.is_behind(place)
    assert once.lane <= Lane.EXPEDITED
    assert moved_forward(once, NOON, policy) == once


@settings(deadline=None, derandomize=True)
@given(st.sampled_from(RequestedPriority), policies)
def test_a_flagged_study_stands_no_further_back_than_its_order_asks(priority, policy):
    clinical = clinical_place(priority, NOON, policy)
    assert not moved_forward(clinical, NOON, policy).is_behind(clinical)


@settings(deadline=None, derandomize=True)
@given(places, places)
def test_behind_means_a_higher_lane_or_a_later_instant(one, other):
    assert one.is_behind(other) == (one.lane > other.lane or one.read_by > other.read_by)
    assert not one.is_behind(one)
