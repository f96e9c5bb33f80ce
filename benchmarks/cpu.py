"""
CPU milliseconds a study costs outside decoding and networks: order, sweep, matching, lease, headers, record, outbox.

    python -m benchmarks.cpu [--studies 100]

One process does everything for one study after another; what `Archive.radiograph` (read and decode) and `Engine.assess`
(networks) use is measured and taken out. PostgreSQL's own processes are reported beside it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from benchmarks.common import database, machine, spread
from benchmarks.latency import renewed
from integrations.dicomweb.folder import FolderArchive, store
from integrations.hl7.order_message import order_message
from models.engine import Engine
from triage.assessment import Assessor
from triage.demo.sample import own_samples
from triage.domain.order import Code, Order
from triage.intake import SweepRules, sweep_archive
from triage.listener import Hl7Listener
from triage.postgres.book import Book, SiteRules
from triage.postgres.connect import Db, connect, open_pool


def now() -> datetime:
    """The clock."""
    return datetime.now(UTC)


class Apart:
    """Calls through, keeping the CPU time of chosen calls apart (of all threads: torch works in several)."""

    def __init__(self, target: Any, *names: str) -> None:
        self._target, self._names, self.seconds = target, names, 0.0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        return self._timed(found) if name in self._names else found

    def _timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any) -> Any:
            started = time.process_time()
            try:
                return call(*args)
            finally:
                self.seconds += time.process_time() - started

        return timed


def postgres_cpu_s(db: Db) -> float:
    """CPU seconds used so far by the server of *db*: its postmaster, all ended children, and those that live."""
    backend = db.execute("SELECT pg_backend_pid() AS pid").fetchone()
    assert backend is not None
    postmaster = _fields(backend["pid"])[1]
    children = [p.name for p in Path("/proc").glob("[0-9]*") if _fields(p.name)[1:2] == [postmaster]]
    ticks = sum(int(f) for f in _fields(postmaster)[11:15]) + sum(int(f) for c in children for f in _fields(c)[11:13])
    return ticks / os.sysconf("SC_CLK_TCK")


def _fields(pid: int | str) -> list[str]:
    """The fields of /proc/PID/stat after the name; state first, parent second."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return []


def journeys(files: Sequence[Path], url: str, folder: Path) -> Iterator[float]:
    """CPU milliseconds of each study's journey, decoding and networks left out."""
    archive = Apart(FolderArchive(folder, name="archive", site_zone=ZoneInfo("UTC"), settle_s=0), "radiograph")
    engine = Apart(Engine.load(), "assess")
    rules = SweepRules(lookback=timedelta(days=36500), settle=timedelta(0))
    with open_pool(url) as pool:
        book = Book(pool, SiteRules(rollout="reorder", destinations=("ehr",)))
        listener = Hl7Listener("main", book, ZoneInfo("UTC"))
        assessor = Assessor(archive, engine, book, engine.intended_use, now, ThreadPoolExecutor(1))
        patient = own_samples()[0].study.patient
        for number, path in enumerate(files):
            message = order_message(
                Order(
                    patient=patient, accession_number=f"B{number}", placer_order_number=f"P{number}",
                    study_instance_uid=path.stem, procedure=(Code("36643-5", "LN", "XR Chest 2 Views"),),
                ),
                charset="UNICODE UTF-8", control_id=f"C{number}", sent_at=now(),
            )  # fmt: skip
            apart = archive.seconds + engine.seconds
            started = time.process_time()
            listener.on_message(message, "127.0.0.1:1")
            store(path, folder)
            while not sweep_archive(archive=archive, book=book, site="main", clock=now, rules=rules):
                pass
            while not assessor.assess_ready(1):
                pass
            yield 1000 * (time.process_time() - started - (archive.seconds + engine.seconds - apart))


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=100)
    chosen = parser.parse_args()
    frontals = [s.files[0] for s in own_samples() if s.ending.reason is None]
    with tempfile.TemporaryDirectory() as made, tempfile.TemporaryDirectory() as folder, database() as url:
        files = [renewed(frontals[n % len(frontals)], Path(made)) for n in range(chosen.studies)]
        with connect(url) as db:
            before = postgres_cpu_s(db)
            costs = list(journeys(files, url, Path(folder)))[5:]
            server = 1000 * (postgres_cpu_s(db) - before) / chosen.studies
            done = db.execute("SELECT count(*) AS n FROM run WHERE outcome = 'assessed' AND is_current").fetchone()
    assert done is not None
    print(machine())
    print(f"CPU of a study outside decoding and networks, ms: {spread(costs)}; assessed {done['n']}")
    print(f"PostgreSQL's own processes, ms a study (mean): {server:.1f}")


if __name__ == "__main__":
    main()
