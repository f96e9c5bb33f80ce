"""Sweeps and messages: marks move only after a whole sweep, and one bad study or message holds up no other."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from tests.fakes import FakeArchive, FakeIntake, away
from tests.making import NOON, make_event, make_facts, make_study
from triage.domain.errors import ArchiveUnavailable, Conflict, EhrUnavailable, MalformedMessage, Rejected, Unavailable
from triage.intake import (
    Dialect,
    SweepRules,
    accept_message,
    keep_garbage,
    readers_by_protocol,
    sweep_archive,
    sweep_orders,
)
from triage.ports import Envelope, KeptMessage, KnownStudy


def sweep(archive, book):
    return sweep_archive(archive=archive, book=book, site="north", clock=lambda: NOON, rules=SweepRules())


def uids(studies):
    return [study.study_instance_uid for study in studies]


def test_a_whole_sweep_sees_every_study_and_moves_the_mark():
    archive, book = FakeArchive(studies=[make_study() for _ in range(3)]), FakeIntake()
    assert sweep(archive, book) == 3
    assert uids(book.seen) == uids(archive.studies)
    assert book.marks == {"pacs": NOON} and book.failed == []


@pytest.mark.parametrize("when", ["studies_since", "after the studies"])
def test_a_sweep_that_breaks_off_keeps_what_it_saw_and_the_mark_stays(when):
    archive, book = FakeArchive(studies=[make_study() for _ in range(3)], faults={when: away()}), FakeIntake()
    with pytest.raises(ArchiveUnavailable):
        sweep(archive, book)
    assert len(book.seen) == (0 if when == "studies_since" else 3)
    assert (book.marks, book.failed) == ({}, ["pacs: no answer"])


def test_a_study_the_archive_cannot_list_hides_none_after_it_and_the_mark_stays():
    archive, book = FakeArchive(studies=[make_study() for _ in range(6)]), FakeIntake()
    for number in (1, 3):
        archive.faults[archive.studies[number].study_instance_uid] = away(f"500 for {number}")
    with pytest.raises(ArchiveUnavailable, match="500 for 1"):
        sweep(archive, book)
    assert uids(book.seen) == [uid for n, uid in enumerate(uids(archive.studies)) if n not in (1, 3)]
    assert (book.marks, book.failed) == ({}, ["pacs: 500 for 1"])


def test_an_archive_that_went_down_is_not_asked_for_every_study_left():
    archive, book = FakeArchive(studies=[make_study() for _ in range(50)], faults={"instances": away()}), FakeIntake()
    calls = []
    archive.instances = lambda uid: (calls.append(uid), FakeArchive.instances(archive, uid))[1]
    with pytest.raises(ArchiveUnavailable):
        sweep(archive, book)
    assert len(calls) == 3


@pytest.mark.parametrize("fault", [Conflict("an entry that is reported"), Rejected("no patient")])
def test_a_study_that_cannot_be_taken_is_passed_over(fault, caplog):
    archive = FakeArchive(studies=[make_study(), make_study()])
    bad, good = uids(archive.studies)
    book = FakeIntake(refuses={bad: fault})
    assert sweep(archive, book) == 1
    assert uids(book.seen) == [good] and book.marks == {"pacs": NOON}
    assert bad in caplog.text


def test_only_what_is_counted_differently_is_asked_about_further():
    same, more, waiting, uncounted = (make_study(instance_count=n) for n in (2, 3, 2, None))
    archive = FakeArchive(studies=[same, more, waiting, uncounted])
    known = {uid: KnownStudy(2, True) for uid in uids(archive.studies)}
    known[waiting.study_instance_uid] = KnownStudy(2, False)
    book = FakeIntake(known=known)
    sweep(archive, book)
    assert uids(book.seen) == uids([more, waiting, uncounted])
    assert book.seen[-1].instance_count == 1, "counted from the list where the archive does not count"


def test_orders_whose_images_do_not_come_are_asked_for_by_number():
    filed = make_study(accession_number="ACC-9")
    archive, book = FakeArchive(filed={"ACC-9": [filed]}), FakeIntake(waiting=["ACC-8", "ACC-9"])
    assert sweep(archive, book) == 1
    assert archive.asked == ["ACC-8", "ACC-9"]
    assert uids(book.seen) == uids([filed])


def test_a_study_that_waits_is_listed_again_after_it_left_the_window():
    old, gone = make_study(), make_study()

    class Narrow(FakeArchive):
        def studies_since(self, since, until):
            return iter(())

    book = FakeIntake(incomplete=uids([old, gone]))
    assert sweep(Narrow(studies=[old]), book) == 1
    assert uids(book.seen) == uids([old])


# --- orders of an EHR ---


class Ehr:
    name = "ehr"

    def __init__(self, *changes, fault=None):
        self.changes, self.fault, self.since = changes, fault, None

    def changed_since(self, since):
        self.since = since
        yield from self.changes
        if self.fault:
            raise self.fault


class Messages(FakeIntake):
    def keep(self, envelope, body, outcome, reason):
        self.kept.append((outcome, reason))
        return KeptMessage(1, outcome, reason, True, body, envelope)

    def accept(self, envelope, body, read):
        self.kept.append(("applied", body.decode()))
        return KeptMessage(1, "applied", "", body != b"repeat", body, envelope)


def sweep_ehr(ehr, book):
    return sweep_orders(
        ehr=ehr, book=book, site="north", clock=lambda: NOON, overlap=timedelta(minutes=1), read=lambda _: [],
        lookback=timedelta(days=1),
    )  # fmt: skip


def test_every_changed_order_is_taken_and_what_cannot_be_read_is_parked():
    unreadable = MalformedMessage("no subject", "ServiceRequest.subject")
    book = Messages()
    assert sweep_ehr(Ehr((b"one", make_event()), (b"two", unreadable), (b"repeat", make_event())), book) == 2
    assert book.kept == [
        ("applied", "one"), ("parked", "no subject at ServiceRequest.subject"), ("applied", "repeat"),
    ]  # fmt: skip
    assert book.marks == {"ehr": NOON}


def test_the_next_sweep_starts_where_the_last_whole_one_did_with_an_overlap():
    ehr, book = Ehr(), Messages(marks={"ehr": NOON - timedelta(hours=1)})
    sweep_ehr(ehr, book)
    assert ehr.since == NOON - timedelta(hours=1, minutes=1)
    first = Ehr()
    sweep_ehr(first, Messages())
    assert first.since == NOON - timedelta(days=1, minutes=1)


def test_an_ehr_that_breaks_off_leaves_the_mark_and_what_came_before_stands():
    book = Messages()
    with pytest.raises(EhrUnavailable):
        sweep_ehr(Ehr((b"one", make_event()), fault=EhrUnavailable("ehr: 503")), book)
    assert (book.kept, book.marks, book.failed) == ([("applied", "one")], {}, ["ehr: 503"])


@pytest.mark.parametrize(("its_clock", "mark"), [(-10, -10), (10, 0), (None, 0)])
def test_the_mark_is_never_later_than_the_clock_that_stamps_the_changes(its_clock, mark):
    ehr, book = Ehr(), Messages()
    ehr.server_now = None if its_clock is None else NOON + timedelta(minutes=its_clock)
    sweep_ehr(ehr, book)
    assert book.marks == {"ehr": NOON + timedelta(minutes=mark)}


# --- messages ---


def test_a_message_of_another_kind_is_kept_and_not_read():
    book = Messages()
    dialect = Dialect(frozenset({"ORM^O01"}), read=lambda _: [])
    accept_message(b"adt", Envelope("north", "ris", "hl7", kind="ADT^A08"), book=book, dialect=dialect)
    accept_message(b"orm", Envelope("north", "ris", "hl7", kind="ORM^O01"), book=book, dialect=dialect)
    keep_garbage(b"\x00", site="north", peer="ris", book=book, reason="no MSH")
    assert book.kept == [
        ("rejected", "a message type that is not used here"), ("applied", "orm"), ("rejected", "no MSH"),
    ]  # fmt: skip


def test_a_stored_message_is_replayed_by_the_reader_of_its_protocol():
    reader_of = readers_by_protocol([("hl7", lambda _: [])])
    assert reader_of("hl7")(b"") == []
    with pytest.raises(Rejected, match="dicom"):
        reader_of("dicom")


def test_one_study_that_breaks_the_store_does_not_hide_those_after_it():
    archive, book = FakeArchive(studies=[make_study(), make_study()]), FakeIntake()
    for study in archive.studies:
        archive.has(make_facts(), uid=study.study_instance_uid)
    poisoned, good = (study.study_instance_uid for study in archive.studies)
    book.refuses[poisoned] = UnicodeEncodeError("utf-8", "Geheim", 0, 1, "surrogates")
    with pytest.raises(Unavailable, match="UnicodeEncodeError") as told:
        sweep_archive(archive=archive, book=book, site="north", clock=lambda: NOON, rules=SweepRules())
    assert "Geheim" not in str(told.value)
    assert [study.study_instance_uid for study in book.seen] == [good]
    assert book.failed and poisoned in book.failed[0]


def test_after_a_long_outage_the_window_begins_where_the_last_sweep_ended():
    since: list[datetime] = []

    class Noting(FakeArchive):
        def studies_since(self, start, until):
            since.append(start)
            return iter(())

    book = FakeIntake(marks={"pacs": NOON - timedelta(days=5)})
    sweep_archive(archive=Noting(), book=book, site="north", clock=lambda: NOON, rules=SweepRules())
    assert since == [NOON - timedelta(days=7)]
