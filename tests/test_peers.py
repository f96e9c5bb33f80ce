"""The same journey against real peers: Orthanc, a FHIR server, Redis, Debian's PostgreSQL, an MLLP client not ours."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import hl7
import httpx
import pytest
from dicomweb_client import DICOMwebClient
from hl7.client import MLLPClient
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE
from rich.console import Console
from rich.progress import Progress

from integrations.hl7.framing import frame
from integrations.hl7.order_message import order_message
from tests.fhir.making import faults, strongest_validator
from triage.demo.sample import Sample, own_samples
from triage.demo.stack import Stack
from triage.domain.imaging import StudyFacts
from triage.postgres.book import Book
from triage.postgres.connect import Db, connect
from triage.wiring import Service

NEEDED = (
    "TRIAGE_TEST_ORTHANC",
    "TRIAGE_TEST_ORTHANC_DICOM",
    "TRIAGE_TEST_FHIR",
    "TRIAGE_TEST_REDIS",
    "TRIAGE_TEST_POSTGRES",
)
ISSUER, ACCESSION_SYSTEM = "MINATO-RIS", "https://minato.example/accession"
PATIENT_ISSUER, PATIENT_SYSTEM = "MINATO", "https://minato.example/patient"
MISSING = [name for name in NEEDED if not os.environ.get(name)]
pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(bool(MISSING), reason=f"real peers are not named: {', '.join(MISSING)}"),
]


@dataclass
class Sent:
    """One study as stored in the archive under identifiers of this run only."""

    sample: Sample
    datasets: list[Dataset]
    study: StudyFacts


def renewed(sample: Sample) -> Sent:
    """A sample under new UIDs and numbers, as Orthanc keeps what earlier runs stored."""
    from integrations.dicomweb.facts import study_facts

    datasets = [dcmread(path) for path in sample.files]
    study_uid, accession = f"2.25.{uuid4().int}", f"T{uuid4().int % 10**9}"
    for dataset in datasets:
        dataset.StudyInstanceUID = study_uid
        dataset.SeriesInstanceUID = f"2.25.{uuid4().int}"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"2.25.{uuid4().int}"
        dataset.AccessionNumber = accession
        dataset.PatientID = f"PT{accession}"
    study = study_facts(datasets[0], ZoneInfo("Asia/Tokyo"))
    order = replace(
        sample.order,
        patient=study.patient,
        accession_number=accession,
        placer_order_number=f"P{accession}",
        filler_order_number=f"F{accession}",
        study_instance_uid="",
    )
    return Sent(replace(sample, order=order, study=study), datasets, study)


def store_by_c_store(datasets: list[Dataset]) -> None:
    host, port, title = os.environ["TRIAGE_TEST_ORTHANC_DICOM"].split(":")
    ae = AE(ae_title="TRIAGETEST")
    for dataset in datasets:
        ae.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
    association = ae.associate(host, int(port), ae_title=title)
    assert association.is_established
    try:
        for dataset in datasets:
            assert association.send_c_store(dataset).Status == 0
    finally:
        association.release()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    postgres = os.environ["TRIAGE_TEST_POSTGRES"]
    name = f"peers_{uuid4().hex[:8]}"
    with connect(postgres) as db:
        db.execute(f"CREATE DATABASE {name}".encode())
    peers = {
        "TRIAGE_DATABASE_URL": f"{postgres.rsplit('/', 1)[0]}/{name}",
        "TRIAGE_BROKER_URL": os.environ["TRIAGE_TEST_REDIS"],
        "TRIAGE_ARCHIVE_URL": os.environ["TRIAGE_TEST_ORTHANC"],
        "TRIAGE_FHIR_URL": os.environ["TRIAGE_TEST_FHIR"],
        "TRIAGE_ACCESSION_SYSTEMS": f"{ISSUER}={ACCESSION_SYSTEM}",
        "TRIAGE_PATIENT_SYSTEMS": f"{PATIENT_ISSUER}={PATIENT_SYSTEM}",
    }
    quiet = Console(quiet=True)
    with Stack(tmp_path_factory.mktemp("peers"), quiet, peers) as running:
        with Progress(console=quiet) as progress:
            running.start(progress)
        running.start_assessing()
        yield running
    with connect(postgres) as db:
        db.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture(scope="module")
def sent(stack: Stack) -> list[Sent]:
    """Six studies sent: orders by python-hl7's client, images by STOW-RS or C-STORE, one of them before its order."""
    samples = [s for s in own_samples() if s.ending.reason is None]
    chosen = [renewed(s) for s in (samples[0], samples[1], samples[2], samples[5], samples[8], samples[12])]
    orthanc = DICOMwebClient(os.environ["TRIAGE_TEST_ORTHANC"])
    for number, one in enumerate(chosen):
        if number == 2:
            orthanc.store_instances(one.datasets)
            time.sleep(3)
            order_by_python_hl7(stack, one)
            continue
        order_by_python_hl7(stack, one)
        if number % 2:
            store_by_c_store(one.datasets)
        else:
            orthanc.store_instances(one.datasets)
    return chosen


