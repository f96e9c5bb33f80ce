"""Identity of studies and instances, and the radiograph itself: pixels and the DICOM facts to read them by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Patient:
    """Whom an order or a study is about, as the sender wrote it; never printed."""

    patient_id: str = field(repr=False)
    issuer: str = field(default="", repr=False)
    name: str = field(default="", repr=False)
    """DICOM person name: up to three component groups (alphabetic=ideographic=phonetic), `^` between components."""
    birth_date: date | None = field(default=None, repr=False)
    sex: str = field(default="", repr=False)


@dataclass(frozen=True)
class StudyFacts:
    """What an archive says about a study (QIDO-RS study level), before any pixel was fetched."""

    study_instance_uid: str
    patient: Patient
    accession_number: str = field(default="", repr=False)
    issuer_of_accession: str = ""
    study_at: datetime | None = None
    """Acquisition instant, aware; the site's zone fills in where the study has none."""
    description: str = field(default="", repr=False)
    modalities: tuple[str, ...] = ()
    instance_count: int | None = None
    """NumberOfStudyRelatedInstances, or None where the archive does not count."""


@dataclass(frozen=True)
class InstanceFacts:
    """The header facts of one instance that the eligibility gate and the audit read (DICOM PS3.3)."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    modality: str = ""
    presentation_intent: str = ""  # (0008,0068)
    body_part: str = ""  # (0018,0015), or the meaning of AnatomicRegionSequence
    view_position: str = ""  # (0018,5101)
    view_code: str = ""  # code value of ViewCodeSequence (0054,0220)
    patient_orientation: tuple[str, ...] = ()  # (0020,0020)
    image_type: tuple[str, ...] = ()  # (0008,0008)
    burned_in_annotation: str = ""  # (0028,0301)
    photometric_interpretation: str = ""  # (0028,0004)
    age_years: float | None = None
    """From PatientAge, or birth date against the study date; None where neither says."""
    description: str = field(default="", repr=False)
    rows: int = 0
    columns: int = 0
    number_of_frames: int = 1
    has_pixels: bool = True
    transfer_syntax_uid: str = ""
    lossy: bool = False
    manufacturer: str = ""
    model_name: str = ""
    station_name: str = ""
    made_by_us: bool = False
    """Our own result object (ContributingEquipment or series description mark); never assessed."""
    acquired_at: datetime | None = None


@dataclass(frozen=True)
class Radiograph:
    """
    One decoded frontal radiograph.

    Attributes:
        pixels: (rows, columns) float32 in [0, 1], higher is brighter: Modality LUT, then VOI LUT or window, then
            MONOCHROME1 inversion have been applied (DICOM PS3.3 C.7.6.3.1.2, C.11.1, C.11.2).
        pixel_spacing_mm: (row, column) spacing, or None where the header does not say.
        facts: the header facts it came with.
    """

    pixels: npt.NDArray[np.float32] = field(repr=False)
    facts: InstanceFacts
    pixel_spacing_mm: tuple[float, float] | None = None


@dataclass(frozen=True)
class SeenInstance:
    """One instance as the archive lists it (QIDO-RS instance level)."""

    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    modality: str = ""


@dataclass(frozen=True)
class RetrievedStudy:
    """A study as fetched: facts of every readable instance and a named refusal for every unreadable one."""

    facts: StudyFacts
    instances: tuple[InstanceFacts, ...]
    refused: Mapping[str, str]
    """SOP Instance UID (or file name) to the reason it could not be read."""
