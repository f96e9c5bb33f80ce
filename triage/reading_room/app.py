"""The pages of the reading room; server-rendered, usable without script but for window and zoom."""

from __future__ import annotations

from datetime import datetime, tzinfo
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Form, HTTPException
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from triage.domain.errors import Conflict, TriageError, Unavailable
from triage.domain.finding import ChestClass
from triage.reading_room.cases import Case
from triage.reading_room.codes import reader_with
from triage.reading_room.room import Room
from triage.reading_room.standing import Phase, Reading, Standing
from triage.reading_room.study import Modality, Showing
from triage.web.signin import COOKIE, LASTS, Guard, NotSignedIn, Reader, Sessions

HERE = Path(__file__).parent
WORDS = {ChestClass.NORMAL: "Normal", ChestClass.PNEUMONIA: "Pneumonia", ChestClass.COVID: "COVID"}
MOST_CONFIDENT = 100
router = APIRouter()
templates = Environment(
    loader=FileSystemLoader(HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def create_app(room: Room, zone: tzinfo | None = None) -> FastAPI:
    """The application of one study; *zone* is that of the instants shown, None the machine's."""
    app = FastAPI(title="Reader study", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.room, app.state.zone = room, zone
    app.state.sessions = Sessions(room.study.key, room.clock)
    app.add_middleware(Guard, sessions=app.state.sessions)
    app.add_exception_handler(TriageError, _refused)
    app.add_exception_handler(StarletteHTTPException, _refused)
    app.include_router(router)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    return app


def room_of(request: Request) -> Room:
    """The room of the application that answers."""
    room: Room = request.app.state.room
    return room


InRoom = Annotated[Room, Depends(room_of)]
Given = Annotated[str, Form(max_length=100)]


def _page(template: str, reader: str = "", status: int = 200, **values: Any) -> Response:
    return HTMLResponse(templates.get_template(template).render(reader=reader, words=WORDS, **values), status)


def _refused(request: Request, why: Exception) -> Response:
    if isinstance(why, NotSignedIn):
        return RedirectResponse("/signin", 303)
    if isinstance(why, StarletteHTTPException):
        return _page("refusal.html", status=why.status_code, sentence=str(why.detail))
    status = 409 if isinstance(why, Conflict) else 503 if isinstance(why, Unavailable) else 500
    return _page("refusal.html", status=status, sentence=str(why) if status < 500 or status == 503 else "failed")


# --- sign-in ---


@router.get("/signin")
def signin_page() -> Response:
    """Ask for the code."""
    return _page("signin.html", problem="")


@router.post("/signin")
def signin(request: Request, room: InRoom, code: Given = "") -> Response:
    """Start the session of the reader whose code it is."""
    reader = reader_with(code, room.study.codes, room.study.salt)
    if reader is None:
        return _page("signin.html", status=403, problem="This is not a code of this study.")
    sessions: Sessions = request.app.state.sessions
    response = RedirectResponse("/", 303)
    response.set_cookie(
        COOKIE, sessions.start(reader), max_age=int(LASTS.total_seconds()), httponly=True, samesite="strict"
    )
    return response


@router.post("/signout")
def signout(room: InRoom, reader: Reader) -> Response:
    """End the session in this browser; the case in view waits."""
    room.pause(reader)
    response = RedirectResponse("/signin", 303)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response


# --- between cases ---


@router.get("/")
def home(request: Request, room: InRoom, reader: Reader) -> Response:
    """Where the reader stands, and the one button that goes on."""
    now = room.standing(reader)
    if now.has_case_in_view:
        return RedirectResponse("/case", 303)
    order = room.study.orders[reader]
    zone: tzinfo | None = request.app.state.zone
    done = now.latest + (now.phase is not Phase.OPEN)
    return _page(
        "home.html", reader, now=now, token=room.token(reader, now.latest), done=done, total=len(order),
        session=order[min(done, len(order) - 1)].session, sessions=room.study.sessions,
        opens_at=_instant(now.opens_at, zone), days=room.study.washout.days, has_model=room.study.sessions > 1,
    )  # fmt: skip


def _instant(at: datetime | None, zone: tzinfo | None) -> str:
    return "" if at is None else f"{at.astimezone(zone):%A, %-d %B %Y, %H:%M %Z}"


@router.post("/next")
def go_on(room: InRoom, reader: Reader, after: Given = "") -> Response:
    """Open the next case, or close the session."""
    room.go_on(reader, after)
    return RedirectResponse("/", 303)


@router.post("/pause")
def pause(room: InRoom, reader: Reader) -> Response:
    """Put the case away."""
    room.pause(reader)
    return RedirectResponse("/", 303)


@router.post("/resume")
def resume(room: InRoom, reader: Reader) -> Response:
    """Take the case up again."""
    room.resume(reader)
    return RedirectResponse("/", 303)


# --- one case ---


@router.get("/case")
def case(room: InRoom, reader: Reader) -> Response:
    """The case in view and what the reader says of it."""
    found = room.in_view(reader)
    if found is None:
        return RedirectResponse("/", 303)
    reading = found[2].reading
    filled = {} if reading is None else dict(zip(ChestClass, reading.scores, strict=True))
    chosen = "" if reading is None else reading.response
    return _case_page(room, reader, *found, chosen=chosen, filled=filled)


@router.post("/reading")
def give(
    room: InRoom,
    reader: Reader,
    token: Given = "",
    response: Given = "",
    score_normal: Given = "",
    score_pneumonia: Given = "",
    score_covid: Given = "",
) -> Response:
    """Record the reading."""
    written = dict(zip(ChestClass, (score_normal, score_pneumonia, score_covid), strict=True))
    reading = reading_of(response, written)
    found = room.in_view(reader)
    if isinstance(reading, str) and found is not None:
        return _case_page(room, reader, *found, chosen=response, filled=written, problem=reading, status=422)
    if isinstance(reading, str):
        return RedirectResponse("/", 303)
    room.give(reader, token, reading)
    return RedirectResponse("/case", 303)


def reading_of(response: str, written: dict[ChestClass, str]) -> Reading | str:
    """What the form says, or what is missing in it."""
    if response not in set(ChestClass):
        return "Please choose one of the three classes."
    for code, text in written.items():
        if not (text.isascii() and text.isdigit() and len(text) <= 3 and int(text) <= MOST_CONFIDENT):
            return f"Please give a whole number from 0 to 100 for {WORDS[code]}."
    normal, pneumonia, covid = (int(text) for text in written.values())
    return Reading(ChestClass(response), (normal, pneumonia, covid))


def _case_page(
    room: Room, reader: str, showing: Showing, case: Case, now: Standing, *, chosen: str, filled: dict[Any, Any],
    problem: str = "", status: int = 200,
) -> Response:  # fmt: skip
    """Everything the page knows: of the case its image alone, and what the model says only where it may be seen."""
    order = room.study.orders[reader]
    of_session = [number for number, other in enumerate(order) if other.session == showing.session]
    shows_model = showing.modality is Modality.WITH
    probabilities = case.probabilities if shows_model else None
    return _page(
        "case.html", reader, status, token=room.token(reader, now.latest), now=now, session=showing.session,
        sessions=room.study.sessions, place=of_session.index(now.latest) + 1, places=len(of_session),
        shows_model=shows_model, bars=_bars(probabilities), has_overlay=shows_model and bool(case.overlay),
        chosen=chosen, filled=filled, problem=problem, is_given=now.phase is Phase.GIVEN,
    )  # fmt: skip


def _bars(probabilities: tuple[float, float, float] | None) -> list[tuple[str, float, str]]:
    """By class: its words, its share of 100, and the percentage in words, never rounded to certainty."""
    shown = zip(WORDS.values(), probabilities or (), strict=False)
    return [(words, p * 100, f"{min(max(p * 100, 0.1), 99.9):.1f}%") for words, p in shown]


@router.get("/image/{token}")
def image(token: str, room: InRoom, reader: Reader) -> Response:
    """The radiograph of the case in view."""
    return _png(room.radiograph(reader, token))


@router.get("/overlay/{token}")
def overlay(token: str, room: InRoom, reader: Reader) -> Response:
    """What the model marks on it, where the case is read with the model."""
    return _png(room.overlay(reader, token))


def _png(content: bytes | None) -> Response:
    if content is None:
        raise HTTPException(404, "nothing to see here")
    return Response(content, media_type="image/png", headers={"Content-Disposition": "inline"})
