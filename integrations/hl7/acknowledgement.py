"""
ACK, in original and in enhanced mode (HL7 2.9.2, 2.9.3), written only after the message is stored.

Texts are ours and codes are table 0357's: nothing of the message but its own MSH comes back, so no patient does either.
A sender that asks for an application acknowledgement besides the accept one gets only the latter on the connection: we
start no exchange of our own.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum

from integrations.hl7.charset import encode
from integrations.hl7.header import Header, Separators, header
from integrations.hl7.segments import escape
from triage.domain.errors import MalformedMessage


class Verdict(StrEnum):
    """MSA-1 in original mode (table 0008); enhanced mode says the same with a C."""

    ACCEPT = "AA"
    ERROR = "AE"
    """Something in the message, or here: sent again as it is or corrected, it may pass."""
    REJECT = "AR"
    """Not a message we take: type, version or size."""


CONDITIONS: Mapping[str, str] = {
    "0": "Message accepted",
    "100": "Segment sequence error",
    "101": "Required field missing",
    "102": "Data type error",
    "103": "Table value not found",
    "200": "Unsupported message type",
    "201": "Unsupported event code",
    "202": "Unsupported processing id",
    "203": "Unsupported version id",
    "204": "Unknown key identifier",
    "205": "Duplicate key identifier",
    "206": "Application record locked",
    "207": "Application internal error",
}
"""HL7 table 0357, message error condition codes."""

TRIGGER = re.compile("[A-Z0-9]{3}")
"""MSH-9's second component (table 0003)."""

_NOBODY = Header(
    separators=Separators(),
    sending_application="",
    sending_facility="",
    receiving_application="",
    receiving_facility="",
    sent_at="",
    message_type="",
    trigger="",
    structure="",
    control_id="",
    processing_id="P",
    version="2.5.1",
    accept_condition="",
    application_condition="",
    charset=(),
)
"""Whom an answer goes to where no MSH could be read."""


def acknowledgement(
    received: Header | None,
    verdict: Verdict = Verdict.ACCEPT,
    *,
    condition: str = "207",
    text: str = "",
    now: datetime | None = None,
    control_id: str = "",
) -> bytes:
    """
    Answer one message.

    Args:
        received: the header of the message answered; None where no MSH could be read. That is answered, with an empty
            MSA-2: a sender that hears nothing sends for ever, and an answer that names no message confirms none.
        condition: table 0357, for a verdict other than ACCEPT.
        text: our own words for people, free of the message's content.
        control_id: our own MSH-10, unique by default.
    Returns:
        The acknowledgement without framing; b"" where the sender's MSH-15 and MSH-16 ask for none.
    """
    head = received or _NOBODY
    code = _code(head, verdict)
    if not code:
        return b""
    modern = head.version_number >= (2, 5)
    trigger = head.trigger if TRIGGER.fullmatch(head.trigger) else ""  # a field that slipped may hold a name there
    kind = ["ACK", *([trigger] if trigger else []), *(["ACK"] if trigger and modern else [])]
    mark = head.separators
    ends = (head.receiving_application, head.receiving_facility, head.sending_application, head.sending_facility)
    stamp = f"{now or datetime.now(UTC):%Y%m%d%H%M%S%z}"
    own = control_id or secrets.token_hex(10)
    what = (mark.component.join(kind), own, head.processing_id or "P", head.version or "2.3")
    plain = all(field.isascii() for field in (*ends, head.control_id))
    charset = "" if plain else mark.repetition.join(head.charset)  # only valued beyond ASCII (IHE ITI TF-2x C.2.2)
    segments = [
        ["MSH", mark.msh_2, *ends, stamp, "", *what, *[""] * 5, charset],
        ["MSA", code, head.control_id, "" if modern else _escaped(text, mark)],
    ]
    if verdict is not Verdict.ACCEPT:
        segments.append(_err(condition, text, mark, modern=modern))
    lines = "".join(mark.field.join(segment).rstrip(mark.field) + "\r" for segment in segments)
    try:
        return encode(lines, "~".join(head.charset))
    except MalformedMessage:  # a header its own charset does not cover: echo the bytes as they were read
        return lines.encode("latin-1", "replace") if not lines.isascii() else lines.encode()


def refusal(raw: bytes, verdict: Verdict, *, condition: str, text: str, now: datetime | None = None) -> bytes:
    """Refuse a message of which only the bytes are at hand, perhaps only the first of them."""
    try:
        received = header(raw)
    except MalformedMessage:
        received = None
    return acknowledgement(received, verdict, condition=condition, text=text, now=now)


def _code(head: Header, verdict: Verdict) -> str:
    """
    MSA-1, or "" for no answer.

    Enhanced mode: MSH-15 decides on the accept acknowledgement (CA, CE, CR). Where it says never, MSH-16 decides on the
    application acknowledgement, which then is the answer on the connection.
    """
    if not head.enhanced:
        return verdict.value
    if _wanted(head.accept_condition, verdict):
        return "C" + verdict.value[1]
    if head.accept_condition in {"", "NE"} and _wanted(head.application_condition, verdict):
        return verdict.value
    return ""


def _wanted(condition: str, verdict: Verdict) -> bool:
    """Table 0155: AL always, NE never, ER on error, SU on success."""
    succeeded = verdict is Verdict.ACCEPT
    return {"AL": True, "ER": not succeeded, "SU": succeeded}.get(condition, condition not in {"", "NE"})


def _err(condition: str, text: str, mark: Separators, *, modern: bool) -> list[str]:
    coded = [condition, CONDITIONS[condition], "HL70357"]
    if not modern:  # ERR-1 is segment, sequence, field and, in its subcomponents, the code (2.3, 2.4)
        return ["ERR", mark.component * 3 + mark.subcomponent.join(coded)]
    return ["ERR", "", "", mark.component.join(coded), "E", "", "", _escaped(text, mark), _escaped(text, mark)]


def _escaped(text: str, mark: Separators) -> str:
    return escape(text) if mark == Separators() else "".join(c for c in text if c not in mark.field + mark.msh_2)
