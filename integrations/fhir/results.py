"""
Ours to theirs: one `Result` to FHIR R4 Device, Observation, DiagnosticReport and Provenance, alone or as a transaction.

The same result gives the same bytes: every instant, identifier and id comes from the result, none from a clock. The
report is preliminary and separate from the radiologist's (STANDARDS 4.2); the AI is a device, which may not be the
performer of a report or an observation (FHIR R4 DiagnosticReport.performer), so the site's organization is.

Identifiers by which the receiving server recognises a repeat:
    Device            urn:ietf:rfc:3986 | urn:oid:2.25.N, N from the digests of weights and card
    Observation       urn:x-chest-triage:observation | RUN_ID-covid
    DiagnosticReport  urn:x-chest-triage:report | RUN_ID
    Provenance        no identifier in R4: tag urn:x-chest-triage:run | RUN_ID, with -withdrawn once taken back
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from html import escape
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid5

from fhir.resources.R4B import get_fhir_model_class
from pydantic import ValidationError

from integrations.fhir import codes
from integrations.fhir.site import FhirSite, identifier, system_of
from triage.domain.errors import MalformedMessage
from triage.domain.finding import ChestClass, ModelIdentity
from triage.domain.imaging import Patient
from triage.domain.result import Result

Resource = dict[str, Any]

DEVICE_NAMESPACE = UUID("5d3c54f1-8f1a-5c0e-9a38-0d6d8f0c1a11")
"""Our own UUID version 5 name space for devices; changing it would make every model look new."""

NOTE = "For prioritisation only; not a diagnosis; not-flagged does not exclude disease"

PROBABILITY_CODE: Mapping[ChestClass, codes.Coded] = {
    ChestClass.NORMAL: codes.PROBABILITY_NORMAL,
    ChestClass.PNEUMONIA: codes.PROBABILITY_PNEUMONIA,
    ChestClass.COVID: codes.PROBABILITY_COVID,
}
THRESHOLD_CODE: Mapping[ChestClass, codes.Coded] = {
    ChestClass.NORMAL: codes.THRESHOLD_NORMAL,
    ChestClass.PNEUMONIA: codes.THRESHOLD_PNEUMONIA,
    ChestClass.COVID: codes.THRESHOLD_COVID,
}
GENDER_OF = {"M": "male", "F": "female", "O": "other"}
REPRESENTATIONS = ("ABC", "IDE", "SYL")

REQUIRED_BINDINGS: Mapping[tuple[str, str], frozenset[str]] = {
    ("Observation", "status"): codes.OBSERVATION_STATUS,
    ("DiagnosticReport", "status"): codes.REPORT_STATUS,
    ("Device", "status"): codes.DEVICE_STATUS,
    ("Device", "deviceName.type"): codes.DEVICE_NAME_TYPE,
    ("Provenance", "entity.role"): codes.ENTITY_ROLE,
    ("Patient", "gender"): codes.GENDER,
}
PERFORMERS = frozenset({"Organization", "Practitioner", "PractitionerRole", "CareTeam"})
REFERENCE_TARGETS: Mapping[tuple[str, str], frozenset[str]] = {
    ("Observation", "subject"): frozenset({"Patient"}),
    ("Observation", "basedOn"): frozenset({"ServiceRequest"}),
    ("Observation", "derivedFrom"): frozenset({"ImagingStudy"}),
    ("Observation", "device"): frozenset({"Device"}),
    ("Observation", "performer"): PERFORMERS,
    ("DiagnosticReport", "subject"): frozenset({"Patient"}),
    ("DiagnosticReport", "basedOn"): frozenset({"ServiceRequest"}),
    ("DiagnosticReport", "performer"): PERFORMERS,
    ("DiagnosticReport", "result"): frozenset({"Observation"}),
    ("DiagnosticReport", "imagingStudy"): frozenset({"ImagingStudy"}),
    ("Provenance", "target"): frozenset({"Observation", "DiagnosticReport"}),
    ("Provenance", "agent.who"): frozenset({"Device"}),
    ("Provenance", "agent.onBehalfOf"): frozenset({"Organization"}),
    ("Provenance", "entity.what"): frozenset({"ImagingStudy"}),
}
"""What fhir.resources leaves unchecked (STANDARDS 4.1), for the elements written here; R4 allows at least these."""


def device_id(model: ModelIdentity) -> UUID:
    """The device's UUID: another one as soon as weights or card change (IHE AIR: a new UID for new weights)."""
    return uuid5(DEVICE_NAMESPACE, f"{model.weights_sha256}:{model.card_sha256}")


