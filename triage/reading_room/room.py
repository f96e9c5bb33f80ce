"""What a reader may see and do now, decided on their journal; the truth is not in this process."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from PIL import Image

from triage.domain.errors import Conflict
from triage.reading_room import picture
from triage.reading_room.cases import Case, inside
from triage.reading_room.prepared import Study
from triage.reading_room.standing import Event, Kind, Phase, Reading, Standing, standing
from triage.reading_room.store import Journal
from triage.reading_room.study import Modality, Showing
from triage.web.picture import PictureCache


@dataclass(frozen=True)
class Room:
    """
    One study being read.

    Attributes:
        clock: the instant, aware.
    """

    study: Study
    journals: Mapping[str, Journal]
    clock: Callable[[], datetime]
    pictures: PictureCache = field(default_factory=PictureCache, repr=False)

    @classmethod
    def opened(cls, study: Study, clock: Callable[[], datetime]) -> Room:
        """The room as its journals left it."""
        journals = {reader: Journal(study.journal_of(reader), order) for reader, order in study.orders.items()}
        return cls(study, journals, clock)

    def standing(self, reader: str) -> Standing:
        """Where a reader stands now."""
        journal = self.journals[reader]
        return standing(journal.order, journal.events, self.study.washout, self.clock())

    def token(self, reader: str, number: int) -> str:
        """The name of one showing in forms and image addresses: says nothing, and is nobody else's."""
        return hmac.new(self.study.key, f"showing:{reader}:{number}".encode(), "sha256").hexdigest()[:32]

    def in_view(self, reader: str) -> tuple[Showing, Case, Standing] | None:
        """The case that the reader may see now, or None."""
        now = self.standing(reader)
        if not now.has_case_in_view:
            return None
        showing = self.journals[reader].order[now.latest]
        return showing, self.study.cases[showing.case_id], now

    def go_on(self, reader: str, after: str) -> None:
        """
        Open the case that comes after the showing named *after*, or close the session if that was its last.

        Pressing twice, or in an old page, changes nothing.

        Raises:
            Conflict: the next session is not open yet.
        """
        journal = self.journals[reader]
        with journal.lock:
            now = self.standing(reader)
            if now.phase is Phase.WASHOUT:
                raise Conflict("the next session is not open yet")
            if now.phase in {Phase.OPEN, Phase.FINISHED} or not self._is_named(after, reader, now.latest):
                return
            closes = now.phase is Phase.GIVEN and now.ends_session
            kind, number = (Kind.CLOSED, now.latest) if closes else (Kind.OPENED, now.latest + 1)
            journal.append(Event(kind, self.clock(), number))

    def give(self, reader: str, token: str, reading: Reading) -> None:
        """
        Record what the reader says of the case in view; said again differently, both stay recorded.

        Raises:
            Conflict: that case is not in view any more.
        """
        journal = self.journals[reader]
        with journal.lock:
            now = self.standing(reader)
            if not now.has_case_in_view or not self._is_named(token, reader, now.latest):
                raise Conflict("this case is closed: a reading can be changed only until the next case is opened")
            if reading != now.reading:
                journal.append(Event(Kind.READ, self.clock(), now.latest, reading))

    def pause(self, reader: str) -> None:
        """Put the case in view away; nothing happens where there is none."""
        journal = self.journals[reader]
        with journal.lock:
            now = self.standing(reader)
            if now.has_case_in_view:
                journal.append(Event(Kind.PAUSED, self.clock(), now.latest))

    def resume(self, reader: str) -> None:
        """Take the case up again."""
        journal = self.journals[reader]
        with journal.lock:
            now = self.standing(reader)
            if now.is_paused:
                journal.append(Event(Kind.RESUMED, self.clock(), now.latest))

    def radiograph(self, reader: str, token: str) -> bytes | None:
        """The image of the case in view as PNG; None where *token* does not name it."""
        seen = self._seen(reader, token)
        if seen is None:
            return None
        _, case = seen
        return self.pictures.get(token, "radiograph", lambda: picture.png(self._radiograph(case)))

    def overlay(self, reader: str, token: str) -> bytes | None:
        """What the model marks on the case in view; None where *token* does not name it, or it is read without."""
        seen = self._seen(reader, token)
        if seen is None or seen[0].modality is Modality.WITHOUT or not seen[1].overlay:
            return None
        _, case = seen

        def draw() -> bytes:
            return picture.png(picture.layer(picture.overlay(self._file(case.overlay), self._radiograph(case).size)))

        return self.pictures.get(token, "overlay", draw)

    def _seen(self, reader: str, token: str) -> tuple[Showing, Case] | None:
        found = self.in_view(reader)
        if found is None or not self._is_named(token, reader, found[2].latest):
            return None
        return found[0], found[1]

    def _is_named(self, token: str, reader: str, number: int) -> bool:
        return hmac.compare_digest(token.encode(), self.token(reader, number).encode())

    def _radiograph(self, case: Case) -> Image.Image:
        return picture.radiograph(self._file(case.file))

    def _file(self, name: str) -> Path:
        path = inside(self.study.folder, name)
        if path is None:
            raise Conflict("a file of this case is missing; tell the study's owner")
        return path
