"""Headers, whole or as JSON, to facts; a bad value is named, never shown, and never more than a refusal."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from integrations.dicomweb.facts import MADE_BY_US, age_years, instance_facts, seen_instance, study_facts
from integrations.dicomweb.radiograph import read
from tests.dicomweb.files import file_of, make_dataset
from triage.domain.errors import UnusableRadiograph

TOKYO = ZoneInfo("Asia/Tokyo")


def as_json(dataset: Dataset) -> dict[str, Any]:
    """As WADO-RS metadata give it: pixels by reference."""
    answer = dataset.to_json_dict(bulk_data_threshold=10, bulk_data_element_handler=lambda _: "http://archive/bulk")
    return dict(answer)


@pytest.mark.parametrize("form", [lambda one: one, as_json], ids=["data set", "json"])
def test_a_header_and_its_json_say_the_same(form: Any) -> None:
    view, region, maker = Dataset(), Dataset(), Dataset()
    view.CodeValue, region.CodeMeaning, maker.Manufacturer = "399348003", "Chest", "Somebody"
    dataset = make_dataset(
        BodyPartExamined=None, AnatomicRegionSequence=[region], ViewCodeSequence=[view], PatientOrientation=["L", "F"],
        ContributingEquipmentSequence=[maker], BurnedInAnnotation="NO", LossyImageCompression="01",
        Manufacturer="ACME", StationName="ROOM1", AcquisitionDate="20261102", AcquisitionTime="115959.5",
        TimezoneOffsetFromUTC="+0900",
    )  # fmt: skip
    facts = instance_facts(form(dataset), UTC)
    assert (facts.body_part, facts.view_code, facts.view_position) == ("Chest", "399348003", "PA")
    assert (facts.patient_orientation, facts.image_type) == (("L", "F"), ("ORIGINAL", "PRIMARY"))
    assert (facts.rows, facts.columns, facts.number_of_frames, facts.has_pixels) == (240, 260, 1, True)
    assert (facts.lossy, facts.manufacturer, facts.station_name, facts.made_by_us) == (True, "ACME", "ROOM1", False)
    assert facts.acquired_at == datetime(2026, 11, 2, 2, 59, 59, 500000, tzinfo=UTC)
    assert facts.age_years == pytest.approx(65.58, abs=0.02)
    study = study_facts(form(dataset), UTC)
    assert study.patient.name == "Honmiya^Tarou=本宮^太郎=もとみや^たろう"
    assert (study.patient.patient_id, study.patient.birth_date) == ("P-0001", date(1961, 4, 1))
    assert study.study_at == datetime(2026, 11, 2, 3, 0, tzinfo=UTC)
    assert (study.modalities, study.accession_number) == (("DX",), "ACC-1")
    assert seen_instance(form(dataset)).sop_instance_uid == dataset.SOPInstanceUID


def test_a_name_in_iso_2022_is_decoded() -> None:
    dataset = make_dataset(SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName="Honmiya^Tarou=本宮^太郎")
    content = file_of(dataset)
    assert b"\x1b$BK\\5\\" in content  # both kanji hold a backslash
    assert study_facts(read(content), UTC).patient.name == "Honmiya^Tarou=本宮^太郎"


def test_a_study_answer_counts_and_lists() -> None:
    answer = {
        "0020000D": {"vr": "UI", "Value": ["1.2.3"]},
        "00080061": {"vr": "CS", "Value": ["CR", "SR"]},
        "00201208": {"vr": "IS", "Value": [3]},
        "00080020": {"vr": "DA", "Value": ["20261102"]},
        "00080030": {"vr": "TM", "Value": ["0830"]},
        "00080050": {"vr": "SH", "Value": ["A1"]},
        "00080051": {"vr": "SQ", "Value": [{"00400031": {"vr": "UT", "Value": ["RIS"]}}]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Yamada^Taro", "Ideographic": "山田^太郎"}]},
        "00100020": {"vr": "LO"},
    }
    study = study_facts(answer, TOKYO)
    assert (study.modalities, study.instance_count, study.issuer_of_accession) == (("CR", "SR"), 3, "RIS")
    assert study.study_at == datetime(2026, 11, 1, 23, 30, tzinfo=UTC)
    assert study.patient.name == "Yamada^Taro=山田^太郎"
    assert study.patient.patient_id == ""


@pytest.mark.parametrize(
    ("age", "born", "on", "years"),
    [
        ("045Y", "19610401", "20261102", 45.0),
        ("018M", "", "", 1.5),
        ("010W", "", "", 10 / 52.1775),
        ("003D", "", "", 3 / 365.2425),
        ("", "20081102", "20261102", 18.0),
        ("", "20081103", "20261102", 17 + 364 / 366),
        ("", "20080229", "20260228", 17 + 364 / 366),
        ("", "", "20261102", None),
        ("", "19610401", "", None),
        ("", "20270101", "20261102", None),
        ("", "18000101", "20080504", None),
        ("999Y", "19610401", "20261102", None),
        ("abcY", "20081102", "20261102", 18.0),
        ("45", "20081102", "20261102", 18.0),
    ],
)
def test_age_is_what_the_header_says_else_counted(age: str, born: str, on: str, years: float | None) -> None:
    dataset = make_dataset(PatientAge=age, PatientBirthDate=born, StudyDate=on)
    found = age_years(dataset)
    assert found is None if years is None else found == pytest.approx(years, abs=0.004)


@pytest.mark.parametrize(
    ("changes", "study_at"),
    [
        ({}, datetime(2026, 11, 2, 12, 0, tzinfo=TOKYO)),
        ({"TimezoneOffsetFromUTC": "-0330"}, datetime(2026, 11, 2, 12, 0, tzinfo=timezone(-timedelta(hours=3.5)))),
        ({"TimezoneOffsetFromUTC": "bogus"}, datetime(2026, 11, 2, 12, 0, tzinfo=TOKYO)),
        ({"StudyTime": None}, datetime(2026, 11, 2, 0, 0, tzinfo=TOKYO)),
        ({"StudyTime": "0930"}, datetime(2026, 11, 2, 9, 30, tzinfo=TOKYO)),
        ({"StudyTime": "235960"}, datetime(2026, 11, 2, 23, 59, 59, tzinfo=TOKYO)),
        ({"StudyDate": ""}, None),
        ({"StudyDate": "2026.11.02"}, datetime(2026, 11, 2, 12, 0, tzinfo=TOKYO)),
        ({"StudyDate": "20261399"}, None),
    ],
)
def test_study_times_are_aware(changes: dict[str, Any], study_at: datetime | None) -> None:
    found = study_facts(make_dataset(**changes), TOKYO).study_at
    assert found == study_at
    assert found is None or found.tzinfo is UTC


def test_our_own_objects_are_known_by_their_maker() -> None:
    maker = Dataset()
    maker.Manufacturer = MADE_BY_US
    assert instance_facts(make_dataset(Manufacturer=MADE_BY_US), UTC).made_by_us
    assert instance_facts(make_dataset(ContributingEquipmentSequence=[maker]), UTC).made_by_us


@pytest.mark.parametrize(
    ("tag", "vr", "bad"),
    [
        (0x00280008, "IS", b"many"),
        (0x00280010, "US", b"\x01"),
        (0x0020000D, "UI", b"Honmiya^Tarou"),
        (0x00080018, "UI", b""),
        (0x00080016, "UI", b"1." * 40),
    ],
)
def test_a_bad_value_that_matters_is_an_unreadable_header(tag: int, vr: str, bad: bytes) -> None:
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import Tag

    dataset = make_dataset()
    dataset[tag] = RawDataElement(Tag(tag), vr, len(bad), bad, 0, False, True)
    with pytest.raises(UnusableRadiograph) as caught:
        instance_facts(dataset, UTC)
    assert caught.value.reason == "unreadable-header"
    assert "Honmiya" not in str(caught.value)


@settings(max_examples=150, deadline=None)
@given(
    keyword=st.sampled_from(
        ["PatientAge", "PatientBirthDate", "StudyDate", "StudyTime", "PatientName", "ImageType", "ViewPosition",
         "ViewCodeSequence", "NumberOfFrames", "Rows", "TimezoneOffsetFromUTC", "AcquisitionDateTime", "Modality",
         "SpecificCharacterSet", "SOPClassUID", "PatientOrientation", "ContributingEquipmentSequence"]
    ),
    bad=st.binary(max_size=20),
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_no_bad_bytes_raise_anything_but_a_refusal(keyword: str, bad: bytes) -> None:
    from pydicom.datadict import dictionary_VR, tag_for_keyword
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import Tag

    tag = Tag(tag_for_keyword(keyword) or 0)
    dataset = make_dataset()
    dataset[tag] = RawDataElement(tag, dictionary_VR(tag), len(bad), bad, 0, False, True)
    for facts_of in (instance_facts, study_facts):
        try:
            facts_of(dataset, TOKYO)
        except UnusableRadiograph as refusal:
            assert refusal.reason == "unreadable-header"


VALUES = st.one_of(st.none(), st.integers(), st.text(max_size=9))


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(
    st.sampled_from(["0020000D", "00080020", "00080061", "00201208", "00100010", "00080051", "junk"]),
    st.one_of(
        st.none(), st.text(max_size=5),
        st.fixed_dictionaries({"vr": st.sampled_from(["UI", "DA", "PN", "SQ", "??"]), "Value": st.lists(VALUES)}),
    ),
))  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_no_answer_of_an_archive_raises_anything_but_a_refusal(answer: dict[str, Any]) -> None:
    try:
        study_facts(answer, UTC)
    except UnusableRadiograph as refusal:
        assert refusal.reason == "unreadable-header"


@pytest.mark.parametrize(("bad", "stored"), [("Gehe\0im^Nome", "Geheim^Nome"), ("Geheim^\ud800", "Geheim^?")])
def test_what_no_database_can_hold_is_left_out_of_every_text(bad: str, stored: str) -> None:
    answer = {
        "0020000D": {"vr": "UI", "Value": ["1.2.3"]},
        "00081030": {"vr": "LO", "Value": [bad]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": bad}]},
    }
    study = study_facts(answer, UTC)
    assert (study.description, study.patient.name) == (stored, stored)
