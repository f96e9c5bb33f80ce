"""The database's CHECK lists hold the states of the domain, no more and no fewer."""

from __future__ import annotations

import re

import pytest

from triage.domain.order import OrderStatus, RequestedPriority
from triage.domain.priority import Lane
from triage.domain.worklist import AiState, ReadingState
from triage.postgres.assessing import PRESENTED_AS

CHECKS = """
    SELECT pg_get_constraintdef(c.oid) AS definition FROM pg_constraint c
      JOIN pg_attribute a ON a.attrelid = c.conrelid AND c.conkey = ARRAY[a.attnum]
     WHERE c.contype = 'c' AND c.conrelid = %s::regclass AND a.attname = %s
"""

LISTS = [
    ("worklist_entry", "ai_state", set(AiState)),
    ("worklist_entry", "reading_state", set(ReadingState)),
    ("worklist_entry", "requested_priority", set(RequestedPriority)),
    ("worklist_entry", "lane", {str(int(lane)) for lane in Lane}),
    ("worklist_entry", "placed_because", {"clinical", "flagged", "override", "order-changed"}),
    ("imaging_order", "status", set(OrderStatus)),
    ("imaging_order", "requested_priority", set(RequestedPriority)),
    (
        "study",
        "match_outcome",
        {
            "accession",
            "study-instance-uid",
            "patient-and-time",
            "by-person",
            "no-order",
            "ambiguous",
            "patient-differs",
        },
    ),
    ("run", "outcome", {"assessed", *PRESENTED_AS}),
    ("delivery", "kind", {"result", "withdrawal"}),
    ("delivery", "state", {"due", "sending", "delivered", "parked", "superseded"}),
    ("inbound_message", "outcome", {"received", "applied", "unchanged", "ignored", "parked", "rejected"}),
    ("inbound_message", "protocol", {"hl7", "fhir", "dicom"}),
]


@pytest.mark.parametrize(("table", "column", "values"), LISTS, ids=lambda v: v if isinstance(v, str) else "")
def test_the_database_lists_the_same_values(db, table, column, values):
    definition = " ".join(row["definition"] for row in db.execute(CHECKS, (table, column)).fetchall())
    listed = set(re.findall(r"'([^']+)'::text", definition)) or set(re.findall(r"\b\d+\b", definition))
    assert listed == {str(value) for value in values}


def test_what_a_run_ended_with_is_shown_as_a_state_of_its_own():
    assert set(PRESENTED_AS.values()) == {AiState.NOT_ELIGIBLE, AiState.FAILED, AiState.TIMED_OUT}
