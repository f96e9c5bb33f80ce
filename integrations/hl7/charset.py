"""
Bytes to text and back, by MSH-18.

The charset is found in the bytes, the bytes are decoded, and only then is anything split: coded as ISO-2022-JP, 515
kanji carry the bytes of HL7's own separators (本 is 4B 5C, 宮 is 35 5C; STANDARDS 4.3).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from triage.domain.errors import MalformedMessage

CODECS: Mapping[str, str] = {
    "ASCII": "ascii",
    "ISO IR6": "ascii",
    **{f"8859/{part}": f"iso8859-{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15)},
    "UNICODE": "utf-8",
    "UNICODE UTF-8": "utf-8",
    "UNICODE UTF-16": "utf-16",
    "GB 18030-2000": "gb18030",
    "KS X 1001": "euc_kr",
    "BIG-5": "big5",
}
"""HL7 table 0211 to Python's codecs, for the sets that need no switching between sets."""

JAPANESE = frozenset({"ISO IR13", "ISO IR14", "ISO IR87", "ISO IR159"})
"""Sets reached by ISO 2022 escape sequences: JIS X 0201, 0208 and 0212 (HL7 table 0211)."""

KATAKANA = frozenset({"ISO IR13", "ISO IR14"})
"""Of these, the sets that put half-width katakana at A1 to DF."""

_MSH = re.compile(rb"(?:\A\s*(?:\xef\xbb\xbf)?|[\r\n][ \t]*)(MSH[^\r\n]*)")
_DOUBLE_BYTE = re.compile(rb"\x1b\$(?:\([BD@]|[B@]).*?(?:\x1b\([BJ]|$)", re.DOTALL)
_SWITCH = re.compile(rb"(\x1b\$\([BD@]|\x1b\$[B@]|\x1b\([BJI]|[\r\n])")
_DOUBLE_SETS: Mapping[bytes, bytes] = {  # as sent: as Python's codec knows it
    b"\x1b$B": b"\x1b$B",
    b"\x1b$@": b"\x1b$@",
    b"\x1b$(B": b"\x1b$B",
    b"\x1b$(@": b"\x1b$@",
    b"\x1b$(D": b"\x1b$(D",
}


@dataclass(frozen=True)
class Decoded:
    """A message as text; *warnings* say where MSH-18 and the bytes disagree, in words free of content."""

    text: str = field(repr=False)
    charsets: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def msh_line(raw: bytes) -> bytes:
    """
    The MSH segment in bytes, wherever a line starts with it.

    Raises:
        MalformedMessage: there is none.
    """
    found = _MSH.search(_narrow(raw))
    if found is None:
        raise MalformedMessage("no MSH segment", "byte 0")
    return found[1]


def declared(raw: bytes) -> tuple[str, ...]:
    """What MSH-18 names, upper-cased, in order; empty where it is not valued."""
    line = _DOUBLE_BYTE.sub(b"", msh_line(raw))  # a kanji in MSH-4 must not shift the fields
    fields = line.split(line[3:4]) if len(line) > 3 else []
    if len(fields) < 18:
        return ()
    repetition = line[5:6] or b"~"
    names = [name.decode("ascii", "replace").strip().upper() for name in fields[17].split(repetition)]
    return tuple(name for name in names if name)


def decode(raw: bytes) -> Decoded:
    """
    Decode a whole message by its own MSH-18.

    MSH-18 absent or ASCII over other bytes is common and repaired with a warning: ISO-2022-JP where its escapes stand,
    else UTF-8, else ISO 8859-1. Any other declaration is believed: bytes that contradict it would become a wrong name.

    Raises:
        MalformedMessage: no MSH, a charset not known over bytes that need one, or bytes impossible in the one declared.
    """
    raw = _narrow(raw)
    charsets = declared(raw)
    decoded = decode_as(raw, charsets)
    if "\x00" in decoded.text:
        raise MalformedMessage("a NUL character", f"character {decoded.text.index(chr(0))}")
    return decoded


def decode_as(raw: bytes, charsets: Sequence[str]) -> Decoded:
    """Decode *raw* under the names of MSH-18; see `decode`."""
    if raw.isascii() and b"\x1b" not in raw:  # every set here agrees on these, known to us or not
        unknown = tuple(f"MSH-18 names {_printable(n)}, not known here" for n in charsets if not _known(n))
        return Decoded(raw.decode("ascii"), tuple(charsets), unknown)
    if not set(charsets) - {"ASCII", "ISO IR6"}:
        return _undeclared(raw, tuple(charsets))
    if JAPANESE.intersection(charsets):
        text, extended = _from_jis(raw, katakana=bool(KATAKANA.intersection(charsets)))
        warning = ("JIS X 0208 with vendor characters (NEC rows), read as code page 932",) if extended else ()
        return Decoded(text, tuple(charsets), warning)
    for place, name in enumerate(charsets):
        try:
            text = raw.decode("utf-8" if name == "UNICODE UTF-16" else CODECS[name])
        except (KeyError, UnicodeDecodeError):
            continue
        return Decoded(text, tuple(charsets), (f"read as {name}, not the first of MSH-18",) if place else ())
    raise MalformedMessage(f"bytes that {' or '.join(_printable(name) for name in charsets)} cannot hold", "MSH-18")


