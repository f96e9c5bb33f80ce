"""Results as the read-only FHIR endpoint searches them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from triage.domain.finding import ModelIdentity
from triage.domain.result import Result
from triage.postgres import runs
from triage.postgres.connect import Pool


@dataclass(frozen=True)
class Results:
    """Every result ever recorded, current or not; *models* are those that may speak next."""

    pool: Pool
    models: tuple[ModelIdentity, ...] = ()

    def by_run(self, run_id: UUID) -> Result | None:
        """The result of one run, or None."""
        with self.pool.connection() as db:
            return runs.by_run(db, run_id)

    def find(
        self,
        *,
        patient_identifier: tuple[str, str] | None = None,
        run_id: UUID | None = None,
        based_on: str | None = None,
        accession: tuple[str, str] | None = None,
        updated_from: datetime | None = None,
        updated_to: datetime | None = None,
        count: int,
        after_cursor: str | None = None,
    ) -> tuple[list[Result], str | None]:
        """
        At most *count* results, oldest change first, and the cursor to go on with (None at the end).

        Issuers are not compared here: the endpoint drops what its own identifiers contradict.

        Raises:
            ValueError: *after_cursor* is not one of ours.
        """
        criteria = runs.Criteria(
            patient_id=patient_identifier[1] if patient_identifier else None,
            run_id=run_id,
            accession_number=accession[1] if accession else None,
            service_request=based_on,
            updated_from=updated_from,
            updated_to=updated_to,
            after=_position(after_cursor) if after_cursor else None,
        )
        with self.pool.connection() as db:
            found = runs.find(db, criteria, count + 1)
        page = found[:count]
        return page, _cursor(page[-1]) if len(found) > count and page else None

    def devices(self) -> Sequence[ModelIdentity]:
        """Every model version that spoke, or may now."""
        with self.pool.connection() as db:
            spoke = runs.models_used(db)
        return [*spoke, *(model for model in self.models if model not in spoke)]


def _cursor(last: Result) -> str:
    return base64.urlsafe_b64encode(f"{last.last_updated.isoformat()}|{last.run_id}".encode()).decode()


def _position(cursor: str) -> tuple[datetime, UUID]:
    try:
        at, _, run_id = base64.urlsafe_b64decode(cursor.encode()).decode().partition("|")
        return datetime.fromisoformat(at), UUID(run_id)
    except (binascii.Error, UnicodeError) as why:
        raise ValueError("not a cursor of this endpoint") from why
