"""The header gate as a table: one change to an adult's PA chest radiograph, and what the gate says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from triage.domain.eligibility import (
    CR_IMAGE,
    DX_FOR_PRESENTATION,
    DX_FOR_PROCESSING,
    REASONS,
    IntendedUse,
    header_refusal,
    study_refusal,
)
from triage.domain.imaging import InstanceFacts

CHEST_PA = InstanceFacts(
    study_instance_uid="1.2.1",
    series_instance_uid="1.2.2",
    sop_instance_uid="1.2.3",
    sop_class_uid=DX_FOR_PRESENTATION,
    modality="DX",
    presentation_intent="FOR PRESENTATION",
    body_part="CHEST",
    view_position="PA",
    image_type=("ORIGINAL", "PRIMARY"),
    photometric_interpretation="MONOCHROME2",
    age_years=61.0,
    rows=2000,
    columns=2000,
)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"modality": "CR", "sop_class_uid": CR_IMAGE, "presentation_intent": ""},
        {"photometric_interpretation": "MONOCHROME1"},
        {"body_part": ""},
        {"body_part": "Thorax"},
        {"body_part": "胸部"},
        {"body_part": "LUNG"},
        {"view_position": "AP"},
        {"view_position": "ap"},
        {"view_position": ""},
        {"view_position": "", "view_code": "399348003"},
        {"view_position": "", "view_code": "272479007"},
        {"view_position": "", "patient_orientation": ("L", "F")},
        {"view_position": "", "patient_orientation": ("R", "F")},
        {"view_position": "PA", "patient_orientation": ("P", "F")},
        {"image_type": ("DERIVED", "SECONDARY"), "burned_in_annotation": "NO"},
        {"image_type": ("ORIGINAL", "PRIMARY"), "burned_in_annotation": "YES"},
        {"image_type": ()},
        {"age_years": None},
        {"age_years": 18.0},
        {"age_years": 104.0},
        {"lossy": True},
        {"rows": 0, "columns": 0},
    ],
)
def test_a_frontal_chest_radiograph_of_an_adult_may_be_assessed(changes: dict[str, Any]) -> None:
    assert header_refusal(replace(CHEST_PA, **changes), IntendedUse()) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"made_by_us": True}, "own-output"),
        ({"modality": "CT"}, "modality"),
        ({"modality": "SR", "has_pixels": False}, "modality"),
        ({"modality": ""}, "modality"),
        ({"sop_class_uid": DX_FOR_PROCESSING}, "for-processing"),
        ({"presentation_intent": "FOR PROCESSING"}, "for-processing"),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.7"}, "sop-class"),
        ({"has_pixels": False}, "no-pixels"),
        ({"number_of_frames": 2}, "multi-frame"),
        ({"photometric_interpretation": "RGB"}, "colour"),
        ({"photometric_interpretation": "PALETTE COLOR"}, "colour"),
        ({"photometric_interpretation": ""}, "colour"),
        ({"image_type": ("DERIVED", "SECONDARY"), "burned_in_annotation": "YES"}, "secondary-capture"),
        ({"body_part": "HIP"}, "body-part"),
        ({"body_part": "EXTREMITY"}, "body-part"),
        ({"body_part": "ABDOMEN"}, "body-part"),
        ({"view_position": "LL"}, "not-frontal"),
        ({"view_position": "LATERAL"}, "not-frontal"),
        ({"view_position": "", "view_code": "399067008"}, "not-frontal"),
        ({"view_position": "PA", "view_code": "399067008"}, "not-frontal"),
        ({"view_position": "", "patient_orientation": ("P", "F")}, "not-frontal"),
        ({"view_position": "", "patient_orientation": ("A", "F")}, "not-frontal"),
        ({"age_years": 17.99}, "age-below-limit"),
        ({"age_years": 0.01}, "age-below-limit"),
    ],
)
def test_anything_else_is_refused_by_name(changes: dict[str, Any], reason: str) -> None:
    assert header_refusal(replace(CHEST_PA, **changes), IntendedUse()) == reason
    assert reason in REASONS


def test_the_card_may_ask_for_a_known_age_and_a_higher_one() -> None:
    assert header_refusal(replace(CHEST_PA, age_years=None), IntendedUse(accept_unknown_age=False)) == "age-unknown"
    assert header_refusal(CHEST_PA, IntendedUse(minimum_age_years=65)) == "age-below-limit"


@pytest.mark.parametrize(
    ("reasons", "reason"),
    [
        ([], "no-frontal-instance"),
        (["body-part"], "body-part"),
        (["body-part", "body-part"], "body-part"),
        (["not-frontal", "body-part"], "no-frontal-instance"),
        (["own-output", "undecodable"], "undecodable"),
        (["own-output"], "no-frontal-instance"),
    ],
)
def test_a_study_is_refused_for_its_shared_reason(reasons: list[str], reason: str) -> None:
    assert study_refusal(reasons) == reason
    assert reason in REASONS
