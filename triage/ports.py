"""What the use cases need from the outside, in their own words; `triage.wiring` decides who provides it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from triage.domain.errors import UnusableRadiograph
from triage.domain.finding import Assessment
from triage.domain.frame import Frame
from triage.domain.imaging import InstanceFacts, Radiograph, SeenInstance, StudyFacts
from triage.domain.order import OrderEvent
from triage.domain.priority import Place
from triage.domain.result import Result
from triage.domain.worklist import WorklistEntry


class Archive(Protocol):
    """Where images are: a DICOMweb server, or a folder behind `DICOMfileClient`."""

    name: str

    def studies_since(self, since: datetime, until: datetime) -> Iterator[StudyFacts]:
        """
        Studies holding CR or DX whose study date-time may lie in the window; duplicates may occur.

        Raises:
            ArchiveUnavailable: the archive did not answer; what was yielded before stands.
        """

    def studies_of_accession(self, accession_number: str) -> Sequence[StudyFacts]:
        """Studies of any modality filed under *accession_number*, for orders whose images do not come."""

    def study(self, study_instance_uid: str) -> StudyFacts | None:
        """One study, whatever its date; None where the archive knows none."""

    def instances(self, study_instance_uid: str) -> Sequence[SeenInstance]:
        """The instances the archive lists now for one study; empty where it knows none."""

    def headers(self, study_instance_uid: str) -> Iterator[InstanceFacts | tuple[str, UnusableRadiograph]]:
        """
        The header facts of every instance, or (SOP Instance UID, why not) where a header cannot be read.

        Raises:
            ArchiveUnavailable: no answer, or fewer instances came than the archive lists.
        """

    def radiograph(self, facts: InstanceFacts) -> Radiograph:
        """
        Retrieve and decode one instance.

        Raises:
            UnusableRadiograph: it came and cannot be decoded.
            ArchiveUnavailable: it did not come.
        """


class Engine(Protocol):
    """Pixels to assessments, in batches."""

    def assess(self, radiographs: Sequence[Radiograph], at: datetime) -> Sequence[Assessment | UnusableRadiograph]:
        """One outcome per radiograph, in order; one bad image never fails the batch."""


class Orders(Protocol):
    """An EHR that can be asked which orders changed."""

    name: str

    def changed_since(self, since: datetime) -> Iterator[tuple[bytes, OrderEvent | Exception]]:
        """
        Every changed order as (raw resource, its event or why it cannot be read), oldest first.

        Raises:
            EhrUnavailable: the server did not answer.
        """


class Reports(Protocol):
    """A destination of results: composes its own dialect, sends what was composed."""

    name: str

    def compose(self, result: Result, previous: Result | None) -> bytes:
        """The body to send for *result*; the same result gives the same bytes."""

    def send(self, body: bytes, control_id: str) -> str:
        """
        Deliver *body*; returns what the peer called it (for the timeline).

        Raises:
            Unavailable: waiting may help (408, 429, 5xx, no answer).
            RefusedByPeer: it cannot (400, 422): park for a person.
        """


@dataclass(frozen=True)
class Lease:
    """A worker's hold on one entry for one attempt; a later attempt makes it void."""

    entry_id: int
    attempt: int
    study_id: int
    site: str
    study_instance_uid: str


@dataclass(frozen=True)
class Envelope:
    """Where an inbound message came from; the sender's own control id and bytes tell a repeat from news."""

    site: str
    peer: str
    protocol: str
    """hl7 | fhir"""
    sender: str = ""
    control_id: str = ""
    kind: str = ""


@dataclass(frozen=True)
class KeptMessage:
    """
    A stored message and what became of it.

    Attributes:
        outcome: received | applied | unchanged | ignored | parked | rejected.
        is_new: False for a repeat of the same bytes from the same sender under the same control id.
    """

    message_id: int
    outcome: str
    reason: str
    is_new: bool
    body: bytes = field(repr=False)
    envelope: Envelope


@dataclass(frozen=True)
class KnownStudy:
    """What is already known of a study the archive lists again."""

    instances: int
    is_settled: bool
    """Matched, or nothing new could match it; and not waiting for images."""
    identity: tuple[str, str, str, str] | None = field(default=None, repr=False)
    """Patient ID, its issuer, accession number and its issuer, as the archive named them when last looked at."""

    def is_still(self, study: StudyFacts) -> bool:
        """Whether the archive names the same patient and request as before."""
        return self.identity in (None, identity_of(study))


