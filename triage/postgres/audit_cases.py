"""What the audit desk reads of a run: one row of numbers and codes, written with it, read back a million at a time."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

import numpy as np
import numpy.typing as npt
from psycopg import sql

from triage.domain.finding import PIXEL_STATISTICS, Assessment, ChestClass
from triage.domain.frame import Frame
from triage.postgres.connect import Db

HEADER = 19
"""Bytes of a binary COPY before its rows: signature, flags, length of the extension."""

RECORD = """
    INSERT INTO audit_case (
        run_id, entry_id, site, recorded_at, patient_key, outcome, refusal, version, card_sha256, threshold,
        p_normal, p_pneumonia, p_covid, is_flagged, gate_score, lung_area, activation_outside, requested_priority,
        age_years, sex, view_position, manufacturer, model_name, station_name, image_rows, image_columns,
        statistics, coordinates)
    SELECT r.id, e.id, e.site, r.ended_at,
           -- an image without a patient's number is a patient of its own
           hashtextextended(CASE WHEN s.patient_id = '' THEN s.study_instance_uid
                                 ELSE s.site || E'\\x1f' || s.patient_issuer || E'\\x1f' || s.patient_id END, 0),
           r.outcome, r.reason, %(version)s, %(card_sha256)s, %(threshold)s, %(p_normal)s, %(p_pneumonia)s, %(p_covid)s,
           r.is_flagged, %(gate_score)s, %(lung_area)s, %(activation_outside)s, e.requested_priority,
           (f.facts->>'age_years')::float8, s.patient_sex, coalesce(f.facts->>'view_position', ''),
           coalesce(f.facts->>'manufacturer', ''), coalesce(f.facts->>'model_name', ''),
           coalesce(f.facts->>'station_name', ''), (f.facts->>'rows')::int, (f.facts->>'columns')::int,
           %(statistics)s, %(coordinates)s
      FROM run r JOIN worklist_entry e ON e.id = r.entry_id JOIN study s ON s.id = r.study_id
      LEFT JOIN LATERAL (
           SELECT i.facts FROM instance i
            WHERE i.study_id = r.study_id AND i.facts IS NOT NULL
              AND i.sop_instance_uid = coalesce(%(sop)s, i.sop_instance_uid)
            ORDER BY i.sop_instance_uid LIMIT 1) f ON true
     WHERE r.id = %(run_id)s
"""


def record(db: Db, run_id: UUID, assessment: Assessment | None) -> None:
    """Write the row of a run that just ended."""
    db.execute(RECORD, {"run_id": run_id, **_numbers(assessment)})


def _numbers(assessment: Assessment | None) -> dict[str, Any]:
    if assessment is None:
        names = ("threshold", "p_normal", "p_pneumonia", "p_covid", "gate_score", "lung_area", "activation_outside")
        return {**dict.fromkeys((*names, "statistics", "coordinates", "sop")), "version": "", "card_sha256": ""}
    statistics, coordinates = assessment.statistics, assessment.coordinates
    covid = next(o for o in assessment.observations if o.code is ChestClass.COVID)
    return {
        "version": assessment.classifier.version,
        "card_sha256": assessment.classifier.card_sha256,
        "threshold": covid.threshold,
        **{f"p_{code}": assessment.probability_of(code) for code in ChestClass},
        "gate_score": assessment.gate_score,
        "lung_area": assessment.lungs.area_fraction,
        "activation_outside": assessment.activation_outside,
        "statistics": None if statistics is None else [statistics.get(name) for name in PIXEL_STATISTICS],
        "coordinates": None if coordinates is None else list(coordinates),
        "sop": assessment.sop_instance_uid,
    }


WITHDRAW = "UPDATE audit_case SET withdrawn_at = clock_timestamp() WHERE entry_id = %s AND withdrawn_at IS NULL"


def withdraw(db: Db, entry_id: int) -> None:
    """What an entry's runs said no longer counts from now on; a report of an earlier instant still counts it."""
    db.execute(WITHDRAW, (entry_id,))


NUMBERS: Sequence[LiteralString] = (
    "threshold", "p_normal", "p_pneumonia", "p_covid", "gate_score", "lung_area", "activation_outside", "age_years",
)  # fmt: skip
TEXTS: Sequence[LiteralString] = (
    "outcome", "refusal", "version", "card_sha256", "requested_priority", "sex", "view_position", "manufacturer",
    "model_name", "station_name",
)  # fmt: skip

LATEST: LiteralString = """
      FROM audit_case c
     WHERE c.site = {site} AND c.recorded_at > {start} AND c.recorded_at <= {as_of}
       AND (c.withdrawn_at IS NULL OR c.withdrawn_at > {as_of})
       -- one row a study: what its latest run said by then
       AND NOT EXISTS (SELECT 1 FROM audit_case later
                        WHERE later.entry_id = c.entry_id AND later.id > c.id AND later.recorded_at <= {as_of})
"""


