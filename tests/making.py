"""Valid things by default; a test names only what matters."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any
from uuid import uuid4

from triage.domain.finding import Assessment, ChestClass, Lungs, ModelIdentity, Observation
from triage.domain.imaging import InstanceFacts, Patient, SeenInstance, StudyFacts
from triage.domain.order import Code, Order, OrderAction, OrderEvent, RequestedPriority

NOON = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
CLASSIFIER = ModelIdentity("chest", "0.1", "a" * 64, "b" * 64)
SEGMENTER = ModelIdentity("lungs", "0.1", "c" * 64, "d" * 64)


def make_uid() -> str:
    """A new UUID-derived UID (PS3.5 B.2)."""
    return f"2.25.{uuid4().int}"


def make_patient(**changes: Any) -> Patient:
    """An invented adult."""
    return replace(
        Patient("P-0001", "HOSP", "Honmiya^Tarou=本宮^太郎=もとみや^たろう", date(1961, 4, 1), "M"), **changes
    )


def make_order(**changes: Any) -> Order:
    """A routine chest radiograph order."""
    whole = Order(
        patient=make_patient(),
        placer_order_number="PL-1",
        filler_order_number="FI-1",
        accession_number="ACC-1",
        issuer_of_accession="RIS",
        procedure=(Code("36643-5", "LN", "XR Chest 2 Views"),),
        requested_priority=RequestedPriority.ROUTINE,
        scheduled_at=NOON,
    )
    return replace(whole, **changes)


def make_event(action: OrderAction = OrderAction.PLACE, **changes: Any) -> OrderEvent:
    """An order message's content."""
    return OrderEvent(action, make_order(**changes))


def make_study(**changes: Any) -> StudyFacts:
    """A study of one DX instance that answers `make_order()`."""
    whole = StudyFacts(
        study_instance_uid=make_uid(),
        patient=make_patient(),
        accession_number="ACC-1",
        issuer_of_accession="RIS",
        study_at=NOON,
        modalities=("DX",),
        instance_count=1,
    )
    return replace(whole, **changes)


def make_seen(**changes: Any) -> SeenInstance:
    """One instance as the archive lists it."""
    whole = SeenInstance(make_uid(), make_uid(), "1.2.840.10008.5.1.4.1.1.1.1", "DX")
    return replace(whole, **changes)


def make_facts(**changes: Any) -> InstanceFacts:
    """The header facts of an eligible frontal radiograph."""
    whole = InstanceFacts(
        study_instance_uid=make_uid(),
        series_instance_uid=make_uid(),
        sop_instance_uid=make_uid(),
        sop_class_uid="1.2.840.10008.5.1.4.1.1.1.1",
        modality="DX",
        presentation_intent="FOR PRESENTATION",
        body_part="CHEST",
        view_position="PA",
        image_type=("ORIGINAL", "PRIMARY"),
        photometric_interpretation="MONOCHROME2",
        age_years=61.0,
        rows=512,
        columns=512,
    )
    return replace(whole, **changes)


def make_assessment(*, covid: float = 0.9, threshold: float = 0.5, **changes: Any) -> Assessment:
    """An assessment; flagged by default."""
    rest = (1 - covid) / 2
    whole = Assessment(
        study_instance_uid=make_uid(),
        series_instance_uid=make_uid(),
        sop_instance_uid=make_uid(),
        observations=(
            Observation(ChestClass.NORMAL, rest),
            Observation(ChestClass.PNEUMONIA, rest),
            Observation(ChestClass.COVID, covid, threshold),
        ),
        lungs=Lungs((((0.2, 0.2), (0.8, 0.2), (0.8, 0.4), (0.2, 0.4)), ((0.2, 0.6), (0.8, 0.6), (0.8, 0.8))), 0.24),
        gate_score=3.0,
        gate_limit=9.0,
        classifier=CLASSIFIER,
        segmenter=SEGMENTER,
        assessed_at=NOON,
        activation_outside=0.12,
    )
    return replace(whole, **changes)
