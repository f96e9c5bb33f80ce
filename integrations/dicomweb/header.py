"""
Single values of a DICOM header, read so that a bad one harms nobody.

pydicom checks values when they are first touched and puts the offending value, perhaps a name, into its warning.
The check is switched off for the process: values are judged here, where they are used.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from typing import Any

from pydicom import config
from pydicom.dataset import Dataset

from triage.domain.errors import UnusableRadiograph

config.settings.reading_validation_mode = config.IGNORE
logging.getLogger("pydicom").setLevel(logging.CRITICAL)


def from_json(answer: Mapping[str, Any]) -> Dataset:
    """
    One object of DICOM JSON (PS3.18 F.2) as a data set; elements that cannot be read are left out.

    Bulk data are not fetched: their elements are present and empty.
    """
    whole = Dataset()
    for tag, element in answer.items():
        try:
            whole.update(Dataset.from_json({tag: element}, bulk_data_uri_handler=lambda _tag, _vr, _uri: b""))
        except Exception:  # pydicom raises whatever the bad value provokes
            continue
    return whole


def value(dataset: Dataset, keyword: str) -> Any:
    """The element's value, or None where it is absent, empty or cannot be read."""
    try:
        found = dataset.get(keyword)
    except Exception:  # pydicom raises whatever the bad value provokes
        return None
    return None if found is None or (isinstance(found, (str, bytes)) and not found) else found


def text(dataset: Dataset, keyword: str) -> str:
    """The first value as decoded text without padding, or ""."""
    return next(iter(texts(dataset, keyword)), "")


def texts(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """All values as decoded text without padding."""
    found = value(dataset, keyword)
    if found is None:
        return ()
    several = found if not isinstance(found, (str, bytes)) and _is_several(found) else [found]
    try:
        return tuple(storable(str(one)).strip() for one in several)
    except Exception:  # a person name decodes when it is printed
        return ()


def storable(written: str) -> str:
    """*written* without what PostgreSQL and UTF-8 cannot hold: NUL goes, a lone surrogate becomes a question mark."""
    return written.replace("\0", "").encode("utf-8", "replace").decode()


def _is_several(found: Any) -> bool:
    return isinstance(found, Iterable) and not hasattr(found, "components")  # a PersonName iterates over letters


def numbers(dataset: Dataset, keyword: str) -> tuple[float, ...]:
    """All values as finite numbers; () where any is not one."""
    try:
        read = tuple(float(one) for one in texts(dataset, keyword))
    except ValueError:
        return ()
    return read if all(map(math.isfinite, read)) else ()


def number(dataset: Dataset, keyword: str) -> float | None:
    """The first value as a finite number, or None."""
    return next(iter(numbers(dataset, keyword)), None)


def count(dataset: Dataset, keyword: str, default: int) -> int:
    """
    A whole number that matters; *default* where the element is absent or empty.

    Raises:
        UnusableRadiograph: unreadable-header, naming the element.
    """
    if keyword not in dataset:
        return default
    try:
        found = dataset.get(keyword)
        return default if found is None or found == "" else int(found)
    except Exception:  # pydicom raises whatever the bad value provokes; its text may hold the value
        raise UnusableRadiograph("unreadable-header", keyword) from None


def items(dataset: Dataset, keyword: str) -> tuple[Dataset, ...]:
    """The items of a sequence; () where it is absent or no sequence."""
    found = value(dataset, keyword)
    try:
        return tuple(one for one in found if isinstance(one, Dataset)) if found is not None else ()
    except Exception:  # items are parsed when iterated
        return ()


def day(dataset: Dataset, keyword: str) -> date | None:
    """A DA value (PS3.5 6.2), also in the retired form with full stops."""
    return _day(text(dataset, keyword))


def _day(written: str) -> date | None:
    digits = written.replace(".", "")[:8]
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:8])) if len(digits) == 8 else None
    except ValueError:
        return None


def _clock(written: str) -> time | None:
    """A TM value (PS3.5 6.2): at least the hour; a leap second counts as the second before it."""
    whole, _, fraction = written.replace(":", "").partition(".")
    if not whole.isascii() or not whole.isdigit() or len(whole) not in (2, 4, 6):
        return None
    try:
        hour, minute, second = (int(whole[at : at + 2] or 0) for at in (0, 2, 4))
        return time(hour, minute, min(second, 59), int(fraction[:6].ljust(6, "0") or 0))
    except ValueError:
        return None


def zone_of(dataset: Dataset, site_zone: tzinfo) -> tzinfo:
    """The zone the object's times are in: TimezoneOffsetFromUTC (0008,0201), else the site's."""
    return _offset(text(dataset, "TimezoneOffsetFromUTC")) or site_zone


def _offset(written: str) -> tzinfo | None:
    digits = written[1:]
    if len(digits) != 4 or not digits.isdigit() or written[0] not in "+-":
        return None
    shift = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-shift if written[0] == "-" else shift) if shift < timedelta(hours=24) else None


def span(dataset: Dataset, prefix: str, site_zone: tzinfo) -> tuple[datetime, datetime] | None:
    """First and last instant, aware, UTC, that *prefix* Date and Time may mean: a whole day where there is no time."""
    on = day(dataset, f"{prefix}Date")
    if on is None:
        return None
    at = _clock(text(dataset, f"{prefix}Time"))
    zone = zone_of(dataset, site_zone)
    try:
        first = datetime.combine(on, at or time.min, zone).astimezone(UTC)
        return (first, first) if at else (first, datetime.combine(on, time.max, zone).astimezone(UTC))
    except OverflowError:
        return None


def instant(dataset: Dataset, prefix: str, site_zone: tzinfo) -> datetime | None:
    """*prefix* DateTime (DT, its own offset first), else *prefix* Date and Time; aware, UTC."""
    written = text(dataset, f"{prefix}DateTime")
    bare, sign, offset = written.partition("+") if "+" in written else written.partition("-")
    on, at = _day(bare), _clock(bare[8:])
    if on and at:
        zone = _offset(sign + offset) or zone_of(dataset, site_zone)
        return datetime.combine(on, at, zone).astimezone(UTC)
    found = span(dataset, prefix, site_zone)
    return found[0] if found else None
