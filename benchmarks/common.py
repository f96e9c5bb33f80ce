"""What every benchmark shares: a PostgreSQL of its own, medians, and a line that says machine and date."""

from __future__ import annotations

import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from triage.postgres import embedded
from triage.postgres.connect import connect
from triage.postgres.migrate import migrate


@contextmanager
def database() -> Iterator[str]:
    """A migrated database: the one TRIAGE_DATABASE_URL names, else an embedded one that is thrown away."""
    given = os.environ.get("TRIAGE_DATABASE_URL")
    if given:
        with connect(given) as db:
            migrate(db)
        yield given
        return
    with tempfile.TemporaryDirectory() as folder:
        server = embedded.start(Path(folder))
        try:
            with connect(server.url) as db:
                migrate(db)
            yield server.url
        finally:
            server.stop()


def timed_ms(what: Callable[[], object], rounds: int) -> list[float]:
    """Milliseconds of each of *rounds* calls."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        what()
        times.append(1000 * (time.perf_counter() - started))
    return times


def spread(values: list[float]) -> str:
    """Median, 95th percentile and maximum."""
    ordered = sorted(values)
    p95 = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return f"median {statistics.median(ordered):.2f}, p95 {p95:.2f}, max {ordered[-1]:.2f} (n = {len(ordered)})"


def machine() -> str:
    """The machine and the date, for the table."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}, {datetime.now(UTC):%Y-%m-%d}"
