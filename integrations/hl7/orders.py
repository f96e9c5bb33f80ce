"""
Theirs → ours: ORM^O01, OMG^O19 and OMI^O23 to `OrderEvent`, by the field map of STANDARDS 4.3.

What is not understood raises `MalformedMessage` naming the field, never its content: a person looks, nobody guesses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, tzinfo

from integrations.hl7.charset import decode
from integrations.hl7.header import Header, header
from integrations.hl7.names import person_name
from integrations.hl7.segments import Segment, part, segments
from triage.domain.errors import MalformedMessage
from triage.domain.imaging import Patient
from triage.domain.order import Code, Order, OrderAction, OrderEvent, RequestedPriority

ORDER_MESSAGES = frozenset({("ORM", "O01"), ("OMG", "O19"), ("OMI", "O23")})
"""MSH-9: general order (2.3 to 2.5), its 2.5.1 successor in IHE scheduled workflow, and the imaging order."""

ACTIONS: Mapping[tuple[str, str], OrderAction] = {
    **{("NW", status): OrderAction.PLACE for status in ("", "SC", "IP")},
    **{("XO", status): OrderAction.CHANGE for status in ("", "SC", "IP")},
    ("XO", "CM"): OrderAction.COMPLETE,
    **{("CA", status): OrderAction.CANCEL for status in ("", "CA")},
    **{("DC", status): OrderAction.CANCEL for status in ("", "CA", "DC")},
    **{("OC", status): OrderAction.CANCEL for status in ("", "CA")},
    **{("OD", status): OrderAction.CANCEL for status in ("", "CA", "DC")},
    **{("SC", status): OrderAction.COMPLETE for status in ("CM", "A")},
    **{("SC", status): OrderAction.CANCEL for status in ("CA", "DC")},
    **{("SC", status): OrderAction.CHANGE for status in ("SC", "IP")},
    ("SC", "HD"): OrderAction.HOLD,
    **{("HD", status): OrderAction.HOLD for status in ("", "HD", "SC")},
    **{("RL", status): OrderAction.RELEASE for status in ("", "SC", "IP")},
}
"""ORC-1 order control and ORC-5 order status (HL7 tables 0119, 0038) to what we do; after dcm4chee's default."""

PRIORITIES: Mapping[str, RequestedPriority] = {
    "": RequestedPriority.ROUTINE,
    "S": RequestedPriority.STAT,
    "STAT": RequestedPriority.STAT,
    **dict.fromkeys(("A", "ASAP", "P", "C", "T", "URGENT", "U", "HIGH"), RequestedPriority.URGENT),
    **dict.fromkeys(("R", "ROUTINE", "MEDIUM", "LOW"), RequestedPriority.ROUTINE),
}
"""TQ1-9, ORC-7.6 (HL7 table 0485: stat, asap, pre-operative, callback, timing critical, routine) and words in use."""

_TIMING_CRITICAL = re.compile(r"T[SMHDWL]\d+")
_SEXES: Mapping[str, str] = {"M": "M", "F": "F", "O": "O", "A": "O", "N": "O"}  # table 0001 to DICOM PS3.3 C.7.1.1
_UID = re.compile(r"(?=.{1,64}$)[0-2](\.[0-9]+)+")
_INSTANT = re.compile(r"([0-9]{4,14})(?:\.([0-9]{1,6})[0-9]*)?([+-][0-9]{4})?")


def is_order(head: Header) -> bool:
    """Whether `orders` reads this kind of message; any other is not parsed beyond MSH."""
    return (head.message_type, head.trigger) in ORDER_MESSAGES


def orders(
    raw: bytes, *, zone: tzinfo = UTC, priorities: Mapping[str, RequestedPriority] = PRIORITIES
) -> Sequence[OrderEvent]:
    """
    Translate one message.

    Args:
        raw: the message as framed, undecoded; `charset.decode(raw).warnings` says what its text needed.
        zone: the site's, for instants that carry none.
        priorities: the site's own words in upper case, beside those of `PRIORITIES`.
    Returns:
        One event for each accession number and Study Instance UID, in the message's order.
    Raises:
        MalformedMessage: not an order message, or one that cannot be read with certainty.
    """
    head = header(raw)
    if not is_order(head):
        raise MalformedMessage("not an order message", "MSH-9")
    lines = list(segments(decode(raw).text, head.separators))
    if sum(line.name == "MSH" for line in lines) != 1:
        raise MalformedMessage("several messages in one frame", "MSH")
    patients = [line for line in lines if line.name == "PID"]
    if len(patients) != 1:
        raise MalformedMessage("one PID is needed", "PID")
    patient = _patient(patients[0])
    return [event for group in _groups(lines) for event in _events(group, patient, zone, priorities)]


