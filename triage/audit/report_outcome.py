"""From what a report's sentences name to the one label of the study."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from triage.audit.report_letters import Span
from triage.audit.report_sections import Section
from triage.audit.report_terms import Sense, Word
from triage.domain.finding import ChestClass


class Outcome(StrEnum):
    """What a report says of the chest."""

    NORMAL = "normal"
    PNEUMONIA = "pneumonia"
    COVID = "covid"
    OTHER_ABNORMAL = "other_abnormal"
    UNDETERMINED = "undetermined"

    @property
    def chest_class(self) -> ChestClass | None:
        """The network's class; None for what it does not know."""
        return next((c for c in ChestClass if c.value == self.value), None)


class Certainty(StrEnum):
    """How the deciding statement was made."""

    AFFIRMED = "affirmed"
    POSSIBLE = "possible"
    NEGATED = "negated"
    """Normal only because pneumonia, COVID or an opacity is denied; nobody called the chest normal."""
    HISTORICAL = "historical"
    """Normal because what was there is gone, or abnormal by old traces alone."""


@dataclass(frozen=True)
class Mention:
    """One finding named in a report, with where it stands there; its letters are not printed."""

    word: Word
    sense: Sense
    section: Section
    term: Span
    sentence: Span
    name: str = field(repr=False)
    """The term in the table's spelling."""


@dataclass(frozen=True)
class Extracted:
    """
    The label a report's text gives, and what gave it.

    Attributes:
        certainty: None where the outcome is undetermined.
        decided_by: the mention that decided; a page marks `text[term.start:term.end]` in its sentence.
        mentions: all that were read, in their order.
    """

    outcome: Outcome
    certainty: Certainty | None
    decided_by: Mention | None
    mentions: tuple[Mention, ...] = field(repr=False)


_PRESENT = (Sense.AFFIRMED, Sense.POSSIBLE)
_DISEASES = (Word.COVID, Word.PNEUMONIA)
_INFECTIOUS = (*_DISEASES, Word.INFECTION)
_CERTAINTY = {
    Sense.AFFIRMED: Certainty.AFFIRMED,
    Sense.POSSIBLE: Certainty.POSSIBLE,
}


def decide(mentions: Iterable[Mention]) -> Extracted:
    """
    The most serious of what is affirmed or possible (COVID, pneumonia, other), else normal where that is said.

    See `report_text` for the rules; the impression has its say first.
    """
    named = tuple(mentions)
    weighed = _weighed(named)
    for outcome, choose in (
        (Outcome.COVID, _covid),
        (Outcome.PNEUMONIA, _pneumonia),
        (Outcome.OTHER_ABNORMAL, _other),
        (Outcome.NORMAL, _normal),
    ):
        if chosen := choose(weighed):
            return Extracted(outcome, *chosen, named)
    return Extracted(Outcome.UNDETERMINED, None, None, named)


def calls_normal(mention: Mention) -> bool:
    """Whether the mention says that nothing (or nothing acute) is wrong."""
    denied = mention.word in (Word.ABNORMALITY, Word.ACUTE) and mention.sense is Sense.NEGATED
    return denied or (mention.word in (Word.NORMALITY, Word.CLEAR) and mention.sense in _PRESENT)


_Choice = tuple[Certainty, Mention] | None


def _covid(mentions: list[Mention]) -> _Choice:
    return _strongest(mentions, lambda m: m.word is Word.COVID) or _covid_from_outside(mentions)


def _covid_from_outside(mentions: list[Mention]) -> _Choice:
    """A pneumonia in a patient known to have COVID is possibly that."""
    known = next((m for m in mentions if m.word is Word.TESTED_POSITIVE and m.sense is Sense.AFFIRMED), None)
    return (Certainty.POSSIBLE, known) if known and _pneumonia(mentions) else None


def _pneumonia(mentions: list[Mention]) -> _Choice:
    explains = any(m.word is Word.OPACITY and m.sense in _PRESENT for m in mentions)
    words = (Word.PNEUMONIA, Word.INFECTION) if explains else (Word.PNEUMONIA,)
    return _strongest(mentions, lambda m: m.word in words)


def _other(mentions: list[Mention]) -> _Choice:
    not_normal = next(
        (m for m in mentions if m.word in (Word.NORMALITY, Word.CLEAR) and m.sense is Sense.NEGATED), None
    )
    if not_normal:
        return Certainty.AFFIRMED, not_normal
    seen = (Word.OPACITY, Word.OTHER, Word.ABNORMALITY, Word.ACUTE)
    old = next((m for m in mentions if m.sense is Sense.OLD), None)
    return _strongest(mentions, lambda m: m.word in seen) or ((Certainty.HISTORICAL, old) if old else None)


def _normal(mentions: list[Mention]) -> _Choice:
    called = sorted((m for m in mentions if calls_normal(m)), key=lambda m: m.sense is Sense.POSSIBLE)
    if called:
        return (Certainty.POSSIBLE if called[0].sense is Sense.POSSIBLE else Certainty.AFFIRMED), called[0]
    asked = [m for m in mentions if m.word in (*_INFECTIOUS, Word.OPACITY)]
    for sense, certainty in ((Sense.NEGATED, Certainty.NEGATED), (Sense.RESOLVED, Certainty.HISTORICAL)):
        if found := next((m for m in asked if m.sense is sense), None):
            return certainty, found
    return None


def _strongest(mentions: list[Mention], is_meant: Callable[[Mention], bool]) -> _Choice:
    for sense in _PRESENT:
        if found := next((m for m in mentions if m.sense is sense and is_meant(m)), None):
            return _CERTAINTY[sense], found
    return None


def _weighed(mentions: tuple[Mention, ...]) -> list[Mention]:
    """Without what the findings say and the impression outweighs."""
    concluded = [m for m in mentions if m.section is Section.IMPRESSION]
    outweighed = _outweighed(concluded)
    return [
        m for m in mentions if m.section is Section.IMPRESSION or m.word not in outweighed or m.sense not in _PRESENT
    ]


def _outweighed(concluded: list[Mention]) -> frozenset[Word]:
    """What may no longer be affirmed in the findings, given the impression."""
    is_named = any(m.word in _DISEASES and m.sense in _PRESENT for m in concluded)
    denied = {m.word for m in concluded if m.sense in (Sense.NEGATED, Sense.RESOLVED)}
    called = [m for m in concluded if calls_normal(m)]
    is_clean = bool(called) and not _other(concluded)
    outweighed: set[Word] = set()
    if is_named or called or Word.PNEUMONIA in denied:
        outweighed |= set(_INFECTIOUS)
    elif Word.COVID in denied:
        outweighed.add(Word.COVID)
    # "no acute disease" leaves what is chronic, "normal chest" does not
    if is_clean and any(m.word is not Word.ACUTE for m in called):
        outweighed |= {Word.OPACITY, Word.OTHER}
    return frozenset(outweighed)
