"""Orders and studies meet, whichever came first; entries join where exactly one order fits."""

from __future__ import annotations

from typing import Any

from triage.domain.matching import may_be_same_patient, the_only_match
from triage.domain.order import Order, RequestedPriority
from triage.domain.worklist import AiState, ReadingState
from triage.postgres import audit_trail, orders, placing, studies, worklist
from triage.postgres.connect import Db
from triage.postgres.site_rules import SiteRules


def meet_waiting_study(db: Db, rules: SiteRules, site: str, order_id: int, order: Order, actor: str) -> None:
    """Join a new or changed order with a study that waits for it, else let the order wait for its images."""
    entries = worklist.of_order(db, order_id)
    for row in studies.unmatched_like(db, site, order):
        match(db, rules, site, row, actor)
    if not entries and not worklist.of_order(db, order_id):
        worklist.insert(db, site, order_id=order_id, study_id=None, priority=order.requested_priority)


def match(db: Db, rules: SiteRules, site: str, row: dict[str, Any], actor: str) -> None:
    """Join a stored study with its one order; note why where there is none."""
    study = studies.study_of(row)
    found = the_only_match(study, orders.candidates_for(db, site, study))
    if found.by != row["match_outcome"]:
        studies.set_match(db, row["id"], found.by)
    if found.order_id is None:
        if worklist.of_study(db, row["id"]) is None:
            worklist.insert(db, site, order_id=None, study_id=row["id"], priority=RequestedPriority.ROUTINE)
        return
    order = orders.by_id(db, found.order_id)
    own, entries = worklist.meeting(db, row["id"], found.order_id)
    waiting = [e for e in entries if e.study_id is None and e.ai_state is AiState.AWAITING_IMAGES]
    audit_trail.append(
        db, site, actor, "matched", f"order:{found.order_id}", study=study.study_instance_uid, by=found.by
    )
    if own is None and waiting:
        worklist.attach(db, waiting[0], study_id=row["id"], priority=order.requested_priority)
    elif own is None:
        worklist.insert(db, site, order_id=found.order_id, study_id=row["id"], priority=order.requested_priority)
    elif own.order_id is None:
        before = own.requested_priority
        own = worklist.attach(db, own, order_id=found.order_id, priority=order.requested_priority)
        for entry in waiting:  # the study's own entry lives on; the one that waited for it is no longer needed
            worklist.set_ai_state(db, entry, AiState.SUPERSEDED, f"joined entry {own.entry_id}")
            if entry.reading_state is ReadingState.UNREAD:
                worklist.set_reading_state(db, entry, ReadingState.CANCELLED)
            elif entry.reading_state is ReadingState.REPORTED and own.reading_state is ReadingState.UNREAD:
                own = worklist.set_reading_state(db, own, ReadingState.REPORTED, entry.claimed_by)
        placing.replace_clinically(
            db, rules, own, actor, f"order arrived: {order.requested_priority} instead of {before}"
        )


def part_if_of_another_patient(db: Db, site: str, row: dict[str, Any], actor: str) -> bool:
    """
    Take a study whose patient was corrected away from an order of somebody else; whether they parted.

    The study's entry keeps its place; the order waits for its images again in an entry of its own.
    """
    entry = worklist.of_study(db, row["id"])
    if entry is None or entry.order_id is None:
        return False
    study, order_id = studies.study_of(row), entry.order_id
    order = orders.by_id(db, order_id)
    if may_be_same_patient(study.patient, order.patient):
        return False
    worklist.detach(db, entry)
    if entry.reading_state is ReadingState.CANCELLED:  # it was the other patient's order that was cancelled
        worklist.set_reading_state(db, entry, ReadingState.UNREAD)
    elif not any(other.ai_state is not AiState.SUPERSEDED for other in worklist.of_order(db, order_id)):
        worklist.insert(db, site, order_id=order_id, study_id=None, priority=order.requested_priority)
    studies.set_match(db, row["id"], "patient-differs")
    audit_trail.append(db, site, actor, "parted", f"order:{order_id}", study=study.study_instance_uid)
    audit_trail.append(db, site, actor, "parted", f"entry:{entry.entry_id}", order=str(order_id))
    return True
