"""The header gate: may this instance be assessed at all, by what its DICOM header says and the model card allows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from triage.domain.imaging import InstanceFacts

CR_IMAGE = "1.2.840.10008.5.1.4.1.1.1"
DX_FOR_PRESENTATION = "1.2.840.10008.5.1.4.1.1.1.1"
DX_FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"

REASONS: Mapping[str, str] = {
    # header gate
    "own-output": "an object this service made itself",
    "no-pixels": "the object holds no image",
    "modality": "not a CR or DX radiograph",
    "sop-class": "not an image class this service reads",
    "for-processing": "raw image for processing, not for presentation",
    "secondary-capture": "secondary capture with burned-in annotation",
    "multi-frame": "more than one frame",
    "colour": "a colour image",
    "body-part": "body part is not the chest",
    "not-frontal": "the view is not frontal (AP or PA)",
    "age-below-limit": "the patient is younger than the model card allows",
    "age-unknown": "age not known and the model card wants it",
    # decoding
    "undecodable": "the pixel data cannot be decoded",
    "unreadable-header": "the file is not readable DICOM",
    "too-small": "the image is too small",
    "blank": "the image has no contrast",
    "engine-error": "the networks failed on this image",
    # pixel gate
    "lungs-implausible": "no two plausible lungs in the image",
    "out-of-distribution": "unlike the radiographs the model was made for",
    # the study as a whole
    "no-frontal-instance": "no instance of the study can be assessed",
}
"""Every reason a study can be `not-eligible` for, and what it means to a reader."""

CHEST_WORDS = ("CHEST", "THORAX", "LUNG", "胸")
FRONTAL_VIEWS = frozenset({"AP", "PA", "PA AP", "AP PA"})
FRONTAL_VIEW_CODES = frozenset({"399348003", "272479007", "R-10206", "R-10214", "R-10236"})
"""SNOMED CT / SRT codes of AP and PA projections (DICOM CID 4010)."""
LATERAL_ORIENTATIONS = frozenset({"A", "P", "AF", "PF", "AH", "PH"})
"""Row directions in PatientOrientation that belong to a lateral view: a frontal row runs left-right."""


@dataclass(frozen=True)
class IntendedUse:
    """The part of the model card that the header gate enforces."""

    minimum_age_years: float = 18.0
    accept_unknown_age: bool = True
    modalities: tuple[str, ...] = ("CR", "DX")
    sop_classes: tuple[str, ...] = (CR_IMAGE, DX_FOR_PRESENTATION)


def header_refusal(facts: InstanceFacts, use: IntendedUse) -> str | None:
    """
    The first reason in `REASONS` why *facts* may not be assessed, or None.

    An empty attribute is not a refusal (many archives leave body part and view empty); the pixel gate decides then.
    """
    if facts.made_by_us:
        return "own-output"
    if facts.modality not in use.modalities:
        return "modality"
    if facts.sop_class_uid == DX_FOR_PROCESSING or facts.presentation_intent.upper() == "FOR PROCESSING":
        return "for-processing"
    if facts.sop_class_uid not in use.sop_classes:
        return "sop-class"
    if not facts.has_pixels:
        return "no-pixels"
    if facts.number_of_frames > 1:
        return "multi-frame"
    if not facts.photometric_interpretation.startswith("MONOCHROME"):
        return "colour"
    if "SECONDARY" in (part.upper() for part in facts.image_type[1:2]) and facts.burned_in_annotation.upper() == "YES":
        return "secondary-capture"
    if facts.body_part and not any(word in facts.body_part.upper() for word in CHEST_WORDS):
        return "body-part"
    if not _may_be_frontal(facts):
        return "not-frontal"
    if facts.age_years is None:
        return None if use.accept_unknown_age else "age-unknown"
    return "age-below-limit" if facts.age_years < use.minimum_age_years else None


def study_refusal(reasons: Iterable[str]) -> str:
    """One reason for a study none of whose instances can be assessed: the shared one, or that none is frontal."""
    distinct = set(reasons) - {"own-output"}
    return distinct.pop() if len(distinct) == 1 else "no-frontal-instance"


def _may_be_frontal(facts: InstanceFacts) -> bool:
    if facts.view_position and facts.view_position.upper() not in FRONTAL_VIEWS:
        return False
    if facts.view_code and facts.view_code not in FRONTAL_VIEW_CODES:
        return False
    if facts.view_position or facts.view_code:
        return True
    return not (facts.patient_orientation and facts.patient_orientation[0].upper() in LATERAL_ORIENTATIONS)
