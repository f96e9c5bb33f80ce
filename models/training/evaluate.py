"""The card's figures, computed from shipped weights: classes, lungs, and how often the gate refuses what."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from rich.table import Table

from models import gate, preprocess
from models.card import read, verified_weights
from models.engine import AT_ONCE, CLASSES, COVID, WEIGHTS, Engine, Reading, loaded, lung_maps
from models.training import data, ledger, shipping
from models.training.commands import Commands, add, add_cxr
from models.training.figures import area, by_patient, entry, share
from triage.audit import calibration, performance, segmentation
from triage.domain.errors import UnusableRadiograph
from triage.domain.finding import ChestClass

Outcome = Reading | UnusableRadiograph
Figures = list[dict[str, Any]]
Floats = npt.NDArray[np.float64]
Truths = npt.NDArray[np.bool_]
PNEUMONIA = CLASSES.index(ChestClass.PNEUMONIA)
NAMES = {"dev": "development fold 0", "external": "external"}
BASELINE = "lungs-baseline"
BINS = 10
ROC_POINTS = 40
LEAST = 10
"""Positive and negative images below which a subgroup's figure is not given."""
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
    lungs = lung_role_figures(engine, arguments.weights, every, arguments.role)
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


def readings(engine: Engine, cases: Sequence[data.Case], what: str) -> list[Outcome]:
    """What the engine says of each case, before the out-of-distribution limit."""
    outcomes: list[Outcome] = []
    for first in track(range(0, len(cases), AT_ONCE), what):
        outcomes += engine.read([data.read_pixels(c.path) for c in cases[first : first + AT_ONCE]])
    return outcomes


@dataclass(frozen=True)
class Scored:
    """
    Cases with what was said of them.

    Attributes:
        probability: (n, classes), in `ChestClass` order; NaN rows where nothing was said.
        labels: (n,) class indices.
    """

    cases: tuple[data.Case, ...]
    probability: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int_]

    @classmethod
    def of(cls, cases: Sequence[data.Case], probability: npt.NDArray[np.float64]) -> Scored:
        """Labelled by the manifest."""
        return cls(tuple(cases), probability, np.array([data.label_of(c) for c in cases], dtype=int))

    def where(self, inside: Truths) -> Scored:
        """The rows that are *inside*."""
        cases = tuple(c for c, kept in zip(self.cases, inside, strict=True) if kept)
        return Scored(cases, self.probability[inside], self.labels[inside])

    @property
    def chosen(self) -> npt.NDArray[np.int_]:
        """(n,) the most probable class; -1 where nothing was said."""
        silent = np.isnan(self.probability[:, 0])
        return np.where(silent, -1, np.nan_to_num(self.probability).argmax(1))

    @property
    def known(self) -> npt.NDArray[np.float64]:
        """(n, classes) with one third each where nothing was said."""
        return np.where(np.isnan(self.probability), 1 / len(CLASSES), self.probability)

    def share_of(self, what: str, on: str, hit: Callable[[Scored], Truths]) -> dict[str, Any]:
        """The share of the cases that are a *hit*."""
        return part_of(what, on, self.cases, hit(self))


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
        *covid_against_pneumonia(assessed, on),
        *class_figures(assessed, on),
        *operating_figures(assessed, on, threshold),
        *calibration_figures(assessed, on),
        *refusals(outcomes, limit, on),
        *covid_against_pneumonia(every, f"{on}, refused included"),
        *class_figures(every, f"{on}, refused included"),
    ]
    for name, part in parts(assessed).items():
        found += part_figures(part, f"{on}, {name}", threshold)
    return found, curves_of(assessed)


def covid_against_pneumonia(scored: Scored, on: str) -> Figures:
    """The one comparison that the source cannot answer: inside each source that holds both."""
    found: Figures = []
    for source in sorted({c.source for c in scored.cases}):
        inside = np.array([c.source == source for c in scored.cases]) & np.isin(scored.labels, (PNEUMONIA, COVID))
        pair = scored.where(inside)
        is_covid = pair.labels == COVID
        if min(int(is_covid.sum()), int((~is_covid).sum())) < LEAST:
            continue
        score = pair.known[:, COVID] / (pair.known[:, COVID] + pair.known[:, PNEUMONIA] + 1e-12)
        what = "AUC COVID against pneumonia within one source"
        found.append(area_figure(what, f"{on}, {source}", pair.cases, score, is_covid))
    return found


