"""
How often daily looks cry wolf, and how late they see a fall: rolling interval, e-SR, e-process, CUSUM and others.

    python -m benchmarks.sequential [--years 2000] [--labels 15] [--out sequential.json]

A year is 365 days of labels. In control, every one is looked at from its first day on. The fall comes after 100 days;
runs with an alarm before are left out, as whoever acted on it would have begun anew. Rules that take the baseline for
known hold it at --before; the last ones draw a baseline of so many cases for each year and take its lower limit.
Prints a Markdown table. With --out every block of years is kept there, and a run that was cut short goes on from it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from benchmarks.common import machine
from triage.audit import control_chart, eprocess
from triage.audit.bootstrap import Floats
from triage.audit.confidence_sequence import beta_binomial
from triage.audit.watch import share_baseline

YEAR, SETTLED, BLOCK, WINDOW = 365, 100, 250, 30
ARL, ALPHA, SPENT = 1000, 0.05, 0.025
BASELINES = (10_000, 1_000, 180)

Alarms = npt.NDArray[np.bool_]
Rule = Callable[[Floats, Floats, np.random.Generator], Alarms]


def excludes(hits: Floats, n: Floats, before: float) -> Alarms:
    """Whether an ordinary 95% interval (Wald's) lies below *before*."""
    share = hits / n
    is_below: Alarms = share + ndtri(0.975) * np.sqrt(share * (1 - share) / n) < before
    return is_below


def rolling(hits: Floats, n: Floats, before: float) -> Alarms:
    """The interval of the last 30 days; no look until they have passed."""
    total, count = (np.pad(v.cumsum(axis=-1), ((0, 0), (1, 0))) for v in (hits, n))
    window = excludes(total[:, WINDOW:] - total[:, :-WINDOW], count[:, WINDOW:] - count[:, :-WINDOW], before)
    return np.pad(window, ((0, 0), (WINDOW - 1, 0)))


def against_baseline(hits: Floats, n: Floats, before: float, cases: int, rng: np.random.Generator) -> Alarms:
    """The e-SR detector of `triage.audit.watch`, a baseline drawn for each year."""
    drawn = rng.binomial(cases, before, size=len(hits))
    reference = np.array([share_baseline(int(h), cases, spent=SPENT).reference for h in drawn])
    return eprocess.shiryaev_roberts(hits, n, reference[:, None]) >= log(ARL / (1 - SPENT))


def rules(before: float, after: float, labels: int) -> dict[str, Rule]:
    """Every rule: hits and cases of each day (years, days) to whether it alarms."""
    sd = (before * (1 - before)) ** 0.5
    k = (before - after) * labels**0.5 / sd / 2
    h = control_chart.limit(k, ARL)

    def cusum(hits: Floats, n: Floats, _: np.random.Generator) -> Alarms:
        return control_chart.cusum(control_chart.standardised(hits / n, n, centre=before, sd=sd), k) > h

    def estimated(cases: int) -> Rule:
        return lambda hits, n, rng: against_baseline(hits, n, before, cases, rng)

    return {
        "rolling 30-day 95% interval lies below": lambda hits, n, _: rolling(hits, n, before),
        "cumulative 95% interval lies below": lambda hits, n, _: excludes(hits.cumsum(-1), n.cumsum(-1), before),
        f"confidence sequence, {1 - ALPHA:.0%}, upper limit": lambda hits, n, _: (
            beta_binomial(hits.cumsum(-1), n.cumsum(-1), alpha=ALPHA).high < before
        ),
        f"e-process, alpha {ALPHA}": lambda hits, n, _: (
            eprocess.cumulative(hits.cumsum(-1), n.cumsum(-1), before) >= -log(ALPHA)
        ),
        f"e-SR, mean run of {ARL} days or more": lambda hits, n, _: (
            eprocess.shiryaev_roberts(hits, n, before) >= log(ARL)
        ),
        f"CUSUM, one-sided, mean run of {ARL} days if days were normal": cusum,
        **{f"e-SR against the lower limit of {cases} cases": estimated(cases) for cases in BASELINES},
    }


def block(number: int, before: float, after: float, labels: int) -> dict[str, dict[str, list[int]]]:
    """One block of years: of each rule, the first alarm's day in control and with a fall; one past the end for none."""
    rng = np.random.default_rng((number, 20))
    n = np.full((BLOCK, SETTLED + YEAR), float(labels))
    stable = rng.binomial(labels, before, size=n.shape).astype(np.float64)
    fallen = stable.copy()
    fallen[:, SETTLED:] = rng.binomial(labels, after, size=(BLOCK, YEAR))
    found = {}
    for name, rule in rules(before, after, labels).items():
        in_control = eprocess.first(rule(stable[:, :YEAR], n[:, :YEAR], np.random.default_rng((number, 21))))
        with_fall = eprocess.first(rule(fallen, n, np.random.default_rng((number, 21))))
        found[name] = {"in control": in_control.tolist(), "with a fall": with_fall.tolist()}
    return found


def row(name: str, in_control: list[int], with_fall: list[int]) -> str:
    """One line of the table."""
    years = np.array(in_control)
    waited = np.array(with_fall) - SETTLED + 1.0
    fair = np.where(waited > YEAR, np.inf, waited)[waited > 0]
    share = float((years < YEAR).mean())
    error = 1.96 * (share * (1 - share) / len(years)) ** 0.5
    low, middle, high = np.quantile(fair, (0.1, 0.5, 0.9), method="higher")
    return (
        f"| {name} | {share:.1%} ± {error:.1%} | {middle:.0f} | {low:.0f} to {high:.0f} | "
        f"{float((waited <= 0).mean()):.1%} |"
    )


def main() -> None:
    """Simulate block after block, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--years", type=int, default=2000)
    parser.add_argument("--labels", type=int, default=15)
    parser.add_argument("--before", type=float, default=0.733)
    parser.add_argument("--after", type=float, default=0.633)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    asked = {"before": chosen.before, "after": chosen.after, "labels": chosen.labels}
    kept: dict[str, Any] = {"asked": asked, "blocks": []}
    if chosen.out and chosen.out.exists():
        kept = json.loads(chosen.out.read_text())
    if kept["asked"] != asked:
        raise SystemExit(f"{chosen.out} holds other settings: {kept['asked']}")
    wanted = -(-chosen.years // BLOCK)
    for number in range(len(kept["blocks"]), wanted):
        kept["blocks"].append(block(number, **asked))
        if chosen.out:
            chosen.out.write_text(json.dumps(kept) + "\n")
    blocks = kept["blocks"][:wanted]
    print(machine())
    print(f"\n{len(blocks) * BLOCK} years, {chosen.labels} labels a day, {chosen.before} falls to {chosen.after}\n")
    print("| rule, looked at daily | years in control with an alarm | median delay, days | middle 80% | left out |")
    print("|---|---|---|---|---|")
    for name in blocks[0]:
        joined = ([at for b in blocks for at in b[name][what]] for what in ("in control", "with a fall"))
        print(row(name, *joined))


if __name__ == "__main__":
    main()
