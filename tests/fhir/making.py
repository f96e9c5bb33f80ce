"""Invented FHIR things, valid by default, and the validators they are held against."""

from __future__ import annotations

import json
import os
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import pytest

from integrations.fhir.site import FhirSite
from tests.making import NOON, make_assessment, make_order, make_patient, make_study
from triage.domain.result import Result

DATA = Path(__file__).parents[1] / "data" / "fhir"
TOKYO = timezone(timedelta(hours=9))
STUDY = "1.2.392.200036.9999.1"
SITE = FhirSite(
    organization="Radiology, General Hospital",
    zone=TOKYO,
    organization_identifier=("urn:x-test:organization", "radiology"),
    patient_systems={"HOSP": "urn:x-test:mrn", "": "urn:x-test:mrn"},
    accession_systems={"RIS": "urn:x-test:accession"},
    manufacturer="The team",
)


def make_request(**changes: Any) -> dict[str, Any]:
    """The invented ServiceRequest; a change of None takes an element away."""
    return _changed("service_request.json", changes)


def make_patient_resource(**changes: Any) -> dict[str, Any]:
    """The invented Patient."""
    return _changed("patient.json", changes)


def make_result(run: int = 1, **changes: Any) -> Result:
    """A flagged result of an ordered study; run ids count up and are the same every time."""
    patient = make_patient()
    given = {
        "run_id": UUID(int=0x5EED0000_0000_4000_8000_000000000000 + run),
        "run_number": run,
        "site": "main",
        "study": make_study(study_instance_uid=STUDY, patient=patient),
        "order": make_order(patient=patient),
        "assessment": make_assessment(study_instance_uid=STUDY),
        "is_current": True,
        "last_updated": NOON + timedelta(minutes=run),
        **changes,
    }
    return Result(**given)


def of_its_own(result_of: str, run: int = 1, **changes: Any) -> Result:
    """A result that nothing else on a test peer can be confused with."""
    accession = f"A-{result_of}"
    study = make_study(study_instance_uid=f"2.25.{uuid5(UUID(int=0), result_of).int}", accession_number=accession)
    run_id = uuid5(UUID(int=run), result_of)
    return make_result(run, run_id=run_id, study=study, order=make_order(accession_number=accession), **changes)


def resources_of(bundle: bytes, kind: str) -> list[dict[str, Any]]:
    """The resources of one type in a bundle."""
    return [e["resource"] for e in json.loads(bundle)["entry"] if e["resource"]["resourceType"] == kind]


def strongest_validator(cache: Path) -> Any:
    """Pyrofile with the R4 package that TRIAGE_TEST_FHIR_PACKAGE names; skips visibly without it."""
    named = os.environ.get("TRIAGE_TEST_FHIR_PACKAGE", "")
    package = Path(named) if named else Path("/nowhere")
    archives = [package] if package.suffix == ".tgz" else sorted(package.glob("*.tgz"))
    if not archives or not archives[0].exists():
        pytest.skip("TRIAGE_TEST_FHIR_PACKAGE names no R4 package: pyrofile is left out (tests/peers/fhir)")
    from pyrofile_validator.config import ValidatorConfig
    from pyrofile_validator.core.engine import Validator

    settings = {
        "fhirVersion": "4.0.1",
        "backend": "native",
        "localPackagePaths": [str(archives[0])],
        "packages": [],
        "packageCacheDir": str(cache / "cache"),
        "evidenceOutputDir": str(cache / "evidence"),
        "terminology": {"mode": "local"},
    }
    return Validator(ValidatorConfig.load_dict(settings))


def faults(validator: Any, resource: dict[str, Any]) -> list[str]:
    """
    Pyrofile's errors, without two false alarms: choice elements in backbone elements (PEERS 3), and a maximum counted
    over all repeats of a parent in CapabilityStatement.rest (the specification's own example is blamed alike).
    """
    return [
        f"{issue.code} at {issue.path}: {issue.message}"
        for issue in validator.validate_resource(resource).errors
        if "[x]" not in f"{issue.path} {issue.message}"
        and not (issue.code.endswith("cardinality.max") and str(issue.path).startswith("CapabilityStatement.rest."))
    ]


def _changed(name: str, changes: dict[str, Any]) -> dict[str, Any]:
    whole = {**json.loads((DATA / name).read_text(encoding="utf-8")), **changes}
    return {key: value for key, value in whole.items() if value is not None}
