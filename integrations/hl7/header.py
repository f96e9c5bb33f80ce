"""MSH: what a message is, from whom, and how its sender wants to be answered. Nothing beyond MSH is read here."""

from __future__ import annotations

from dataclasses import dataclass

from integrations.hl7.charset import declared, decode_as, msh_line
from triage.domain.errors import MalformedMessage


@dataclass(frozen=True)
class Separators:
    """MSH-1 and MSH-2."""

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"

    @property
    def msh_2(self) -> str:
        """The encoding characters in MSH-2's order."""
        return self.component + self.repetition + self.escape + self.subcomponent


@dataclass(frozen=True)
class Header:
    """
    MSH, field by field, as sent; "" where not valued.

    Attributes:
        sending_application: the whole of MSH-3, components and all: with *sending_facility* and *control_id* it is the
            key on which repeats are recognised (STANDARDS 4.3; compare the body too, senders reuse control ids).
        accept_condition: MSH-15 (AL, NE, ER, SU); it or *application_condition* valued means enhanced mode.
    """

    separators: Separators
    sending_application: str
    sending_facility: str
    receiving_application: str
    receiving_facility: str
    sent_at: str
    message_type: str
    trigger: str
    structure: str
    control_id: str
    processing_id: str
    version: str
    accept_condition: str
    application_condition: str
    charset: tuple[str, ...]

    @property
    def version_number(self) -> tuple[int, ...]:
        """MSH-12 for comparing: "2.5.1" as (2, 5, 1); unreadable as 2.3, which every receiver understands."""
        parts = self.version.split(".")
        return tuple(int(part) for part in parts) if all(p.isascii() and p.isdigit() for p in parts) else (2, 3)

    @property
    def enhanced(self) -> bool:
        """Whether the sender asked for enhanced acknowledgement mode (HL7 2.9.2)."""
        return bool(self.accept_condition or self.application_condition)


def header(raw: bytes) -> Header:
    """
    Read MSH alone; a charset that does not fit is the body's trouble: whoever sent it still gets MSH-10 echoed.

    Raises:
        MalformedMessage: no MSH, or separators that cannot separate.
    """
    line = _line(raw)
    separators = _separators(line)
    fields = ["MSH", separators.field, *line.split(separators.field)[1:]]

    def field(number: int) -> str:
        return fields[number].strip() if number < len(fields) else ""

    kind = [*field(9).split(separators.component), "", "", ""]
    return Header(
        separators=separators,
        sending_application=field(3),
        sending_facility=field(4),
        receiving_application=field(5),
        receiving_facility=field(6),
        sent_at=field(7),
        message_type=kind[0],
        trigger=kind[1],
        structure=kind[2],
        control_id=field(10),
        processing_id=field(11).split(separators.component)[0],
        version=field(12).split(separators.component)[0],
        accept_condition=field(15),
        application_condition=field(16),
        charset=tuple(name.strip().upper() for name in field(18).split(separators.repetition) if name.strip()),
    )


def _line(raw: bytes) -> str:
    line = msh_line(raw)
    try:
        text = decode_as(line, declared(raw)).text
    except MalformedMessage:
        text = line.decode("latin-1")
    if "\x00" in text:  # PostgreSQL's text holds none
        raise MalformedMessage("a NUL character", "MSH")
    return text


def _separators(line: str) -> Separators:
    """MSH-1 and MSH-2, the usual ones filled in where MSH-2 is short (2.7 adds a fifth, for truncation)."""
    given = line[3:4]
    encoding = line[4:].split(given, 1)[0] if given else ""
    usual = Separators()
    separators = Separators(given, *(encoding[i : i + 1] or usual.msh_2[i] for i in range(4)))
    used = [separators.field, *separators.msh_2]
    if (
        not given
        or len(set(used)) < 5
        or any(not c.isascii() or not c.isprintable() or c.isalnum() or c == " " for c in used)
    ):
        raise MalformedMessage("separators that cannot separate", "MSH-1, MSH-2")
    return separators
