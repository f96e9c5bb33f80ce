"""Transport failures of a peer become ours, naming the peer and the phase, never a URL: queries hold patients' data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from json import JSONDecodeError

import httpx
import requests

from triage.domain.errors import ArchiveUnavailable, Unavailable


@contextmanager
def speaking_to(peer: str, unavailable: type[Unavailable] = ArchiveUnavailable) -> Iterator[None]:
    """
    Translate what requests and httpx raise in the block; our own errors pass.

    Raises:
        Unavailable: as *unavailable*, such as "archive: connected, then ReadTimeout". Every HTTP status is one of
            them, 401 and 403 too: an expired token must not park a ward's X-rays. Not chained: the cause's text
            holds the URL.
    """
    try:
        yield
    except (requests.RequestException, httpx.HTTPError, httpx.InvalidURL) as exc:
        failure = unavailable(f"{peer}: {_phase(exc)}")
    except JSONDecodeError:
        failure = unavailable(f"{peer}: answered, but not with JSON")
    else:
        return
    raise failure from None


def _phase(exc: Exception) -> str:
    name = type(exc).__name__
    if isinstance(exc, (requests.HTTPError, httpx.HTTPStatusError)):
        status = getattr(exc.response, "status_code", None)
        return f"answered {status}" if status else f"answered, {name}"
    if isinstance(exc, requests.JSONDecodeError):
        return "answered, but not with JSON"
    if isinstance(exc, (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError)):
        return f"answering, then {name}"
    if isinstance(exc, (requests.ReadTimeout, httpx.ReadTimeout, httpx.WriteTimeout, httpx.ReadError)):
        return f"connected, then {name}"
    if isinstance(exc, httpx.RemoteProtocolError):
        return f"connected, then {name}"
    if isinstance(exc, requests.ConnectionError):
        return _connection_phase(exc)
    if isinstance(exc, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)):
        return f"not connected, {name}"
    return name


def _connection_phase(exc: requests.ConnectionError) -> str:
    """What requests files under ConnectionError: no connection, or one that broke (urllib3 says which in its class)."""
    cause = exc.args[0] if exc.args else None
    inner = type(getattr(cause, "reason", cause)).__name__
    if isinstance(exc, (requests.ConnectTimeout, requests.exceptions.SSLError, requests.exceptions.ProxyError)):
        return f"not connected, {type(exc).__name__}"
    if inner in {"ProtocolError", "ReadTimeoutError", "IncompleteRead"}:
        return f"connected, then {inner}"
    return f"not connected, {inner if inner != 'NoneType' else type(exc).__name__}"
