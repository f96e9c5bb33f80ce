"""Against a real FHIR server (tests/peers/fhir): nothing is doubled, everything reads back, orders are swept."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from integrations.fhir import orders
from integrations.fhir.client import FhirOrders, FhirReports, FhirServer
from tests.fhir.making import SITE, make_patient_resource, make_request, of_its_own
from tests.making import make_assessment
from triage.domain.errors import RefusedByPeer, Rejected
from triage.domain.order import OrderEvent

pytestmark = pytest.mark.peer


@pytest.fixture
def server() -> Iterator[FhirServer]:
    """The peer that TRIAGE_TEST_FHIR names."""
    base_url = os.environ.get("TRIAGE_TEST_FHIR")
    if not base_url:
        pytest.skip("TRIAGE_TEST_FHIR names no FHIR server (tests/peers/fhir)")
    opened = FhirServer(base_url, name="peer")
    yield opened
    opened.close()


def reports_with(server: FhirServer, identifier: str) -> list[dict[str, Any]]:
    """The reports that carry an identifier of ours."""
    return list(server.search("DiagnosticReport", [("identifier", f"urn:x-chest-triage:report|{identifier}")]))


def total(server: FhirServer, kind: str) -> int:
    """How many resources of one type the peer holds."""
    return len(list(server.search(kind, [])))


def test_the_peer_speaks_r4(server: FhirServer) -> None:
    assert server.check() == "4.0.1"


@pytest.mark.parametrize("creates_patients", [False, True])
def test_a_result_sent_twice_is_there_once(server: FhirServer, creates_patients: bool) -> None:
    reports = FhirReports(server, replace(SITE, creates_patients=creates_patients))
    result = of_its_own(uuid4().hex)
    body = reports.compose(result, None)
    first = reports.send(body, "one")
    kinds = ("Device", "Observation", "DiagnosticReport", "Provenance", "Patient")
    counts = [total(server, kind) for kind in kinds]
    assert reports.send(body, "one") == first
    assert [total(server, kind) for kind in kinds] == counts
    report = server.read(first)
    assert report is not None and report["status"] == "preliminary"
    observation = server.read(report["result"][0]["reference"])
    assert observation is not None and observation["valueCodeableConcept"]["coding"][0]["code"] == "flagged"
    device = server.read(observation["device"]["reference"])
    assert device is not None and device["deviceName"][0]["name"] == "chest"
    if creates_patients:
        patient = server.read(report["subject"]["reference"])
        assert patient is not None
        assert orders.patient_of(patient, SITE).name == result.study.patient.name


def test_a_rerun_cancels_the_run_before(server: FhirServer) -> None:
    reports, name = FhirReports(server, SITE), uuid4().hex
    first, second = of_its_own(name, 1), of_its_own(name, 2, assessment=make_assessment(covid=0.2))
    old_body = reports.compose(first, None)
    old = reports.send(old_body, "one")
    reports.send(reports.compose(second, first), "two")
    assert reports.send(old_body, "one") == old  # a late repeat wakes nothing up
    ((old_report,), (new_report,)) = (reports_with(server, str(run.run_id)) for run in (first, second))
    assert (old_report["status"], new_report["status"]) == ("cancelled", "preliminary")
    assert old_report["conclusion"] == "AI run 1: superseded by run 2."
    assert f"DiagnosticReport/{old_report['id']}" == old


def test_a_rerun_that_overtakes_the_first_run_still_wins(server: FhirServer) -> None:
    reports, name = FhirReports(server, SITE), uuid4().hex
    first, second = of_its_own(name, 1), of_its_own(name, 2)
    reports.send(reports.compose(second, first), "two")
    reports.send(reports.compose(first, None), "one")
    (late,) = reports_with(server, str(first.run_id))
    assert late["status"] == "cancelled"


def test_a_withdrawn_result_is_entered_in_error(server: FhirServer) -> None:
    reports, result = FhirReports(server, SITE), of_its_own(uuid4().hex)
    sent = reports.send(reports.compose(result, None), "one")
    withdrawn = replace(result, is_withdrawn=True, is_current=False)
    assert reports.send(reports.compose(withdrawn, None), "two") == sent
    report = server.read(sent)
    assert report is not None and report["status"] == "entered-in-error"


def test_an_entry_the_peer_refuses_is_seen_in_its_mixed_answer(server: FhirServer) -> None:
    reports = FhirReports(server, SITE)
    bundle = json.loads(reports.compose(of_its_own(uuid4().hex), None))
    for entry in bundle["entry"]:
        if entry["resource"]["resourceType"] == "Observation":
            entry["resource"]["surplus"] = "x"
    with pytest.raises(RefusedByPeer, match="Observation 400"):
        reports.send(json.dumps(bundle).encode(), "one")


def test_changed_orders_are_swept_page_by_page(server: FhirServer) -> None:
    since = datetime.now(UTC) - timedelta(seconds=1)
    value = uuid4().hex
    with httpx.Client(base_url=server.base_url, headers={"Content-Type": "application/fhir+json"}) as http:
        patient = make_patient_resource(id=None)
        patient_id = http.post("/Patient", content=json.dumps(patient)).json()["id"]
        for number in range(3):
            request = make_request(
                id=None,
                meta=None,
                extension=None,
                status="draft" if number == 2 else "active",
                subject={"reference": f"Patient/{patient_id}"},
                requisition={"system": "urn:x-test:sweep", "value": value},
            )
            assert http.post("/ServiceRequest", content=json.dumps(request)).status_code == 201
    swept = list(FhirOrders(server, SITE, [("requisition", f"urn:x-test:sweep|{value}")]).changed_since(since))
    assert [type(event) for _, event in swept[:2]] == [OrderEvent, OrderEvent]
    assert len(swept) == 3 and isinstance(swept[2][1], Rejected)
    for raw, event in swept[:2]:
        assert orders.from_document(raw, SITE) == event
    pages = server.search("ServiceRequest", [("requisition", f"urn:x-test:sweep|{value}")], count=1)
    assert len({request["id"] for request in pages}) == 3
