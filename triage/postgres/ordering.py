"""An order is placed, changed, held or cancelled, and its entries follow."""

from __future__ import annotations

from triage.domain.errors import Rejected
from triage.domain.matching import may_be_same_patient
from triage.domain.order import (
    ORDER_TRANSITIONS,
    STATUS_AFTER,
    Order,
    OrderAction,
    OrderEvent,
    OrderStatus,
    asks_for_chest_radiograph,
)
from triage.domain.worklist import AiState, ReadingState, WorklistEntry
from triage.ports import KeptMessage
from triage.postgres import audit_trail, deliveries, matching, orders, placing, runs, worklist
from triage.postgres.connect import Db
from triage.postgres.site_rules import SiteRules
from triage.postgres.worklist import ATTEMPTS

NEEDS_AN_ORDER = frozenset({OrderAction.CANCEL, OrderAction.COMPLETE, OrderAction.HOLD, OrderAction.RELEASE})
ENDED = frozenset({OrderStatus.CANCELLED, OrderStatus.COMPLETED})


def apply(db: Db, rules: SiteRules, kept: KeptMessage, event: OrderEvent) -> tuple[str, str]:
    """Apply one order; returns (outcome, reason)."""
    if not event.order.key:
        raise Rejected("the order has neither accession, filler, placer number nor a resource id")
    stored = orders.find(db, kept.envelope.site, event.order)
    if stored is None:
        return _place(db, rules, kept, event)
    return _change(db, rules, kept, event, stored)


def _place(db: Db, rules: SiteRules, kept: KeptMessage, event: OrderEvent) -> tuple[str, str]:
    site, order, actor = kept.envelope.site, event.order, kept.envelope.peer
    if event.action in NEEDS_AN_ORDER and not order.procedure:
        return "ignored", "the order is not known here"
    if not asks_for_chest_radiograph(order, rules.chest_codes):
        return "ignored", "the procedure is not a chest radiograph"
    if event.action in {OrderAction.CANCEL, OrderAction.COMPLETE}:
        return "ignored", f"{event.action} of an order that was never placed"
    if event.action in NEEDS_AN_ORDER:  # it goes on, and its placing was missed: a person should know
        raise Rejected(f"{event.action} of an order that was never placed")
    is_change = event.action is OrderAction.CHANGE
    order_id = orders.insert(db, site, order, STATUS_AFTER[event.action], is_change=is_change)
    matching.meet_waiting_study(db, rules, site, order_id, order, actor)
    audit_trail.append(db, site, actor, "order-placed", f"order:{order_id}", message=kept.message_id)
    return "applied", ""


def _change(
    db: Db, rules: SiteRules, kept: KeptMessage, event: OrderEvent, stored: orders.StoredOrder
) -> tuple[str, str]:
    if not may_be_same_patient(stored.order.patient, event.order.patient):
        raise Rejected("the order number belongs to another patient")
    site, actor, order_id = kept.envelope.site, kept.envelope.peer, stored.order_id
    merged = orders.completed_by(stored.order, event.order)
    # Placed while alive: a late repeat that neither lifts a hold nor undoes a change. After its end: placed anew,
    # also where the content is the old one: a repeat keeps its control id and never gets here (`accepting.accept`), and
    # a late duplicate under another one cannot be told from a new order, whose loss would be the worse mistake.
    is_placed_late = event.action is OrderAction.PLACE and stored.status not in ENDED
    status = stored.status if is_placed_late else STATUS_AFTER[event.action]
    if merged == stored.order and status is stored.status:
        return "unchanged", ""
    if is_placed_late and stored.was_changed:
        return "unchanged", "the order was changed since"
    if status is not stored.status and status not in ORDER_TRANSITIONS[stored.status]:
        raise Rejected(f"an order that is {stored.status} cannot become {status}")
    entries = worklist.of_order(db, order_id)  # locked before the order's key may change, which their holders share
    orders.update(db, order_id, merged, status, is_change=event.action is OrderAction.CHANGE)
    audit_trail.append(
        db, site, actor, f"order-{event.action}", f"order:{order_id}",
        message=kept.message_id, status=str(status), priority=str(merged.requested_priority),
    )  # fmt: skip
    for entry in entries:
        _order_changed(db, rules, entry, merged, status, actor)
    if status is OrderStatus.ACTIVE:
        matching.meet_waiting_study(db, rules, site, order_id, merged, actor)
    return "applied", ""


def _order_changed(
    db: Db, rules: SiteRules, entry: WorklistEntry, order: Order, status: OrderStatus, actor: str
) -> None:
    if status is OrderStatus.CANCELLED:
        _withdraw(db, entry, actor, "order cancelled")
        return
    is_joined = entry.ai_state is AiState.SUPERSEDED
    if entry.reading_state is ReadingState.CANCELLED and status is OrderStatus.ACTIVE and not is_joined:
        entry = worklist.set_reading_state(db, entry, ReadingState.UNREAD)
        to = AiState.AWAITING_IMAGES if entry.eligible_at is None else AiState.QUEUED
        if entry.ai_state is AiState.WITHDRAWN:
            entry = worklist.set_ai_state(
                db, entry, to, "order placed again", assess_after=orders.now(db), attempts_left=ATTEMPTS
            )
    if entry.requested_priority is not order.requested_priority:
        before = entry.requested_priority
        entry = worklist.set_priority(db, entry, order.requested_priority)
        placing.replace_clinically(
            db, rules, entry, actor, f"order changed from {before} to {order.requested_priority}"
        )


def _withdraw(db: Db, entry: WorklistEntry, actor: str, reason: str) -> None:
    if entry.reading_state in {ReadingState.UNREAD, ReadingState.READING}:
        entry = worklist.set_reading_state(db, entry, ReadingState.CANCELLED)
    if entry.ai_state not in {AiState.WITHDRAWN, AiState.SUPERSEDED}:
        worklist.set_ai_state(db, entry, AiState.WITHDRAWN, reason)
    runs.withdraw(db, entry.entry_id)
    deliveries.tell(db, entry.entry_id, None, ())
    audit_trail.append(db, entry.site, actor, "withdrawn", f"entry:{entry.entry_id}", reason=reason)
