"""Deliver what is due: each ends delivered, due again later, or with a person."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest

from tests.fakes import FakeOutbox, FakeReports
from triage.domain.errors import Conflict, EhrUnavailable, MalformedMessage, RefusedByPeer, Unavailable
from triage.ports import Due
from triage.reporting import LONGEST_WAIT_S, back_off, deliver_due


def make_due(number=1, **changes):
    fields = {"destination": "ehr", "kind": "result", "control_id": f"result-{number}", "attempts": 1, **changes}
    return Due(number, uuid4(), **fields)


@pytest.mark.parametrize(
    ("answer", "became"),
    [
        ("Bundle/1", ("delivered", "Bundle/1")),
        (EhrUnavailable("ehr: 503"), ("again", "ehr: 503")),
        (Unavailable("no answer"), ("again", "no answer")),
        (RefusedByPeer("ehr: 422"), ("parked", "ehr: 422")),
        (MalformedMessage("answer unreadable", "MSA-1"), ("parked", "answer unreadable at MSA-1")),
        (Conflict("done"), ("parked", "done")),
        (KeyError("Honmiya"), ("parked", "internal fault: KeyError")),
    ],
)
def test_what_becomes_of_a_delivery_depends_on_the_kind_of_failure_and_the_next_goes_on(answer, became):
    outbox, ehr = FakeOutbox([make_due(1), make_due(2)]), FakeReports([answer, "Bundle/2"])
    assert deliver_due(10, destinations={"ehr": ehr}, book=outbox) == 2
    assert outbox.became[1][:2] == became
    if became[0] == "again":  # one that does not answer is not asked again in this turn
        assert outbox.became[2][:2] == ("again", "the destination did not answer just before")
    else:
        assert outbox.became[2] == ("delivered", "Bundle/2")


def test_a_repeat_carries_the_same_control_id_and_bytes():
    outbox, ehr = FakeOutbox([make_due()]), FakeReports([EhrUnavailable("timeout"), "Bundle/1"])
    deliver_due(1, destinations={"ehr": ehr}, book=outbox)
    outbox.owed = [make_due(attempts=2, body=outbox.bodies[1])]
    deliver_due(1, destinations={"ehr": ehr}, book=outbox)
    assert ehr.sent[0] == ehr.sent[1]
    assert ehr.composed == 1


def test_bytes_fixed_by_another_sender_meanwhile_are_the_ones_sent():
    outbox, ehr = FakeOutbox([make_due()], bodies={1: b"fixed before"}), FakeReports(["ok"])
    deliver_due(1, destinations={"ehr": ehr}, book=outbox)
    assert ehr.sent == [(b"fixed before", "result-1")]


def test_a_destination_nobody_configured_is_left_to_a_person():
    outbox = FakeOutbox([make_due(destination="ris")])
    deliver_due(1, destinations={}, book=outbox)
    assert outbox.became[1] == ("parked", "destination ris is not configured")


@pytest.mark.parametrize("attempts", [0, 1, 5, 9, 10, 100, 5000])
def test_the_wait_grows_is_bounded_and_survives_an_outage_of_weeks(attempts):
    waits = [back_off(attempts) for _ in range(50)]
    assert all(
        timedelta(seconds=1) <= w <= timedelta(seconds=1 + min(LONGEST_WAIT_S, 2 ** min(attempts, 10))) for w in waits
    )
    assert len(set(waits)) > 1, "peers that come back are not flooded at one instant"
