"""Real odd files (TRIAGE_CORPUS, dicom/manifest.csv): what the header gate and the decoder say of each."""

from __future__ import annotations

import csv
import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from integrations.dicomweb.facts import instance_facts, study_facts
from integrations.dicomweb.folder import FolderArchive
from integrations.dicomweb.radiograph import read, to_radiograph
from triage.domain.eligibility import IntendedUse, header_refusal
from triage.domain.errors import UnusableRadiograph
from triage.domain.imaging import InstanceFacts

EXPECTED = {
    "cxr_RG1_J2K_lossy_mono1_15bit.dcm": ("", ""),
    "trap_DX_thorax_tags_but_lateral_DOG.dcm": ("age-below-limit", "too-small"),
    "cxr_tags_only_japanese_multibyte_name.dcm": ("no-pixels", "no-pixels"),
    "cxr_tags_only_korean_multibyte_name.dcm": ("no-pixels", "no-pixels"),
    "notchest_RG3_extremity_J2K.dcm": ("body-part", ""),
    "notchest_RG2_hip_J2K.dcm": ("body-part", ""),
    "bad_truncated_pixeldata.dcm": ("modality", "too-small"),
    "bad_vr_value.dcm": ("unreadable-header", "unreadable-header"),
    "bad_no_file_meta.dcm": ("unreadable-header", "unreadable-header"),
    "bad_no_transfer_syntax.dcm": ("unreadable-header", "unreadable-header"),
    "bad_truncated_dataset.dcm": ("modality", "no-pixels"),
    "us_multiframe_colour_30.dcm": ("modality", "colour"),
    "us_palette_colour.dcm": ("modality", "colour"),
    "sr_no_pixels.dcm": ("modality", "no-pixels"),
    "deflated_transfer_syntax.dcm": ("modality", ""),
}
"""What the header gate says and what the decoder says, "" where they let it pass."""


@pytest.fixture(scope="module")
def files(corpus: Path) -> Path:
    return corpus / "dicom"


def gate(content: bytes) -> str:
    try:
        return header_refusal(instance_facts(read(content), UTC), IntendedUse()) or ""
    except UnusableRadiograph as refusal:
        return refusal.reason


def decoder(content: bytes) -> str:
    try:
        found = to_radiograph(content)
    except UnusableRadiograph as refusal:
        return refusal.reason
    assert 0 <= found.pixels.min() < found.pixels.max() <= 1
    return ""


def test_every_file_is_judged_as_expected(files: Path) -> None:
    with (files / "manifest.csv").open() as manifest:
        names = [row["file"] for row in csv.DictReader(manifest)]
    assert set(names) == EXPECTED.keys()
    contents = {name: (files / name).read_bytes() for name in names}
    assert {name: (gate(content), decoder(content)) for name, content in contents.items()} == EXPECTED


def test_the_real_chest_is_bright_where_the_patient_is(files: Path) -> None:
    """MONOCHROME1: unless it is inverted, lungs are bright and the abdomen is dark."""
    pixels = to_radiograph((files / "cxr_RG1_J2K_lossy_mono1_15bit.dcm").read_bytes()).pixels
    rows, columns = pixels.shape
    lung = np.median(pixels[rows // 3 : rows // 2, columns // 5 : columns // 3])
    abdomen = np.median(pixels[-rows // 8 :, columns // 3 : 2 * columns // 3])
    assert abdomen > lung + 0.1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cxr_tags_only_japanese_multibyte_name.dcm", "やまだ^たろう"),
        ("cxr_tags_only_korean_multibyte_name.dcm", "김희중"),
    ],
)
def test_names_of_several_alphabets_are_decoded(files: Path, name: str, expected: str) -> None:
    assert expected in study_facts(read((files / name).read_bytes()), UTC).patient.name


def test_a_folder_of_them_loses_none(files: Path, tmp_path: Path) -> None:
    for path in files.iterdir():
        shutil.copy(path, tmp_path)
        os.utime(tmp_path / path.name, (time.time() - 60, time.time() - 60))
    archive = FolderArchive(tmp_path, site_zone=UTC)
    unreadable = {name for name, _ in archive.unreadable()}
    assert unreadable == {"manifest.csv", "bad_no_file_meta.dcm", "bad_no_transfer_syntax.dcm"}
    studies = list(archive.studies_since(datetime(1990, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)))
    assert len(studies) == 6
    for study in studies:
        (facts,) = archive.headers(study.study_instance_uid)
        assert isinstance(facts, InstanceFacts)
