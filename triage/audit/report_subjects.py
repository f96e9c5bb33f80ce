"""Whether "normal", "clear" or "no abnormality" is said of the lungs, or only of some other part."""

from __future__ import annotations

from collections.abc import Sequence

from triage.audit.report_scan import Token
from triage.audit.report_terms import FINDINGS, Word

UNNAMED_STATES = frozenset({Word.NORMALITY, Word.CLEAR, Word.ABNORMALITY, Word.ACUTE})
"""Words that need a subject: what they mean for the class depends on what they are said of."""

_SUBJECTS = (Word.LUNGS, Word.PART)


def speaks_of_lungs(tokens: Sequence[Token]) -> list[bool]:
    """
    For each term, whether it is a state of the lungs or of the whole study.

    The subject stands right after ("normal heart size"), else before, since the last finding or predicate ("heart and
    lungs are normal", 肺野、縦隔に異常なし), else further on ("no abnormality of the bones"). Without any, the whole
    study is meant, except by "clear".
    """
    of_lungs, run = [], set[Word]()
    for i, token in enumerate(tokens):
        if token.word in UNNAMED_STATES:
            subjects = _right_after(tokens, i) or run or _further_on(tokens, i)
            of_lungs.append(Word.LUNGS in subjects if subjects else token.word is not Word.CLEAR)
        else:
            of_lungs.append(False)
        if token.word in FINDINGS or token.word is Word.AFTER:
            run = set()
        elif token.word in _SUBJECTS:
            run = run | {token.word}
    return of_lungs


def _right_after(tokens: Sequence[Token], place: int) -> set[Word]:
    after = tokens[place + 1 : place + 2]
    return {t.word for t in after if t.word in _SUBJECTS and t.start - tokens[place].end == 1}


def _further_on(tokens: Sequence[Token], place: int) -> set[Word]:
    """The subjects from *place* to the next comma, boundary or finding."""
    subjects: set[Word] = set()
    for i in range(place + 1, len(tokens)):
        word = tokens[i].word
        if word in (Word.COMMA, Word.BOUNDARY) or word in FINDINGS:
            break
        if word in _SUBJECTS:
            subjects.add(word)
    return subjects