def order_by_python_hl7(stack: Stack, one: Sent) -> None:
    """Send an order with a client that is not ours."""
    message = order_message(
        one.sample.order, message=one.sample.message, charset="UNICODE UTF-8", control_id=uuid4().hex[:18],
        sent_at=one.study.study_at,  # type: ignore[arg-type]
    )  # fmt: skip
    with MLLPClient("127.0.0.1", stack.settings.mllp_port) as client:
        answer = hl7.parse(client.send(frame(message)).strip(b"\x0b\x1c\r").decode())
    assert str(answer.segment("MSA")[1]) == "AA"


STATE = """
    SELECT e.ai_state, e.lane, e.reading_state, s.match_outcome, s.instance_count,
           (SELECT count(*) FROM run r WHERE r.entry_id = e.id AND r.is_current) AS current,
           (SELECT count(*) FROM delivery d JOIN run r ON r.id = d.run_id
             WHERE r.entry_id = e.id AND d.state = 'delivered') AS delivered
      FROM study s JOIN worklist_entry e ON e.study_id = s.id WHERE s.study_instance_uid = %s
"""


def state_of(db: Db, one: Sent) -> dict[str, object]:
    return db.execute(STATE, (one.study.study_instance_uid,)).fetchone() or {}


def wait_for_delivery(stack: Stack, sent: list[Sent]) -> list[dict[str, object]]:
    until = time.monotonic() + 100
    with connect(stack.settings.database_url) as db:
        while True:
            states = [state_of(db, one) for one in sent]
            if all(state.get("delivered") for state in states):
                return states
            assert time.monotonic() < until, states
            time.sleep(0.3)


def test_every_study_is_assessed_once_and_delivered(stack: Stack, sent: list[Sent]) -> None:
    for state in wait_for_delivery(stack, sent):
        assert state["ai_state"] in {"flagged", "not-flagged"}, state
        assert state["match_outcome"] == "accession"
        assert (state["current"], state["delivered"]) == (1, 1)


