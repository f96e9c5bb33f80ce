"""Ours → theirs: an `Order` as ORM^O01 or OMI^O23, for the demo's sender and for tests of `orders`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from integrations.hl7.charset import encode
from integrations.hl7.names import xpn
from integrations.hl7.segments import escape
from triage.domain.imaging import Patient
from triage.domain.order import Order, RequestedPriority

STATUSES: Mapping[str, str] = {"NW": "SC", "XO": "SC", "CA": "CA", "DC": "CA", "SC": "CM", "HD": "HD", "RL": "SC"}
"""The order status (ORC-5) that goes with an order control where the caller names none."""

_VERSIONS: Mapping[str, str] = {"ORM^O01": "2.3.1", "OMI^O23": "2.5.1"}
_PRIORITIES: Mapping[RequestedPriority, str] = {
    RequestedPriority.STAT: "S",
    RequestedPriority.URGENT: "A",
    RequestedPriority.ROUTINE: "R",
}


def order_message(
    order: Order,
    *,
    message: str = "ORM^O01",
    charset: str = "ASCII",
    control_id: str,
    sent_at: datetime,
    order_control: str = "NW",
    order_status: str | None = None,
    sending_application: str = "RIS",
    sending_facility: str = "DEMO",
) -> bytes:
    """
    Write one order.

    Args:
        message: "ORM^O01" (2.3.1, study in ZDS) or "OMI^O23" (2.5.1, study in IPC, timing in TQ1).
        charset: MSH-18 as sent, "ISO IR14~ISO IR87" for two; left out for ASCII (IHE ITI TF-2x C.2.2).
        order_status: ORC-5; by default the one of `STATUSES`.
    Returns:
        The message without MLLP framing, segments ended by CR. The first two codes of the procedure fit in OBR-4.
    Raises:
        MalformedMessage: the charset lacks a character of the order.
    """
    imaging = message == "OMI^O23"
    structure = "^OMI_O23" if imaging else ""
    priority = _PRIORITIES[order.requested_priority]
    start = _instant(order.scheduled_at) if order.scheduled_at else ""
    accession = _identified(order.accession_number, order.issuer_of_accession)
    timing = "" if imaging else f"^^^{start}^^{priority}"
    study = escape(order.study_instance_uid)
    status = STATUSES.get(order_control, "") if order_status is None else order_status
    placer, filler = escape(order.placer_order_number), escape(order.filler_order_number)
    codes = "^".join(f"{escape(c.value)}^{escape(c.display)}^{escape(c.system)}" for c in order.procedure[:2])
    declared = "" if charset == "ASCII" else charset
    kind = ["", message + structure, escape(control_id), "P", _VERSIONS[message], *[""] * 5, declared]
    lines = [
        ["MSH", r"^~\&", escape(sending_application), escape(sending_facility), "TRIAGE", "", _instant(sent_at), *kind],
        _pid(order.patient),
        ["ORC", order_control, placer, filler, "", status, "", timing],
    ]
    if imaging:
        lines.append(["TQ1", "1", "", "", "", "", "", start, "", priority])
    lines.append(
        ["OBR", "1", placer, filler, codes, *[""] * 13, accession, *[""] * 5, escape(order.modality), "", "", timing]
    )
    if imaging:
        lines.append(["IPC", accession, "", study, "", escape(order.modality)])
    elif study:
        lines.append(["ZDS", f"{study}^^Application^DICOM"])
    return encode("".join("|".join(line).rstrip("|") + "\r" for line in lines), charset)


def _pid(patient: Patient) -> list[str]:
    number = f"{escape(patient.patient_id)}^^^{escape(patient.issuer)}^MR"
    born = f"{patient.birth_date:%Y%m%d}" if patient.birth_date else ""
    return ["PID", "1", "", number, "", xpn(patient.name), "", born, escape(patient.sex)]


def _identified(number: str, issuer: str) -> str:
    return f"{escape(number)}^{escape(issuer)}" if issuer else escape(number)


def _instant(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y%m%d%H%M%S}+0000"