def identity_of(study: StudyFacts) -> tuple[str, str, str, str]:
    """What a correction in the archive may change: whose study it is, and which request it answers."""
    return study.patient.patient_id, study.patient.issuer, study.accession_number, study.issuer_of_accession


@dataclass(frozen=True)
class Due:
    """A delivery leased for one try; *body* is None until it was composed once."""

    delivery_id: int
    run_id: UUID
    destination: str
    kind: str
    control_id: str
    attempts: int
    body: bytes | None = field(repr=False, default=None)


@dataclass(frozen=True)
class Line:
    """One line of the reading list as a person sees it."""

    entry: WorklistEntry
    patient_id: str = field(repr=False)
    patient_name: str = field(repr=False)
    accession_number: str = field(repr=False)
    procedure: str = field(repr=False)
    probabilities: Mapping[str, float]
    is_doubtful: bool = False
    match_outcome: str = ""


Reader = Callable[[bytes], Sequence[OrderEvent]]
"""Translates a stored message of one dialect; raises `Rejected` for what cannot be read."""


class Intake(Protocol):
    """What arrival needs remembered. Each method is one transaction."""

    def accept(self, envelope: Envelope, body: bytes, read: Reader) -> KeptMessage:
        """Store *body*, translate it, apply its orders, and say what became of it; all or, for the orders, nothing."""

    def keep(self, envelope: Envelope, body: bytes, outcome: str, reason: str) -> KeptMessage:
        """Store a message that is not applied: ignored, parked or rejected, and why."""

    def for_replay(self, message_id: int) -> KeptMessage | None:
        """A stored message, to be accepted once more."""

    def known_studies(self, site: str, study_instance_uids: Sequence[str]) -> Mapping[str, KnownStudy]:
        """What is known of studies, by Study Instance UID; unknown ones are absent."""

    def waiting_studies(self, site: str, limit: int) -> list[str]:
        """Study Instance UIDs whose images are not all there, oldest first: to be listed again however old they are."""

    def see_study(
        self,
        site: str,
        archive: str,
        study: StudyFacts,
        listed: Sequence[SeenInstance],
        *,
        at: datetime,
        settle: timedelta,
    ) -> str:
        """A study as the archive lists it at *at*: match, place, queue it; returns what changed, "" for nothing."""

    def sweep_mark(self, site: str, peer: str) -> datetime | None:
        """Up to when *peer* was swept."""

    def swept(self, site: str, peer: str, mark: datetime) -> None:
        """A sweep ended whole."""

    def sweep_failed(self, site: str, peer: str, mark: datetime, failure: str) -> None:
        """A sweep did not; the mark stays."""

    def accessions_to_ask_about(self, site: str, *, after: timedelta, every: timedelta, limit: int) -> list[str]:
        """Orders whose images do not come."""

    def note_unreadable(self, site: str, archive: str, files: Iterable[tuple[str, str]]) -> None:
        """Files in the archive's folder that are no DICOM."""


class Leases(Protocol):
    """What an assess worker needs remembered."""

    def lease_most_urgent(self, limit: int, lease: timedelta) -> list[Lease]:
        """Hold at most *limit* ready studies, most urgent first."""

    def read_headers(self, lease: Lease, read: Sequence[tuple[str, InstanceFacts | None, str]]) -> None:
        """Keep what the headers said: (SOP Instance UID, facts, refusal reason or "")."""

    def record(self, lease: Lease, outcome: Assessment | UnusableRadiograph) -> bool:
        """Write the run, the place and the deliveries it causes; False where a later attempt holds the entry."""

    def offer_again(self, lease: Lease, reason: str, *, is_incomplete: bool = False) -> None:
        """Give the lease back because a peer did not answer; not the study's fault, so the attempt does not count."""

    def offer_expired(self) -> int:
        """Offer again what crashed workers held; how many."""


class Outbox(Protocol):
    """What the deliver worker needs remembered."""

    def lease_due(self, limit: int, lease: timedelta) -> list[Due]:
        """Deliveries whose time has come."""

    def result_for(self, due: Due) -> tuple[Result, Result | None]:
        """The result to tell, and the one it took the place of."""

    def keep_body(self, due: Due, body: bytes) -> bytes:
        """Fix the bytes at the first try."""

    def delivered(self, due: Due, acknowledged_as: str) -> None:
        """The peer has it."""

    def deliver_again(self, due: Due, reason: str, delay: timedelta) -> None:
        """Waiting may help."""

    def park(self, due: Due, reason: str) -> None:
        """Waiting cannot help: to a person."""

    def offer_expired_deliveries(self) -> int:
        """Offer again what a crashed sender held; how many."""


