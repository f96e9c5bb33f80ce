"""XPN repetitions and the DICOM person name: the same name in letters, in ideographs and as it sounds."""

from __future__ import annotations

import re
from collections.abc import Sequence

from integrations.hl7.segments import Components, escape, part

REPRESENTATIONS = "AIP"
"""XPN-8, HL7 table 4000, in the order of DICOM's component groups (PS3.5 6.2.1)."""

_IDEOGRAPH = re.compile(r"[\u3005\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]")
_KANA = re.compile(r"[\u3040-\u30ff\uff66-\uff9f]")
_PLACES = (1, 2, 3, 5, 4)  # family, given, middle, prefix, suffix: DICOM puts the prefix before the suffix


def person_name(repetitions: Sequence[Components]) -> str:
    """
    PID-5 as `alphabetic=ideographic=phonetic`, `^` between components.

    The first repetition of each representation counts, legal names (XPN-7 L or nothing) before aliases. A repetition
    that does not say how it is written (XPN-8) is placed by its characters.
    """
    legal = [name for name in repetitions if part(name, 7) in {"", "L"}]
    groups: dict[str, str] = {}
    for name in legal or repetitions:
        written = "^".join(re.sub(r"[\^=\\\x00-\x1f]", " ", part(name, at)) for at in _PLACES).rstrip("^")
        said = part(name, 8).upper()
        if written:
            groups.setdefault(said if said and said in REPRESENTATIONS else _representation(written), written)
    return "=".join(groups.get(representation, "") for representation in REPRESENTATIONS).rstrip("=")


def xpn(name: str) -> str:
    """Write a DICOM person name as XPN repetitions, each saying how it is written."""
    repetitions = []
    for representation, group in zip(REPRESENTATIONS, name.split("="), strict=False):
        if group:
            parts = (group.split("^") + [""] * 5)[:5]
            components = [escape(parts[_PLACES.index(at)]) for at in range(1, 6)]
            repetitions.append("^".join([*components, "", "L", representation]))
    return "~".join(repetitions)


def _representation(written: str) -> str:
    return "I" if _IDEOGRAPH.search(written) else "P" if _KANA.search(written) else "A"
