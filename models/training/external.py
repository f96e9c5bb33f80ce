"""
External validation: the shipped engine on images that nothing was trained or chosen on, beside what it must beat.

Every run is written down in a checked-in ledger, so that nobody can look often and report once; with --write the
figures go into the cards and the cases become the audit's baseline.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from models import baseline
from models.baseline import Baseline, BaselineCase
from models.engine import CLASSES, WEIGHTS, Engine, Reading
from models.training import baselines, data, evaluate, ledger, linear, overlaps, paper, scores
from models.training.commands import Commands, add, add_cxr
from models.training.scores import Figures
from triage.domain.errors import UnusableRadiograph
from triage.domain.finding import ChestClass

ON = evaluate.NAMES["external"]


def add_command(commands: Commands) -> None:
    """`external-validation`."""
    command = add(commands, "external-validation", "run the shipped engine on the external role", run)
    add_cxr(command)
    command.add_argument("--weights", type=Path, default=WEIGHTS)
    command.add_argument("--imagenet", type=Path, help="ImageNet mobilenetv2_100 weights, for the frozen baseline")
    command.add_argument("--ledger", type=Path, default=ledger.LEDGER, help="every run adds one line to it")
    command.add_argument("--write", action="store_true", help="put the figures into the cards, freeze the baseline")


def run(arguments: argparse.Namespace) -> None:
    """Validate the weights in --weights, print everything, and write the run down."""
    console = Console(width=160)
    every = data.read_manifest(arguments.cxr)
    engine = Engine.load(arguments.weights, threads=arguments.threads)
    cases = data.external_cases(every)
    outcomes = evaluate.readings(engine, cases, ON)
    found, curves = evaluate.chest_figures(engine, cases, outcomes, ON)
    beside = baseline_figures(every, cases, engine, outcomes, arguments.imagenet, console)
    lungs = overlaps.role_figures(engine, arguments.weights, every, "external")
    evaluate.shown(arguments.weights, "chest", found + beside)
    for name, figures in lungs.items():
        evaluate.shown(arguments.weights, name, figures)
    console.print(paper_table(found, lungs.get("lungs", [])))
    for sentence in verdicts(found, beside):
        console.print(sentence)
    if arguments.write:
        for name, figures in lungs.items():
            evaluate.written(arguments.weights, name, figures, {})
        evaluate.written(arguments.weights, "chest", found + beside, {ON: curves})
        engine = Engine.load(arguments.weights, threads=arguments.threads)
        frozen = freeze(engine, cases, outcomes)
        (arguments.weights / baseline.FILE).write_text(frozen.to_json(), encoding="utf-8")
    figures = [*found, *beside, *(f for some in lungs.values() for f in some)]
    ledger.add_look(arguments.ledger, "external-validation", engine, figures, datetime.now(UTC))


def baseline_figures(
    every: Sequence[data.Case],
    cases: Sequence[data.Case],
    engine: Engine,
    outcomes: Sequence[evaluate.Outcome],
    imagenet: Path | None,
    console: Console,
) -> Figures:
    """The same figures of classifiers that see no lungs, trained on all labelled adult development images."""
    shown = [c for held_out in (False, True) for c in data.chest_cases(every, held_out=held_out, licensed=False)]
    labels = np.array([data.label_of(c) for c in shown])
    spaces = {"trivial features": (baselines.trivial_features(shown), baselines.trivial_features(cases))}
    if imagenet is None:
        console.print("frozen ImageNet features: SKIPPED, name the weights with --imagenet")
    else:
        spaces["frozen MobileNetV2"] = (
            baselines.frozen_features(shown, imagenet),
            baselines.frozen_features(cases, imagenet),
        )
    limit = engine.cards["chest"].gate_limit or float("inf")
    assessed = np.array([isinstance(o, Reading) and o.gate_score <= limit for o in outcomes])
    found: Figures = []
    for name, (seen, unseen) in spaces.items():
        scored = scores.Scored.of(cases, linear.fit(seen, labels).probabilities(unseen))
        for on, some in ((f"{ON}, {name}", scored.where(assessed)), (f"{ON}, {name}, refused included", scored)):
            found += scores.covid_against_pneumonia(some, on)
            found += scores.class_figures(some, on)
    return found


def verdicts(found: Sequence[Mapping[str, Any]], beside: Sequence[Mapping[str, Any]]) -> list[str]:
    """Whether the lower limit of the balanced accuracy lies above what each baseline reached in this run."""

    def balanced(figures: Sequence[Mapping[str, Any]], on: str) -> Mapping[str, Any] | None:
        return next((f for f in figures if f["what"] == "balanced accuracy" and f["on"] == on), None)

    said = []
    for name in ("trivial features", "frozen MobileNetV2"):
        for suffix in ("", ", refused included"):
            ours, theirs = balanced(found, ON + suffix), balanced(beside, f"{ON}, {name}{suffix}")
            if ours is None or theirs is None:
                continue
            is_above = ours["low"] > theirs["value"]
            said.append(
                f"balanced accuracy{suffix}: {ours['value']:.3f} ({ours['low']:.3f} - {ours['high']:.3f}); "
                f"{name} {theirs['value']:.3f}: the lower limit is {'above' if is_above else 'NOT above'} it"
            )
    return said


def paper_table(chest: Sequence[Mapping[str, Any]], lungs: Sequence[Mapping[str, Any]]) -> Table:
    """Ours on the external role beside the paper's, which were measured on other data."""
    ours = {f["what"]: f for f in chest if f["on"] == ON}
    table = Table("who", "figure", "theirs (OTHER DATA)", "ours, external", title=f"Nishio et al.: {paper.CAUTION}")
    for f in paper.CHEST:
        own = ours.get(f["what"])
        table.add_row(f["who"], f["what"], paper.spread_of(f), "" if own is None else _with_interval(own))
    for f in paper.LUNGS:
        table.add_row(f["who"], f["what"], paper.spread_of(f), "")
    for own in lungs:
        if own["what"] == "Dice, mean":
            table.add_row("ours", f"Dice, {own['on']}", "", _with_interval(own))
    return table


