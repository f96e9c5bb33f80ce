"""The tables of states guard themselves."""

from __future__ import annotations

from enum import StrEnum

import pytest

from triage.domain.errors import Conflict
from triage.domain.order import ORDER_TRANSITIONS, STATUS_AFTER, OrderAction, OrderStatus, RequestedPriority
from triage.domain.priority import LANE_OF, Lane
from triage.domain.worklist import (
    AI_TRANSITIONS,
    READING_TRANSITIONS,
    AiState,
    ReadingState,
    check_ai_move,
    check_reading_move,
)

TABLES = [
    pytest.param(AI_TRANSITIONS, AiState, AiState.AWAITING_IMAGES, {AiState.SUPERSEDED}, id="ai"),
    pytest.param(READING_TRANSITIONS, ReadingState, ReadingState.UNREAD, set(), id="reading"),
    pytest.param(ORDER_TRANSITIONS, OrderStatus, OrderStatus.ACTIVE, set(), id="order"),
]
"""Each table, its states, where an entry begins, and the states that are meant to be left never."""


@pytest.mark.parametrize(("table", "states", "first", "absorbing"), TABLES)
def test_every_state_has_a_row_and_only_the_listed_ones_are_final(table, states, first, absorbing):
    assert set(table) == set(states)
    assert {state for state, after in table.items() if not after} == absorbing
    assert all(state not in after for state, after in table.items()), "staying is no move"


@pytest.mark.parametrize(("table", "states", "first", "absorbing"), TABLES)
def test_every_state_can_be_reached_from_the_first(table, states, first, absorbing):
    reached: set[StrEnum] = {first}
    while new := {after for state in reached for after in table[state]} - reached:
        reached |= new
    assert reached == set(states)


@pytest.mark.parametrize("old", AiState)
@pytest.mark.parametrize("new", AiState)
def test_an_ai_move_outside_the_table_is_a_conflict(old, new):
    if new in AI_TRANSITIONS[old]:
        check_ai_move(old, new)
    else:
        with pytest.raises(Conflict, match=f"{old} cannot become {new}"):
            check_ai_move(old, new)


@pytest.mark.parametrize("old", ReadingState)
@pytest.mark.parametrize("new", ReadingState)
def test_a_reading_move_outside_the_table_is_a_conflict(old, new):
    if new in READING_TRANSITIONS[old]:
        check_reading_move(old, new)
    else:
        with pytest.raises(Conflict, match=f"{old} cannot become {new}"):
            check_reading_move(old, new)


def test_a_result_comes_only_from_an_entry_that_is_being_assessed():
    results = {AiState.FLAGGED, AiState.NOT_FLAGGED, AiState.NOT_ELIGIBLE, AiState.FAILED}
    assert {old for old, after in AI_TRANSITIONS.items() if after & results} == {AiState.ASSESSING}
    given_up = {old for old, after in AI_TRANSITIONS.items() if AiState.TIMED_OUT in after}
    assert given_up == {AiState.ASSESSING, AiState.AWAITING_IMAGES}


def test_every_action_and_priority_has_its_row():
    assert set(STATUS_AFTER) == set(OrderAction)
    assert set(LANE_OF) == set(RequestedPriority)
    assert set(LANE_OF.values()) == set(Lane)
