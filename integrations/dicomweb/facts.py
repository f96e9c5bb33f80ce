"""DICOM headers, whole or as an archive's answers, to the facts the service judges by."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, tzinfo
from typing import Any

from pydicom.dataset import Dataset

from integrations.dicomweb.header import (
    count,
    day,
    from_json,
    instant,
    items,
    number,
    span,
    text,
    texts,
)
from triage.domain.errors import UnusableRadiograph
from triage.domain.imaging import InstanceFacts, Patient, SeenInstance, StudyFacts

MADE_BY_US = "Chest Triage"
"""Manufacturer (0008,0070), or that of an item of ContributingEquipmentSequence (0018,A001), in our result objects."""

OLDEST_YEARS = 130.0
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


def study_facts(
    source: Dataset | Mapping[str, Any], site_zone: tzinfo, instance_count: int | None = None
) -> StudyFacts:
    """
    What a QIDO-RS study answer, or the header of any instance, says about its study (PS3.18 table 10.6.3-3).

    Args:
        source: a data set, or one object of DICOM JSON.
        site_zone: for times without TimezoneOffsetFromUTC.
        instance_count: where the caller counted; else NumberOfStudyRelatedInstances.
    Raises:
        UnusableRadiograph: unreadable-header, no Study Instance UID.
    """
    dataset = source if isinstance(source, Dataset) else from_json(source)
    when = span(dataset, "Study", site_zone)
    counted = number(dataset, "NumberOfStudyRelatedInstances")
    return StudyFacts(
        study_instance_uid=_uid(dataset, "StudyInstanceUID"),
        patient=_patient(dataset),
        accession_number=text(dataset, "AccessionNumber"),
        issuer_of_accession=_issuer_of_accession(dataset),
        study_at=when[0] if when else None,
        description=text(dataset, "StudyDescription"),
        modalities=tuple(filter(None, texts(dataset, "ModalitiesInStudy") or texts(dataset, "Modality"))),
        instance_count=instance_count if instance_count is not None else None if counted is None else int(counted),
    )


def seen_instance(source: Dataset | Mapping[str, Any]) -> SeenInstance:
    """
    One instance of a QIDO-RS answer.

    Raises:
        UnusableRadiograph: unreadable-header, no Series or SOP Instance UID.
    """
    dataset = source if isinstance(source, Dataset) else from_json(source)
    return SeenInstance(
        series_instance_uid=_uid(dataset, "SeriesInstanceUID"),
        sop_instance_uid=_uid(dataset, "SOPInstanceUID"),
        sop_class_uid=text(dataset, "SOPClassUID"),
        modality=text(dataset, "Modality"),
    )


def instance_facts(
    source: Dataset | Mapping[str, Any], site_zone: tzinfo, *, has_pixels: bool | None = None
) -> InstanceFacts:
    """
    The header facts of one instance (tags: STANDARDS 4.4).

    Args:
        source: a data set, or one object of WADO-RS metadata (DICOM JSON).
        site_zone: for times without TimezoneOffsetFromUTC.
        has_pixels: where the caller knows more than whether a pixel element is there.
    Raises:
        UnusableRadiograph: unreadable-header, naming the element; never anything else, whatever a value holds.
    """
    dataset = source if isinstance(source, Dataset) else from_json(source)
    if has_pixels is None:
        has_pixels = any(keyword in dataset for keyword in _PIXELS)
    return InstanceFacts(
        study_instance_uid=_uid(dataset, "StudyInstanceUID"),
        series_instance_uid=_uid(dataset, "SeriesInstanceUID"),
        sop_instance_uid=_uid(dataset, "SOPInstanceUID"),
        sop_class_uid=_uid(dataset, "SOPClassUID"),
        modality=text(dataset, "Modality"),
        presentation_intent=text(dataset, "PresentationIntentType"),
        body_part=text(dataset, "BodyPartExamined") or _first_item(dataset, "AnatomicRegionSequence", "CodeMeaning"),
        view_position=text(dataset, "ViewPosition"),
        view_code=_first_item(dataset, "ViewCodeSequence", "CodeValue", "LongCodeValue"),
        patient_orientation=texts(dataset, "PatientOrientation"),
        image_type=texts(dataset, "ImageType"),
        burned_in_annotation=text(dataset, "BurnedInAnnotation"),
        photometric_interpretation=text(dataset, "PhotometricInterpretation"),
        age_years=age_years(dataset),
        description=text(dataset, "SeriesDescription") or text(dataset, "StudyDescription"),
        rows=count(dataset, "Rows", 0),
        columns=count(dataset, "Columns", 0),
        number_of_frames=count(dataset, "NumberOfFrames", 1),
        has_pixels=has_pixels,
        transfer_syntax_uid=_transfer_syntax(dataset),
        lossy=text(dataset, "LossyImageCompression") == "01",
        manufacturer=text(dataset, "Manufacturer"),
        model_name=text(dataset, "ManufacturerModelName"),
        station_name=text(dataset, "StationName"),
        made_by_us=_is_made_by_us(dataset),
        acquired_at=next(filter(None, (instant(dataset, what, site_zone) for what in _ACQUIRED)), None),
    )


_ACQUIRED = ("Acquisition", "Content", "Series", "Study")


def age_years(dataset: Dataset) -> float | None:
    """Age on the day of the study: PatientAge (AS, PS3.5 6.2), else by birth date; None where neither is credible."""
    written = text(dataset, "PatientAge").upper()
    unit = {"Y": 1.0, "M": 12.0, "W": 52.1775, "D": 365.2425}.get(written[-1:])
    if unit and written[:-1].isascii() and written[:-1].isdigit():
        age = int(written[:-1]) / unit
        return age if age <= OLDEST_YEARS else None
    born = day(dataset, "PatientBirthDate")
    on = next(
        filter(None, (day(dataset, f"{what}Date") for what in ("Study", "Series", "Acquisition", "Content"))), None
    )
    if not born or not on or on < born:
        return None
    age = _years_between(born, on)
    return age if age <= OLDEST_YEARS else None


def _years_between(born: date, on: date) -> float:
    """Whole birthdays count exactly, so that an eighteenth birthday is 18.0."""
    years = on.year - born.year - ((on.month, on.day) < (born.month, born.day))
    last = date(born.year + years, born.month, min(born.day, 28))
    return years + max(0, (on - last).days - max(0, born.day - 28)) / 366


def _patient(dataset: Dataset) -> Patient:
    return Patient(
        patient_id=text(dataset, "PatientID"),
        issuer=text(dataset, "IssuerOfPatientID")
        or _first_item(dataset, "IssuerOfPatientIDQualifiersSequence", "UniversalEntityID"),
        name=text(dataset, "PatientName"),
        birth_date=day(dataset, "PatientBirthDate"),
        sex=text(dataset, "PatientSex"),
    )


def _issuer_of_accession(dataset: Dataset) -> str:
    return _first_item(dataset, "IssuerOfAccessionNumberSequence", "LocalNamespaceEntityID", "UniversalEntityID")


def _first_item(dataset: Dataset, sequence: str, *keywords: str) -> str:
    for item in items(dataset, sequence)[:1]:
        return next(filter(None, (text(item, keyword) for keyword in keywords)), "")
    return ""


def _is_made_by_us(dataset: Dataset) -> bool:
    makers = [text(dataset, "Manufacturer")]
    makers += [text(item, "Manufacturer") for item in items(dataset, "ContributingEquipmentSequence")]
    return MADE_BY_US in makers


def _transfer_syntax(dataset: Dataset) -> str:
    meta = getattr(dataset, "file_meta", None) or dataset
    return text(meta, "TransferSyntaxUID") or text(dataset, "AvailableTransferSyntaxUID")


def _uid(dataset: Dataset, keyword: str) -> str:
    """
    A UID of digits and full stops, at most 64 (PS3.5 9.1), also with leading zeros as old devices write them.

    Raises:
        UnusableRadiograph: unreadable-header; anything else could not be asked for again.
    """
    uid = text(dataset, keyword)
    if not uid or len(uid) > 64 or not uid.isascii() or not uid.replace(".", "").isdigit():
        raise UnusableRadiograph("unreadable-header", keyword)
    return uid
