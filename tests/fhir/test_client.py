"""What a FHIR server's answers mean, with the server faked at the transport."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from integrations.fhir import client, orders
from integrations.fhir.client import BearerToken, FhirOrders, FhirReports, FhirServer
from tests.fhir.making import SITE, make_patient_resource, make_request, make_result
from triage.domain.errors import EhrUnavailable, Misconfigured, RefusedByPeer, Rejected, TriageError
from triage.domain.order import OrderEvent

BASE = "https://ehr.invalid/fhir"
SINCE = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
Handler = Callable[[httpx.Request], httpx.Response]


def server_answering(handler: Handler, **more: Any) -> FhirServer:
    """A server whose every answer *handler* makes."""
    return FhirServer(BASE, name="ehr", transport=httpx.MockTransport(handler), **more)


def reports_answering(handler: Handler) -> FhirReports:
    """The same, as a destination of results."""
    return FhirReports(server_answering(handler), SITE)


BODY = FhirReports(server_answering(lambda r: httpx.Response(200)), SITE).compose(make_result(), None)
KINDS = [entry["resource"]["resourceType"] for entry in json.loads(BODY)["entry"]]


def outcome(code: str = "processing") -> dict[str, Any]:
    """An OperationOutcome that quotes a patient, as real ones do."""
    issue = {"severity": "error", "code": code, "diagnostics": "Patient Honmiya P-0001", "expression": ["Patient.name"]}
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def transaction_response(**statuses: str) -> dict[str, Any]:
    """An answer to `BODY`: 201 for every entry but those named by type."""
    entries = [
        {"response": {"status": statuses.get(kind, "201 Created"), "location": f"{BASE}/{kind}/{i}/_history/1"}}
        for i, kind in enumerate(KINDS)
    ]
    for entry in entries:
        if not entry["response"]["status"].startswith("2"):
            entry["response"] = {"status": entry["response"]["status"], "outcome": outcome()}  # type: ignore[dict-item]
    return {"resourceType": "Bundle", "type": "transaction-response", "entry": entries}


def searchset(*resources: dict[str, Any], **more: Any) -> httpx.Response:
    """A page of a search."""
    entries = [{"resource": resource} for resource in resources]
    return httpx.Response(200, json={"resourceType": "Bundle", "type": "searchset", "entry": entries, **more})


def test_a_delivery_is_told_by_the_servers_name_for_the_report() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert (request.method, str(request.url)) == ("POST", BASE)
        assert request.headers["X-Request-Id"] == "control-1"
        assert request.headers["Content-Type"] == "application/fhir+json"
        assert request.content == BODY
        return httpx.Response(200, json=transaction_response())

    assert reports_answering(answer).send(BODY, "control-1") == f"DiagnosticReport/{KINDS.index('DiagnosticReport')}"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, RefusedByPeer),
        (413, RefusedByPeer),
        (415, RefusedByPeer),
        (422, RefusedByPeer),
        (404, RefusedByPeer),
        (401, EhrUnavailable),
        (403, EhrUnavailable),
        (408, EhrUnavailable),
        (429, EhrUnavailable),
        (500, EhrUnavailable),
        (502, EhrUnavailable),
        (503, EhrUnavailable),
        (302, EhrUnavailable),
        (405, EhrUnavailable),
    ],
)
def test_the_status_of_an_answer_says_what_to_do(status: int, error: type[TriageError]) -> None:
    reports = reports_answering(lambda r: httpx.Response(status, json=outcome(), headers={"Retry-After": "7"}))
    with pytest.raises(error) as raised:
        reports.send(BODY, "c")
    assert f"answered {status} (processing at Patient.name)" in str(raised.value)
    assert "Honmiya" not in str(raised.value) and "P-0001" not in str(raised.value)


def test_a_404_without_an_outcome_is_a_wrong_address_and_waits() -> None:
    with pytest.raises(EhrUnavailable):
        reports_answering(lambda r: httpx.Response(404, text="nginx")).send(BODY, "c")


@pytest.mark.parametrize(
    ("statuses", "error", "words"),
    [
        ({"Observation": "422"}, RefusedByPeer, "Observation 422"),
        ({"Observation": "400 Bad Request"}, RefusedByPeer, "Observation 400"),
        ({"Provenance": "503"}, EhrUnavailable, "Provenance 503"),
        ({"Observation": "422", "Provenance": "500"}, EhrUnavailable, "Observation 422"),
        ({"DiagnosticReport": "404"}, RefusedByPeer, "DiagnosticReport 404"),
        ({"Device": ""}, EhrUnavailable, "Device 0"),
    ],
)
def test_every_entry_of_a_transaction_is_looked_at(
    statuses: dict[str, str], error: type[TriageError], words: str
) -> None:
    with pytest.raises(error, match=words) as raised:
        reports_answering(lambda r: httpx.Response(200, json=transaction_response(**statuses))).send(BODY, "c")
    assert "Honmiya" not in str(raised.value)


def test_an_answer_for_fewer_entries_is_no_answer() -> None:
    short = transaction_response()
    short["entry"].pop()
    with pytest.raises(EhrUnavailable, match=f"{len(KINDS) - 1} of {len(KINDS)} entries"):
        reports_answering(lambda r: httpx.Response(200, json=short)).send(BODY, "c")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"a":1}'])
def test_a_success_without_a_resource_is_a_proxys(body: bytes) -> None:
    with pytest.raises(EhrUnavailable, match="without a FHIR resource"):
        reports_answering(lambda r: httpx.Response(200, content=body)).send(BODY, "c")


COLLIDING: list[tuple[str, list[dict[str, Any]], type[TriageError] | None]] = [
    ("already there", [{"id": "9", "status": "preliminary"}], None),
    ("not there", [], EhrUnavailable),
    ("in another state", [{"id": "9", "status": "cancelled"}], EhrUnavailable),
    ("there twice", [{"id": "9", "status": "preliminary"}, {"id": "10", "status": "preliminary"}], RefusedByPeer),
]


@pytest.mark.parametrize("in_entry", [False, True], ids=["whole", "one entry"])
@pytest.mark.parametrize("status", ["409", "412"])
@pytest.mark.parametrize(("state", "standing", "error"), COLLIDING, ids=[c[0] for c in COLLIDING])
def test_after_a_collision_the_server_is_read_before_deciding(
    state: str, standing: list[dict[str, Any]], error: type[TriageError] | None, status: str, in_entry: bool
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            if in_entry:
                return httpx.Response(200, json=transaction_response(Observation=status))
            return httpx.Response(int(status), json=outcome("conflict"))
        kind = request.url.path.rsplit("/", 1)[1]
        assert request.url.params["identifier"].startswith("urn:x-chest-triage:")
        return searchset(*({"resourceType": kind, **one} for one in standing))

    reports = reports_answering(answer)
    if error is None:
        assert reports.send(BODY, "c") == "DiagnosticReport/9"
    else:
        with pytest.raises(error):
            reports.send(BODY, "c")


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (httpx.ConnectError("refused by ehr.invalid/Patient/7"), "ehr: not connected, ConnectError"),
        (httpx.ConnectTimeout("slow"), "ehr: not connected, ConnectTimeout"),
        (httpx.ReadTimeout("slow"), "ehr: connected, then ReadTimeout"),
        (httpx.RemoteProtocolError("odd"), "ehr: connected, then RemoteProtocolError"),
    ],
)
def test_no_answer_names_the_peer_and_the_phase(failure: Exception, words: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise failure

    with pytest.raises(EhrUnavailable) as raised:
        reports_answering(answer).send(BODY, "c")
    assert str(raised.value) == words


def test_an_answer_that_trickles_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Trickle(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            while True:
                yield b" "

    clock = iter(range(0, 10**9, 5))
    monkeypatch.setattr(client.time, "monotonic", lambda: next(clock))
    with pytest.raises(EhrUnavailable, match="did not end"):
        reports_answering(lambda r: httpx.Response(200, stream=Trickle())).send(BODY, "c")


@pytest.mark.parametrize(
    ("version", "is_accepted"), [("4.0.1", True), ("4.3.0", True), ("5.0.0", False), ("3.0.2", False), (None, False)]
)
def test_only_r4_and_r4b_servers_are_spoken_to(version: str | None, is_accepted: bool) -> None:
    statement = {"resourceType": "CapabilityStatement", "fhirVersion": version}
    server = server_answering(lambda r: httpx.Response(200, json=statement))
    if is_accepted:
        assert server.check() == version
    else:
        with pytest.raises(Misconfigured, match="ehr: speaks FHIR"):
            server.check()


def test_a_base_url_that_is_none_stops_the_start() -> None:
    with pytest.raises(Misconfigured):
        FhirServer("ehr.invalid", name="ehr")


def numbered(*ids: int) -> list[dict[str, Any]]:
    """ServiceRequests with these ids."""
    return [make_request(id=str(i)) for i in ids]


def test_pages_are_followed_by_next_links() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.params.get("page") == "2":
            assert "_count" not in request.url.params
            return searchset(*numbered(3))
        return searchset(*numbered(1, 2), link=[{"relation": "next", "url": f"{BASE}?page=2"}])

    assert [r["id"] for r in server_answering(answer).search("ServiceRequest", [], count=2)] == ["1", "2", "3"]


@pytest.mark.parametrize("total", [{}, {"total": 5}])
def test_pages_are_counted_where_the_server_gives_no_link(total: dict[str, int]) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        first = int(request.url.params.get("_offset", 0)) + 1
        return searchset(*numbered(*range(first, min(first + 2, 6))), **total)

    found = [r["id"] for r in server_answering(answer).search("ServiceRequest", [], count=2)]
    assert found == ["1", "2", "3", "4", "5"]


def test_a_resource_that_changes_between_two_counted_pages_costs_no_other_its_turn() -> None:
    calls = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal calls
        calls += 1
        order = (
            numbered(1, 2, 3, 4) if calls == 1 else [*numbered(2, 3, 4), make_request(id="1", meta={"versionId": "2"})]
        )
        first = int(request.url.params.get("_offset", 0))
        return searchset(*order[first : first + 2])

    found = [r["id"] for r in server_answering(answer).search("ServiceRequest", [], count=2)]
    assert sorted(set(found)) == ["1", "2", "3", "4"]  # 3 slipped before the second page's offset


def test_a_server_that_ignores_offsets_is_read_once() -> None:
    found = list(server_answering(lambda r: searchset(*numbered(1, 2))).search("ServiceRequest", [], count=2))
    assert [r["id"] for r in found] == ["1", "2"]


def test_a_next_link_to_another_server_is_not_followed() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.host == "ehr.invalid"
        return searchset(*numbered(1), link=[{"relation": "next", "url": "https://evil.invalid/fhir?page=2"}])

    with pytest.raises(EhrUnavailable, match="another server"):
        list(server_answering(answer).search("ServiceRequest", []))


@pytest.mark.parametrize(
    "reference", ["https://other.invalid/fhir/Patient/7", "urn:uuid:1", "Patient/../Secret", "Patient?name=x", ""]
)
def test_a_foreign_reference_is_never_followed(reference: str) -> None:
    assert server_answering(lambda r: pytest.fail("asked")).read(reference) is None


@pytest.mark.parametrize("reference", ["Patient/7", f"{BASE}/Patient/7", "Patient/7/_history/2"])
def test_a_reference_on_this_server_is_read(reference: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert str(request.url) == f"{BASE}/Patient/7"
        return httpx.Response(200, json=make_patient_resource())

    found = server_answering(answer).read(reference)
    assert found is not None and found["id"] == "p-1"


def sweep(handler: Handler) -> list[tuple[bytes, OrderEvent | Exception]]:
    """All that changed since `SINCE`."""
    return list(FhirOrders(server_answering(handler), SITE, [("category", "imaging")]).changed_since(SINCE))


def test_changed_orders_come_with_what_replay_needs() -> None:
    reads: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/ServiceRequest"):
            asked = dict(request.url.params)
            assert asked["_lastUpdated"] == "ge2026-11-02T09:00:00.000Z"
            assert (asked["_sort"], asked["category"]) == ("_lastUpdated", "imaging")
            return searchset(make_request(id="1"), make_request(id="2", status="draft"), make_request(id="3"))
        reads.append(request.url.path)
        return httpx.Response(200, json=make_patient_resource())

    (raw, first), (_, second), (_, third) = sweep(answer)
    assert isinstance(first, OrderEvent) and isinstance(third, OrderEvent)
    assert isinstance(second, Rejected)
    assert orders.from_document(raw, SITE) == first
    assert reads == ["/fhir/Patient/p-1"]


def test_an_order_of_a_patient_who_is_not_there_goes_to_a_person() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/ServiceRequest"):
            return searchset(make_request())
        return httpx.Response(404, json=outcome("not-found"))

    ((_, event),) = sweep(answer)
    assert isinstance(event, Rejected) and "ServiceRequest.subject" in str(event)


def test_a_server_that_stops_answering_stops_the_sweep() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/ServiceRequest"):
            return searchset(make_request())
        return httpx.Response(503)

    with pytest.raises(EhrUnavailable):
        sweep(answer)


def test_a_token_is_renewed_once_after_401() -> None:
    tokens = iter(["old", "new", "newer"])

    def answer(request: httpx.Request) -> httpx.Response:
        if request.headers["Authorization"] == "Bearer old":
            return httpx.Response(401)
        return httpx.Response(200, json={"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1"})

    assert server_answering(answer, auth=BearerToken(lambda: next(tokens))).check() == "4.0.1"


def test_no_url_and_no_patient_goes_into_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    reports_answering(lambda r: httpx.Response(200, json=transaction_response())).send(BODY, "c")
    list(server_answering(lambda r: searchset()).search("Patient", [("identifier", "P-0001")]))
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("date", "told"),
    [("Mon, 02 Nov 2026 08:50:00 GMT", datetime(2026, 11, 2, 8, 50, tzinfo=UTC)), ("soon", None), (None, None)],
)
def test_the_servers_own_clock_is_told_as_it_began_to_answer(date: str | None, told: datetime | None) -> None:
    later = {"Date": "Mon, 02 Nov 2026 09:30:00 GMT"} if told else {}

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("ServiceRequest"):
            return httpx.Response(200, json=searchset(make_request()).json(), headers={"Date": date} if date else {})
        return httpx.Response(200, json=make_patient_resource(), headers=later)

    ehr = FhirOrders(server_answering(answer), SITE)
    assert ehr.server_now is None
    assert len(list(ehr.changed_since(SINCE))) == 1
    assert ehr.server_now == told
