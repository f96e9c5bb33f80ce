"""The pages but the study's: sign-in, worklist, search, operations; server-rendered, usable without script."""

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
from triage.domain.worklist import AiState, ReadingState, spoken
from triage.ports import Line
from triage.web import shown
from triage.web.desk import AtDesk, Desk, desk_of
from triage.web.live import Live
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


def page(template: str, desk: Desk, reader: str, status: int = 200, **values: Any) -> HTMLResponse:
    """One page, with what every page knows."""
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
    return page("refusal.html", desk_of(request), reader, status, sentence=sentence, code=status)


# --- sign-in ---


@router.get("/signin")
def signinpage(desk: AtDesk) -> Response:
    """Ask for a name."""
    return page("signin.html", desk, "", problem="")


@router.post("/signin")
def signin(request: Request, desk: AtDesk, name: Annotated[str, Form()] = "") -> Response:
    """Start a session under the name given; the demo asks for no password."""
    name = clean_name(name)
    if not name:
        return page("signin.html", desk, "", 422, problem="Please give a name.")
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


def rows(lines: Sequence[Line], desk: Desk, reader: str, first: int | None = None) -> list[shown.Row]:
    """Lines put into words, numbered from *first*."""
    now = desk.clock()
    return [
        shown.row_of(line, desk, position=None if first is None else first + i, reader=reader, now=now)
        for i, line in enumerate(lines)
    ]


def _lists(desk: Desk, reader: str, offset: int) -> dict[str, Any]:
    lines = desk.book.page(desk.site, limit=PAGE + 1, offset=offset, at=desk.clock())
    return {
        "reading": rows(lines[:PAGE], desk, reader, offset + 1),
        "claimed": rows(desk.book.claimed(desk.site), desk, reader),
        "awaiting": rows(desk.book.awaiting(desk.site), desk, reader),
        "offset": offset,
        "page_size": PAGE,
        "has_more": len(lines) > PAGE,
        "fairness": shown.fairness(desk.policy),
    }


@router.get("/")
def worklist(desk: AtDesk, reader: Reader, offset: Offset = 0, none: bool = False) -> Response:
    """The reading list, what is being read, and orders without images."""
    notice = "No study is waiting to be read." if none else ""
    return page("worklist.html", desk, reader, notice=notice, **_lists(desk, reader, offset))


@router.get("/fragments/worklist")
def worklist_fragment(desk: AtDesk, reader: Reader, offset: Offset = 0) -> Response:
    """The same lists alone: what the open page asks for when told that something changed."""
    return page("lists.html", desk, reader, **_lists(desk, reader, offset))


@router.get("/events")
async def events(request: Request, reader: Reader) -> StreamingResponse:
    """Server-sent events that say that the worklist changed, and nothing else."""
    live: Live = request.app.state.live
    return StreamingResponse(live.events(), media_type="text/event-stream")


@router.post("/search")
def search(desk: AtDesk, reader: Reader, text: Annotated[str, Form(max_length=200)] = "") -> Response:
    """Entries by patient id, accession number or words of the name; by POST, so that no URL holds them."""
    found = rows(desk.find(text, reader), desk, reader)
    return page("search.html", desk, reader, found=found, text=text)


@router.post("/next")
def next_study(desk: AtDesk, reader: Reader) -> Response:
    """Claim what comes next and open it."""
    entry = desk.book.next_study(desk.site, reader, at=desk.clock())
    return RedirectResponse("/?none=1" if entry is None else f"/studies/{entry.entry_id}", 303)


# --- operations ---


@router.get("/operations")
def operations(desk: AtDesk, reader: Reader) -> Response:
    """Counts and what is stuck, without patient data."""
    overview = desk.book.overview(desk.site)
    counts = {(row["ai_state"], row["reading_state"]): row["entries"] for row in overview["entries"]}
    return page(
        "operations.html",
        desk,
        reader,
        overview=overview,
        counts=counts,
        ai_states=[state.value for state in AiState],
        reading_states=[state.value for state in ReadingState],
        reasons=REASONS,
        match_words=shown.MATCH_WORDS,
    )


@router.post("/messages/{message_id}/replay")
def replay_message(message_id: int, desk: AtDesk, reader: Reader) -> Response:
    """Apply a stored message once more."""
    if desk.replay_message is not None:
        desk.replay_message(message_id)
    return RedirectResponse("/operations#messages", 303)
