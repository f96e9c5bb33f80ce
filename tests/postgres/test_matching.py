"""Orders and studies meet in the database, whichever comes first, and every study has one entry."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from itertools import permutations
from threading import Barrier

import pytest

from tests.making import NOON, make_event, make_order, make_patient, make_study
from tests.postgres.ward import SITE, snapshot
from triage.domain.order import Code, OrderAction, RequestedPriority
from triage.domain.priority import Lane
from triage.domain.worklist import AiState, ReadingState

STATUS_NEWS = ("cancel", "complete", "hold", "release")
LIVE = "SELECT count(*) FROM worklist_entry WHERE reading_state <> 'cancelled' AND ai_state <> 'superseded'"


def met(ward, study):
    return ward.one("SELECT match_outcome FROM study WHERE study_instance_uid = %s", study.study_instance_uid)


@pytest.mark.parametrize("priority", RequestedPriority)
@pytest.mark.parametrize("order_first", [True, False])
def test_whichever_comes_first_the_study_ends_matched_and_in_the_place_of_its_order(ward, order_first, priority):
    study = make_study()
    steps = [lambda: ward.orders(requested_priority=priority), lambda: ward.sees(study)]
    for step in steps if order_first else reversed(steps):
        step()
    entry = ward.entry_of(study)
    lane = {"stat": Lane.STAT, "urgent": Lane.EXPEDITED, "routine": Lane.ORDINARY}[priority]
    assert met(ward, study) == "accession"
    assert entry.order_id is not None
    assert (entry.lane, entry.requested_priority, entry.eligible_at) == (lane, priority, NOON)
    assert entry.read_by == NOON + ward.book.rules.policy.wait_for(priority)
    assert (entry.ai_state, entry.reading_state) == (AiState.QUEUED, ReadingState.UNREAD)
    assert ward.one(LIVE) == 1


EVENTS = {
    "order": lambda ward, study: ward.orders(),
    "stat": lambda ward, study: ward.orders(OrderAction.CHANGE, requested_priority=RequestedPriority.STAT),
    "study": lambda ward, study: ward.sees(study, 1),
    "late": lambda ward, study: ward.sees(study, 2),
}


@pytest.mark.parametrize("names", list(permutations(EVENTS)), ids=" ".join)
def test_every_order_of_arrival_ends_in_the_same_matched_state_and_place(ward, names):
    study = make_study()
    for name in names:
        EVENTS[name](ward, study)
    entry = ward.entry_of(study)
    assert (entry.lane, entry.requested_priority) == (Lane.STAT, RequestedPriority.STAT)
    assert (entry.ai_state, met(ward, study), ward.one(LIVE)) == (AiState.QUEUED, "accession", 1)
    assert ward.one("SELECT count(*) FROM instance") == 2


def test_a_late_order_joins_a_waiting_study_and_the_entry_that_waited_for_it_is_superseded(ward):
    study = make_study(accession_number="ACC-7")
    ward.sees(study)
    own = ward.entry_of(study)
    ward.orders(accession_number="", scheduled_at=None)  # known by its filler number only
    ward.orders(OrderAction.CHANGE, accession_number="ACC-7", requested_priority=RequestedPriority.URGENT)
    joined = ward.entry_of(study)
    assert (joined.entry_id, joined.lane) == (own.entry_id, Lane.EXPEDITED)
    (waited,) = ward.rows("SELECT * FROM worklist_entry WHERE id <> %s", own.entry_id)
    assert (waited["ai_state"], waited["reading_state"]) == ("superseded", "cancelled")


def test_an_order_reported_before_its_images_matched_closes_the_study_it_meets(ward):
    study = make_study(accession_number="ACC-7")
    ward.sees(study)
    ward.orders(accession_number="", scheduled_at=None)
    waiting = ward.one("SELECT id FROM worklist_entry WHERE study_id IS NULL")
    ward.book.report(waiting, "dr.b", None)
    assert ward.orders(OrderAction.CHANGE, accession_number="ACC-7").outcome == "applied"
    assert ward.entry_of(study).reading_state is ReadingState.REPORTED


def test_a_cancelled_order_matches_nothing_and_the_study_is_still_read(ward):
    ward.orders()
    ward.orders(OrderAction.CANCEL)
    study = make_study()
    ward.sees(study)
    entry = ward.entry_of(study)
    assert (met(ward, study), entry.order_id) == ("no-order", None)
    assert (entry.lane, entry.reading_state) == (Lane.ORDINARY, ReadingState.UNREAD)


def test_an_order_cancelled_by_mistake_comes_back_and_meets_the_study_that_came_meanwhile(ward):
    ward.orders(requested_priority=RequestedPriority.STAT)
    ward.orders(OrderAction.CANCEL)
    study = make_study()
    ward.sees(study)
    ward.orders(OrderAction.CHANGE, requested_priority=RequestedPriority.STAT)
    assert (met(ward, study), ward.entry_of(study).lane, ward.one(LIVE)) == ("accession", Lane.STAT, 1)


@pytest.mark.parametrize("end", [OrderAction.CANCEL, OrderAction.COMPLETE])
@pytest.mark.parametrize("is_changed", [False, True])
@pytest.mark.parametrize("priority", RequestedPriority)
def test_an_order_placed_again_after_its_end_is_alive_again_with_its_new_content(ward, end, is_changed, priority):
    study = make_study()
    ward.orders()
    if is_changed:
        ward.orders(OrderAction.CHANGE, requested_priority=RequestedPriority.URGENT)
    ward.sees(study)
    ward.orders(end)
    assert ward.orders(OrderAction.PLACE, requested_priority=priority).outcome == "applied"
    entry = ward.entry_of(study)
    assert ward.one("SELECT status FROM imaging_order") == "active"
    assert (entry.ai_state, entry.reading_state) == (AiState.QUEUED, ReadingState.UNREAD)
    assert (entry.requested_priority, ward.one(LIVE)) == (priority, 1)
    assert entry.lane == {"stat": Lane.STAT, "urgent": Lane.EXPEDITED, "routine": Lane.ORDINARY}[priority]


def test_a_repeat_of_the_placing_message_after_a_cancel_does_not_revive_the_order(ward):
    ward.hears(make_event(), control_id="X1")
    ward.orders(OrderAction.CANCEL)
    assert not ward.hears(make_event(), control_id="X1").is_new
    assert ward.one("SELECT status FROM imaging_order") == "cancelled"


def test_an_entry_that_joined_another_stays_closed_when_the_order_is_placed_again(ward):
    ward.sees(make_study(accession_number="ACC-7"))
    ward.orders(accession_number="", scheduled_at=None)
    ward.orders(OrderAction.CHANGE, accession_number="ACC-7")
    ward.orders(OrderAction.CANCEL, accession_number="ACC-7")
    ward.orders(OrderAction.PLACE, accession_number="ACC-7")
    assert ward.one(LIVE) == 1


NAMED = {
    "a chest radiograph": make_order().procedure,
    "a knee": (Code("36565-0", "LN", "XR Knee 2 Views"),),
    "nothing": (),
}
UNKNOWN = {
    ("cancel", "a chest radiograph"): ("ignored", "cancel of an order that was never placed"),
    ("complete", "a chest radiograph"): ("ignored", "complete of an order that was never placed"),
    ("hold", "a chest radiograph"): ("parked", "hold of an order that was never placed"),
    ("release", "a chest radiograph"): ("parked", "release of an order that was never placed"),
    **{(action, "a knee"): ("ignored", "the procedure is not a chest radiograph") for action in STATUS_NEWS},
    **{(action, "nothing"): ("ignored", "the order is not known here") for action in STATUS_NEWS},
}


@pytest.mark.parametrize(("news", "end"), UNKNOWN.items(), ids=str)
def test_the_status_of_an_order_never_placed_here_stops_no_feed(ward, news, end):
    action, named = news
    kept = ward.orders(OrderAction(action), procedure=NAMED[named])
    assert (kept.outcome, kept.reason) == end
    assert ward.one("SELECT count(*) FROM imaging_order") == 0


@pytest.mark.parametrize("was_placed", [True, False], ids=["after-it", "before-it"])
def test_a_late_placing_message_does_not_undo_a_change(ward, was_placed):
    if was_placed:
        ward.orders(requested_priority=RequestedPriority.ROUTINE)
    ward.orders(OrderAction.CHANGE, requested_priority=RequestedPriority.STAT)
    late = ward.orders(OrderAction.PLACE, requested_priority=RequestedPriority.ROUTINE)
    assert (late.outcome, late.reason) == ("unchanged", "the order was changed since")
    assert ward.one("SELECT requested_priority FROM imaging_order") == "stat"
    assert ward.one("SELECT requested_priority FROM worklist_entry") == "stat"


def test_a_repeat_of_the_same_content_after_a_change_needs_no_reason(ward):
    ward.orders()
    ward.orders(OrderAction.CHANGE, requested_priority=RequestedPriority.STAT)
    same = ward.orders(OrderAction.PLACE, requested_priority=RequestedPriority.STAT)
    assert (same.outcome, same.reason) == ("unchanged", "")


def test_an_order_placed_again_with_other_content_is_taken_over_while_nobody_changed_it(ward):
    ward.orders(requested_priority=RequestedPriority.ROUTINE)
    again = ward.orders(OrderAction.PLACE, requested_priority=RequestedPriority.URGENT)
    assert again.outcome == "applied"
    assert ward.one("SELECT requested_priority FROM worklist_entry") == "urgent"


def test_an_order_revived_before_any_image_came_waits_for_images_again(ward):
    study = make_study()
    ward.orders()
    ward.sees(study, 0)
    ward.orders(OrderAction.CANCEL)
    ward.orders(OrderAction.CHANGE)
    assert ward.entry_of(study).ai_state is AiState.AWAITING_IMAGES
    ward.has(patient=make_patient(patient_id="P-2"))
    assert len(ward.lease(5)) == 1
    ward.sees(study, 1)
    assert ward.entry_of(study).ai_state is AiState.QUEUED


def test_two_orders_that_fit_are_shown_and_never_guessed(ward):
    ward.orders(issuer_of_accession="RIS", placer_order_number="PL-1", filler_order_number="FI-1")
    ward.orders(issuer_of_accession="EHR", placer_order_number="PL-2", filler_order_number="FI-2")
    study = make_study(issuer_of_accession="")
    ward.sees(study)
    assert met(ward, study) == "ambiguous"
    assert [u["match_outcome"] for u in ward.book.overview(SITE)["unmatched"]] == ["ambiguous"]
    ward.orders(OrderAction.CANCEL, issuer_of_accession="EHR", placer_order_number="PL-2", filler_order_number="FI-2")
    ward.sees(study)  # listed again
    assert met(ward, study) == "accession"


def test_an_accession_number_of_another_patient_is_a_mix_up_for_a_person(ward):
    ward.orders(patient=make_patient(patient_id="P-0002"))
    study = make_study()
    ward.sees(study)
    assert (met(ward, study), ward.entry_of(study).order_id) == ("patient-differs", None)


REUSED = {
    "placer": {"placer_order_number": "PL-1", "filler_order_number": "FI-9", "accession_number": ""},
    "filler": {"placer_order_number": "PL-9", "filler_order_number": "FI-1", "accession_number": ""},
    "accession": {"placer_order_number": "PL-9", "filler_order_number": "FI-9", "accession_number": "ACC-1"},
}


@pytest.mark.parametrize("action", [OrderAction.PLACE, OrderAction.CHANGE, OrderAction.CANCEL])
@pytest.mark.parametrize("numbers", REUSED.values(), ids=REUSED)
def test_a_number_used_again_for_another_patient_is_parked_and_changes_nothing(ward, numbers, action):
    ward.orders()
    ward.sees(make_study())
    with ward.book.pool.connection() as db:
        before, orders = snapshot(db), ward.rows("SELECT * FROM imaging_order")
        other = ward.orders(action, **numbers, patient=make_patient(patient_id="P-0002"))
        assert (other.outcome, other.reason) == ("parked", "the order number belongs to another patient")
        assert (snapshot(db), ward.rows("SELECT * FROM imaging_order")) == (before, orders)


def test_several_studies_of_one_accession_each_get_an_entry(ward):
    ward.orders(requested_priority=RequestedPriority.URGENT)
    studies = [make_study() for _ in range(3)]
    for study in studies:
        ward.sees(study)
    entries = [ward.entry_of(study) for study in studies]
    assert len({e.entry_id for e in entries}) == 3
    assert {e.order_id for e in entries} == {entries[0].order_id}
    assert {e.lane for e in entries} == {Lane.EXPEDITED}
    ward.orders(OrderAction.CANCEL)
    assert {ward.entry_of(s).reading_state for s in studies} == {ReadingState.CANCELLED}


def test_a_cancel_that_repeats_only_the_placers_number_finds_its_order(ward):
    study = make_study()
    ward.orders()
    ward.sees(study)
    bare = replace(make_order(), accession_number="", issuer_of_accession="", filler_order_number="", procedure=())
    ward.hears(make_event(OrderAction.CANCEL, **vars(bare)))
    assert ward.entry_of(study).reading_state is ReadingState.CANCELLED


def test_an_order_and_its_study_that_arrive_together_always_meet(ward):
    with ThreadPoolExecutor(2) as threads:
        for number in range(25):
            accession = f"ACC-{number}"
            patient = make_patient(patient_id=f"P-{number}")
            study = make_study(accession_number=accession, patient=patient)
            order = make_order(
                accession_number=accession, placer_order_number=f"PL-{number}", filler_order_number=f"FI-{number}",
                patient=patient,
            )  # fmt: skip
            start = Barrier(2)
            done = [
                threads.submit(lambda s=study, b=start: (b.wait(), ward.sees(s))),
                threads.submit(lambda o=order, b=start: (b.wait(), ward.hears(make_event(**vars(o))))),
            ]
            for future in done:
                future.result(timeout=30)
            assert met(ward, study) == "accession"
    assert ward.one(LIVE) == 25
    assert ward.one("SELECT count(*) FROM worklist_entry WHERE order_id IS NULL OR study_id IS NULL") == ward.one(
        "SELECT count(*) FROM worklist_entry WHERE ai_state = 'superseded'"
    )


def test_an_order_released_by_its_placers_number_and_its_study_that_arrive_together_meet(ward):
    with ThreadPoolExecutor(2) as threads:
        for number in range(12):
            accession, placer = f"ACC-{number}", f"PL-{number}"
            patient = make_patient(patient_id=f"P-{number}")
            numbers = {"accession_number": accession, "placer_order_number": placer, "filler_order_number": ""}
            ward.orders(**numbers, patient=patient)
            ward.orders(OrderAction.CANCEL, **numbers, patient=patient)
            study = make_study(accession_number=accession, patient=patient)
            bare = replace(
                make_order(), accession_number="", issuer_of_accession="", filler_order_number="", procedure=(),
                placer_order_number=placer, patient=make_patient(patient_id=""),
            )  # fmt: skip
            start = Barrier(2)
            done = [
                threads.submit(lambda s=study, b=start: (b.wait(), ward.sees(s))),
                threads.submit(
                    lambda o=bare, b=start: (b.wait(), ward.hears(make_event(OrderAction.RELEASE, **vars(o))))
                ),
            ]
            for future in done:
                future.result(timeout=30)
            assert met(ward, study) == "accession"
    assert ward.one(LIVE) == 12


def test_a_study_listed_again_or_a_message_sent_again_changes_nothing(ward):
    study = make_study()
    placed = make_event()
    ward.hears(placed, control_id="X1")
    ward.sees(study)
    with ward.book.pool.connection() as db:
        before = snapshot(db)
        ward.sees(study)
        again = ward.hears(placed, control_id="X1")
        anew = ward.hears(placed, control_id="X2")
        assert snapshot(db) == before
    assert (again.is_new, again.outcome, anew.is_new, anew.outcome) == (False, "applied", True, "unchanged")


CORRECTIONS = {
    "accession": ({"accession_number": "ACC-8"}, {"accession_number": "ACC-1"}),
    "patient": ({"patient": make_patient(patient_id="P-0002")}, {"patient": make_patient()}),
}


@pytest.mark.parametrize(("wrong", "right"), CORRECTIONS.values(), ids=CORRECTIONS)
def test_an_unmatched_study_that_was_corrected_in_the_archive_meets_its_order(ward, wrong, right):
    ward.orders(requested_priority=RequestedPriority.STAT)
    study = make_study(**wrong)
    ward.sees(study)
    assert ward.entry_of(study).order_id is None
    (known,) = ward.book.known_studies(SITE, [study.study_instance_uid]).values()
    corrected = replace(study, **right)
    assert known.is_still(study) and not known.is_still(corrected)
    ward.sees(corrected)
    entry = ward.entry_of(study)
    assert (met(ward, study), entry.lane, ward.one(LIVE)) == ("accession", Lane.STAT, 1)
    assert ward.book.known_studies(SITE, [study.study_instance_uid])[study.study_instance_uid].is_still(corrected)


def test_a_matched_study_of_another_patient_after_all_parts_from_the_order_and_its_result_is_withdrawn(ward):
    ward.orders(requested_priority=RequestedPriority.STAT)
    study = make_study()
    ward.sees(study)
    ward.flags(ward.lease()[0])
    before = ward.entry_of(study)
    for delivery in ward.book.lease_due(10, timedelta(minutes=1)):
        ward.book.delivered(delivery, "ok")
    corrected = replace(study, patient=make_patient(patient_id="P-0002"))
    assert ward.sees(corrected) == "corrected"
    entry = ward.entry_of(study)
    assert (met(ward, study), entry.order_id, entry.place) == ("patient-differs", None, before.place)
    assert (entry.entry_id, entry.ai_state) == (before.entry_id, AiState.QUEUED)
    (waiting,) = ward.rows("SELECT * FROM worklist_entry WHERE order_id = %s", before.order_id)
    assert (waiting["study_id"], waiting["ai_state"], waiting["requested_priority"]) == (
        None, "awaiting-images", "stat",
    )  # fmt: skip
    owed = ward.rows("SELECT destination, kind FROM delivery WHERE state = 'due' ORDER BY destination")
    assert [(d["destination"], d["kind"]) for d in owed] == [("ehr", "withdrawal"), ("pacs", "withdrawal")]
    assert ward.flags(ward.lease()[0])
    with ward.book.pool.connection() as db:
        state = snapshot(db)
        assert ward.sees(corrected) == ""
        assert snapshot(db) == state
    right = make_study()
    ward.sees(right)
    assert ward.entry_of(right).entry_id == waiting["id"], "the order's own images still meet it"


def test_a_study_parted_from_a_cancelled_order_is_read_after_all(ward):
    ward.orders()
    study = make_study()
    ward.sees(study)
    ward.orders(OrderAction.CANCEL)
    ward.sees(replace(study, patient=make_patient(patient_id="P-0002")))
    entry = ward.entry_of(study)
    assert (entry.order_id, entry.reading_state, entry.ai_state) == (None, ReadingState.UNREAD, AiState.QUEUED)