def class_figures(scored: Scored, on: str) -> Figures:
    """Areas against rest, Hand and Till's mean area, balanced accuracy, accuracy, and the three recalls together."""
    labels, chosen, known = scored.labels, scored.chosen, scored.known
    found = [
        area_figure(f"AUC {code} against rest", on, scored.cases, known[:, k], labels == k)
        for k, code in enumerate(CLASSES)
        if (labels == k).any() and (labels != k).any()
    ]
    found.append(
        _bootstrapped(
            "AUC, mean of pairs (Hand-Till)", on, scored.cases, lambda i: performance.hand_till(known[i], labels[i])
        )
    )
    found.append(
        _bootstrapped(
            "balanced accuracy", on, scored.cases, lambda i: performance.balanced_accuracy(chosen[i], labels[i])
        )
    )
    found.append(part_of("accuracy", on, scored.cases, chosen == labels))
    return found + recalls(scored, on)


def recalls(scored: Scored, on: str) -> Figures:
    """Of each class, the share whose most probable class it is; a class without images has none."""
    return [
        scored.where(scored.labels == k).share_of(f"recall {code}", on, lambda some, k=k: some.chosen == k)  # type: ignore[misc]
        for k, code in enumerate(CLASSES)
    ]


def operating_figures(scored: Scored, on: str, threshold: float) -> Figures:
    """What the flag does at the card's threshold."""
    sick, rest = scored.where(scored.labels == COVID), scored.where(scored.labels != COVID)
    return [
        sick.share_of("COVID sensitivity at the operating point", on, lambda some: some.known[:, COVID] >= threshold),
        rest.share_of("COVID specificity at the operating point", on, lambda some: some.known[:, COVID] < threshold),
    ]


def calibration_figures(scored: Scored, on: str) -> Figures:
    """Brier score over all classes; of each class slope, intercept and the calibration error without chance's share."""
    labels, known, cases = scored.labels, scored.known, scored.cases
    truths = np.eye(len(CLASSES))[labels]
    found = [_bootstrapped("Brier score", on, cases, lambda i: float(((known[i] - truths[i]) ** 2).sum(1).mean()))]
    for k, code in enumerate(CLASSES):
        said, truth = known[:, k], labels == k
        if min(int(truth.sum()), int((~truth).sum())) < LEAST:
            continue
        measures: dict[str, Callable[[Floats, Truths], float]] = {
            "slope": lambda p, y: calibration.calibration(p, y).slope,
            "intercept": lambda p, y: calibration.calibration(p, y).intercept,
            "error, debiased": lambda p, y: calibration.calibration_error(p, y, BINS).root_mean_square,
        }
        found += [
            _bootstrapped(f"calibration {name} {code}", on, cases, lambda i, m=m, p=said, y=truth: m(p[i], y[i]))  # type: ignore[misc]
            for name, m in measures.items()
        ]
    return found


def parts(scored: Scored) -> dict[str, Scored]:
    """By source, sex, age band and view."""
    groups: dict[str, list[bool]] = {}
    keys = [(c.source, f"sex {sex_of(c)}", f"age {age_band(c.age)}", f"view {view_of(c)}") for c in scored.cases]
    for names in keys:
        for name in names:
            groups.setdefault(name, [name in other for other in keys])
    order = sorted(groups, key=lambda n: (n.startswith(("sex ", "age ", "view ")), n))
    return {name: scored.where(np.array(groups[name])) for name in order}


def part_figures(part: Scored, on: str, threshold: float) -> Figures:
    """Of a source or subgroup: the three recalls, COVID's area and the flag, each only where there is enough."""
    is_covid = part.labels == COVID
    what = "AUC covid against rest"
    if min(int(is_covid.sum()), int((~is_covid).sum())) >= LEAST:
        covid = area_figure(what, on, part.cases, part.known[:, COVID], is_covid)
    else:
        few = f"insufficient: {int(is_covid.sum())} COVID, {int((~is_covid).sum())} other"
        covid = entry(what, on, float("nan"), float("nan"), float("nan"), len(part.labels), few)
    flags = [
        part.where(part.labels == k).share_of(
            f"flagged, truly {code}", on, lambda some: some.known[:, COVID] >= threshold
        )
        for k, code in enumerate(CLASSES)
    ]
    nothing = {"value": None, "low": None, "high": None}
    shares = [
        f if f["n"] >= LEAST else {**f, **nothing, "interval": f"insufficient: {f['n']} images"}
        for f in recalls(part, on) + flags
    ]
    return [*shares[: len(CLASSES)], covid, *shares[len(CLASSES) :]]


