"""A DICOMweb server as it should be, and as servers are: partial, silent, slow, forgetful, repeating themselves."""

from __future__ import annotations

import json
import logging
import socket
import threading
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydicom import uid

from integrations.dicomweb.archive import DicomwebArchive
from tests.dicomweb.files import file_of, in_syntax, make_dataset
from tests.dicomweb.pacs import BOUNDARY, Pacs, serving, short, whole
from triage.domain.errors import ArchiveUnavailable, IncompleteStudy, UnusableRadiograph
from triage.domain.imaging import InstanceFacts

SINCE, UNTIL = datetime(2026, 11, 2, 10, 0, tzinfo=UTC), datetime(2026, 11, 2, 14, 0, tzinfo=UTC)


@pytest.fixture
def pacs() -> Iterator[Pacs]:
    with serving(Pacs()) as running:
        yield running
        while OPENED:
            OPENED.pop().close()


OPENED: list[DicomwebArchive] = []


def archive_of(pacs: Pacs, **options: Any) -> DicomwebArchive:
    archive = DicomwebArchive(pacs.url, **({"site_zone": UTC, "timeout_s": 5.0} | options))
    OPENED.append(archive)
    return archive


def listed(archive: DicomwebArchive) -> list[str]:
    return [study.study_instance_uid for study in archive.studies_since(SINCE, UNTIL)]


def facts_of(archive: DicomwebArchive, study_instance_uid: str) -> InstanceFacts:
    (facts,) = archive.headers(study_instance_uid)
    assert isinstance(facts, InstanceFacts)
    return facts


def test_a_study_is_listed_read_and_decoded(pacs: Pacs) -> None:
    pacs.held = [make_dataset()]
    archive = archive_of(pacs)
    (study,) = archive.studies_since(SINCE, UNTIL)
    assert (study.instance_count, study.modalities) == (1, ("DX",))
    assert study.patient.name == "Honmiya^Tarou=本宮^太郎=もとみや^たろう"
    facts = facts_of(archive, study.study_instance_uid)
    assert archive.instances(study.study_instance_uid)[0].sop_instance_uid == facts.sop_instance_uid
    assert (facts.view_position, facts.has_pixels, facts.rows) == ("PA", True, 240)
    assert archive.radiograph(facts).pixels.shape == (240, 260)
    assert [one.study_instance_uid for one in archive.studies_of_accession("ACC-1")] == [study.study_instance_uid]


def test_the_search_asks_for_cr_and_dx_of_the_days_around(pacs: Pacs) -> None:
    list(archive_of(pacs, site_zone=ZoneInfo("Asia/Tokyo")).studies_since(SINCE, UNTIL))
    queries = [query for _, query, _ in pacs.asked]
    assert {query["ModalitiesInStudy"] for query in queries} == {"CR", "DX"}
    assert {query["StudyDate"] for query in queries} == {"20261101-20261103"}
    assert all("00201208" in query["includefield"] for query in queries)


@pytest.mark.parametrize("page_size", [None, 4])
@pytest.mark.parametrize("page", [1, 3, 1000])
def test_every_study_comes_once_however_the_server_pages(pacs: Pacs, page: int, page_size: int | None) -> None:
    pacs.held = [make_dataset() for _ in range(7)]
    pacs.page = page
    assert sorted(listed(archive_of(pacs, page_size=page_size))) == sorted(one.StudyInstanceUID for one in pacs.held)


def test_no_limit_is_sent_unless_asked_for(pacs: Pacs) -> None:
    """Orthanc 1.10 given a limit and ModalitiesInStudy calls every page after the first empty."""
    pacs.held = [make_dataset() for _ in range(3)]
    assert len(listed(archive_of(pacs))) == 3
    assert not any("limit" in query for _, query, _ in pacs.asked)


def test_an_arrival_between_two_pages_repeats_a_study_only_to_the_server(pacs: Pacs) -> None:
    pacs.held = [make_dataset() for _ in range(4)]
    before = [one.StudyInstanceUID for one in pacs.held]

    def arrive(path: str, query: dict[str, str]) -> None:
        if query.get("offset") == "2" and len(pacs.held) == 4:
            pacs.held.insert(0, make_dataset())

    pacs.answer = arrive  # type: ignore[assignment]
    found = listed(archive_of(pacs, page_size=2))
    assert len(found) == len(set(found))
    assert set(before) <= set(found)


