"""How well found lungs agree with drawn ones: on which sets, by which network, and the gain over the baseline's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
import torch.nn.functional as F
from rich.progress import track

from models import gate, preprocess
from models.card import read, verified_weights
from models.engine import AT_ONCE, Engine, loaded, lung_maps
from models.training import data
from models.training.figures import entry
from models.training.scores import Figures, part_of, resampled
from triage.audit import segmentation

BASELINE = "lungs-baseline"


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


def role_figures(engine: Engine, folder: Path, every: Sequence[data.Case], role: str) -> dict[str, Figures]:
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


def lung_figures(measured: Overlaps, cases: Sequence[data.Case], on: str) -> Figures:
    """Dice on average and at its worst, the outlines' distance, and the share of images with no plausible lungs."""
    dice, far = measured.dice, measured.farthest
    return [
        resampled("Dice, mean", on, cases, lambda i: float(dice[i].mean())),
        resampled("Dice, worst decile", on, cases, lambda i: segmentation.worst_decile_mean(dice[i])),
        part_of("Dice below 0.8", on, cases, dice < segmentation.FAILED_UNDER),
        resampled("HD95, share of the edge", on, cases, lambda i: float(far[i].mean())),
        part_of("no plausible lungs", on, cases, measured.implausible),
    ]


def gain_figure(gain: npt.NDArray[np.float64], cases: Sequence[data.Case], on: str) -> dict[str, Any]:
    """Mean difference of the two networks' Dice on the same images."""
    found = segmentation.compared(gain, np.zeros_like(gain), [c.patient_id for c in cases]).difference
    what = "Dice, optimised minus baseline, paired"
    return entry(what, on, found.value, found.low, found.high, len(cases), found.method)


def _resized(mask: npt.NDArray[np.bool_], shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    image = torch.from_numpy(mask).float()[None, None]
    resized: npt.NDArray[np.bool_] = (
        F.interpolate(image, size=shape, mode="bilinear", antialias=True)[0, 0].numpy() > 0.5
    )
    return resized
