"""
How long studies wait under each reading order: theory beside simulation, with and without missed COVID, and the worst.

    python -m benchmarks.waiting [--blocks 10] [--studies 120000] [--out waiting.json]

Reads of ten minutes on average, exponential; Poisson arrivals; reads are not interrupted. Every block is a seed of its
own, begins with an empty list, and leaves its first twentieth out. A mean is given with twice its standard error over
the blocks, a 99th percentile is the mean of the blocks', a longest wait that of all blocks. Due dates and our order aim
at 30 minutes for what is flagged, and at 8 or 2 hours for the rest; k is 1. Everything is ordered routine.
Prints Markdown tables. With --out every block is kept there, and a run that was cut short goes on from it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import machine
from triage.audit import queueing
from triage.audit.bootstrap import Floats
from triage.audit.reading_lines import Line, ReadingList, due_dates, first_come, strict
from triage.audit.reading_simulation import Studies, drawn, overtaking_bound, started
from triage.domain.order import RequestedPriority
from triage.domain.priority import PriorityPolicy

MINUTE, READ, FLAGGED = 60.0, 600.0, 30
SPECIFICITY = 0.81
ROUTINE_HOURS = (8, 2)
GROUPS = ("all", "AI positive", "AI negative", "COVID", "missed COVID", "others")


@dataclass(frozen=True)
class Setting:
    """A site: how busy, how many readers, how much COVID, how much of it the AI finds."""

    load: float
    readers: int
    prevalence: float
    sensitivity: float

    @property
    def name(self) -> str:
        """For a table's first columns and the file."""
        return f"{self.load} | {self.readers} | {self.prevalence:.0%} | {self.sensitivity:.0%}"


SETTINGS = tuple(
    Setting(load, readers, prevalence, sensitivity)
    for load, readers, prevalence in ((0.8, 1, 0.1), (0.8, 3, 0.1), (0.95, 1, 0.1), (0.95, 3, 0.1), (0.95, 1, 0.4))
    for sensitivity in (1.0, 0.9)
)


def lines(studies: Studies) -> Iterator[tuple[str, Line, Floats | None]]:
    """Each reading order with its name; a due-date order with what it allows each study."""
    yield "first come", first_come(studies.arrived), None
    yield "strict", strict(studies.ai), None
    flagged_at = np.where(studies.ai == 0, studies.arrived, np.nan)
    for hours in ROUTINE_HOURS:
        allowance = np.where(studies.ai == 0, FLAGGED * MINUTE, hours * 60 * MINUTE)
        yield f"due dates, {hours} h", due_dates(studies.arrived, allowance), allowance
        policy = PriorityPolicy(flagged=timedelta(minutes=FLAGGED), routine=timedelta(hours=hours))
        priority = [RequestedPriority.ROUTINE] * len(studies.arrived)
        yield f"ours, {hours} h", ReadingList(studies.arrived, priority, flagged_at, policy), None


def rows_of(studies: Studies) -> dict[str, Any]:
    """Which studies belong to each group."""
    positive, diseased = studies.ai == 0, studies.truth == 0
    everyone = np.ones(len(positive), dtype=bool)
    of_group = (everyone, positive, ~positive, diseased, diseased & ~positive, ~diseased)
    return dict(zip(GROUPS, of_group, strict=True))


def block(number: int, setting: Setting, n: int) -> dict[str, Any]:
    """One block: of each order and group the mean, the 99th percentile and the longest wait in minutes."""
    shares = queueing.two_classes(setting.prevalence, setting.sensitivity, SPECIFICITY)
    studies = drawn(
        n,
        load=setting.load,
        mean_read=READ,
        prevalence=shares[0],
        confusion=shares[1],
        readers=setting.readers,
        seed=1000 + number,
    )
    settled = np.arange(n) >= n // 20
    found: dict[str, Any] = {}
    plain = np.empty(0)
    for name, line, allowance in lines(studies):
        opened = started(studies.arrived, studies.read, line, readers=setting.readers)
        plain = opened if name == "first come" else plain
        wait = (opened - studies.arrived) / MINUTE
        found[name] = {
            group: [float(v) for v in (of.mean(), np.quantile(of, 0.99), of.max())] if len(of) else None
            for group, rows in rows_of(studies).items()
            for of in [wait[rows & settled]]
        }
        if allowance is not None:
            late = opened - plain
            bounds = [overtaking_bound(studies.arrived, studies.read, allowance, c) for c in (1, setting.readers)]
            found[name]["beyond"] = [int((late > b + 1e-6).sum()) for b in bounds]
    return found


