"""One class against the rest, as readers rated it: from a study's table, or from iMRMC's file, written too."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

import numpy as np

from triage.audit.bootstrap import NAN, Floats
from triage.audit.cases import CLASSES
from triage.audit.csv_rows import choice_in, name_in, number_in, numbered, only_once, rows, written
from triage.audit.reader_table import TRUTH, Flags, ReaderTable, grid

IMRMC_COLUMNS = ("readerID", "caseID", "modalityID", "score")
BEGIN = "BEGIN DATA:"


@dataclass(frozen=True, eq=False)
class Ratings:
    """
    Scores for "this case is positive", by place.

    Attributes:
        readers, cases, modalities: names in alphabetical order.
        score: (modalities, readers, cases), NaN where no reading was made.
        is_positive: (cases,) truth.
    """

    readers: tuple[str, ...]
    cases: tuple[str, ...]
    modalities: tuple[str, ...]
    score: Floats
    is_positive: Flags

    @property
    def is_read(self) -> Flags:
        """(modalities, readers, cases): which readings were made."""
        return ~np.isnan(self.score)


def against_rest(table: ReaderTable, name: str) -> Ratings:
    """The class *name* against the two others, rated by the score the readers gave it."""
    k = CLASSES.index(name)
    score = grid(table).score[..., k]
    return Ratings(table.readers, table.cases, table.modalities, score, table.truth == k)


def read_imrmc(text: str) -> Ratings:
    """
    Read iMRMC's long CSV; the truth rows have reader and modality "truth" and a score of 0 or 1.

    A free description may come first, ended by a line "BEGIN DATA:"; after it the header may be left out.

    Raises:
        ValueError: names the line and the column of the first fault, also that a case has no truth row.
    """
    readings: dict[tuple[str, str, str], float] = {}
    truths: dict[str, bool] = {}
    seen: dict[tuple[str, str, str], int] = {}
    body, first_line = _body(text)
    for line, row in rows(body, IMRMC_COLUMNS, first_line=first_line):
        reader, case, modality = key = (
            name_in(line, row, "readerID"),
            name_in(line, row, "caseID"),
            name_in(line, row, "modalityID"),
        )
        only_once(line, "readerID, caseID, modalityID", key, seen)
        score = number_in(line, row, "score")
        if (reader == TRUTH) != (modality == TRUTH):
            raise ValueError(f"line {line}, modalityID: a row of the truth has {TRUTH!r} as reader and as modality")
        if reader == TRUTH:
            choice_in(line, {"score": f"{score:g}"}, "score", ("0", "1"))
            truths[case] = score == 1
        else:
            readings[key] = score
    if not readings:
        raise ValueError("the table has no readings")
    for key in readings:
        if key[1] not in truths:
            raise ValueError(f"line {seen[key]}, caseID: no row gives this case's truth")
    return _ratings(readings, truths)


def write_imrmc(ratings: Ratings) -> str:
    """The CSV text that `read_imrmc` reads back as the same ratings; truth rows first."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(IMRMC_COLUMNS)
    for case, is_positive in zip(ratings.cases, ratings.is_positive, strict=True):
        writer.writerow([TRUTH, case, TRUTH, int(is_positive)])
    for m, r, k in np.argwhere(ratings.is_read):
        score = written(float(ratings.score[m, r, k]))
        writer.writerow([ratings.readers[r], ratings.cases[k], ratings.modalities[m], score])
    return out.getvalue()


def _body(text: str) -> tuple[str, int]:
    """The part with the data, its header supplied where missing, and the line number of that header."""
    lines = text.splitlines(keepends=True)
    begin = next((i for i, line in enumerate(lines) if line.strip().rstrip(",").upper() == BEGIN), None)
    if begin is None:
        return text, 1
    data = lines[begin + 1 :]
    if data and data[0].replace('"', "").lower().startswith(IMRMC_COLUMNS[0].lower()):
        return "".join(data), begin + 2
    return "".join([",".join(IMRMC_COLUMNS) + "\n", *data]), begin + 1


def _ratings(readings: dict[tuple[str, str, str], float], truths: dict[str, bool]) -> Ratings:
    cases = tuple(sorted(truths))
    place = {name: i for i, name in enumerate(cases)}
    keys = list(readings)
    readers, reader = numbered([key[0] for key in keys])
    modalities, modality = numbered([key[2] for key in keys])
    score = np.full((len(modalities), len(readers), len(cases)), NAN)
    score[modality, reader, [place[key[1]] for key in keys]] = list(readings.values())
    return Ratings(readers, cases, modalities, score, np.array([truths[name] for name in cases], dtype=np.bool_))
