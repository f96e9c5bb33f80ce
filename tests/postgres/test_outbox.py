"""What is owed to the outside: written with the result, in order, never twice under another name, never lost."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.making import make_patient, make_study
from triage.domain.errors import UnusableRadiograph
from triage.domain.order import OrderAction
from triage.postgres import runs
from triage.postgres.migrate import migrations_folder

LEASE = timedelta(minutes=1)


@pytest.fixture
def told(ward):
    """An ordered study with one recorded result owed to ehr and pacs."""
    ward.orders()
    study = make_study()
    ward.sees(study)
    (lease,) = ward.lease()
    assert ward.flags(lease)
    return study


def states(ward):
    query = "SELECT destination || ' ' || kind || ' ' || state AS d FROM delivery ORDER BY id"
    return [row["d"] for row in ward.rows(query)]


def due(ward, destination):
    """Lease what is due; leave the other destinations' as if untouched."""
    held = {d.destination: d for d in ward.book.lease_due(10, LEASE)}
    others = [d.delivery_id for name, d in held.items() if name != destination]
    with ward.book.pool.connection() as db:
        db.execute("UPDATE delivery SET state = 'due', attempts = attempts - 1 WHERE id = ANY(%s)", (others,))
    return held.get(destination)


def again(ward, study):
    """A late image, and a second run recorded."""
    ward.sees(study, len(ward.listed[study.study_instance_uid]) + 1)
    (lease,) = ward.lease()
    assert ward.flags(lease, covid=0.2)


def test_a_result_and_what_is_owed_are_one_transaction(ward, told, monkeypatch):
    monkeypatch.setattr("triage.postgres.deliveries.ADD", "SELECT 1 / 0 AS %(run_id)s_%(kind)s_%(destinations)s")
    ward.has(patient=make_patient(patient_id="P-2"))
    (lease,) = ward.lease()
    with pytest.raises(Exception, match=r".+"):
        ward.flags(lease)
    assert ward.one("SELECT count(*) FROM run") == 1
    assert ward.one("SELECT count(*) FROM delivery") == 2
    assert ward.one("SELECT ai_state FROM worklist_entry WHERE id = %s", lease.entry_id) == "assessing"


def test_every_delivery_has_a_control_id_of_its_own_that_names_run_and_destination(ward, told):
    again(ward, told)
    ids = [row["control_id"] for row in ward.rows("SELECT control_id FROM delivery")]
    assert len(ids) == len(set(ids)) == 4
    assert all(row["control_id"].endswith(row["destination"]) and str(row["run_id"]) in row["control_id"]
               for row in ward.rows("SELECT control_id, destination, run_id FROM delivery"))  # fmt: skip


def test_the_bytes_of_the_first_try_are_those_of_every_try(ward, told):
    first = due(ward, "ehr")
    assert ward.book.keep_body(first, b"one") == b"one"
    ward.book.deliver_again(first, "ehr: connected, then ReadTimeout", timedelta(0))
    second = due(ward, "ehr")
    assert (second.body, second.attempts, second.control_id) == (b"one", 2, first.control_id)
    assert ward.book.keep_body(second, b"two") == b"one"


def test_what_must_wait_is_not_due_before_its_time(ward, told):
    for delivery in ward.book.lease_due(10, LEASE):
        ward.book.deliver_again(delivery, "ehr: 503", timedelta(minutes=5))
    assert ward.book.lease_due(10, LEASE) == []
    assert {s["reason"] for s in ward.book.overview("north")["stuck_deliveries"]} == {"ehr: 503"}


def test_what_cannot_work_is_parked_until_a_person_replays_it(ward, told):
    delivery = due(ward, "ehr")
    ward.book.park(delivery, "ehr: 422")
    assert states(ward) == ["ehr result parked", "pacs result due"]
    assert due(ward, "ehr") is None
    assert ward.book.replay_delivery(delivery.delivery_id)
    assert due(ward, "ehr").delivery_id == delivery.delivery_id
    ward.book.delivered(due(ward, "ehr") or delivery, "late")  # the first try's news: it no longer holds the row
    assert states(ward)[0] == "ehr result sending"


def test_what_was_delivered_cannot_be_replayed(ward, told):
    delivery = due(ward, "ehr")
    ward.book.delivered(delivery, "Bundle/1")
    assert not ward.book.replay_delivery(delivery.delivery_id)
    assert states(ward)[0] == "ehr result delivered"


