"""Our own FHIR endpoint: reads, searches, pages; no link of ours carries a patient's number."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from fhir.resources.R4B import get_fhir_model_class

from integrations.fhir.results import FhirComposer, device_id, subject_of
from tests.fhir.making import SITE, faults, make_result, strongest_validator
from tests.making import CLASSIFIER, NOON, SEGMENTER, make_order, make_patient, make_study
from triage.domain.errors import Unavailable
from triage.domain.finding import ModelIdentity
from triage.domain.result import Result
from triage.web.fhir import fhir_router

BASE = "https://triage.invalid/fhir"
MRN = "urn:x-test:mrn"


class RememberedResults:
    """Results in memory, found as the PostgreSQL source will find them."""

    def __init__(self, results: Sequence[Result]) -> None:
        self.results = sorted(results, key=lambda r: (r.last_updated, r.run_id))

    def by_run(self, run_id: UUID) -> Result | None:
        return next((r for r in self.results if r.run_id == run_id), None)

    def find(
        self,
        *,
        patient_identifier: tuple[str, str] | None = None,
        run_id: UUID | None = None,
        based_on: str | None = None,
        accession: tuple[str, str] | None = None,
        updated_from: datetime | None = None,
        updated_to: datetime | None = None,
        count: int,
        after_cursor: str | None = None,
    ) -> tuple[list[Result], str | None]:
        start = int(after_cursor) if after_cursor else 0
        found = [
            r
            for r in self.results
            if (patient_identifier is None or subject_of(r).patient_id == patient_identifier[1])
            and (run_id is None or r.run_id == run_id)
            and (based_on is None or (r.order is not None and r.order.service_request == based_on))
            and (accession is None or r.study.accession_number == accession[1])
            and (updated_from is None or r.last_updated >= updated_from)
            and (updated_to is None or r.last_updated < updated_to)
        ]
        return found[start : start + count], str(start + count) if start + count < len(found) else None

    def devices(self) -> Sequence[ModelIdentity]:
        return [CLASSIFIER, SEGMENTER]


RESULTS = [
    *(make_result(run) for run in range(1, 6)),
    make_result(6, study=make_study(patient=make_patient(patient_id="P-2"), accession_number="ACC-2"), order=None),
    make_result(7, study=make_study(patient=make_patient(issuer="ELSEWHERE"))),
    make_result(
        8,
        order=make_order(patient=make_patient(patient_id="P-3"), service_request="ServiceRequest/sr-8"),
        study=make_study(patient=make_patient(patient_id="P-3")),
    ),
    make_result(9, is_withdrawn=True, is_current=False, study=make_study(patient=make_patient(patient_id="P-4"))),
]
RUN = str(RESULTS[0].run_id)


def client_of(source: Any) -> TestClient:
    """A caller of the endpoint over *source*."""
    app = FastAPI()
    app.include_router(fhir_router(source, FhirComposer(SITE), BASE), prefix="/fhir")
    return TestClient(app, raise_server_exceptions=True)


CLIENT = client_of(RememberedResults(RESULTS))


def get(path: str, status: int = 200, **headers: str) -> Any:
    """The JSON of an answer, which is FHIR whatever the status."""
    answer = CLIENT.get(f"/fhir/{path}", headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/fhir+json"
    resource = answer.json()
    get_fhir_model_class(resource["resourceType"]).model_validate(resource)
    if status >= 400:
        assert resource["resourceType"] == "OperationOutcome"
    return resource


def ids(bundle: dict[str, Any]) -> list[str]:
    """The ids a searchset holds."""
    return [entry["resource"]["id"] for entry in bundle.get("entry", [])]


def runs(*numbers: int) -> list[str]:
    """Report ids of these runs."""
    return [str(make_result(number).run_id) for number in numbers]


@pytest.mark.parametrize(
    ("kind", "resource_id"),
    [
        ("DiagnosticReport", RUN),
        ("Observation", f"{RUN}-covid"),
        ("Provenance", f"{RUN}-provenance"),
        ("Device", str(device_id(CLASSIFIER))),
    ],
)
def test_a_result_is_read_in_four_resources(kind: str, resource_id: str) -> None:
    resource = get(f"{kind}/{resource_id}")
    assert (resource["resourceType"], resource["id"]) == (kind, resource_id)
    answer = CLIENT.get(f"/fhir/{kind}/{resource_id}")
    assert answer.headers["ETag"] == f'W/"{resource["meta"]["versionId"]}"'
    if kind != "Device":
        assert answer.headers["Last-Modified"] == "Mon, 02 Nov 2026 12:01:00 GMT"
    again = CLIENT.get(f"/fhir/{kind}/{resource_id}", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path",
    [
        f"DiagnosticReport/{UUID(int=1)}",
        "DiagnosticReport/x",
        f"DiagnosticReport/{RUN}-covid",
        f"Observation/{RUN}",
        "Device/x",
        "Patient/1",
        "Patient",
        "DiagnosticReport/_search",
    ],
)
def test_what_is_not_here_is_an_outcome(path: str) -> None:
    get(path, 404)


def test_every_reference_to_our_own_resources_can_be_read() -> None:
    report = get(f"DiagnosticReport/{RUN}")
    observation = get(report["result"][0]["reference"])
    get(observation["device"]["reference"])
    provenance = get(f"Provenance/{RUN}-provenance")
    for target in provenance["target"]:
        get(target["reference"])
    for agent in provenance["agent"]:
        get(agent["who"]["reference"])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, runs(1, 2, 3, 4, 5, 6, 7, 8, 9)),
        ({"patient:identifier": f"{MRN}|P-0001"}, runs(1, 2, 3, 4, 5)),
        ({"patient": f"{MRN}|P-0001"}, runs(1, 2, 3, 4, 5)),
        ({"subject.identifier": f"{MRN}|P-2"}, runs(6)),
        ({"patient:identifier": "P-0001"}, runs(1, 2, 3, 4, 5, 7)),
        ({"patient:identifier": "urn:x-other|P-0001"}, []),
        ({"identifier": f"urn:x-chest-triage:report|{RUN}"}, [RUN]),
        ({"identifier": f"urn:x-other|{RUN}"}, []),
        ({"identifier": "nonsense"}, []),
        ({"_id": RUN}, [RUN]),
        ({"_id": "x"}, []),
        ({"based-on": "ServiceRequest/sr-8"}, runs(8)),
        ({"based-on": "sr-8"}, runs(8)),
        ({"based-on:identifier": "urn:x-test:accession|ACC-2"}, runs(6)),
        ({"_lastUpdated": "2026-11-02T12:03:00Z"}, runs(3)),
        ({"_lastUpdated": "gt2026-11-02T12:07:00Z"}, runs(8, 9)),
        ({"_lastUpdated": "ge2026-11-02T21:08:00+09:00"}, runs(8, 9)),
        ({"_lastUpdated": "lt2026-11-02T12:02:00.000Z"}, runs(1)),
        ({"_lastUpdated": "le2026-11-02T12:02Z"}, runs(1, 2)),
        ({"_lastUpdated": "2026-11-02"}, runs(*range(1, 10))),
        ({"_lastUpdated": "gt2026-11"}, []),
        ({"_lastUpdated": "eb2027"}, runs(*range(1, 10))),
        ({"patient:identifier": f"{MRN}|P-0001", "_lastUpdated": "ge2026-11-02T12:05:00Z"}, runs(5)),
    ],
)
def test_reports_are_found_by_get_and_by_post(query: dict[str, str], expected: list[str]) -> None:
    assert ids(get(f"DiagnosticReport?{urlencode(query)}")) == expected
    answer = CLIENT.post("/fhir/DiagnosticReport/_search", data=query)
    assert ids(answer.json()) == expected


def test_a_span_of_time_is_given_by_two_bounds() -> None:
    found = get("DiagnosticReport?_lastUpdated=ge2026-11-02T12:02:00Z&_lastUpdated=lt2026-11-02T12:04:00Z")
    assert ids(found) == runs(2, 3)


def test_observations_provenance_and_devices_are_found_too() -> None:
    assert ids(get(f"Observation?identifier=urn:x-chest-triage:observation|{RUN}-covid")) == [f"{RUN}-covid"]
    assert ids(get(f"Observation?_id={RUN}")) == []
    assert ids(get(f"Provenance?patient:identifier={MRN}|P-2")) == [f"{runs(6)[0]}-provenance"]
    assert ids(get("Device")) == [str(device_id(CLASSIFIER)), str(device_id(SEGMENTER))]
    assert ids(get(f"Device?identifier=urn:ietf:rfc:3986|urn:oid:2.25.{device_id(SEGMENTER).int}")) == [
        str(device_id(SEGMENTER))
    ]


@pytest.mark.parametrize(
    "query",
    [{"patient:identifier": f"{MRN}|P-0001"}, {"based-on:identifier": "urn:x-test:accession|ACC-1"}, {}],
    ids=["patient", "accession", "all"],
)
def test_pages_come_by_links_that_carry_no_identifier(query: dict[str, str]) -> None:
    whole = ids(CLIENT.post("/fhir/DiagnosticReport/_search", data=query).json())
    page = CLIENT.post("/fhir/DiagnosticReport/_search", data={**query, "_count": "2"}).json()
    found = ids(page)
    for _ in range(9):
        links = {link["relation"]: link["url"] for link in page["link"]}
        for url in links.values():
            assert url.startswith(f"{BASE}/DiagnosticReport?")
            cursor = url.partition("_cursor=")[2]
            plain = base64.urlsafe_b64decode(cursor + "==").decode() if cursor else url
            assert "P-0001" not in plain and "ACC-1" not in plain
        if "next" not in links:
            break
        page = get(links["next"].removeprefix(f"{BASE}/"))
        assert len(ids(page)) <= 2
        found += ids(page)
    assert found == whole and len(found) >= 5


def test_a_page_of_another_issuers_patients_is_passed_over() -> None:
    mixed = [make_result(n, study=make_study(patient=make_patient(issuer="ELSEWHERE"))) for n in range(1, 5)]
    source = RememberedResults([*mixed, make_result(5), make_result(6)])
    page = client_of(source).post(
        "/fhir/DiagnosticReport/_search", data={"patient:identifier": f"{MRN}|P-0001", "_count": "1"}
    )
    assert ids(page.json()) == runs(5)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("DiagnosticReport?status=final", 400),
        ("DiagnosticReport?patient:exact=x|1", 400),
        ("DiagnosticReport?patient=Patient/1", 400),
        ("DiagnosticReport?_count=0", 400),
        ("DiagnosticReport?_count=many", 400),
        ("DiagnosticReport?_lastUpdated=ne2026", 400),
        ("DiagnosticReport?_lastUpdated=2026-99-01", 400),
        ("DiagnosticReport?_lastUpdated=0000", 400),
        ("DiagnosticReport?_lastUpdated=9999", 400),
        ("DiagnosticReport?_cursor=nonsense", 400),
        ("DiagnosticReport?_cursor=é", 400),
        ("DiagnosticReport?_cursor=W10", 400),
        ("DiagnosticReport?patient:identifier=a|1&patient:identifier=a|2", 400),
        ("Device?patient:identifier=a|1", 400),
        ("DiagnosticReport?_format=xml", 406),
        ("a/b/c/d", 405),
    ],
)
def test_what_cannot_be_answered_is_an_outcome(path: str, status: int) -> None:
    get(path, status)


def test_an_outcome_repeats_no_value() -> None:
    text = json.dumps(get("DiagnosticReport?Honmiya^Tarou=P-0001", 400))
    assert "P-0001" not in text and "Honmiya" not in text


def test_a_lenient_caller_may_send_what_we_do_not_know() -> None:
    assert len(ids(get("DiagnosticReport?status=final", Prefer="handling=lenient"))) == len(RESULTS)
    get("DiagnosticReport?status=final", 400, Prefer="handling=strict")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nothing_can_be_written(method: str) -> None:
    answer = CLIENT.request(method, f"/fhir/DiagnosticReport/{RUN}", json={})
    assert (answer.status_code, answer.json()["resourceType"]) == (405, "OperationOutcome")


def test_a_search_by_post_wants_a_form() -> None:
    assert CLIENT.post("/fhir/DiagnosticReport/_search", json={}).status_code == 415
    assert CLIENT.post("/fhir/DiagnosticReport/_search").status_code == 200


def test_a_withdrawn_result_stays_readable_and_says_so() -> None:
    assert get(f"DiagnosticReport/{runs(9)[0]}")["status"] == "entered-in-error"


def test_a_source_that_is_down_is_told_as_transient() -> None:
    class Down(RememberedResults):
        def find(self, **criteria: Any) -> tuple[list[Result], str | None]:
            raise Unavailable("postgres: connecting, then OperationalError")

    answer = client_of(Down([])).get("/fhir/Observation")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "30")


def test_the_capability_statement_promises_what_is_there() -> None:
    statement = get("metadata")
    assert statement["fhirVersion"] == "4.0.1"
    for resource in statement["rest"][0]["resource"]:
        for parameter in resource["searchParam"]:
            value = {"date": "2026-11-02", "reference": "a|1", "token": "a|1"}[parameter["type"]]
            get(f"{resource['type']}?{urlencode({parameter['name']: value})}")


def test_a_change_changes_the_version() -> None:
    before, after = make_result(), make_result(last_updated=NOON + timedelta(hours=1))
    tags = {
        client_of(RememberedResults([result])).get(f"/fhir/DiagnosticReport/{RUN}").headers["ETag"]
        for result in (before, replace(after, is_withdrawn=True))
    }
    assert len(tags) == 2


@pytest.mark.peer
def test_what_the_endpoint_says_passes_the_strongest_validator(tmp_path_factory: pytest.TempPathFactory) -> None:
    validator = strongest_validator(tmp_path_factory.mktemp("pyrofile"))
    assert faults(validator, get("metadata")) == []
    assert faults(validator, get("DiagnosticReport?status=final", 400)) == []
    for kind in ("DiagnosticReport", "Observation", "Provenance", "Device"):
        assert faults(validator, get(f"{kind}?_count=2")) == []
