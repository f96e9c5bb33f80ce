"""Pictures become CR images that the service reads like any other."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from integrations.dicomweb.folder import store
from integrations.dicomweb.radiograph import to_radiograph
from integrations.dicomweb.wrap import to_dicom
from tests.dicomweb.files import Pixels, make_pixels
from tests.making import make_patient
from triage.domain.eligibility import IntendedUse, header_refusal
from triage.domain.errors import UnusableRadiograph

AT = datetime(2026, 11, 2, 12, 0, tzinfo=ZoneInfo("Asia/Tokyo"))


def picture(folder: Path, name: str, pixels: Pixels) -> Path:
    Image.fromarray(pixels).save(folder / name)
    return folder / name


@pytest.mark.parametrize("name", ["sample.png", "sample.jpg", "colour.png", "deep.png"])
def test_a_picture_goes_through_the_gate_and_is_decoded(tmp_path: Path, name: str) -> None:
    pixels = make_pixels(241, 261, most=255).astype(np.uint8)
    drawn = {"colour.png": np.stack([pixels] * 3, axis=-1), "deep.png": make_pixels(241, 261, most=65535)}
    path = picture(tmp_path, name, drawn.get(name, pixels))
    dataset = to_dicom(path, patient=make_patient(), study_at=AT, accession_number="A1", view_position="PA")
    found = to_radiograph(store(dataset, tmp_path / "out").read_bytes())
    assert header_refusal(found.facts, IntendedUse()) is None
    np.testing.assert_allclose(found.pixels, pixels / 255, atol=0.06)
    assert found.facts.image_type == ("DERIVED", "PRIMARY")
    assert found.facts.acquired_at == AT.astimezone(UTC)
    assert found.facts.lossy is (name == "sample.jpg")


def test_the_same_picture_gives_the_same_object(tmp_path: Path) -> None:
    path = picture(tmp_path, "a.png", make_pixels(most=255).astype(np.uint8))
    first, second = (store(to_dicom(path, patient=make_patient(), study_at=AT), tmp_path, name) for name in "xy")
    assert first.read_bytes() == second.read_bytes()
    dataset = dcmread(first)
    uids = {dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID}
    assert len(uids) == 3
    assert all(one.startswith("2.25.") and one.is_valid for one in uids)
    assert str(dataset.PatientName) == make_patient().name
    assert dataset.SpecificCharacterSet == "ISO_IR 192"
    assert dataset.ViewPosition == ""


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"no picture")
    with pytest.raises(UnusableRadiograph, match="undecodable"):
        to_dicom(path, patient=make_patient(), study_at=AT)
