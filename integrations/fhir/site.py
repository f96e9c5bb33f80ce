"""What a site tells us for FHIR: which identifier system stands for which issuer, and what may be written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, tzinfo

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S+")
_OID = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+")


@dataclass(frozen=True)
class FhirSite:
    """
    Facts of one site, for reading orders and for writing results.

    Attributes:
        organization: name of the hospital or department in whose name the service reports.
        zone: written in every instant, and taken for times that come without a zone.
        patient_systems: issuer of patient IDs as DICOM and HL7 say it ("" for those that name none) to the
            identifier system URI of the FHIR server.
        accession_systems: the same for accession numbers.
        creates_patients: the server may be given a Patient it does not know (conditional create); otherwise the
            subject is a logical reference by identifier.
        holds_orders: `ServiceRequest/ID` of an order resolves on the server that receives results.
    """

    organization: str
    zone: tzinfo = UTC
    organization_identifier: tuple[str, str] | None = None
    patient_systems: Mapping[str, str] = field(default_factory=dict)
    accession_systems: Mapping[str, str] = field(default_factory=dict)
    creates_patients: bool = False
    holds_orders: bool = True
    manufacturer: str = ""


def system_of(issuer: str, systems: Mapping[str, str]) -> str:
    """
    The identifier system for *issuer*: from the site's table, or the issuer itself where it is a URI or an OID.

    "" for an issuer nobody mapped: never another issuer's system, which would make two people one.
    """
    if issuer in systems:
        return systems[issuer]
    if _OID.fullmatch(issuer):
        return f"urn:oid:{issuer}"
    return issuer if _URI.fullmatch(issuer) else ""


def issuer_of(system: str, systems: Mapping[str, str]) -> str:
    """The issuer that *system* stands for, the reverse of `system_of`; an unmapped system is its own issuer."""
    for issuer, known in systems.items():
        if known == system:
            return issuer
    return system.removeprefix("urn:oid:")


def identifier(value: str, issuer: str, systems: Mapping[str, str]) -> dict[str, object]:
    """A FHIR Identifier; an issuer without a system is written as the assigner's name, so that it is not lost."""
    system = system_of(issuer, systems)
    if system:
        return {"system": system, "value": value}
    return {"value": value, "assigner": {"display": issuer}} if issuer else {"value": value}
