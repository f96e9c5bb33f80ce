"""Cuts a report into sentences, each knowing the section it stands in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from triage.audit.report_letters import Plain


class Section(StrEnum):
    """What a part of a report is for."""

    UNNAMED = "unnamed"
    """Before any heading, or in a report without headings: read as findings."""
    FINDINGS = "findings"
    IMPRESSION = "impression"
    """The radiologist's conclusion, which outweighs the findings."""
    SILENT = "silent"
    """Why the study was made, how, and what it was compared with: never labels."""


HEADINGS: dict[Section, str] = {
    Section.IMPRESSION: """
        impression, impressions, final impression, conclusion, conclusions, opinion, summary, diagnosis,
        final diagnosis, radiological diagnosis, interpretation, assessment, comment, comments, addendum,
        診断, 画像診断, 放射線診断, 読影診断, 診断名, 診断結果, 結論, 印象, インプレッション, まとめ, 総合判定, 判定,
        総括, 追記, コメント
        """,
    Section.FINDINGS: """
        findings, finding, report, result, results, observations, description, body,
        所見, 読影所見, 画像所見, 胸部所見, x線所見, 胸部x線所見, 読影結果, 結果
        """,
    Section.SILENT: """
        history, clinical, clinical history, clinical information, clinical indication, clinical details, clinical data,
        clinical context, clinical question, clinical diagnosis, past medical history, pmh, hpi, indication,
        indications, reason for exam, reason for examination, reason for study, reason for the exam, reason for request,
        technique, comparison, comparisons, compared to, exam, examination, procedure, views, provisional diagnosis,
        symptoms,
        検査目的, 目的, 依頼目的, 依頼内容, 依頼事項, 臨床情報, 臨床診断, 臨床経過, 臨床所見, 病名, 主訴, 現病歴,
        既往歴, 既往, 病歴, 経過, 症状, 検査項目, 検査方法, 検査部位, 撮影条件, 撮影法, 撮影方法, 撮影部位, 比較,
        比較対象, 比較検査, 前回検査, 前回所見, 前回診断
        """,
}


@dataclass(frozen=True)
class Sentence:
    """The characters `[start, end)` of the plain text, read together."""

    section: Section
    start: int
    end: int


_NAMED = {name.strip(): section for section, names in HEADINGS.items() for name in names.split(",")}
_NAMES = "|".join(re.escape(name) for name in sorted(_NAMED, key=len, reverse=True))
_LINE = r"(?:\A|(?<=[\n\f]))"
_HEADING = re.compile(
    # alone on its line, or at its start with a dash; in brackets or with a colon, also after a sentence or a space
    rf"{_LINE}(?:\d{{1,2}}[.)] ?)?[■□◆◇●○▼*#=・-]{{0,3}} ?(?P<alone>{_NAMES})(?: ?[*#=]{{0,3}}(?=[\n\f])| - )"
    rf"|[【<〈《〔\[] ?(?P<bracketed>{_NAMES}) ?[】>〉》〕\]] ?:?"
    rf"|(?:\A|(?<=[\s.。;!?■□◆◇●○▼*#)]))(?P<colon>{_NAMES}) ?:"
    rf"|{_LINE}(?P<spaced>所見|診断|結論|印象|検査目的|臨床情報|臨床診断|依頼内容|既往歴) "
)
_END = re.compile(r"[。!;]|\?(?![a-z0-9])|\.(?![a-z0-9,)])|[\n\f]")
_SHORT_FORM = re.compile(r"\b(?:vs|dr|approx|susp|e\.g|i\.e|cf|incl|st)\Z")
_GOES_ON = re.compile(
    r"(?:[、,をにはがのとで]|\b(?:of|or|and|the|an?|with|for|no|in|to|is|are|from|by|at|on|without))\Z"
)
_FULL_LINE = 45
"""A line of prose at least this long that another follows in lower case was broken, not ended."""


def sentences(text: Plain) -> Iterator[Sentence]:
    """The sentences of a report in their order, silent sections left out."""
    headings = list(_HEADING.finditer(text.lowered))
    places = [(Section.UNNAMED, 0), *((_section(found), found.end()) for found in headings)]
    ends = [*(found.start() for found in headings), len(text.lowered)]
    for (section, start), end in zip(places, ends, strict=True):
        if section is Section.SILENT:
            # a history ends with its paragraph: what follows without a heading is the report
            silent = re.compile(r"\s*[^\f]*").match(text.lowered, start, end)
            section, start = Section.UNNAMED, silent.end() if silent else end
        yield from _sentences(text, section, start, end)


def _section(heading: re.Match[str]) -> Section:
    return _NAMED[next(name for name in heading.groups() if name is not None)]


def _sentences(text: Plain, section: Section, start: int, end: int) -> Iterator[Sentence]:
    place = start
    for stop in _END.finditer(text.lowered, start, end):
        if not _goes_on(text, place, stop, end):
            yield Sentence(section, place, stop.end())
            place = stop.end()
    if place < end:
        yield Sentence(section, place, end)


def _goes_on(text: Plain, start: int, stop: re.Match[str], end: int) -> bool:
    """Whether the sentence continues after *stop*: a short form's full stop, or a line broken in mid-sentence."""
    before = text.lowered[max(start, stop.start() - 10) : stop.start()]
    match stop.group():
        case ".":
            return _SHORT_FORM.search(before) is not None
        case "\n" if stop.end() < end:
            is_prose = stop.start() - start >= _FULL_LINE and text.cased[stop.end()].islower()
            return is_prose or _GOES_ON.search(before) is not None
        case _:
            return False
