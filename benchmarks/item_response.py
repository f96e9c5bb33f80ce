"""
The Bayesian reader model: do its intervals cover, does NumPyro agree, how long does it take.

    python -m benchmarks.item_response coverage [--studies 100] [--help-too] [--out FILE.jsonl]
    python -m benchmarks.item_response numpyro
    python -m benchmarks.item_response speed

"coverage" draws all parameters of each small study from the priors the model states (theta, beta, Delta sd 2, tau
half-normal 1), and a tenth of the readings is missing; the study's number is its seed. With --out it goes on where a
former run stopped: one line of JSON a study. "numpyro" needs the extra "bayes".
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import machine
from triage.audit.bootstrap import Floats
from triage.audit.item_response import Fit, Posterior, fit, results
from triage.audit.nominal_readings import Readings, drawn_readings
from triage.audit.nominal_response import PRIOR_SD, probabilities
from triage.audit.predictive_check import predictive_check
from triage.numpyro_reference import fit_by_numpyro

SMALL = {"readers": 4, "cases": 60}
SIZES = {"6 readers x 150 cases": (6, 150, False), "8 readers x 180 cases x 2": (8, 180, True)}


def study(rng: np.random.Generator, theta: Floats, beta: Floats, missing: float) -> Readings:
    """Readings of theta (modalities, readers, 3, 3) and beta (cases, 3), classes in turn."""
    truth = np.arange(len(beta)) % 3
    p = probabilities(theta, beta, truth)
    return Readings(drawn_readings(p, rng.random(p.shape[:-1]) >= missing, rng), truth)


def plausible(readers: int, cases: int, has_help: bool, seed: int = 1) -> Readings:
    """A study like those published: readers right two times in three, a little better with help, all readings made."""
    rng = np.random.default_rng(seed)
    theta = rng.normal(0, 0.5, (1, readers, 3, 3)) + 1.5 * np.eye(3)
    if has_help:
        theta = np.concatenate([theta, theta + 0.5 * np.eye(3) + rng.normal(0, 0.3, (1, readers, 3, 3))])
    return study(rng, theta, rng.normal(0, 1, (cases, 3)), 0)


def centred(values: Floats) -> Floats:
    """Rows less their mean."""
    found: Floats = values - values.mean(axis=-1, keepdims=True)
    return found


def covered(seed: int, has_help: bool) -> dict[str, Any]:
    """One study: how many of the intervals of each quantity hold the truth it was drawn with, of how many."""
    started = time.perf_counter()
    rng = np.random.default_rng((seed, int(has_help)))
    theta = rng.normal(0, PRIOR_SD, (1, SMALL["readers"], 3, 3))
    beta = rng.normal(0, PRIOR_SD, (SMALL["cases"], 3))
    delta, tau = rng.normal(0, PRIOR_SD, (3, 3)), abs(rng.normal())
    if has_help:
        theta = np.concatenate([theta, theta + delta + tau * rng.normal(size=theta.shape)])
    readings = study(rng, theta, beta, 0.1)
    fitted = fit(readings, seed=seed)
    found = results(fitted)
    p = probabilities(theta, beta, readings.truth)
    confusion = np.stack([p[:, :, readings.truth == k].mean(axis=2) for k in range(3)], axis=2)
    sensitivity = np.diagonal(confusion, axis1=-2, axis2=-1)
    accuracy = sensitivity.mean(axis=-1)
    right = p[0, :, np.arange(len(beta)), readings.truth]
    pairs = np.triu_indices(SMALL["readers"], 1)
    quantities = {
        "theta": (centred(theta), found.theta),
        "beta": (centred(beta), _summary(fitted.draws["beta"])),
        "confusion": (confusion, found.confusion),
        "accuracy": (accuracy, found.accuracy),
        "accuracy difference": (
            (accuracy[:, :, None] - accuracy[:, None])[:, *pairs],
            Posterior(*(v[:, *pairs] for v in vars(found.accuracy_difference).values())),
        ),
        "difficulty": (1 - right.mean(axis=1), found.difficulty),
    }
    if found.help:
        quantities |= {
            "delta": (centred(delta), found.help.delta),
            "tau": (np.array(tau), found.help.tau),
            "gain of sensitivity": ((sensitivity[1] - sensitivity[0]).mean(axis=0), found.help.sensitivity),
            "gain of accuracy": ((accuracy[1] - accuracy[0]).mean(), found.help.accuracy),
        }
    hits = {name: ((q.low <= truth) & (truth <= q.high)) for name, (truth, q) in quantities.items()}
    return {
        "study": seed,
        "help": has_help,
        "covered": {name: [int(hit.sum()), int(hit.size)] for name, hit in hits.items()},
        "r_hat": fitted.diagnosis.r_hat,
        "usable": fitted.diagnosis.is_usable,
        "seconds": round(time.perf_counter() - started, 2),
    }


def coverage(studies: int, has_help: bool, out: Path | None) -> None:
    """Fit what is not yet in *out*, add it there, print all."""
    known = [json.loads(line) for line in out.read_text().splitlines()] if out and out.exists() else []
    lines = {line["study"]: line for line in known if line["help"] == has_help}
    for seed in (s for s in range(studies) if s not in lines):
        lines[seed] = covered(seed, has_help)
        if out:
            with out.open("a") as file:
                file.write(json.dumps(lines[seed]) + "\n")
    wanted = [lines[seed] for seed in range(studies)]
    print(f"{studies} studies, {SMALL}, {'with and without help' if has_help else 'one modality'}")
    total = np.zeros(2)
    for name in wanted[0]["covered"]:
        hits, of = np.sum([line["covered"][name] for line in wanted], axis=0)
        total += hits, of
        print(f"  {name}: {hits / of:.3f} of {of}")
    print(f"  all: {total[0] / total[1]:.4f} of {total[1]:.0f}")
    worst, usable = max(line["r_hat"] for line in wanted), sum(line["usable"] for line in wanted)
    seconds = np.median([line["seconds"] for line in wanted])
    print(f"  usable by their diagnosis: {usable}; largest R-hat {worst:.4f}; {seconds:.1f} s a study")


def agreement() -> None:
    """Largest difference of posterior means between NumPyro and ours, by parameter."""
    for name, size in SIZES.items():
        readings = plausible(*size)
        (ours, seconds), (theirs, their_seconds) = _timed(fit, readings), _timed(fit_by_numpyro, readings)
        print(f"{name}: ours {seconds:.1f} s, NumPyro {their_seconds:.1f} s with compilation")
        for fitted in (ours, theirs):
            print(f"  {fitted.diagnosis.verdict} (R-hat {fitted.diagnosis.r_hat:.4f})")
        for parameter, distance in _differences(ours, theirs):
            print(f"  {parameter}: means differ by at most {distance:.3f}")


def speed() -> None:
    """Seconds to fit, to summarise and to check two studies, with what the diagnosis says."""
    for name, size in SIZES.items():
        readings = plausible(*size)
        fitted, seconds = _timed(fit, readings)
        _, summing = _timed(results, fitted)
        _, checking = _timed(predictive_check, fitted)
        d = fitted.diagnosis
        print(f"{name}: fit {seconds:.1f} s, results {summing:.1f} s, check {checking:.1f} s")
        print(f"  {d.verdict}; R-hat {d.r_hat:.4f}, bulk {d.ess_bulk:.0f}, tail {d.ess_tail:.0f}")


def _summary(draws: Floats) -> Posterior:
    low, median, high = np.quantile(draws, (0.025, 0.5, 0.975), axis=(0, 1))
    return Posterior(median, low, high, np.full(low.shape, np.nan))


def _differences(one: Fit, other: Fit) -> Iterator[tuple[str, float]]:
    for name, draws in one.draws.items():
        yield name, float(np.abs(draws.mean(axis=(0, 1)) - other.draws[name].mean(axis=(0, 1))).max())


def _timed(what: Any, of: Any) -> tuple[Any, float]:
    started = time.perf_counter()
    found = what(of)
    return found, time.perf_counter() - started


def main() -> None:
    """Choose and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("coverage", "numpyro", "speed"))
    parser.add_argument("--studies", type=int, default=100)
    parser.add_argument("--help-too", action="store_true", help="coverage of the model with and without help")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    print(machine())
    if chosen.what == "coverage":
        coverage(chosen.studies, chosen.help_too, chosen.out)
    else:
        {"numpyro": agreement, "speed": speed}[chosen.what]()


if __name__ == "__main__":
    main()