def report_id(result: Result) -> str:
    """Id of the DiagnosticReport at our own endpoint, and its identifier elsewhere."""
    return str(result.run_id)


def observation_id(result: Result) -> str:
    """Id of the Observation at our own endpoint, and its identifier elsewhere."""
    return f"{result.run_id}-covid"


def provenance_id(result: Result) -> str:
    """Id of the Provenance at our own endpoint."""
    return f"{result.run_id}-provenance"


def subject_of(result: Result) -> Patient:
    """
    Whom the result is about: as the study says, filled from its order where the study does not say.

    An order that came by FHIR names the issuer in the EHR's own words (its identifier system), so those are kept.
    """
    study = result.study.patient
    order = result.order.patient if result.order else Patient("")
    if not study.patient_id:
        return order
    ordered_issuer = order.issuer if order.patient_id == study.patient_id else ""
    is_fhir_order = result.order is not None and bool(result.order.service_request)
    return Patient(
        study.patient_id,
        (is_fhir_order and ordered_issuer) or study.issuer or ordered_issuer,
        study.name or order.name,
        study.birth_date or order.birth_date,
        study.sex or order.sex,
    )


def accession_of(result: Result) -> tuple[str, str]:
    """(accession number, issuer) as the order says, else the study; ("", "") where neither does."""
    if result.order and result.order.accession_number:
        return result.order.accession_number, result.order.issuer_of_accession
    return result.study.accession_number, result.study.issuer_of_accession