def test_a_server_that_ignores_the_offset_does_not_hold_us_for_ever(pacs: Pacs) -> None:
    pacs.held = [make_dataset(), make_dataset()]
    answers = json.dumps([short(one) for one in pacs.held]).encode()
    pacs.answer = lambda path, query: (200, "application/dicom+json", answers)
    assert len(set(listed(archive_of(pacs)))) == 2


def test_answers_are_held_against_the_question(pacs: Pacs) -> None:
    """Orthanc answers a filter it does not know with all it has."""
    fits, old, late = make_dataset(), make_dataset(StudyDate="20261030"), make_dataset(StudyDate="20261105")
    timeless, ct = make_dataset(StudyTime=""), make_dataset(Modality="CT", AccessionNumber="ACC-2")
    pacs.held = [fits, old, late, timeless, ct]
    everything = json.dumps([pacs._study(one) for one in pacs.held]).encode()
    pacs.answer = lambda path, query: (
        (200, "application/dicom+json", everything if query.get("offset") in (None, "0") else b"[]")
        if path.endswith("/studies")
        else None
    )
    archive = archive_of(pacs)
    assert set(listed(archive)) == {fits.StudyInstanceUID, timeless.StudyInstanceUID}
    assert [one.study_instance_uid for one in archive.studies_of_accession("ACC-2")] == [ct.StudyInstanceUID]
    assert archive.studies_of_accession("NOBODY") == []


def test_an_accession_number_that_reads_as_a_pattern_is_not_sent(pacs: Pacs) -> None:
    assert archive_of(pacs).studies_of_accession("ACC*") == []
    assert archive_of(pacs).studies_of_accession("") == []
    assert pacs.asked == []


@pytest.mark.parametrize("empty", [(200, "application/dicom+json", b"[]"), (204, "text/plain", b"")])
def test_nothing_found_is_an_empty_list(pacs: Pacs, empty: Any) -> None:
    pacs.answer = lambda path, query: empty
    archive = archive_of(pacs)
    assert listed(archive) == []
    assert archive.instances("1.2.3") == []


def test_a_study_is_found_by_its_uid_also_where_the_server_ignores_the_question(pacs: Pacs) -> None:
    pacs.held = [make_dataset(), make_dataset(StudyDate="20200101")]
    wanted = pacs.held[1].StudyInstanceUID
    found = archive_of(pacs).study(wanted)
    assert found is not None and found.study_instance_uid == wanted
    assert pacs.asked[0][1]["StudyInstanceUID"] == wanted
    assert archive_of(pacs).study("1.2.3") is None


def test_an_unknown_study_has_no_instances(pacs: Pacs) -> None:
    pacs.answer = lambda path, query: (404, "text/plain", b"")
    assert archive_of(pacs).instances("1.2.3") == []
    assert list(archive_of(pacs).headers("1.2.3")) == []


def test_fewer_headers_than_listed_is_incomplete(pacs: Pacs) -> None:
    first = make_dataset()
    pacs.held = [first, make_dataset(StudyInstanceUID=first.StudyInstanceUID)]
    only_one = json.dumps([whole(first)]).encode()
    pacs.answer = lambda path, query: (200, "application/dicom+json", only_one) if path.endswith("/metadata") else None
    with pytest.raises(IncompleteStudy, match="1 of 2"):
        list(archive_of(pacs).headers(first.StudyInstanceUID))


def test_poor_metadata_make_it_read_the_instance(pacs: Pacs) -> None:
    dataset = make_dataset()
    pacs.held = [dataset]
    poor = json.dumps([short(dataset)]).encode()
    pacs.answer = lambda path, query: (200, "application/dicom+json", poor) if path.endswith("/metadata") else None
    assert facts_of(archive_of(pacs), dataset.StudyInstanceUID).view_position == "PA"


