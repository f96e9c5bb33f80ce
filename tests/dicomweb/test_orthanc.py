"""The same archive against Orthanc (TRIAGE_TEST_ORTHANC: base URL, such as http://127.0.0.1:18042/dicom-web)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import requests
from dicomweb_client import DICOMwebClient
from pydicom import uid
from pydicom.dataset import Dataset

from integrations.dicomweb.archive import DicomwebArchive
from integrations.dicomweb.radiograph import read
from tests.dicomweb.files import file_of, in_syntax, make_dataset
from tests.making import make_uid
from triage.domain.errors import ArchiveUnavailable, UnusableRadiograph
from triage.domain.imaging import InstanceFacts

pytestmark = pytest.mark.peer

SINCE, UNTIL = datetime(2026, 11, 2, 10, 0, tzinfo=UTC), datetime(2026, 11, 2, 14, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def url() -> str:
    value = os.environ.get("TRIAGE_TEST_ORTHANC", "")
    if not value:
        pytest.skip("TRIAGE_TEST_ORTHANC names no Orthanc: tests on the real peer are left out")
    return value


@pytest.fixture
def archive(url: str) -> Iterator[DicomwebArchive]:
    opened = DicomwebArchive(url, site_zone=UTC)
    yield opened
    opened.close()


def stow(url: str, *datasets: Dataset) -> None:
    with requests.Session() as session:
        DICOMwebClient(url, session=session).store_instances(datasets)


def test_studies_are_listed_read_and_decoded(url: str, archive: DicomwebArchive) -> None:
    accession = f"A{make_uid()[-12:]}"
    first = make_dataset(AccessionNumber=accession, TimezoneOffsetFromUTC="+0000")
    second = make_dataset(AccessionNumber=accession, StudyInstanceUID=first.StudyInstanceUID)
    others = [make_dataset(Modality="CR", SOPClassUID=uid.ComputedRadiographyImageStorage) for _ in range(3)]
    old, ct = make_dataset(StudyDate="20261001"), make_dataset(Modality="CT", AccessionNumber=f"{accession}C")
    stow(url, first, second, *others, old, ct)
    found = list(archive.studies_since(SINCE, UNTIL))
    uids = [study.study_instance_uid for study in found]
    assert len(set(uids)) == len(uids)
    assert {one.StudyInstanceUID for one in [first, *others]} <= set(uids)
    assert not {old.StudyInstanceUID, ct.StudyInstanceUID} & set(uids)
    (study,) = archive.studies_of_accession(accession)
    assert (study.instance_count, study.modalities) == (2, ("DX",))
    assert study.patient.name == "Honmiya^Tarou=本宮^太郎=もとみや^たろう"
    assert study.study_at == datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
    (other,) = archive.studies_of_accession(f"{accession}C")
    assert other.modalities == ("CT",)
    seen = archive.instances(first.StudyInstanceUID)
    assert {one.sop_instance_uid for one in seen} == {first.SOPInstanceUID, second.SOPInstanceUID}
    assert {(one.sop_class_uid, one.modality) for one in seen} == {(first.SOPClassUID, "DX")}
    headers = list(archive.headers(first.StudyInstanceUID))
    assert len(headers) == 2
    for facts in headers:
        assert isinstance(facts, InstanceFacts)
        assert (facts.view_position, facts.body_part, facts.has_pixels) == ("PA", "CHEST", True)
        assert archive.radiograph(facts).pixels.std() > 0.1


@pytest.mark.parametrize("syntax", [uid.JPEG2000Lossless, uid.JPEGLSLossless, uid.RLELossless, uid.JPEGLosslessSV1])
def test_compressed_instances_come_as_stored(url: str, archive: DicomwebArchive, syntax: uid.UID) -> None:
    dataset = read(in_syntax(make_dataset(), syntax))
    stow(url, dataset)
    (facts,) = archive.headers(dataset.StudyInstanceUID)
    assert isinstance(facts, InstanceFacts)
    assert archive.radiograph(facts).facts.transfer_syntax_uid == syntax


def test_what_it_does_not_know_is_empty_or_unavailable(archive: DicomwebArchive) -> None:
    assert archive.studies_of_accession("NOBODY-HAS-THIS") == []
    assert archive.instances("1.2.3.4") == []
    assert list(archive.headers("1.2.3.4")) == []
    with pytest.raises(ArchiveUnavailable, match=r"did not come|answered"):
        archive.radiograph(InstanceFacts("1.2.3", "1.2.4", "1.2.5", "1.2.6"))


def test_an_image_without_pixels_is_refused(url: str, archive: DicomwebArchive) -> None:
    dataset = read(file_of(make_dataset(PixelData=None)))
    stow(url, dataset)
    (facts,) = archive.headers(dataset.StudyInstanceUID)
    assert isinstance(facts, InstanceFacts)
    with pytest.raises(UnusableRadiograph, match="no-pixels"):
        archive.radiograph(facts)