@dataclass
class _Group:
    """One ORC and what belongs to it."""

    orc: Segment
    obr: Segment | None = None
    timings: list[Segment] = field(default_factory=list)
    steps: list[Segment] = field(default_factory=list)
    study: Segment | None = None

    @property
    def accession(self) -> str:
        """OBR-18, whose first component is the number."""
        return self.obr.value(18) if self.obr else ""


def _groups(lines: Iterable[Segment]) -> list[_Group]:
    """
    Cut the message at each ORC.

    IHE sends one ZDS after the last of several ORC/OBR pairs of one request: it covers those of the same accession.
    """
    groups: list[_Group] = []
    for line in lines:
        if line.name == "ORC":
            groups.append(_Group(line))
        elif line.name in {"OBR", "TQ1", "IPC", "ZDS"}:
            if not groups:
                raise MalformedMessage(f"{line.name} before any ORC", line.name)
            if line.name == "OBR":
                if groups[-1].obr:
                    raise MalformedMessage("a second OBR under one ORC", "OBR")
                groups[-1].obr = line
            elif line.name == "ZDS":
                groups[-1].study = line
            else:
                (groups[-1].timings if line.name == "TQ1" else groups[-1].steps).append(line)
    if not groups:
        raise MalformedMessage("no ORC", "ORC")
    if sum(group.study is not None for group in groups) == 1 and groups[-1].accession:
        for group in groups:
            if group.accession == groups[-1].accession:
                group.study = groups[-1].study
    return groups


def _events(
    group: _Group, patient: Patient, zone: tzinfo, priorities: Mapping[str, RequestedPriority]
) -> Iterable[OrderEvent]:
    """One event per accession and Study Instance UID: several scheduled steps (IPC) of one study are one order."""
    action = _action(group.orc)
    obr = group.obr or Segment("OBR", (), group.orc.separators)
    procedure = _codes(obr)
    if action in {OrderAction.PLACE, OrderAction.CHANGE} and not procedure:
        raise MalformedMessage("an order without a procedure", "OBR-4")
    priority, scheduled_at = _priority(group, obr, priorities), _scheduled_at(group, obr, zone)
    seen: set[tuple[str, str]] = set()
    for step in group.steps or [Segment("IPC", (), group.orc.separators)]:
        accession, issuer = _identified(step, 1)
        if not accession:
            accession, issuer = _identified(obr, 18)
        order = Order(
            patient=patient,
            placer_order_number=group.orc.value(2) or obr.value(2),
            filler_order_number=group.orc.value(3) or obr.value(3),
            accession_number=accession,
            issuer_of_accession=issuer,
            study_instance_uid=_study_instance_uid(group, step),
            procedure=procedure,
            modality=step.value(5) or obr.value(24),
            requested_priority=priority,
            scheduled_at=scheduled_at,
        )
        if not order.key:
            raise MalformedMessage("an order without any number", "ORC-2, ORC-3, OBR-18, IPC-1")
        if (order.key, order.study_instance_uid) not in seen:
            seen.add((order.key, order.study_instance_uid))
            yield OrderEvent(action, order)


def _action(orc: Segment) -> OrderAction:
    control, status = orc.value(1), orc.value(5)
    try:
        return ACTIONS[control, status]
    except KeyError:
        pair = " and ".join(word if re.fullmatch("[A-Z]{1,2}|", word) else "no code" for word in (control, status))
        raise MalformedMessage(f"order control and status {pair}, a pair not known here", "ORC-1, ORC-5") from None


