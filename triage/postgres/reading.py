"""What readers do with an entry: claim, give back, report, move."""

from __future__ import annotations

from datetime import datetime

from triage.domain.errors import Conflict
from triage.domain.priority import Place
from triage.domain.worklist import AiState, ReadingState, WorklistEntry
from triage.ports import Line, NewLabel
from triage.postgres import audit_labels, audit_trail, placing, reading_list, rollout, views, worklist
from triage.postgres.connect import Db
from triage.postgres.site_rules import SiteRules


def page(db: Db, rules: SiteRules, site: str, *, limit: int, offset: int = 0, at: datetime) -> list[Line]:
    """Unread entries in reading order."""
    entries = reading_list.reading_list(
        db, site, now=at, expedited_per_ordinary=rules.policy.expedited_per_ordinary,
        limit=limit, offset=offset,
    )  # fmt: skip
    return views.lines(db, entries)


def next_study(db: Db, rules: SiteRules, site: str, reader: str, *, at: datetime) -> WorklistEntry | None:
    """Claim what comes next."""
    entry = reading_list.claim_next(
        db, site, reader, now=at, expedited_per_ordinary=rules.policy.expedited_per_ordinary
    )
    if entry is not None:
        audit_trail.append(db, site, reader, "claimed", f"entry:{entry.entry_id}", how="next")
    return entry


def claim(db: Db, entry_id: int, reader: str) -> WorklistEntry:
    """Claim this one."""
    entry = reading_list.claim(db, entry_id, reader)
    audit_trail.append(db, entry.site, reader, "claimed", f"entry:{entry_id}", how="chosen")
    return entry


def release(db: Db, rules: SiteRules, entry_id: int, reader: str) -> WorklistEntry:
    """Give a claim back; only who holds it may."""
    entry = worklist.locked(db, entry_id)
    if entry.reading_state is not ReadingState.READING:
        raise Conflict(f"entry {entry_id} is {entry.reading_state}, not claimed")
    if entry.claimed_by != reader:
        raise Conflict(f"entry {entry_id} is claimed by {entry.claimed_by}")
    entry = worklist.set_reading_state(db, entry, ReadingState.UNREAD)
    placing.catch_up(db, rules, entry, reader)
    audit_trail.append(db, entry.site, reader, "released", f"entry:{entry_id}")
    return worklist.locked(db, entry_id)


def report(db: Db, rules: SiteRules, entry_id: int, reader: str, label: str | None) -> WorklistEntry:
    """Close the entry; *label* is the radiologist's class, kept for the audit."""
    entry = worklist.locked(db, entry_id)
    if entry.reading_state is ReadingState.READING and entry.claimed_by != reader:
        raise Conflict(f"entry {entry_id} is claimed by {entry.claimed_by}")
    is_shown = rollout.in_force(db, rules, entry.site) != rollout.SHADOW
    saw = entry.ai_state in {AiState.FLAGGED, AiState.NOT_FLAGGED} and is_shown
    entry = worklist.set_reading_state(db, entry, ReadingState.REPORTED, reader)
    if label is not None:
        audit_labels.add(db, NewLabel(entry_id, label, "radiologist", reader, saw))
    audit_trail.append(db, entry.site, reader, "reported", f"entry:{entry_id}", label=label)
    return entry


def override(db: Db, entry_id: int, reader: str, place: Place, reason: str) -> WorklistEntry:
    """A person moves an entry, either way."""
    entry = worklist.locked(db, entry_id)
    if entry.eligible_at is None or entry.reading_state is not ReadingState.UNREAD:
        raise Conflict(f"entry {entry_id} is {entry.reading_state} or has no images")
    entry = worklist.set_place(
        db, entry, place, eligible_at=entry.eligible_at, because="override", actor=reader, reason=reason
    )
    audit_trail.append(db, entry.site, reader, "override", f"entry:{entry_id}", lane=int(place.lane))
    return entry