class FhirComposer:
    """Writes results as one site's FHIR resources: singly for our own endpoint, as a transaction for a server."""

    def __init__(self, site: FhirSite) -> None:
        self.site = site

    def device(self, model: ModelIdentity) -> Resource:
        """The Device of one model version."""
        versions = (
            (codes.MODEL_VERSION, model.version),
            (codes.WEIGHTS_DIGEST, model.weights_sha256),
            (codes.CARD_DIGEST, model.card_sha256),
        )
        resource: Resource = {
            "resourceType": "Device",
            "id": str(device_id(model)),
            "identifier": [{"system": codes.URI, "value": f"urn:oid:2.25.{device_id(model).int}"}],
            "status": "active",
            "deviceName": [{"name": model.name, "type": "model-name"}],
            "type": codes.CHEST_AI.concept,
            "version": [{"type": code.concept, "value": value} for code, value in versions if value],
        }
        if self.site.manufacturer:
            resource["manufacturer"] = self.site.manufacturer
        return checked(resource)

    def observations(self, result: Result, superseded_by: int | None = None) -> list[Resource]:
        """The Observation of suspected COVID with its numbers; a list, as further findings would join it."""
        words = self._conclusion(result, superseded_by)
        value = codes.FLAGGED if result.assessment.is_flagged else codes.NOT_FLAGGED
        resource: Resource = {
            "resourceType": "Observation",
            "id": observation_id(result),
            "text": _narrative(words),
            "identifier": [{"system": codes.OBSERVATION_IDENTIFIER, "value": observation_id(result)}],
            "status": _status(result),
            "category": [codes.IMAGING.concept],
            "code": codes.COVID_SUSPICION.concept,
            **self._context(result),
            "performer": [self._organization()],
            "valueCodeableConcept": value.concept,
            "note": [{"text": words}],
            "bodySite": codes.LUNG.concept,
            "derivedFrom": [_study_reference(result)],
            "device": {"reference": f"Device/{device_id(result.assessment.classifier)}"},
            "component": _components(result),
        }
        return [checked(resource)]

    def diagnostic_report(self, result: Result, superseded_by: int | None = None) -> Resource:
        """The preliminary report that carries the observation, its conclusion in plain words."""
        words = self._conclusion(result, superseded_by)
        resource: Resource = {
            "resourceType": "DiagnosticReport",
            "id": report_id(result),
            "text": _narrative(words),
            "identifier": [{"system": codes.REPORT_IDENTIFIER, "value": report_id(result)}],
            "status": _status(result),
            "category": [codes.RADIOLOGY.concept],
            "code": {"coding": [_procedure(result).coding], "text": "AI triage of a chest radiograph, preliminary"},
            **self._context(result),
            "performer": [self._organization()],
            "result": [{"reference": f"Observation/{observation_id(result)}"}],
            "imagingStudy": [_study_reference(result)],
            "conclusion": words,
        }
        return checked(resource)

    def provenance(self, result: Result) -> Resource:
        """Who made the result: both models, on behalf of the site, from the study."""
        models = ((codes.AUTHOR, result.assessment.classifier), (codes.ASSEMBLER, result.assessment.segmenter))
        recorded = result.last_updated if result.is_withdrawn else result.assessment.assessed_at
        resource: Resource = {
            "resourceType": "Provenance",
            "id": provenance_id(result),
            "meta": {"tag": [{"system": codes.RUN_TAG, "code": _provenance_tag(result)}]},
            "target": [
                {"reference": f"DiagnosticReport/{report_id(result)}"},
                {"reference": f"Observation/{observation_id(result)}"},
            ],
            "recorded": self._instant(recorded),
            "activity": (codes.NULLIFIED if result.is_withdrawn else codes.CREATED).concept,
            "agent": [
                {
                    "type": role.concept,
                    "who": {"reference": f"Device/{device_id(model)}"},
                    "onBehalfOf": self._organization(),
                }
                for role, model in models
            ],
            "entity": [{"role": "source", "what": _study_reference(result)}],
        }
        return checked(resource)

    def bundle(self, result: Result, previous: Result | None = None) -> bytes:
        """
        The transaction that tells a server of *result*, and that *previous* no longer counts.

        New resources are conditional creates, so a repeat changes nothing. A withdrawn result and a superseded
        previous run are conditional updates: where the server never saw them they arrive already marked.
        """
        entries: dict[str, Resource] = {}
        for one in (result, previous) if previous else (result,):
            for model in (one.assessment.classifier, one.assessment.segmenter):
                device = self.device(model)
                entries[f"Device/{device['id']}"] = _created(device, _token(device["identifier"][0]))
        patient = self._patient(result)
        if patient:
            entries["Patient"] = _created(patient, _token(patient["identifier"][0]))
        write = _updated if result.is_withdrawn else _created
        report = self.diagnostic_report(result)
        for resource in (*self.observations(result), report):
            entries[f"{resource['resourceType']}/{resource['id']}"] = write(resource, _token(resource["identifier"][0]))
        provenance = self.provenance(result)
        if previous is not None and not previous.is_withdrawn and not result.is_withdrawn:
            replaced = (
                *self.observations(previous, superseded_by=result.run_number),
                self.diagnostic_report(previous, superseded_by=result.run_number),
            )
            for resource in replaced:
                resource["status"] = "cancelled"
                reference = f"{resource['resourceType']}/{resource['id']}"
                entries[reference] = _updated(resource, _token(resource["identifier"][0]))
                provenance["target"].append({"reference": reference})
            provenance["activity"] = codes.REVISED.concept
        tag = provenance["meta"]["tag"][0]
        condition = f"_tag={quote(tag['system'] + '|' + tag['code'], safe='')}"
        entries["Provenance"] = _created(provenance, condition)
        return _transaction(entries)

    def patient_identifier(self, result: Result) -> dict[str, object] | None:
        """The identifier by which *result* names its patient, or None where it names none."""
        subject = subject_of(result)
        if not subject.patient_id.strip():
            return None
        return identifier(subject.patient_id.strip(), subject.issuer, self.site.patient_systems)

    def accession_identifier(self, result: Result) -> dict[str, object] | None:
        """The identifier by which *result* names the request it answers, or None where it has no accession number."""
        number, issuer = accession_of(result)
        if not number.strip():
            return None
        concept = {"coding": [codes.ACCESSION.coding]}
        return {"type": concept, **identifier(number.strip(), issuer, self.site.accession_systems)}

    def _context(self, result: Result) -> Resource:
        """What report and observation share: request, subject, when acquired, when issued."""
        context: Resource = {}
        accession = self.accession_identifier(result)
        if self.site.holds_orders and result.order and result.order.service_request:
            context["basedOn"] = [{"reference": result.order.service_request}]
        elif accession:
            context["basedOn"] = [{"type": "ServiceRequest", "identifier": accession}]
        patient = self.patient_identifier(result)
        if patient:
            context["subject"] = {"type": "Patient", "identifier": patient}
        if result.study.study_at is not None:
            context["effectiveDateTime"] = self._instant(result.study.study_at)
        issued = result.last_updated if result.is_withdrawn else result.assessment.assessed_at
        context["issued"] = self._instant(issued)
        return context

    def _organization(self) -> Resource:
        reference: Resource = {"type": "Organization", "display": self.site.organization}
        if self.site.organization_identifier:
            system, value = self.site.organization_identifier
            reference["identifier"] = {"system": system, "value": value}
        return reference

    def _patient(self, result: Result) -> Resource | None:
        """The Patient to be created where the server has none, only if the site allows and the system is known."""
        subject = subject_of(result)
        token = self.patient_identifier(result)
        if not self.site.creates_patients or not token or not system_of(subject.issuer, self.site.patient_systems):
            return None
        resource: Resource = {"resourceType": "Patient", "identifier": [token]}
        names = human_names(subject.name)
        if names:
            resource["name"] = names
        if subject.sex in GENDER_OF:
            resource["gender"] = GENDER_OF[subject.sex]
        if subject.birth_date:
            resource["birthDate"] = subject.birth_date.isoformat()
        return checked(resource)

    def _instant(self, at: datetime) -> str:
        return at.astimezone(self.site.zone).isoformat(timespec="milliseconds")

    def _conclusion(self, result: Result, superseded_by: int | None) -> str:
        if result.is_withdrawn:
            return f"Withdrawn: entered in error, do not use (AI run {result.run_number})."
        run = f"AI run {result.run_number}"
        if superseded_by is not None:
            return f"{run}: superseded by run {superseded_by}."
        if not result.is_current:
            return f"{run}: superseded by a later run."
        return conclusion(result)


