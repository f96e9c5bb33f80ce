"""FHIR R4: orders in, results out."""
