"""One append-only file of JSON lines for each reader: what happened, on the disk before it counts."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from threading import RLock
from typing import Any

from triage.domain.errors import Conflict, Misconfigured, Unavailable
from triage.domain.finding import ChestClass
from triage.reading_room.standing import Event, Kind, Reading
from triage.reading_room.study import Order

LOCK = ".lock"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """
    Keep the folder of the readings to this process; the system lets go of it when the process ends, however it ends.

    Raises:
        Conflict: another process holds it.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict("another process serves or changes this study: stop it first") from None
        yield


class Journal:
    """One reader's file: what happened, in order; a line counts once it is whole and on the disk."""

    def __init__(self, path: Path, order: Order) -> None:
        self.path, self.order, self.lock = path, order, RLock()
        self.events, self._length = read_events(path, order)

    def append(self, event: Event) -> None:
        """
        Add *event*; returns when it is on the disk.

        Raises:
            Unavailable: it could not be written; nothing has changed.
        """
        line = (json.dumps(_line(event, self.order)) + "\n").encode()
        is_new = not self.path.exists()
        try:
            opened = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.ftruncate(opened, self._length)  # cuts what a crash or a full disk left of a line
                if os.write(opened, line) != len(line):
                    raise OSError("the disk took a part of it")
                os.fsync(opened)
            finally:
                os.close(opened)
            if is_new:
                sync_folder(self.path.parent)
        except OSError:
            raise Unavailable("this could not be stored, so it does not count; tell the study's owner") from None
        self._length += len(line)
        self.events.append(event)


def read_events(path: Path, order: Order) -> tuple[list[Event], int]:
    """
    The events of one file, and how many bytes of it are whole lines; a torn last line is left out.

    Raises:
        Misconfigured: a whole line is damaged, or belongs to another study.
    """
    if not path.exists():
        return [], 0
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    events: list[Event] = []
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            event = _event(json.loads(line), order)
        except (ValueError, KeyError, TypeError, IndexError) as why:
            raise Misconfigured(f"{path.name}, line {number}: damaged ({type(why).__name__})") from None
        latest = events[-1].number if events else -1
        if event.number != latest + (event.kind is Kind.OPENED):
            raise Misconfigured(f"{path.name}, line {number}: out of order")
        events.append(event)
    return events, len(whole)


def sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)  # a new name lives in its folder
    finally:
        os.close(opened)


def _line(event: Event, order: Order) -> dict[str, Any]:
    showing = order[event.number]
    line: dict[str, Any] = {
        "at": event.at.isoformat(), "event": event.kind, "number": event.number, "session": showing.session,
        "caseID": showing.case_id, "modalityID": showing.modality,
    }  # fmt: skip
    if event.reading is not None:
        line["response_class"] = event.reading.response
        line |= {f"score_{c}": score for c, score in zip(ChestClass, event.reading.scores, strict=True)}
    return line


def _event(line: Mapping[str, Any], order: Order) -> Event:
    kind, number, at = Kind(line["event"]), line["number"], datetime.fromisoformat(line["at"])
    showing = order[number]
    if (line["caseID"], line["modalityID"], line["session"]) != (showing.case_id, showing.modality, showing.session):
        raise ValueError("another study's")
    if at.tzinfo is None or number < 0:
        raise ValueError("no instant or no place")
    if kind is not Kind.READ:
        return Event(kind, at, number)
    normal, pneumonia, covid = (int(line[f"score_{c}"]) for c in ChestClass)
    return Event(kind, at, number, Reading(ChestClass(line["response_class"]), (normal, pneumonia, covid)))
