"""Everything the use cases need remembered: each method is one transaction, or one look, over the modules beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Concatenate, ParamSpec, TypeVar

from triage.domain.eligibility import REASONS
from triage.domain.errors import UnusableRadiograph
from triage.domain.finding import Assessment
from triage.domain.frame import Frame
from triage.domain.imaging import InstanceFacts, SeenInstance, StudyFacts
from triage.domain.priority import Place
from triage.domain.result import Result
from triage.domain.worklist import WorklistEntry
from triage.ports import (
    Due,
    Envelope,
    KeptMessage,
    KeptReport,
    KnownStudy,
    Lease,
    Line,
    NewLabel,
    Reader,
    StoredBaseline,
)
from triage.postgres import (
    accepting,
    arriving,
    assessing,
    audit_cases,
    audit_labels,
    audit_trail,
    baselines,
    deliveries,
    drift_reports,
    leases,
    messages,
    orders,
    reading,
    runs,
    studies,
    sweeps,
    views,
)
from triage.postgres.assessing import FAILURES
from triage.postgres.connect import Db, Pool
from triage.postgres.site_rules import SiteRules
from triage.postgres.transaction import in_one_transaction

P = ParamSpec("P")
R = TypeVar("R")


@dataclass
class Book:
    """PostgreSQL behind the ports `Intake`, `Leases`, `Outbox`, `ReadingList` and `AuditBook`."""

    pool: Pool
    rules: SiteRules = field(default_factory=SiteRules)

    def _do(self, act: Callable[Concatenate[Db, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        return in_one_transaction(self.pool, act, *args, **kwargs)

    def _look(self, look: Callable[Concatenate[Db, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        with self.pool.connection() as db:
            return look(db, *args, **kwargs)

    # --- intake ---

    def accept(self, envelope: Envelope, body: bytes, read: Reader) -> KeptMessage:
        """Store *body*, translate and apply it; one commit, so what is acknowledged is durable."""
        return self._do(accepting.accept, self.rules, envelope, body, read)

    def keep(self, envelope: Envelope, body: bytes, outcome: str, reason: str) -> KeptMessage:
        """Store a message that is not applied, and why."""
        return self._do(accepting.keep, envelope, body, outcome, reason)

    def for_replay(self, message_id: int) -> KeptMessage | None:
        """A stored message, to be accepted once more."""
        return self._do(messages.for_replay, message_id)

    def accept_again(self, kept: KeptMessage, read: Reader) -> KeptMessage:
        """Apply a stored message once more, whatever became of it before."""
        return self._do(accepting.accept_again, self.rules, kept, read)

    def known_studies(self, site: str, study_instance_uids: Sequence[str]) -> Mapping[str, KnownStudy]:
        """What is known of studies, by UID."""
        return self._look(views.known_studies, site, study_instance_uids)

    def waiting_studies(self, site: str, limit: int) -> list[str]:
        """Study Instance UIDs whose images are not all there, oldest first."""
        return self._look(studies.waiting, site, limit)

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
        """Match, place and queue a study as the archive lists it at *at*."""
        return self._do(arriving.see_study, self.rules, site, archive, study, listed, at=at, settle=settle)

    def sweep_mark(self, site: str, peer: str) -> datetime | None:
        """Up to when *peer* was swept."""
        return self._look(sweeps.mark, site, peer)

    def swept(self, site: str, peer: str, mark: datetime) -> None:
        """A sweep ended whole."""
        self._do(sweeps.set_mark, site, peer, mark)

    def sweep_failed(self, site: str, peer: str, mark: datetime, failure: str) -> None:
        """A sweep did not; the mark stays."""
        self._do(sweeps.failed, site, peer, mark, failure)

    def accessions_to_ask_about(self, site: str, *, after: timedelta, every: timedelta, limit: int) -> list[str]:
        """Orders whose images do not come."""
        return self._do(orders.accessions_to_ask_about, site, after=after, every=every, limit=limit)

    def note_unreadable(self, site: str, archive: str, files: Iterable[tuple[str, str]]) -> None:
        """Files in the archive's folder that are no DICOM."""
        self._do(sweeps.note_unreadable, site, archive, sorted(files))

    # --- assessment ---

    def lease_most_urgent(self, limit: int, lease: timedelta) -> list[Lease]:
        """Hold at most *limit* ready studies, most urgent first."""
        return self._do(leases.lease_most_urgent, limit, lease)

    def read_headers(self, lease: Lease, read: Sequence[tuple[str, InstanceFacts | None, str]]) -> None:
        """Keep what the headers said."""
        self._do(studies.set_facts, lease.study_id, read)

    def record(self, lease: Lease, outcome: Assessment | UnusableRadiograph) -> bool:
        """Write the run, the place and the deliveries it causes in one transaction; False for a late finisher."""
        return self._do(assessing.record, self.rules, lease, outcome)

    def offer_again(self, lease: Lease, reason: str, *, is_incomplete: bool = False) -> None:
        """Give a lease back because a peer did not answer; the attempt does not count, the wait grows."""
        self._do(assessing.offer_again, lease, reason, is_incomplete=is_incomplete)

    def offer_expired(self) -> int:
        """Offer again what crashed workers held; an entry that used up its attempts is timed out and shown."""
        return self._do(assessing.offer_expired)

    def assess_again(self, entry_id: int, actor: str) -> None:
        """Queue a finished entry once more: replay after a fault was mended."""
        self._do(assessing.assess_again, entry_id, actor)

    # --- deliveries ---

    def lease_due(self, limit: int, lease: timedelta) -> list[Due]:
        """Deliveries whose time has come."""
        return self._do(deliveries.lease_due, limit, lease)

    def result_for(self, due: Due) -> tuple[Result, Result | None]:
        """The result to tell, and the one it took the place of."""
        return self._look(runs.result_for, due)

    def keep_body(self, due: Due, body: bytes) -> bytes:
        """Fix the bytes at the first try."""
        return self._do(deliveries.keep_body, due.delivery_id, body)

    def delivered(self, due: Due, acknowledged_as: str) -> None:
        """The peer has it."""
        self._do(deliveries.delivered, due, acknowledged_as)

    def deliver_again(self, due: Due, reason: str, delay: timedelta) -> None:
        """Waiting may help."""
        self._do(deliveries.again, due, reason, delay)

    def park(self, due: Due, reason: str) -> None:
        """Waiting cannot help: to a person."""
        self._do(deliveries.park, due, reason)

    def offer_expired_deliveries(self) -> int:
        """Offer again what a crashed sender held."""
        return self._do(deliveries.offer_expired)

    def replay_delivery(self, delivery_id: int) -> bool:
        """Send a parked delivery again now."""
        return self._do(deliveries.replay, delivery_id)

    # --- reading ---

    def page(self, site: str, *, limit: int, offset: int = 0, at: datetime) -> list[Line]:
        """Unread entries in reading order."""
        return self._look(reading.page, self.rules, site, limit=limit, offset=offset, at=at)

    def claimed(self, site: str, limit: int = 50) -> list[Line]:
        """Entries being read."""
        return self._look(views.claimed_lines, site, limit)

    def awaiting(self, site: str, limit: int = 50) -> list[Line]:
        """Orders without images."""
        return self._look(views.awaiting_lines, site, limit)

    def next_study(self, site: str, reader: str, *, at: datetime) -> WorklistEntry | None:
        """Claim what comes next."""
        return self._do(reading.next_study, self.rules, site, reader, at=at)

    def claim(self, entry_id: int, reader: str) -> WorklistEntry:
        """Claim this one."""
        return self._do(reading.claim, entry_id, reader)

    def release(self, entry_id: int, reader: str) -> WorklistEntry:
        """Give a claim back; only who holds it may."""
        return self._do(reading.release, self.rules, entry_id, reader)

    def report(self, entry_id: int, reader: str, label: str | None) -> WorklistEntry:
        """Close the entry; *label* is the radiologist's class, kept for the audit."""
        return self._do(reading.report, self.rules, entry_id, reader, label)

    def override(self, entry_id: int, reader: str, place: Place, reason: str) -> WorklistEntry:
        """A person moves an entry, either way."""
        return self._do(reading.override, entry_id, reader, place, reason)

    # --- the audit desk ---

    def audit_cases(self, site: str, start: datetime, as_of: datetime) -> Frame:
        """What every study had last been told in (start, as_of], a row each."""
        return self._look(audit_cases.frame, site, start, as_of)

    def audit_details(self, case_ids: Sequence[int]) -> Frame:
        """Pixel statistics and embedding coordinates of some of them."""
        return self._look(audit_cases.details, case_ids)

    def audit_readings(self, site: str, start: datetime, as_of: datetime) -> Frame:
        """When each became readable, was opened and was reported."""
        return self._look(audit_cases.readings, site, start, as_of)

    def audit_labels(self, site: str, as_of: datetime) -> Frame:
        """Every label heard of by *as_of*."""
        return self._look(audit_labels.heard, site, as_of)

    def audit_sample(self, site: str, as_of: datetime) -> Mapping[int, float]:
        """Entries drawn for an independent read, and at which rate."""
        return self._look(audit_labels.sampled, site, as_of)

    def choose_for_audit(self, site: str, entries: Sequence[int], rate: float) -> int:
        """Draw entries; how many are new."""
        return self._do(audit_labels.choose, site, entries, rate)

    def add_label(self, label: NewLabel) -> None:
        """Keep a statement about a study."""
        self._do(audit_labels.take, label)

    def entries_of(self, site: str, *, study_instance_uid: str = "", accession_number: str = "") -> list[int]:
        """The entries a label that names a study or a request may mean."""
        return self._look(
            audit_labels.entries_of, site, study_instance_uid=study_instance_uid, accession_number=accession_number
        )

    def baselines(self, site: str, as_of: datetime) -> Sequence[StoredBaseline]:
        """Every baseline frozen by *as_of*, oldest first."""
        return self._look(baselines.of_site, site, as_of)

    def freeze_baseline(
        self, site: str, kind: str, name: str, card_sha256: str, body: str, by: str, at: datetime | None = None
    ) -> bool:
        """Keep a baseline, frozen now (or *at* an instant, in simulations); False where the same one was before."""
        return self._do(baselines.freeze, site, kind, name, card_sha256, body, by, at)

    def budget_spent(self, site: str, as_of: datetime) -> Sequence[Mapping[str, Any]]:
        """Year, month, family, alpha, times."""
        return self._look(drift_reports.budget_spent, site, as_of)

    def keep_report(self, report: KeptReport, *, falls_back: bool, tells: bool) -> tuple[int, bool]:
        """Store a report and the alarm it raises; its id, and whether it is new."""
        return self._do(drift_reports.keep, report, falls_back=falls_back, tells=tells)

    def reports_to_send(self, site: str) -> Sequence[Mapping[str, Any]]:
        """Reports the site's webhook has not taken yet."""
        return self._look(drift_reports.notices, site)

    def report_sent(self, report_id: int) -> None:
        """The webhook has it."""
        self._do(drift_reports.noticed, report_id)

    def report_not_sent(self, report_id: int, attempts: int, failure: str) -> None:
        """The webhook did not take it; offered again later."""
        self._do(drift_reports.not_noticed, report_id, attempts, failure)

    # --- what people and machines look at ---

    def entry_detail(self, entry_id: int, *, viewer: str) -> dict[str, Any]:
        """Everything about one entry for the study page; the view itself goes into the audit trail."""
        return self._do(views.viewed, entry_id, viewer)

    def overview(self, site: str) -> dict[str, Any]:
        """Counts by state and everything stuck, without patient data."""
        return self._look(views.overview, site)

    def first_broken_audit_row(self) -> int | None:
        """Walk the audit trail's chain; None if it holds."""
        return self._look(audit_trail.first_broken_row)


def reason_in_words(reason: str) -> str:
    """A reason code as a sentence part; what is no code stands for itself."""
    return REASONS.get(reason, reason)


__all__ = ["FAILURES", "Book", "SiteRules", "reason_in_words"]
