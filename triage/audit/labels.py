"""What is known of each study's truth and since when: ranked sources, amendments, two time axes, a random sample."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import combinations

import numpy as np
import numpy.typing as npt

from triage.audit.bootstrap import Floats, Rows

Instants = npt.NDArray[np.datetime64]
"""Instants in UTC; NumPy's have no zone of their own."""

WITHDRAWN = -1
"""The truth of a row by which a source takes back what it said, until it says something else."""


class Source(StrEnum):
    """
    Where a label comes from, the most trusted first; RT-PCR and adjudication by CT rank alike.

    A label names one class: a negative RT-PCR alone, which only says "not COVID", is none.
    """

    RT_PCR = "rt-pcr"
    CT_ADJUDICATION = "ct-adjudication"
    CONSENSUS = "consensus"
    AUDIT_READ = "audit-read"
    """An independent reading of a study drawn at random, by a reader who does not see the AI's result."""
    FINAL_REPORT = "final-report"
    REPORT_TEXT = "report-text"


SOURCES = tuple(Source)
RANK = np.array([0, 0, 1, 2, 3, 4], dtype=np.int8)
"""Rank of each of SOURCES, lower is better."""


@dataclass(frozen=True, eq=False)
class Labels:
    """
    Statements about studies as they were recorded; an amended report is a new row, no row is ever changed.

    Attributes:
        row: (n,) number of the row, unique; of two rows alike in everything else the higher number stands.
        study: (n,) number of the study's row; no UID, no name.
        source: (n,) place in SOURCES.
        truth: (n,) class 0 ... k - 1, or WITHDRAWN.
        reader_saw_ai: (n,) whether who made the label had seen the AI's result (incorporation, automation bias).
        valid_from: (n,) since when the statement holds: the report signed, the result validated.
        recorded_at: (n,) when we learned it. Must be given by the database when the row is written, so that nothing
            recorded later can carry an earlier instant.
    """

    row: npt.NDArray[np.int64]
    study: npt.NDArray[np.int64]
    source: npt.NDArray[np.int8]
    truth: npt.NDArray[np.int8]
    reader_saw_ai: npt.NDArray[np.bool_]
    valid_from: Instants
    recorded_at: Instants

    def __post_init__(self) -> None:
        """Refuse columns of unequal length, a row number twice, an unknown source, a missing instant."""
        lengths = {len(column) for column in vars(self).values()}
        if len(lengths) > 1:
            raise ValueError(f"labels: columns of {sorted(lengths)} rows")
        if len(np.unique(self.row)) != len(self.row):
            raise ValueError("labels: a row number occurs twice")
        if ((self.source < 0) | (self.source >= len(SOURCES))).any():
            raise ValueError(f"labels: a source outside 0 ... {len(SOURCES) - 1}")
        if (self.truth < WITHDRAWN).any():
            raise ValueError(f"labels: a truth below {WITHDRAWN}")
        if np.isnat(self.valid_from).any() or np.isnat(self.recorded_at).any():
            raise ValueError("labels: an instant is missing")


@dataclass(frozen=True, eq=False)
class Known:
    """
    The best label of each labelled study, as known at one instant; all arrays (m,), in the order of the studies.

    Attributes:
        first_recorded_at: when any source's first label of the study was recorded: its arrival, for the label delay.
        amended: some source has named more than one class of the study.
    """

    at: np.datetime64
    study: npt.NDArray[np.int64]
    truth: npt.NDArray[np.int8]
    source: npt.NDArray[np.int8]
    reader_saw_ai: npt.NDArray[np.bool_]
    valid_from: Instants
    recorded_at: Instants
    first_recorded_at: Instants
    amended: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Portion:
    """How many studies have their best label from a source, their share, and of how many the reader saw the AI."""

    source: Source
    studies: int
    share: float
    reader_saw_ai: int


@dataclass(frozen=True)
class Conflict:
    """How many studies two sources both label, and how many they label differently."""

    first: Source
    second: Source
    both: int
    differ: int


@dataclass(frozen=True, eq=False)
class Sample:
    """Studies drawn for an independent reading: `chosen` (n,), and `weight` (n,), 1 / rate where chosen, else 0."""

    chosen: npt.NDArray[np.bool_]
    weight: Floats
    rate: float


def utc(moments: Iterable[datetime]) -> Instants:
    """Aware moments as an array in UTC, to the microsecond; ValueError for a naive one."""
    found = []
    for place, moment in enumerate(moments):
        if moment.tzinfo is None:
            raise ValueError(f"moment {place} has no time zone")
        found.append(moment.replace(tzinfo=None) - moment.utcoffset())  # type: ignore[operator]
    return np.array(found, dtype="datetime64[us]")


def as_known(labels: Labels, at: np.datetime64) -> Known:
    """
    Each study's best label as known at *at*: what was recorded later changes nothing, so a past report can be repeated.

    Of each source the statement valid last stands (then the one recorded last, then the higher row), if it had begun
    to hold; of the sources with a standing statement the best ranked, of equal ranks again the one valid last.
    """
    recorded = _recorded(labels, at)
    standing = _standing(labels, recorded)
    rank = RANK[labels.source[standing]]
    order = np.lexsort(
        (labels.row[standing], labels.recorded_at[standing], labels.valid_from[standing], -rank, labels.study[standing])
    )
    best = standing[order][_is_last(labels.study[standing[order]])]
    study = labels.study[best]
    return Known(
        at,
        study,
        labels.truth[best],
        labels.source[best],
        labels.reader_saw_ai[best],
        labels.valid_from[best],
        labels.recorded_at[best],
        _first_recorded(labels, recorded, study),
        np.isin(study, _amended(labels, recorded)),
    )