def test_a_sender_that_crashed_is_replaced_and_cannot_settle_what_another_holds(ward, told):
    first = due(ward, "ehr")
    with ward.book.pool.connection() as db:
        db.execute("UPDATE delivery SET lease_until = clock_timestamp() - interval '1 s' WHERE state = 'sending'")
    assert ward.book.offer_expired_deliveries() == 1
    second = due(ward, "ehr")
    ward.book.park(first, "too late")
    ward.book.delivered(first, "too late")
    ward.book.deliver_again(first, "too late", LEASE)
    assert states(ward)[0] == "ehr result sending"
    ward.book.delivered(second, "Bundle/2")
    assert ward.one("SELECT acknowledged_as FROM delivery WHERE destination = 'ehr'") == "Bundle/2"
    assert ward.one("SELECT count(*) FROM audit_trail WHERE action IN ('delivered', 'parked')") == 1


def test_a_later_run_takes_the_place_of_what_was_not_yet_sent(ward, told):
    ward.book.delivered(due(ward, "pacs"), "stored")
    again(ward, told)
    assert states(ward) == ["ehr result superseded", "pacs result delivered", "ehr result due", "pacs result due"]
    (current, previous) = ward.book.result_for(due(ward, "pacs"))
    assert (current.run_number, previous.run_number, previous.is_current) == (2, 1, False)


def test_a_correction_waits_while_the_result_before_it_is_on_its_way(ward, told):
    sending = due(ward, "ehr")
    again(ward, told)
    assert due(ward, "ehr") is None
    ward.book.delivered(sending, "Bundle/1")
    assert ward.book.result_for(due(ward, "ehr"))[0].run_number == 2


@pytest.mark.parametrize("how", ["again", "park", "crash"])
def test_a_result_whose_run_was_replaced_while_it_was_sent_is_not_sent_once_more(ward, told, how):
    sending = due(ward, "ehr")
    again(ward, told)
    if how == "again":
        ward.book.deliver_again(sending, "ehr: timeout", timedelta(0))
    elif how == "park":
        ward.book.park(sending, "ehr: 400")
    else:
        with ward.book.pool.connection() as db:
            db.execute("UPDATE delivery SET lease_until = clock_timestamp() - interval '1 s' WHERE state = 'sending'")
        ward.book.offer_expired_deliveries()
    assert states(ward)[0] == "ehr result superseded"
    assert not ward.book.replay_delivery(sending.delivery_id)
    assert ward.book.result_for(due(ward, "ehr"))[0].run_number == 2


def test_a_cancelled_order_withdraws_the_result_only_where_it_was_told(ward, told):
    ward.book.delivered(due(ward, "ehr"), "Bundle/1")
    ward.orders(OrderAction.CANCEL)
    assert states(ward) == ["ehr result delivered", "pacs result superseded", "ehr withdrawal due"]
    withdrawal = due(ward, "ehr")
    assert withdrawal.kind == "withdrawal"
    assert ward.book.result_for(withdrawal)[0].is_withdrawn
    ward.orders(OrderAction.CANCEL)
    assert len(states(ward)) == 3, "cancelled twice, withdrawn once"


def test_what_is_being_sent_while_the_order_is_cancelled_is_withdrawn_after_it(ward, told):
    sending = due(ward, "ehr")
    ward.orders(OrderAction.CANCEL)
    assert due(ward, "ehr") is None
    ward.book.deliver_again(sending, "ehr: timeout, it may have it", timedelta(0))
    assert due(ward, "ehr").kind == "withdrawal"
    assert states(ward) == ["ehr result superseded", "pacs result superseded", "ehr withdrawal sending"]


@pytest.mark.parametrize("how", ["again", "park"])
def test_a_result_whose_answer_was_lost_is_withdrawn_too(ward, told, how):
    tried = due(ward, "ehr")
    if how == "again":
        ward.book.deliver_again(tried, "ehr: connected, then ReadTimeout", timedelta(0))
    else:
        ward.book.park(tried, "ehr: 500, perhaps after it was stored")
    ward.orders(OrderAction.CANCEL)
    assert states(ward) == ["ehr result superseded", "pacs result superseded", "ehr withdrawal due"]


def test_an_attempt_without_a_result_does_not_drop_the_withdrawal_still_owed(ward, told):
    ward.book.delivered(due(ward, "ehr"), "Bundle/1")
    ward.orders(OrderAction.CANCEL)
    ward.orders(OrderAction.CHANGE)
    (lease,) = ward.lease()
    ward.book.record(lease, UnusableRadiograph("engine-error"))
    assert states(ward)[-1] == "ehr withdrawal due"


