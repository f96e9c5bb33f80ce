"""An order or a study has arrived, whichever comes first."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from triage.domain.errors import Conflict, Rejected, Unavailable
from triage.domain.imaging import StudyFacts
from triage.domain.order import OrderEvent
from triage.ports import Archive, Envelope, Intake, KeptMessage, KnownStudy, Orders, Reader

log = logging.getLogger(__name__)

Clock = Callable[[], datetime]
BATCH = 500
"""Studies looked up at a time."""
AT_MOST = 3
"""Studies in a row that an archive may fail to list before a sweep takes it to be down."""


@dataclass(frozen=True)
class SweepRules:
    """
    How an archive is swept.

    Attributes:
        lookback: how far back study dates are searched; QIDO knows no "stored since", so it must cover late uploads.
        settle: how long a study must rest before it is assessed.
        ask_after, ask_every, ask_at_most: orders whose images do not come are asked for by accession number.
    """

    lookback: timedelta = timedelta(days=2)
    settle: timedelta = timedelta(seconds=10)
    ask_after: timedelta = timedelta(minutes=10)
    ask_every: timedelta = timedelta(minutes=5)
    ask_at_most: int = 20


def sweep_archive(*, archive: Archive, book: Intake, site: str, clock: Clock, rules: SweepRules) -> int:
    """
    Look at every study of the window whose instances changed; returns how many were news.

    Raises:
        ArchiveUnavailable: after noting it; what was seen before stands, the next sweep looks again.
    """
    started = clock()
    # after an outage longer than the lookback the window begins where the last whole sweep ended
    since = min(started, book.sweep_mark(site, archive.name) or started) - rules.lookback
    news, failures = 0, Failures()
    try:
        for batch in _batches(_listed(archive, book, site, since, started, rules)):
            # one look-up for many: most studies of a window have been seen whole by an earlier sweep
            known = book.known_studies(site, [study.study_instance_uid for study in batch])
            for study in batch:
                with failures.of(study):
                    news += _consider(study, known.get(study.study_instance_uid), archive, book, site, clock, rules)
        failures.raise_first()
    except Unavailable as why:
        book.sweep_failed(site, archive.name, since, str(why))
        raise
    book.swept(site, archive.name, started)
    return news


def _listed(
    archive: Archive, book: Intake, site: str, since: datetime, until: datetime, rules: SweepRules
) -> Iterator[StudyFacts]:
    """The studies of the window, those of orders whose images do not come, and those that wait to be complete."""
    yield from archive.studies_since(since, until)
    asked = book.accessions_to_ask_about(site, after=rules.ask_after, every=rules.ask_every, limit=rules.ask_at_most)
    for accession in asked:
        yield from archive.studies_of_accession(accession)
    for uid in book.waiting_studies(site, rules.ask_at_most):
        study = archive.study(uid)  # a study that still waits may have left the window
        if study is not None:
            yield study


def _batches(studies: Iterable[StudyFacts]) -> Iterator[list[StudyFacts]]:
    """Up to BATCH at a time; what came before an archive broke off is given out before the failure goes on."""
    batch: list[StudyFacts] = []
    try:
        for study in studies:
            batch.append(study)
            if len(batch) == BATCH:
                yield batch
                batch = []
    except Unavailable:
        yield batch
        raise
    yield batch


@dataclass
class Failures:
    """What went wrong with single studies of a sweep: one the archive cannot list must not hide those after it."""

    first: Unavailable | None = None
    in_a_row: int = 0

    @contextmanager
    def of(self, study: StudyFacts) -> Iterator[None]:
        """Pass over a study that fails; an archive that fails *AT_MOST* times in a row is down and ends the sweep."""
        try:
            yield
        except Unavailable as why:
            self.first = self.first or why
            self.in_a_row += 1
            log.warning("study %s: %s", study.study_instance_uid, why)
            if self.in_a_row >= AT_MOST:
                raise
        except (Rejected, Conflict) as why:
            log.warning("study %s: passed over: %s", study.study_instance_uid, why)
        except Exception as fault:  # one study must not hide those after it; its text may quote a patient
            log.exception("study %s: passed over", study.study_instance_uid)
            self.first = self.first or Unavailable(f"study {study.study_instance_uid}: {type(fault).__name__}")
        else:
            self.in_a_row = 0

    def raise_first(self) -> None:
        """A sweep that passed over a study for want of an answer has not ended whole."""
        if self.first is not None:
            raise self.first


def _consider(
    study: StudyFacts,
    known: KnownStudy | None,
    archive: Archive,
    book: Intake,
    site: str,
    clock: Clock,
    rules: SweepRules,
) -> int:
    """One study of a sweep: only what the archive counts or names differently from us is asked about further."""
    if known and known.is_settled and known.instances == study.instance_count and known.is_still(study):
        return 0
    listed = archive.instances(study.study_instance_uid)
    if study.instance_count is None:
        study = replace(study, instance_count=len(listed))
    change = book.see_study(site, archive.name, study, listed, at=clock(), settle=rules.settle)
    if change:
        log.info("study %s: %s", study.study_instance_uid, change)
    return bool(change)


def sweep_orders(
    *, ehr: Orders, book: Intake, site: str, clock: Clock, overlap: timedelta, read: Reader, lookback: timedelta
) -> int:
    """
    Take every order the EHR changed since the last sweep, with an overlap that repeats cannot harm.

    Returns:
        How many changed something here.
    Raises:
        EhrUnavailable: after noting it; the mark stays where it was.
    """
    started = clock()
    mark = book.sweep_mark(site, ehr.name) or started - lookback
    changed = 0
    try:
        for raw, event in ehr.changed_since(mark - overlap):
            changed += _accept_resource(raw, event, ehr.name, book, site, read)
    except Unavailable as why:
        book.sweep_failed(site, ehr.name, mark, str(why))
        raise
    # the EHR stamps changes by its own clock: a mark of ours would pass over what a clock behind ours stamps next
    its_now: datetime | None = getattr(ehr, "server_now", None)
    book.swept(site, ehr.name, min(started, its_now or started))
    return changed


def _accept_resource(
    raw: bytes, event: OrderEvent | Exception, peer: str, book: Intake, site: str, read: Reader
) -> bool:
    envelope = Envelope(site, peer, "fhir", sender=peer, kind="ServiceRequest")
    if isinstance(event, Exception):
        return book.keep(envelope, raw, "parked", str(event)).is_new
    kept = book.accept(envelope, raw, read)
    return kept.is_new and kept.outcome == "applied"


@dataclass(frozen=True)
class Dialect:
    """How one kind of message is read: which kinds concern us, and the translation into orders."""

    wanted: frozenset[str]
    read: Reader


def accept_message(body: bytes, envelope: Envelope, *, book: Intake, dialect: Dialect) -> KeptMessage:
    """Store one message and apply it if it is of a kind that concerns us; its outcome decides the acknowledgement."""
    if envelope.kind not in dialect.wanted:
        return book.keep(envelope, body, "rejected", "a message type that is not used here")
    return book.accept(envelope, body, dialect.read)


def keep_garbage(body: bytes, *, site: str, peer: str, book: Intake, reason: str) -> KeptMessage:
    """Store bytes that are no message, so that a person can see what a peer sent."""
    return book.keep(Envelope(site, peer, "hl7", kind="garbage"), body, "rejected", reason)


def readers_by_protocol(readers: Iterable[tuple[str, Reader]]) -> Callable[[str], Reader]:
    """Which reader a stored message needs when it is replayed."""
    table = dict(readers)

    def reader_of(protocol: str) -> Reader:
        if protocol not in table:
            raise Rejected(f"messages of protocol {protocol} cannot be replayed")
        return table[protocol]

    return reader_of
