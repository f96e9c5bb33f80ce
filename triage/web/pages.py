"""The pages: sign-in, worklist, study, operations, search; server-rendered, usable without script."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from triage.domain.eligibility import REASONS
from triage.domain.finding import Assessment
from triage.domain.order import RequestedPriority
from triage.domain.priority import Lane, Place
from triage.domain.worklist import AI_TRANSITIONS, AiState, ReadingState, spoken
from triage.ports import Line
from triage.web import shown
from triage.web.desk import AtDesk, Desk, EntryId, desk_of
from triage.web.live import Live
from triage.web.picture import contour_path
from triage.web.signin import COOKIE, LASTS, Reader, Sessions, clean_name

router = APIRouter(include_in_schema=False)
templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
PAGE = 50
Offset = Annotated[int, Query(ge=0, le=10_000)]


def _page(template: str, desk: Desk, reader: str, status: int = 200, **values: Any) -> HTMLResponse:
    html = templates.get_template(template).render(
        desk=desk,
        reader=reader,
        now=desk.clock(),
        rollout_words=shown.ROLLOUTS.get(desk.rollout, desk.rollout),
        at=lambda instant: shown.clock_words(instant, desk),
        ago=lambda instant: spoken(max(desk.clock() - instant, timedelta(0))),
        **values,
    )
    return HTMLResponse(html, status)


def refusal(request: Request, status: int, sentence: str) -> Response:
    """A page that says what did not work; whoever is not signed in is asked to."""
    if status == 401:
        return RedirectResponse("/signin", 303)
    sessions: Sessions = request.app.state.sessions
    reader = sessions.name_of(request.cookies.get(COOKIE)) or ""
    return _page("refusal.html", desk_of(request), reader, status, sentence=sentence, code=status)


# --- sign-in ---


@router.get("/signin")
def signin_page(desk: AtDesk) -> Response:
    """Ask for a name."""
    return _page("signin.html", desk, "", problem="")


@router.post("/signin")
def signin(request: Request, desk: AtDesk, name: Annotated[str, Form()] = "") -> Response:
    """Start a session under the name given; the demo asks for no password."""
    name = clean_name(name)
    if not name:
        return _page("signin.html", desk, "", 422, problem="Please give a name.")
    sessions: Sessions = request.app.state.sessions
    response = RedirectResponse("/", 303)
    response.set_cookie(
        COOKIE, sessions.start(name), max_age=int(LASTS.total_seconds()), httponly=True, samesite="strict"
    )
    return response


@router.post("/signout")
def signout() -> Response:
    """End the session in this browser."""
    response = RedirectResponse("/signin", 303)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response


# --- the worklist ---


def _rows(lines: Sequence[Line], desk: Desk, reader: str, first: int | None = None) -> list[shown.Row]:
    now = desk.clock()
    return [
        shown.row_of(line, desk, position=None if first is None else first + i, reader=reader, now=now)
        for i, line in enumerate(lines)
    ]


def _lists(desk: Desk, reader: str, offset: int) -> dict[str, Any]:
    lines = desk.book.page(desk.site, limit=PAGE + 1, offset=offset, at=desk.clock())
    return {
        "reading": _rows(lines[:PAGE], desk, reader, offset + 1),
        "claimed": _rows(desk.book.claimed(desk.site), desk, reader),
        "awaiting": _rows(desk.book.awaiting(desk.site), desk, reader),
        "offset": offset,
        "page": PAGE,
        "has_more": len(lines) > PAGE,
        "fairness": shown.fairness(desk.policy),
    }


@router.get("/")
def worklist(desk: AtDesk, reader: Reader, offset: Offset = 0, none: bool = False) -> Response:
    """The reading list, what is being read, and orders without images."""
    notice = "No study is waiting to be read." if none else ""
    return _page("worklist.html", desk, reader, notice=notice, **_lists(desk, reader, offset))


@router.get("/fragments/worklist")
def worklist_fragment(desk: AtDesk, reader: Reader, offset: Offset = 0) -> Response:
    """The same lists alone: what the open page asks for when told that something changed."""
    return _page("lists.html", desk, reader, **_lists(desk, reader, offset))


@router.get("/events")
async def events(request: Request, reader: Reader) -> StreamingResponse:
    """Server-sent events that say that the worklist changed, and nothing else."""
    live: Live = request.app.state.live
    return StreamingResponse(live.events(), media_type="text/event-stream")


@router.post("/search")
def search(desk: AtDesk, reader: Reader, text: Annotated[str, Form(max_length=200)] = "") -> Response:
    """Entries by patient id, accession number or words of the name; by POST, so that no URL holds them."""
    found = _rows(desk.find(text, reader), desk, reader)
    return _page("search.html", desk, reader, found=found, text=text)


@router.post("/next")
def next_study(desk: AtDesk, reader: Reader) -> Response:
    """Claim what comes next and open it."""
    entry = desk.book.next_study(desk.site, reader, at=desk.clock())
    return RedirectResponse("/?none=1" if entry is None else f"/studies/{entry.entry_id}", 303)


# --- one study ---


@router.get("/studies/{entry_id}")
def study(entry_id: EntryId, desk: AtDesk, reader: Reader) -> Response:
    """Everything about one study; the view is audited."""
    stamp = desk.changed_at(entry_id)
    detail = desk.book.entry_detail(entry_id, viewer=reader)
    [row] = _rows([detail["line"]], desk, reader)
    run = next((run for run in detail["runs"] if run["is_current"]), None)
    visible = desk.shows_ai and run is not None and run["assessment"] is not None
    assessment = Assessment.from_json(run["assessment"]) if visible and run is not None else None
    return _page(
        "study.html",
        desk,
        reader,
        detail=detail,
        row=row,
        run=run,
        assessment=assessment,
        bars=() if assessment is None else _bars(assessment),
        contour="" if assessment is None else contour_path(assessment.lungs),
        timeline=shown.timeline(detail, desk),
        viewers=shown.viewers(detail["trail"]),
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


# --- operations ---


@router.get("/operations")
def operations(desk: AtDesk, reader: Reader) -> Response:
    """Counts and what is stuck, without patient data."""
    overview = desk.book.overview(desk.site)
    counts = {(row["ai_state"], row["reading_state"]): row["entries"] for row in overview["entries"]}
    return _page(
        "operations.html",
        desk,
        reader,
        overview=overview,
        counts=counts,
        ai_states=[state.value for state in AiState],
        reading_states=[state.value for state in ReadingState],
        reasons=REASONS,
        match_words=shown.MATCH_WORDS,
        priorities=[p.value for p in RequestedPriority],
    )


@router.post("/messages/{message_id}/replay")
def replay_message(message_id: int, desk: AtDesk, reader: Reader) -> Response:
    """Apply a stored message once more."""
    if desk.replay_message is not None:
        desk.replay_message(message_id)
    return RedirectResponse("/operations#messages", 303)
