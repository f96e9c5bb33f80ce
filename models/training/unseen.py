"""
Calibration for a hospital not seen: temperature and bias from the runs that left whole sources out.

On fold 0 the network knows the hospital, so levels fitted there carry over badly. The rule, written down before the
external images were shown the outcome: the three classes count alike, as the card says of its probabilities, and so do
the sources of each; what names no class (tuberculosis) is left out. Normal and COVID are read by two sources unseen.
Pneumonia comes from one source alone, and a network that never saw it knows none: half its weight are held-out patients
of that source, scored by the runs that saw it, half are its cases as *not normal*, scored by the runs that did not.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from models import calibration
from models.card import Card, read
from models.engine import CLASSES, WEIGHTS, Engine
from models.training import cards, data, evaluate, experiments, shipping
from models.training.commands import Commands, add, add_cxr
from triage.domain.errors import Misconfigured
from triage.domain.finding import ChestClass

NORMAL, PNEUMONIA, COVID = (CLASSES.index(c) for c in (ChestClass.NORMAL, ChestClass.PNEUMONIA, ChestClass.COVID))
ABNORMAL = len(CLASSES)
"""Any class but normal."""
HALVES = (PNEUMONIA, ABNORMAL)
PNEUMONIA_SOURCE = "nih_cxr14"
LEAST = 1e-6
"""Stored probabilities are rounded to it."""


@dataclass(frozen=True)
class Unseen:
    """What left-out runs said: (n, 3) logits, (n,) labels (ABNORMAL among them), (n,) weights, and the runs' number."""

    logits: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int_]
    weights: npt.NDArray[np.float64]
    runs: int

    @classmethod
    def of(cls, runs: Sequence[Mapping[str, Any]]) -> Unseen:
        """From stored runs of one recipe; Misconfigured where a source was never left out."""
        missing = set(experiments.SOURCES) - {s for run in runs for s in run["left_out"]}
        if missing:
            raise Misconfigured(f"no run has left out {', '.join(sorted(missing))}: see `python -m models experiments`")
        said: list[Sequence[float]] = []
        groups: list[tuple[int, str]] = []
        for run in runs:
            for source, label, fold, _, *p in run["tested"]:
                for k in labels_for(source, label, fold, run["left_out"]):
                    said.append(p)
                    groups.append((k, source))
        return cls(np.log(np.maximum(said, LEAST)), np.array([k for k, _ in groups]), weights_of(groups), len(runs))


def labels_for(source: str, label: str, fold: int | None, left_out: Sequence[str]) -> list[int]:
    """What one tested case of a run counts as; usually nothing, for its source was seen."""
    is_unseen = source in left_out
    if label == ChestClass.PNEUMONIA and source == PNEUMONIA_SOURCE:
        if is_unseen:
            return [ABNORMAL]
        return [PNEUMONIA] if fold == data.HELD_OUT_FOLD else []
    if not is_unseen:
        return []
    return {str(ChestClass.NORMAL): [NORMAL], str(ChestClass.COVID): [COVID]}.get(label, [])


def weights_of(groups: Sequence[tuple[int, str]]) -> npt.NDArray[np.float64]:
    """(n,): each class one, its sources alike, within them each case; PNEUMONIA and ABNORMAL halve one class."""
    counts = Counter(groups)
    sources = Counter(k for k, _ in counts)
    return np.array([(0.5 if k in HALVES else 1.0) / sources[k] / counts[k, s] for k, s in groups])


def add_command(commands: Commands) -> None:
    """`calibrate`."""
    command = add(commands, "calibrate", "refit the classifier's calibration on sources left out", run)
    add_cxr(command)
    command.add_argument("--weights", type=Path, default=WEIGHTS)
    command.add_argument("--runs", type=Path, default=Path("docs/models/experiments"), help="folder of stored runs")
    command.add_argument("--arm", default=experiments.SHIPPED, help="the recipe whose runs are read")
    command.add_argument("--write", action="store_true", help="put it into the card; its figures are then to be remade")


def run(arguments: argparse.Namespace) -> None:
    """Print the calibration of the card and the one that sources left out ask for; with --write, ship the latter."""
    stored = [json.loads(p.read_text()) for p in sorted(arguments.runs.glob("leave-one-source-out.*.json"))]
    unseen = Unseen.of([r for r in stored if r["arm"] == arguments.arm])
    card, _ = read(arguments.weights / "chest.json")
    found = refitted(card, unseen)
    console = Console(width=160)
    for name, one in (("card", card), ("sources left out", found)):
        loss = calibration.log_loss(unseen.logits, unseen.labels, one.temperature, one.bias, unseen.weights)
        console.print(f"{name}: temperature {one.temperature:.3f}, bias {_signed(one.bias)}, loss there {loss:.3f}")
    engine = Engine.load(arguments.weights, threads=arguments.threads)
    held_out = evaluate.role_cases(engine, data.read_manifest(arguments.cxr), "dev")
    found = cards.with_operating_point(found, held_out, evaluate.readings(engine, held_out, "held-out images"))
    (point,) = found.operating_points
    console.print(f"operating point for COVID {point.threshold:.3f}: {point.rule}; {point.source}")
    if arguments.write:
        shipping.write_bytes(arguments.weights, "chest", (arguments.weights / "chest.safetensors").read_bytes(), found)


def refitted(card: Card, unseen: Unseen) -> Card:
    """The card with the temperature and bias of *unseen*, and the words that say so."""
    temperature, bias = calibration.fit(unseen.logits, unseen.labels, unseen.weights)
    words = (
        f"{unseen.runs} runs of the same recipe, each without one source, on that source: normal and COVID by two "
        "sources unseen; pneumonia, which one source alone holds, half by its held-out patients and half as 'not "
        "normal' by the runs without it;"
    )
    return replace(card, temperature=temperature, bias=(bias[0], bias[1], bias[2]), calibrated_on=words)


def _signed(bias: Sequence[float]) -> str:
    return ", ".join(f"{b:+.3f} {c}" for b, c in zip(bias, CLASSES, strict=True))
