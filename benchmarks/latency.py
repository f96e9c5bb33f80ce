"""
Seconds from "instance stored" to "place changed", and studies per second end to end, with every role running.

    python -m benchmarks.latency [--studies 60] [--rate 1] [--settle 0] [--burst]

Each study is one of the demo's synthetic radiographs under new UIDs, so that nothing is known already. "Stored" is the
instant the file is in the archive's folder under its final name; "changed" is the instant the run was recorded, in the
same transaction as the place. --burst stores all at once and reports studies per second instead.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from pydicom import dcmread
from rich.console import Console
from rich.progress import Progress

from benchmarks.common import machine, spread
from integrations.dicomweb.folder import store
from triage.demo.sample import own_samples
from triage.demo.stack import Stack
from triage.postgres.connect import connect

ENDED = """
    SELECT s.study_instance_uid, s.first_seen_at, r.ended_at
      FROM run r JOIN study s ON s.id = r.study_id WHERE r.is_current
"""


def renewed(path: Path, folder: Path) -> Path:
    """A copy of *path* under new UIDs; pixel data stay as they are compressed."""
    dataset = dcmread(path)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"2.25.{uuid4().int}", f"2.25.{uuid4().int}"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"2.25.{uuid4().int}"
    dataset.AccessionNumber = ""
    out = folder / f"{dataset.StudyInstanceUID}.dcm"
    dataset.save_as(out)
    return out


def memory_mb(home: Path) -> float:
    """Proportional set size of every process whose environment or command names this stack, in MiB."""
    total = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            mine = str(home).encode() in (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            if mine or int(process.name) == os.getpid() or b"postgres: " in (process / "cmdline").read_bytes():
                rollup = (process / "smaps_rollup").read_text()
                total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
        except (OSError, StopIteration):
            continue
    return total / 1024


def main() -> None:
    """Start the stack, store studies, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=60)
    parser.add_argument("--rate", type=float, default=1.0)
    parser.add_argument("--settle", type=float, default=0.0)
    parser.add_argument("--burst", action="store_true")
    chosen = parser.parse_args()
    quiet = Console(quiet=True)
    frontals = [s.files[0] for s in own_samples() if s.ending.reason is None]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "new").mkdir()
        files = [renewed(frontals[n % len(frontals)], home / "new") for n in range(chosen.studies + 1)]
        settings = {"TRIAGE_SETTLE_S": str(chosen.settle), "TRIAGE_SWEEP_EVERY_S": "0.5"}
        with Stack(home, quiet, settings) as stack:
            with Progress(console=quiet) as progress:
                stack.start(progress)
            stack.start_assessing()
            with connect(stack.settings.database_url) as db:
                store(files[0], stack.archive_folder)  # the first study pays for loading the networks
                while len(db.execute(ENDED).fetchall()) < 1:
                    time.sleep(0.2)
                stored: dict[str, datetime] = {}
                began = time.perf_counter()
                for number, path in enumerate(files[1:]):
                    if not chosen.burst:
                        time.sleep(max(0.0, began + number / chosen.rate - time.perf_counter()))
                    store(path, stack.archive_folder)
                    stored[path.stem] = datetime.now(UTC)
                highest = memory_mb(home)
                while len(rows := db.execute(ENDED).fetchall()) < len(files):
                    time.sleep(0.1)
                took = time.perf_counter() - began
                highest = max(highest, memory_mb(home))
    print(machine())
    waits = [
        (r["ended_at"] - stored[r["study_instance_uid"]]).total_seconds()
        for r in rows
        if r["study_instance_uid"] in stored
    ]
    seen = [
        (r["first_seen_at"] - stored[r["study_instance_uid"]]).total_seconds()
        for r in rows
        if r["study_instance_uid"] in stored
    ]
    if chosen.burst:
        print(f"{chosen.studies} studies at once: {chosen.studies / took:.2f} studies per second end to end")
    else:
        print(f"of that, stored to seen by the sweep, in s: {spread(seen)}")
        print(f"stored to place changed at {chosen.rate}/s, settling {chosen.settle} s, in s: {spread(waits)}")
    print(f"memory of the whole stack (proportional set size), highest seen: {highest:.0f} MiB")


if __name__ == "__main__":
    main()
