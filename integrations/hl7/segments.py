"""
Segments, fields, components: the shape of ER7, with hl7apy reading each field that is asked for.

hl7apy takes 11 ms to parse a whole message into its tree, and refuses many that hospitals send (STANDARDS 4.3). Here a
line is cut at its field separators, and only the fields the order map names go through hl7apy's field parser, TOLERANT
and always as version 2.5.1: 2.3 to 2.5 put the fields we read in the same places.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.exceptions import HL7apyException
from hl7apy.parser import parse_field

from integrations.hl7.header import Separators
from triage.domain.errors import MalformedMessage

VERSION = "2.5.1"

LONGEST_FIELD = 20_000
"""Characters: none of the fields we read comes near, and hl7apy takes 30 µs for each component."""

Components = Mapping[int, Mapping[int, str]]
"""One repetition of a field: component and subcomponent number, from 1, to the unescaped text."""


@dataclass(frozen=True)
class Segment:
    """One line of a message; fields are numbered as in the standard (PID-3 is `first(3)`)."""

    name: str
    fields: Sequence[str] = field(repr=False)
    separators: Separators = field(default_factory=Separators, repr=False)
    _read: dict[int, tuple[Components, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def text(self, number: int) -> str:
        """The field as sent; "" where absent or explicitly null (two double quotes)."""
        value = self.fields[number].strip() if number < len(self.fields) else ""
        return "" if value == '""' else value

    def repetitions(self, number: int) -> tuple[Components, ...]:
        """The valued repetitions of a field."""
        if number not in self._read:
            sent = self.text(number).split(self.separators.repetition)
            if sum(map(len, sent)) > LONGEST_FIELD:
                raise MalformedMessage("a field too long to be true", f"{self.name}-{number}")
            self._read[number] = tuple(self._components(number, text) for text in sent if text.strip())
        return self._read[number]

    def value(self, number: int, component: int = 1, subcomponent: int = 1) -> str:
        """One value of the first valued repetition, "" where absent."""
        repetitions = self.repetitions(number)
        return part(repetitions[0], component, subcomponent) if repetitions else ""

    def _components(self, number: int, text: str) -> Components:
        marks = self.separators
        if marks.component not in text and marks.subcomponent not in text:
            return {1: {1: unescape(text, marks)}}
        encoding = {
            "SEGMENT": "\r",
            "GROUP": "\r",
            "FIELD": marks.field,
            "COMPONENT": marks.component,
            "REPETITION": marks.repetition,
            "ESCAPE": marks.escape,
            "SUBCOMPONENT": marks.subcomponent,
        }
        name = f"{self.name}_{number}"
        try:
            parsed = parse_field(text, name, VERSION, encoding, VALIDATION_LEVEL.TOLERANT)
        except HL7apyException as exc:
            raise MalformedMessage("a field that hl7apy cannot read", f"{self.name}-{number}") from exc
        return {
            place: {at: unescape(_leaf(leaf), marks) for at, leaf in _placed(component.children)}
            for place, component in _placed(parsed.children)
        }


def part(components: Components, component: int, subcomponent: int = 1) -> str:
    """One value, numbered as in the standard; "" where absent or explicitly null."""
    value = components.get(component, {}).get(subcomponent, "").strip()
    return "" if value == '""' else value


def segments(text: str, separators: Separators) -> Iterator[Segment]:
    """The lines of a message, ended by CR, or as files are by LF or CR LF; what is no segment is passed over."""
    for line in re.split(r"\r\n?" if "\r" in text else r"\n", text):
        fields = line.strip("\n\x0b\ufeff").split(separators.field)
        if re.fullmatch(r"\s*[A-Z][A-Z0-9]{2}", fields[0]):
            name = fields[0].strip()
            yield Segment(name, [name, separators.field, *fields[1:]] if name == "MSH" else fields, separators)


def unescape(text: str, separators: Separators) -> str:
    """Undo HL7's escapes (2.7): the separators, `X` for bytes of ASCII, `.br` for a line; others stay as sent."""
    if separators.escape not in text:
        return text
    marks = {
        "F": separators.field,
        "S": separators.component,
        "T": separators.subcomponent,
        "R": separators.repetition,
        "E": separators.escape,
        ".br": "\n",
        "H": "",  # highlighting on and off
        "N": "",
    }

    def plain(found: re.Match[str]) -> str:
        word = found[1]
        if word in marks:
            return marks[word]
        if re.fullmatch(r"X(?:[0-7][0-9A-Fa-f])+", word) and "00" not in re.findall("..", word[1:]):
            return bytes.fromhex(word[1:]).decode("ascii")
        return found[0]

    mark = re.escape(separators.escape)
    return re.sub(f"{mark}([^{mark}]*){mark}", plain, text)


def escape(text: str) -> str:
    """Write *text* so that no separator and no control character of it reaches the wire (usual separators)."""
    marks = {"|": "F", "^": "S", "&": "T", "~": "R", "\\": "E"}
    return "".join(
        f"\\{marks[c]}\\" if c in marks else f"\\X{ord(c):02X}\\" if c < " " or c == "\x7f" else c for c in text
    )


def _placed(children: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """hl7apy's children with their numbers, from the name where it has one (CX_4), else by count."""
    for count, child in enumerate(children, 1):
        numbered = re.search(r"_(\d+)$", child.name or "")
        yield (int(numbered[1]) if numbered else count), child


def _leaf(subcomponent: Any) -> str:
    """
    The text as sent.

    hl7apy holds dates and numbers as objects, which write themselves back as they came; of text its `to_er7` would
    escape escapes again.
    """
    datatype = subcomponent.value
    value = getattr(datatype, "value", datatype)
    return str(value or "") if value is None or isinstance(value, str) else str(datatype.to_er7())
