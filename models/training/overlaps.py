"""How well found lungs agree with drawn ones: on which sets, by which network, and the gain over the baseline's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
import torch.nn.functional as F
from rich.progress import track

from models import gate, preprocess
from models.card import read, verified_weights
from models.engine import AT_ONCE, CONVENTION, loaded, lung_maps
from models.training import data
from models.training.figures import entry
from models.training.scores import Figures, part_of, resampled
from triage.audit import segmentation

BASELINE = "lungs-baseline"


class Segmenter(Protocol):
    """What finds lungs: the engine, or one lung network alone."""

    @property
    def conventions(self) -> tuple[str, ...]:
        """The mask conventions that it knows."""
        ...

    def lung_probability(
        self, squares: Sequence[npt.NDArray[np.float32]], convention: str = CONVENTION
    ) -> list[npt.NDArray[np.float32]]:
        """Lung probability maps of pictures made by `preprocess.squared`, in the same frame."""
        ...


class LungNetwork:
    """One lung network of a folder, run alone in full precision."""

    def __init__(self, folder: Path, name: str) -> None:
        self.card, self.identity = read(folder / f"{name}.json")
        stored = safetensors.torch.load(verified_weights(folder / f"{name}.safetensors", self.card))
        self._net = loaded(self.card, stored).eval().to(memory_format=torch.channels_last)
        self._side = int(self.card.architecture["side"])

    @property
    def conventions(self) -> tuple[str, ...]:
        """The mask conventions that it knows, in the order of its outputs."""
        return tuple(self.card.architecture.get("conventions", (CONVENTION,)))

    def lung_probability(
        self, squares: Sequence[npt.NDArray[np.float32]], convention: str = CONVENTION
    ) -> list[npt.NDArray[np.float32]]:
        """Lung probability maps of pictures made by `preprocess.squared`, in the same frame."""
        output = self.conventions.index(convention)
        return lung_maps(self._net, squares, self._side, device=torch.device("cpu"), half=False, output=output)


def role_figures(segmenter: Segmenter, folder: Path, every: Sequence[data.Case], role: str) -> dict[str, Figures]:
    """
    By card: the shipped lungs' figures, and where a baseline network lies in *folder* its own and the difference.

    Each set is judged by the output of its own mask convention (`answer_for`).
    """
    baseline = LungNetwork(folder, BASELINE) if (folder / f"{BASELINE}.json").exists() else None
    found: dict[str, Figures] = {"lungs": [], **({BASELINE: []} if baseline else {})}
    for on, origin, cases in lung_sets(every, role):
        measured = overlaps(segmenter, cases, origin, on)
        found["lungs"] += lung_figures(measured, cases, on)
        if baseline:
            before = overlaps(baseline, cases, origin, f"{on}, baseline")
            found[BASELINE] += lung_figures(before, cases, on)
            found["lungs"] += gain_figures(measured, before, cases, on)
    return found


SETS = {
    "dev": (
        ("shenzhen fold 0, manual masks without heart", "shenzhen", "stirenko_manual"),
        ("hannover_v1crop fold 0, v7 masks", "hannover_v1crop", "v7"),
        ("web_other fold 0, v7 masks", "web_other", "v7"),
        ("kermany held out, children, v7 masks", "kermany", "v7"),
    ),
    "external": (
        ("montgomery, manual masks without heart", "montgomery", "nlm_manual"),
        ("web_eurorad, v7 masks", "web_eurorad", "v7"),
    ),
}
"""By role, the sets that lungs are measured on: name, source, mask origin."""


def lung_sets(cases: Iterable[data.Case], role: str) -> list[tuple[str, str, list[data.Case]]]:
    """(name, mask origin, cases) of the sets the lungs are measured on; none of them was trained on."""
    every = list(cases)
    unseen = (
        [c for c in every if c.role == "external"]
        if role == "external"
        else data.lung_cases(every, held_out=True, licensed=False)
    )
    named = [
        (name, origin, [c for c in unseen if c.source == source and c.mask_of(origin)])
        for name, source, origin in SETS[role]
    ]
    return [(name, origin, some) for name, origin, some in named if some]


def answer_for(segmenter: Segmenter, origin: str) -> str:
    """The convention of masks of one *origin*; a network that does not know it answers by the only one it has."""
    convention = data.CONVENTION_OF[origin]
    return convention if convention in segmenter.conventions else segmenter.conventions[-1]


@dataclass(frozen=True)
class Overlaps:
    """Of each image: Dice, the outlines' 95th percentile distance, and whether the lungs were implausible."""

    dice: npt.NDArray[np.float64]
    farthest: npt.NDArray[np.float64]
    implausible: npt.NDArray[np.bool_]


def joined(several: Sequence[Overlaps]) -> Overlaps:
    """Several sets as one."""
    columns = ([getattr(o, name) for o in several] for name in ("dice", "farthest", "implausible"))
    return Overlaps(*(np.concatenate(c) for c in columns))


def overlaps(segmenter: Segmenter, cases: Sequence[data.Case], origin: str, on: str) -> Overlaps:
    """The kept lungs of each case against its mask of one *origin*, both in the frame of `preprocess.squared`."""
    rows: list[tuple[float, float, bool]] = []
    for first in track(range(0, len(cases), AT_ONCE), f"lungs, {on}"):
        for field, truth in fields(segmenter, cases[first : first + AT_ONCE], origin):
            edge = 1 / field.mask.shape[0]
            distance = segmentation.hd95(field.mask, truth, edge)
            rows.append((segmentation.dice(field.mask, truth), distance, field.implausible is not None))
    dice, farthest, implausible = zip(*rows, strict=True)
    return Overlaps(np.array(dice), np.array(farthest), np.array(implausible))


def fields(
    segmenter: Segmenter, cases: Sequence[data.Case], origin: str
) -> list[tuple[gate.LungField, npt.NDArray[np.bool_]]]:
    """Of a few cases, the kept lungs beside the mask of one *origin*."""
    pictures = [data.read_pixels(c.path) for c in cases]
    squares = [preprocess.squared(p) for p in pictures]
    maps = segmenter.lung_probability(squares, answer_for(segmenter, origin))
    found = []
    for case, picture, probability in zip(cases, pictures, maps, strict=True):
        path = case.mask_of(origin)
        assert path is not None
        rows, columns = picture.shape
        found.append((gate.lung_field(probability, columns / rows), _resized(data.read_mask(path), probability.shape)))
    return found


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


GAIN = "Dice, optimised minus baseline, paired"


def gain_figures(ours: Overlaps, before: Overlaps, cases: Sequence[data.Case], on: str, what: str = GAIN) -> Figures:
    """Mean difference of two networks' Dice on the same images (BCa by patient), with Wilcoxon's p."""
    found = segmentation.compared(ours.dice, before.dice, [c.patient_id for c in cases])
    difference, nan = found.difference, float("nan")
    return [
        entry(what, on, difference.value, difference.low, difference.high, len(cases), difference.method),
        entry(f"{what}: Wilcoxon's p", on, found.p, nan, nan, len(cases), "signed rank of the patients' means"),
    ]


def _resized(mask: npt.NDArray[np.bool_], shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    image = torch.from_numpy(mask).float()[None, None]
    resized: npt.NDArray[np.bool_] = (
        F.interpolate(image, size=shape, mode="bilinear", antialias=True)[0, 0].numpy() > 0.5
    )
    return resized
