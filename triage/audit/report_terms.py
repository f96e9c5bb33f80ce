"""What a term in a report can be, and how the tables of terms are written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from itertools import product
from typing import NamedTuple


class Word(StrEnum):
    """The part a term plays; the first nine say something of the chest, the others something of those."""

    COVID = "covid"
    PNEUMONIA = "pneumonia"
    INFECTION = "infection"
    """Infection, inflammation, aspiration: pneumonia where the same report has an opacity to explain by it."""
    OPACITY = "opacity"
    OTHER = "other"
    ABNORMALITY = "abnormality"
    """Unnamed: "abnormality", 異常; denied, it says the chest is normal."""
    ACUTE = "acute"
    """Unnamed and acute or active; denied, it leaves what is old or chronic."""
    NORMALITY = "normality"
    CLEAR = "clear"
    """As NORMALITY, only of lungs: angles and airways are clear too."""
    TESTED_POSITIVE = "tested positive"
    """COVID known from elsewhere, nothing seen."""
    LUNGS = "lungs"
    PART = "part"
    """An organ that is not the lungs: what is normal there leaves the lungs open."""
    BEFORE = "before"
    """A cue that gives its sense to what follows, to the end of its scope."""
    NEXT = "next"
    """A cue that gives its sense to the next finding alone."""
    AFTER = "after"
    """A cue that gives its sense to what came before."""
    BOUNDARY = "boundary"
    COMMA = "comma"
    AND = "and"
    EITHER = "either"
    """Leaves open which of its two neighbours it is."""
    NOTHING = "nothing"
    """Keeps the shorter terms inside it from being read: "no change", "COVID ward"."""


class Sense(StrEnum):
    """In what sense a finding is named."""

    AFFIRMED = "affirmed"
    POSSIBLE = "possible"
    NEGATED = "negated"
    RESOLVED = "resolved"
    """It was there and is gone."""
    OLD = "old"
    """Long past, its traces still visible."""
    PAST = "past"
    """It was there once; nothing is said of now."""
    NEW = "new"
    """Said of a finding that, if denied, is only denied as a new one."""
    IGNORED = "ignored"
    """A condition, an exposure, a question."""


class Row(NamedTuple):
    """
    Terms that play the same part.

    *terms* is a list with commas, in lower case: `{a|b|}` stands for a, b or nothing, `<name>` for a shorthand of the
    table. A line may be broken at a space, or after `|`. A finding with a *sense* carries it by itself ("CO-RADS 4").
    """

    word: Word
    sense: Sense | None
    terms: str


class Entry(NamedTuple):
    """What one term means."""

    word: Word
    sense: Sense | None


FINDINGS = frozenset(
    {
        Word.COVID,
        Word.PNEUMONIA,
        Word.INFECTION,
        Word.OPACITY,
        Word.OTHER,
        Word.ABNORMALITY,
        Word.ACUTE,
        Word.NORMALITY,
        Word.CLEAR,
    }
)

_CHOICE = re.compile(r"\{([^{}]*)\}")
_BROKEN_CHOICE = re.compile(r"\|\n\s*")


def terms(row: Row, shorthand: Mapping[str, str]) -> Iterator[str]:
    """Every term of *row*, its shorthand and its choices written out."""
    for pattern in _BROKEN_CHOICE.sub("|", row.terms).split(","):
        for name, meaning in shorthand.items():
            pattern = pattern.replace(f"<{name}>", meaning)
        # odd pieces are the choices
        pieces = _CHOICE.split(" ".join(pattern.split()))
        for chosen in product(*(piece.split("|") if i % 2 else [piece] for i, piece in enumerate(pieces))):
            if term := " ".join("".join(chosen).split()):
                yield term
