"""`triage demo`: start everything on loopback, send radiographs through, show the worklist before and after."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from triage.demo.sample import Ending, Sample, own_samples, samples_of
from triage.demo.send import send
from triage.demo.stack import Stack
from triage.ports import Line
from triage.postgres.connect import Db, connect
from triage.postgres.worklist import COLUMNS, entry_of
from triage.terminal import print_worklist
from triage.wiring import Service

Rows = list[dict[str, Any]]
LONGEST_WAIT = timedelta(minutes=4)
ENTRIES = f"""
    SELECT s.study_instance_uid, {COLUMNS} FROM study s JOIN worklist_entry e ON e.study_id = s.id
     WHERE s.study_instance_uid = ANY(%s)
"""


def run_demo(*, folder: str, samples: str, once: bool, rate: float) -> int:
    """Run the demo; 0 when every sample reached its right end state (and, without *once*, the user ended it)."""
    console = Console() if sys.stdout.isatty() else Console(width=150)
    home = Path(folder).resolve() / (_label(samples) if samples else "own")
    home.mkdir(parents=True, exist_ok=True)
    console.rule("[bold]chest triage: demo on this machine[/]")
    console.print(f"Data, logs and the database live in [bold]{home}[/]; nothing outside it is changed.")
    if os.geteuid() == 0:
        console.print(
            "Running as root: PostgreSQL, which refuses root, runs in a user namespace where it is not root, or as the"
            " owner of this folder; no account is made.",
        )
    with _progress(console) as progress:
        chosen, left_out = samples_of(Path(samples), home / "wrapped", progress) if samples else (own_samples(), [])
    for words in left_out:
        console.print(f"[yellow]left out[/]: {words}")
    with Stack(home, console) as stack:
        with _progress(console) as progress:
            stack.start(progress)
        with connect(stack.settings.database_url) as db:
            is_first_run = db.execute("SELECT 1 FROM study LIMIT 1").fetchone() is None
            status = _journey(chosen, stack, db, console, is_first_run=is_first_run, rate=rate)
        console.print(f"\nThe worklist: [bold link]{stack.address}[/]   logs: {home / 'logs'}")
        if not once:
            console.print(f"In another shell: . {home / 'env'} && .venv/bin/triage status | worklist | replay ...")
            console.print("Press Ctrl-C to stop.")
            stack.stay_up()
    return status


def _label(samples: str) -> str:
    """A folder name for one set of samples, so that each has a worklist of its own."""
    return f"samples-{hashlib.sha256(str(Path(samples).resolve()).encode()).hexdigest()[:8]}"


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(), TextColumn("{task.description:<44}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=console,
    )  # fmt: skip


def _journey(
    samples: Sequence[Sample], stack: Stack, db: Db, console: Console, *, is_first_run: bool, rate: float
) -> int:
    """Send, wait, compare: the worklist before any AI, the worklist after, and what became of each sample."""
    service = Service(stack.settings)
    uids = [sample.study_instance_uid for sample in samples]
    if not is_first_run:
        # what is there already is sent again as it was: repeats must change nothing
        stack.start_assessing()
    with _progress(console) as progress:
        sending = progress.add_task("sending orders (MLLP) and radiographs", total=len(samples))
        refused = send(samples, stack.settings, archive=stack.archive_folder, rate=rate if is_first_run else 50.0,
                       step=lambda: progress.advance(sending))  # fmt: skip
        waiting = progress.add_task("found by the sweep, on the worklist", total=len(uids))
        _wait(db, uids, lambda rows: sum(r["eligible_at"] is not None for r in rows), progress, waiting)
    at = datetime.now(UTC)
    if is_first_run:
        print_worklist(_lines(service, at), at, title="\nBefore the AI: plain clinical order", console=console)
        stack.start_assessing()
    with _progress(console) as progress:
        done = progress.add_task("assessed (lungs, gates, classes)", total=len(uids))
        rows = _wait(db, uids, lambda rows: sum(_has_ended(r["ai_state"]) for r in rows), progress, done)
    at = datetime.now(UTC)
    print_worklist(_lines(service, at), at, title="\nAfter: what the AI suspects has moved forward", console=console)
    if not is_first_run:
        console.print("This was a repeat: the same orders and radiographs were sent again and changed nothing.")
    service.pool.close()
    return _verdict(samples, {row["study_instance_uid"]: row for row in rows}, db, refused, console)


def _lines(service: Service, at: datetime) -> list[Line]:
    return service.book.page(service.settings.site, limit=200, at=at)


def _has_ended(ai_state: str) -> bool:
    return ai_state not in {"awaiting-images", "queued", "assessing"}


def _wait(db: Db, uids: Sequence[str], count: Callable[[Rows], int], progress: Progress, task: TaskID) -> Rows:
    """Poll the entries of *uids* until *count* of them says all, or the longest wait is over."""
    until = time.monotonic() + LONGEST_WAIT.total_seconds()
    while True:
        rows = db.execute(ENTRIES, (list(uids),)).fetchall()
        done = count(rows)
        progress.update(task, completed=done)
        if done >= len(uids) or time.monotonic() > until:
            return rows
        time.sleep(0.2)


def _verdict(
    samples: Sequence[Sample], rows: dict[str, dict[str, Any]], db: Db, refused: Sequence[str], console: Console
) -> int:
    """Say what became of every sample; 1 if any did not reach its right end state."""
    wrong: list[str] = []
    flagged: Counter[str] = Counter()
    assessed: Counter[str] = Counter()
    for sample in samples:
        row = rows.get(sample.study_instance_uid)
        entry = None if row is None else entry_of(row)
        complaint = sample.ending.complaint(entry)
        if complaint:
            wrong.append(f"{sample.name}: {complaint}")
        if entry is not None and entry.ai_state in {"flagged", "not-flagged"}:
            assessed[sample.label or "unlabelled"] += 1
            flagged[sample.label or "unlabelled"] += entry.ai_state == "flagged"
    console.print()
    for label in sorted(assessed):
        console.print(f"  {label:<12} flagged {flagged[label]:>3} of {assessed[label]:>3} assessed")
    others = Counter(
        f"{row['ai_state']} ({row['ai_reason']})"
        for row in rows.values()
        if row["ai_state"] not in {"flagged", "not-flagged"}
    )
    for words, number in sorted(others.items()):
        console.print(f"  {words}: {number}")
    for name in refused:
        console.print(f"  [yellow]not sent[/]: {name}")
    doubled = db.execute(
        "SELECT count(*) AS n FROM (SELECT entry_id FROM run WHERE is_current GROUP BY 1 HAVING count(*) > 1) AS d"
    ).fetchone()
    if doubled and doubled["n"]:
        wrong.append(f"{doubled['n']} studies hold more than one current assessment")
    for words in wrong:
        console.print(f"  [bold red]wrong[/]: {words}")
    right = len(samples) - len(wrong)
    console.print(f"[bold]{right} of {len(samples)} samples reached their right end state.[/]")
    return 1 if wrong else 0


__all__ = ["Ending", "run_demo"]
