"""Rows and facts put into the words and numbers a page shows; no HTML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from triage.domain.finding import ChestClass
from triage.domain.order import RequestedPriority
from triage.domain.priority import PriorityPolicy
from triage.domain.worklist import AiState, ReadingState, WorklistEntry, ai_in_words, spoken, why
from triage.ports import Line
from triage.web.desk import Desk

ROLLOUTS = {
    "shadow": "AI recorded only, not shown",
    "show": "AI shown, order unchanged",
    "reorder": "AI flags move studies forward",
}
CLASS_WORDS = {ChestClass.NORMAL: "Normal", ChestClass.PNEUMONIA: "Pneumonia", ChestClass.COVID: "COVID"}
MATCH_WORDS = {
    "no-order": "no order fits",
    "ambiguous": "several orders fit",
    "patient-differs": "the order names another patient",
}


@dataclass(frozen=True)
class Name:
    """A DICOM person name as people read it."""

    alphabetic: str = field(repr=False)
    ideographic: str = field(repr=False)


def name_of(person_name: str) -> Name:
    """`Honmiya^Tarou=本宮^太郎=...` as `Honmiya, Tarou` and `本宮 太郎`."""
    alphabetic, ideographic, *_ = [*person_name.split("="), ""]
    family, given, middle, prefix, suffix, *_ = [*(part.strip() for part in alphabetic.split("^")), *[""] * 5]
    whole = ", ".join(part for part in (family, " ".join(filter(None, (prefix, given, middle))), suffix) if part)
    return Name(whole, " ".join(part.strip() for part in ideographic.split("^") if part.strip()))


@dataclass(frozen=True)
class Bar:
    """One probability, its operating point, and both as widths of a bar 100 wide."""

    code: str
    words: str
    probability: float
    threshold: float | None

    @property
    def percent(self) -> str:
        """The probability as a reader sees it: never rounded up to certainty."""
        if 0.995 <= self.probability < 1:
            return ">99%"
        if 0 < self.probability < 0.005:
            return "<1%"
        return f"{self.probability * 100:.0f}%"

    @property
    def exact(self) -> str:
        """The probability beside its operating point: near the line, whole percents would contradict it."""
        return f"{self.probability * 100:.1f}%"

    @property
    def is_above(self) -> bool:
        """At or above the operating point."""
        return self.threshold is not None and self.probability >= self.threshold


@dataclass(frozen=True)
class Row:
    """One line of a list, ready to be shown."""

    line: Line
    position: int | None
    name: Name
    lane: str
    lane_note: str
    ai: str
    ai_kind: str
    why: str
    bars: tuple[Bar, ...]
    due_words: str
    wait_words: str
    is_overdue: bool
    is_mine: bool

    @property
    def entry(self) -> WorklistEntry:
        """The entry itself."""
        return self.line.entry


def ai_words(entry: WorklistEntry, rollout: str) -> str:
    """The AI state in words that are true in this rollout."""
    spoke = entry.ai_state in {AiState.FLAGGED, AiState.NOT_FLAGGED}
    if spoke and rollout == "shadow":
        return "recorded in shadow, not shown"
    if entry.ai_state is AiState.FLAGGED and rollout == "show" and entry.placed_because != "flagged":
        return "suspects COVID; the order is not changed"
    return ai_in_words(entry)


def why_words(entry: WorklistEntry, now: datetime, rollout: str) -> str:
    """The sentence of `worklist.why`, with what the rollout lets a reader see of the AI."""
    return why(entry, now).replace(f"AI: {ai_in_words(entry)}", f"AI: {ai_words(entry, rollout)}")


def bars(probabilities: Mapping[str, float], thresholds: Mapping[str, float | None]) -> tuple[Bar, ...]:
    """The classes in the network's order, each with its operating point where it has one."""
    return tuple(
        Bar(code.value, CLASS_WORDS[code], probabilities[code.value], thresholds.get(code.value))
        for code in ChestClass
        if code.value in probabilities
    )


def row_of(line: Line, desk: Desk, *, position: int | None, reader: str, now: datetime) -> Row:
    """One line put into words."""
    entry = line.entry
    return Row(
        line=line,
        position=position,
        name=name_of(line.patient_name),
        lane="none" if entry.lane is None else entry.lane.name.lower(),
        lane_note=_lane_note(entry),
        ai=ai_words(entry, desk.rollout),
        ai_kind="shadow" if not desk.shows_ai else entry.ai_state.value,
        why=why_words(entry, now, desk.rollout),
        bars=bars(line.probabilities, {"covid": desk.model.operating_point}) if desk.shows_ai else (),
        due_words="" if entry.read_by is None else _due(entry.read_by, now),
        wait_words="" if entry.eligible_at is None else spoken(max(now - entry.eligible_at, now - now)),
        is_overdue=entry.read_by is not None and entry.read_by <= now,
        is_mine=entry.reading_state is ReadingState.READING and entry.claimed_by == reader,
    )


def _lane_note(entry: WorklistEntry) -> str:
    if entry.placed_because == "flagged":
        return "AI flag"
    if entry.placed_because == "override":
        return "by a person"
    if entry.order_id is None:
        return "no order"
    return f"{'STAT' if entry.requested_priority is RequestedPriority.STAT else entry.requested_priority} order"


def _due(read_by: datetime, now: datetime) -> str:
    return f"{spoken(now - read_by)} late" if read_by <= now else f"in {spoken(read_by - now)}"


def fairness(policy: PriorityPolicy) -> str:
    """The rule of the reading order in one line."""
    k = policy.expedited_per_ordinary
    share = "the next place goes to it" if k == 0 else f"every {ordinal(k + 1)} place goes to it"
    return f"STAT first, then expedited, by deadline; while the oldest ordinary study is overdue, {share}."


def ordinal(number: int) -> str:
    """`2nd`, `3rd`, `11th`."""
    ending = "th" if number % 100 in {11, 12, 13} else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def clock_words(at: datetime | None, desk: Desk) -> str:
    """An instant in the site's zone: the time alone where it is today or near, with the date where it is not."""
    if at is None:
        return ""
    local, now = at.astimezone(desk.zone), desk.clock().astimezone(desk.zone)
    is_near = local.date() == now.date() or abs(local - now) < timedelta(hours=12)
    return f"{local:%H:%M}" if is_near else f"{local:%-d %b %H:%M}"
