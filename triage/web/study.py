"""The page of one study, and what a reader does from it."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Form
from starlette.responses import RedirectResponse, Response

from triage.domain.eligibility import REASONS
from triage.domain.finding import Assessment
from triage.domain.priority import Lane, Place
from triage.domain.worklist import AI_TRANSITIONS, AiState, ReadingState
from triage.web import shown, timeline
from triage.web.desk import AtDesk, EntryId
from triage.web.pages import page, rows
from triage.web.picture import contour_path
from triage.web.signin import Reader

router = APIRouter(include_in_schema=False)


@router.get("/studies/{entry_id}")
def study(entry_id: EntryId, desk: AtDesk, reader: Reader) -> Response:
    """Everything about one study; the view is audited."""
    stamp = desk.changed_at(entry_id)
    detail = desk.book.entry_detail(entry_id, viewer=reader)
    [row] = rows([detail["line"]], desk, reader)
    run = next((run for run in detail["runs"] if run["is_current"]), None)
    visible = desk.shows_ai and run is not None and run["assessment"] is not None
    assessment = Assessment.from_json(run["assessment"]) if visible and run is not None else None
    return page(
        "study.html",
        desk,
        reader,
        detail=detail,
        row=row,
        run=run,
        assessment=assessment,
        bars=() if assessment is None else _bars(assessment),
        contour="" if assessment is None else contour_path(assessment.lungs),
        timeline=timeline.timeline(detail, desk),
        viewers=timeline.viewers(detail["trail"]),
        reasons=REASONS,
        stamp=stamp,
        may_assess_again=detail["study"] is not None and AiState.QUEUED in AI_TRANSITIONS[row.entry.ai_state],
        may_report=row.entry.reading_state is ReadingState.UNREAD or row.is_mine,
    )


def _bars(assessment: Assessment) -> tuple[shown.Bar, ...]:
    said = assessment.observations
    return shown.bars({o.code: o.probability for o in said}, {o.code: o.threshold for o in said})


@router.get("/studies/{entry_id}/stamp")
def stamp(entry_id: EntryId, desk: AtDesk, reader: Reader) -> dict[str, str]:
    """When the entry last changed, for the open page; holds nothing of the patient."""
    return {"stamp": str(desk.changed_at(entry_id))}


@router.post("/studies/{entry_id}/claim")
def claim(entry_id: EntryId, desk: AtDesk, reader: Reader) -> Response:
    """Claim and open."""
    desk.book.claim(entry_id, reader)
    return RedirectResponse(f"/studies/{entry_id}", 303)


@router.post("/studies/{entry_id}/release")
def release(entry_id: EntryId, desk: AtDesk, reader: Reader) -> Response:
    """Give the claim back."""
    desk.book.release(entry_id, reader)
    return RedirectResponse("/", 303)


@router.post("/studies/{entry_id}/report")
def report(entry_id: EntryId, desk: AtDesk, reader: Reader, label: Annotated[str, Form()] = "") -> Response:
    """Close the study; the class is kept for the audit."""
    given = label if label in {"normal", "pneumonia", "covid", "other"} else None
    desk.book.report(entry_id, reader, given)
    return RedirectResponse("/", 303)


@router.post("/studies/{entry_id}/override")
def override(
    entry_id: EntryId,
    desk: AtDesk,
    reader: Reader,
    lane: Annotated[int, Form(ge=0, le=2)],
    minutes: Annotated[int, Form(ge=0, le=10_080)],
    reason: Annotated[str, Form(min_length=1, max_length=200)],
) -> Response:
    """Move the study, either way."""
    place = Place(Lane(lane), desk.clock() + timedelta(minutes=minutes))
    desk.book.override(entry_id, reader, place, reason.strip())
    return RedirectResponse(f"/studies/{entry_id}", 303)


@router.post("/studies/{entry_id}/assess-again")
def assess_again(entry_id: EntryId, desk: AtDesk, reader: Reader) -> Response:
    """Queue the study for assessment once more."""
    desk.book.assess_again(entry_id, reader)
    return RedirectResponse(f"/studies/{entry_id}", 303)


@router.post("/deliveries/{delivery_id}/replay")
def replay_delivery(delivery_id: int, desk: AtDesk, reader: Reader) -> Response:
    """Send a parked delivery again."""
    return RedirectResponse(f"/studies/{desk.replay_delivery(delivery_id, reader)}#deliveries", 303)