def test_a_header_that_cannot_be_read_does_not_hide_the_others(pacs: Pacs) -> None:
    good = make_dataset()
    bad = make_dataset(StudyInstanceUID=good.StudyInstanceUID)
    pacs.held = [bad, good]
    answers = [whole(bad) | {"00280008": {"vr": "IS", "Value": ["many"]}}, whole(good)]
    answers[0]["00080016"] = {"vr": "UI", "Value": ["no uid"]}
    body = json.dumps(answers).encode()
    pacs.answer = lambda path, query: (200, "application/dicom+json", body) if path.endswith("/metadata") else None
    refused, facts = archive_of(pacs).headers(good.StudyInstanceUID)
    assert isinstance(refused, tuple)
    assert (refused[0], refused[1].reason) == (bad.SOPInstanceUID, "unreadable-header")
    assert isinstance(facts, InstanceFacts)


def misbehave(pacs: Pacs, answer: Any, where: str = "/instances/") -> InstanceFacts:
    """Facts of one stored instance, whose retrieval then gives *answer*."""
    pacs.held = [make_dataset()]
    facts = facts_of(archive_of(pacs), pacs.held[0].StudyInstanceUID)
    pacs.answer = lambda path, query: answer if where in path else None
    return facts


def test_a_partial_answer_is_unavailable(pacs: Pacs) -> None:
    _, kind, body = pacs.multipart([file_of(make_dataset())])
    facts = misbehave(pacs, (206, kind, body))
    with pytest.raises(ArchiveUnavailable, match="206"):
        archive_of(pacs).radiograph(facts)


def test_an_answer_without_its_end_is_unavailable(pacs: Pacs) -> None:
    facts = misbehave(pacs, pacs.multipart([file_of(make_dataset())[:-900]], end=""))
    with pytest.raises(ArchiveUnavailable, match="cut short"):
        archive_of(pacs).radiograph(facts)


def test_another_instance_than_asked_for_is_unavailable(pacs: Pacs) -> None:
    facts = misbehave(pacs, pacs.multipart([file_of(make_dataset())]))
    with pytest.raises(ArchiveUnavailable, match="another instance"):
        archive_of(pacs).radiograph(facts)


@pytest.mark.parametrize(
    "answer",
    [
        (404, "text/plain", b""),
        (200, f"multipart/related; boundary={BOUNDARY}", f"--{BOUNDARY}--".encode()),
        (200, "text/html", b"<html>maintenance</html>"),
    ],
)
def test_an_answer_without_the_instance_is_unavailable(pacs: Pacs, answer: Any) -> None:
    facts = misbehave(pacs, answer)
    with pytest.raises(ArchiveUnavailable):
        archive_of(pacs).radiograph(facts)


def test_a_part_that_is_no_dicom_is_unusable(pacs: Pacs) -> None:
    facts = misbehave(pacs, pacs.multipart([b"<html>" * 100]))
    with pytest.raises(UnusableRadiograph):
        archive_of(pacs).radiograph(facts)


def test_a_damaged_file_is_unusable_whatever_pydicom_raises(pacs: Pacs) -> None:
    content = file_of(make_dataset())
    facts = misbehave(pacs, pacs.multipart([content[:132] + b"\xff" * 300 + content[132:]]))
    with pytest.raises((UnusableRadiograph, ArchiveUnavailable)):
        archive_of(pacs).radiograph(facts)


def test_a_server_that_sends_one_bare_part_is_understood(pacs: Pacs) -> None:
    dataset = make_dataset()
    pacs.held = [dataset]
    archive = archive_of(pacs)
    facts = facts_of(archive, dataset.StudyInstanceUID)
    pacs.answer = lambda path, query: (200, "application/dicom", file_of(dataset)) if "/series/" in path else None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert archive.radiograph(facts).pixels.size


def test_compressed_instances_come_as_stored(pacs: Pacs) -> None:
    dataset = make_dataset()
    pacs.held = [dataset]
    archive = archive_of(pacs)
    facts = facts_of(archive, dataset.StudyInstanceUID)
    body = in_syntax(dataset, uid.JPEGLSLossless)
    pacs.answer = lambda path, query: pacs.multipart([body])
    assert archive.radiograph(facts).facts.transfer_syntax_uid == uid.JPEGLSLossless
    assert "transfer-syntax=*" in pacs.asked[-1][2]["Accept"]


