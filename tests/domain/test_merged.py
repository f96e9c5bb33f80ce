"""The reading order: the merge of the three lanes, its promised share, and a weekend's backlog."""

from __future__ import annotations

import heapq
import random
from dataclasses import replace
from datetime import timedelta
from itertools import takewhile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.making import NOON
from triage.domain.order import RequestedPriority
from triage.domain.priority import Lane, PriorityPolicy, clinical_place, moved_forward
from triage.domain.worklist import AiState, ReadingState, WorklistEntry, merged

MINUTE = timedelta(minutes=1)


def make_entry(entry_id: int, lane: int, minutes: float = 0.0, eligible: float = 0.0) -> WorklistEntry:
    """An unread entry of *lane*, to be read by *minutes* after noon."""
    return WorklistEntry(
        entry_id, "north", None, entry_id, RequestedPriority.ROUTINE, AiState.NOT_FLAGGED, "", ReadingState.UNREAD,
        NOON + eligible * MINUTE, Lane(lane), NOON + minutes * MINUTE,
    )  # fmt: skip


def place_key(entry: WorklistEntry):
    return (entry.read_by, entry.eligible_at, entry.entry_id)


def in_lanes(entries):
    return [sorted((e for e in entries if e.lane is lane), key=place_key) for lane in Lane]


def reading_order(entries, *, now=NOON, k=1, since=0):
    return list(merged(*in_lanes(entries), now=now, expedited_per_ordinary=k, expedited_since_ordinary=since))


lists = st.lists(st.tuples(st.integers(0, 2), st.integers(-5, 5), st.integers(-9, 0)), max_size=24).map(
    lambda rows: [make_entry(number, *row) for number, row in enumerate(rows)]
)
shares = st.integers(0, 4)
pure = settings(deadline=None, derandomize=True, max_examples=150)


@pure
@given(lists, shares, shares)
def test_the_order_is_a_permutation_with_stat_first_and_each_lane_in_its_own_order(entries, k, since):
    order = reading_order(entries, k=k, since=since)
    assert sorted(e.entry_id for e in order) == sorted(e.entry_id for e in entries)
    stat, expedited, ordinary = in_lanes(entries)
    assert order[: len(stat)] == stat
    assert [e for e in order if e.lane is Lane.EXPEDITED] == expedited
    assert [e for e in order if e.lane is Lane.ORDINARY] == ordinary


@pure
@given(lists, shares, shares)
def test_an_overdue_head_of_the_ordinary_lane_gets_every_place_after_k(entries, k, since):
    _, expedited, ordinary = in_lanes(entries)
    rest = [e for e in reading_order(entries, k=k, since=since) if e.lane is not Lane.STAT]
    passed = since
    for entry in rest:
        head_is_overdue = bool(ordinary) and ordinary[0].read_by <= NOON
        if entry.lane is Lane.EXPEDITED:
            assert not head_is_overdue or passed < k, "an expedited study took a place promised to an overdue one"
            expedited.pop(0)
            passed += 1
        else:
            assert not expedited or (head_is_overdue and passed >= k), "an ordinary study took an expedited place"
            ordinary.pop(0)
            passed = 0


@pure
@given(lists, shares, shares)
def test_taken_one_at_a_time_with_the_counter_studies_come_in_the_order_of_the_page(entries, k, since):
    page, left, taken = reading_order(entries, k=k, since=since), list(entries), []
    while left:
        entry = reading_order(left, k=k, since=since)[0]
        taken.append(entry)
        left.remove(entry)
        since = 0 if entry.lane is Lane.ORDINARY else since + (entry.lane is Lane.EXPEDITED)
    assert taken == page


@pure
@given(lists, shares, st.integers(0, 24))
def test_the_first_rows_of_each_lane_are_enough_for_a_page(entries, k, limit):
    heads = [lane[:limit] for lane in in_lanes(entries)]
    page = list(merged(*heads, now=NOON, expedited_per_ordinary=k))[:limit]
    assert page == reading_order(entries, k=k)[:limit]


@pure
@given(lists)
def test_nothing_flagged_and_nothing_overdue_is_plain_clinical_order(entries):
    early = NOON - timedelta(days=1)
    assert reading_order(entries, now=early) == sorted(entries, key=lambda e: (e.lane, *place_key(e)))


