"""Workers lease studies: never two the same, a crash counts, a late finisher loses."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from tests.making import NOON, make_assessment, make_patient, make_seen, make_study
from triage.domain.errors import Conflict, UnusableRadiograph
from triage.domain.order import OrderAction, RequestedPriority
from triage.domain.priority import Lane, Place
from triage.domain.worklist import AiState, ReadingState
from triage.postgres.leases import SUSPECT_AFTER
from triage.postgres.worklist import ATTEMPTS


def fill(ward, studies):
    return [
        ward.has(patient=make_patient(patient_id=f"P-{n}"), at=NOON + n * timedelta(seconds=1)) for n in range(studies)
    ]


def test_two_workers_never_hold_the_same_study(ward):
    fill(ward, 40)

    def work(_):
        held = []
        while leases := ward.lease(3):
            held += leases
        return held

    with ThreadPoolExecutor(4) as workers:
        held = [lease.entry_id for leases in workers.map(work, range(4)) for lease in leases]
    assert len(held) == len(set(held)) == 40


def test_the_most_urgent_come_first(ward):
    routine = fill(ward, 3)
    for number, priority in enumerate((RequestedPriority.URGENT, RequestedPriority.STAT)):
        numbers = {
            "accession_number": f"A{number}",
            "placer_order_number": f"PL{number}",
            "filler_order_number": f"F{number}",
        }
        patient = make_patient(patient_id=f"Q-{number}")
        ward.orders(requested_priority=priority, patient=patient, **numbers)
        ward.sees(make_study(accession_number=f"A{number}", patient=patient))
    leases = ward.lease(4)
    assert [ward.entry(lease.entry_id).lane for lease in leases] == [
        Lane.STAT,
        Lane.EXPEDITED,
        Lane.ORDINARY,
        Lane.ORDINARY,
    ]
    assert [lease.entry_id for lease in leases[2:]] == [e.entry_id for e in routine[:2]]


def test_a_study_still_settling_is_not_leased(ward):
    study = make_study()
    ward.sees(study)
    with ward.book.pool.connection() as db:
        db.execute("UPDATE worklist_entry SET assess_after = clock_timestamp() + interval '1 minute'")
    assert ward.lease() == []


def test_a_lease_that_ran_out_is_offered_again_and_the_late_finisher_loses(ward):
    entry = ward.has()
    (first,) = ward.lease()
    assert ward.book.offer_expired() == 0
    ward.crashes(first)
    assert ward.book.offer_expired() == 1
    (second,) = ward.lease()
    assert second.attempt == first.attempt + 1
    assert not ward.flags(first)
    assert ward.flags(second, covid=0.1)
    assert not ward.flags(first), "not even once the later attempt has ended"
    assert ward.entry(entry.entry_id).ai_state is AiState.NOT_FLAGGED
    assert ward.one("SELECT count(*) FROM run") == 1


def test_a_late_finisher_cannot_give_back_what_another_holds(ward):
    entry = ward.has()
    (first,) = ward.lease()
    ward.crashes(first)
    ward.book.offer_expired()
    ward.lease()
    ward.book.offer_again(first, "archive: no answer")
    assert ward.entry(entry.entry_id).ai_state is AiState.ASSESSING


def test_attempts_that_are_used_up_end_timed_out_with_a_run_and_the_place_is_kept(ward):
    entry = ward.has()
    for _ in range(ATTEMPTS):
        ward.crashes(*ward.lease())
        ward.book.offer_expired()
    after = ward.entry(entry.entry_id)
    assert (after.ai_state, after.place) == (AiState.TIMED_OUT, entry.place)
    assert ward.lease() == []
    (run,) = ward.rows("SELECT outcome, is_current, attempt, assessment FROM run")
    assert run == {"outcome": "timed-out", "is_current": True, "attempt": ATTEMPTS, "assessment": None}


def test_ten_crashes_end_with_exactly_one_current_assessment(ward):
    entry = ward.has()
    lost = []
    for _ in range(10):
        (lease,) = ward.lease()
        lost.append(lease)
        ward.crashes(lease)
        ward.book.offer_expired()
    (lease,) = ward.lease()
    assert ward.flags(lease)
    assert not any(ward.flags(late) for late in lost)
    assert ward.one("SELECT count(*) FROM run WHERE is_current AND assessment IS NOT NULL") == 1
    assert ward.one("SELECT count(*) FROM run") == 1
    assert ward.one("SELECT count(*) FROM delivery") == 2
    assert (ward.entry(entry.entry_id).ai_state, lease.attempt) == (AiState.FLAGGED, 11)


def test_a_study_that_outlived_two_crashes_travels_alone(ward):
    suspect, *_ = fill(ward, 5)
    for _ in range(ATTEMPTS - SUSPECT_AFTER):
        ward.crashes(*(lease for lease in ward.lease(5)))
        ward.book.offer_expired()
        with ward.book.pool.connection() as db:  # the others were not in the crashed batch
            db.execute("UPDATE worklist_entry SET attempts_left = %s WHERE id <> %s", (ATTEMPTS, suspect.entry_id))
    assert [lease.entry_id for lease in ward.lease(5)] == [suspect.entry_id]
    assert len(ward.lease(5)) == 4


def test_a_suspect_further_down_does_not_travel_with_others(ward):
    first, suspect, last = fill(ward, 3)
    with ward.book.pool.connection() as db:
        db.execute("UPDATE worklist_entry SET attempts_left = 2 WHERE id = %s", (suspect.entry_id,))
    assert [lease.entry_id for lease in ward.lease(3)] == [first.entry_id, last.entry_id]
    assert [lease.entry_id for lease in ward.lease(3)] == [suspect.entry_id]


def test_a_peer_that_does_not_answer_uses_up_no_attempt(ward):
    entry = ward.has()
    for _ in range(ATTEMPTS + 3):
        (lease,) = ward.lease()
        ward.book.offer_again(lease, "archive: no answer")
        after = ward.entry(entry.entry_id)
        assert (after.ai_state, after.ai_reason, after.place) == (AiState.QUEUED, "archive: no answer", entry.place)
        assert ward.lease() == [], "it waits first"
        with ward.book.pool.connection() as db:
            db.execute("UPDATE worklist_entry SET assess_after = clock_timestamp()")
    assert ward.one("SELECT attempts_left FROM worklist_entry") == ATTEMPTS


def test_an_incomplete_study_waits_for_images_and_is_queued_when_whole(ward):
    study = make_study()
    assert ward.sees(study, 1, counted=2) == "incomplete"
    assert ward.sees(study, 1, counted=2) == ""
    entry = ward.entry_of(study)
    assert (entry.ai_state, entry.ai_reason) == (AiState.AWAITING_IMAGES, "incomplete: 1 of 2 instances")
    assert entry.lane is Lane.ORDINARY, "it can be read meanwhile"
    assert ward.sees(study, 2) == "queued"
    (lease,) = ward.lease()
    ward.book.offer_again(lease, "incomplete: 1 of 2 instances", is_incomplete=True)
    assert ward.entry_of(study).ai_state is AiState.AWAITING_IMAGES
    assert not ward.book.known_studies("north", [study.study_instance_uid])[study.study_instance_uid].is_settled
    assert ward.sees(study, 2) == "queued"


WAITS = "SELECT assess_after, attempts_left FROM worklist_entry"


def test_a_sweep_without_news_leaves_the_back_off_of_an_incomplete_study_alone(ward):
    study = make_study()
    ward.sees(study)
    (lease,) = ward.lease()
    ward.book.offer_again(lease, "incomplete: 1 of 2 instances", is_incomplete=True)
    before = ward.rows(WAITS)
    assert ward.book.waiting_studies("north", 10) == [study.study_instance_uid]
    for _ in range(3):
        ward.sees(study, at=NOON + timedelta(hours=1))
    assert ward.rows(WAITS) == before
    assert ward.entry_of(study).ai_state is AiState.QUEUED
    assert ward.lease() == [], "its back-off holds"
    ward.sees(study, 2, at=NOON + timedelta(hours=1))
    assert len(ward.lease()) == 1, "a new instance is news"


@pytest.mark.parametrize("by", ["worker", "sweep"])
def test_an_incomplete_study_is_given_up_after_a_day_without_a_new_instance_and_can_be_replayed(ward, by):
    study, day = make_study(), timedelta(hours=24)
    if by == "worker":
        ward.sees(study)
        ward.book.offer_again(ward.lease()[0], "incomplete: 1 of 2 instances", is_incomplete=True)
    counted = 1 if by == "worker" else 2
    ward.sees(study, counted=2) if by == "sweep" else None
    place = ward.entry_of(study).place
    if by == "sweep":
        assert ward.sees(study, counted=counted, at=NOON + day - timedelta(seconds=1)) == ""
    assert ward.sees(study, counted=counted, at=NOON + day) == "timed-out"
    entry = ward.entry_of(study)
    assert (entry.ai_state, entry.ai_reason) == (AiState.TIMED_OUT, "incomplete: 1 of 2 instances")
    assert (entry.place, ward.book.waiting_studies("north", 10)) == (place, [])
    assert ward.sees(study, counted=counted, at=NOON + 2 * day) == ""
    ward.book.assess_again(entry.entry_id, "ops")
    assert ward.entry_of(study).ai_state is AiState.QUEUED


def test_orders_without_images_are_counted_apart_from_the_studies_that_wait(ward):
    ward.orders()
    waiting = ward.has(patient=make_patient(patient_id="P-2"))
    overview = ward.book.overview("north")
    assert [row["entry_id"] for row in overview["waiting"]] == [waiting.entry_id]
    assert [row["orders"] for row in overview["orders_without_images"]] == [1]


@pytest.mark.parametrize("state", ["queued", "assessing", "finished"])
def test_a_late_image_opens_a_new_run_whenever_it_comes(ward, state):
    study = make_study()
    ward.sees(study)
    lease = None
    if state != "queued":
        (lease,) = ward.lease()
    if state == "finished":
        assert ward.flags(lease)
    assert ward.sees(study, 2) == "queued"
    if state == "assessing":
        assert not ward.flags(lease), "what it saw is no longer the whole study"
    (again,) = ward.lease()
    assert ward.flags(again, covid=0.1)
    runs = ward.rows("SELECT run_number, is_current FROM run ORDER BY run_number")
    assert [r["is_current"] for r in runs] == ([False, True] if state == "finished" else [True])
    assert ward.entry_of(study).ai_state is AiState.NOT_FLAGGED


def test_a_late_image_among_objects_that_are_no_images_still_opens_a_new_run(ward):
    study = make_study()
    ward.sees(study)
    (lease,) = ward.lease()
    ward.flags(lease)
    assert ward.sees(study, 2, counted=3) == "incomplete"
    ward.listed[study.study_instance_uid].append(make_seen(modality="SR"))
    assert ward.sees(study, 3) == "queued"


@pytest.mark.parametrize("modality", ["SR", "SEG", "OT", "PR"])
def test_objects_that_are_no_images_queue_nothing(ward, modality):
    study = make_study()
    ward.sees(study)
    (lease,) = ward.lease()
    ward.flags(lease)
    assert ward.sees(study, 2, modality=modality) == ""
    assert ward.entry_of(study).ai_state is AiState.FLAGGED
    assert ward.book.known_studies("north", [study.study_instance_uid])[study.study_instance_uid].instances == 2


@pytest.mark.parametrize(
    ("reason", "state"),
    [("engine-error", AiState.FAILED), ("undecodable", AiState.FAILED), ("not-frontal", AiState.NOT_ELIGIBLE)],
)
def test_a_refusal_keeps_the_place_and_is_visibly_marked(ward, reason, state):
    entry = ward.has()
    (lease,) = ward.lease()
    assert ward.book.record(lease, UnusableRadiograph(reason))
    after = ward.entry(entry.entry_id)
    assert (after.ai_state, after.ai_reason, after.place) == (state, reason, entry.place)
    assert ward.one("SELECT count(*) FROM delivery") == 0
    ward.book.assess_again(entry.entry_id, "ops")
    assert len(ward.lease()) == 1


def test_a_cancel_while_a_worker_assesses_makes_its_result_void(ward):
    ward.orders()
    study = make_study()
    ward.sees(study)
    (lease,) = ward.lease()
    ward.orders(OrderAction.CANCEL)
    assert not ward.flags(lease)
    assert ward.entry_of(study).ai_state is AiState.WITHDRAWN


@pytest.mark.parametrize("rollout", ["shadow", "show"])
def test_only_reorder_moves_and_only_beyond_shadow_is_anybody_told(ward, rollout):
    ward.book.rules = type(ward.book.rules)(rollout=rollout, destinations=("ehr",))
    entry = ward.has()
    (lease,) = ward.lease()
    assert ward.flags(lease)
    assert ward.entry(entry.entry_id).place == entry.place
    assert ward.one("SELECT count(*) FROM delivery") == (rollout == "show")


def test_a_flag_moves_an_unread_study_forward_and_says_why(ward):
    entry = ward.has()
    (lease,) = ward.lease()
    ward.flags(lease)
    after = ward.entry(entry.entry_id)
    assert after.place == Place(Lane.EXPEDITED, NOON + ward.book.rules.policy.flagged)
    assert after.placed_because == "flagged"
    *_, move = ward.rows("SELECT actor, from_lane, to_lane FROM move ORDER BY id")
    assert move == {"actor": "ai", "from_lane": 2, "to_lane": 1}


@pytest.mark.parametrize("detour", [RequestedPriority.STAT, RequestedPriority.URGENT])
def test_an_order_that_goes_up_and_down_again_leaves_a_flagged_study_expedited(ward, detour):
    ward.orders()
    study = make_study()
    ward.sees(study)
    (lease,) = ward.lease()
    ward.flags(lease)
    place = ward.entry_of(study).place
    ward.orders(OrderAction.CHANGE, requested_priority=detour)
    ward.orders(OrderAction.CHANGE, requested_priority=RequestedPriority.ROUTINE)
    assert ward.entry_of(study).place == place


def test_a_flagged_stat_study_whose_order_becomes_routine_stays_expedited(ward):
    ward.orders(requested_priority=RequestedPriority.STAT)
    study = make_study()
    ward.sees(study)
    (lease,) = ward.lease()
    ward.flags(lease)
    assert ward.entry_of(study).lane is Lane.STAT
    ward.orders(OrderAction.CHANGE, requested_priority=RequestedPriority.ROUTINE)
    assert ward.entry_of(study).lane is Lane.EXPEDITED


def test_a_report_before_the_result_suppresses_the_move(ward):
    entry = ward.has()
    (lease,) = ward.lease()
    ward.book.report(entry.entry_id, "dr.a", "normal")
    assert ward.flags(lease)
    after = ward.entry(entry.entry_id)
    assert (after.place, after.reading_state, after.ai_state) == (entry.place, ReadingState.REPORTED, AiState.FLAGGED)
    assert ward.one("SELECT count(*) FROM move WHERE actor = 'ai'") == 0


def test_counts_of_replay_never_reach_an_entry_without_images(ward):
    ward.orders()
    with pytest.raises(Conflict):
        ward.book.assess_again(ward.one("SELECT id FROM worklist_entry"), "ops")


def test_workers_readers_and_messages_at_once_never_wait_for_each_other_in_a_circle(ward):
    """Every kind of transaction that writes the audit trail, against the same entries, for a while."""

    def about(number):
        patient = make_patient(patient_id=f"P-{number}")
        numbers = {
            name: f"{name}-{number}" for name in ("accession_number", "placer_order_number", "filler_order_number")
        }
        return {"patient": patient, **numbers}

    for number in range(6):
        ward.orders(**about(number))
        ward.sees(make_study(accession_number=f"accession_number-{number}", patient=about(number)["patient"]))

    def change(thread):
        for turn in range(12):
            action = OrderAction.CANCEL if turn % 3 == 2 else OrderAction.CHANGE
            ward.orders(action, **about((turn + thread) % 6), requested_priority=list(RequestedPriority)[turn % 3])

    def assess(_):
        for turn in range(12):
            for lease in ward.lease(2):
                ward.book.record(lease, make_assessment(covid=0.9 if turn % 2 else 0.1))
            for due in ward.book.lease_due(3, timedelta(minutes=1)):
                ward.book.delivered(due, "ok")

    def read(thread):
        for _ in range(12):
            entry = ward.book.next_study("north", f"dr.{thread}", at=NOON)
            if entry is not None:
                try:
                    ward.book.release(entry.entry_id, f"dr.{thread}")
                except Conflict:
                    continue  # its order was cancelled meanwhile

    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(work, n) for n, work in enumerate((change, change, assess, read))]:
            done.result(timeout=60)
    assert ward.book.first_broken_audit_row() is None
    assert Counter(r["study_id"] for r in ward.rows("SELECT study_id FROM worklist_entry")).most_common(1)[0][1] == 1
