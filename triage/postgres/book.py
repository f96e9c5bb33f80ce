"""Everything the use cases need remembered, each method one transaction over the modules beside this one."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg

from triage.domain.eligibility import REASONS
from triage.domain.errors import Conflict, Rejected, TriageError, UnusableRadiograph
from triage.domain.finding import Assessment
from triage.domain.imaging import InstanceFacts, SeenInstance, StudyFacts
from triage.domain.matching import Candidate, the_only_match
from triage.domain.order import (
    ORDER_TRANSITIONS,
    STATUS_AFTER,
    Order,
    OrderAction,
    OrderEvent,
    OrderStatus,
    RequestedPriority,
    asks_for_chest_radiograph,
)
from triage.domain.priority import LANE_OF, Place, PriorityPolicy, clinical_place, moved_forward
from triage.domain.result import Result
from triage.domain.worklist import AiState, ReadingState, WorklistEntry
from triage.ports import Due, Envelope, KeptMessage, KnownStudy, Lease, Line, Reader
from triage.postgres import audit_trail, deliveries, messages, orders, runs, studies, sweeps, views, worklist
from triage.postgres.connect import Db, Pool

log = logging.getLogger(__name__)

SETTLED = frozenset({"applied", "unchanged", "ignored"})
IMAGES = frozenset({"CR", "DX", ""})
"""Modalities whose new instances start a new run; our own SEG and SR must not."""
FINISHED = frozenset({AiState.FLAGGED, AiState.NOT_FLAGGED, AiState.NOT_ELIGIBLE, AiState.FAILED, AiState.TIMED_OUT})
PRESENTED_AS = {"not-eligible": AiState.NOT_ELIGIBLE, "failed": AiState.FAILED, "timed-out": AiState.TIMED_OUT}
ATTEMPTS = 15
FAILURES = frozenset({"undecodable", "unreadable-header", "engine-error"})
"""Refusals that are a fault to look at, not a radiograph outside the intended use."""


@dataclass(frozen=True)
class SiteRules:
    """What a site decides: waits and share, which local codes mean a chest radiograph, rollout, destinations."""

    policy: PriorityPolicy = field(default_factory=PriorityPolicy)
    chest_codes: frozenset[str] = frozenset()
    rollout: str = "show"
    """shadow: recorded only; show: visible, order unchanged; reorder: flags move studies forward."""
    destinations: tuple[str, ...] = ()


@dataclass
class Book:
    """PostgreSQL behind the ports `Intake`, `Leases`, `Outbox` and `ReadingList`."""

    pool: Pool
    rules: SiteRules = field(default_factory=SiteRules)

    # --- intake ---

    def accept(self, envelope: Envelope, body: bytes, read: Reader) -> KeptMessage:
        """Store *body*, translate and apply it; one commit, so what is acknowledged is durable."""
        with self.pool.connection() as db, db.transaction():
            kept = messages.keep(db, envelope, body)
            if not kept.is_new and kept.outcome in SETTLED:
                return kept
            return self._apply(db, kept, read)

    def _apply(self, db: Db, kept: KeptMessage, read: Reader) -> KeptMessage:
        try:
            with db.transaction():
                events = read(kept.body)
                self._lock_identities(db, kept.envelope.site, events)
                outcomes = [self._apply_order(db, kept, event) for event in events]
        except (Rejected, Conflict) as refusal:
            outcome, reason = "parked", str(refusal)
        except psycopg.DataError as fault:
            outcome, reason = "parked", f"holds a value that cannot be stored: {type(fault).__name__}"
        except (TriageError, psycopg.Error):
            raise
        except Exception as fault:  # our own fault: the message is kept for a person, the feed goes on
            outcome, reason = "parked", f"internal fault: {type(fault).__name__}"
            log.error("message %d: internal fault: %s", kept.message_id, type(fault).__name__)
        else:
            outcome = next((o for o in ("applied", "unchanged", "ignored") if o in {o for o, _ in outcomes}), "ignored")
            reason = "; ".join(dict.fromkeys(r for _, r in outcomes if r)) or ("" if outcomes else "holds no order")
        messages.settle(db, kept.message_id, outcome, reason)
        return KeptMessage(kept.message_id, outcome, reason, kept.is_new, kept.body, kept.envelope)

    def keep(self, envelope: Envelope, body: bytes, outcome: str, reason: str) -> KeptMessage:
        """Store a message that is not applied, and why."""
        with self.pool.connection() as db, db.transaction():
            kept = messages.keep(db, envelope, body)
            messages.settle(db, kept.message_id, outcome, reason)
            return KeptMessage(kept.message_id, outcome, reason, kept.is_new, body, envelope)

    def for_replay(self, message_id: int) -> KeptMessage | None:
        """A stored message, to be accepted once more."""
        with self.pool.connection() as db:
            return messages.for_replay(db, message_id)

    def accept_again(self, kept: KeptMessage, read: Reader) -> KeptMessage:
        """Apply a stored message once more, whatever became of it before."""
        with self.pool.connection() as db, db.transaction():
            messages.lock(db, kept.message_id)
            return self._apply(db, kept, read)

    def _lock_identities(self, db: Db, site: str, events: Sequence[OrderEvent]) -> None:
        """Lock, once and in one order, everything the orders of a message and what is stored of them may match on."""
        keys: list[str] = []
        for event in events:
            stored = orders.find(db, site, event.order, lock=False)
            for order in (event.order, *([orders.completed_by(stored[2], event.order)] if stored else [])):
                keys += [*orders.identity_keys(order), f"order:{order.key}"]
                for study in studies.unmatched_like(db, site, order):
                    keys += orders.identity_keys(studies.study_of(study))
        orders.lock_identity(db, site, keys)

    def _apply_order(self, db: Db, kept: KeptMessage, event: OrderEvent) -> tuple[str, str]:
        """Apply one order; returns (outcome, reason)."""
        site, order, actor = kept.envelope.site, event.order, kept.envelope.peer
        if not order.key:
            raise Rejected("the order has neither accession, filler, placer number nor a resource id")
        found = orders.find(db, site, order)
        status = STATUS_AFTER[event.action]
        if found is None:
            if event.action in {OrderAction.CANCEL, OrderAction.COMPLETE, OrderAction.HOLD, OrderAction.RELEASE}:
                raise Rejected(f"{event.action} of an order that was never placed")
            if not asks_for_chest_radiograph(order, self.rules.chest_codes):
                return "ignored", "the procedure is not a chest radiograph"
            order_id = orders.insert(db, site, order, status)
            self._meet_waiting_study(db, site, order_id, order, actor)
            audit_trail.append(db, site, actor, "order-placed", f"order:{order_id}", message=kept.message_id)
            return "applied", ""
        order_id, old_status, stored = found
        merged = orders.completed_by(stored, order)
        if event.action is OrderAction.PLACE and old_status is not OrderStatus.ACTIVE:
            status = old_status  # a late repeat of the placing message does not revive what was cancelled since
        if merged == stored and status is old_status:
            return "unchanged", ""
        if status is not old_status and status not in ORDER_TRANSITIONS[old_status]:
            raise Rejected(f"an order that is {old_status} cannot become {status}")
        entries = worklist.of_order(db, order_id)  # locked before the order's key may change, which their holders share
        orders.update(db, order_id, merged, status)
        audit_trail.append(
            db, site, actor, f"order-{event.action}", f"order:{order_id}",
            message=kept.message_id, status=str(status), priority=str(merged.requested_priority),
        )  # fmt: skip
        for entry in entries:
            self._order_changed(db, entry, merged, status, actor)
        if status is OrderStatus.ACTIVE:
            self._meet_waiting_study(db, site, order_id, merged, actor)
        return "applied", ""

    def _order_changed(self, db: Db, entry: WorklistEntry, order: Order, status: OrderStatus, actor: str) -> None:
        if status is OrderStatus.CANCELLED:
            self._withdraw(db, entry, actor, "order cancelled")
            return
        if entry.reading_state is ReadingState.CANCELLED and status is OrderStatus.ACTIVE:
            entry = worklist.set_reading_state(db, entry, ReadingState.UNREAD)
            to = AiState.AWAITING_IMAGES if entry.eligible_at is None else AiState.QUEUED
            if entry.ai_state is AiState.WITHDRAWN:
                entry = worklist.set_ai_state(
                    db, entry, to, "order placed again", assess_after=orders.now(db), attempts_left=ATTEMPTS
                )
        if entry.requested_priority is not order.requested_priority:
            before = entry.requested_priority
            entry = worklist.set_priority(db, entry, order.requested_priority)
            self._replace_clinically(db, entry, actor, f"order changed from {before} to {order.requested_priority}")

    def _replace_clinically(self, db: Db, entry: WorklistEntry, actor: str, reason: str) -> None:
        """Give an unread entry the place its order now deserves; what the AI or a person gave it is kept."""
        if entry.place is None or entry.eligible_at is None or entry.reading_state is not ReadingState.UNREAD:
            return
        place = clinical_place(entry.requested_priority, entry.eligible_at, self.rules.policy)
        if entry.placed_because == "override" and place.lane >= entry.place.lane:
            return  # a person's place yields only to an order that became more urgent than it
        because = "order-changed"
        is_flagged = entry.ai_state is AiState.FLAGGED and self.rules.rollout == "reorder"
        if entry.placed_because == "flagged" or is_flagged:
            forward = moved_forward(place, entry.eligible_at, self.rules.policy)
            because = "flagged" if forward != place else because
            place = forward
        if place != entry.place:
            worklist.set_place(
                db, entry, place, eligible_at=entry.eligible_at, because=because, actor=actor, reason=reason
            )

    def _withdraw(self, db: Db, entry: WorklistEntry, actor: str, reason: str) -> None:
        if entry.reading_state in {ReadingState.UNREAD, ReadingState.READING}:
            entry = worklist.set_reading_state(db, entry, ReadingState.CANCELLED)
        if entry.ai_state not in {AiState.WITHDRAWN, AiState.SUPERSEDED}:
            worklist.set_ai_state(db, entry, AiState.WITHDRAWN, reason)
        withdrawn = runs.withdraw(db, entry.entry_id)
        if withdrawn is not None:
            told = deliveries.destinations_told(db, withdrawn)
            deliveries.supersede(db, withdrawn)
            deliveries.add(db, withdrawn, told, kind="withdrawal")
        audit_trail.append(db, entry.site, actor, "withdrawn", f"entry:{entry.entry_id}", reason=reason)

    def _meet_waiting_study(self, db: Db, site: str, order_id: int, order: Order, actor: str) -> None:
        """Join a new or changed order with a study that waits for it, else let the order wait for its images."""
        entries = worklist.of_order(db, order_id)
        for row in studies.unmatched_like(db, site, order):
            self._match(db, site, row, actor)
        if not entries and not worklist.of_order(db, order_id):
            worklist.insert(db, site, order_id=order_id, study_id=None, priority=order.requested_priority)

    def _match(self, db: Db, site: str, row: dict[str, Any], actor: str) -> None:
        """Join a stored study with its one order; note why where there is none."""
        study = studies.study_of(row)
        match = the_only_match(study, orders.candidates_for(db, site, study))
        if match.by != row["match_outcome"]:
            studies.set_match(db, row["id"], match.by)
        if match.order_id is None:
            if worklist.of_study(db, row["id"]) is None:
                worklist.insert(db, site, order_id=None, study_id=row["id"], priority=RequestedPriority.ROUTINE)
            return
        order = orders.by_id(db, match.order_id)
        own, entries = worklist.meeting(db, row["id"], match.order_id)
        waiting = [e for e in entries if e.study_id is None and e.ai_state is AiState.AWAITING_IMAGES]
        audit_trail.append(
            db, site, actor, "matched", f"order:{match.order_id}", study=study.study_instance_uid, by=match.by
        )
        if own is None and waiting:
            worklist.attach(db, waiting[0], study_id=row["id"], priority=order.requested_priority)
        elif own is None:
            worklist.insert(db, site, order_id=match.order_id, study_id=row["id"], priority=order.requested_priority)
        elif own.order_id is None:
            before = own.requested_priority
            own = worklist.attach(db, own, order_id=match.order_id, priority=order.requested_priority)
            for entry in waiting:  # the study's own entry lives on; the one that waited for it is no longer needed
                worklist.set_ai_state(db, entry, AiState.SUPERSEDED, f"joined entry {own.entry_id}")
                if entry.reading_state is ReadingState.UNREAD:
                    worklist.set_reading_state(db, entry, ReadingState.CANCELLED)
                elif entry.reading_state is ReadingState.REPORTED and own.reading_state is ReadingState.UNREAD:
                    own = worklist.set_reading_state(db, own, ReadingState.REPORTED, entry.claimed_by)
            self._replace_clinically(db, own, actor, f"order arrived: {order.requested_priority} instead of {before}")

    def known_study(self, site: str, study_instance_uid: str) -> KnownStudy | None:
        """What is known of a study, or None."""
        with self.pool.connection() as db:
            return views.known_study(db, site, study_instance_uid)

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
        with self.pool.connection() as db, db.transaction():
            stored = studies.by_uid(db, site, study.study_instance_uid)
            known = [study, *([studies.study_of(stored)] if stored else [])]
            orders.lock_identity(db, site, [key for facts in known for key in orders.identity_keys(facts)])
            row = studies.upsert(db, site, archive, study, at)
            if row["is_new"] or row["match_outcome"] in {"no-order", "ambiguous", "patient-differs"}:
                self._match(db, site, row, archive)
            new = studies.add_instances(db, row["id"], listed, at)
            entry = worklist.of_study(db, row["id"])
            assert entry is not None
            if row["is_new"]:
                audit_trail.append(
                    db, site, archive, "study-seen", f"entry:{entry.entry_id}", study=study.study_instance_uid
                )
            news = row["is_new"] or any(i.sop_instance_uid in new and i.modality in IMAGES for i in listed)
            if news:
                studies.touch(db, row["id"], at)
            return self._queue(db, entry, study, len(listed), news, at, settle)

    def _queue(
        self, db: Db, entry: WorklistEntry, study: StudyFacts, listed: int, news: bool, at: datetime, settle: timedelta
    ) -> str:
        """Put an entry whose images came (or came late) in line for assessment."""
        if listed == 0:
            return ""
        if entry.eligible_at is None:
            entry = worklist.set_place(
                db, entry, clinical_place(entry.requested_priority, at, self.rules.policy),
                eligible_at=at, because="clinical", actor="archive", reason="images stored",
            )  # fmt: skip
        waits = entry.ai_state is AiState.AWAITING_IMAGES
        if not news and not waits:
            return ""
        if entry.ai_state in {AiState.WITHDRAWN, AiState.SUPERSEDED}:
            return ""
        if entry.ai_state in FINISHED:
            audit_trail.append(db, entry.site, "archive", "late-instance", f"entry:{entry.entry_id}")
        if study.instance_count is not None and listed < study.instance_count:
            reason = f"incomplete: {listed} of {study.instance_count} instances"
            if waits and entry.ai_reason == reason:
                return ""
            worklist.set_ai_state(db, entry, AiState.AWAITING_IMAGES, reason)
            return "incomplete"
        worklist.set_ai_state(db, entry, AiState.QUEUED, "settling", assess_after=at + settle, attempts_left=ATTEMPTS)
        return "queued"

    def sweep_mark(self, site: str, peer: str) -> datetime | None:
        """Up to when *peer* was swept."""
        with self.pool.connection() as db:
            return sweeps.mark(db, site, peer)

    def swept(self, site: str, peer: str, mark: datetime) -> None:
        """A sweep ended whole."""
        with self.pool.connection() as db:
            sweeps.set_mark(db, site, peer, mark)

    def sweep_failed(self, site: str, peer: str, mark: datetime, failure: str) -> None:
        """A sweep did not; the mark stays."""
        with self.pool.connection() as db:
            sweeps.failed(db, site, peer, mark, failure)

    def accessions_to_ask_about(self, site: str, *, after: timedelta, every: timedelta, limit: int) -> list[str]:
        """Orders whose images do not come."""
        with self.pool.connection() as db:
            return orders.accessions_to_ask_about(db, site, after=after, every=every, limit=limit)

    def note_unreadable(self, site: str, archive: str, files: Iterable[tuple[str, str]]) -> None:
        """Files in the archive's folder that are no DICOM."""
        with self.pool.connection() as db:
            sweeps.note_unreadable(db, site, archive, files)

    # --- assessment ---

    def lease_most_urgent(self, limit: int, lease: timedelta) -> list[Lease]:
        """Hold at most *limit* ready studies, most urgent first."""
        with self.pool.connection() as db:
            return worklist.lease_most_urgent(db, limit, lease)

    def read_headers(self, lease: Lease, read: Sequence[tuple[str, InstanceFacts | None, str]]) -> None:
        """Keep what the headers said."""
        with self.pool.connection() as db, db.transaction():
            studies.set_facts(db, lease.study_id, read)

    def record(self, lease: Lease, outcome: Assessment | UnusableRadiograph) -> bool:
        """Write the run, the place and the deliveries it causes in one transaction; False for a late finisher."""
        with self.pool.connection() as db, db.transaction():
            try:
                entry, _ = worklist.held(db, lease)
            except Conflict:
                return False
            if isinstance(outcome, UnusableRadiograph):
                kind = "failed" if outcome.reason in FAILURES else "not-eligible"
                self._end(db, entry, lease.study_id, lease.attempt, kind, outcome.reason)
                return True
            run_id, before = runs.record(
                db, entry_id=entry.entry_id, study_id=lease.study_id, attempt=lease.attempt, outcome="assessed",
                reason="", assessment=outcome,
            )  # fmt: skip
            to = AiState.FLAGGED if outcome.is_flagged else AiState.NOT_FLAGGED
            entry = worklist.set_ai_state(db, entry, to)
            self._move_forward(db, entry)
            if before is not None:
                deliveries.supersede(db, before)
            if self.rules.rollout != "shadow":
                deliveries.add(db, run_id, self.rules.destinations)
            audit_trail.append(
                db, entry.site, "ai", "assessed", f"entry:{entry.entry_id}",
                run=str(run_id), state=str(to), card=outcome.classifier.card_sha256,
            )  # fmt: skip
            return True

    def _move_forward(self, db: Db, entry: WorklistEntry) -> None:
        """Move a flagged, unread entry forward; a report that came first suppresses the move, a claim holds it off."""
        if entry.ai_state is not AiState.FLAGGED or self.rules.rollout != "reorder":
            return
        if entry.place is None or entry.eligible_at is None or entry.reading_state is not ReadingState.UNREAD:
            return
        if entry.placed_because == "override":
            return
        forward = moved_forward(entry.place, entry.eligible_at, self.rules.policy)
        if forward != entry.place:
            worklist.set_place(
                db, entry, forward, eligible_at=entry.eligible_at, because="flagged", actor="ai",
                reason="AI suspects COVID (preliminary)",
            )  # fmt: skip

    def _end(self, db: Db, entry: WorklistEntry, study_id: int, attempt: int, outcome: str, reason: str) -> None:
        """End an attempt without a result; the entry keeps its place, visibly marked."""
        _, before = runs.record(
            db, entry_id=entry.entry_id, study_id=study_id, attempt=attempt, outcome=outcome, reason=reason,
            assessment=None,
        )  # fmt: skip
        if before is not None:
            deliveries.supersede(db, before, ["result"])  # a withdrawal still owed has no newer result to replace it
        worklist.set_ai_state(db, entry, PRESENTED_AS[outcome], reason)
        audit_trail.append(db, entry.site, "ai", outcome, f"entry:{entry.entry_id}", reason=reason)

    def offer_again(self, lease: Lease, reason: str, *, is_incomplete: bool = False) -> None:
        """Give a lease back because a peer did not answer; the attempt does not count, the wait grows."""
        with self.pool.connection() as db, db.transaction():
            try:
                entry, left = worklist.held(db, lease)
            except Conflict:
                return
            delay = timedelta(seconds=min(300, 2 ** min(lease.attempt, 9)))
            worklist.set_ai_state(
                db, entry, AiState.AWAITING_IMAGES if is_incomplete else AiState.QUEUED, reason[:200],
                assess_after=orders.now(db) + delay, attempts_left=left + 1,
            )  # fmt: skip

    def offer_expired(self) -> int:
        """Offer again what crashed workers held; an entry that used up its attempts is timed out and shown."""
        with self.pool.connection() as db, db.transaction():
            dropped = worklist.expired(db)
            for entry, left in dropped:
                if left > 0:
                    worklist.set_ai_state(
                        db, entry, AiState.QUEUED, "a worker did not come back", assess_after=orders.now(db)
                    )
                else:
                    attempt = worklist.attempt_of(db, entry.entry_id)
                    assert entry.study_id is not None
                    self._end(db, entry, entry.study_id, attempt, "timed-out", f"given up after {ATTEMPTS} attempts")
            return len(dropped)

    def assess_again(self, entry_id: int, actor: str) -> None:
        """Queue a finished entry once more: replay after a fault was mended."""
        with self.pool.connection() as db, db.transaction():
            entry = worklist.locked(db, entry_id)
            if entry.eligible_at is None:
                raise Conflict(f"entry {entry_id} has no images to assess")
            worklist.set_ai_state(
                db, entry, AiState.QUEUED, "replayed", assess_after=orders.now(db), attempts_left=ATTEMPTS
            )
            audit_trail.append(db, entry.site, actor, "replayed", f"entry:{entry_id}")

    # --- deliveries ---

    def lease_due(self, limit: int, lease: timedelta) -> list[Due]:
        """Deliveries whose time has come."""
        with self.pool.connection() as db:
            return deliveries.lease_due(db, limit, lease)

    def result_for(self, due: Due) -> tuple[Result, Result | None]:
        """The result to tell, and the one it took the place of."""
        with self.pool.connection() as db:
            result = runs.by_run(db, due.run_id)
            if result is None:
                raise Conflict(f"run {due.run_id} holds no assessment")
            return result, runs.previous_of(db, result)

    def keep_body(self, due: Due, body: bytes) -> bytes:
        """Fix the bytes at the first try."""
        with self.pool.connection() as db:
            return deliveries.keep_body(db, due.delivery_id, body)

    def delivered(self, due: Due, acknowledged_as: str) -> None:
        """The peer has it."""
        with self.pool.connection() as db, db.transaction():
            if deliveries.delivered(db, due, acknowledged_as):
                self._audit_delivery(db, due, "delivered")

    def deliver_again(self, due: Due, reason: str, delay: timedelta) -> None:
        """Waiting may help."""
        with self.pool.connection() as db:
            deliveries.again(db, due, reason, delay)

    def park(self, due: Due, reason: str) -> None:
        """Waiting cannot help: to a person."""
        with self.pool.connection() as db, db.transaction():
            if deliveries.park(db, due, reason):
                self._audit_delivery(db, due, "parked")

    def _audit_delivery(self, db: Db, due: Due, action: str) -> None:
        entry_id, site = deliveries.entry_of(db, due.delivery_id)
        audit_trail.append(
            db, site, "deliver", action, f"entry:{entry_id}", destination=due.destination, control_id=due.control_id
        )

    def offer_expired_deliveries(self) -> int:
        """Offer again what a crashed sender held."""
        with self.pool.connection() as db:
            return deliveries.offer_expired(db)

    def replay_delivery(self, delivery_id: int) -> bool:
        """Send a parked delivery again now."""
        with self.pool.connection() as db:
            return deliveries.replay(db, delivery_id)

    # --- reading ---

    def page(self, site: str, *, limit: int, offset: int = 0, at: datetime) -> list[Line]:
        """Unread entries in reading order."""
        with self.pool.connection() as db:
            entries = worklist.reading_list(
                db, site, now=at, expedited_per_ordinary=self.rules.policy.expedited_per_ordinary,
                limit=limit, offset=offset,
            )  # fmt: skip
            return views.lines(db, entries)

    def claimed(self, site: str, limit: int = 50) -> list[Line]:
        """Entries being read."""
        with self.pool.connection() as db:
            return views.lines(db, views.claimed(db, site, limit))

    def awaiting(self, site: str, limit: int = 50) -> list[Line]:
        """Orders without images."""
        with self.pool.connection() as db:
            return views.lines(db, views.awaiting(db, site, limit))

    def next_study(self, site: str, reader: str, *, at: datetime) -> WorklistEntry | None:
        """Claim what comes next."""
        with self.pool.connection() as db, db.transaction():
            entry = worklist.claim_next(
                db, site, reader, now=at, expedited_per_ordinary=self.rules.policy.expedited_per_ordinary
            )
            if entry is not None:
                audit_trail.append(db, site, reader, "claimed", f"entry:{entry.entry_id}", how="next")
            return entry

    def claim(self, entry_id: int, reader: str) -> WorklistEntry:
        """Claim this one."""
        with self.pool.connection() as db, db.transaction():
            entry = worklist.claim(db, entry_id, reader)
            audit_trail.append(db, entry.site, reader, "claimed", f"entry:{entry_id}", how="chosen")
            return entry

    def release(self, entry_id: int, reader: str) -> WorklistEntry:
        """Give a claim back; only who holds it may."""
        with self.pool.connection() as db, db.transaction():
            entry = worklist.locked(db, entry_id)
            if entry.reading_state is not ReadingState.READING:
                raise Conflict(f"entry {entry_id} is {entry.reading_state}, not claimed")
            if entry.claimed_by != reader:
                raise Conflict(f"entry {entry_id} is claimed by {entry.claimed_by}")
            entry = worklist.set_reading_state(db, entry, ReadingState.UNREAD)
            self._catch_up(db, entry, reader)
            audit_trail.append(db, entry.site, reader, "released", f"entry:{entry_id}")
            return worklist.locked(db, entry_id)

    def _catch_up(self, db: Db, entry: WorklistEntry, actor: str) -> None:
        """Make the moves a claim held off: the order or the AI may have spoken while the entry stood still."""
        clinical = LANE_OF[entry.requested_priority]
        if entry.lane is not None and entry.placed_because != "override":
            is_moved = clinical < entry.lane if entry.placed_because == "flagged" else clinical is not entry.lane
            if is_moved:
                reason = f"order changed to {entry.requested_priority} while claimed"
                self._replace_clinically(db, entry, actor, reason)
        self._move_forward(db, worklist.locked(db, entry.entry_id))

    def report(self, entry_id: int, reader: str, label: str | None) -> WorklistEntry:
        """Close the entry; *label* is the radiologist's class, kept for the audit."""
        with self.pool.connection() as db, db.transaction():
            entry = worklist.locked(db, entry_id)
            if entry.reading_state is ReadingState.READING and entry.claimed_by != reader:
                raise Conflict(f"entry {entry_id} is claimed by {entry.claimed_by}")
            saw = entry.ai_state in {AiState.FLAGGED, AiState.NOT_FLAGGED} and self.rules.rollout != "shadow"
            entry = worklist.set_reading_state(db, entry, ReadingState.REPORTED, reader)
            if label is not None:
                views.add_label(db, entry_id, label, reader, saw)
            audit_trail.append(db, entry.site, reader, "reported", f"entry:{entry_id}", label=label)
            return entry

    def override(self, entry_id: int, reader: str, place: Place, reason: str) -> WorklistEntry:
        """A person moves an entry, either way."""
        with self.pool.connection() as db, db.transaction():
            entry = worklist.locked(db, entry_id)
            if entry.eligible_at is None or entry.reading_state is not ReadingState.UNREAD:
                raise Conflict(f"entry {entry_id} is {entry.reading_state} or has no images")
            entry = worklist.set_place(
                db, entry, place, eligible_at=entry.eligible_at, because="override", actor=reader, reason=reason
            )
            audit_trail.append(db, entry.site, reader, "override", f"entry:{entry_id}", lane=int(place.lane))
            return entry

    # --- what people and machines look at ---

    def entry_detail(self, entry_id: int, *, viewer: str) -> dict[str, Any]:
        """Everything about one entry for the study page; the view itself goes into the audit trail."""
        with self.pool.connection() as db, db.transaction():
            detail = views.entry_detail(db, entry_id)
            entry: WorklistEntry = detail["entry"]
            audit_trail.append(db, entry.site, viewer, "viewed", f"entry:{entry_id}")
            return detail

    def overview(self, site: str) -> dict[str, Any]:
        """Counts by state and everything stuck, without patient data."""
        with self.pool.connection() as db:
            return views.overview(db, site)

    def messages_listed(self, outcomes: Sequence[str], limit: int = 100) -> list[dict[str, Any]]:
        """Inbound messages by outcome."""
        with self.pool.connection() as db:
            return messages.listed(db, outcomes, limit)

    def find_results(self, criteria: runs.Criteria, limit: int) -> list[Result]:
        """Results for the FHIR endpoint."""
        with self.pool.connection() as db:
            return runs.find(db, criteria, limit)

    def result_of_run(self, run_id: UUID) -> Result | None:
        """One result."""
        with self.pool.connection() as db:
            return runs.by_run(db, run_id)

    def first_broken_audit_row(self) -> int | None:
        """Walk the audit trail's chain; None if it holds."""
        with self.pool.connection() as db:
            return audit_trail.first_broken_row(db)


def reason_in_words(reason: str) -> str:
    """A reason code as a sentence part; what is no code stands for itself."""
    return REASONS.get(reason, reason)


__all__ = ["Book", "Candidate", "SiteRules", "reason_in_words"]
