"""Results as FHIR: valid by every validator at hand, the same bytes every time, never final, never a diagnosis."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle

from integrations.fhir import codes, orders, results
from integrations.fhir.results import NOTE, FhirComposer
from tests.fhir.making import SITE, faults, make_result, resources_of, strongest_validator
from tests.making import CLASSIFIER, make_assessment, make_order, make_patient, make_study
from triage.domain.errors import MalformedMessage
from triage.domain.imaging import Patient
from triage.domain.result import Result

COMPOSER = FhirComposer(SITE)
CREATING = FhirComposer(replace(SITE, creates_patients=True))
UNNUMBERED = make_study(study_instance_uid="1.2.3", accession_number="", study_at=None)

CASES: dict[str, tuple[FhirComposer, Result, Result | None]] = {
    "flagged": (COMPOSER, make_result(), None),
    "not flagged": (COMPOSER, make_result(assessment=make_assessment(covid=0.1)), None),
    "doubtful": (COMPOSER, make_result(assessment=make_assessment(is_doubtful=True, activation_outside=0.6)), None),
    "activation unknown": (COMPOSER, make_result(assessment=make_assessment(activation_outside=None)), None),
    "no order": (COMPOSER, make_result(order=None), None),
    "nothing but a UID": (COMPOSER, make_result(order=None, study=UNNUMBERED), None),
    "no patient ID": (COMPOSER, make_result(order=None, study=make_study(patient=Patient(""))), None),
    "order from this server": (COMPOSER, make_result(order=make_order(service_request="ServiceRequest/7")), None),
    "Japanese patient created": (CREATING, make_result(), None),
    "issuer nobody mapped": (CREATING, make_result(study=make_study(patient=make_patient(issuer="ELSEWHERE"))), None),
    "same model for both": (COMPOSER, make_result(assessment=make_assessment(segmenter=CLASSIFIER)), None),
    "re-run": (COMPOSER, make_result(2), make_result(1, is_current=False)),
    "re-run with created patient": (CREATING, make_result(2), make_result(1)),
    "withdrawn": (COMPOSER, make_result(is_withdrawn=True, is_current=False), None),
}


@pytest.fixture(scope="module")
def validator(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The strongest validator, loaded once."""
    return strongest_validator(tmp_path_factory.mktemp("pyrofile"))


@pytest.mark.parametrize("case", CASES)
def test_a_bundle_is_valid_r4b_and_the_same_every_time(case: str) -> None:
    composer, result, previous = CASES[case]
    body = composer.bundle(result, previous)
    assert body == composer.bundle(result, previous)
    bundle = json.loads(body)
    Bundle.model_validate(bundle)
    assert b'"final"' not in body
    full_urls = [entry["fullUrl"] for entry in bundle["entry"]]
    assert len(set(full_urls)) == len(full_urls)
    inner = {r for r in references(bundle) if not r.startswith("ServiceRequest/")}
    assert inner <= set(full_urls)  # every reference stays within the transaction or is logical


@pytest.mark.peer
@pytest.mark.parametrize("case", CASES)
def test_a_bundle_passes_the_strongest_validator(case: str, validator: Any) -> None:
    composer, result, previous = CASES[case]
    bundle = json.loads(composer.bundle(result, previous))
    assert faults(validator, bundle) == []
    for entry in bundle["entry"]:
        assert faults(validator, entry["resource"]) == []


@pytest.mark.peer
def test_the_strongest_validator_finds_a_fault(validator: Any) -> None:
    report = {**COMPOSER.diagnostic_report(make_result()), "status": "bogus"}
    assert faults(validator, report)


def references(value: Any) -> set[str]:
    """Every literal reference in a JSON value."""
    if isinstance(value, dict):
        own = {value["reference"]} if isinstance(value.get("reference"), str) else set()
        return own.union(*(references(inner) for inner in value.values()))
    return set().union(*(references(inner) for inner in value)) if isinstance(value, list) else set()


def numbers(observation: dict[str, Any]) -> dict[str, Any]:
    """Component code to value."""
    return {
        component["code"]["coding"][0]["code"]: component.get("valueQuantity", {}).get("value")
        for component in observation["component"]
    }


