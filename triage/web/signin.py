"""Who is asking: the demo's sign-in, and the guard at the door (host, origin, security headers)."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from triage.domain.errors import TriageError

COOKIE = "triage_session"
LASTS = timedelta(hours=12)
LONGEST_NAME = 40
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",  # with no-referrer, browsers send `Origin: null` on our own forms
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class NotSignedIn(TriageError):
    """Nobody is signed in, or the session has ended."""


@dataclass(frozen=True)
class Sessions:
    """Signed session cookies: a name and an end, readable by anyone, made by us alone."""

    secret: bytes = field(repr=False)
    clock: Callable[[], datetime]

    def start(self, name: str) -> str:
        """The cookie of a new session."""
        until = (self.clock() + LASTS).timestamp()
        body = base64.urlsafe_b64encode(json.dumps([name, until]).encode()).decode()
        return f"{body}.{self._sign('session', body)}"

    def name_of(self, cookie: str | None) -> str | None:
        """Whose session it is; None for none, a forged or an ended one."""
        body, _, signature = (cookie or "").partition(".")
        if not hmac.compare_digest(self._sign("session", body).encode(), signature.encode()):
            return None
        name, until = json.loads(base64.urlsafe_b64decode(body))
        return str(name) if self.clock().timestamp() < until else None

    def token_of(self, cookie: str) -> str:
        """The token a program sends as X-CSRF-Token where it sends no Origin."""
        return self._sign("csrf", cookie)

    def _sign(self, purpose: str, text: str) -> str:
        return hmac.new(self.secret, f"{purpose}:{text}".encode(), "sha256").hexdigest()


def reader_of(request: Request) -> str:
    """
    The name of who is signed in.

    Raises:
        NotSignedIn: nobody is.
    """
    sessions: Sessions = request.app.state.sessions
    name = sessions.name_of(request.cookies.get(COOKIE))
    if name is None:
        raise NotSignedIn("sign in first")
    return name


Reader = Annotated[str, Depends(reader_of)]


def clean_name(text: str) -> str:
    """A name as typed, without what cannot be seen; "" where nothing is left."""
    return " ".join("".join(c for c in text if c.isprintable()).split())[:LONGEST_NAME]


@dataclass(frozen=True)
class Guard:
    """
    ASGI middleware in front of everything.

    The demo's sign-in asks for no password, so only this machine may come in: a Host that is not loopback is refused,
    which also stops DNS rebinding. A request that changes something must come from our own pages (Origin), or carry
    the session's token.
    """

    app: ASGIApp
    sessions: Sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(Request(scope))
        await (refusal or self.app)(scope, receive, send_guarded)

    def _refusal(self, request: Request) -> Response | None:
        host = request.headers.get("host", "")
        if _hostname(host) not in LOOPBACK:
            return JSONResponse({"detail": "this sign-in serves only its own machine: use http://127.0.0.1"}, 421)
        if request.method not in SAFE and not self._is_ours(request, host):
            return JSONResponse({"detail": "the request did not come from this service's own pages"}, 403)
        return None

    def _is_ours(self, request: Request, host: str) -> bool:
        origin = request.headers.get("origin")
        if origin is not None:
            return _netloc(origin) == host
        cookie = request.cookies.get(COOKIE)
        if cookie is None:
            return True  # no session, no authority to misuse: the endpoint refuses by itself
        given = request.headers.get("x-csrf-token", "")
        return hmac.compare_digest(self.sessions.token_of(cookie).encode(), given.encode())


def _hostname(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None
