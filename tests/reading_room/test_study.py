"""Who meets which case when, and where what happened leaves a reader."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest

from tests.reading_room.making import CERTAIN, NOON, read_all
from triage.domain.finding import ChestClass
from triage.reading_room.standing import (
    FINAL_AFTER,
    Event,
    Kind,
    Phase,
    Reading,
    last_readings,
    shortest_rest,
    standing,
)
from triage.reading_room.study import Modality, plan

DAY = timedelta(days=1)
WASHOUT = 28 * DAY
MINUTE = timedelta(minutes=1)


def classes(cases: int) -> dict[str, str]:
    return {f"c{number:03}": ("normal", "pneumonia", "covid")[number % 3] for number in range(cases)}


def readers(count: int) -> list[str]:
    return [f"R{number:02}" for number in range(1, count + 1)]


# --- the protocol ---


@pytest.mark.parametrize(("cases", "count"), [(1, 1), (2, 3), (7, 4), (60, 8), (61, 5)])
def test_each_reader_meets_each_case_once_in_each_modality_and_once_in_each_session(cases: int, count: int) -> None:
    for order in plan(classes(cases), readers(count), 1).values():
        assert len(order) == 2 * cases
        for by in ("modality", "session"):
            met = Counter((showing.case_id, getattr(showing, by)) for showing in order)
            assert len(met) == 2 * cases and set(met.values()) == {1}
        assert [showing.session for showing in order] == [1] * cases + [2] * cases


@pytest.mark.parametrize(("count", "begin_without"), [(2, {1}), (3, {1, 2}), (4, {2}), (8, {4}), (9, {4, 5})])
def test_half_of_the_readers_begin_without_the_model(count: int, begin_without: set[int]) -> None:
    for seed in range(5):
        orders = plan(classes(12), readers(count), seed)
        assert sum(order[0].modality is Modality.WITHOUT for order in orders.values()) in begin_without


def test_in_either_session_half_of_the_readers_read_each_case_with_the_model() -> None:
    orders = plan(classes(30), readers(8), 5)
    for session in (1, 2):
        met = Counter(
            showing.case_id
            for order in orders.values()
            for showing in order
            if showing.session == session and showing.modality is Modality.WITH
        )
        assert len(met) == 30 and set(met.values()) == {4}


def test_a_session_holds_one_block_in_one_modality_then_the_other_block_in_the_other() -> None:
    for order in plan(classes(10), readers(4), 2).values():
        parts = [order[:5], order[5:10], order[10:15], order[15:]]
        assert all(len({showing.modality for showing in part}) == 1 for part in parts)
        first, second, third, fourth = (part[0].modality for part in parts)
        assert first is fourth and second is third and first is not second
        cases = [{showing.case_id for showing in part} for part in parts]
        assert cases[0] == cases[2] and cases[1] == cases[3] and not cases[0] & cases[1]


def test_the_blocks_part_each_class_evenly() -> None:
    truth = {f"c{number}": "covid" if number < 7 else "normal" for number in range(31)}
    order = plan(truth, ["R01"], 9)["R01"]
    block = Counter(truth[showing.case_id] for showing in order[:15])
    assert abs(block["covid"] - 3.5) <= 1 and abs(block["normal"] - 12) <= 1


def test_every_reader_and_session_has_an_order_of_its_own() -> None:
    orders = plan(classes(40), readers(8), 4)
    starts = {tuple(showing.case_id for showing in order[:20]) for order in orders.values()}
    again = {tuple(showing.case_id for showing in order[40:60]) for order in orders.values()}
    assert len(starts | again) == 16


def test_the_seed_alone_decides() -> None:
    assert plan(classes(20), readers(3), 7) == plan(dict(reversed(classes(20).items())), readers(3), 7)
    assert plan(classes(20), readers(3), 7) != plan(classes(20), readers(3), 8)


def test_without_a_model_there_is_one_session() -> None:
    for order in plan(classes(9), readers(2), 1, is_crossed=False).values():
        assert {(showing.session, showing.modality) for showing in order} == {(1, Modality.WITHOUT)}
        assert {showing.case_id for showing in order} == set(classes(9))


# --- where a reader stands ---

ORDER = plan(classes(2), ["R01"], 1)["R01"]
ALL = read_all(ORDER)
"""0 opened, 1 read, 2 opened, 3 read, 4 closed, 5 opened ... 8 read, 9 closed."""


def phase(events: list[Event], after: timedelta = timedelta(0)) -> Phase:
    return standing(ORDER, events, WASHOUT, events[-1].at + after if events else NOON).phase


def test_the_journey_of_a_reader() -> None:
    assert [phase(ALL[:happened]) for happened in range(len(ALL) + 1)] == [
        "ready", "open", "given", "open", "given",
        "washout", "open", "given", "open", "given", "finished",
    ]  # fmt: skip


def test_the_next_session_opens_when_the_washout_is_over_and_not_a_moment_before() -> None:
    closed = ALL[:5]
    assert phase(closed, WASHOUT - timedelta(microseconds=1)) is Phase.WASHOUT
    assert phase(closed, WASHOUT) is Phase.READY
    assert standing(ORDER, closed, WASHOUT, closed[-1].at).opens_at == closed[-1].at + WASHOUT


def test_a_session_nobody_ends_ends_by_itself() -> None:
    given = ALL[:4]
    assert phase(given, FINAL_AFTER - MINUTE) is Phase.GIVEN
    assert phase(given, FINAL_AFTER) is Phase.WASHOUT
    assert phase(given, FINAL_AFTER + WASHOUT) is Phase.READY
    assert phase(ALL[:-1], FINAL_AFTER) is Phase.FINISHED


def test_within_a_session_a_reading_waits_for_its_next_case_however_long() -> None:
    assert phase(ALL[:2], 400 * DAY) is Phase.GIVEN


def test_without_washout_the_next_session_opens_at_once() -> None:
    assert standing(ORDER, ALL[:5], timedelta(0), ALL[4].at).phase is Phase.READY


def test_a_paused_case_is_not_in_view() -> None:
    paused = [*ALL[:1], Event(Kind.PAUSED, NOON, 0)]
    assert not standing(ORDER, paused, WASHOUT, NOON).has_case_in_view
    assert standing(ORDER, [*paused, Event(Kind.RESUMED, NOON, 0)], WASHOUT, NOON).has_case_in_view
    assert not standing(ORDER, ALL[:5], WASHOUT, NOON).has_case_in_view


def test_the_last_word_on_a_case_counts() -> None:
    other = Reading(ChestClass.NORMAL, (90, 10, 0))
    events = [*ALL[:2], Event(Kind.READ, NOON + 2 * MINUTE, 0, other)]
    assert last_readings(events) == {0: other}
    assert standing(ORDER, events, WASHOUT, NOON).reading == other
    assert last_readings(ALL) == dict.fromkeys(range(4), CERTAIN)


def test_the_shortest_rest_is_from_the_last_look_to_the_next() -> None:
    # of two cases met in two orders: the one met later, until the session was closed, rests least
    rest = shortest_rest(ORDER, ALL)
    assert rest is not None and WASHOUT <= rest <= WASHOUT + 2 * MINUTE
    assert shortest_rest(ORDER, ALL[:4]) is None
    early = shortest_rest(ORDER, read_all(ORDER, washout=3 * DAY))
    assert early is not None and early < 4 * DAY