def curves_of(scored: Scored) -> dict[str, Any]:
    """Points of the reliability diagram and the ROC curve of each class, rounded."""
    drawn: dict[str, Any] = {}
    for k, code in enumerate(CLASSES):
        truth, score = scored.labels == k, scored.known[:, k]
        if not truth.any() or truth.all():
            continue
        order = np.argsort(-score, kind="stable")
        last = np.append(np.diff(score[order]) != 0, True)
        hits, alarms = np.cumsum(truth[order])[last] / truth.sum(), np.cumsum(~truth[order])[last] / (~truth).sum()
        some = np.unique(np.linspace(0, len(hits) - 1, ROC_POINTS).round().astype(int))
        drawn[str(code)] = {
            "reliability": [
                [b.n, round(b.predicted, 4), round(b.n * b.observed)]
                for b in calibration.reliability(score, truth, BINS, of_equal="count")
            ],
            "roc": [
                [0.0, 0.0],
                *([round(float(a), 4), round(float(h), 4)] for a, h in zip(alarms[some], hits[some], strict=True)),
            ],
        }
    return drawn


def sex_of(case: data.Case) -> str:
    """F, M or unknown; sources spell it in several ways."""
    return {"f": "F", "m": "M"}.get(case.sex.strip().lower()[:1], "unknown")


def view_of(case: data.Case) -> str:
    """AP (standing or lying), PA or unknown."""
    return next((v for v in ("AP", "PA") if case.view.strip().upper().startswith(v)), "unknown")


def age_band(age: float | None) -> str:
    """Bands wide enough to hold somebody."""
    if age is None:
        return "unknown"
    return next(
        (name for limit, name in ((18, "under 18"), (40, "18-39"), (65, "40-64")) if age < limit), "65 and over"
    )


def area_figure(
    what: str,
    on: str,
    cases: Sequence[data.Case],
    score: npt.NDArray[np.float64],
    is_positive: npt.NDArray[np.bool_],
) -> dict[str, Any]:
    """An area under the ROC curve with its interval by patient (Obuchowski 1997)."""
    return area(what, on, score, is_positive, [c.patient_id for c in cases])


def part_of(what: str, on: str, cases: Sequence[data.Case], is_hit: Truths) -> dict[str, Any]:
    """
    A share with Wilson's interval for as many trials as the images are worth.

    Images of one patient are taken to say the same: n images count as n² / Σm² (Kish), m being each patient's.
    """
    _, sizes = np.unique([c.patient_id for c in cases], return_counts=True)
    n = len(cases)
    worth = round(n**2 / float((sizes**2).sum())) if n else 0
    value = float(is_hit.mean()) if n else float("nan")
    low, high = performance.wilson(value * worth if n else 0, worth)
    return entry(what, on, value, low, high, n, f"Wilson, worth {worth} independent images")


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


class Segmenter(Protocol):
    """What finds lungs: the engine, or one lung network alone."""

    def lung_probability(self, squares: Sequence[npt.NDArray[np.float32]]) -> list[npt.NDArray[np.float32]]:
        """Lung probability maps of pictures made by `preprocess.squared`, in the same frame."""
        ...


class LungNetwork:
    """One lung network of a folder, run alone in full precision."""

    def __init__(self, folder: Path, name: str) -> None:
        card, _ = read(folder / f"{name}.json")
        stored = safetensors.torch.load(verified_weights(folder / f"{name}.safetensors", card))
        self._net = loaded(card, stored).eval().to(memory_format=torch.channels_last)
        self._side = int(card.architecture["side"])

    def lung_probability(self, squares: Sequence[npt.NDArray[np.float32]]) -> list[npt.NDArray[np.float32]]:
        """Lung probability maps of pictures made by `preprocess.squared`, in the same frame."""
        return lung_maps(self._net, squares, self._side, device=torch.device("cpu"), half=False)


