"""The card's figures, computed from shipped weights: classes, lungs, and how often the gate refuses what."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from rich.table import Table

from models import gate, preprocess
from models.engine import AT_ONCE, CLASSES, COVID, WEIGHTS, Engine, Reading
from models.training import data, shipping
from models.training.commands import Commands, add, add_cxr
from models.training.figures import auc, by_patient, entry, share
from triage.domain.errors import UnusableRadiograph
from triage.domain.finding import ChestClass

Outcome = Reading | UnusableRadiograph
Figures = list[dict[str, Any]]
PNEUMONIA = CLASSES.index(ChestClass.PNEUMONIA)


def add_command(commands: Commands) -> None:
    """`evaluate`."""
    command = add(commands, "evaluate", "recompute the cards' figures from stored weights", run)
    add_cxr(command)
    command.add_argument("--role", choices=("dev", "external"), default="dev")
    command.add_argument("--weights", type=Path, default=WEIGHTS)
    command.add_argument("--write", action="store_true", help="put the figures into the cards")


def run(arguments: argparse.Namespace) -> None:
    """Print the figures of the weights in --weights; with --write, put them into their cards."""
    every = data.read_manifest(arguments.cxr)
    engine = Engine.load(arguments.weights, threads=arguments.threads)
    external = arguments.role == "external"
    cases = data.external_cases(every) if external else data.chest_cases(every, held_out=True)
    on = "external" if external else "development fold 0"
    found = chest_figures(engine, cases, readings(engine, cases, on), on)
    lungs = [f for name, o, some in lung_sets(every, arguments.role) for f in lung_figures(engine, some, o, name)]
    if not external:
        limit = engine.cards["chest"].gate_limit or float("inf")
        children = [c for c in every if c.source == "kermany"][::8]
        found += refusals(readings(engine, children, "children"), limit, "kermany, children")
        found += spoilt_figures(engine, cases[::3])
    for name, figures in (("lungs", lungs), ("chest", found)):
        known = engine.cards[name].performance
        show(f"{name} {engine.cards[name].version}", figures, known)
        if arguments.write:
            mine = {(f["what"], f["on"]) for f in figures}
            kept = [dict(f) for f in known if (f["what"], f["on"]) not in mine]
            shipping.with_figures(arguments.weights, name, kept + figures)


def show(title: str, figures: Sequence[Mapping[str, Any]], known: Sequence[Mapping[str, Any]] = ()) -> None:
    """A table of *figures*; those that differ from the card's are marked."""
    of_card = {(f["what"], f["on"]): f["value"] for f in known}
    table = Table("figure", "on", "value", "95 % interval", "n", "card", title=title)
    for f in figures:
        value, low, high = ("-" if f[k] is None else f"{f[k]:.3f}" for k in ("value", "low", "high"))
        before = of_card.get((f["what"], f["on"]))
        said = "" if before is None else "same" if abs(before - (f["value"] or 0)) < 0.005 else f"{before:.3f}"
        table.add_row(f["what"], f["on"], value, f"{low} - {high}", str(f["n"]), said)
    Console(width=150).print(table)


def readings(engine: Engine, cases: Sequence[data.Case], what: str) -> list[Outcome]:
    """What the engine says of each case, before the out-of-distribution limit."""
    outcomes: list[Outcome] = []
    for first in track(range(0, len(cases), AT_ONCE), what):
        outcomes += engine.read([data.read_pixels(c.path) for c in cases[first : first + AT_ONCE]])
    return outcomes


