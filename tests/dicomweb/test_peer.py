"""Transport failures, told as peer and phase, for both HTTP libraries."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
import requests

from integrations.peer import speaking_to
from triage.domain.errors import ArchiveUnavailable, Conflict, EhrUnavailable


def _raise(kind: type[Exception]) -> Callable[[httpx.Request], httpx.Response]:
    def handle(request: httpx.Request) -> httpx.Response:
        raise kind("http://ehr/Patient?name=Honmiya")

    return handle


@pytest.mark.parametrize(
    ("kind", "phase"),
    [
        (httpx.ConnectError, "not connected, ConnectError"),
        (httpx.ConnectTimeout, "not connected, ConnectTimeout"),
        (httpx.ReadTimeout, "connected, then ReadTimeout"),
        (httpx.RemoteProtocolError, "connected, then RemoteProtocolError"),
    ],
)
def test_httpx_failures_name_the_phase(kind: type[Exception], phase: str) -> None:
    client = httpx.Client(transport=httpx.MockTransport(_raise(kind)))
    with client, pytest.raises(EhrUnavailable) as caught, speaking_to("ehr", EhrUnavailable):
        client.get("http://ehr/Patient?name=Honmiya")
    assert str(caught.value) == f"ehr: {phase}"
    assert caught.value.__suppress_context__


def test_a_status_is_told_without_the_url() -> None:
    client = httpx.Client(transport=httpx.MockTransport(lambda _request: httpx.Response(503)))
    with client, pytest.raises(EhrUnavailable, match=r"^ehr: answered 503$"), speaking_to("ehr", EhrUnavailable):
        client.get("http://ehr/Patient?name=Honmiya").raise_for_status()


@pytest.mark.parametrize(
    ("failure", "phase"),
    [
        (requests.ConnectTimeout("x"), "not connected, ConnectTimeout"),
        (requests.ReadTimeout("x"), "connected, then ReadTimeout"),
        (requests.exceptions.SSLError("x"), "not connected, SSLError"),
        (requests.exceptions.ChunkedEncodingError("x"), "answering, then ChunkedEncodingError"),
        (requests.exceptions.JSONDecodeError("x", "y", 0), "answered, but not with JSON"),
        (requests.exceptions.InvalidURL("Honmiya"), "InvalidURL"),
    ],
)
def test_requests_failures_name_the_phase(failure: Exception, phase: str) -> None:
    with pytest.raises(ArchiveUnavailable) as caught, speaking_to("archive"):
        raise failure
    assert str(caught.value) == f"archive: {phase}"


def test_our_own_errors_and_success_pass() -> None:
    with speaking_to("archive"):
        pass
    with pytest.raises(Conflict), speaking_to("archive"):
        raise Conflict("claimed")