def lung_role_figures(engine: Engine, folder: Path, every: Sequence[data.Case], role: str) -> dict[str, Figures]:
    """By card: the shipped lungs' figures, and where a baseline network lies in *folder* its own and the difference."""
    has_baseline = (folder / f"{BASELINE}.json").exists()
    found: dict[str, Figures] = {"lungs": [], **({BASELINE: []} if has_baseline else {})}
    for on, origin, cases in lung_sets(every, role):
        measured = overlaps(engine, cases, origin, on)
        found["lungs"] += lung_figures(measured, cases, on)
        if has_baseline:
            before = overlaps(LungNetwork(folder, BASELINE), cases, origin, f"{on}, baseline")
            found[BASELINE] += lung_figures(before, cases, on)
            found["lungs"].append(gain_figure(measured.dice - before.dice, cases, on))
    return found


@dataclass(frozen=True)
class Overlaps:
    """Of each image: Dice, the outlines' 95th percentile distance, and whether the lungs were implausible."""

    dice: npt.NDArray[np.float64]
    farthest: npt.NDArray[np.float64]
    implausible: npt.NDArray[np.bool_]


def overlaps(segmenter: Segmenter, cases: Sequence[data.Case], origin: str, on: str) -> Overlaps:
    """The kept lungs of each case against its mask of one *origin*."""
    rows: list[tuple[float, float, bool]] = []
    for first in track(range(0, len(cases), AT_ONCE), f"lungs, {on}"):
        some = cases[first : first + AT_ONCE]
        squares = [preprocess.squared(data.read_pixels(c.path)) for c in some]
        for case, probability in zip(some, segmenter.lung_probability(squares), strict=True):
            field = gate.lung_field(probability)
            path = case.mask_of(origin)
            assert path is not None
            truth = _resized(data.read_mask(path), field.mask.shape)
            edge = 1 / field.mask.shape[0]
            distance = segmentation.hd95(field.mask, truth, edge)
            rows.append((segmentation.dice(field.mask, truth), distance, field.implausible is not None))
    dice, farthest, implausible = zip(*rows, strict=True)
    return Overlaps(np.array(dice), np.array(farthest), np.array(implausible))


def gain_figure(gain: npt.NDArray[np.float64], cases: Sequence[data.Case], on: str) -> dict[str, Any]:
    """Mean difference of the two networks' Dice on the same images."""
    found = segmentation.compared(gain, np.zeros_like(gain), [c.patient_id for c in cases]).difference
    what = "Dice, optimised minus baseline, paired"
    return entry(what, on, found.value, found.low, found.high, len(cases), found.method)


def lung_figures(measured: Overlaps, cases: Sequence[data.Case], on: str) -> Figures:
    """Dice on average and at its worst, the outlines' distance, and the share of images with no plausible lungs."""
    dice, far = measured.dice, measured.farthest
    return [
        _bootstrapped("Dice, mean", on, cases, lambda i: float(dice[i].mean())),
        _bootstrapped("Dice, worst decile", on, cases, lambda i: segmentation.worst_decile_mean(dice[i])),
        part_of("Dice below 0.8", on, cases, dice < segmentation.FAILED_UNDER),
        _bootstrapped("HD95, share of the edge", on, cases, lambda i: float(far[i].mean())),
        part_of("no plausible lungs", on, cases, measured.implausible),
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


def _bootstrapped(
    what: str,
    on: str,
    cases: Sequence[data.Case],
    figure: Callable[[npt.NDArray[np.int_]], float],
) -> dict[str, Any]:
    low, high = by_patient([c.patient_id for c in cases], figure)
    return entry(what, on, figure(np.arange(len(cases))), low, high, len(cases), "bootstrap by patient")


def _resized(mask: npt.NDArray[np.bool_], shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    image = torch.from_numpy(mask).float()[None, None]
    resized: npt.NDArray[np.bool_] = (
        F.interpolate(image, size=shape, mode="bilinear", antialias=True)[0, 0].numpy() > 0.5
    )
    return resized