def test_a_flag_is_told_with_its_numbers_and_limits() -> None:
    (observation,) = COMPOSER.observations(make_result())
    assert observation["status"] == "preliminary"
    assert observation["valueCodeableConcept"]["coding"] == [codes.FLAGGED.coding]
    assert numbers(observation) == {
        "probability-normal": 0.05,
        "probability-pneumonia": 0.05,
        "probability-covid": 0.9,
        "threshold-covid": 0.5,
        "lung-area": 24.0,
        "gate-score": 3.0,
        "gate-limit": 9.0,
        "activation-outside": 12.0,
        "doubtful": None,
    }
    assert observation["effectiveDateTime"] == "2026-11-02T21:00:00.000+09:00"
    assert NOTE in observation["note"][0]["text"]
    assert observation["derivedFrom"][0]["identifier"]["value"] == "urn:oid:1.2.392.200036.9999.1"


def test_a_report_speaks_plainly_and_is_no_devices_performance() -> None:
    report = COMPOSER.diagnostic_report(make_result())
    assert report["status"] == "preliminary"
    assert report["conclusion"].startswith(
        "AI triage, preliminary: flagged for earlier reading. Probability of COVID-19"
    )
    assert NOTE in report["conclusion"]
    assert [performer["type"] for performer in report["performer"]] == ["Organization"]
    assert report["code"]["coding"][0]["code"] == "36643-5"  # the order's


def test_not_flagged_is_no_effect_and_never_negative() -> None:
    report = COMPOSER.diagnostic_report(make_result(assessment=make_assessment(covid=0.1)))
    assert "not flagged, no effect on the reading order" in report["conclusion"]
    assert "negative" not in json.dumps(report).lower()


def test_an_unknown_procedure_is_an_imaging_study() -> None:
    report = COMPOSER.diagnostic_report(make_result(order=None))
    assert report["code"]["coding"] == [codes.IMAGING_STUDY_REPORT.coding]


def test_the_request_is_literal_where_the_server_holds_it_and_logical_elsewhere() -> None:
    result = make_result(order=make_order(service_request="ServiceRequest/7"))
    assert COMPOSER.diagnostic_report(result)["basedOn"] == [{"reference": "ServiceRequest/7"}]
    elsewhere = FhirComposer(replace(SITE, holds_orders=False)).diagnostic_report(result)["basedOn"]
    assert elsewhere[0]["identifier"]["type"]["coding"] == [codes.ACCESSION.coding]
    assert elsewhere[0]["identifier"]["system"] == "urn:x-test:accession"


def test_an_issuer_nobody_mapped_never_gets_another_issuers_system() -> None:
    result = make_result(study=make_study(patient=make_patient(issuer="ELSEWHERE")))
    assert COMPOSER.patient_identifier(result) == {"value": "P-0001", "assigner": {"display": "ELSEWHERE"}}
    assert resources_of(CREATING.bundle(result), "Patient") == []  # nor may it create a patient


def test_an_order_that_came_by_fhir_names_the_patient_in_the_ehrs_words() -> None:
    unmapped = FhirComposer(replace(SITE, patient_systems={}))
    patient = make_patient(issuer="http://ehr.invalid/mrn")
    result = make_result(order=make_order(patient=patient, service_request="ServiceRequest/7"))
    assert unmapped.patient_identifier(result) == {"system": "http://ehr.invalid/mrn", "value": "P-0001"}
    assert unmapped.patient_identifier(make_result()) == {"value": "P-0001", "assigner": {"display": "HOSP"}}


def test_a_patient_is_created_only_where_the_site_allows() -> None:
    assert resources_of(COMPOSER.bundle(make_result()), "Patient") == []
    (patient,) = resources_of(CREATING.bundle(make_result()), "Patient")
    assert orders.person_name(patient["name"]) == make_patient().name
    bundle = json.loads(CREATING.bundle(make_result()))
    by_type = {entry["resource"]["resourceType"]: entry for entry in bundle["entry"]}
    assert by_type["DiagnosticReport"]["resource"]["subject"]["reference"] == by_type["Patient"]["fullUrl"]
    assert by_type["Patient"]["request"]["ifNoneExist"] == "identifier=urn%3Ax-test%3Amrn%7CP-0001"