def test_results_read_back_from_the_fhir_server_are_valid(
    stack: Stack, sent: list[Sent], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    wait_for_delivery(stack, sent)
    base = os.environ["TRIAGE_TEST_FHIR"]
    for one in sent:
        accession = one.sample.order.accession_number
        reports = httpx.get(f"{base}/DiagnosticReport", params={"_count": "200"}).json().get("entry", [])
        mine = [e["resource"] for e in reports if accession in json.dumps(e["resource"])]
        assert [r["status"] for r in mine] == ["preliminary"], f"{len(mine)} reports for one study"
        observations = [_read(base, r["reference"]) for r in mine[0]["result"]]
        device = _read(base, observations[0]["device"]["reference"])
        provenance = _provenance_of(base, mine[0]["id"])
        assert observations and {o["status"] for o in observations} == {"preliminary"}
        for number, resource in enumerate([mine[0], *observations, device, provenance]):
            (tmp_path / f"{accession}-{number}.json").write_text(json.dumps(resource))
    assert _medplum_complaints(tmp_path) == {}
    validator = strongest_validator(tmp_path_factory.mktemp("pyrofile"))
    told = {path.name: faults(validator, json.loads(path.read_text())) for path in tmp_path.glob("*.json")}
    assert len(told) == 4 * len(sent)
    assert {name: words for name, words in told.items() if words} == {}


def _provenance_of(base: str, report_id: str) -> dict[str, Any]:
    found = httpx.get(f"{base}/Provenance", params={"target": f"DiagnosticReport/{report_id}"}).json()
    return next(e["resource"] for e in found["entry"])  # type: ignore[no-any-return]


def _read(base: str, reference: str) -> dict[str, Any]:
    answer = httpx.get(f"{base}/{reference}")
    assert answer.status_code == 200
    return answer.json()  # type: ignore[no-any-return]


def _medplum_complaints(folder: Path) -> dict[str, str]:
    script = Path(__file__).parent / "peers" / "validate" / "run_medplum.js"
    done = subprocess.run(["node", str(script), str(folder)], capture_output=True, text=True, check=True)
    told: dict[str, str] = json.loads(done.stdout)
    assert told
    return {name: words for name, words in told.items() if words != "PASS"}


def test_a_repeated_store_and_order_change_nothing(stack: Stack, sent: list[Sent]) -> None:
    wait_for_delivery(stack, sent)
    with connect(stack.settings.database_url) as db:
        before = [state_of(db, one) for one in sent]
        DICOMwebClient(os.environ["TRIAGE_TEST_ORTHANC"]).store_instances(sent[0].datasets)
        order_by_python_hl7(stack, sent[0])
        time.sleep(5)
        assert [state_of(db, one) for one in sent] == before


def test_a_late_instance_opens_a_second_run(stack: Stack, sent: list[Sent]) -> None:
    wait_for_delivery(stack, sent)
    late = sent[1].datasets[0]
    late.SOPInstanceUID = late.file_meta.MediaStorageSOPInstanceUID = f"2.25.{uuid4().int}"
    DICOMwebClient(os.environ["TRIAGE_TEST_ORTHANC"]).store_instances([late])
    query = (
        "SELECT count(*) AS runs, count(*) FILTER (WHERE is_current) AS current FROM run r JOIN study s"
        " ON s.id = r.study_id WHERE s.study_instance_uid = %s"
    )
    until = time.monotonic() + 60
    with connect(stack.settings.database_url) as db:
        while (row := db.execute(query, (sent[1].study.study_instance_uid,)).fetchone()) != {"runs": 2, "current": 1}:
            assert time.monotonic() < until, row
            time.sleep(0.3)


def test_an_order_from_the_fhir_server_is_swept_and_answered(stack: Stack) -> None:
    base = os.environ["TRIAGE_TEST_FHIR"]
    one = renewed(next(s for s in own_samples() if s.label == "pneumonia"))
    patient = one.study.patient
    known = httpx.post(
        f"{base}/Patient",
        json={
            "resourceType": "Patient",
            "identifier": [{"system": PATIENT_SYSTEM, "value": patient.patient_id}],
            "name": [{"family": "Swept", "given": ["Fhir"]}],
        },
    ).json()
    acsn = {"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}
    request = httpx.post(
        f"{base}/ServiceRequest",
        json={
            "resourceType": "ServiceRequest",
            "status": "active",
            "intent": "order",
            "priority": "stat",
            "identifier": [
                {"type": {"coding": [acsn]}, "system": ACCESSION_SYSTEM, "value": one.sample.order.accession_number}
            ],
            "code": {"coding": [{"system": "http://loinc.org", "code": "36643-5", "display": "XR Chest 2 Views"}]},
            "subject": {"reference": f"Patient/{known['id']}"},
        },
    ).json()
    DICOMwebClient(os.environ["TRIAGE_TEST_ORTHANC"]).store_instances(one.datasets)
    [state] = wait_for_delivery(stack, [one])
    assert (state["lane"], state["match_outcome"]) == (0, "accession")
    reports = httpx.get(f"{base}/DiagnosticReport", params={"_count": "200"}).json()["entry"]
    wanted = f"ServiceRequest/{request['id']}"
    assert [r for e in reports for r in e["resource"].get("basedOn", []) if r.get("reference") == wanted]


def test_the_audit_trail_holds_together(stack: Stack, sent: list[Sent]) -> None:
    with closing(Service(stack.settings).pool) as pool:
        assert Book(pool).first_broken_audit_row() is None