def mix(known: Known) -> tuple[Portion, ...]:
    """From which sources the labels are, the best ranked first; sources without a study are left out."""
    studies = np.bincount(known.source, minlength=len(SOURCES))
    saw = np.bincount(known.source[known.reader_saw_ai], minlength=len(SOURCES))
    return tuple(
        Portion(source, int(n), float(n / len(known.study)), int(seen))
        for source, n, seen in zip(SOURCES, studies, saw, strict=True)
        if n
    )


def conflicts(labels: Labels, at: np.datetime64) -> tuple[Conflict, ...]:
    """Every two sources that both label a study, as known at *at*, and how often they name different classes."""
    standing = _standing(labels, _recorded(labels, at))
    studies, place = np.unique(labels.study[standing], return_inverse=True)
    said = np.full((len(SOURCES), len(studies)), WITHDRAWN, dtype=np.int8)
    said[labels.source[standing], place] = labels.truth[standing]
    found = []
    for i, j in combinations(range(len(SOURCES)), 2):
        both = (said[i] != WITHDRAWN) & (said[j] != WITHDRAWN)
        if both.any():
            found.append(Conflict(SOURCES[i], SOURCES[j], int(both.sum()), int((said[i] != said[j])[both].sum())))
    return tuple(found)


def random_audit(study: npt.ArrayLike, is_flagged: npt.ArrayLike, secret: bytes, rate: float) -> Sample:
    """
    Draw unflagged studies for an independent reading: what finds missed cases without an assumption.

    A study is drawn or not by a keyed hash of its own row number (BLAKE2b): the same each time, not to be foreseen
    without the secret, untouched by what arrives later, and a higher rate only adds to a lower one's draw.

    Args:
        study: (n,) number of the study's row.
        is_flagged: (n,) flagged studies are read anyway and never drawn.
        secret: the site's, 16 to 64 bytes, kept with the other credentials and the same for as long as draws shall be.
        rate: the share to draw, in (0, 1].
    """
    if not 0 < rate <= 1:
        raise ValueError("the audit's rate is not in (0, 1]")
    if not 16 <= len(secret) <= 64:
        raise ValueError("the audit's secret is not of 16 to 64 bytes")
    numbers, flagged = np.asarray(study, dtype=np.int64), np.asarray(is_flagged, dtype=bool)
    if numbers.shape != flagged.shape:
        raise ValueError(f"{flagged.shape} flags for {numbers.shape} studies")
    limit = int(rate * 2**64)
    chosen = np.zeros(len(numbers), dtype=bool)
    unflagged = np.flatnonzero(~flagged)
    chosen[unflagged] = [_hashed(n, secret) < limit for n in numbers[unflagged].tolist()]
    return Sample(chosen, np.where(chosen, 1 / rate, 0.0), rate)


def _hashed(number: int, secret: bytes) -> int:
    # the purpose goes into the hash, so that no other use of the secret gives this draw away
    digest = hashlib.blake2b(number.to_bytes(8, "big", signed=True), digest_size=8, key=secret, person=b"random audit")
    return int.from_bytes(digest.digest(), "big")


def _recorded(labels: Labels, at: np.datetime64) -> Rows:
    """Places of the rows recorded, and valid, by *at*, ordered by study, source, validity, recording, row."""
    places = np.flatnonzero((labels.recorded_at <= at) & (labels.valid_from <= at))
    columns = (labels.row, labels.recorded_at, labels.valid_from, labels.source, labels.study)
    return places[np.lexsort([column[places] for column in columns])]


def _standing(labels: Labels, recorded: Rows) -> Rows:
    """The last statement of each source on each study, unless it is a withdrawal."""
    last: Rows = recorded[_is_last(labels.study[recorded], labels.source[recorded])]
    standing: Rows = last[labels.truth[last] != WITHDRAWN]
    return standing


def _first_recorded(labels: Labels, recorded: Rows, study: npt.NDArray[np.int64]) -> Instants:
    """When the first label of each *study* (all have one) was recorded."""
    named = recorded[labels.truth[recorded] != WITHDRAWN]
    named = named[np.lexsort((labels.recorded_at[named], labels.study[named]))]
    found: Instants = labels.recorded_at[named[np.searchsorted(labels.study[named], study, side="left")]]
    return found


def _amended(labels: Labels, recorded: Rows) -> npt.NDArray[np.int64]:
    """Studies of which a source has named one class after another."""
    named = recorded[labels.truth[recorded] != WITHDRAWN]
    same = ~_is_last(labels.study[named], labels.source[named])[:-1]
    found: npt.NDArray[np.int64] = labels.study[
        named[:-1][same & (labels.truth[named[:-1]] != labels.truth[named[1:]])]
    ]
    return found


def _is_last(*columns: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    """Whether each row of sorted columns is the last of its kind."""
    last = np.ones(len(columns[0]), dtype=bool)
    last[:-1] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return last
