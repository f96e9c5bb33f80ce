"""What the use cases need from the outside, in their own words; adapters live in `integrations`, `models`, `triage.postgres`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from triage.domain.errors import UnusableRadiograph
from triage.domain.finding import Assessment
from triage.domain.imaging import InstanceFacts, Radiograph, SeenInstance, StudyFacts
from triage.domain.order import OrderEvent
from triage.domain.result import Result


class Archive(Protocol):
    """Where images are: a DICOMweb server, or a folder behind `DICOMfileClient`."""

    name: str

    def studies_since(self, since: datetime, until: datetime) -> Iterator[StudyFacts]:
        """
        Studies holding CR or DX whose study date-time may lie in the window; duplicates may occur.

        Raises:
            ArchiveUnavailable: the archive did not answer; what was yielded before stands.
        """

    def studies_of_accession(self, accession_number: str) -> Sequence[StudyFacts]:
        """Studies of any modality filed under *accession_number*, for orders whose images do not come."""

    def instances(self, study_instance_uid: str) -> Sequence[SeenInstance]:
        """The instances the archive lists now for one study; empty where it knows none."""

    def headers(self, study_instance_uid: str) -> Iterator[InstanceFacts | tuple[str, UnusableRadiograph]]:
        """
        The header facts of every instance, or (SOP Instance UID, why not) where a header cannot be read.

        Raises:
            ArchiveUnavailable: no answer, or fewer instances came than the archive lists.
        """

    def radiograph(self, facts: InstanceFacts) -> Radiograph:
        """
        Retrieve and decode one instance.

        Raises:
            UnusableRadiograph: it came and cannot be decoded.
            ArchiveUnavailable: it did not come.
        """


class Engine(Protocol):
    """Pixels to assessments, in batches."""

    def assess(self, radiographs: Sequence[Radiograph], at: datetime) -> Sequence[Assessment | UnusableRadiograph]:
        """One outcome per radiograph, in order; one bad image never fails the batch."""


class Orders(Protocol):
    """An EHR that can be asked which orders changed."""

    name: str

    def changed_since(self, since: datetime) -> Iterator[tuple[bytes, OrderEvent | Exception]]:
        """
        Every changed order as (raw resource, its event or why it cannot be read), oldest first.

        Raises:
            EhrUnavailable: the server did not answer.
        """


class Reports(Protocol):
    """A destination of results: composes its own dialect, sends what was composed."""

    name: str

    def compose(self, result: Result, previous: Result | None) -> bytes:
        """The body to send for *result*; the same result gives the same bytes."""

    def send(self, body: bytes, control_id: str) -> str:
        """
        Deliver *body*; returns what the peer called it (for the timeline).

        Raises:
            Unavailable: waiting may help (408, 429, 5xx, no answer).
            RefusedByPeer: it cannot (400, 422): park for a person.
        """


@dataclass(frozen=True)
class Lease:
    """A worker's hold on one entry for one attempt; a later attempt makes it void."""

    entry_id: int
    attempt: int
    study_id: int
    site: str
    study_instance_uid: str
