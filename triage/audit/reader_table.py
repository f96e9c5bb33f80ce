"""The table of a reader study, one row a reading, its choice and scores: read with every row checked, and written."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from triage.audit.bootstrap import NAN, Floats
from triage.audit.cases import CLASSES
from triage.audit.csv_rows import choice_in, count_in, name_in, number_in, numbered, only_once, rows, written

WITHOUT, WITH = "without", "with"
"""The modalities of a study with the model; a table may have others."""
TRUTH = "truth"
"""Marks the truth in an iMRMC file, so no reader and no modality may be called that."""
SCORES = tuple(f"score_{name}" for name in CLASSES)
COLUMNS = ("readerID", "caseID", "modalityID", "session", "truth_class", "response_class", *SCORES)

Indices = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class ReaderTable:
    """
    The readings of a study, n of them in the order of the file.

    Attributes:
        readers, cases, modalities: names in alphabetical order, so that "with" comes before "without".
        reader, case, modality: (n,) which of them.
        session: (n,) which of the reader's sessions, from 1.
        truth: (cases,) true class, in the order of CLASSES.
        response: (n,) the class chosen.
        score: (n, classes) how sure the reader is of each class, higher is surer.
    """

    readers: tuple[str, ...]
    cases: tuple[str, ...]
    modalities: tuple[str, ...]
    reader: Indices
    case: Indices
    modality: Indices
    session: Indices
    truth: Indices
    response: Indices
    score: Floats

    def __len__(self) -> int:
        return len(self.reader)


@dataclass(frozen=True, eq=False)
class Grid:
    """
    The same readings by place, (modalities, readers, cases).

    Attributes:
        score: (modalities, readers, cases, classes), NaN where no reading was made.
        response, session: as in the table, -1 where no reading was made.
        truth: (cases,).
    """

    score: Floats
    response: Indices
    session: Indices
    truth: Indices

    @property
    def is_read(self) -> Flags:
        """Which readings were made."""
        return self.response >= 0

    @property
    def is_complete(self) -> bool:
        """Whether every reader read every case in every modality."""
        return bool(self.is_read.all())


def read_table(text: str) -> ReaderTable:
    """
    Read a study's CSV, its columns in any order.

    Raises:
        ValueError: names the line and the column of the first fault: a value of the wrong kind, a second reading in
            one place, another truth for a case.
    """
    seen: dict[tuple[str, ...], int] = {}
    truths: dict[str, tuple[int, int]] = {}
    names, numbers, scores = [], [], []
    for line, row in rows(text, COLUMNS):
        key = tuple(name_in(line, row, column) for column in COLUMNS[:3])
        _not_truth(line, key)
        only_once(line, "readerID, caseID, modalityID", key, seen)
        truth = choice_in(line, row, "truth_class", CLASSES)
        known, since = truths.setdefault(key[1], (truth, line))
        if known != truth:
            raise ValueError(f"line {line}, truth_class: not what line {since} gives for the same case")
        names.append(key)
        numbers.append((count_in(line, row, "session"), choice_in(line, row, "response_class", CLASSES)))
        scores.append([number_in(line, row, column) for column in SCORES])
    if not names:
        raise ValueError("the table has no readings")
    (readers, reader), (cases, case), (modalities, modality) = map(numbered, zip(*names, strict=True))
    session, response = np.array(numbers, dtype=np.intp).T
    truth_of = np.array([truths[name][0] for name in cases], dtype=np.intp)
    return ReaderTable(
        readers, cases, modalities, reader, case, modality, session, truth_of, response, np.array(scores)
    )


def write_table(table: ReaderTable) -> str:
    """The CSV text that `read_table` reads back as the same table."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for i in range(len(table)):
        writer.writerow(
            [
                table.readers[table.reader[i]],
                table.cases[table.case[i]],
                table.modalities[table.modality[i]],
                int(table.session[i]),
                CLASSES[table.truth[table.case[i]]],
                CLASSES[table.response[i]],
                *(written(float(score)) for score in table.score[i]),
            ]
        )
    return out.getvalue()


def grid(table: ReaderTable) -> Grid:
    """The readings by place."""
    shape = (len(table.modalities), len(table.readers), len(table.cases))
    place = (table.modality, table.reader, table.case)
    score = np.full((*shape, len(CLASSES)), NAN)
    response, session = np.full(shape, -1, dtype=np.intp), np.full(shape, -1, dtype=np.intp)
    score[place], response[place], session[place] = table.score, table.response, table.session
    return Grid(score, response, session, table.truth)


def _not_truth(line: int, key: tuple[str, ...]) -> None:
    for column, name in zip(COLUMNS[:3:2], key[::2], strict=True):
        if name == TRUTH:
            raise ValueError(
                f"line {line}, {column}: {TRUTH!r} is no name for one, an iMRMC file marks the truth by it"
            )
