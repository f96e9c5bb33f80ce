"""Pages, API and the read-only FHIR endpoint."""
