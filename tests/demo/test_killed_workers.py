"""A worker killed by signal 9 in mid-assessment, ten times: every study ends with exactly one current assessment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from integrations.dicomweb.folder import FolderArchive, store
from triage.demo.sample import own_samples
from triage.intake import SweepRules, sweep_archive
from triage.postgres.book import Book, SiteRules
from triage.postgres.connect import Pool

KILLS = 10
EXPIRE = "UPDATE worklist_entry SET lease_until = clock_timestamp() - interval '1 s' WHERE ai_state = 'assessing'"


def start_worker(env: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """An assess worker in a process of its own, without Celery between us and the kill: it works until killed."""
    program = (
        "import os, time\n"
        "from triage.settings import Settings\nfrom triage.wiring import Service\n"
        "own = Service(Settings.from_env(os.environ))\n"
        "while True:\n    time.sleep(0 if own.assessor.assess_ready(3) else 0.05)\n"
    )
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-c", program], env=env, stdout=out, stderr=out, start_new_session=True
        )


def in_hand(pool: Pool) -> int:
    with pool.connection() as db:
        return db.execute("SELECT count(*) AS n FROM worklist_entry WHERE ai_state = 'assessing'").fetchone()["n"]  # type: ignore[index]


def wait_until(what, seconds: float) -> bool:  # type: ignore[no-untyped-def]
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if what():
            return True
        time.sleep(0.005)
    return False


@pytest.mark.timeout(400)
def test_ten_kills_leave_one_current_assessment_each(pool: Pool, database_url: str, tmp_path: Path) -> None:
    chance = random.Random(10)
    samples = [s for s in own_samples() if s.ending.reason is None][:9]
    for sample in samples:
        store(sample.files[0], tmp_path / "archive")
    archive = FolderArchive(tmp_path / "archive", name="archive", site_zone=ZoneInfo("UTC"))
    book = Book(pool, SiteRules(rollout="reorder", destinations=("ehr",)))
    rules = SweepRules(lookback=timedelta(days=36500), settle=timedelta(0))
    sweep = {"archive": archive, "book": book, "site": "main", "clock": lambda: datetime.now(UTC), "rules": rules}
    found = 0

    def all_found() -> bool:
        nonlocal found
        found += sweep_archive(**sweep)  # type: ignore[arg-type]
        return found == len(samples)

    assert wait_until(all_found, 20)
    env = {
        **os.environ,
        "TRIAGE_DATABASE_URL": database_url,
        "TRIAGE_ARCHIVE_FOLDER": str(tmp_path / "archive"),
        "TRIAGE_ROLLOUT": "reorder",
        "TRIAGE_FHIR_URL": "http://127.0.0.1:9/",
    }
    kills = 0
    for _ in range(4 * KILLS):
        worker = start_worker(env, tmp_path / "worker.log")
        if wait_until(lambda: in_hand(pool) > 0, 60):
            time.sleep(chance.uniform(0, 0.25))
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
        if in_hand(pool):
            kills += 1
        with pool.connection() as db:
            db.execute(EXPIRE)
        book.offer_expired()
        if kills == KILLS:
            break
        with pool.connection() as db:
            ended = [r["id"] for r in db.execute("SELECT id FROM worklist_entry WHERE ai_state LIKE '%flagged'")]
        for entry_id in ended:  # keep the next worker busy: what was assessed is assessed once more
            book.assess_again(entry_id, "test")
    assert kills == KILLS
    worker = start_worker(env, tmp_path / "worker.log")
    with pool.connection() as db:
        left = "SELECT 1 FROM worklist_entry WHERE ai_state IN ('queued', 'assessing')"
        assert wait_until(lambda: db.execute(left).fetchone() is None, 90)
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    with pool.connection() as db:
        rows = db.execute(
            "SELECT e.ai_state, count(*) FILTER (WHERE r.is_current) AS current, count(*) AS runs,"
            " count(*) FILTER (WHERE r.is_current AND r.outcome = 'assessed') AS assessed,"
            " (SELECT count(*) FROM delivery d JOIN run x ON x.id = d.run_id"
            "   WHERE x.entry_id = e.id AND d.state <> 'superseded') AS owed"
            " FROM worklist_entry e JOIN run r ON r.entry_id = e.id GROUP BY e.id"
        ).fetchall()
    assert len(rows) == len(samples)
    assert {(row["current"], row["assessed"], row["owed"]) for row in rows} == {(1, 1, 1)}
    assert book.first_broken_audit_row() is None
