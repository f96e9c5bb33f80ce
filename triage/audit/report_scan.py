"""Finds the terms of a sentence, the longest at each place, in time proportional to its length."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from triage.audit import report_cues_english, report_cues_japanese, report_terms_english, report_terms_japanese
from triage.audit.report_letters import PARAGRAPH, Plain, assembled
from triage.audit.report_terms import Entry, Sense, Word, terms

TABLES = (
    (report_terms_english.ROWS, report_terms_english.SHORTHAND),
    (report_cues_english.ROWS, report_cues_english.SHORTHAND),
    (report_terms_japanese.ROWS, report_terms_japanese.SHORTHAND),
    (report_cues_japanese.ROWS, report_cues_japanese.SHORTHAND),
)
COMMAS = {",": Entry(Word.COMMA, None), "、": Entry(Word.COMMA, None)}
LARGEST_NORMAL_RATIO = 50.0
"""Heart over chest width in per cent on a frontal view; Japanese reports give the figure and no word."""

_RATIO = re.compile(r"(?:ctr|心胸郭?比)[^0-9\n\f。、,]{0,6}(\d{2}(?:\.\d)?)(?![\d/])")
_MISSPELT = re.compile(r"(?<![a-z])[a-z]{7,20}(?![a-z])")
_AS_SPACE = str.maketrans({"\n": " ", PARAGRAPH: " "})


@dataclass(frozen=True)
class Token:
    """A term at `[start, end)` of the plain text; *name* is the table's own spelling of it."""

    start: int
    end: int
    word: Word
    sense: Sense | None
    name: str = field(repr=False)


def scan(found_in: Plain, start: int, end: int) -> list[Token]:
    """The terms between *start* and *end*, in their order, none overlapping another."""
    text = found_in.lowered
    tokens, place = [], start
    for ratio in _RATIO.finditer(text, start, end):
        tokens += _terms_between(text, place, ratio.start())
        if float(ratio.group(1)) > LARGEST_NORMAL_RATIO:
            tokens.append(Token(ratio.start(), ratio.end(), Word.OTHER, None, "CTR"))
        else:
            tokens.append(Token(ratio.start(), ratio.end(), Word.PART, None, "CTR"))
        place = ratio.end()
    return tokens + _terms_between(text, place, end)


def respelt(text: Plain) -> Plain:
    """
    Put the tables' word for each long word one slip of the fingers away from it, the first letter being right.

    A slip is a letter left out, put in or changed, or two neighbours exchanged; each word takes constant time.
    """
    return assembled(_pieces(text))


def _pieces(text: Plain) -> Iterator[tuple[str, int, int]]:
    letters, place = list(zip(text.cased, text.starts, text.ends, strict=True)), 0
    for found in _MISSPELT.finditer(text.lowered):
        if right := _meant(found.group()):
            yield from letters[place : found.start()]
            yield (text.cased[found.start()] + right[1:], *text.span(found.start(), found.end()))
            place = found.end()
    yield from letters[place:]


def _meant(word: str) -> str | None:
    if word in _WORDS:
        return None
    right = next((_SLIPS[slip] for slip in _slips(word) if slip in _SLIPS and _SLIPS[slip][0] == word[0]), None)
    # "included" is no misspelt "include"
    return None if right is not None and word.startswith(right) else right


def _slips(word: str) -> Iterator[str]:
    yield word
    yield from (word[:i] + word[i + 1 :] for i in range(len(word)))


def _terms_between(text: str, start: int, end: int) -> list[Token]:
    tokens, place = [], start
    while place < end:
        found = _longest(text, place, end)
        if found is None:
            place += 1
            continue
        tokens.append(found)
        place = found.end
    return tokens


def _longest(text: str, start: int, end: int) -> Token | None:
    """The longest term that begins at *start*; one of Latin letters or digits is read as a whole word only."""
    if start > 0 and _is_latin(text[start - 1]) and _is_latin(text[start]):
        return None
    for length in _LENGTHS.get(text[start : start + 2], ()) + _LENGTHS.get(text[start], ()):
        stop = start + length
        name = text[start:stop].translate(_AS_SPACE)
        if stop <= end and name in _VOCABULARY and not (_is_latin(text[stop - 1]) and _is_latin(text[stop : stop + 1])):
            return Token(start, stop, *_VOCABULARY[name], name)
    return None


def _is_latin(letter: str) -> bool:
    return letter.isascii() and letter.isalnum()  # no letter is none


def _vocabulary() -> dict[str, Entry]:
    """
    Every term's meaning.

    Raises:
        ValueError: two rows give one term different meanings; named, as the tables hold nothing of a patient.
    """
    entries: dict[str, Entry] = dict(COMMAS)
    for row, shorthand in ((row, shorthand) for rows, shorthand in TABLES for row in rows):
        entry = Entry(row.word, row.sense)
        for term in terms(row, shorthand):
            if entries.setdefault(term, entry) != entry:
                raise ValueError(f"{term!r} is both {entries[term]} and {entry}")
    return entries


def _lengths(vocabulary: dict[str, Entry]) -> dict[str, tuple[int, ...]]:
    """By their first two letters, the lengths that terms have, the longest first."""
    lengths: dict[str, set[int]] = {}
    for term in vocabulary:
        lengths.setdefault(term[:2], set()).add(len(term))
    return {start: tuple(sorted(found, reverse=True)) for start, found in lengths.items()}


_VOCABULARY = _vocabulary()
_LENGTHS = _lengths(_VOCABULARY)
# "injection" is one slip from "infection", and no misspelling
_WORDS = frozenset(word for term in _VOCABULARY for word in re.findall("[a-z]{7,}", term)) | {"injection", "injections"}
_SLIPS = {slip: word for word in sorted(_WORDS, reverse=True) for slip in _slips(word)}
