"""The readings as a table, joined with the truth."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import datetime

from triage.domain.errors import Conflict
from triage.domain.finding import ChestClass
from triage.reading_room.prepared import Study
from triage.reading_room.standing import Event, Phase, last_readings, shortest_rest, standing

COLUMNS = (
    *("readerID", "caseID", "modalityID", "session", "truth_class", "response_class"),
    *(f"score_{c}" for c in ChestClass),
)


def table(
    study: Study,
    events: Mapping[str, Sequence[Event]],
    truth: Mapping[str, ChestClass],
    now: datetime,
    *,
    partial: bool = False,
) -> str:
    """
    One line for each reading, readers in turn, each in the order of reading; CSV text.

    Args:
        events: by reader, all that happened.
        truth: by case.
        partial: give what there is, though readers are not finished.
    Raises:
        Conflict: a reader is not finished and *partial* was not asked for, or a case came again before its washout.
    """
    unfinished = [] if partial else _unfinished(study, events, now)
    if unfinished:
        raise Conflict(
            f"not finished: {', '.join(unfinished)}; --partial exports the truth although readers are still reading"
        )
    for reader, order in study.orders.items():
        rest = shortest_rest(order, events[reader])
        if rest is not None and rest < study.washout:
            raise Conflict(f"{reader} met a case again after {rest}, before its washout of {study.washout}")
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for reader, order in study.orders.items():
        for number, reading in sorted(last_readings(events[reader]).items()):
            showing = order[number]
            writer.writerow((
                reader, showing.case_id, showing.modality, showing.session, truth[showing.case_id],
                reading.response, *reading.scores,
            ))  # fmt: skip
    return out.getvalue()


def _unfinished(study: Study, events: Mapping[str, Sequence[Event]], now: datetime) -> list[str]:
    """Readers who have readings to give, or could still change their last one, with how far they are."""
    found = []
    for reader, order in study.orders.items():
        given = len(last_readings(events[reader]))
        is_finished = standing(order, events[reader], study.washout, now).phase is Phase.FINISHED
        if given < len(order) or not is_finished:
            found.append(f"{reader} ({given} of {len(order)} readings)")
    return found