def chest_figures(engine: Engine, cases: Sequence[data.Case], outcomes: Sequence[Outcome], on: str) -> Figures:
    """
    Refusals, then of the assessed images: recalls of the most probable class, areas, and the operating point.

    Args:
        cases: labelled cases, *outcomes* theirs in order.
        on: the name of the set, as the card prints it.
    """
    limit = engine.cards["chest"].gate_limit or float("inf")
    found = [*refusals(outcomes, limit, on)]
    rows = [(c, o) for c, o in zip(cases, outcomes, strict=True) if isinstance(o, Reading) and o.gate_score <= limit]
    assessed = [c for c, _ in rows]
    probability = np.array([o.probabilities for _, o in rows])
    labels = np.array([data.label_of(c) for c in assessed])
    threshold = engine.cards["chest"].threshold_of(ChestClass.COVID) or 1.0
    sources = sorted({c.source for c in assessed})
    for source in sources:
        inside = np.array([c.source == source for c in assessed])
        pair = inside & np.isin(labels, (PNEUMONIA, COVID))
        if (labels[pair] == COVID).any() and (labels[pair] == PNEUMONIA).any() and pair.sum() >= 20:
            found.append(_covid_against_pneumonia(assessed, probability, labels, pair, f"{on}, {source}"))
    chosen = probability.argmax(1)
    for k, code in enumerate(CLASSES):
        found.append(share(f"recall {code}", on, int((chosen[labels == k] == k).sum()), int((labels == k).sum())))
    present = np.unique(labels)
    found.append(
        _bootstrapped(
            "balanced accuracy",
            on,
            assessed,
            lambda i: float(np.mean([(chosen[i][labels[i] == k] == k).mean() for k in np.unique(labels[i])])),
        )
    )
    found.append(share("accuracy", on, int((chosen == labels).sum()), len(labels)))
    for k in present:
        found.append(
            _bootstrapped(
                f"AUC {CLASSES[k]} against rest",
                on,
                assessed,
                lambda i, k=k: auc(probability[i, k], labels[i] == k),  # type: ignore[misc]
            )
        )
    flagged, is_covid = probability[:, COVID] >= threshold, labels == COVID
    found.append(
        share("COVID sensitivity at the operating point", on, int(flagged[is_covid].sum()), int(is_covid.sum()))
    )
    found.append(
        share("COVID specificity at the operating point", on, int((~flagged[~is_covid]).sum()), int((~is_covid).sum()))
    )
    for source in sources:
        for k, code in enumerate(CLASSES):
            own = np.array([c.source == source for c in assessed]) & (labels == k)
            if own.any():
                found.append(share(f"recall {code}", f"{on}, {source}", int((chosen[own] == k).sum()), int(own.sum())))
                hits = int(flagged[own].sum())
                found.append(share(f"flagged, truly {code}", f"{on}, {source}", hits, int(own.sum())))
    return found


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


def lung_figures(engine: Engine, cases: Sequence[data.Case], origin: str, on: str) -> Figures:
    """Mean Dice of the kept lungs against masks of one *origin*, and the share of images with no plausible lungs."""
    dice: list[float] = []
    implausible = 0
    for first in track(range(0, len(cases), AT_ONCE), f"lungs, {on}"):
        some = cases[first : first + AT_ONCE]
        squares = [preprocess.squared(data.read_pixels(c.path)) for c in some]
        for case, probability in zip(some, engine.lung_probability(squares), strict=True):
            field = gate.lung_field(probability)
            path = case.mask_of(origin)
            assert path is not None
            dice.append(dice_of(field.mask, _resized(data.read_mask(path), field.mask.shape)))
            implausible += field.implausible is not None
    values = np.array(dice)
    return [
        _bootstrapped("Dice, mean", on, cases, lambda i: float(values[i].mean())),
        _bootstrapped("Dice, 5th percentile", on, cases, lambda i: float(np.percentile(values[i], 5))),
        share("no plausible lungs", on, implausible, len(cases)),
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


def lung_sets(cases: Iterable[data.Case], role: str) -> list[tuple[str, str, list[data.Case]]]:
    """(name, mask origin, cases) of the sets the lungs are measured on."""
    named = {
        "dev": (
            ("shenzhen, manual masks without heart", "shenzhen", "stirenko_manual"),
            ("hannover_v1crop fold 0, v7 masks", "hannover_v1crop", "v7"),
        ),
        "external": (
            ("montgomery, manual masks without heart", "montgomery", "nlm_manual"),
            ("web_eurorad, v7 masks", "web_eurorad", "v7"),
        ),
    }
    every = list(cases)
    return [
        (
            name,
            origin,
            [
                c
                for c in every
                if c.source == source
                and c.mask_of(origin)
                and (source != "hannover_v1crop" or c.fold == data.HELD_OUT_FOLD)
            ],
        )
        for name, source, origin in named[role]
    ]


def dice_of(found: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> float:
    """Twice the overlap over the sum of both areas."""
    return float(2 * (found & truth).sum() / max(int(found.sum() + truth.sum()), 1))


def _covid_against_pneumonia(
    cases: Sequence[data.Case],
    probability: npt.NDArray[np.float64],
    labels: npt.NDArray[np.int_],
    pair: npt.NDArray[np.bool_],
    on: str,
) -> dict[str, Any]:
    score = probability[pair, COVID] / (probability[pair, COVID] + probability[pair, PNEUMONIA] + 1e-12)
    truth = labels[pair] == COVID
    kept = [c for c, inside in zip(cases, pair, strict=True) if inside]
    return _bootstrapped("AUC COVID against pneumonia within one source", on, kept, lambda i: auc(score[i], truth[i]))


def _bootstrapped(
    what: str, on: str, cases: Sequence[data.Case], figure: Callable[[npt.NDArray[np.int_]], float]
) -> dict[str, Any]:
    low, high = by_patient([c.patient_id for c in cases], figure)
    return entry(what, on, figure(np.arange(len(cases))), low, high, len(cases), "bootstrap by patient")


def _resized(mask: npt.NDArray[np.bool_], shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    image = torch.from_numpy(mask).float()[None, None]
    resized: npt.NDArray[np.bool_] = (
        F.interpolate(image, size=shape, mode="bilinear", antialias=True)[0, 0].numpy() > 0.5
    )
    return resized
