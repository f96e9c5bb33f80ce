"""Live push: one LISTEN connection a process; every open page looks at its counter twice a second."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from threading import Event, Thread

import psycopg

from triage.postgres.connect import connect

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
"""At most two events a second, however many entries change."""
HEARTBEAT_S = 15.0
LONGEST_STREAM_S = 600.0
"""Then the browser comes back by itself, so that a session that ended or a server that stops is noticed."""


@dataclass
class Live:
    """Counts the changes of one site's worklist as PostgreSQL announces them."""

    database_url: str = field(repr=False)
    site: str
    changes: int = 0
    _stop: Event = field(default_factory=Event, repr=False)
    _thread: Thread | None = field(default=None, repr=False)

    def start(self) -> None:
        """Listen from now on."""
        self._thread = Thread(target=self._listen, name="worklist-listener", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and end every stream."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def _listen(self) -> None:
        while not self._stop.is_set():
            try:
                with connect(self.database_url) as db:
                    db.execute("LISTEN worklist")
                    self.changes += 1  # what happened while nobody listened is not known: look again
                    while not self._stop.is_set():
                        for announced in db.notifies(timeout=LOOK_EVERY_S):
                            self.changes += announced.payload == self.site
            except psycopg.Error as why:
                log.warning("live push: the database does not answer (%s); trying again", type(why).__name__)
                self._stop.wait(2)

    async def events(self) -> AsyncIterator[str]:
        """Server-sent events: `changed` at once, after each change, and a heartbeat while nothing happens."""
        seen, last, end = -1, 0.0, time.monotonic() + LONGEST_STREAM_S
        yield "retry: 2000\n\n"
        while not self._stop.is_set() and time.monotonic() < end:
            if self.changes != seen:
                seen, last = self.changes, time.monotonic()
                yield f"event: changed\ndata: {seen}\n\n"
            elif time.monotonic() - last > HEARTBEAT_S:
                last = time.monotonic()
                yield ": still here\n\n"
            await asyncio.sleep(LOOK_EVERY_S)
