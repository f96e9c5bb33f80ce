"""An entry's place in the reading order: what the order asks for, and what a flag adds to it."""

from __future__ import annotations

from triage.domain.priority import LANE_OF, clinical_place, moved_forward
from triage.domain.worklist import AiState, ReadingState, WorklistEntry
from triage.postgres import rollout, worklist
from triage.postgres.connect import Db
from triage.postgres.site_rules import SiteRules


def replace_clinically(db: Db, rules: SiteRules, entry: WorklistEntry, actor: str, reason: str) -> None:
    """Give an unread entry the place its order now deserves; what the AI or a person gave it is kept."""
    if entry.place is None or entry.eligible_at is None or entry.reading_state is not ReadingState.UNREAD:
        return
    place = clinical_place(entry.requested_priority, entry.eligible_at, rules.policy)
    if entry.placed_because == "override" and place.lane >= entry.place.lane:
        return  # a person's place yields only to an order that became more urgent than it
    because = "order-changed"
    is_flagged = entry.ai_state is AiState.FLAGGED and rollout.in_force(db, rules, entry.site) == "reorder"
    if entry.placed_because == "flagged" or is_flagged:
        forward = moved_forward(place, entry.eligible_at, rules.policy)
        because = "flagged" if forward != place else because
        place = forward
    if place != entry.place:
        worklist.set_place(db, entry, place, eligible_at=entry.eligible_at, because=because, actor=actor, reason=reason)


def move_forward(db: Db, rules: SiteRules, entry: WorklistEntry) -> None:
    """Move a flagged, unread entry forward; a report that came first suppresses the move, a claim holds it off."""
    if entry.ai_state is not AiState.FLAGGED or rollout.in_force(db, rules, entry.site) != "reorder":
        return
    if entry.place is None or entry.eligible_at is None or entry.reading_state is not ReadingState.UNREAD:
        return
    if entry.placed_because == "override":
        return
    forward = moved_forward(entry.place, entry.eligible_at, rules.policy)
    if forward != entry.place:
        worklist.set_place(
            db, entry, forward, eligible_at=entry.eligible_at, because="flagged", actor="ai",
            reason="AI suspects COVID (preliminary)",
        )  # fmt: skip


def catch_up(db: Db, rules: SiteRules, entry: WorklistEntry, actor: str) -> None:
    """Make the moves a claim held off: the order or the AI may have spoken while the entry stood still."""
    clinical = LANE_OF[entry.requested_priority]
    if entry.lane is not None and entry.placed_because != "override":
        is_moved = clinical < entry.lane if entry.placed_because == "flagged" else clinical is not entry.lane
        if is_moved:
            reason = f"order changed to {entry.requested_priority} while claimed"
            replace_clinically(db, rules, entry, actor, reason)
    move_forward(db, rules, worklist.locked(db, entry.entry_id))
