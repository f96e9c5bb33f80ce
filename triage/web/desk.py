"""What the pages and the API stand on: the book, the archive, and what a site says of itself and its model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from typing import Annotated, Any

import numpy.typing as npt
from fastapi import Depends, HTTPException
from starlette.requests import Request

from triage.domain.errors import Conflict
from triage.domain.imaging import InstanceFacts, Radiograph
from triage.domain.priority import PriorityPolicy
from triage.ports import Archive, Line
from triage.postgres import audit_trail, drift_reports, search
from triage.postgres.book import Book
from triage.postgres.rollout import SHADOW
from triage.web.picture import PictureCache, activation_png, jpeg, size_of


@dataclass(frozen=True)
class ModelWords:
    """
    The model as pages name it.

    Attributes:
        operating_point: COVID probability from which a study is flagged; None while no model is in use.
        limits: one or two sentences of the model card: what it must not be used for.
        licence: whether the networks in use permit commercial use; empty while none is in use.
    """

    name: str
    version: str
    operating_point: float | None = None
    limits: str = ""
    licence: str = ""


@dataclass
class Remembered:
    """An answer that is asked for on every line of a page, and may be a few seconds old."""

    lasts: timedelta = timedelta(seconds=2)
    asked_at: datetime | None = None
    answer: bool = False

    def get(self, clock: Callable[[], datetime], ask: Callable[[], bool]) -> bool:
        """The answer of at most a moment ago."""
        at = clock()
        if self.asked_at is None or not timedelta(0) <= at - self.asked_at < self.lasts:
            self.answer, self.asked_at = ask(), at
        return self.answer


@dataclass(frozen=True)
class Desk:
    """One site's desk."""

    book: Book
    archive: Archive
    site: str
    policy: PriorityPolicy
    rollout_set: str
    model: ModelWords
    clock: Callable[[], datetime]
    zone: tzinfo
    activation: Callable[[Radiograph], npt.NDArray[Any]] | None = None
    replay_message: Callable[[int], str] | None = None
    pictures: PictureCache = field(default_factory=PictureCache)
    held_in_shadow: Remembered = field(default_factory=Remembered)

    @property
    def rollout(self) -> str:
        """shadow, show or reorder: as set, unless an open drift alarm holds the site in shadow."""
        if self.held_in_shadow.get(self.clock, self._has_fallen_back):
            return SHADOW
        return self.rollout_set

    def _has_fallen_back(self) -> bool:
        with self.book.pool.connection() as db:
            return drift_reports.has_fallen_back(db, self.site)

    @property
    def shows_ai(self) -> bool:
        """In shadow the AI is recorded only: a reader must not see it, or the comparison is worth nothing."""
        return self.rollout != SHADOW

    def changed_at(self, entry_id: int) -> datetime | None:
        """When an entry last changed; None if it is not this site's."""
        with self.book.pool.connection() as db:
            return search.changed_at(db, self.site, entry_id)

    def find(self, text: str, viewer: str, limit: int = 50) -> list[Line]:
        """Entries by patient id, accession number or words of the name."""
        with self.book.pool.connection() as db, db.transaction():
            return search.find(db, self.site, viewer, text, limit)

    def replay_delivery(self, delivery_id: int, reader: str) -> int:
        """
        Send a parked delivery again; returns its entry.

        Raises:
            HTTPException: 404, the site has no such delivery.
            Conflict: it is neither parked nor due.
        """
        with self.book.pool.connection() as db:
            found = search.delivery(db, self.site, delivery_id)
        if found is None:
            raise HTTPException(404, f"no delivery {delivery_id}")
        state, entry_id = found
        if not self.book.replay_delivery(delivery_id):
            raise Conflict(f"delivery {delivery_id} is {state}; only what is parked or due can be sent again")
        with self.book.pool.connection() as db:
            audit_trail.append(db, self.site, reader, "delivery-replayed", f"entry:{entry_id}", delivery=delivery_id)
        return entry_id

    def shown(self, entry_id: int, viewer: str) -> search.Shown:
        """
        The image and result of an entry; the view is audited.

        Raises:
            HTTPException: 404, it has no images.
        """
        with self.book.pool.connection() as db, db.transaction():
            found = search.picture(db, self.site, entry_id, viewer)
        if found is None:
            raise HTTPException(404, f"entry {entry_id} has no images")
        return found

    def picture(self, entry_id: int, viewer: str) -> bytes:
        """The radiograph of an entry as JPEG."""
        facts = self._facts(self.shown(entry_id, viewer))
        return self.pictures.get(facts.sop_instance_uid, "jpeg", lambda: jpeg(self.archive.radiograph(facts)))

    def activation_layer(self, entry_id: int, viewer: str) -> bytes:
        """The class activation of an assessed entry as PNG."""
        shown = self.shown(entry_id, viewer)
        if self.activation is None or not self.shows_ai or shown.assessment is None:
            raise HTTPException(404, f"entry {entry_id} has no activation to show")
        facts, activation = self._facts(shown), self.activation

        def draw() -> bytes:
            radiograph = self.archive.radiograph(facts)
            return activation_png(activation(radiograph), size_of(radiograph))

        return self.pictures.get(facts.sop_instance_uid, "activation", draw)

    def _facts(self, shown: search.Shown) -> InstanceFacts:
        if shown.facts is not None:
            return shown.facts
        for header in self.archive.headers(shown.study_instance_uid):  # stored, and not yet read by a worker
            if isinstance(header, InstanceFacts) and header.has_pixels and not header.made_by_us:
                return header
        raise HTTPException(404, "no readable image yet")


def desk_of(request: Request) -> Desk:
    """The desk of the application that answers."""
    desk: Desk = request.app.state.desk
    return desk


AtDesk = Annotated[Desk, Depends(desk_of)]


def known_entry(entry_id: int, desk: AtDesk) -> int:
    """
    An entry id that this site knows.

    Raises:
        HTTPException: 404, it does not.
    """
    if not 0 < entry_id < 2**63 or desk.changed_at(entry_id) is None:
        raise HTTPException(404, f"no worklist entry {entry_id}")
    return entry_id


EntryId = Annotated[int, Depends(known_entry)]
