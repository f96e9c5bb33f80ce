"""A report's letters brought to one form, each still knowing where in the report it stood."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

PARAGRAPH = "\f"
"""Stands for white space with two line breaks or more; with one it becomes a line feed, with none a space."""

# Half-width kana carry their voicing marks as letters of their own. At most eight marks are taken with a letter:
# putting more in canonical order would take time in their square.
_LETTER = re.compile("\\s+|.[\u0300-\u036f\u3099\u309a\uff9e\uff9f]{0,8}", re.DOTALL)
_LINE_BREAK = re.compile("\r\n|[\n\r\v\f\x85\u2028\u2029]")
_ONE_FORM = str.maketrans({**dict.fromkeys("‐‑‒–—―−﹣", "-"), **dict.fromkeys("‘’ʼ", "'"), "〜": "~"})


class Span(NamedTuple):
    """A stretch of the report as it came: `text[start:end]`."""

    start: int
    end: int


@dataclass(frozen=True)
class Plain:
    """
    A report in one form: NFKC, one character for each run of white space, no invisible characters.

    Attributes:
        cased: the text; `lowered` is the same, of the same length, in lower case.
        starts: of each character, the place in the report at which what it came from begins; `ends`: where that ends.
    """

    cased: str = field(repr=False)
    lowered: str = field(repr=False)
    starts: tuple[int, ...] = field(repr=False)
    ends: tuple[int, ...] = field(repr=False)

    def span(self, start: int, end: int) -> Span:
        """Where in the report the characters *start* to *end* (exclusive, at least one) came from."""
        return Span(self.starts[start], self.ends[end - 1])


def plain(text: str) -> Plain:
    """Bring any text to one form, in time proportional to its length."""
    return assembled((_in_one_form(found.group()), found.start(), found.end()) for found in _LETTER.finditer(text))


def assembled(pieces: Iterable[tuple[str, int, int]]) -> Plain:
    """Join pieces, each with the start and end of what it stands for in the report."""
    letters: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for piece, start, end in pieces:
        letters.append(piece)
        starts += [start] * len(piece)
        ends += [end] * len(piece)
    cased = "".join(letters)
    return Plain(cased, "".join(map(_lower, cased)), tuple(starts), tuple(ends))


def _in_one_form(letter: str) -> str:
    if letter.isspace():
        breaks = len(_LINE_BREAK.findall(letter))
        return " " if breaks == 0 else "\n" if breaks == 1 else PARAGRAPH
    if letter.isascii():
        return "" if letter < " " or letter == "\x7f" else letter
    composed = unicodedata.normalize("NFKC", letter).translate(_ONE_FORM)
    return "".join(c for c in composed if unicodedata.category(c) not in ("Cf", "Cc"))


def _lower(letter: str) -> str:
    lowered = letter.lower()
    return lowered if len(lowered) == 1 else letter
