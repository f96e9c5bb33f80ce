"""Tell the EHR, the RIS and the PACS what was found: from the outbox, until each has it or a person must look."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from datetime import timedelta

from triage.domain.errors import TriageError, Unavailable
from triage.ports import Due, Outbox, Reports

log = logging.getLogger(__name__)

LEASE = timedelta(minutes=2)
LONGEST_WAIT_S = 900


def deliver_due(limit: int, *, destinations: Mapping[str, Reports], book: Outbox) -> int:
    """Try at most *limit* deliveries that are due; each ends delivered, due again later, or parked."""
    leased = book.lease_due(limit, LEASE)
    silent: set[str] = set()
    for due in leased:
        if due.destination in silent:  # one time-out a turn is enough: a slow peer must not hold up the others
            book.deliver_again(due, "the destination did not answer just before", back_off(due.attempts))
        elif not deliver(due, destinations=destinations, book=book):
            silent.add(due.destination)
    return len(leased)


def deliver(due: Due, *, destinations: Mapping[str, Reports], book: Outbox) -> bool:
    """Try one delivery, the bytes composed once and the same on every repeat; False where the peer did not answer."""
    destination = destinations.get(due.destination)
    if destination is None:
        book.park(due, f"destination {due.destination} is not configured")
        return True
    try:
        body = due.body
        if body is None:
            result, previous = book.result_for(due)
            body = book.keep_body(due, destination.compose(result, previous))
        acknowledged_as = destination.send(body, due.control_id)
    except Unavailable as why:
        book.deliver_again(due, str(why), back_off(due.attempts))
        log.warning("delivery %d to %s: again later: %s", due.delivery_id, due.destination, why)
        return False
    except TriageError as why:
        book.park(due, str(why))
        log.warning("delivery %d to %s: parked: %s", due.delivery_id, due.destination, why)
    except Exception as fault:  # our own fault: to a person, and the other deliveries go on
        book.park(due, f"internal fault: {type(fault).__name__}")
        log.exception("delivery %d to %s failed", due.delivery_id, due.destination)
    else:
        book.delivered(due, acknowledged_as)
    return True


def back_off(attempts: int) -> timedelta:
    """Exponential with full jitter above a floor, so that a recovering peer is not flooded."""
    longest = min(LONGEST_WAIT_S, 2.0 ** min(attempts, 10))  # an outage of days must not overflow
    return timedelta(seconds=1 + random.uniform(0, longest))
