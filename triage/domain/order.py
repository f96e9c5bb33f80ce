"""What was asked, for whom and how urgently; HL7 v2 and FHIR meet here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from triage.domain.imaging import Patient


class RequestedPriority(StrEnum):
    """The clinician's priority, in our words; each dialect translates into these at its edge."""

    STAT = "stat"
    URGENT = "urgent"
    ROUTINE = "routine"


class OrderAction(StrEnum):
    """What a message asks us to do with an order."""

    PLACE = "place"
    CHANGE = "change"
    CANCEL = "cancel"
    HOLD = "hold"
    RELEASE = "release"
    COMPLETE = "complete"


class OrderStatus(StrEnum):
    """Where an order stands."""

    ACTIVE = "active"
    ON_HOLD = "on-hold"
    CANCELLED = "cancelled"
    COMPLETED = "completed"


ORDER_TRANSITIONS: Mapping[OrderStatus, frozenset[OrderStatus]] = {
    OrderStatus.ACTIVE: frozenset({OrderStatus.ON_HOLD, OrderStatus.CANCELLED, OrderStatus.COMPLETED}),
    OrderStatus.ON_HOLD: frozenset({OrderStatus.ACTIVE, OrderStatus.CANCELLED, OrderStatus.COMPLETED}),
    OrderStatus.COMPLETED: frozenset({OrderStatus.ACTIVE, OrderStatus.CANCELLED}),
    OrderStatus.CANCELLED: frozenset({OrderStatus.ACTIVE}),
}
"""Allowed moves; an order is cancelled by mistake often enough that it may come back."""

STATUS_AFTER: Mapping[OrderAction, OrderStatus] = {
    OrderAction.PLACE: OrderStatus.ACTIVE,
    OrderAction.CHANGE: OrderStatus.ACTIVE,
    OrderAction.RELEASE: OrderStatus.ACTIVE,
    OrderAction.HOLD: OrderStatus.ON_HOLD,
    OrderAction.CANCEL: OrderStatus.CANCELLED,
    OrderAction.COMPLETE: OrderStatus.COMPLETED,
}


@dataclass(frozen=True)
class Code:
    """One coded concept as sent; *system* is a FHIR URI or the HL7 table mnemonic (LN, SCT, L, 99...)."""

    value: str
    system: str = ""
    display: str = ""


@dataclass(frozen=True)
class Order:
    """
    One imaging request.

    Attributes:
        accession_number: the request's number in the department (OBR-18, IPC-1, identifier type ACSN).
        study_instance_uid: where the sender already fixed it (ZDS-1, IPC-3).
        service_request: `ServiceRequest/ID` on the FHIR server it came from, or "".
        modality: where named (IPC-5, OBR-24), else "".
    """

    patient: Patient
    placer_order_number: str = field(default="", repr=False)
    filler_order_number: str = field(default="", repr=False)
    accession_number: str = field(default="", repr=False)
    issuer_of_accession: str = ""
    study_instance_uid: str = ""
    procedure: tuple[Code, ...] = ()
    modality: str = ""
    requested_priority: RequestedPriority = RequestedPriority.ROUTINE
    scheduled_at: datetime | None = None
    service_request: str = ""

    @property
    def key(self) -> str:
        """
        What makes two messages speak of the same order: accession + issuer, else filler, else placer number.

        The accession comes first because it is what HL7 and FHIR senders of one department share.
        """
        if self.accession_number:
            return f"accession:{self.issuer_of_accession}:{self.accession_number}"
        if self.filler_order_number:
            return f"filler:{self.filler_order_number}"
        if self.placer_order_number:
            return f"placer:{self.placer_order_number}"
        return f"request:{self.service_request}" if self.service_request else ""


@dataclass(frozen=True)
class OrderEvent:
    """One order message, translated: what to do, and the order as the sender now sees it."""

    action: OrderAction
    order: Order


CHEST_RADIOGRAPH_CODES: Mapping[str, str] = {
    # LOINC
    "36643-5": "XR Chest 2 Views",
    "36554-4": "XR Chest Single view",
    "36572-6": "XR Chest AP",
    "36589-0": "Portable XR Chest AP single view",
    "24632-2": "Portable XR Chest Views AP",
    "24648-8": "XR Chest PA upright",
    "24647-0": "XR Chest PA and Lateral upright",
    "36687-2": "XR Chest AP and Lateral",
    "24642-1": "XR Chest AP and PA upright",
    "24640-5": "XR Chest Apical lordotic",
    "42272-5": "XR Chest PA and Lateral",
    # CPT
    "71045": "Radiologic examination, chest; single view",
    "71046": "Radiologic examination, chest; 2 views",
}
"""Codes that ask for a chest radiograph (STANDARDS 4.6)."""

OTHER_PROCEDURE_CODES: Mapping[str, str] = {"24627-2": "CT Chest"}
"""Codes that mention the chest and are not radiographs."""

_CHEST = re.compile(r"\b(chest|thorax|thoracic|cxr|lung)|胸部|胸", re.IGNORECASE)
_RADIOGRAPH = re.compile(
    r"\b(xr|cr|dx|x-?ray|radiograph\w*|cxr|rx|pa|ap|portable|views?)\b|単純|撮影|X線|Ｘ線|レントゲン", re.IGNORECASE
)
_OTHER = re.compile(
    r"\b(ct|mri?|mrt|us|ultraso\w*|pet|nm|angio\w*|biopsy|echo\w*|spine)\b|超音波|造影|断層", re.IGNORECASE
)


def asks_for_chest_radiograph(order: Order, local_codes: frozenset[str] = frozenset()) -> bool:
    """
    Whether *order* asks for a chest radiograph: a known code, a code the site names, or the words of the procedure.

    Words decide only where no code does: the chest must be named, and no other modality.
    """
    values = {code.value for code in order.procedure}
    if values & (CHEST_RADIOGRAPH_CODES.keys() | local_codes):
        return True
    if values & OTHER_PROCEDURE_CODES.keys():
        return False
    text = " ".join(part for code in order.procedure for part in (code.value, code.display))
    text = text.replace("_", " ")
    if not _CHEST.search(text) or _OTHER.search(text):
        return False
    return order.modality in {"CR", "DX", "RG"} or bool(_RADIOGRAPH.search(text))