@pytest.mark.parametrize(
    "name",
    ["Doe^Jan^Piet K^Dr^Jr", "Honmiya^Tarou=本宮^太郎=もとみや^たろう", "=山田^太郎", "==ヤマダ^タロウ", "Doe", ""],
)
def test_names_survive_the_way_to_fhir_and_back(name: str) -> None:
    assert orders.person_name(results.human_names(name)) == name


def test_a_rerun_cancels_the_run_before_in_the_same_transaction() -> None:
    body = COMPOSER.bundle(make_result(2), make_result(1))
    states = {r["identifier"][0]["value"]: r["status"] for r in resources_of(body, "DiagnosticReport")}
    assert states == {str(make_result(1).run_id): "cancelled", str(make_result(2).run_id): "preliminary"}
    old = next(r for r in resources_of(body, "DiagnosticReport") if r["status"] == "cancelled")
    assert old["conclusion"] == "AI run 1: superseded by run 2."
    methods = [e["request"]["method"] for e in json.loads(body)["entry"]]
    assert methods.count("PUT") == 2
    assert COMPOSER.bundle(make_result(2), make_result(1, is_current=False)) == body


def test_a_withdrawn_result_is_entered_in_error() -> None:
    withdrawn = make_result(is_withdrawn=True, is_current=False)
    body = COMPOSER.bundle(withdrawn)
    for kind in ("Observation", "DiagnosticReport"):
        (resource,) = resources_of(body, kind)
        assert resource["status"] == "entered-in-error"
    assert resources_of(body, "DiagnosticReport")[0]["conclusion"].startswith("Withdrawn")
    first, last = (resources_of(COMPOSER.bundle(r), "Provenance")[0]["meta"]["tag"] for r in (make_result(), withdrawn))
    assert first != last  # the withdrawal is recorded beside the making, not instead of it


def test_a_withdrawn_run_stays_withdrawn_when_another_follows() -> None:
    body = COMPOSER.bundle(make_result(2), make_result(1, is_withdrawn=True))
    assert len(resources_of(body, "DiagnosticReport")) == 1


def test_new_weights_or_a_new_card_are_a_new_device() -> None:
    ids = {
        results.device_id(model)
        for model in (
            CLASSIFIER,
            replace(CLASSIFIER, weights_sha256="f" * 64),
            replace(CLASSIFIER, card_sha256="f" * 64),
        )
    }
    assert len(ids) == 3
    assert results.device_id(replace(CLASSIFIER)) in ids


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"status": "bogus"}, "DiagnosticReport.status"),
        ({"performer": [{"reference": "Device/1"}]}, "DiagnosticReport.performer"),
        ({"imagingStudy": [{"reference": "Patient/1"}]}, "DiagnosticReport.imagingStudy"),
        ({"effectiveDateTime": "2026-11-02T10:00:00"}, "DiagnosticReport.effectiveDateTime"),
        ({"flagged": "Honmiya"}, "DiagnosticReport.flagged"),
    ],
)
def test_what_fhir_resources_leaves_unchecked_is_checked_here(change: dict[str, Any], where: str) -> None:
    with pytest.raises(MalformedMessage) as refusal:
        results.checked({**COMPOSER.diagnostic_report(make_result()), **change})
    assert refusal.value.where == where
    assert "Honmiya" not in str(refusal.value)


def test_the_bundle_says_nothing_about_when_it_was_composed(monkeypatch: pytest.MonkeyPatch) -> None:
    later = make_result(last_updated=make_result().last_updated + timedelta(days=3))
    assert COMPOSER.bundle(later) == COMPOSER.bundle(make_result())


def test_the_invented_messages_hold_no_real_folder_or_host() -> None:
    for path in (Path(__file__).parents[1] / "data" / "fhir").iterdir():
        assert "/work" not in path.read_text(encoding="utf-8")
