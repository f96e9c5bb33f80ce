"""One FastAPI application: pages, API, live push and what a cluster asks of it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any

import numpy.typing as npt
import psycopg
from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from triage.domain.errors import Conflict, Misconfigured, Rejected, TriageError, Unavailable
from triage.domain.imaging import Radiograph
from triage.domain.priority import PriorityPolicy
from triage.ports import Archive
from triage.postgres.book import Book
from triage.web import api, pages, probes, quality, study
from triage.web.desk import Desk, ModelWords
from triage.web.live import Live
from triage.web.signin import Guard, NotSignedIn, Sessions

STATUS_OF: tuple[tuple[type[TriageError], int], ...] = (
    (NotSignedIn, 401),
    (Conflict, 409),
    (Rejected, 422),
    (Unavailable, 503),
)
SHORTEST_SECRET = 16


def utc_now() -> datetime:
    """The instant, aware."""
    return datetime.now(UTC)


def create_app(
    book: Book,
    archive: Archive,
    *,
    site: str,
    policy: PriorityPolicy,
    rollout: str,
    model_words: ModelWords,
    secret: bytes | None = None,
    extra_routers: Sequence[APIRouter] = (),
    clock: Callable[[], datetime] = utc_now,
    zone: tzinfo = UTC,
    activation: Callable[[Radiograph], npt.NDArray[Any]] | None = None,
    replay_message: Callable[[int], str] | None = None,
) -> FastAPI:
    """
    The application of one site.

    Args:
        secret: signs the sessions; without one they end with the process (and several processes would not share them).
        activation: the class activation of a radiograph, (rows, columns) in [0, 1], of any size.
        replay_message: applies a stored message once more and says what became of it.
    Raises:
        Misconfigured: the secret is too short to sign with.
    """
    if secret is not None and len(secret) < SHORTEST_SECRET:
        raise Misconfigured(f"the session secret needs at least {SHORTEST_SECRET} bytes")
    live = Live(str(book.pool.conninfo), site)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        live.start()
        yield
        live.stop()

    app = FastAPI(
        title="Chest X-ray triage",
        version="1",
        description="The worklist. AI results are preliminary and not for diagnosis; not flagged means no effect.",
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        openapi_url="/api/openapi.json",
        lifespan=lifespan,
    )
    app.state.desk = Desk(
        book, archive, site, policy, rollout, model_words, clock, zone, activation, replay_message
    )  # fmt: skip
    app.state.sessions = Sessions(secret or secrets.token_bytes(32), clock)
    app.state.live = live
    app.add_middleware(Guard, sessions=app.state.sessions)
    app.add_exception_handler(TriageError, _refused)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _refused)
    app.add_exception_handler(psycopg.OperationalError, _refused)
    for router in (pages.router, study.router, quality.router, api.router, probes.router, *extra_routers):
        app.include_router(router)
    app.mount("/static", Static(directory=Path(__file__).parent / "static"), name="static")
    return app


class Static(StaticFiles):
    """Our style and script: no patient data, so a browser may keep them and ask whether they changed."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """As the parent, with the one header that differs from every page."""
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response


def _refused(request: Request, why: Exception) -> Response:
    """What went wrong as one sentence: a page for a person, JSON for a program."""
    detail: Any = str(why)
    status = next((code for kind, code in STATUS_OF if isinstance(why, kind)), 500)
    headers: Mapping[str, str] | None = None
    if isinstance(why, HTTPException):
        status, detail, headers = why.status_code, why.detail, why.headers
    elif isinstance(why, psycopg.OperationalError):  # its own words may name hosts and values
        status, detail = 503, "the database does not answer"
    elif isinstance(why, RequestValidationError):  # says where and what is wrong, does not repeat what was sent
        status, detail = 422, [{"loc": fault["loc"], "msg": fault["msg"]} for fault in why.errors()]
    if "text/html" in request.headers.get("accept", ""):
        return pages.refusal(request, status, detail if isinstance(detail, str) else "the form is not complete")
    return JSONResponse({"detail": detail}, status, headers=headers)


__all__ = ["ModelWords", "create_app"]