@pure
@given(lists, st.integers(0, 23))
def test_a_flag_never_puts_its_own_study_later(entries, which):
    if not entries:
        return
    entry = entries[which % len(entries)]
    forward = moved_forward(entry.place, entry.eligible_at, PriorityPolicy())
    flagged = replace(entry, lane=forward.lane, read_by=forward.read_by)
    before = [e.entry_id for e in reading_order(entries)].index(entry.entry_id)
    after = [e.entry_id for e in reading_order([flagged if e is entry else e for e in entries])].index(entry.entry_id)
    # an overdue ordinary head keeps its own share; every other flagged study comes no later than before
    is_overdue_ordinary = entry.lane is Lane.ORDINARY and entry.read_by <= NOON
    assert after <= before or is_overdue_ordinary


# --- a weekend ---


def strict(stat, expedited, ordinary, **_):
    """The plain merge others use: lane by lane."""
    yield from (*stat, *expedited, *ordinary)


def first_come(stat, expedited, ordinary, **_):
    """The other plain merge: by arrival."""
    yield from heapq.merge(stat, expedited, ordinary, key=lambda e: (e.eligible_at, e.entry_id))


def weekend(order):
    """
    Three hundred ordinary studies wait since Friday; flags come at 1.2 of the reading capacity for 8 h, then at 0.8.

    One reader, 4 minutes a study. Returns ((when, entry), ...) as read, and how often an overdue ordinary head was
    passed by an expedited study although its share was due.
    """
    rng, policy, minutes_each = random.Random(7), PriorityPolicy(), 4
    waiting = [make_entry(n, Lane.ORDINARY, minutes=-n, eligible=-480 - n) for n in range(300)]
    arrivals, at, number = [], 0.0, 1000
    while at < 32 * 60:
        at += rng.expovariate((1.2 if at < 480 else 0.8) / minutes_each)
        plain = make_entry(number, Lane.ORDINARY, eligible=at)
        forward = moved_forward(
            clinical_place(RequestedPriority.ROUTINE, plain.eligible_at, policy), plain.eligible_at, policy
        )
        arrivals.append((at, replace(plain, lane=forward.lane, read_by=forward.read_by)))
        number += 1
    read, broken, since, minute = [], 0, 0, 0
    while waiting or arrivals:
        while arrivals and arrivals[0][0] <= minute:
            waiting.append(arrivals.pop(0)[1])
        if waiting:
            now = NOON + minute * MINUTE
            lanes = in_lanes(waiting)
            entry = next(order(*lanes, now=now, expedited_per_ordinary=1, expedited_since_ordinary=since))
            head = lanes[Lane.ORDINARY][0] if lanes[Lane.ORDINARY] else None
            if entry.lane is Lane.EXPEDITED:
                broken += head is not None and head.read_by <= now and since >= 1
                since += 1
            else:
                since = 0
            waiting.remove(entry)
            read.append((minute, entry))
        minute += minutes_each
    return read, broken


@pytest.fixture(scope="module")
def weekends():
    return {order.__name__: weekend(order) for order in (merged, strict, first_come)}


def waits_of(read, lane):
    return [(NOON + m * MINUTE - e.eligible_at) / MINUTE for m, e in read if e.lane is lane]


def test_a_weekends_backlog_never_loses_its_promised_share_and_is_read_to_the_last(weekends):
    read, broken = weekends["merged"]
    assert broken == 0
    assert sum(e.lane is Lane.ORDINARY for _, e in read) == 300
    assert [e.entry_id for _, e in read if e.lane is Lane.ORDINARY] == [
        e.entry_id for e in sorted((e for _, e in read if e.lane is Lane.ORDINARY), key=place_key)
    ]
    assert max(m for m, e in read if e.lane is Lane.ORDINARY) <= 300 * 2 * 4, (
        "the share is half of the reading capacity"
    )


def test_plain_merges_break_the_share_or_make_every_flag_wait(weekends):
    assert weekends["strict"][1] > 100
    assert list(takewhile(lambda e: e[1].lane is Lane.ORDINARY, weekends["first_come"][0]))[299:], "all 300 go first"
    flagged = {name: sorted(waits_of(read, Lane.EXPEDITED)) for name, (read, _) in weekends.items()}
    ordinary = {name: max(waits_of(read, Lane.ORDINARY)) for name, (read, _) in weekends.items()}
    median = {name: waits[len(waits) // 2] for name, waits in flagged.items()}
    assert median["strict"] < median["merged"] < median["first_come"]
    assert ordinary["first_come"] < ordinary["merged"] < ordinary["strict"]
