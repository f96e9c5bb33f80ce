"""The card's figures, computed from shipped weights: classes, lungs, and how often the gate refuses what."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track
from rich.table import Table

from models.card import read
from models.engine import AT_ONCE, CLASSES, WEIGHTS, Engine, Reading
from models.training import data, ledger, overlaps, scores, shipping
from models.training.commands import Commands, add, add_cxr
from models.training.figures import share
from models.training.scores import Figures, Scored
from triage.domain.errors import UnusableRadiograph
from triage.domain.finding import ChestClass

Outcome = Reading | UnusableRadiograph
NAMES = {"dev": "development fold 0", "external": "external"}
TOLERANCE = 0.002
"""Figures this close to the card's are the card's (bf16 and fp32 differ in the last digits)."""


def add_command(commands: Commands) -> None:
    """`evaluate`."""
    command = add(commands, "evaluate", "recompute the cards' figures from stored weights", run)
    add_cxr(command)
    command.add_argument("--role", choices=tuple(NAMES), default="dev")
    command.add_argument("--weights", type=Path, default=WEIGHTS)
    command.add_argument("--write", action="store_true", help="put the figures into the cards")
    command.add_argument("--ledger", type=Path, default=ledger.LEDGER, help="every look at the external role is added")
    command.add_argument("--check", action="store_true", help="fail where a figure is not the card's")


def run(arguments: argparse.Namespace) -> None:
    """Print the figures of the weights in --weights; with --write, put them into their cards."""
    every = data.read_manifest(arguments.cxr)
    engine = Engine.load(arguments.weights, threads=arguments.threads)
    cases = role_cases(engine, every, arguments.role)
    outcomes = readings(engine, cases, NAMES[arguments.role])
    found, curves = chest_figures(engine, cases, outcomes, NAMES[arguments.role])
    lungs = overlaps.role_figures(engine, arguments.weights, every, arguments.role)
    if arguments.role == "dev":
        limit = engine.cards["chest"].gate_limit or float("inf")
        children = [c for c in every if c.source == "kermany"][::8]
        found += refusals(readings(engine, children, "children"), limit, "kermany, children")
        found += spoilt_figures(engine, cases[::3])
    differing = shown(arguments.weights, "chest", found)
    for name, figures in lungs.items():
        differing += shown(arguments.weights, name, figures)
    if arguments.write:
        for name, figures in lungs.items():
            written(arguments.weights, name, figures, {})
        written(arguments.weights, "chest", found, {NAMES[arguments.role]: curves})
    if arguments.role == "external":
        figures = [*found, *(f for some in lungs.values() for f in some)]
        ledger.add_look(arguments.ledger, "evaluate", engine, figures, datetime.now(UTC))
    if arguments.check and differing:
        raise SystemExit(f"{len(differing)} figures differ from the card's, first: {differing[0]}")


def role_cases(engine: Engine, every: Sequence[data.Case], role: str) -> list[data.Case]:
    """The external images, or those of fold 0 that the classifier was calibrated on."""
    if role == "external":
        return data.external_cases(every)
    return data.chest_cases(every, held_out=True, licensed=bool(engine.cards["chest"].commercial_use))


def readings(engine: Engine, cases: Sequence[data.Case], what: str) -> list[Outcome]:
    """What the engine says of each case, before the out-of-distribution limit."""
    outcomes: list[Outcome] = []
    for first in track(range(0, len(cases), AT_ONCE), what):
        outcomes += engine.read([data.read_pixels(c.path) for c in cases[first : first + AT_ONCE]])
    return outcomes


def chest_figures(
    engine: Engine, cases: Sequence[data.Case], outcomes: Sequence[Outcome], on: str
) -> tuple[Figures, dict[str, Any]]:
    """
    Everything the card says of one set, and the points of its curves.

    First of the assessed images, COVID against pneumonia within one source before anything else, then of all labelled
    ones: an image that was refused keeps the networks' probabilities where there are any, else it counts as missed.

    Args:
        cases: labelled cases, *outcomes* theirs in order.
        on: the name of the set, as the card prints it.
    """
    limit = engine.cards["chest"].gate_limit or float("inf")
    threshold = engine.cards["chest"].threshold_of(ChestClass.COVID) or 1.0
    nothing = np.full(len(CLASSES), np.nan)
    probability = np.stack([o.probabilities if isinstance(o, Reading) else nothing for o in outcomes])
    every = Scored.of(cases, probability)
    assessed = every.where(np.array([isinstance(o, Reading) and o.gate_score <= limit for o in outcomes]))
    found = [
        *scores.covid_against_pneumonia(assessed, on),
        *scores.class_figures(assessed, on),
        *scores.operating_figures(assessed, on, threshold),
        *scores.calibration_figures(assessed, on),
        *refusals(outcomes, limit, on),
        *scores.covid_against_pneumonia(every, f"{on}, refused included"),
        *scores.class_figures(every, f"{on}, refused included"),
    ]
    for name, part in scores.parts(assessed).items():
        found += scores.part_figures(part, f"{on}, {name}", threshold)
    return found, scores.curves_of(assessed)


def refusals(outcomes: Sequence[Outcome], limit: float, on: str) -> Figures:
    """Share of images refused for each reason."""
    reasons = [
        o.reason if isinstance(o, UnusableRadiograph) else "out-of-distribution" if o.gate_score > limit else ""
        for o in outcomes
    ]
    named = sorted(set(reasons) - {""})
    return [share("refused", on, sum(map(bool, reasons)), len(reasons))] + [
        share(f"refused: {reason}", on, reasons.count(reason), len(reasons)) for reason in named
    ]


def spoilt_figures(engine: Engine, cases: Sequence[data.Case]) -> Figures:
    """How often the gate refuses what is no upright radiograph: turned, inverted, black, noise."""
    limit = engine.cards["chest"].gate_limit or float("inf")
    pictures = [data.read_pixels(c.path) for c in cases]
    rng = np.random.default_rng(1)
    noise = [rng.random((320, 320), dtype=np.float32) for _ in range(50)]
    sets: dict[str, Sequence[npt.NDArray[np.float32]]] = {
        "turned by 90 degrees": [np.ascontiguousarray(np.rot90(p)) for p in pictures],
        "upside down": [np.ascontiguousarray(p[::-1]) for p in pictures],
        "inverted": [1 - p for p in pictures],
        "black": [np.zeros((320, 320), dtype=np.float32)],
        "white noise": noise,
    }
    found: Figures = []
    for name, some in track(sets.items(), "spoilt images"):
        found += refusals(engine.read(some), limit, name)[:1]
    return found


def written(folder: Path, name: str, figures: Figures, curves: Mapping[str, Any]) -> None:
    """Put *figures* into a card in place of those measured earlier on the same sets."""
    card, _ = read(folder / f"{name}.json")
    again = {f["on"] for f in figures}
    kept = [dict(f) for f in card.performance if f["on"] not in again]
    shipping.with_figures(folder, name, kept + figures, {**card.curves, **curves})


def shown(folder: Path, name: str, figures: Figures) -> list[str]:
    """Print *figures* beside the card's; returns the names of those that differ."""
    card, _ = read(folder / f"{name}.json")
    of_card = {(f["what"], f["on"]): f["value"] for f in card.performance}
    table = Table("figure", "on", "value", "95 % interval", "n", "card", title=f"{name} {card.version}")
    differing = []
    for f in figures:
        before, is_known = of_card.get((f["what"], f["on"])), (f["what"], f["on"]) in of_card
        is_same = before == f["value"] or (None not in (before, f["value"]) and abs(before - f["value"]) <= TOLERANCE)
        said = "" if not is_known else "same" if is_same else f"{before}"
        if is_known and not is_same:
            differing.append(f"{f['what']}, {f['on']}")
        table.add_row(f["what"], f["on"], number(f["value"]), interval_of(f), str(f["n"]), said)
    Console(width=160).print(table)
    return differing


def number(value: float | None) -> str:
    """Three digits, or a dash for what is not given."""
    return "-" if value is None else f"{value:.3f}"


def interval_of(figure: Mapping[str, Any]) -> str:
    """The interval in words and numbers, or why there is none."""
    if figure["value"] is None:
        return str(figure.get("interval", ""))
    return f"{number(figure['low'])} - {number(figure['high'])}"
