"""The folder of cases: what may be shown of each, and, kept apart, its truth."""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from triage.domain.errors import Conflict, Rejected, UnusableRadiograph
from triage.domain.finding import ChestClass
from triage.reading_room import picture

TABLE = "cases.csv"
REQUIRED = ("caseID", "file", "truth_class")
SCORES = tuple(f"p_{c}" for c in ChestClass)
SUM_WITHIN = 0.02
LONGEST_ID = 64

Probabilities = tuple[float, float, float]
"""Of normal, pneumonia and COVID, in the order of `ChestClass`."""


@dataclass(frozen=True)
class Case:
    """What may be shown of one case; it does not know the truth."""

    case_id: str
    file: str
    sha256: str
    probabilities: Probabilities | None = None
    overlay: str = ""
    overlay_sha256: str = ""


def fault(row: int, column: str, what: str, table: str = TABLE) -> Rejected:
    """An error that names the cell, and nothing of what it holds."""
    return Rejected(f"{table}, row {row}, column {column}: {what}")


def read_cases(folder: Path, scores: Path | None = None) -> tuple[list[Case], dict[str, ChestClass]]:
    """
    Every case of *folder*/cases.csv, its files decoded once, and the truth by case.

    Args:
        scores: what `python -m models predict` wrote of the folder, where cases.csv holds no probabilities itself.
    Raises:
        Rejected: something is wrong; the message names row and column, the header being row 1.
    """
    predicted = None if scores is None else _predicted(scores)
    cases: list[Case] = []
    truth: dict[str, ChestClass] = {}
    images: dict[str, int] = {}
    without_scores: list[int] = []
    for row, cells in _rows(folder / TABLE, REQUIRED):
        case_id = cells["caseID"]
        if not case_id or not case_id.isprintable() or len(case_id) > LONGEST_ID:
            raise fault(row, "caseID", f"is empty, longer than {LONGEST_ID} characters or not printable")
        if case_id in truth:
            raise fault(row, "caseID", "has been given to an earlier row")
        truth[case_id] = _class(row, cells["truth_class"])
        case = _case(folder, row, cells, predicted)
        if images.setdefault(case.sha256, row) != row:
            raise fault(row, "file", f"is the same image as in row {images[case.sha256]}")
        if case.probabilities is None:
            without_scores.append(row)
        cases.append(case)
    if not cases:
        raise Rejected(f"{TABLE}: holds no case")
    if 0 < len(without_scores) < len(cases):
        raise fault(without_scores[0], SCORES[0], "is empty, and other rows have probabilities: all rows or none")
    return cases, truth


def read_truth(folder: Path, sha256: str) -> dict[str, ChestClass]:
    """
    The truth by case.

    Raises:
        Conflict: cases.csv has changed since the study was prepared.
        Rejected: it cannot be read.
    """
    if sha256_of(folder / TABLE) != sha256:
        raise Conflict(f"{TABLE} has changed since the study was prepared")
    return {cells["caseID"]: _class(row, cells["truth_class"]) for row, cells in _rows(folder / TABLE, REQUIRED)}


def sha256_of(path: Path) -> str:
    """
    The digest of a file.

    Raises:
        Rejected: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as why:
        raise Rejected(f"{path.name}: {why.strerror or type(why).__name__}") from None


def inside(folder: Path, name: str) -> Path | None:
    """The file *name* of *folder*; None where it is none, or would leave the folder, be it through a link."""
    try:
        path = (folder / name).resolve()
        return path if name and path.is_relative_to(folder.resolve()) and path.is_file() else None
    except (OSError, ValueError):
        return None


def _case(folder: Path, row: int, cells: Mapping[str, str], predicted: Mapping[str, Probabilities] | None) -> Case:
    path = inside(folder, cells["file"])
    if path is None:
        raise fault(row, "file", "names no file inside the folder")
    try:
        shown = picture.radiograph(path)
    except UnusableRadiograph as why:
        raise fault(row, "file", f"cannot be shown ({why})") from None
    probabilities = _probabilities(row, cells, predicted)
    overlay, overlay_sha256 = cells.get("overlay", ""), ""
    if overlay:
        over = inside(folder, overlay)
        if over is None:
            raise fault(row, "overlay", "names no file inside the folder")
        if probabilities is None:
            raise fault(row, "overlay", "is given, the probabilities it belongs to are not")
        try:
            picture.overlay(over, shown.size)
        except UnusableRadiograph as why:
            raise fault(row, "overlay", f"cannot be shown ({why})") from None
        overlay_sha256 = sha256_of(over)
    return Case(cells["caseID"], cells["file"], sha256_of(path), probabilities, overlay, overlay_sha256)


def _class(row: int, written: str) -> ChestClass:
    try:
        return ChestClass(written.lower())
    except ValueError:
        raise fault(row, "truth_class", f"is none of {', '.join(ChestClass)}") from None


def _probabilities(
    row: int, cells: Mapping[str, str], predicted: Mapping[str, Probabilities] | None
) -> Probabilities | None:
    if any(cells.get(column) for column in SCORES):
        if predicted is not None:
            raise fault(row, SCORES[0], "probabilities come from the table or from --scores, not from both")
        return _numbers(row, cells, TABLE)
    if predicted is None:
        return None
    if cells["file"] not in predicted:
        raise fault(row, "file", "has no probabilities in the scores")
    return predicted[cells["file"]]


def _numbers(row: int, cells: Mapping[str, str], table: str) -> Probabilities:
    found = []
    for column in SCORES:
        try:
            number = float(cells.get(column, ""))
        except ValueError:
            raise fault(row, column, "is no number", table) from None
        if not 0 <= number <= 1:
            raise fault(row, column, "is no probability from 0 to 1", table)
        found.append(number)
    if not math.isclose(sum(found), 1, abs_tol=SUM_WITHIN):
        raise fault(row, SCORES[-1], "the three probabilities do not add up to 1", table)
    return found[0], found[1], found[2]


def _predicted(path: Path) -> dict[str, Probabilities]:
    """What `models predict` said, by file; files it could not read have no row here."""
    rows = _rows(path, ("file", *SCORES))
    return {cells["file"]: _numbers(row, cells, path.name) for row, cells in rows if any(cells[c] for c in SCORES)}


def _rows(path: Path, required: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Each row's number and its cells by column, without the blanks around them."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file, restval="", strict=True)
            columns = [column.strip() for column in table.fieldnames or ()]
            table.fieldnames = columns
            for column in required:
                if columns.count(column) != 1:
                    raise Rejected(f"{path.name}, row 1: needs one column {column}")
            for cells in table:
                if None in cells:
                    raise Rejected(f"{path.name}, row {table.line_num}: has more cells than the header")
                yield table.line_num, {column: cell.strip() for column, cell in cells.items()}
    except (OSError, UnicodeDecodeError, csv.Error) as why:
        raise Rejected(f"{path.name}: cannot be read ({type(why).__name__})") from None
