"""Lines of a CSV text, every place checked; what is wrong is named by line and column, never by what stands there."""

from __future__ import annotations

import csv
import io
from collections.abc import Hashable, Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt

Row = Mapping[str, str]


def rows(text: str, columns: Sequence[str], *, first_line: int = 1) -> Iterator[tuple[int, Row]]:
    """
    Each line's number and its values by column, without the blanks around them; empty lines are passed over.

    Args:
        columns: what the header must hold, these and no others, in any order.
        first_line: the number of the header's line, where the text is the end of a longer one.
    Raises:
        ValueError: another header, or a line with more or fewer values.
    """
    lines = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    readable = _readable(lines, first_line)
    header = [name.strip() for name in next(readable, [])]
    if sorted(header) != sorted(columns):
        missing, more = sorted(set(columns) - set(header)), len(set(header) - set(columns))
        raise ValueError(f"line {first_line}: {_header_fault(missing, more)}; expected {','.join(columns)}")
    for values in readable:
        line = first_line + lines.line_num - 1
        if not any(value.strip() for value in values):
            continue
        if len(values) != len(header):
            raise ValueError(f"line {line}: {len(values)} values under {len(header)} columns")
        yield line, dict(zip(header, (value.strip() for value in values), strict=True))


def name_in(line: int, row: Row, column: str) -> str:
    """A name, not empty."""
    if not row[column]:
        raise ValueError(f"line {line}, {column}: empty")
    return row[column]


def choice_in(line: int, row: Row, column: str, allowed: Sequence[str]) -> int:
    """The place of a word in *allowed*."""
    if row[column] not in allowed:
        raise ValueError(f"line {line}, {column}: none of {', '.join(allowed)}")
    return allowed.index(row[column])


def count_in(line: int, row: Row, column: str) -> int:
    """A whole number from 1."""
    text = row[column]
    # int() would take "1_0" and digits of other scripts
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= np.iinfo(np.intp).max):
        raise ValueError(f"line {line}, {column}: not a whole number from 1")
    return int(text)


def number_in(line: int, row: Row, column: str) -> float:
    """A finite number."""
    text = row[column]
    try:
        value = float(text) if text.isascii() and "_" not in text else float("nan")
    except ValueError:
        value = float("nan")
    if not isfinite(value):
        raise ValueError(f"line {line}, {column}: not a number")
    return value


def only_once(line: int, what: str, key: Hashable, seen: dict[Any, int]) -> None:
    """Refuse a second line with the same *key*, and remember this one in *seen*."""
    if (before := seen.setdefault(key, line)) != line:
        raise ValueError(f"line {line}, {what}: the same as in line {before}")


def numbered(names: Sequence[str]) -> tuple[tuple[str, ...], npt.NDArray[np.intp]]:
    """The different names in alphabetical order, and (n,) which one each is."""
    kinds = tuple(sorted(set(names)))
    place = {name: i for i, name in enumerate(kinds)}
    return kinds, np.array([place[name] for name in names], dtype=np.intp)


def written(value: float) -> str:
    """A number that reads back as the same, whole ones without a point."""
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def _readable(lines: Any, first_line: int) -> Iterator[list[str]]:
    """The lines of a csv reader; what it cannot take is a fault like any other."""
    try:
        yield from lines  # strict, so that a quote left open is a fault and not the rest of the file
    except csv.Error:
        raise ValueError(f"line {first_line + lines.line_num - 1}: not CSV, or a value too long") from None


def _header_fault(missing: Sequence[str], more: int) -> str:
    if missing:
        return f"the columns {', '.join(missing)} are missing"
    return f"{more} columns are unknown" if more else "a column stands twice"
