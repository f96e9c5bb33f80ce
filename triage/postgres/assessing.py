"""How an attempt to assess ends: with a result, without one, or offered again."""

from __future__ import annotations

from datetime import timedelta

from triage.domain.errors import Conflict, UnusableRadiograph
from triage.domain.finding import Assessment
from triage.domain.worklist import AiState, WorklistEntry
from triage.ports import Lease
from triage.postgres import audit_trail, deliveries, leases, orders, placing, rollout, runs, worklist
from triage.postgres.connect import Db
from triage.postgres.site_rules import SiteRules
from triage.postgres.worklist import ATTEMPTS

PRESENTED_AS = {"not-eligible": AiState.NOT_ELIGIBLE, "failed": AiState.FAILED, "timed-out": AiState.TIMED_OUT}
FAILURES = frozenset({"undecodable", "unreadable-header", "engine-error"})
"""Refusals that are a fault to look at, not a radiograph outside the intended use."""


def record(db: Db, rules: SiteRules, lease: Lease, outcome: Assessment | UnusableRadiograph) -> bool:
    """Write the run, the place and the deliveries it causes in one transaction; False for a late finisher."""
    try:
        entry, _ = leases.held(db, lease)
    except Conflict:
        return False
    if isinstance(outcome, UnusableRadiograph):
        kind = "failed" if outcome.reason in FAILURES else "not-eligible"
        end(db, entry, lease.study_id, lease.attempt, kind, outcome.reason)
        return True
    run_id = runs.record(
        db, entry_id=entry.entry_id, study_id=lease.study_id, attempt=lease.attempt, outcome="assessed",
        reason="", assessment=outcome,
    )  # fmt: skip
    to = AiState.FLAGGED if outcome.is_flagged else AiState.NOT_FLAGGED
    entry = worklist.set_ai_state(db, entry, to)
    placing.move_forward(db, rules, entry)
    is_shadow = rollout.in_force(db, rules, entry.site) == rollout.SHADOW
    deliveries.tell(db, entry.entry_id, run_id, () if is_shadow else rules.destinations)
    audit_trail.append(
        db, entry.site, "ai", "assessed", f"entry:{entry.entry_id}",
        run=str(run_id), state=str(to), card=outcome.classifier.card_sha256,
    )  # fmt: skip
    return True


def end(db: Db, entry: WorklistEntry, study_id: int, attempt: int, outcome: str, reason: str) -> None:
    """End an attempt without a result; the entry keeps its place, visibly marked."""
    runs.record(
        db, entry_id=entry.entry_id, study_id=study_id, attempt=attempt, outcome=outcome, reason=reason,
        assessment=None,
    )  # fmt: skip
    deliveries.tell(db, entry.entry_id, None, ())
    worklist.set_ai_state(db, entry, PRESENTED_AS[outcome], reason)
    audit_trail.append(db, entry.site, "ai", outcome, f"entry:{entry.entry_id}", reason=reason)


def offer_again(db: Db, lease: Lease, reason: str, *, is_incomplete: bool = False) -> None:
    """Give a lease back because a peer did not answer; the attempt does not count, the wait grows."""
    try:
        entry, left = leases.held(db, lease)
    except Conflict:
        return
    delay = timedelta(seconds=min(300, 2 ** min(lease.attempt, 9)))
    worklist.set_ai_state(
        db, entry, AiState.AWAITING_IMAGES if is_incomplete else AiState.QUEUED, reason[:200],
        assess_after=orders.now(db) + delay, attempts_left=left + 1,
    )  # fmt: skip


def offer_expired(db: Db) -> int:
    """Offer again what crashed workers held; an entry that used up its attempts is timed out and shown."""
    dropped = leases.expired(db)
    for entry, left in dropped:
        if left > 0:
            worklist.set_ai_state(db, entry, AiState.QUEUED, "a worker did not come back", assess_after=orders.now(db))
        else:
            attempt = leases.attempt_of(db, entry.entry_id)
            assert entry.study_id is not None
            end(db, entry, entry.study_id, attempt, "timed-out", f"given up after {ATTEMPTS} attempts")
    return len(dropped)


def assess_again(db: Db, entry_id: int, actor: str) -> None:
    """Queue a finished entry once more: replay after a fault was mended."""
    entry = worklist.locked(db, entry_id)
    if entry.eligible_at is None:
        raise Conflict(f"entry {entry_id} has no images to assess")
    worklist.set_ai_state(db, entry, AiState.QUEUED, "replayed", assess_after=orders.now(db), attempts_left=ATTEMPTS)
    audit_trail.append(db, entry.site, actor, "replayed", f"entry:{entry_id}")
