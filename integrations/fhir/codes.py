"""Every code this service writes to or looks for in FHIR, with its display; no other module spells one out."""

from __future__ import annotations

from typing import NamedTuple

LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"
UCUM = "http://unitsofmeasure.org"
DCM = "http://dicom.nema.org/resources/ontology/DCM"
URI = "urn:ietf:rfc:3986"
DICOM_UID = "urn:dicom:uid"
"""Identifier system of Study Instance UIDs; the value is `urn:oid:` and the UID (FHIR R4 ImagingStudy)."""

IDENTIFIER_TYPE = "http://terminology.hl7.org/CodeSystem/v2-0203"
NAME_REPRESENTATION = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"
"""Extension that says whether a name is written in letters, ideographs or syllables (HL7 v2 XPN-8)."""

REPORT_IDENTIFIER = "urn:x-chest-triage:report"
OBSERVATION_IDENTIFIER = "urn:x-chest-triage:observation"
RUN_TAG = "urn:x-chest-triage:run"
"""Tag by which a Provenance is found again: R4 gives that resource no identifier, `_tag` is searchable everywhere."""
LOCAL = "urn:x-chest-triage:code"
"""Our code system: no LOINC, SNOMED or RadLex code says what an AI triage mark means (STANDARDS 4.6)."""


class Coded(NamedTuple):
    """One concept: code system, code, display."""

    system: str
    code: str
    display: str

    @property
    def coding(self) -> dict[str, str]:
        """A FHIR Coding."""
        return {"system": self.system, "code": self.code, "display": self.display}

    @property
    def concept(self) -> dict[str, object]:
        """A FHIR CodeableConcept of this one coding, its display as text."""
        return {"coding": [self.coding], "text": self.display}


# Standard terminologies. Displays: LOINC table; the code systems in the R4 4.0.1 definitions; pydicom's CID tables.
IMAGING_STUDY_REPORT = Coded(LOINC, "18748-4", "Diagnostic imaging study")
RADIOLOGY = Coded("http://terminology.hl7.org/CodeSystem/v2-0074", "RAD", "Radiology")
IMAGING = Coded("http://terminology.hl7.org/CodeSystem/observation-category", "imaging", "Imaging")
LUNG = Coded(SNOMED, "39607008", "Lung")
ACCESSION = Coded(IDENTIFIER_TYPE, "ACSN", "Accession ID")
PLACER = Coded(IDENTIFIER_TYPE, "PLAC", "Placer Identifier")
FILLER = Coded(IDENTIFIER_TYPE, "FILL", "Filler Identifier")
MEDICAL_RECORD = Coded(IDENTIFIER_TYPE, "MR", "Medical record number")
AUTHOR = Coded("http://terminology.hl7.org/CodeSystem/provenance-participant-type", "author", "Author")
ASSEMBLER = Coded("http://terminology.hl7.org/CodeSystem/provenance-participant-type", "assembler", "Assembler")
CREATED = Coded("http://terminology.hl7.org/CodeSystem/v3-DataOperation", "CREATE", "create")
REVISED = Coded("http://terminology.hl7.org/CodeSystem/v3-DataOperation", "UPDATE", "revise")
NULLIFIED = Coded("http://terminology.hl7.org/CodeSystem/v3-DataOperation", "NULLIFY", "nullify")

# The LOINC names of chest radiographs (STANDARDS 4.6): an order's own code is repeated only with the name known here.
CHEST_RADIOGRAPHS = (
    Coded(LOINC, "36643-5", "XR Chest 2 Views"),
    Coded(LOINC, "36554-4", "XR Chest Single view"),
    Coded(LOINC, "36572-6", "XR Chest AP"),
    Coded(LOINC, "36589-0", "Portable XR Chest AP single view"),
    Coded(LOINC, "24632-2", "Portable XR Chest Views AP"),
    Coded(LOINC, "24648-8", "XR Chest PA upright"),
    Coded(LOINC, "24647-0", "XR Chest PA and Lateral upright"),
    Coded(LOINC, "36687-2", "XR Chest AP and Lateral"),
    Coded(LOINC, "24642-1", "XR Chest AP and PA upright"),
    Coded(LOINC, "24640-5", "XR Chest Apical lordotic"),
)

# Ours.
COVID_SUSPICION = Coded(LOCAL, "covid-suspicion", "AI triage: suspicion of COVID-19 on a chest radiograph")
FLAGGED = Coded(LOCAL, "flagged", "Flagged for earlier reading")
NOT_FLAGGED = Coded(LOCAL, "not-flagged", "Not flagged: no effect on the reading order")
PROBABILITY_NORMAL = Coded(LOCAL, "probability-normal", "Probability of the class normal")
PROBABILITY_PNEUMONIA = Coded(LOCAL, "probability-pneumonia", "Probability of the class pneumonia")
PROBABILITY_COVID = Coded(LOCAL, "probability-covid", "Probability of the class COVID-19")
THRESHOLD_NORMAL = Coded(LOCAL, "threshold-normal", "Operating point of the class normal")
THRESHOLD_PNEUMONIA = Coded(LOCAL, "threshold-pneumonia", "Operating point of the class pneumonia")
THRESHOLD_COVID = Coded(LOCAL, "threshold-covid", "Operating point of the class COVID-19")
LUNG_AREA = Coded(LOCAL, "lung-area", "Share of the image that is lung")
GATE_SCORE = Coded(LOCAL, "gate-score", "Out-of-distribution score")
GATE_LIMIT = Coded(LOCAL, "gate-limit", "Out-of-distribution limit of the model card")
ACTIVATION_OUTSIDE = Coded(LOCAL, "activation-outside", "Share of the class activation outside the lungs")
DOUBTFUL = Coded(LOCAL, "doubtful", "Doubtful: activation outside the lungs above the model card's limit")
WEIGHTS_DIGEST = Coded(LOCAL, "weights-sha256", "SHA-256 of the weights")
CARD_DIGEST = Coded(LOCAL, "card-sha256", "SHA-256 of the model card")
MODEL_VERSION = Coded(LOCAL, "model-version", "Version of the model")
CHEST_AI = Coded(LOCAL, "chest-radiograph-triage", "Software that prioritises chest radiographs")

TABLE = tuple(value for value in tuple(globals().values()) if isinstance(value, Coded)) + CHEST_RADIOGRAPHS
"""All of them; `tests/fhir/test_codes.py` holds the tree against it."""

# Required bindings: the values of each element this service writes or reads (FHIR R4 4.0.1), because
# fhir.resources does not enforce them.
OBSERVATION_STATUS = frozenset(
    {"registered", "preliminary", "final", "amended", "corrected", "cancelled", "entered-in-error", "unknown"}
)
REPORT_STATUS = OBSERVATION_STATUS | {"partial", "appended"}
DEVICE_STATUS = frozenset({"active", "inactive", "entered-in-error", "unknown"})
DEVICE_NAME_TYPE = frozenset(
    {"udi-label-name", "user-friendly-name", "patient-reported-name", "manufacturer-name", "model-name", "other"}
)
ENTITY_ROLE = frozenset({"derivation", "revision", "quotation", "source", "removal"})
GENDER = frozenset({"male", "female", "other", "unknown"})
REQUEST_INTENTS = frozenset({"order", "original-order", "reflex-order", "filler-order", "instance-order"})
"""Intents that mean work; proposals, plans, directives and options do not (IHE IDR)."""
