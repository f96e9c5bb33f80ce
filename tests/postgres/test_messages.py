"""Inbound messages: stored raw before they are acknowledged, counted when repeated, kept when they cannot be read."""

from __future__ import annotations

import pytest

from tests.making import make_event, make_order, make_patient
from triage.domain.errors import Conflict, MalformedMessage, Unavailable
from triage.ports import Envelope

ENVELOPE = Envelope("north", "ris", "hl7", sender="RIS", control_id="17", kind="ORM^O01")
ODD = b"MSH|^~\\&|\x00\xff\xfe\x80 \xc3\x28\r"


def good(_):
    return [make_event()]


def bad(_):
    raise MalformedMessage("no patient", "PID-3")


def stored(ward):
    return ward.rows("SELECT body, outcome, reason, repeats, attempts FROM inbound_message ORDER BY id")


def test_a_message_is_stored_as_it_came(ward):
    assert ward.book.accept(ENVELOPE, ODD, good).outcome == "applied"
    (row,) = stored(ward)
    assert (bytes(row["body"]), row["outcome"], row["repeats"]) == (ODD, "applied", 0)


def test_a_repeat_is_counted_and_changes_nothing(ward):
    first = ward.book.accept(ENVELOPE, b"one", good)
    again = ward.book.accept(ENVELOPE, b"one", bad)  # not even read
    assert (again.message_id, again.is_new, again.outcome) == (first.message_id, False, "applied")
    assert [row["repeats"] for row in stored(ward)] == [1]
    assert ward.one("SELECT count(*) FROM audit_trail") == 1


def test_the_same_control_id_with_another_body_is_new(ward):
    ward.book.accept(ENVELOPE, b"one", good)
    numbers = {"accession_number": "ACC-2", "filler_order_number": "F2", "placer_order_number": "P2"}
    other = ward.book.accept(ENVELOPE, b"two", lambda _: [make_event(**numbers)])
    assert other.is_new and other.outcome == "applied"
    assert ward.one("SELECT count(*) FROM imaging_order") == 2


UNREADABLE = [
    MalformedMessage("x", "PID-3"), Conflict("x"), KeyError("x"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"),
]  # fmt: skip


@pytest.mark.parametrize("fault", UNREADABLE, ids=lambda fault: type(fault).__name__)
def test_what_cannot_be_read_is_parked_with_its_body_and_replayed_after_a_fix(ward, fault):
    def broken(_):
        raise fault

    kept = ward.book.accept(ENVELOPE, ODD, broken)
    assert kept.outcome == "parked"
    assert kept.reason
    for_replay = ward.book.for_replay(kept.message_id)
    assert for_replay.body == ODD
    assert ward.book.accept_again(for_replay, good).outcome == "applied"
    (row,) = stored(ward)
    assert (row["outcome"], row["reason"], row["attempts"]) == ("applied", "", 2)
    assert ward.one("SELECT count(*) FROM imaging_order") == 1


def test_a_parked_message_sent_again_is_tried_again(ward):
    ward.book.accept(ENVELOPE, b"one", bad)
    again = ward.book.accept(ENVELOPE, b"one", good)
    assert (again.is_new, again.outcome) == (False, "applied")


def test_a_peer_that_is_away_while_a_message_is_read_leaves_it_to_the_sender(ward):
    def away(_):
        raise Unavailable("terminology server")

    with pytest.raises(Unavailable):
        ward.book.accept(ENVELOPE, b"one", away)
    assert stored(ward) == []


def test_of_several_orders_in_a_message_all_are_applied_or_none(ward):
    second = make_event(accession_number="", filler_order_number="", placer_order_number="")
    kept = ward.book.accept(ENVELOPE, b"one", lambda _: [make_event(), second])
    assert kept.outcome == "parked"
    assert ward.one("SELECT count(*) FROM imaging_order") == 0
    assert ward.one("SELECT count(*) FROM audit_trail") == 0, "nor does the trail tell of what was rolled back"


def test_an_order_that_postgresql_cannot_store_is_parked_and_the_feed_goes_on(ward):
    order = make_order(patient=make_patient(name="Nul\x00^Byte"))
    kept = ward.book.accept(ENVELOPE, ODD, lambda _: [make_event(**vars(order))])
    assert (kept.outcome, "Nul" in kept.reason) == ("parked", False)
    assert [bytes(row["body"]) for row in stored(ward)] == [ODD]


def test_an_envelope_of_broken_bytes_is_stored_too(ward):
    envelope = Envelope("north", "ris", "hl7", sender="RI\x00S", control_id="1\udcff7", kind="\x00")
    kept = ward.book.keep(envelope, ODD, "rejected", "not a message: \x00\udc80")
    assert kept.is_new
    assert not ward.book.keep(envelope, ODD, "rejected", "again").is_new
    (row,) = stored(ward)
    assert (bytes(row["body"]), row["outcome"], row["repeats"]) == (ODD, "rejected", 1)


def test_a_message_of_no_use_is_kept_and_a_message_without_orders_is_ignored(ward):
    assert ward.book.keep(ENVELOPE, b"adt", "ignored", "not used here").outcome == "ignored"
    assert ward.book.accept(ENVELOPE, b"empty", lambda _: []).reason == "holds no order"
    assert ward.orders(procedure=(), placer_order_number="X").outcome == "ignored"


def test_the_list_of_stuck_messages_shows_no_body(ward):
    ward.book.accept(ENVELOPE, ODD, bad)
    (listed,) = ward.book.overview("north")["stuck_messages"]
    assert (listed["reason"], listed["bytes"]) == ("no patient at PID-3", len(ODD))
    assert "body" not in listed
    assert ward.book.for_replay(999) is None