def conclusion(result: Result) -> str:
    """The finding in plain words, with the number, the operating point and the limits of what it means."""
    assessment = result.assessment
    covid = next(o for o in assessment.observations if o.code is ChestClass.COVID)
    against = f" against an operating point of {covid.threshold:.3f}" if covid.threshold is not None else ""
    effect = "flagged for earlier reading" if assessment.is_flagged else "not flagged, no effect on the reading order"
    doubt = ""
    if assessment.is_doubtful:
        doubt = " Doubtful: the model looked outside the lungs more than its card allows."
    return f"AI triage, preliminary: {effect}. Probability of COVID-19 {covid.probability:.3f}{against}.{doubt} {NOTE}."


def human_names(name: str) -> list[Resource]:
    """FHIR HumanNames of a DICOM person name, one per component group; several groups say their representation."""
    groups = [(REPRESENTATIONS[i], g) for i, g in enumerate(name.split("=")[:3]) if g.replace("^", "").strip()]
    return [_human_name(group, kind if len(groups) > 1 or kind != "ABC" else "") for kind, group in groups]


def checked(resource: Resource) -> Resource:
    """
    *resource* itself, once the R4B model and our own tables of bindings and reference targets agree with it.

    Raises:
        MalformedMessage: naming element and rule, not the value.
    """
    kind = resource["resourceType"]
    try:
        get_fhir_model_class(kind).model_validate(resource)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise MalformedMessage(f"not a FHIR R4 {kind} ({first['type']})", f"{kind}.{where}") from None
    for (bound, path), allowed in REQUIRED_BINDINGS.items():
        if bound == kind and any(value not in allowed for value in _values(resource, path)):
            raise MalformedMessage("code outside its required binding", f"{kind}.{path}")
    for (bound, path), targets in REFERENCE_TARGETS.items():
        if bound == kind and any(_target(reference) not in targets for reference in _values(resource, path)):
            raise MalformedMessage("reference to a type not allowed here", f"{kind}.{path}")
    return resource


def _values(resource: Resource, path: str) -> Iterable[Any]:
    """Every value at the dotted *path*, lists opened on the way."""
    found: list[Any] = [resource]
    for element in path.split("."):
        found = [parent[element] for parent in found if element in parent]
        found = [value for entry in found for value in (entry if isinstance(entry, list) else [entry])]
    return found


def _target(reference: Resource) -> str:
    return str(reference.get("type") or reference.get("reference", "").partition("/")[0])


def _status(result: Result) -> str:
    if result.is_withdrawn:
        return "entered-in-error"
    return "preliminary" if result.is_current else "cancelled"


def _provenance_tag(result: Result) -> str:
    return f"{result.run_id}-withdrawn" if result.is_withdrawn else str(result.run_id)