def happens(ward, study, step, peer):
    """One thing happens; *peer* is what the EHR holds of each run, by run number."""
    if step in {"run", "refused", "broken"}:
        ward.sees(study, len(ward.listed.get(study.study_instance_uid, [])) + 1)
        (lease,) = ward.lease()
        outcome = {"refused": "not-frontal", "broken": "engine-error"}
        assert ward.flags(lease) if step == "run" else ward.book.record(lease, UnusableRadiograph(outcome[step]))
    elif step in {"cancel", "revive"}:
        ward.orders(OrderAction.CANCEL if step == "cancel" else OrderAction.CHANGE)
    elif delivery := due(ward, "ehr"):
        result, cancelled = ward.book.result_for(delivery)
        if step != "park":  # "lost": it has it, its answer did not come back
            peer[result.run_number] = "withdrawn" if delivery.kind == "withdrawal" else "preliminary"
            if cancelled is not None:
                peer[cancelled.run_number] = "cancelled"
        if step == "send":
            ward.book.delivered(delivery, "Bundle")
        elif step == "lost":
            ward.book.deliver_again(delivery, "ehr: connected, then ReadTimeout", timedelta(0))
        else:
            ward.book.park(delivery, "ehr: 500")


ENDS = {
    "run send": "1 preliminary",
    "run run": "2 preliminary",
    "run send run": "1 cancelled, 2 preliminary",
    "run lost run": "1 cancelled, 2 preliminary",
    "run park run": "1 cancelled, 2 preliminary",
    "run send cancel": "1 withdrawn",
    "run lost cancel": "1 withdrawn",
    "run cancel": "",
    "run send refused": "1 withdrawn",
    "run lost broken": "1 withdrawn",
    "run refused": "",
    "run send refused cancel": "1 withdrawn",
    "run send run cancel": "1 withdrawn",
    "run send run send cancel": "1 cancelled, 2 withdrawn",
    "run send run lost cancel": "1 withdrawn, 2 withdrawn",
    "run send run run": "1 cancelled, 3 preliminary",
    "run send run refused run": "1 withdrawn, 4 preliminary",
    "run send run lost run": "1 withdrawn, 2 cancelled, 3 preliminary",
    "run send run send run": "1 cancelled, 2 cancelled, 3 preliminary",
    "run send cancel revive run": "1 withdrawn, 2 preliminary",
    "run send cancel send revive run send cancel": "1 withdrawn, 2 withdrawn",
    "run send refused run run": "1 withdrawn, 4 preliminary",
}


@pytest.mark.parametrize(("steps", "end"), ENDS.items(), ids=ENDS)
def test_whatever_the_ehr_was_told_ends_with_the_one_current_result(ward, steps, end):
    study, peer = make_study(), {}
    ward.orders()
    for step in [*steps.split(), *["send"] * 6]:
        happens(ward, study, step, peer)
    assert ", ".join(f"{run} {status}" for run, status in sorted(peer.items())) == end


def test_each_destination_hears_of_what_it_was_told(ward):
    study, peer = make_study(), {}
    ward.orders()
    for step in ("run", "send", "run"):
        happens(ward, study, step, peer)
    ward.book.delivered(due(ward, "pacs"), "stored")
    happens(ward, study, "run", peer)  # the EHR has the first, the PACS the second
    assert ward.book.result_for(due(ward, "pacs"))[1].run_number == 2
    assert "pacs result sending" in states(ward)
    ehr = ward.rows("SELECT r.run_number FROM delivery d JOIN run r ON r.id = d.cancels WHERE d.destination = 'ehr'"
                    " AND d.state = 'due'")  # fmt: skip
    assert ehr == [{"run_number": 1}]


def test_nothing_is_withdrawn_where_nothing_was_found(ward):
    ward.orders()
    ward.sees(make_study())
    ward.orders(OrderAction.CANCEL)
    assert states(ward) == []


def test_one_leased_delivery_is_held_by_one_sender(ward, told):
    assert len(ward.book.lease_due(1, LEASE)) == 1
    assert len(ward.book.lease_due(5, LEASE)) == 1
    assert ward.book.lease_due(5, LEASE) == []


def test_results_are_found_and_paged_by_when_they_changed(ward, told):
    again(ward, told)

    def find(limit=10, **criteria):
        with ward.book.pool.connection() as db:
            return runs.find(db, runs.Criteria(**criteria), limit)

    found = find(study_instance_uid=told.study_instance_uid)
    assert sorted(r.run_number for r in found) == [1, 2]
    first, second = found
    assert find(after=(first.last_updated, first.run_id)) == [second]
    assert find(1, accession_number="ACC-1", patient_id="P-0001") == [first]
    assert find(patient_id="P-0002") == []


def test_deliveries_written_before_migration_4_learn_which_result_they_cancelled(ward, told):
    ward.book.delivered(due(ward, "ehr"), "Bundle/1")
    again(ward, told)
    (file,) = migrations_folder().glob("0004_*.sql")
    backfill = file.read_text()[file.read_text().index("UPDATE delivery") :]
    with ward.book.pool.connection() as db:
        db.execute("UPDATE delivery SET cancels = NULL")
        db.execute(backfill)
    assert ward.book.result_for(due(ward, "ehr"))[1].run_number == 1
