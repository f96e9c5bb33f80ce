"""The committed sample radiographs: what the demo counts on, and that none of them is anyone's picture."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

import triage.demo
from models.training import samples, synthesis
from triage.domain.eligibility import IntendedUse, header_refusal
from triage.domain.imaging import InstanceFacts

FOLDER = Path(triage.demo.__file__).parent / "samples"
ENTRIES: list[dict[str, Any]] = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))
FRONTALS = [entry for entry in ENTRIES if entry["role"] == "frontal"]
FILES = [name for entry in ENTRIES for name in entry["files"]]


def read(name: str) -> Dataset:
    return dcmread(FOLDER / name)


def facts(ds: Dataset) -> InstanceFacts:
    return InstanceFacts(
        ds.StudyInstanceUID,
        ds.SeriesInstanceUID,
        ds.SOPInstanceUID,
        ds.SOPClassUID,
        modality=ds.Modality,
        presentation_intent=ds.get("PresentationIntentType", ""),
        body_part=ds.BodyPartExamined,
        view_position=ds.get("ViewPosition", ""),
        patient_orientation=tuple(ds.PatientOrientation),
        image_type=tuple(ds.ImageType),
        burned_in_annotation=ds.BurnedInAnnotation,
        photometric_interpretation=ds.PhotometricInterpretation,
        age_years=float(ds.PatientAge[:3]),
    )


def mark_of(pixels: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    left, top, right, bottom = samples.MARK_BOX
    return pixels[top:bottom, left:right]


def test_every_file_is_listed_once_and_the_folder_stays_small() -> None:
    assert sorted(FILES) == sorted(path.name for path in FOLDER.glob("*.dcm"))
    assert len(set(FILES)) == len(FILES)
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 15_000_000


def test_there_are_nine_frontal_adults_of_each_class_and_one_study_of_each_refused_kind() -> None:
    assert Counter(entry["sample_class"] for entry in FRONTALS) == {"normal": 9, "pneumonia": 9, "covid": 9}
    others = Counter(entry["role"] for entry in ENTRIES if entry["role"] != "frontal")
    assert others == {"lateral": 1, "ct": 1, "paediatric": 1, "broken": 1}
    assert all(int(read(entry["files"][0]).PatientAge[:3]) >= 18 for entry in FRONTALS)


def test_orders_are_distinct_one_is_stat_and_some_arrive_after_their_images() -> None:
    orders = [entry["order"] for entry in ENTRIES]
    assert [order["priority"] for order in orders].count("S") == 1
    assert sum(entry["arrives"] == "before-order" for entry in ENTRIES) == 4
    for key in ("accession_number", "placer_order_number", "filler_order_number"):
        assert len({order[key] for order in orders}) == len(orders)
    assert {order["message"] for order in orders} == {"ORM^O01", "OMI^O23"}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["files"][0])
def test_order_and_files_speak_of_the_same_study(entry: dict[str, Any]) -> None:
    order = entry["order"]
    for name in entry["files"]:
        ds = read(name)
        assert ds.AccessionNumber == order["accession_number"]
        assert ds.IssuerOfAccessionNumberSequence[0].LocalNamespaceEntityID == order["issuer"]
        assert order["study_instance_uid"] in (None, ds.StudyInstanceUID)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["files"][0])
def test_the_header_gate_says_what_the_manifest_expects(entry: dict[str, Any]) -> None:
    refusal = header_refusal(facts(read(entry["files"][0])), IntendedUse())
    assert refusal == (None if entry["role"] == "broken" else entry["expected"]["reason"])
    assert (entry["expected"]["ai_state"] == "not-eligible") == (entry["role"] != "frontal")


@pytest.mark.parametrize("name", FILES)
def test_headers_are_complete_and_truthful(name: str) -> None:
    ds = read(name)
    for keyword in ("PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"):
        assert ds[keyword].value
    assert ds.TimezoneOffsetFromUTC == "+0900"
    assert ds.StudyInstanceUID.startswith("2.25.")
    assert ds.BurnedInAnnotation == "YES"
    assert ds.ImageType[:2] == ["DERIVED", "PRIMARY"]
    assert (ds.BitsAllocated, ds.BitsStored) == (16, 12)
    assert ds.Modality != "DX" or ds.PresentationIntentType == "FOR PRESENTATION"
    assert "VOILUTSequence" in ds or "WindowCenter" in ds


@pytest.mark.parametrize("name", [name for name in FILES if "broken" not in name])
def test_pixels_decode_and_carry_the_mark(name: str) -> None:
    pixels = read(name).pixel_array
    assert pixels.max() <= samples.FULL_SCALE
    assert pixels.std() > 200
    mark = mark_of(pixels)
    assert mark.std() > 200
    assert 0.05 < (np.abs(mark - np.median(mark)) > 500).mean() < 0.5  # letters on a plain field


def test_the_broken_file_has_a_readable_header_and_no_readable_pixels() -> None:
    ds = read(next(name for name in FILES if "broken" in name))
    assert ds.Modality == "DX"
    with pytest.raises(Exception, match=r"(?i)decod"):
        _ = ds.pixel_array


def test_modalities_views_polarities_and_transfer_syntaxes_are_mixed_in_every_class() -> None:
    for label in synthesis.CLASSES:
        headers = [read(entry["files"][0]) for entry in FRONTALS if entry["sample_class"] == label]
        assert {ds.Modality for ds in headers} == {"CR", "DX"}
        assert {ds.ViewPosition for ds in headers} == {"PA", "AP"}
    headers = [read(entry["files"][0]) for entry in FRONTALS]
    assert sum(ds.PhotometricInterpretation == "MONOCHROME1" for ds in headers) == 3
    syntaxes = {ds.file_meta.TransferSyntaxUID for ds in headers}
    assert syntaxes == {ExplicitVRLittleEndian, JPEGLSLossless, JPEG2000Lossless, RLELossless}


def test_japanese_names_survive_in_both_character_sets() -> None:
    expected = {sample.stem: sample for sample in samples.plan(7)}
    seen: Counter[str] = Counter()
    for entry in ENTRIES:
        ds = read(entry["files"][0])
        sample = expected[Path(entry["files"][0]).stem]
        assert str(ds.PatientName) == sample.name
        if ds.PatientName.ideographic:
            seen[entry["order"]["charset"]] += 1
            assert ds.PatientName.phonetic
    names = "".join(sample.name for sample in expected.values())
    assert seen["ISO IR87"] > 0 and seen["UNICODE UTF-8"] > 0
    assert "本" in names and "宮" in names


def test_lungs_are_two_dark_fields_in_every_frontal_sample() -> None:
    for name, pixels in samples.drawn_pixels(FOLDER).items():
        rows, columns = pixels.shape
        band = pixels[int(rows * 0.3) : int(rows * 0.5)].mean(0)
        right, middle, left = (band[int(columns * at) : int(columns * (at + 0.12))].mean() for at in (0.27, 0.44, 0.6))
        assert max(right, left) < 0.85 * middle, name


def test_provenance_records_a_passed_check_and_permitted_sources_only() -> None:
    recorded = json.loads((FOLDER / "provenance.json").read_text(encoding="utf-8"))
    check = recorded["privacy"]
    assert check["passed"]
    assert check["closest_sample_to_any_training_image"] > check["closest_pair_of_different_patients"]
    assert {group["source"] for group in recorded["permitted_images"]} == set(synthesis.SOURCES)


@pytest.mark.parametrize(
    ("change", "permitted"),
    [
        ({}, True),
        ({"age": ""}, True),
        ({"age": "17"}, False),
        ({"role": "external"}, False),
        ({"licence_class": "nc"}, False),
        ({"licence_class": "research-use-with-attribution"}, False),
        ({"label": "unknown"}, False),
    ],
)
def test_only_adults_under_a_commercial_licence_shape_the_generator(change: dict[str, str], permitted: bool) -> None:
    row = {
        "role": "dev",
        "licence_class": "attribution",
        "source": "hannover",
        "label": "covid",
        "view": "AP",
        "age": "60",
    }
    assert synthesis.is_permitted({**row, **change}) is permitted


def test_no_sample_is_closer_to_a_training_image_than_two_patients_are_to_each_other() -> None:
    folder = os.environ.get("TRIAGE_CXR")
    if not folder:
        pytest.skip("TRIAGE_CXR is not set: the real radiographs are not here to compare with")
    found = samples.privacy(synthesis.training_images(Path(folder)), FOLDER)
    assert found["passed"], found
    assert len(found["nearest_training_image_by_sample"]) == 28
