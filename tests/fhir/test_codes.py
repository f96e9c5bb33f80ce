"""Every code written to FHIR stands in one table, with the display its terminology gives it."""

from __future__ import annotations

import ast
import json
import os
import re
import tarfile
from pathlib import Path

import pytest

from integrations.fhir import codes
from triage.domain.order import CHEST_RADIOGRAPH_CODES, OTHER_PROCEDURE_CODES

ROOT = Path(__file__).parents[2]
WRITERS = sorted({*(ROOT / "integrations/fhir").glob("*.py"), ROOT / "triage/web/fhir.py"} - {Path(codes.__file__)})
LOOKS_LIKE_A_CODE = re.compile(r"\b\d{3,7}-\d\b|\b\d{6,18}\b|\b(loinc|snomed|terminology\.hl7|unitsofmeasure)\b", re.I)


def literals(path: Path) -> list[str]:
    """The string constants of a module that are not docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said
    ]


@pytest.mark.parametrize("path", WRITERS, ids=lambda p: p.name)
def test_no_module_but_the_table_spells_out_a_code(path: Path) -> None:
    namespace = "5d3c54f1-8f1a-5c0e-9a38-0d6d8f0c1a11"
    assert [text for text in literals(path) if LOOKS_LIKE_A_CODE.search(text.replace(namespace, ""))] == []


def test_the_search_for_codes_finds_one() -> None:
    assert LOOKS_LIKE_A_CODE.search("36643-5") and LOOKS_LIKE_A_CODE.search("840539006")


def test_every_code_has_a_display_and_stands_once() -> None:
    assert all(code.display and code.code and code.system for code in codes.TABLE)
    assert len({(code.system, code.code) for code in codes.TABLE}) == len(codes.TABLE)


def test_chest_radiographs_have_the_names_the_domain_knows() -> None:
    assert {c.code: c.display for c in codes.CHEST_RADIOGRAPHS}.items() <= CHEST_RADIOGRAPH_CODES.items()
    assert not {c.code for c in codes.TABLE} & OTHER_PROCEDURE_CODES.keys()


@pytest.mark.peer
def test_displays_and_bindings_are_those_of_the_r4_definitions() -> None:
    named = os.environ.get("TRIAGE_TEST_FHIR_PACKAGE", "")
    archives = [Path(named)] if named.endswith(".tgz") else sorted(Path(named or "/nowhere").glob("*.tgz"))
    if not archives:
        pytest.skip("TRIAGE_TEST_FHIR_PACKAGE names no R4 package")
    displays: dict[tuple[str, str], str] = {}
    with tarfile.open(archives[0]) as archive:
        for member in archive:
            if "/CodeSystem-" in member.name:
                stream = archive.extractfile(member)
                assert stream is not None
                system = json.load(stream)
                _collect(system["url"], system.get("concept", []), displays)
    known = [code for code in codes.TABLE if any(system == code.system for system, _ in displays)]
    assert len(known) >= 8
    assert {c: displays.get((c.system, c.code)) for c in known} == {c: c.display for c in known}
    for url, ours in (
        ("http://hl7.org/fhir/observation-status", codes.OBSERVATION_STATUS),
        ("http://hl7.org/fhir/diagnostic-report-status", codes.REPORT_STATUS),
        ("http://hl7.org/fhir/device-status", codes.DEVICE_STATUS),
        ("http://hl7.org/fhir/device-nametype", codes.DEVICE_NAME_TYPE),
        ("http://hl7.org/fhir/provenance-entity-role", codes.ENTITY_ROLE),
        ("http://hl7.org/fhir/administrative-gender", codes.GENDER),
    ):
        assert {code for system, code in displays if system == url} == ours


def _collect(url: str, concepts: list[dict[str, object]], into: dict[tuple[str, str], str]) -> None:
    for concept in concepts:
        into[url, str(concept["code"])] = str(concept.get("display"))
        nested = concept.get("concept", [])
        assert isinstance(nested, list)
        _collect(url, nested, into)
