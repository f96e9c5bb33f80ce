"""The real handler for `benchmarks/mllp.py --handler benchmarks.durable:handler`: acknowledged after the commit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from zoneinfo import ZoneInfo

from benchmarks.common import database
from triage.listener import Hl7Listener
from triage.postgres.book import Book
from triage.postgres.connect import open_pool


@contextmanager
def handler() -> Iterator[Callable[[bytes, str], bytes]]:
    """Our listener's handler on a PostgreSQL with durable commits (fsync and synchronous_commit on)."""
    with database() as url, open_pool(url, size=12) as pool:
        yield Hl7Listener("main", Book(pool), ZoneInfo("UTC")).on_message