def _patient(pid: Segment) -> Patient:
    numbers = [r for r in pid.repetitions(3) if part(r, 1)]
    if not numbers:
        raise MalformedMessage("no patient identifier", "PID-3")
    number = next((r for kind in ("MR", "PI") for r in numbers if part(r, 5) == kind), numbers[0])
    return Patient(
        patient_id=part(number, 1),
        issuer=part(number, 4) or part(number, 4, 2),
        name=person_name(pid.repetitions(5)),
        birth_date=_birth_date(pid),
        sex=_SEXES.get(pid.value(8).upper(), ""),
    )


def _birth_date(pid: Segment) -> date | None:
    """PID-7; a year or a month alone is no birth date."""
    text = pid.value(7)
    if not text or re.fullmatch("[0-9]{4}(?:[0-9]{2})?(?:00)*", text):
        return None
    try:
        if not re.match("[0-9]{8}", text):
            raise ValueError
        return date.fromisoformat(text[:8])
    except ValueError:
        raise MalformedMessage("not a date", "PID-7") from None


def _identified(segment: Segment, number: int) -> tuple[str, str]:
    """A number and its issuer (EI: namespace, else universal id); OBR-18 carries them alike in practice."""
    return segment.value(number), segment.value(number, 2) or segment.value(number, 3)


def _study_instance_uid(group: _Group, step: Segment) -> str:
    uid, where = step.value(3), "IPC-3"
    if not uid and group.study:
        uid, where = group.study.value(1), "ZDS-1"
    if uid and not _UID.fullmatch(uid):
        raise MalformedMessage("not a UID", where)
    return uid


def _codes(obr: Segment) -> tuple[Code, ...]:
    """OBR-4, then OBR-44: each a code and its alternate (CE components 1 to 3 and 4 to 6)."""
    places = [(number, at) for number in (4, 44) for at in (1, 4)]
    codes = [Code(obr.value(n, at), obr.value(n, at + 2), obr.value(n, at + 1)) for n, at in places]
    return tuple(dict.fromkeys(code for code in codes if code.value or code.display))


def _priority(group: _Group, obr: Segment, priorities: Mapping[str, RequestedPriority]) -> RequestedPriority:
    """TQ1-9, else ORC-7.6, else OBR-27.6; a word nobody knows may mean STAT, so it goes to a person."""
    sent = [(timing.value(9), "TQ1-9") for timing in group.timings]
    sent += [(group.orc.value(7, 6), "ORC-7.6"), (obr.value(27, 6), "OBR-27.6")]
    word, where = next(((word.upper(), where) for word, where in sent if word), ("", ""))
    if _TIMING_CRITICAL.fullmatch(word):
        return RequestedPriority.URGENT
    try:
        return priorities[word] if word in priorities else PRIORITIES[word]
    except KeyError:
        raise MalformedMessage("a priority not known here", where) from None


def _scheduled_at(group: _Group, obr: Segment, zone: tzinfo) -> datetime | None:
    """TQ1-7, else ORC-7.4, else OBR-27.4."""
    sent = [(timing.value(7), "TQ1-7") for timing in group.timings]
    sent += [(group.orc.value(7, 4), "ORC-7.4"), (obr.value(27, 4), "OBR-27.4")]
    text, where = next(((text, where) for text, where in sent if text), ("", ""))
    return instant(text, zone, where) if text else None


def instant(text: str, zone: tzinfo, where: str = "") -> datetime | None:
    """
    An HL7 DTM, `YYYYMMDD[HH[MM[SS[.S]]]][+ZZZZ]`, in UTC; None where it names no day (2.A.22).

    Raises:
        MalformedMessage: no such instant; *where* names the field.
    """
    found = _INSTANT.fullmatch(text)
    if not found or len(found[1]) % 2:
        raise MalformedMessage("not a date and time", where)
    digits, fraction, offset = found.groups()
    if len(digits) < 8:
        return None
    try:
        local = datetime.fromisoformat(f"{digits[:8]}T{digits[8:].ljust(6, '0')}{offset or ''}")
        aware = local if offset else local.replace(tzinfo=zone)
        return aware.replace(microsecond=int((fraction or "0").ljust(6, "0"))).astimezone(UTC)
    except (ValueError, OverflowError):
        raise MalformedMessage("not a date and time", where) from None