def _procedure(result: Result) -> codes.Coded:
    """The order's own LOINC code where it is a chest radiograph we know the name of, else an imaging report."""
    ordered = {code.value for code in result.order.procedure} if result.order else set()
    return next((known for known in codes.CHEST_RADIOGRAPHS if known.code in ordered), codes.IMAGING_STUDY_REPORT)


def _study_reference(result: Result) -> Resource:
    """A logical reference: the EHR may know the study, we need not know its id there (IHE IMR identifier system)."""
    value = f"urn:oid:{result.study.study_instance_uid}"
    return {"type": "ImagingStudy", "identifier": {"system": codes.DICOM_UID, "value": value}}


def _components(result: Result) -> list[Resource]:
    assessment = result.assessment
    found: list[Resource] = []
    for one in assessment.observations:
        found.append(_number(PROBABILITY_CODE[one.code], one.probability))
        if one.threshold is not None:
            found.append(_number(THRESHOLD_CODE[one.code], one.threshold))
    found.append(_number(codes.LUNG_AREA, assessment.lungs.area_fraction * 100, "%"))
    found.append(_number(codes.GATE_SCORE, assessment.gate_score))
    found.append(_number(codes.GATE_LIMIT, assessment.gate_limit))
    if assessment.activation_outside is not None:
        found.append(_number(codes.ACTIVATION_OUTSIDE, assessment.activation_outside * 100, "%"))
    found.append({"code": codes.DOUBTFUL.concept, "valueBoolean": assessment.is_doubtful})
    return found


def _number(code: codes.Coded, value: float, unit: str = "1") -> Resource:
    quantity = {"value": round(float(value), 6), "unit": unit, "system": codes.UCUM, "code": unit}
    return {"code": code.concept, "valueQuantity": quantity}


def _narrative(words: str) -> Resource:
    return {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{escape(words)}</div>'}


def _human_name(group: str, kind: str) -> Resource:
    family, given, middle, prefix, suffix = ([part.strip() for part in group.split("^")] + [""] * 5)[:5]
    name: Resource = {}
    if kind:
        name["extension"] = [{"url": codes.NAME_REPRESENTATION, "valueCode": kind}]
    name["use"] = "official"
    if family:
        name["family"] = family
    if given or middle:
        name["given"] = [part for part in (given, middle) if part]
    if prefix:
        name["prefix"] = [prefix]
    if suffix:
        name["suffix"] = [suffix]
    return name


def _token(of: Mapping[str, Any]) -> str:
    """The search condition that finds a resource by this identifier, fit for `ifNoneExist` and a conditional PUT."""
    return f"identifier={quote(of.get('system', '') + '|' + of['value'], safe='')}"


def _created(resource: Resource, condition: str) -> Resource:
    request = {"method": "POST", "url": resource["resourceType"], "ifNoneExist": condition}
    return {"resource": resource, "request": request}


def _updated(resource: Resource, condition: str) -> Resource:
    return {"resource": resource, "request": {"method": "PUT", "url": f"{resource['resourceType']}?{condition}"}}


def _transaction(entries: Mapping[str, Resource]) -> bytes:
    """Serialise, with references between entries turned into their `urn:uuid:` full URLs and our own ids left out."""
    full_urls = {reference: f"urn:uuid:{uuid5(DEVICE_NAMESPACE, _seed(entry))}" for reference, entry in entries.items()}
    patient = entries["Patient"]["resource"]["identifier"][0] if "Patient" in entries else None
    written = []
    for reference, entry in entries.items():
        resource = {key: value for key, value in entry["resource"].items() if key != "id"}
        resource = _relinked(resource, full_urls)
        if patient and resource.get("subject", {}).get("identifier") == patient:
            resource["subject"] = {"reference": full_urls["Patient"]}
        written.append({"fullUrl": full_urls[reference], "resource": resource, "request": entry["request"]})
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": written}
    return json.dumps(bundle, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _seed(entry: Resource) -> str:
    request = entry["request"]
    return f"{request['url']}?{request.get('ifNoneExist', '')}"


def _relinked(value: Any, full_urls: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {
            key: full_urls.get(inner, inner) if key == "reference" else _relinked(inner, full_urls)
            for key, inner in value.items()
        }
    return [_relinked(inner, full_urls) for inner in value] if isinstance(value, list) else value
