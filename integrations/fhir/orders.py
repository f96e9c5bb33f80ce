"""
Theirs to ours: FHIR ServiceRequest and Patient to `OrderEvent`.

Resources are read as plain JSON with checks of our own, because an EHR may send extensions and elements that a strict
model refuses. What is needed and unreadable is named by its path (`ServiceRequest.identifier[2].value`); no value of
the message stands in an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, time, tzinfo
from typing import Any

from integrations.fhir import codes
from integrations.fhir.site import FhirSite, issuer_of
from triage.domain.errors import MalformedMessage
from triage.domain.imaging import Patient
from triage.domain.order import Code, Order, OrderAction, OrderEvent, RequestedPriority

Resource = Mapping[str, Any]
PatientLookup = Callable[[str], Resource | None]
"""From a reference (`Patient/7`) to the Patient resource, or None where this server holds none."""

ACTION_OF_STATUS: Mapping[str, OrderAction] = {
    "active": OrderAction.PLACE,
    "on-hold": OrderAction.HOLD,
    "revoked": OrderAction.CANCEL,
    "entered-in-error": OrderAction.CANCEL,
    "completed": OrderAction.COMPLETE,
}
"""FHIR request-status; `draft` and `unknown` are no orders yet and are refused."""

PRIORITY_OF: Mapping[str, RequestedPriority] = {
    "stat": RequestedPriority.STAT,
    "asap": RequestedPriority.URGENT,
    "urgent": RequestedPriority.URGENT,
    "routine": RequestedPriority.ROUTINE,
    "": RequestedPriority.ROUTINE,
}
"""FHIR request-priority; asap ranks above urgent there, and neither means "drop everything" as stat does."""

SEX_OF = {"male": "M", "female": "F", "other": "O"}
GROUP_OF_REPRESENTATION = {"ABC": 0, "IDE": 1, "SYL": 2}
"""HL7 v2 table 4000 to the place among DICOM's component groups (PS3.5 6.2.1.1)."""

_UID = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+")
_IDEOGRAPH = re.compile(r"[々㐀-䶿一-鿿豈-﫿]")
_SYLLABLE = re.compile(r"[぀-ヿｦ-ﾟ]")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


def order_event(request: Resource, lookup: PatientLookup, site: FhirSite) -> OrderEvent:
    """
    Translate one ServiceRequest.

    Args:
        lookup: asked once for the subject's reference; a contained Patient needs no lookup.
    Raises:
        MalformedMessage: not an order for us to act on (draft, a plan, do-not-perform), or unreadable; says where.
    """
    if request.get("resourceType") != "ServiceRequest":
        raise MalformedMessage("not a ServiceRequest", "resourceType")
    action = _action(request)
    accession_number, issuer_of_accession = _accession(request, site)
    priority = _text(request.get("priority")).lower()
    if priority not in PRIORITY_OF:
        raise MalformedMessage("priority not of the FHIR table", "ServiceRequest.priority")
    request_id = _text(request.get("id"))
    return OrderEvent(
        action,
        Order(
            patient=_subject(request, lookup, site),
            placer_order_number=_typed(request, codes.PLACER),
            filler_order_number=_typed(request, codes.FILLER),
            accession_number=accession_number,
            issuer_of_accession=issuer_of_accession,
            study_instance_uid=_study_instance_uid(request),
            procedure=_procedure(request),
            modality=_modality(request),
            requested_priority=PRIORITY_OF[priority],
            scheduled_at=_scheduled_at(request, site.zone),
            service_request=f"ServiceRequest/{request_id}" if request_id else "",
        ),
    )


