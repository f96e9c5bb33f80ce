"""
In what sense a sentence names each finding: denied, doubted, past, or simply there.

Scopes after NegEx (Chapman et al., J Biomed Inform 34, 2001) and ConText (Harkema et al., J Biomed Inform 42, 2009):
a cue reaches to the end of its sentence unless a boundary ("but", "there is") or a comma that opens a clause of its own
comes first. Japanese predicates follow what they speak of, and each reaches back to the one before it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from triage.audit.report_scan import Token
from triage.audit.report_terms import FINDINGS, Sense, Word

_NEIGHBOUR = 60
"""How many characters a cue for the next finding alone looks ahead."""
_PLACED = re.compile("[右左葉]")
_QUALIFYING = re.compile("(?:[うるた的]|べき|ない)$")
_QUALIFIED = re.compile("な?(?:[一-龯ァ-ヴ]|よう|もの)")


def senses(tokens: Sequence[Token], lowered: str, start: int, end: int) -> list[Sense | None]:
    """
    The sense in which each finding of one sentence is named; None for the other terms.

    Args:
        tokens: the terms of the sentence in their order.
        lowered: the plain text they were found in; the sentence is its part from *start* to *end*.
    """
    turned = _turned(tokens, lowered, end)
    opening, listing = _commas(turned)
    reaching = zip(
        _from_before(turned, opening, listing), _for_next(turned), _from_behind(turned, lowered, start), strict=True
    )
    found = [
        (token.sense or _combined(*cues)) if token.word in FINDINGS or token.word is Word.TESTED_POSITIVE else None
        for token, cues in zip(turned, reaching, strict=True)
    ]
    for i in _left_open(turned):
        found[i] = Sense.POSSIBLE if found[i] is Sense.AFFIRMED else found[i]
    return found


def _combined(before: Sense | None, next_: Sense | None, behind: Sense | None) -> Sense:
    """One sense of those that reach a finding."""
    cues = (before, behind)
    if Sense.IGNORED in cues:
        return Sense.IGNORED
    if Sense.NEGATED in cues:
        return Sense.IGNORED if next_ is Sense.NEW else Sense.NEGATED
    if Sense.RESOLVED in cues:
        return Sense.RESOLVED
    if next_ is Sense.OLD:
        return Sense.OLD
    if Sense.POSSIBLE in cues:
        return Sense.POSSIBLE
    if behind is Sense.PAST or (next_ is Sense.PAST and behind is not Sense.AFFIRMED):
        return Sense.PAST
    return Sense.AFFIRMED


def _turned(tokens: Sequence[Token], lowered: str, end: int) -> list[Token]:
    """
    Let a cue that nothing follows speak of what came before it: "pneumonia: no", "pneumonia likely".

    A denial must be the last word: in "cardiomegaly without failure" it speaks of something the tables do not have.
    """
    turned, names_one = list(tokens), False
    waiting: int | None = None  # a cue after a finding, as long as nothing follows it
    for i, token in enumerate([*tokens, Token(end, end, Word.COMMA, None, "")]):
        match token.word:
            case Word.COMMA | Word.BOUNDARY:
                if waiting is not None and _is_last(tokens[waiting], lowered, token.start):
                    turned[waiting] = replace(tokens[waiting], word=Word.AFTER)
                waiting, names_one = None, False
            case Word.BEFORE:
                waiting = i if names_one else None
            case Word.LUNGS | Word.PART | Word.NOTHING:
                pass
            case _:
                waiting = None
                names_one = names_one or token.word in FINDINGS
    return turned


def _is_last(cue: Token, lowered: str, end: int) -> bool:
    return cue.sense is not Sense.NEGATED or not any(c.isalnum() for c in lowered[cue.end : end])


def _commas(tokens: Sequence[Token]) -> tuple[set[int], set[int]]:
    """The commas that open a clause with something of its own to say, and those inside an enumeration with "or"."""
    opening, listing = set(), set()
    says = offers = lists = False
    for i in reversed(range(len(tokens))):
        token = tokens[i]
        match token.word:
            case Word.COMMA:
                if says and not offers:
                    opening.add(i)
                if lists:
                    listing.add(i)
                says = offers = False
            case Word.BOUNDARY:
                says = offers = lists = False
            case Word.EITHER:
                offers = lists = True
            case Word.AFTER | Word.BEFORE:
                says = (
                    says or token.sense is Sense.POSSIBLE or (token.word, token.sense) == (Word.AFTER, Sense.AFFIRMED)
                )
    return opening, listing


def _from_before(tokens: Sequence[Token], opening: set[int], listing: set[int]) -> list[Sense | None]:
    """For each term, the sense that a cue before it gives."""
    reaching: list[Sense | None] = []
    sense: Sense | None = None
    is_said = False
    for i, token in enumerate(tokens):
        reaching.append(sense)
        match token.word:
            case Word.BOUNDARY:
                sense = None
            case Word.AFTER:
                is_said = True
            case Word.COMMA:
                # "no consolidation is seen, ...": what a verb has closed, a comma ends
                if (
                    i in opening
                    or is_said
                    or not (sense is Sense.NEGATED or (sense is Sense.POSSIBLE and i in listing))
                ):
                    sense = None
                is_said = False
            case Word.BEFORE if not (sense in (Sense.NEGATED, Sense.IGNORED) and token.sense is Sense.POSSIBLE):
                # "no findings suspicious for": a doubt inside a denial is denied with it; so in a condition
                sense, is_said = token.sense, False
    return reaching


def _for_next(tokens: Sequence[Token]) -> list[Sense | None]:
    """For each term, the sense of a cue that speaks of the next finding alone."""
    reaching: list[Sense | None] = []
    cue: Token | None = None
    for token in tokens:
        reaching.append(cue.sense if cue is not None and token.start - cue.end <= _NEIGHBOUR else None)
        if token.word is Word.NEXT:
            cue = token
        elif token.word in (Word.COMMA, Word.BOUNDARY) or token.word in FINDINGS:
            cue = None
    return reaching


def _from_behind(tokens: Sequence[Token], lowered: str, start: int) -> list[Sense | None]:
    """For each term, the sense that a cue behind it gives."""
    reaching: list[Sense | None] = [None] * len(tokens)
    sense: Sense | None = None
    cue, joins = Token(0, 0, Word.NOTHING, None, ""), False
    for i in reversed(range(len(tokens))):
        token = tokens[i]
        reaching[i] = sense
        match token.word:
            case Word.BOUNDARY:
                sense = None
            case Word.AFTER:
                sense, cue, joins = _seen_through(token, sense, lowered), token, False
            case Word.AND | Word.EITHER:
                joins = True
            case Word.COMMA:
                if not (joins if cue.name.isascii() else _joins_back(tokens, i, cue, lowered, start)):
                    sense = None
                joins = False
    return reaching


def _seen_through(cue: Token, behind: Sense | None, lowered: str) -> Sense | None:
    """What *cue* says; where it qualifies a noun, what is said of that noun counts: 肺炎を疑う陰影を認めない."""
    if cue.sense is Sense.NEGATED or not (_QUALIFYING.search(cue.name) and _QUALIFIED.match(lowered, cue.end)):
        return cue.sense
    if cue.sense is Sense.AFFIRMED:
        return behind
    return behind if behind in (Sense.NEGATED, Sense.RESOLVED, Sense.IGNORED) else cue.sense


def _joins_back(tokens: Sequence[Token], comma: int, cue: Token, lowered: str, start: int) -> bool:
    """
    Whether a Japanese predicate also speaks of what stands before a comma.

    With を it always does; else not of a finding that is given a side or a lobe: 右下葉肺炎、胸水なし.
    """
    if lowered[cue.start - 1 : cue.start] == "を":
        return True
    before = comma - 1
    while before >= 0 and tokens[before].word not in (Word.COMMA, Word.AFTER, Word.BOUNDARY):
        before -= 1
    from_ = tokens[before].end if before >= 0 else start
    return _PLACED.search(lowered, from_, tokens[comma].start) is None


def _left_open(tokens: Sequence[Token]) -> set[int]:
    """The findings that stand on either side of "or", "versus"."""
    open_: set[int] = set()
    last: int | None = None
    offers = False
    for i, token in enumerate(tokens):
        if token.word in (Word.BOUNDARY, Word.AFTER):
            last, offers = None, False
        elif token.word is Word.EITHER:
            offers = True
        elif token.word in FINDINGS:
            if offers and last is not None:
                open_ |= {last, i}
            last, offers = i, False
    return open_
