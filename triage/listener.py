"""What the MLLP listener does with each message: store, apply, and the acknowledgement that the outcome deserves."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from integrations.hl7.acknowledgement import Verdict, acknowledgement
from integrations.hl7.header import Header, header
from integrations.hl7.orders import is_order, orders
from triage.domain.errors import MalformedMessage, Unavailable
from triage.domain.order import OrderEvent
from triage.intake import Dialect, accept_message, keep_garbage
from triage.ports import Envelope, Intake, KeptMessage

log = logging.getLogger(__name__)

MESSAGE_TYPE, TRIGGER = re.compile(r"[A-Z]{3}"), re.compile(r"[A-Z0-9]{3}|")
VERDICTS = {
    "applied": (Verdict.ACCEPT, "0"),
    "unchanged": (Verdict.ACCEPT, "0"),
    "ignored": (Verdict.ACCEPT, "0"),
    "parked": (Verdict.ERROR, "101"),
    "rejected": (Verdict.REJECT, "200"),
}
"""Outcome of a stored message to acknowledgement code and HL7 table 0357 condition."""


@dataclass(frozen=True)
class Hl7Listener:
    """The handler of one site's MLLP socket."""

    site: str
    book: Intake
    zone: ZoneInfo
    storage_faults: tuple[type[Exception], ...] = ()

    def read(self, raw: bytes) -> Sequence[OrderEvent]:
        """Orders of one stored message; also what replay uses."""
        return orders(raw, zone=self.zone)

    def on_message(self, raw: bytes, peer: str) -> bytes:
        """Store and apply one message; the acknowledgement is written only after the commit."""
        try:
            return self._answer(raw, peer)
        except self.storage_faults as why:
            # no answer at all: many senders skip a message that was answered AE, and this one is not stored
            raise Unavailable(f"PostgreSQL: {type(why).__name__}") from None

    def _answer(self, raw: bytes, peer: str) -> bytes:
        try:
            head = header(raw)
        except MalformedMessage as why:
            kept = keep_garbage(raw, site=self.site, peer=_host(peer), book=self.book, reason=str(why))
            log.warning("hl7: message %d rejected: %s", kept.message_id, why)
            return acknowledgement(None, Verdict.REJECT, condition="100", text=str(why))
        kept = self._accept(raw, head, peer)
        log.info("hl7: message %d (%s) %s", kept.message_id, kept.envelope.kind or "no type", kept.outcome)
        verdict, condition = VERDICTS[kept.outcome]
        return acknowledgement(head, verdict, condition=condition, text=kept.reason)

    def _accept(self, raw: bytes, head: Header, peer: str) -> KeptMessage:
        kind = _kind(head)
        sender = f"{head.sending_application}|{head.sending_facility}"
        envelope = Envelope(self.site, _host(peer), "hl7", sender=sender, control_id=head.control_id, kind=kind)
        wanted = frozenset({kind}) if is_order(head) else frozenset()
        return accept_message(raw, envelope, book=self.book, dialect=Dialect(wanted, self.read))

    def on_garbage(self, raw: bytes, peer: str) -> None:
        """Keep bytes that were no message."""
        kept = keep_garbage(raw, site=self.site, peer=_host(peer), book=self.book, reason="bytes outside a whole frame")
        log.warning("hl7: %d bytes that are no message kept as message %d", len(raw), kept.message_id)


def _kind(head: Header) -> str:
    """MSH-9 where it is one; a message whose fields slipped may hold a name there."""
    if MESSAGE_TYPE.fullmatch(head.message_type) and TRIGGER.fullmatch(head.trigger):
        return f"{head.message_type}^{head.trigger}"
    return "unknown"


def _host(peer: str) -> str:
    """The peer without its ephemeral port."""
    return peer.rsplit(":", 1)[0]
