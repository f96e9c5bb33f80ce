"""
How often the drift desk finds drift that is not there, and what it puts drift down to that is.

    python -m benchmarks.drift [--runs 200] [--only prior-shift ...] [--out drift.json]

First every test on windows without drift, at a nominal 0.05 (patients' exams alike where blocks are given). Then
`attribution` on simulated windows: 600 labelled cases of three classes in the reference, 300 now, images of 8 numbers
of which classes differ in two, a calibrated model. Then what a million rows cost. Prints Markdown tables. With --out
every block of runs is kept there, and a benchmark that was cut short goes on from it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import softmax
from scipy.stats import mannwhitneyu

from benchmarks.common import machine
from triage.audit.attribution import Rules, attribute
from triage.audit.bootstrap import Floats
from triage.audit.drift_figures import UNKNOWN, Window
from triage.audit.embedding_drift import classifier, kernel
from triage.audit.estimated_performance import estimated, gap
from triage.audit.header_drift import drift
from triage.audit.label_shift import label_shift
from triage.audit.two_samples import categories, deciles, numbers, stability_index

BLOCK = 20
BEFORE = (0.5, 0.3, 0.2)
COLUMNS = 8
MEANS = np.zeros((3, COLUMNS))
MEANS[1, 0], MEANS[2, :2] = 2.2, (1.1, 1.9)
RULES = Rules(draws=200, exchanges=199)


def window(
    rng: np.random.Generator,
    cases: int,
    shares: Sequence[float] = BEFORE,
    *,
    shift: float = 0.0,
    spoiled: float = 0.0,
    flipped: float = 0.0,
    labelled: float = 1.0,
) -> Window:
    """
    Images and what a calibrated model says of them.

    Args:
        shift: of images where classes do not differ, in standard deviations; spoiled: where they do.
        flipped: share of covid cases whose label is drawn from all three classes.
        labelled: share of cases with a label.
    """
    truth = rng.choice(3, cases, p=shares)
    image = MEANS[truth] + rng.normal(size=(cases, COLUMNS))
    image[:, 2:4] += shift
    image[:, :2] += np.array([spoiled, -spoiled])
    probability = softmax(image @ MEANS.T - (MEANS**2).sum(axis=1) / 2 + np.log(BEFORE), axis=1)
    is_flipped = (truth == 2) & (rng.random(cases) < flipped)
    truth = np.where(is_flipped, rng.integers(0, 3, cases), truth)
    return Window(probability, np.where(rng.random(cases) < labelled, truth, UNKNOWN), image)


DRIFTS: dict[str, dict[str, Any]] = {
    "none": {},
    "none, without labels": {"labelled": 0},
    "prior-shift": {"shares": (0.3, 0.25, 0.45), "labelled": 0.6},
    "prior-shift, small": {"shares": (0.45, 0.28, 0.27), "labelled": 0.6},
    "prior-shift, without labels": {"shares": (0.3, 0.25, 0.45), "labelled": 0},
    "concept-flip": {"flipped": 1.0, "labelled": 0.6},
    "concept-flip, half of covid": {"flipped": 0.5},
    "concept-flip and prior-shift": {"flipped": 1.0, "shares": (0.3, 0.25, 0.45), "labelled": 0.6},
    "detector, classes untouched": {"shift": 0.8, "labelled": 0.6},
    "detector, classes untouched, without labels": {"shift": 0.8, "labelled": 0},
    "detector, images spoiled": {"shift": 0.8, "spoiled": 1.5, "labelled": 0.6},
    "detector, images spoiled, without labels": {"shift": 0.8, "spoiled": 1.5, "labelled": 0},
    "detector, looks like another mix": {"spoiled": 0.8, "labelled": 0.6},
    "detector and prior-shift": {"shift": 0.8, "shares": (0.3, 0.25, 0.45), "labelled": 0.6},
}


def patients(rng: np.random.Generator, people: int) -> tuple[Floats, Floats]:
    """Names and images (exams, 4) of patients with 1 to 5 exams that are alike."""
    whose = np.repeat(np.arange(people), rng.integers(1, 6, people))
    return whose.astype(np.float64), rng.normal(size=(people, 4))[whose] + 0.4 * rng.normal(size=(len(whose), 4))


def levels(rng: np.random.Generator, seed: int) -> dict[str, float]:
    """p of every test on windows without drift."""
    x, y, few = rng.normal(size=500), rng.normal(size=120), rng.normal(size=40)
    shares = (0.5, 0.3, 0.15, 0.03, 0.02)
    images, now = rng.normal(size=(120, 8)), rng.normal(size=(60, 8))
    (a, old), (b, new) = patients(rng, 60), patients(rng, 25)
    how: dict[str, Any] = {"draws": 199, "seed": seed}
    reference, current = window(rng, 600), window(rng, 300)
    found = classifier(images, now, draws=99, seed=seed)
    is_current = np.arange(180) >= 120
    return {
        "numbers, no ties": numbers(x, y).p,
        "numbers, ties": numbers(x.round(), y.round(), **how).p,
        "numbers, patients exchanged": numbers(old[:, 0], new[:, 0], blocks=(a, b), **how).p,
        "numbers, patients ignored (wrong)": numbers(old[:, 0], new[:, 0], **how).p,
        "categories, frequent": categories(x > 0, y > 0).p,
        "categories, rare": categories(rng.choice(5, 200, p=shares), rng.choice(5, 60, p=shares), **how).p,
        "stability index": stability_index(x, y, deciles(x)).p,
        "stability index, 40 cases": stability_index(x, few, deciles(x), **how).p,
        "stability index > 0.2, 40 cases (wrong)": float(stability_index(x, few, deciles(x)).statistic <= 0.2),
        "kernel": kernel(images, now, draws=99, seed=seed).p,
        "kernel, patients exchanged": kernel(old, new, blocks=(a, b), draws=99, seed=seed).p,
        "classifier": found.p,
        "classifier, ranks of cross-validated scores (wrong)": float(
            mannwhitneyu(found.score[is_current], found.score[~is_current], alternative="greater").pvalue
        ),
        "classifier, patients exchanged": classifier(old, new, blocks=(a, b), draws=99, seed=seed).p,
        "label shift": label_shift(reference.probability, reference.truth, current.probability, draws=200, seed=seed).p,
        "gap of realised and estimated accuracy": gap(current.probability, current.truth).p,
    }


def attributed(rng: np.random.Generator, seed: int, drifted: dict[str, Any]) -> str:
    """The cause of one simulated window."""
    reference, current = window(rng, 600), window(rng, 300, **drifted)
    return str(attribute(reference, current, Rules(draws=RULES.draws, exchanges=RULES.exchanges, seed=seed)).cause)


def block(number: int, name: str) -> list[Any]:
    """One block of runs: p of all tests each, or the cause each."""
    seeds = range(number * BLOCK, (number + 1) * BLOCK)
    if name == "levels":
        return [levels(np.random.default_rng((seed, 30)), seed) for seed in seeds]
    return [attributed(np.random.default_rng((seed, 31)), seed, DRIFTS[name]) for seed in seeds]


def spread(share: float, runs: int) -> str:
    """A rate with the half width of its simulation's 95% interval."""
    return f"{share:.1%} ± {1.96 * (share * (1 - share) / runs) ** 0.5:.1%}"


