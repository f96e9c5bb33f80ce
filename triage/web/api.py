"""The worklist for programs: JSON under /api/v1, described by OpenAPI; the same rules as the pages."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from starlette.requests import Request

from triage.domain.priority import Lane, Place
from triage.web import answers
from triage.web.answers import Detail, EntryOut, LineOut, ReplayOut, SearchIn, SessionOut, Status
from triage.web.desk import AtDesk, EntryId
from triage.web.picture import overlay_svg
from triage.web.signin import COOKIE, Reader, Sessions

REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"description": "nobody is signed in"},
    404: {"description": "no such entry"},
    409: {"description": "the state of the entry does not allow it; the sentence says why"},
}
router = APIRouter(prefix="/api/v1", tags=["worklist"], responses=REFUSALS)

Limit = Annotated[int, Query(ge=1, le=200)]
Offset = Annotated[int, Query(ge=0, le=10_000)]


@router.get("/session")
def session(request: Request, reader: Reader) -> SessionOut:
    """Who is signed in, and the token that programs send as X-CSRF-Token."""
    sessions: Sessions = request.app.state.sessions
    return SessionOut(name=reader, csrf_token=sessions.token_of(request.cookies[COOKIE]))


@router.get("/worklist")
def worklist(desk: AtDesk, reader: Reader, limit: Limit = 50, offset: Offset = 0) -> list[LineOut]:
    """Unread studies in reading order."""
    now = desk.clock()
    lines = desk.book.page(desk.site, limit=limit, offset=offset, at=now)
    return [answers.line(line, desk, now, position=offset + i) for i, line in enumerate(lines, start=1)]


@router.get("/worklist/claimed")
def claimed(desk: AtDesk, reader: Reader, limit: Limit = 50) -> list[LineOut]:
    """Studies being read."""
    return [answers.line(line, desk, desk.clock()) for line in desk.book.claimed(desk.site, limit)]


@router.get("/worklist/awaiting")
def awaiting(desk: AtDesk, reader: Reader, limit: Limit = 50) -> list[LineOut]:
    """Orders without images."""
    return [answers.line(line, desk, desk.clock()) for line in desk.book.awaiting(desk.site, limit)]


@router.post("/worklist/next")
def next_study(desk: AtDesk, reader: Reader) -> EntryOut | None:
    """Claim the study that comes next; null where none is left."""
    entry = desk.book.next_study(desk.site, reader, at=desk.clock())
    return None if entry is None else answers.entry(entry, desk)


@router.post("/worklist/search")
def search(desk: AtDesk, reader: Reader, wanted: SearchIn) -> list[LineOut]:
    """Entries by patient id, accession number or words of the name; never by URL."""
    return [answers.line(line, desk, desk.clock()) for line in desk.find(wanted.text, reader)]


@router.get("/worklist/{entry_id}")
def detail(entry_id: EntryId, desk: AtDesk, reader: Reader) -> Detail:
    """Everything about one entry; the view is audited."""
    return answers.detail(desk.book.entry_detail(entry_id, viewer=reader), desk)


@router.post("/worklist/{entry_id}/claim")
def claim(entry_id: EntryId, desk: AtDesk, reader: Reader) -> EntryOut:
    """Claim this study; it no longer moves."""
    return answers.entry(desk.book.claim(entry_id, reader), desk)


@router.post("/worklist/{entry_id}/release")
def release(entry_id: EntryId, desk: AtDesk, reader: Reader) -> EntryOut:
    """Give a claim back."""
    return answers.entry(desk.book.release(entry_id, reader), desk)


@router.post("/worklist/{entry_id}/report")
def report(entry_id: EntryId, desk: AtDesk, reader: Reader, given: answers.ReportIn | None = None) -> EntryOut:
    """The study has been reported; the class, if given, is kept for the audit."""
    return answers.entry(desk.book.report(entry_id, reader, given.label if given else None), desk)


@router.post("/worklist/{entry_id}/override")
def override(entry_id: EntryId, desk: AtDesk, reader: Reader, wanted: answers.OverrideIn) -> EntryOut:
    """Move the study, either way; who and why are recorded."""
    place = Place(Lane(wanted.lane), desk.clock() + timedelta(minutes=wanted.read_within_minutes))
    return answers.entry(desk.book.override(entry_id, reader, place, wanted.reason), desk)


@router.post("/entries/{entry_id}/assess-again")
def assess_again(entry_id: EntryId, desk: AtDesk, reader: Reader) -> EntryOut:
    """Queue the study for assessment once more."""
    desk.book.assess_again(entry_id, reader)
    return answers.entry(desk.book.entry_detail(entry_id, viewer=reader)["entry"], desk)


@router.get("/status")
def status(desk: AtDesk, reader: Reader) -> Status:
    """Counts by state and what is stuck, without patient data."""
    return answers.status(desk.book.overview(desk.site), desk)


@router.post("/deliveries/{delivery_id}/replay")
def replay(delivery_id: int, desk: AtDesk, reader: Reader) -> ReplayOut:
    """Send a parked delivery again now."""
    return ReplayOut(delivery_id=delivery_id, entry_id=desk.replay_delivery(delivery_id, reader))


def _image(body: bytes | str, kind: Literal["image/jpeg", "image/png", "image/svg+xml"]) -> Response:
    return Response(body, media_type=kind, headers={"Content-Disposition": "inline"})


@router.get("/worklist/{entry_id}/image.jpg", response_class=Response, responses={200: {"content": {"image/jpeg": {}}}})
def image(entry_id: EntryId, desk: AtDesk, reader: Reader) -> Response:
    """The frontal radiograph; not for diagnosis."""
    return _image(desk.picture(entry_id, reader), "image/jpeg")


@router.get(
    "/worklist/{entry_id}/overlay.svg", response_class=Response, responses={200: {"content": {"image/svg+xml": {}}}}
)
def overlay(entry_id: EntryId, desk: AtDesk, reader: Reader) -> Response:
    """The lung contour, to lay over the image."""
    assessment = desk.shown(entry_id, reader).assessment
    if assessment is None or not desk.shows_ai:
        return Response("no contour to show", 404, media_type="text/plain")
    return _image(overlay_svg(assessment.lungs), "image/svg+xml")


@router.get(
    "/worklist/{entry_id}/activation.png", response_class=Response, responses={200: {"content": {"image/png": {}}}}
)
def activation(entry_id: EntryId, desk: AtDesk, reader: Reader) -> Response:
    """The class activation, to lay over the image."""
    return _image(desk.activation_layer(entry_id, reader), "image/png")