@pytest.mark.parametrize("status", [400, 401, 403, 409, 429, 500, 503])
def test_every_error_status_is_unavailable_at_once_and_names_no_patient(pacs: Pacs, status: int) -> None:
    pacs.answer = lambda path, query: (status, "text/plain", b"Honmiya")
    with pytest.raises(ArchiveUnavailable, match=f"^archive: answered {status}$") as caught:
        archive_of(pacs).studies_of_accession("SECRET-1")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert len(pacs.asked) == 1


@pytest.mark.parametrize("body", [b"<html>sign in</html>", b'["no", "objects"]', b"7", b'{"error'])
def test_no_dicom_json_is_unavailable(pacs: Pacs, body: bytes) -> None:
    pacs.answer = lambda path, query: (200, "text/html", body)
    with pytest.raises(ArchiveUnavailable, match=r"not with (DICOM )?JSON"):
        listed(archive_of(pacs))


def test_silence_and_absence_are_told_apart(pacs: Pacs) -> None:
    pacs.delay_s = 1.0
    with pytest.raises(ArchiveUnavailable, match="archive: connected, then ReadTimeout"):
        listed(archive_of(pacs, timeout_s=0.2))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        pacs.url = f"http://127.0.0.1:{taken.getsockname()[1]}/dicom-web"
        with pytest.raises(ArchiveUnavailable, match="archive: not connected"):
            archive_of(pacs).instances("1.2.3")


def test_a_connection_broken_off_is_unavailable(pacs: Pacs) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def hang_up() -> None:
            peer, _ = listener.accept()
            peer.recv(9999)
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom+json\r\nContent-Length: 900\r\n\r\n[{")
            peer.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        pacs.url = f"http://127.0.0.1:{listener.getsockname()[1]}/dicom-web"
        with pytest.raises(ArchiveUnavailable, match=r"archive: (answering|connected), then"):
            archive_of(pacs).instances("1.2.3")
        thread.join()


def test_credentials_are_sent_as_asked(pacs: Pacs) -> None:
    tokens = iter(["one", "two"])
    archive_of(pacs, user="triage", password="s3cret").instances("1.2.3")
    archive_of(pacs, token="abc").instances("1.2.3")
    renewing = archive_of(pacs, token=lambda: next(tokens))
    renewing.instances("1.2.3")
    renewing.instances("1.2.3")
    sent = [headers["Authorization"] for _, _, headers in pacs.asked]
    assert sent == ["Basic dHJpYWdlOnMzY3JldA==", "Bearer abc", "Bearer one", "Bearer two"]


def test_nothing_is_logged_that_names_a_patient_or_a_study(pacs: Pacs, caplog: pytest.LogCaptureFixture) -> None:
    dataset = make_dataset(AccessionNumber="SECRET-1")
    pacs.held = [dataset]
    archive = archive_of(pacs)
    with caplog.at_level(logging.DEBUG):
        archive.studies_of_accession("SECRET-1")
        archive.radiograph(facts_of(archive, dataset.StudyInstanceUID))
        pacs.answer = lambda path, query: (500, "text/plain", b"")
        with pytest.raises(ArchiveUnavailable):
            archive.studies_of_accession("SECRET-1")
    ours = [record for record in caplog.records if record.name.startswith("integrations")]
    assert caplog.records == ours
    assert not any("SECRET-1" in record.getMessage() or "Honmiya" in record.getMessage() for record in ours)


def test_what_came_before_a_failure_stands(pacs: Pacs) -> None:
    pacs.held = [make_dataset(Modality="CR"), make_dataset()]
    pacs.answer = lambda path, query: (500, "text/plain", b"") if query.get("ModalitiesInStudy") == "DX" else None
    studies = archive_of(pacs).studies_since(SINCE, UNTIL)
    assert next(studies).modalities == ("CR",)
    with pytest.raises(ArchiveUnavailable):
        next(studies)


def test_a_modality_whose_clock_runs_ahead_is_seen(pacs: Pacs) -> None:
    ahead = UNTIL + timedelta(hours=3)
    pacs.held = [make_dataset(StudyDate=f"{ahead:%Y%m%d}", StudyTime=f"{ahead:%H%M%S}")]
    assert len(listed(archive_of(pacs))) == 1