def freeze(engine: Engine, cases: Sequence[data.Case], outcomes: Sequence[evaluate.Outcome]) -> Baseline:
    """The case-level results as the audit's baseline, in an order that tells nothing."""
    card = engine.cards["chest"]
    limit = card.gate_limit if card.gate_limit is not None else float("inf")
    frozen = sorted(
        (_frozen(case, outcome, limit) for case, outcome in zip(cases, outcomes, strict=True)), key=lambda c: c.case
    )
    points = np.array([c.coordinates for c in frozen if c.coordinates is not None])
    return Baseline(
        classifier=asdict(engine.classifier),
        segmenter=asdict(engine.segmenter),
        classes=tuple(str(c) for c in CLASSES),
        threshold=card.threshold_of(ChestClass.COVID),
        gate_limit=card.gate_limit,
        embedding=_summary(points),
        cases=tuple(frozen),
    )


def _frozen(case: data.Case, outcome: evaluate.Outcome, limit: float) -> BaselineCase:
    bare = BaselineCase(
        case=baseline.pseudonym("image", case.image_id),
        patient=baseline.pseudonym("patient", f"{case.source} {case.patient_id}"),
        source=case.source,
        label=case.label,
        sex=scores.sex_of(case),
        age_band=scores.age_band(case.age),
        view=scores.view_of(case),
    )
    if isinstance(outcome, UnusableRadiograph):
        return BaselineCase(**{**asdict(bare), "refused": outcome.reason})
    outside = outcome.activation_outside
    return BaselineCase(
        **{
            **asdict(bare),
            "refused": "out-of-distribution" if outcome.gate_score > limit else None,
            "probabilities": tuple(round(float(p), 5) for p in outcome.probabilities),
            "gate_score": round(outcome.gate_score, 4),
            "lung_area": round(float(outcome.mask.mean()), 5),
            "activation_outside": None if outside is None else round(outside, 4),
            "statistics": {k: round(float(v), 5) for k, v in outcome.statistics.items()},
            "coordinates": tuple(round(float(x), 4) for x in baseline.projected(outcome.embedding[None])[0]),
        }
    )


def _summary(points: npt.NDArray[np.float64]) -> dict[str, Any]:
    spread = np.linalg.eigvalsh(np.cov(points.T))[::-1] if len(points) > 1 else np.zeros(baseline.COORDINATES)
    mean = points.mean(0) if len(points) else np.zeros(baseline.COORDINATES)
    return {
        "mean": [round(float(x), 4) for x in mean],
        "covariance_eigenvalues": [round(float(x), 4) for x in spread],
        "cases": len(points),
    }


def _with_interval(figure: Mapping[str, Any]) -> str:
    return f"{evaluate.number(figure['value'])} ({evaluate.interval_of(figure)}), n={figure['n']}"