def frame(db: Db, site: str, start: datetime, as_of: datetime) -> Frame:
    """
    What every study of *site* had last been told in (start, as_of], as known at *as_of*; in order of recording.

    Numbers a row lacks are NaN. `day` counts days since 1970 in UTC, `at` seconds.
    """
    wanted: dict[str, tuple[str, LiteralString]] = {
        "case_id": ("i8", "c.id"),
        "entry_id": ("i8", "c.entry_id"),
        "patient": ("i8", "c.patient_key"),
        "at": ("f8", "extract(epoch FROM c.recorded_at)::float8"),
        "is_flagged": ("i4", "c.is_flagged::int"),
        **{name: ("f8", "coalesce(c." + name + ", 'NaN'::float8)") for name in NUMBERS},
        **{name: ("i4", "hashtext(c." + name + ")") for name in TEXTS},
    }
    bounds = {"site": sql.Literal(site), "start": sql.Literal(start), "as_of": sql.Literal(as_of)}
    columns = fixed_columns(db, wanted, sql.SQL(LATEST + " ORDER BY c.id").format(**bounds))
    columns["day"] = np.floor(columns["at"] / 86400).astype(np.int64)
    words = {name: words_of(db, "audit_case", name) for name in TEXTS}
    return Frame(columns, words)


def words_of(db: Db, table: LiteralString, column: LiteralString) -> dict[int, str]:
    """What the codes of a text column stand for."""
    query: LiteralString = "SELECT DISTINCT hashtext(" + column + ") AS code, " + column + " AS word FROM " + table
    return {row["code"]: row["word"] for row in db.execute(query).fetchall()}


READINGS: LiteralString = """
      FROM audit_case c JOIN worklist_entry e ON e.id = c.entry_id
     WHERE c.site = {site} AND c.recorded_at > {start} AND c.recorded_at <= {as_of}
     GROUP BY e.id
"""


def readings(db: Db, site: str, start: datetime, as_of: datetime) -> Frame:
    """When each entry of `frame` became readable, was opened and was reported: seconds, NaN where not by *as_of*."""
    instant: LiteralString = (
        "coalesce(extract(epoch FROM CASE WHEN e.{0} <= {as_of} THEN e.{0} END)::float8, 'NaN'::float8)"
    )
    bounds = {"site": sql.Literal(site), "start": sql.Literal(start), "as_of": sql.Literal(as_of)}
    wanted: dict[str, tuple[str, LiteralString | sql.Composed]] = {"entry_id": ("i8", "e.id")}
    for name, column in (("eligible", "eligible_at"), ("opened", "opened_at"), ("reported", "reported_at")):
        wanted[name] = ("f8", sql.SQL(instant.replace("{0}", column)).format(**bounds))
    columns = fixed_columns(db, wanted, sql.SQL(READINGS).format(**bounds))
    return Frame(columns, {})


SAMPLE: LiteralString = """
    SELECT c.id, c.statistics, c.coordinates FROM audit_case c
     WHERE c.id = ANY(%s) ORDER BY c.id
"""


def details(db: Db, case_ids: Sequence[int]) -> Frame:
    """`case_id`, `statistics` (n, k) and `coordinates` (n, k) of some rows in order of id; NaN where a row has none."""
    rows = db.execute(SAMPLE, (list(case_ids),)).fetchall()
    columns = {
        "case_id": np.array([row["id"] for row in rows], dtype=np.int64),
        "statistics": _stacked(rows, "statistics", len(PIXEL_STATISTICS)),
        "coordinates": _stacked(rows, "coordinates", None),
    }
    return Frame(columns, {})


def _stacked(rows: Sequence[Mapping[str, Any]], name: str, width: int | None) -> npt.NDArray[np.float64]:
    width = width or max((len(r[name]) for r in rows if r[name]), default=0)
    empty = [np.nan] * width
    found = [[np.nan if x is None else x for x in r[name]] if r[name] else empty for r in rows]
    return np.array(found, dtype=np.float64).reshape(len(rows), width)


def fixed_columns(
    db: Db, wanted: Mapping[str, tuple[str, LiteralString | sql.Composed]], source: sql.Composed
) -> dict[str, npt.NDArray[Any]]:
    """
    Columns of numbers without NULLs by binary COPY, where every row is as long as the next.

    Args:
        wanted: name to numpy type ("i4", "i8", "f8") and the SQL that gives it.
    """
    expressions = (e if isinstance(e, sql.Composed) else sql.SQL(e) for _, e in wanted.values())
    listed = sql.SQL(", ").join(expressions)
    query = sql.SQL("COPY (SELECT {} {}) TO STDOUT (FORMAT BINARY)").format(listed, source)
    fields: list[tuple[str, str]] = [("count", ">i2")]
    for name, (kind, _) in wanted.items():
        fields += [(f"{name} length", ">i4"), (name, f">{kind}")]
    layout = np.dtype(fields)
    with db.cursor() as cursor, cursor.copy(query) as copy:
        stored = b"".join(_body(copy))
    table = np.frombuffer(stored, dtype=layout, count=len(stored) // layout.itemsize)
    return {name: table[name].astype(kind) for name, (kind, _) in wanted.items()}


def _body(parts: Iterable[bytes | bytearray | memoryview]) -> Iterator[bytes]:
    """The rows of a binary COPY stream: what comes between its header and its trailer (PostgreSQL manual, COPY)."""
    head, is_past = b"", False
    for part in parts:
        if is_past:
            yield bytes(part)
            continue
        head += bytes(part)
        if len(head) >= HEADER:
            (extension,) = struct.unpack(">i", head[HEADER - 4 : HEADER])
            is_past = True
            yield head[HEADER + extension :]
