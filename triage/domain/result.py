"""What is told to the outside: one run's assessment with the study and order it belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from triage.domain.finding import Assessment
from triage.domain.imaging import StudyFacts
from triage.domain.order import Order


@dataclass(frozen=True)
class Result:
    """
    One run that ended with an assessment; every dialect is written from it.

    Attributes:
        run_id: random UUID fixed when the run was recorded; identifiers on the wire derive from it.
        run_number: 1 for the study's first run, counting up.
        is_current: False once a later run took its place.
        last_updated: when this result last changed (recorded, superseded, withdrawn).
    """

    run_id: UUID
    run_number: int
    site: str
    study: StudyFacts
    order: Order | None
    assessment: Assessment
    is_current: bool
    last_updated: datetime
    is_withdrawn: bool = False
