"""Readers claim, release, report and override; nothing is handed out twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from tests.making import NOON, make_patient, make_study
from tests.postgres.ward import SITE
from triage.domain.errors import Conflict
from triage.domain.order import OrderAction, RequestedPriority
from triage.domain.priority import Lane, Place
from triage.domain.worklist import AiState, ReadingState

LATER = NOON + timedelta(days=1)


def seed(ward, count):
    """Many entries at once, two in three ordinary, straight into the tables: only reading is looked at here."""
    with ward.book.pool.connection() as db:
        db.execute(
            """
            WITH s AS (
                INSERT INTO study (site, study_instance_uid, archive, first_seen_at, last_changed_at)
                SELECT 'north', '1.2.' || n, 'pacs', %(noon)s, %(noon)s FROM generate_series(1, %(count)s) n
                RETURNING id)
            INSERT INTO worklist_entry (site, study_id, requested_priority, ai_state, reading_state, eligible_at, lane,
                                        read_by)
            SELECT 'north', id, 'routine', 'not-flagged', 'unread', %(noon)s, CASE WHEN id %% 3 = 0 THEN 1 ELSE 2 END,
                   %(noon)s + id * interval '1 minute' FROM s
            """,
            {"noon": NOON, "count": count},
        )


def test_no_study_is_handed_to_two_readers(ward):
    seed(ward, 100)

    def read(reader):
        taken = []
        while (entry := ward.book.next_study(SITE, reader, at=LATER)) is not None:
            taken.append(entry.entry_id)
        return taken

    with ThreadPoolExecutor(2) as readers:
        one, other = readers.map(read, ("dr.a", "dr.b"))
    assert len(one) + len(other) == len({*one, *other}) == 100
    assert one and other


@pytest.mark.parametrize("at", [NOON, NOON + timedelta(minutes=25), LATER])
def test_next_study_after_next_study_gives_the_order_of_the_page(ward, at):
    seed(ward, 30)
    page = [line.entry.entry_id for line in ward.book.page(SITE, limit=100, at=at)]
    assert [ward.book.next_study(SITE, "dr.a", at=at).entry_id for _ in range(30)] == page
    assert ward.book.next_study(SITE, "dr.a", at=at) is None


def test_pages_put_together_are_the_whole_list(ward):
    seed(ward, 30)
    whole = [line.entry.entry_id for line in ward.book.page(SITE, limit=100, at=LATER)]
    parts = [line.entry.entry_id for n in range(0, 30, 7) for line in ward.book.page(SITE, limit=7, offset=n, at=LATER)]
    assert parts == whole


def test_a_claimed_study_cannot_be_claimed_again(ward):
    entry = ward.has()
    assert ward.book.claim(entry.entry_id, "dr.a").claimed_by == "dr.a"
    with pytest.raises(Conflict, match=r"being read by dr\.a"):
        ward.book.claim(entry.entry_id, "dr.b")
    assert ward.book.next_study(SITE, "dr.b", at=NOON) is None


def test_two_readers_who_claim_the_same_study_at_once_get_one_conflict(ward):
    entry = ward.has()

    def claim(reader):
        try:
            return ward.book.claim(entry.entry_id, reader).claimed_by
        except Conflict:
            return None

    with ThreadPoolExecutor(4) as readers:
        winners = [won for won in readers.map(claim, "abcd") if won]
    assert winners == [ward.entry(entry.entry_id).claimed_by]


def test_an_order_without_images_cannot_be_claimed_or_placed(ward):
    ward.orders()
    waiting = ward.one("SELECT id FROM worklist_entry")
    with pytest.raises(Conflict):
        ward.book.claim(waiting, "dr.a")
    with pytest.raises(Conflict):
        ward.book.override(waiting, "dr.a", Place(Lane.STAT, NOON), "ward round")
    assert [line.entry.entry_id for line in ward.book.awaiting(SITE)] == [waiting]


def test_nothing_can_be_done_to_an_entry_that_does_not_exist(ward):
    for act in (
        lambda: ward.book.claim(9, "dr.a"),
        lambda: ward.book.release(9, "dr.a"),
        lambda: ward.book.report(9, "x", None),
    ):
        with pytest.raises(Conflict):
            act()


def test_only_the_holder_releases_or_reports_a_claimed_study(ward):
    entry = ward.has()
    ward.book.claim(entry.entry_id, "dr.a")
    for act in (
        lambda: ward.book.release(entry.entry_id, "dr.b"),
        lambda: ward.book.report(entry.entry_id, "dr.b", None),
    ):
        with pytest.raises(Conflict, match=r"claimed by dr\.a"):
            act()
    released = ward.book.release(entry.entry_id, "dr.a")
    assert (released.reading_state, released.place, released.claimed_by) == (ReadingState.UNREAD, entry.place, "")


@pytest.mark.parametrize("state", ["unread", "reported", "cancelled"])
def test_only_a_claim_can_be_released(ward, state):
    ward.orders()
    study = make_study()
    ward.sees(study)
    entry = ward.entry_of(study)
    if state == "reported":
        ward.book.report(entry.entry_id, "dr.a", None)
    if state == "cancelled":
        ward.orders(OrderAction.CANCEL)
    with pytest.raises(Conflict, match=state):
        ward.book.release(entry.entry_id, "dr.a")
    assert ward.entry(entry.entry_id).reading_state == state


def test_a_claimed_study_stands_still_and_catches_up_when_released(ward):
    entry = ward.has()
    (lease,) = ward.lease()
    ward.book.claim(entry.entry_id, "dr.a")
    ward.flags(lease)
    assert ward.entry(entry.entry_id).place == entry.place
    released = ward.book.release(entry.entry_id, "dr.a")
    assert (released.lane, released.placed_because, released.ai_state) == (Lane.EXPEDITED, "flagged", AiState.FLAGGED)
    assert ward.one("SELECT count(*) FROM move WHERE actor = 'ai'") == 1


@pytest.mark.parametrize("priority", RequestedPriority)
def test_an_order_changed_while_claimed_counts_when_released(ward, priority):
    ward.orders()
    study = make_study()
    ward.sees(study)
    entry = ward.entry_of(study)
    ward.book.claim(entry.entry_id, "dr.a")
    ward.orders(OrderAction.CHANGE, requested_priority=priority)
    assert ward.entry_of(study).place == entry.place
    released = ward.book.release(entry.entry_id, "dr.a")
    assert released.place == Place(
        Lane(list(RequestedPriority).index(priority)), NOON + ward.book.rules.policy.wait_for(priority)
    )


def test_releasing_a_study_nothing_happened_to_moves_nothing(ward):
    entry = ward.has()
    (lease,) = ward.lease()
    ward.flags(lease)
    before = ward.one("SELECT count(*) FROM move")
    ward.book.claim(entry.entry_id, "dr.a")
    ward.book.release(entry.entry_id, "dr.a")
    assert ward.one("SELECT count(*) FROM move") == before


def test_a_person_moves_a_study_either_way_and_the_ai_does_not_move_it_after(ward):
    entry = ward.has()
    back = Place(Lane.ORDINARY, NOON + timedelta(days=2))
    moved = ward.book.override(entry.entry_id, "dr.a", back, "will be repeated")
    assert (moved.place, moved.placed_because) == (back, "override")
    (lease,) = ward.lease()
    ward.flags(lease)
    assert ward.entry(entry.entry_id).place == back
    first = ward.book.override(entry.entry_id, "dr.a", Place(Lane.STAT, NOON), "ward round")
    assert first.lane is Lane.STAT
    assert [m["actor"] for m in ward.rows("SELECT actor FROM move ORDER BY id")] == ["archive", "dr.a", "dr.a"]


def test_an_override_yields_only_to_an_order_that_becomes_more_urgent(ward):
    ward.orders(requested_priority=RequestedPriority.URGENT)
    study = make_study()
    ward.sees(study)
    entry = ward.entry_of(study)
    back = Place(Lane.ORDINARY, NOON + timedelta(days=2))
    ward.book.override(entry.entry_id, "dr.a", back, "after the ward round")
    ward.orders(OrderAction.CHANGE, requested_priority=RequestedPriority.ROUTINE)
    assert ward.entry_of(study).place == back
    ward.orders(OrderAction.CHANGE, requested_priority=RequestedPriority.STAT)
    assert ward.entry_of(study).lane is Lane.STAT


def test_a_claimed_or_reported_study_is_not_overridden(ward):
    entry = ward.has()
    ward.book.claim(entry.entry_id, "dr.a")
    with pytest.raises(Conflict):
        ward.book.override(entry.entry_id, "dr.b", Place(Lane.STAT, NOON), "x")


def test_the_radiologists_label_says_whether_the_ai_was_seen(ward):
    blind, seen = (ward.has(patient=make_patient(patient_id=p)) for p in ("P-1", "P-2"))
    ward.book.report(blind.entry_id, "dr.a", "normal")
    for lease in ward.lease(2):
        ward.flags(lease)
    ward.book.report(seen.entry_id, "dr.a", "covid")
    assert ward.rows("SELECT class, saw_the_ai FROM label ORDER BY id") == [
        {"class": "normal", "saw_the_ai": False},
        {"class": "covid", "saw_the_ai": True},
    ]


def test_claims_by_name_count_against_the_share(ward):
    seed(ward, 12)
    expedited = [r["id"] for r in ward.rows("SELECT id FROM worklist_entry WHERE lane = 1 ORDER BY read_by")]
    ward.book.claim(expedited[0], "dr.a")
    assert ward.book.next_study(SITE, "dr.b", at=LATER).lane is Lane.ORDINARY
    assert ward.book.next_study(SITE, "dr.b", at=LATER).lane is Lane.EXPEDITED
    assert ward.book.next_study(SITE, "dr.b", at=LATER).lane is Lane.ORDINARY