def document(request: Resource, patient: Resource | None) -> bytes:
    """One JSON document (a collection Bundle) holding all an order was read from, so that replay needs no server."""
    entries = [{"resource": request}, *([{"resource": patient}] if patient is not None else [])]
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    return json.dumps(bundle, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode("utf-8", "replace")


def from_document(raw: bytes, site: FhirSite) -> OrderEvent:
    """
    Read back what `document` wrote, or one bare ServiceRequest.

    Raises:
        MalformedMessage: not JSON, or not such a document, or what `order_event` raises.
    """
    try:
        stored = json.loads(raw)
    except (ValueError, RecursionError):
        raise MalformedMessage("not JSON", "the document") from None
    stored = _dict(stored)
    if stored.get("resourceType") != "Bundle":
        return order_event(stored, lambda reference: None, site)
    resources = [_dict(_dict(entry).get("resource")) for entry in _list(stored.get("entry"))]
    requests = [r for r in resources if r.get("resourceType") == "ServiceRequest"]
    patients = [r for r in resources if r.get("resourceType") == "Patient"]
    if len(requests) != 1 or len(patients) > 1:
        raise MalformedMessage("not one ServiceRequest with at most one Patient", "Bundle.entry")
    return order_event(requests[0], lambda reference: patients[0] if patients else None, site)


def patient_of(resource: Resource, site: FhirSite) -> Patient:
    """
    Translate a Patient resource; a birth date without its day is left out rather than guessed.

    Raises:
        MalformedMessage: no identifier with a value, or a modifier extension nobody explained to us.
    """
    if resource.get("resourceType") != "Patient":
        raise MalformedMessage("the subject is not a Patient", "ServiceRequest.subject")
    if resource.get("modifierExtension"):
        raise MalformedMessage("modifier extension not understood", "Patient.modifierExtension")
    chosen = _patient_identifier(resource, site)
    return Patient(
        patient_id=_text(chosen.get("value")),
        issuer=_issuer(chosen, site.patient_systems),
        name=person_name(_list(resource.get("name"))),
        birth_date=_birth_date(resource),
        sex=SEX_OF.get(_text(resource.get("gender")), ""),
    )


def person_name(names: list[Any]) -> str:
    """
    DICOM person name, alphabetic=ideographic=phonetic, of FHIR HumanNames.

    The representation extension says which group a name belongs to; a name without it goes by its letters. The first
    official, else the first usual, else the first other name of each group counts; old and maiden names do not.
    """
    groups = ["", "", ""]
    rank = {"official": 0, "usual": 1}
    current = [n for n in map(_dict, names) if _text(n.get("use")) not in {"old", "maiden", "nickname", "anonymous"}]
    for name in sorted(current, key=lambda n: rank.get(_text(n.get("use")), 2)):
        written = _components(name)
        group = _group(name, written)
        groups[group] = groups[group] or written
    return "=".join(groups).rstrip("=")


def _action(request: Resource) -> OrderAction:
    status = _text(request.get("status"))
    if status not in ACTION_OF_STATUS:
        raise MalformedMessage("status is not an order's (draft, unknown, or no FHIR status)", "ServiceRequest.status")
    action = ACTION_OF_STATUS[status]
    if action is OrderAction.CANCEL:
        return action  # whatever else it says: taking an order back is always safe
    if _text(request.get("intent")) not in codes.REQUEST_INTENTS:
        raise MalformedMessage("intent is not an order's", "ServiceRequest.intent")
    if request.get("doNotPerform"):
        raise MalformedMessage("asks that something be not performed", "ServiceRequest.doNotPerform")
    if request.get("modifierExtension"):
        raise MalformedMessage("modifier extension not understood", "ServiceRequest.modifierExtension")
    version = _text(_dict(request.get("meta")).get("versionId"))
    if action is OrderAction.PLACE and version.isdigit() and version != "1":
        return OrderAction.CHANGE
    return action


def _identifiers(resource: Resource) -> Iterator[tuple[int, dict[str, Any]]]:
    for index, entry in enumerate(_list(resource.get("identifier"))):
        if _text(_dict(entry).get("value")):
            yield index, _dict(entry)


def _is_of_type(identifier: Resource, wanted: codes.Coded) -> bool:
    return any(
        _text(_dict(coding).get("code")) == wanted.code and _text(_dict(coding).get("system")) in {wanted.system, ""}
        for coding in _list(_dict(identifier.get("type")).get("coding"))
    )


def _typed(request: Resource, wanted: codes.Coded) -> str:
    return next((_text(i.get("value")) for _, i in _identifiers(request) if _is_of_type(i, wanted)), "")


def _accession(request: Resource, site: FhirSite) -> tuple[str, str]:
    """(accession number, issuer): by type ACSN, else by a system the site named; UIDs are no accession numbers."""
    found: dict[tuple[str, str], None] = {}
    known_systems = set(site.accession_systems.values())
    for index, identifier in _identifiers(request):
        is_accession = _is_of_type(identifier, codes.ACCESSION)
        system = _text(identifier.get("system"))
        if is_accession and system == codes.DICOM_UID:
            raise MalformedMessage("accession number under the DICOM UID system", f"ServiceRequest.identifier[{index}]")
        if is_accession or system in known_systems:
            found[_text(identifier.get("value")), _issuer(identifier, site.accession_systems)] = None
    if len(found) > 1:
        raise MalformedMessage(f"{len(found)} accession numbers in one request", "ServiceRequest.identifier")
    return next(iter(found), ("", ""))


def _issuer(identifier: Resource, systems: Mapping[str, str]) -> str:
    """Who gave the number: by the site's table of systems, else the assigner's name, else the system itself."""
    system = _text(identifier.get("system"))
    assigner = _text(_dict(identifier.get("assigner")).get("display"))
    if system and (system in systems.values() or not assigner):
        return issuer_of(system, systems)
    return assigner


def _study_instance_uid(request: Resource) -> str:
    for index, identifier in _identifiers(request):
        if _text(identifier.get("system")) == codes.DICOM_UID:
            uid = _text(identifier.get("value")).removeprefix("urn:oid:")
            if not _UID.fullmatch(uid) or len(uid) > 64:
                raise MalformedMessage("not a DICOM UID", f"ServiceRequest.identifier[{index}].value")
            return uid
    return ""


def _procedure(request: Resource) -> tuple[Code, ...]:
    """The codings of `code`; a text without codings is a code without value, so that its words still count."""
    concept = _dict(request.get("code"))
    text = _text(concept.get("text"))
    found = tuple(
        Code(_text(c.get("code")), _text(c.get("system")), _text(c.get("display")) or text)
        for c in map(_dict, _list(concept.get("coding")))
        if _text(c.get("code")) or _text(c.get("display"))
    )
    return found or ((Code("", "", text),) if text else ())


def _modality(request: Resource) -> str:
    """Where a DICOM modality is named among the order details or categories (JP Core ImagingOrder does so)."""
    for element in ("orderDetail", "category"):
        for concept in map(_dict, _list(request.get(element))):
            for coding in map(_dict, _list(concept.get("coding"))):
                if _text(coding.get("system")) == codes.DCM and re.fullmatch("[A-Z]{2,4}", _text(coding.get("code"))):
                    return _text(coding.get("code"))
    return ""


def _scheduled_at(request: Resource, zone: tzinfo) -> datetime | None:
    element, value = "occurrenceDateTime", _text(request.get("occurrenceDateTime"))
    if not value:
        element, value = "occurrencePeriod.start", _text(_dict(request.get("occurrencePeriod")).get("start"))
    if not value:
        events = _list(_dict(request.get("occurrenceTiming")).get("event"))
        element, value = "occurrenceTiming.event[0]", _text(events[0]) if events else ""
    return instant(value, zone, f"ServiceRequest.{element}")


def instant(value: str, zone: tzinfo, where: str) -> datetime | None:
    """
    A FHIR dateTime in UTC; a day is its first minute in *zone*, a month or a year is no instant and gives None.

    Raises:
        MalformedMessage: not a dateTime.
    """
    if re.fullmatch(r"(\d{4}(-\d\d)?)?", value):
        return None
    try:
        if _DATE.fullmatch(value):
            at = datetime.combine(date.fromisoformat(value), time(), zone)
        else:
            at = datetime.fromisoformat(value)
            at = at if at.tzinfo else at.replace(tzinfo=zone)
        return at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise MalformedMessage("not a FHIR dateTime", where) from None


def _subject(request: Resource, lookup: PatientLookup, site: FhirSite) -> Patient:
    subject = _dict(request.get("subject"))
    reference = _text(subject.get("reference"))
    if reference.startswith("#"):
        contained = [_dict(c) for c in _list(request.get("contained")) if _text(_dict(c).get("id")) == reference[1:]]
        found: Resource | None = contained[0] if contained else None
    else:
        found = lookup(reference) if reference else None
    if found is not None:
        return patient_of(found, site)
    identifier = _dict(subject.get("identifier"))
    if not _text(identifier.get("value")):
        raise MalformedMessage("no patient found for the subject, and no identifier", "ServiceRequest.subject")
    return Patient(_text(identifier.get("value")), _issuer(identifier, site.patient_systems))


def _patient_identifier(resource: Resource, site: FhirSite) -> dict[str, Any]:
    known = set(site.patient_systems.values())

    def rank(identifier: dict[str, Any]) -> tuple[bool, bool, bool]:
        is_usual = _text(identifier.get("use")) in {"usual", "official"}
        is_known = _text(identifier.get("system")) in known
        return (not is_known, not _is_of_type(identifier, codes.MEDICAL_RECORD), not is_usual)

    current = [i for _, i in _identifiers(resource) if _text(i.get("use")) != "old"]
    if not current:
        raise MalformedMessage("no current identifier with a value", "Patient.identifier")
    return min(current, key=rank)


def _birth_date(resource: Resource) -> date | None:
    """The day, or None where only month or year is known or the value is no date: an order does not depend on it."""
    value = _text(resource.get("birthDate"))
    try:
        return date.fromisoformat(value) if _DATE.fullmatch(value) else None
    except ValueError:
        return None


def _components(name: Resource) -> str:
    family = _component(name.get("family"))
    given = [_component(g) for g in _list(name.get("given")) if _component(g)]
    if not family and not given:
        text = _component(name.get("text"))
        is_japanese = bool(_IDEOGRAPH.search(text) or _SYLLABLE.search(text))
        family, _, first = text.partition(" ") if is_japanese else (text, "", "")
        given = [first] if first else []
    prefix = " ".join(_component(p) for p in _list(name.get("prefix")))
    suffix = " ".join(_component(s) for s in _list(name.get("suffix")))
    return "^".join((family, given[0] if given else "", " ".join(given[1:]), prefix, suffix)).rstrip("^")


def _component(value: Any) -> str:
    """One name component without DICOM's delimiters (PS3.5 6.2.1.1); the ideographic space becomes a plain one."""
    return " ".join(re.sub(r"[\^=\\\x00-\x1f]", " ", _text(value)).split())


def _group(name: Resource, written: str) -> int:
    for extension in map(_dict, _list(name.get("extension"))):
        if _text(extension.get("url")) == codes.NAME_REPRESENTATION:
            group = GROUP_OF_REPRESENTATION.get(_text(extension.get("valueCode")))
            if group is not None:
                return group
    if _IDEOGRAPH.search(written):
        return 1
    return 2 if _SYLLABLE.search(written) else 0


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    """A string without what PostgreSQL cannot store: NUL, and halves of surrogate pairs (JSON allows both escaped)."""
    return re.sub("[\x00\ud800-\udfff]", "", value).strip() if isinstance(value, str) else ""
