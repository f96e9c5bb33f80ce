"""Small stand-ins that meet the ports: an archive, an engine, a destination, and books that only write down."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from tests.making import make_assessment, make_facts, make_seen, make_uid
from triage.domain.errors import ArchiveUnavailable, UnusableRadiograph
from triage.domain.finding import Assessment
from triage.domain.imaging import InstanceFacts, Radiograph, SeenInstance, StudyFacts
from triage.ports import Due, KnownStudy, Lease


class Here(Executor):
    """Runs what it is given at once, in this thread."""

    def submit(self, fn, /, *args, **kwargs):
        done: Future[Any] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as fault:
            done.set_exception(fault)
        return done


@dataclass
class FakeArchive:
    """Studies by UID with their instances; raises what a test puts into *faults* under a UID or a verb."""

    name: str = "pacs"
    studies: list[StudyFacts] = field(default_factory=list)
    held: dict[str, list[InstanceFacts | tuple[str, UnusableRadiograph]]] = field(default_factory=dict)
    listed: dict[str, int] = field(default_factory=dict)
    faults: dict[str, Exception] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    filed: dict[str, list[StudyFacts]] = field(default_factory=dict)

    def has(self, *instances: Any, uid: str | None = None) -> str:
        """Hold a study of *instances*; its UID."""
        uid = uid or make_uid()
        self.held[uid] = [replace(i, study_instance_uid=uid) if isinstance(i, InstanceFacts) else i for i in instances]
        return uid

    def _may_fail(self, *keys: str) -> None:
        for key in keys:
            if key in self.faults:
                raise self.faults[key]

    def studies_since(self, since: datetime, until: datetime):
        self._may_fail("studies_since")
        yield from self.studies
        self._may_fail("after the studies")

    def study(self, study_instance_uid: str) -> StudyFacts | None:
        return next((s for s in self.studies if s.study_instance_uid == study_instance_uid), None)

    def studies_of_accession(self, accession_number: str):
        self.asked.append(accession_number)
        return self.filed.get(accession_number, [])

    def instances(self, study_instance_uid: str) -> Sequence[SeenInstance]:
        self._may_fail("instances", study_instance_uid)
        count = self.listed.get(study_instance_uid, len(self.held.get(study_instance_uid, [None])))
        return [make_seen() for _ in range(count)]

    def headers(self, study_instance_uid: str):
        self._may_fail("headers", study_instance_uid)
        yield from self.held[study_instance_uid]

    def radiograph(self, facts: InstanceFacts) -> Radiograph:
        self._may_fail(facts.sop_instance_uid)
        return Radiograph(np.zeros((8, 8), np.float32), facts)


@dataclass
class FakeEngine:
    """Flags everything; explodes on the instances named."""

    explodes_on: set[str] = field(default_factory=set)
    batches: list[int] = field(default_factory=list)

    def assess(self, radiographs: Sequence[Radiograph], at: datetime) -> Sequence[Assessment | UnusableRadiograph]:
        self.batches.append(len(radiographs))
        if any(r.facts.sop_instance_uid in self.explodes_on for r in radiographs):
            raise RuntimeError("CUDA out of memory")
        return [
            make_assessment(
                study_instance_uid=r.facts.study_instance_uid,
                series_instance_uid=r.facts.series_instance_uid,
                sop_instance_uid=r.facts.sop_instance_uid,
                assessed_at=at,
            )
            for r in radiographs
        ]


@dataclass
class FakeIntake:
    """Writes down what was seen."""

    known: dict[str, KnownStudy] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)
    marks: dict[str, datetime] = field(default_factory=dict)
    seen: list[StudyFacts] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    kept: list[tuple[str, str]] = field(default_factory=list)
    refuses: dict[str, Exception] = field(default_factory=dict)

    def known_studies(self, site: str, study_instance_uids: Sequence[str]) -> dict[str, KnownStudy]:
        return {uid: self.known[uid] for uid in study_instance_uids if uid in self.known}

    def waiting_studies(self, site: str, limit: int) -> list[str]:
        return self.incomplete[:limit]

    def see_study(self, site, archive, study, listed, *, at, settle) -> str:
        if study.study_instance_uid in self.refuses:
            raise self.refuses[study.study_instance_uid]
        self.seen.append(study)
        return "queued"

    def sweep_mark(self, site: str, peer: str) -> datetime | None:
        return self.marks.get(peer)

    def swept(self, site: str, peer: str, mark: datetime) -> None:
        self.marks[peer] = mark

    def sweep_failed(self, site: str, peer: str, mark: datetime, failure: str) -> None:
        self.failed.append(failure)

    def accessions_to_ask_about(self, site: str, *, after: timedelta, every: timedelta, limit: int) -> list[str]:
        return self.waiting


@dataclass
class FakeLeases:
    """Leases the studies it was given; writes down what became of each."""

    ready: list[str]
    attempt: int = 1
    outcomes: dict[str, Any] = field(default_factory=dict)
    incomplete: set[str] = field(default_factory=set)
    headers: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    too_late: set[str] = field(default_factory=set)

    def lease_most_urgent(self, limit: int, lease: timedelta) -> list[Lease]:
        taken, self.ready = self.ready[:limit], self.ready[limit:]
        return [Lease(number, self.attempt, number, "north", uid) for number, uid in enumerate(taken)]

    def read_headers(self, lease: Lease, read) -> None:
        self.headers[lease.study_instance_uid] = [(sop, refusal) for sop, _, refusal in read]

    def record(self, lease: Lease, outcome: Assessment | UnusableRadiograph) -> bool:
        if lease.study_instance_uid in self.too_late:
            return False
        self.outcomes[lease.study_instance_uid] = outcome
        return True

    def offer_again(self, lease: Lease, reason: str, *, is_incomplete: bool = False) -> None:
        self.outcomes[lease.study_instance_uid] = reason
        if is_incomplete:
            self.incomplete.add(lease.study_instance_uid)


@dataclass
class FakeOutbox:
    """Hands out the deliveries it was given; writes down what became of each."""

    owed: list[Due]
    became: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    bodies: dict[int, bytes] = field(default_factory=dict)

    def lease_due(self, limit: int, lease: timedelta) -> list[Due]:
        taken, self.owed = self.owed[:limit], self.owed[limit:]
        return taken

    def result_for(self, due: Due):
        return due.delivery_id, None

    def keep_body(self, due: Due, body: bytes) -> bytes:
        return self.bodies.setdefault(due.delivery_id, body)

    def delivered(self, due: Due, acknowledged_as: str) -> None:
        self.became[due.delivery_id] = ("delivered", acknowledged_as)

    def deliver_again(self, due: Due, reason: str, delay: timedelta) -> None:
        self.became[due.delivery_id] = ("again", reason, delay)

    def park(self, due: Due, reason: str) -> None:
        self.became[due.delivery_id] = ("parked", reason)


@dataclass
class FakeReports:
    """A destination that answers as told, one answer a send: an exception or a name."""

    answers: list[Exception | str]
    name: str = "ehr"
    sent: list[tuple[bytes, str]] = field(default_factory=list)
    composed: int = 0

    def compose(self, result, previous) -> bytes:
        self.composed += 1
        return b"body %d" % self.composed

    def send(self, body: bytes, control_id: str) -> str:
        self.sent.append((body, control_id))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def away(what: str = "no answer") -> ArchiveUnavailable:
    """An archive that does not answer."""
    return ArchiveUnavailable(f"pacs: {what}")


def lateral(**changes: Any) -> InstanceFacts:
    """A view the gate refuses."""
    return make_facts(view_position="LL", **changes)
