"""The embedded service as processes: the journey, its repeats, its bad input, and what it must never write down."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from pydicom import dcmread
from rich.console import Console
from rich.progress import Progress

from integrations.dicomweb.folder import store
from integrations.hl7.client import MllpClient
from integrations.hl7.framing import frame
from triage.demo.sample import Sample, own_samples
from triage.demo.send import send
from triage.demo.stack import Stack
from triage.postgres.book import Book
from triage.postgres.connect import Db, connect
from triage.postgres.worklist import COLUMNS, entry_of
from triage.wiring import Service

ENTRIES = f"SELECT s.study_instance_uid, {COLUMNS} FROM study s JOIN worklist_entry e ON e.study_id = s.id"
ENDED = {"flagged", "not-flagged", "not-eligible", "failed", "timed-out"}
UNKNOWN_TYPE = (
    b"MSH|^~\\&|LAB|DEMO|TRIAGE|DEMO|20261102120000||ADT^A01|UNKNOWN-1|P|2.5\rPID|1||SECRET-77^^^HOSP||Geheim^Nome\r"
)
SHIFTED = b"MSH|^~\\&|RIS|DEMO|TRIAGE|DEMO|||Geheim^19440404|SHIFT-1|P|2.5\rPID|1||SECRET-77^^^HOSP\r"
NO_ACCESSION = (
    b"MSH|^~\\&|RIS|DEMO|TRIAGE|DEMO|20261102120000||ORM^O01|NOACC-1|P|2.3\r"
    b"PID|1||SECRET-78^^^HOSP||Geheim^Nome||19440404|F\rORC|NW\rOBR|1|||36643-5^XR Chest^LN\r"
)


@dataclass
class Run:
    """A stack that has assessed a few samples and met bad input."""

    stack: Stack
    samples: list[Sample]
    payloads: list[bytes]
    answers: dict[str, str]

    def entries(self, db: Db) -> dict[str, object]:
        return {row["study_instance_uid"]: entry_of(row) for row in db.execute(ENTRIES).fetchall()}


POISONED = "2.25.42"
BAD_SECRETS = {f"SECRET-{n}" for n in range(77, 85)} | {"Geheim", "19440404"}


def wait_for(what: Callable[[], bool], seconds: float = 90) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.2)


def some_samples() -> list[Sample]:
    """One of every kind, and two frontals of each class: enough for every path, quick enough for every run."""
    chosen: list[Sample] = []
    seen: dict[str, int] = {}
    for sample in own_samples():
        most = 2 if sample.label in {"normal", "pneumonia", "covid"} else 1
        if seen.get(sample.label, 0) < most or sample.ending.lane == 0:
            chosen.append(sample)
            seen[sample.label] = seen.get(sample.label, 0) + 1
    return chosen


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    home = tmp_path_factory.mktemp("stack")
    samples = some_samples()
    payloads: list[bytes] = []
    done = threading.Event()
    quiet = Console(quiet=True)
    with Stack(home, quiet) as stack:
        watcher = threading.Thread(target=_copy_payloads, args=(home / "broker" / "queue", payloads, done))
        watcher.start()
        try:
            with Progress(console=quiet) as progress:
                stack.start(progress)
            stack.start_assessing()
            refused = send(samples, stack.settings, archive=stack.archive_folder, rate=20, step=lambda: None)
            assert refused == []
            answers = _misbehave(stack)
            with connect(stack.settings.database_url) as db:
                uids = [sample.study_instance_uid for sample in samples]
                wait_for(lambda: _ended(db) >= set(uids))
            yield Run(stack, samples, payloads, answers)
        finally:
            done.set()
            watcher.join()


def _copy_payloads(queue: Path, payloads: list[bytes], done: threading.Event) -> None:
    """Read every broker payload that lives long enough to be seen."""
    seen: set[str] = set()
    while not done.wait(0.01):
        for message in queue.glob("*.msg"):
            if message.name not in seen:
                try:
                    payloads.append(message.read_bytes())
                    seen.add(message.name)
                except FileNotFoundError:
                    continue


def _ended(db: Db) -> set[str]:
    return {row["study_instance_uid"] for row in db.execute(ENTRIES).fetchall() if row["ai_state"] in ENDED}


def _misbehave(stack: Stack) -> dict[str, str]:
    """Everything a bad peer sends; returns the acknowledgement codes."""
    host, port = stack.settings.mllp_host, stack.settings.mllp_port
    answers = {}
    with MllpClient(host, port) as client:
        for what, message in (("unknown type", UNKNOWN_TYPE), ("no accession", NO_ACCESSION), ("shifted", SHIFTED)):
            answer = client.send(message)
            answers[what] = answer.code
            assert not leaked(answer.raw.decode(), BAD_SECRETS), f"{what}: the answer repeats the message"
    with socket.create_connection((host, port), 5) as raw:
        raw.sendall(b"GARBAGE SECRET-79 Geheim\r\n" + frame(b"PID|no MSH here SECRET-80"))
        raw.settimeout(5)
        answers["no MSH"] = re.search(rb"MSA\|(\w\w)", raw.recv(4096))[1].decode()  # type: ignore[index]
    with socket.create_connection((host, port), 5) as raw:
        raw.sendall(frame(b"MSH|^~\\&|RIS|DEMO|TRIAGE|DEMO|2026||ORM^O01|TRUNC-1|P|2.3\rPID|1||SECRET-81")[:-2])
    wrong_charset = NO_ACCESSION.replace(b"NOACC-1", b"BYTES-1").replace(b"Geheim", b"Geh\xe9\xff\x81im")
    wrong_charset = wrong_charset.replace(b"|P|2.3", b"|P|2.3||||||UNICODE UTF-8")
    with MllpClient(host, port) as client:
        answers["wrong charset"] = client.send(wrong_charset).code
    (stack.archive_folder / "notes SECRET-82.txt").write_text("no DICOM")
    poisoned = dcmread(some_samples()[0].files[0])
    poisoned.StudyInstanceUID = poisoned.SeriesInstanceUID = POISONED
    poisoned.SOPInstanceUID = poisoned.file_meta.MediaStorageSOPInstanceUID = f"{POISONED}.1"
    poisoned.AccessionNumber, poisoned.StudyDescription = "", "SECRET-84 in\0side"
    poisoned.PatientName = "Geheim\0^Nome"
    store(poisoned, stack.archive_folder)
    return answers


def test_every_sample_reaches_its_right_end_state(run: Run) -> None:
    with connect(run.stack.settings.database_url) as db:
        entries = run.entries(db)
        complaints = {s.name: s.ending.complaint(entries.get(s.study_instance_uid)) for s in run.samples}  # type: ignore[arg-type]
    assert {name: words for name, words in complaints.items() if words} == {}


def test_every_study_has_exactly_one_current_run_and_met_its_order(run: Run) -> None:
    with connect(run.stack.settings.database_url) as db:
        rows = db.execute(
            "SELECT s.match_outcome, count(r.id) FILTER (WHERE r.is_current) AS current FROM study s"
            " JOIN worklist_entry e ON e.study_id = s.id LEFT JOIN run r ON r.entry_id = e.id"
            " WHERE s.study_instance_uid <> %s GROUP BY s.id",
            (POISONED,),
        ).fetchall()
    assert {row["current"] for row in rows} == {1}
    assert {row["match_outcome"] for row in rows} <= {"accession", "study-instance-uid"}


def test_a_second_sending_changes_nothing(run: Run) -> None:
    count = "SELECT (SELECT count(*) FROM imaging_order) AS o, (SELECT count(*) FROM study) AS s,"
    count += (
        " (SELECT count(*) FROM worklist_entry) AS w, (SELECT count(*) FROM run) AS r, (SELECT count(*) FROM move) AS m"
    )
    with connect(run.stack.settings.database_url) as db:
        before = db.execute(count).fetchone()
        send(run.samples, run.stack.settings, archive=run.stack.archive_folder, rate=50, step=lambda: None)
        time.sleep(4)  # a few sweeps
        assert db.execute(count).fetchone() == before


def test_bad_messages_are_answered_stored_and_shown(run: Run) -> None:
    assert run.answers == {
        "unknown type": "AR",
        "no accession": "AE",
        "no MSH": "AR",
        "wrong charset": "AE",
        "shifted": "AR",
    }
    with connect(run.stack.settings.database_url) as db:
        wait_for(lambda: len(_unhappy(db)) >= 6, 20)
        kept = {(row["outcome"], row["kind"]) for row in _unhappy(db)}
        wait_for(lambda: db.execute("SELECT 1 FROM unreadable_file").fetchone() is not None, 20)
    assert kept >= {("rejected", kind) for kind in ("ADT^A01", "unknown", "garbage")} | {("parked", "ORM^O01")}


def _unhappy(db: Db) -> list[dict[str, object]]:
    return db.execute("SELECT outcome, kind, reason FROM inbound_message WHERE outcome <> 'applied'").fetchall()


def test_a_header_that_no_database_can_hold_stops_nothing(run: Run) -> None:
    with connect(run.stack.settings.database_url) as db:
        wait_for(lambda: POISONED in _ended(db), 30)


def test_results_are_readable_at_the_own_fhir_endpoint(run: Run) -> None:
    base = f"{run.stack.address}fhir"
    assert httpx.get(f"{base}/metadata").json()["resourceType"] == "CapabilityStatement"
    patient = next(s for s in run.samples if s.label == "covid").study.patient
    answer = httpx.post(f"{base}/DiagnosticReport/_search", data={"patient.identifier": f"|{patient.patient_id}"})
    if answer.status_code != 200:
        answer = httpx.post(f"{base}/DiagnosticReport/_search", data={"patient": f"|{patient.patient_id}"})
    bundle = answer.json()
    assert bundle["resourceType"] == "Bundle", bundle
    assert [e["resource"]["status"] for e in bundle["entry"]] == ["preliminary"]


def test_the_audit_trail_holds_together(run: Run) -> None:
    with closing(Service(run.stack.settings).pool) as pool:
        assert Book(pool).first_broken_audit_row() is None


def test_no_patient_data_in_logs_metrics_or_broker_payloads(run: Run) -> None:
    httpx.get(f"{run.stack.address}fhir/DiagnosticReport", params={"identifier": "SECRET-83"})
    written = {path.name: path.read_text(errors="replace") for path in run.stack.logs.glob("*.log")}
    written["postgresql"] = (run.stack.logs.parent / "postgres" / "postgresql.log").read_text(errors="replace")
    written["metrics"] = httpx.get(f"{run.stack.address}metrics").text
    written["broker"] = b"\n".join(run.payloads).decode(errors="replace")
    assert "assess" in written["broker"] and "study" in written["sweep-deliver.log"], "nothing was captured"
    with connect(run.stack.settings.database_url) as db:
        told = "SELECT kind || reason AS words FROM inbound_message UNION ALL SELECT reason FROM delivery"
        written["reasons"] = "\n".join(row["words"] for row in db.execute(told).fetchall())
    status = subprocess.run(
        [sys.executable, "-m", "triage", "status"], env={**os.environ, **run.stack.env}, capture_output=True, text=True
    )
    assert status.returncode == 0
    written["status"] = status.stdout + status.stderr
    tokens = secrets_of(run.samples)
    assert len(tokens) > 40
    assert {where: found for where, text in written.items() if (found := leaked(text, tokens))} == {}


def secrets_of(samples: list[Sample]) -> set[str]:
    """Every identifier, name part and birth date that must stay out of logs."""
    tokens = set(BAD_SECRETS)
    for sample in samples:
        patient, order = sample.study.patient, sample.order
        tokens |= {patient.patient_id, order.accession_number, order.placer_order_number, order.filler_order_number}
        tokens |= {part for part in re.split(r"[\^=]", patient.name) if len(part) > 3 or not part.isascii()}
        if patient.birth_date:
            tokens |= {f"{patient.birth_date:%Y%m%d}", patient.birth_date.isoformat()}
    return {token for token in tokens if token}


def leaked(text: str, tokens: set[str]) -> list[str]:
    """The tokens that stand in *text* as words of their own; JSON-escaped kanji count too."""
    found = []
    for token in tokens:
        escaped = token.encode("ascii", "backslashreplace").decode()
        pattern = rf"(?<![\w.]){re.escape(token)}(?![\w.])" if token.isascii() else re.escape(token)
        if re.search(pattern, text) or (escaped != token and escaped in text):
            found.append(token)
    return found


def test_the_leak_check_itself_finds_what_leaks() -> None:
    tokens = {"Geheim", "本宮", "19440404"}
    assert leaked("patient Geheim born 19440404", tokens) == [t for t in tokens if t != "本宮"]
    assert leaked('{"name": "\\u672c\\u5bae"}', tokens) == ["本宮"]
    assert leaked("nothing here 2.25.194404049", tokens) == []