def costs() -> dict[str, Callable[[], object]]:
    """What is timed."""
    rng = np.random.default_rng(1)
    rows = 1_000_000
    views = np.array(["AP", "PA", "LL", ""], dtype=object)
    of_numbers = {f"number {i}": (rng.normal(size=rows).round(i), rng.normal(size=rows).round(i)) for i in range(4)}
    of_numbers["number without ties"] = (rng.normal(size=rows), rng.normal(size=rows))
    of_categories: dict[str, tuple[npt.ArrayLike, npt.ArrayLike]] = {
        f"code {i}": (rng.integers(0, 4 + 50 * i, rows), rng.integers(0, 4 + 50 * i, rows)) for i in range(3)
    }
    of_categories |= {f"text {i}": (views[rng.integers(0, 4, rows)], views[rng.integers(0, 4, rows)]) for i in range(2)}
    visits = rng.integers(0, 700_000, rows), rng.integers(0, 700_000, rows)
    x, y = rng.normal(size=(1000, 32)), rng.normal(size=(1000, 32))
    probability = rng.dirichlet([1, 1, 1], rows)
    large, small = window(rng, 5000), window(rng, 5000)
    return {
        "5 columns of numbers, 5 of categories, 1,000,000 rows a window": lambda: drift(of_numbers, of_categories),
        "the same, with patients exchanged": lambda: drift(of_numbers, of_categories, blocks=visits),
        "kernel, 1000 and 1000 images of 32 numbers, 500 exchanges": lambda: kernel(x, y),
        "classifier, the same": lambda: classifier(x, y),
        "estimated performance, 1,000,000 cases": lambda: estimated(probability),
        "attribution, 5000 and 5000 cases, as by default": lambda: attribute(large, small),
    }


def printed(kept: dict[str, list[list[Any]]], wanted: int) -> None:
    """The tables of *wanted* blocks each."""
    if "levels" in kept:
        runs = [run for b in kept["levels"][:wanted] for run in b]
        print("\n| test, no drift | p <= 0.05 | p <= 0.01 |\n|---|---|---|")
        for name in runs[0]:
            p = np.array([run[name] for run in runs])
            print(f"| {name} | {spread((p <= 0.05).mean(), len(p))} | {spread((p <= 0.01).mean(), len(p))} |")
    if kept.keys() & DRIFTS.keys():
        print(f"\n| simulated drift | causes named (alpha {RULES.alpha:.2f} in all) |\n|---|---|")
    for name in DRIFTS:
        causes = Counter(cause for b in kept.get(name, [])[:wanted] for cause in b)
        if causes:
            shares = (f"{cause} {spread(n / causes.total(), causes.total())}" for cause, n in causes.most_common())
            print(f"| {name} | {', '.join(shares)} |")


def main() -> None:
    """Simulate block after block, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--only", nargs="*", choices=["levels", "costs", *DRIFTS], default=["levels", "costs", *DRIFTS])
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    kept: dict[str, list[list[Any]]] = {}
    if chosen.out and chosen.out.exists():
        kept = json.loads(chosen.out.read_text())
    wanted = -(-chosen.runs // BLOCK)
    for number in range(wanted):
        for name in (n for n in chosen.only if n != "costs" and len(kept.get(n, [])) <= number):
            kept.setdefault(name, []).append(block(number, name))
            if chosen.out:
                chosen.out.write_text(json.dumps(kept) + "\n")
    print(machine())
    print(f"\n{wanted * BLOCK} runs")
    printed({name: kept[name] for name in chosen.only if name in kept}, wanted)
    if "costs" in chosen.only:
        print("\n| cost | processor seconds |\n|---|---|")
        for name, what in costs().items():
            started = time.process_time()
            what()
            print(f"| {name} | {time.process_time() - started:.1f} |")


if __name__ == "__main__":
    main()
