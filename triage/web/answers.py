"""The shapes of the API's answers, and how the book's rows become them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field, StringConstraints

from triage.domain.worklist import WorklistEntry
from triage.ports import Line
from triage.web.desk import Desk
from triage.web.shown import ai_words, why_words
from triage.web.timeline import VIEWS

Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]


class SessionOut(BaseModel):
    """Who is signed in."""

    name: str
    csrf_token: str


class ReportIn(BaseModel):
    """What the radiologist found, for the audit."""

    label: Literal["normal", "pneumonia", "covid", "other"] | None = None


class OverrideIn(BaseModel):
    """A person's move."""

    lane: Literal[0, 1, 2]
    read_within_minutes: int = Field(ge=0, le=7 * 24 * 60)
    reason: Words


class SearchIn(BaseModel):
    """A patient id, an accession number, or words of a name."""

    text: Words


class EntryOut(BaseModel):
    """Where an entry stands."""

    entry_id: int
    reading_state: str
    claimed_by: str
    ai_state: str
    """`recorded` in shadow, whatever the AI said."""
    ai_in_words: str
    requested_priority: str
    lane: int | None
    read_by: datetime | None
    eligible_at: datetime | None
    placed_because: str


class LineOut(EntryOut):
    """One line of the worklist."""

    position: int | None
    why: str
    patient_id: str
    patient_name: str
    accession_number: str
    procedure: str
    probabilities: dict[str, float]
    is_doubtful: bool
    match_outcome: str


class RunOut(BaseModel):
    """One attempt that reached an end."""

    id: UUID
    run_number: int
    ended_at: datetime
    outcome: str
    reason: str
    is_current: bool
    is_withdrawn: bool
    assessment: dict[str, Any] | None


class MoveOut(BaseModel):
    """One move: from, to, who and why."""

    at: datetime
    from_lane: int | None
    from_read_by: datetime | None
    to_lane: int
    to_read_by: datetime
    actor: str
    reason: str


class DeliveryOut(BaseModel):
    """One result owed to one destination."""

    id: int
    run_number: int
    destination: str
    kind: str
    state: str
    attempts: int
    reason: str
    acknowledged_as: str
    next_attempt_at: datetime
    delivered_at: datetime | None


class EventOut(BaseModel):
    """One line of the audit trail."""

    at: datetime
    actor: str
    action: str
    detail: dict[str, Any]


class Detail(BaseModel):
    """Everything about one entry."""

    line: LineOut
    study_instance_uid: str | None
    runs: list[RunOut]
    moves: list[MoveOut]
    deliveries: list[DeliveryOut]
    trail: list[EventOut]


class ReplayOut(BaseModel):
    """A delivery that is sent again."""

    delivery_id: int
    entry_id: int


class Status(BaseModel):
    """Counts and what is stuck; codes and numbers only."""

    site: str
    rollout: str
    model: str
    model_version: str
    entries: list[dict[str, Any]]
    not_assessed: list[dict[str, Any]]
    waiting: list[dict[str, Any]]
    unmatched: list[dict[str, Any]]
    messages: list[dict[str, Any]]
    stuck_messages: list[dict[str, Any]]
    deliveries: list[dict[str, Any]]
    stuck_deliveries: list[dict[str, Any]]
    unreadable_files: list[dict[str, Any]]
    peers: list[dict[str, Any]]


def _entry_fields(entry: WorklistEntry, desk: Desk) -> dict[str, Any]:
    spoke = entry.ai_state.value in {"flagged", "not-flagged"}
    return {
        "entry_id": entry.entry_id,
        "reading_state": entry.reading_state.value,
        "claimed_by": entry.claimed_by,
        "ai_state": "recorded" if spoke and not desk.shows_ai else entry.ai_state.value,
        "ai_in_words": ai_words(entry, desk.rollout),
        "requested_priority": entry.requested_priority.value,
        "lane": None if entry.lane is None else int(entry.lane),
        "read_by": entry.read_by,
        "eligible_at": entry.eligible_at,
        "placed_because": entry.placed_because,
    }


def entry(entry: WorklistEntry, desk: Desk) -> EntryOut:
    """An entry after something was done to it."""
    return EntryOut(**_entry_fields(entry, desk))


def line(line: Line, desk: Desk, now: datetime, *, position: int | None = None) -> LineOut:
    """One line of a list."""
    return LineOut(
        **_entry_fields(line.entry, desk),
        position=position,
        why=why_words(line.entry, now, desk.rollout),
        patient_id=line.patient_id,
        patient_name=line.patient_name,
        accession_number=line.accession_number,
        procedure=line.procedure,
        probabilities=dict(line.probabilities) if desk.shows_ai else {},
        is_doubtful=line.is_doubtful and desk.shows_ai,
        match_outcome=line.match_outcome,
    )


def detail(detail: Mapping[str, Any], desk: Desk) -> Detail:
    """Everything about one entry; in shadow without what the AI said."""
    hidden = not desk.shows_ai
    runs = [{**run, "assessment": None} if hidden else run for run in detail["runs"]]
    trail = [
        {**event, "detail": {}} if hidden and event["action"] == "assessed" else event
        for event in detail["trail"]
        if event["action"] not in VIEWS
    ]
    return Detail(
        line=line(detail["line"], desk, desk.clock()),
        study_instance_uid=None if detail["study"] is None else detail["study"].study_instance_uid,
        runs=[RunOut(**run) for run in runs],
        moves=[MoveOut(**move) for move in detail["moves"]],
        deliveries=[DeliveryOut(**delivery) for delivery in detail["deliveries"]],
        trail=[EventOut(**event) for event in trail],
    )


def status(overview: Mapping[str, Any], desk: Desk) -> Status:
    """The overview with the site's and the model's name."""
    return Status(
        site=desk.site, rollout=desk.rollout, model=desk.model.name, model_version=desk.model.version, **overview
    )