def theory(setting: Setting, order: str) -> tuple[float | None, ...]:
    """Mean waits in minutes, in the order of GROUPS."""
    shares = queueing.two_classes(setting.prevalence, setting.sensitivity, SPECIFICITY)
    found = queueing.triaged(setting.load, READ / MINUTE, *shares, readers=setting.readers)
    missed = float(found.missed[0]) if setting.sensitivity < 1 else None
    if order == "first come":
        return (*[found.first_come] * 4, None if missed is None else found.first_come, found.first_come)
    of_classes = (float(found.by_ai[0]), float(found.by_ai[1]), float(found.by_truth[0]))
    return (found.first_come, *of_classes, missed, found.others)


def means_table(blocks: dict[str, list[Any]]) -> None:
    """Mean waits: theory / simulation."""
    print("\nMean wait in minutes: theory / simulation\n")
    print(f"| load | readers | COVID | sensitivity | order | {' | '.join(GROUPS)} |")
    print("|" + "---|" * (5 + len(GROUPS)))
    for setting in SETTINGS:
        for order in ("first come", "strict"):
            cells = []
            for group, answer in zip(GROUPS, theory(setting, order), strict=True):
                if answer is None:
                    cells.append("none")
                    continue
                seen = np.array([b[order][group][0] for b in blocks[setting.name]])
                error = f" ± {2 * seen.std(ddof=1) / len(seen) ** 0.5:.1f}" if len(seen) > 1 else ""
                cells.append(f"{answer:.1f} / {seen.mean():.1f}{error}")
            print(f"| {setting.name} | {order} | {' | '.join(cells)} |")


def worst_table(blocks: dict[str, list[Any]]) -> None:
    """What each order costs those the AI does not flag, and those it should have flagged."""
    groups = ("AI positive", "AI negative", "missed COVID")
    print("\nThe worst waits in minutes: 99th percentile (longest)\n")
    print("| load | readers | COVID | sensitivity | order | COVID, mean | " + " | ".join(groups) + " |")
    print("|" + "---|" * (6 + len(groups)))
    for setting in SETTINGS:
        for order in blocks[setting.name][0]:
            seen = [b[order] for b in blocks[setting.name]]
            cells = [f"{np.mean([b['COVID'][0] for b in seen]):.1f}"]
            for group in groups:
                of = [b[group] for b in seen if b[group]]
                cells.append(f"{np.mean([b[1] for b in of]):.0f} ({max(b[2] for b in of):.0f})" if of else "none")
            print(f"| {setting.name} | {order} | {' | '.join(cells)} |")


def bound_table(blocks: dict[str, list[Any]], n: int) -> None:
    """How often a due-date order delayed a study beyond what it can."""
    print("\nStudies opened later than first come by more than the reads of those that can overtake them\n")
    print("| load | readers | COVID | sensitivity | order | beyond their reads | beyond the bound for c readers | of |")
    print("|" + "---|" * 8)
    for setting in SETTINGS:
        for order in (name for name in blocks[setting.name][0] if name.startswith("due")):
            beyond = np.sum([b[order]["beyond"] for b in blocks[setting.name]], axis=0)
            print(f"| {setting.name} | {order} | {beyond[0]} | {beyond[1]} | {n * len(blocks[setting.name])} |")


def main() -> None:
    """Simulate block after block, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=10)
    parser.add_argument("--studies", type=int, default=120_000)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    kept: dict[str, Any] = {"studies": chosen.studies, "blocks": {}}
    if chosen.out and chosen.out.exists():
        kept = json.loads(chosen.out.read_text())
    if kept["studies"] != chosen.studies:
        raise SystemExit(f"{chosen.out} holds blocks of {kept['studies']} studies")
    for number in range(chosen.blocks):
        for setting in SETTINGS:
            done = kept["blocks"].setdefault(setting.name, [])
            if len(done) > number:
                continue
            done.append(block(number, setting, chosen.studies))
            if chosen.out:
                chosen.out.write_text(json.dumps(kept) + "\n")
    blocks = {setting.name: kept["blocks"][setting.name][: chosen.blocks] for setting in SETTINGS}
    print(f"{machine()}\n\n{chosen.blocks} blocks of {chosen.studies} studies, specificity {SPECIFICITY}")
    means_table(blocks)
    worst_table(blocks)
    bound_table(blocks, chosen.studies)


if __name__ == "__main__":
    main()