def encode(text: str, charset: str) -> bytes:
    """
    Write *text* in *charset*, spelled as in MSH-18 ("ISO IR14~ISO IR87" for two sets).

    Raises:
        MalformedMessage: a character the charset lacks; never a question mark in its place.
    """
    names = tuple(name for name in charset.upper().split("~") if name)
    try:
        if JAPANESE.intersection(names):
            raw = _to_jis(text, names)
        else:
            raw = text.encode(CODECS[names[0]] if names else "ascii")
        if decode_as(raw, names).text == text:
            return raw
    except (KeyError, UnicodeEncodeError):
        pass
    raise MalformedMessage(f"text that {charset} cannot hold", "MSH-18")


def _known(name: str) -> bool:
    return name in CODECS or name in JAPANESE


def _printable(name: str) -> str:
    """A charset name fit for a log: a shifted field may have put anything in its place."""
    return name if _known(name) else "an unknown charset"


def _narrow(raw: bytes) -> bytes:
    """UTF-16 to UTF-8: the only Unicode form in which MSH cannot be found in bytes."""
    head = raw[:6]
    if not (head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"M\x00S" in head or b"\x00M\x00S" in head):
        return raw
    codec = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-16-be" if head[:1] == b"\x00" else "utf-16-le"
    try:
        return raw.decode(codec).encode()
    except UnicodeError as exc:
        raise MalformedMessage("bytes that UTF-16 cannot hold", "byte 0") from exc


def _undeclared(raw: bytes, charsets: tuple[str, ...]) -> Decoded:
    """Text beyond ASCII under a MSH-18 that is silent or says ASCII."""
    if b"\x1b$" in raw and raw.isascii():
        text, _ = _from_jis(raw, katakana=False)
        return Decoded(text, charsets, ("MSH-18 names no charset for the bytes: read as ISO-2022-JP",))
    try:
        return Decoded(raw.decode(), charsets, ("MSH-18 names no charset for the bytes: read as UNICODE UTF-8",))
    except UnicodeDecodeError:
        return Decoded(raw.decode("latin-1"), charsets, ("MSH-18 names no charset for the bytes: read as 8859/1",))


def _from_jis(raw: bytes, *, katakana: bool) -> tuple[str, bool]:
    """
    ISO 2022 text, run by run; says whether vendor characters were met.

    JIS X 0201 Roman (ESC ( J) is read as ASCII: senders use it to leave kanji, and `~` and the backslash after it are
    HL7's. A segment's end returns to ASCII, whatever the sender forgot.
    """
    parts: list[str] = []
    double, kana, extended = b"", False, False
    for run in _SWITCH.split(raw):
        if run in (b"\r", b"\n"):
            double, kana = b"", False
            parts.append(run.decode())
        elif run[:1] == b"\x1b" and _SWITCH.fullmatch(run):
            double, kana = _DOUBLE_SETS.get(run, b""), run == b"\x1b(I"
        elif double:
            text, vendor = _double_byte(double, run)
            extended |= vendor
            parts.append(text)
        else:
            parts.append(_single_byte(bytes(byte | 0x80 for byte in run) if kana else run, katakana=katakana or kana))
    return "".join(parts), extended


def _single_byte(run: bytes, *, katakana: bool) -> str:
    if b"\x1b" in run or not (run.isascii() or (katakana and all(b < 0x80 or 0xA1 <= b <= 0xDF for b in run))):
        raise MalformedMessage("bytes or an escape sequence outside the Japanese sets declared", "MSH-18")
    return run.decode("shift_jis")  # A1 to DF are half-width katakana there, 5C the backslash


def _double_byte(escape: bytes, run: bytes) -> tuple[str, bool]:
    """
    One run of two-byte codes; says whether it needed the vendor rows (NEC row 13, NEC-selected IBM: 髙, 﨑, ①).

    Hospitals do send 髙 in names as JIS X 0208 7C 62; Python's codec lacks it, code page 932 has it.
    """
    if not len(run) % 2 and all(0x21 <= byte <= 0x7E for byte in run):
        with suppress(UnicodeDecodeError):
            return (escape + run).decode("iso2022_jp_1"), False
        if escape != b"\x1b$(D":
            with suppress(UnicodeDecodeError):
                return _shifted(run).decode("cp932"), True
    raise MalformedMessage("a two-byte code outside the Japanese sets declared", "MSH-18")


def _shifted(run: bytes) -> bytes:
    """JIS row and cell to Shift JIS (JIS X 0208, annex 1)."""
    shifted = bytearray()
    for row, cell in zip(run[::2], run[1::2], strict=True):
        shifted.append((row + 1) // 2 + (0x70 if row < 0x5F else 0xB0))
        shifted.append(cell + (0x1F if cell < 0x60 else 0x20) if row % 2 else cell + 0x7E)
    return bytes(shifted)


def _to_jis(text: str, names: Sequence[str]) -> bytes:
    codec = "iso2022_jp_1" if "ISO IR159" in names else "iso2022_jp" if "ISO IR87" in names else "ascii"
    runs = re.split(r"([｡-ﾟ]+)", text) if KATAKANA.intersection(names) else [text]
    return b"".join(run.encode("shift_jis" if place % 2 else codec) for place, run in enumerate(runs))