class ReadingList(Protocol):
    """What readers do. Each method is one transaction; `Conflict` where the state no longer allows it."""

    def page(self, site: str, *, limit: int, offset: int = 0, at: datetime) -> list[Line]:
        """Unread entries in reading order."""

    def claimed(self, site: str, limit: int = 50) -> list[Line]:
        """Entries being read."""

    def awaiting(self, site: str, limit: int = 50) -> list[Line]:
        """Orders without images."""

    def next_study(self, site: str, reader: str, *, at: datetime) -> WorklistEntry | None:
        """Claim what comes next."""

    def claim(self, entry_id: int, reader: str) -> WorklistEntry:
        """Claim this one."""

    def release(self, entry_id: int, reader: str) -> WorklistEntry:
        """Give a claim back."""

    def report(self, entry_id: int, reader: str, label: str | None) -> WorklistEntry:
        """Close the entry; *label* is the radiologist's class, kept for the audit."""

    def override(self, entry_id: int, reader: str, place: Place, reason: str) -> WorklistEntry:
        """A person moves an entry, either way."""


@dataclass(frozen=True)
class NewLabel:
    """
    One statement about one study.

    Attributes:
        source: one of `triage.audit.labels.SOURCES`, or "radiologist" for the class given on the worklist.
        valid_from: when it was made at its source; None for now.
        is_retracted: takes back what the same source said before.
    """

    entry_id: int
    cls: str
    source: str
    given_by: str
    saw_the_ai: bool
    valid_from: datetime | None = None
    certainty: str = "affirmed"
    is_retracted: bool = False
    message_id: int | None = None


@dataclass(frozen=True)
class StoredBaseline:
    """A baseline as it was frozen; *body* is JSON."""

    baseline_id: int
    kind: str
    name: str
    card_sha256: str
    frozen_at: datetime
    frozen_by: str
    body: str
    body_sha256: str


@dataclass(frozen=True)
class KeptReport:
    """A drift report to be kept, with its page; its words go to lists, its body and page to who opens it."""

    site: str
    as_of: datetime
    period_from: datetime
    card_sha256: str
    external_verdict: str
    change_verdict: str
    cause: str
    sentence: str
    body: str
    page: str
    is_alarm: bool
    spent: Mapping[str, float]
    """What each family of tests took from the year's error budget."""


class AuditBook(Protocol):
    """What the audit desk needs remembered; everything it reads can be read as known at a past instant."""

    def audit_cases(self, site: str, start: datetime, as_of: datetime) -> Frame:
        """What every study had last been told in (start, as_of], a row each."""

    def audit_details(self, case_ids: Sequence[int]) -> Frame:
        """Pixel statistics and embedding coordinates of some of them."""

    def audit_readings(self, site: str, start: datetime, as_of: datetime) -> Frame:
        """When each became readable, was opened and was reported."""

    def audit_labels(self, site: str, as_of: datetime) -> Frame:
        """Every label heard of by *as_of*."""

    def audit_sample(self, site: str, as_of: datetime) -> Mapping[int, float]:
        """Entries drawn for an independent read, and at which rate."""

    def choose_for_audit(self, site: str, entries: Sequence[int], rate: float) -> int:
        """Draw entries; how many are new."""

    def add_label(self, label: NewLabel) -> None:
        """Keep a statement about a study."""

    def entries_of(self, site: str, *, study_instance_uid: str = "", accession_number: str = "") -> list[int]:
        """The entries a label that names a study or a request may mean."""

    def baselines(self, site: str, as_of: datetime) -> Sequence[StoredBaseline]:
        """Every baseline frozen by *as_of*, oldest first."""

    def freeze_baseline(
        self, site: str, kind: str, name: str, card_sha256: str, body: str, by: str, at: datetime | None = None
    ) -> bool:
        """Keep a baseline, frozen now (or *at* an instant, in simulations); False where the same one was before."""

    def budget_spent(self, site: str, as_of: datetime) -> Sequence[Mapping[str, Any]]:
        """Year, month, family, alpha, times."""

    def keep_report(self, report: KeptReport, *, falls_back: bool, tells: bool) -> tuple[int, bool]:
        """Store a report and the alarm it raises; its id, and whether it is new."""

    def reports_to_send(self, site: str) -> Sequence[Mapping[str, Any]]:
        """Reports the site's webhook has not taken yet: report_id, attempts, body."""

    def report_sent(self, report_id: int) -> None:
        """The webhook has it."""

    def report_not_sent(self, report_id: int, attempts: int, failure: str) -> None:
        """The webhook did not take it; offered again later."""
