"""A transaction that PostgreSQL broke off is begun again from the start, a few times."""

from __future__ import annotations

import pytest
from psycopg.errors import DeadlockDetected, SerializationFailure

from tests.making import make_event, make_study
from triage.domain.errors import Conflict
from triage.ports import Envelope
from triage.postgres import deliveries
from triage.postgres.transaction import in_one_transaction
from triage.postgres.worklist import ATTEMPTS

MARK = "INSERT INTO sweep_mark (site, peer, mark) VALUES ('north', %s, now())"


def failing(times, fault):
    """An act that writes, and is broken off so many times."""
    tried = []

    def act(db):
        tried.append(1)
        db.execute(MARK, (f"try-{len(tried)}",))
        if len(tried) <= times:
            raise fault
        return len(tried)

    return act, tried


@pytest.mark.parametrize("fault", [DeadlockDetected("x"), SerializationFailure("x")], ids=["deadlock", "serialization"])
@pytest.mark.parametrize("times", [0, 1, 2])
def test_what_was_broken_off_is_run_again_and_only_the_last_try_stays(ward, fault, times):
    act, _ = failing(times, fault)
    assert in_one_transaction(ward.book.pool, act) == times + 1
    assert ward.rows("SELECT peer FROM sweep_mark") == [{"peer": f"try-{times + 1}"}]


@pytest.mark.parametrize(("fault", "tries"), [(DeadlockDetected("x"), 3), (Conflict("x"), 1)], ids=["deadlock", "ours"])
def test_what_fails_every_time_is_raised_and_leaves_nothing(ward, fault, tries):
    act, tried = failing(9, fault)
    with pytest.raises(type(fault)):
        in_one_transaction(ward.book.pool, act)
    assert len(tried) == tries
    assert ward.one("SELECT count(*) FROM sweep_mark") == 0


def test_a_message_broken_off_while_it_is_applied_is_applied_once(ward):
    faults = [DeadlockDetected("x")]

    def read(_):
        if faults:
            raise faults.pop()
        return [make_event()]

    kept = ward.book.accept(Envelope("north", "ris", "hl7", sender="RIS", control_id="1"), b"one", read)
    assert (kept.outcome, kept.is_new) == ("applied", True)
    assert ward.one("SELECT repeats FROM inbound_message") == 0
    assert ward.one("SELECT count(*) FROM audit_trail") == 1


def test_a_result_broken_off_between_its_writes_is_recorded_once(ward, monkeypatch):
    study = make_study()
    ward.sees(study)
    (lease,) = ward.lease()
    faults = [DeadlockDetected("x")]
    real = deliveries.tell

    def once(*args, **kwargs):
        if faults:
            raise faults.pop()
        return real(*args, **kwargs)

    monkeypatch.setattr(deliveries, "tell", once)
    assert ward.flags(lease)
    assert [r["run_number"] for r in ward.rows("SELECT run_number FROM run")] == [1]
    assert ward.one("SELECT count(*) FROM delivery") == 2
    assert ward.one("SELECT attempts_left FROM worklist_entry") == ATTEMPTS - 1
