"""Inbound messages: stored, translated, applied, and what became of each."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import psycopg

from triage.domain.errors import Conflict, Rejected, TriageError
from triage.domain.order import OrderEvent
from triage.ports import Envelope, KeptMessage, Reader
from triage.postgres import messages, ordering, orders, studies
from triage.postgres.connect import Db
from triage.postgres.site_rules import SiteRules

log = logging.getLogger(__name__)

SETTLED = frozenset({"applied", "unchanged", "ignored"})


def accept(db: Db, rules: SiteRules, envelope: Envelope, body: bytes, read: Reader) -> KeptMessage:
    """Store *body*, translate and apply it; one commit, so what is acknowledged is durable."""
    kept = messages.keep(db, envelope, body)
    if not kept.is_new and kept.outcome in SETTLED:
        return kept
    return _apply(db, rules, kept, read)


def accept_again(db: Db, rules: SiteRules, kept: KeptMessage, read: Reader) -> KeptMessage:
    """Apply a stored message once more, whatever became of it before."""
    messages.lock(db, kept.message_id)
    return _apply(db, rules, kept, read)


def keep(db: Db, envelope: Envelope, body: bytes, outcome: str, reason: str) -> KeptMessage:
    """Store a message that is not applied, and why."""
    kept = messages.keep(db, envelope, body)
    messages.settle(db, kept.message_id, outcome, reason)
    return KeptMessage(kept.message_id, outcome, reason, kept.is_new, body, envelope)


def _apply(db: Db, rules: SiteRules, kept: KeptMessage, read: Reader) -> KeptMessage:
    try:
        with db.transaction():
            events = read(kept.body)
            _lock_identities(db, kept.envelope.site, events)
            outcomes = [ordering.apply(db, rules, kept, event) for event in events]
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


def _lock_identities(db: Db, site: str, events: Sequence[OrderEvent]) -> None:
    """Lock, once and in one order, everything the orders of a message and what is stored of them may match on."""
    keys: list[str] = []
    for event in events:
        stored = orders.find(db, site, event.order, lock=False)
        for order in (event.order, *([orders.completed_by(stored.order, event.order)] if stored else [])):
            keys += [*orders.identity_keys(order), f"order:{order.key}"]
            for study in studies.unmatched_like(db, site, order):
                keys += orders.identity_keys(studies.study_of(study))
    orders.lock_identity(db, site, keys)
