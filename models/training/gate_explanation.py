"""Does the drawn activation show what the classifier goes by? Grey it out, and a random piece of lung beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
import torch.nn.functional as F
from rich.progress import track
from torch import nn

from models import preprocess
from models.card import verified_weights
from models.engine import CLASSES, Engine, Reading, loaded
from models.training import data
from models.training.figures import by_patient, entry
from models.training.scores import Figures
from triage.domain.finding import ChestClass

EDGE = 0.25
"""Edge of the greyed square over the crop's."""
BESIDE = 8
"""Random squares over the lungs that the highest activation is compared with."""
Pixels = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Fall:
    """By how much the logit of a case's class falls."""

    label: str
    patient: str
    at_activation: float
    beside: float
    """Mean over the random squares."""
    is_inside: bool
    """The highest activation lies over the lungs."""


def falls(engine: Engine, folder: Path, cases: Sequence[data.Case], seed: int) -> list[Fall]:
    """What greying does to each case's own class, where the case has two lungs."""
    net, rng = classifier(engine, folder), np.random.default_rng(seed)
    found = []
    for case in track(cases, "occlusion"):
        (reading,) = engine.read([data.read_pixels(case.path)])
        if isinstance(reading, Reading):
            found.append(_fall(net, reading, case, rng))
    return found


def classifier(engine: Engine, folder: Path) -> nn.Module:
    """The engine's classifier as plain PyTorch, which takes any picture."""
    card = engine.cards["chest"]
    return loaded(card, safetensors.torch.load(verified_weights(folder / "chest.safetensors", card))).eval()


def chosen(held_out: Sequence[data.Case], most: int, seed: int) -> list[data.Case]:
    """At most *most* pneumonia and COVID cases in equal parts, one a patient as far as they reach."""
    rng = np.random.default_rng(seed)
    some: list[data.Case] = []
    for label in (ChestClass.PNEUMONIA, ChestClass.COVID):
        of_class = [held_out[i] for i in rng.permutation(len(held_out)) if held_out[i].label == label]
        firsts = list({c.patient_id: c for c in reversed(of_class)}.values())
        others = [c for c in of_class if c not in firsts]
        some += (firsts + others)[: most // 2]
    return some


def figures(found: Sequence[Fall]) -> Figures:
    """Mean fall of the logit at the activation, beside it, and the paired difference, by class."""
    said: Figures = []
    for on in ("pneumonia and COVID", *sorted({f.label for f in found})):
        some = [f for f in found if on in (f.label, "pneumonia and COVID")]
        patients = [f.patient for f in some]
        values = {
            "fall of the logit, highest activation greyed": np.array([f.at_activation for f in some]),
            "fall of the logit, random lung greyed": np.array([f.beside for f in some]),
            "paired difference": np.array([f.at_activation - f.beside for f in some]),
            "share where the activation's fall is larger": np.array([f.at_activation > f.beside for f in some], float),
            "share with the highest activation over the lungs": np.array([f.is_inside for f in some], float),
        }
        for what, each in values.items():
            if len(each):
                low, high = by_patient(patients, lambda rows, each=each: float(each[rows].mean()))  # type: ignore[misc]
                said.append(entry(what, on, float(each.mean()), low, high, len(each), "bootstrap by patient"))
    return said


def square_at(row: float, column: float, edge: int, side: int) -> tuple[slice, slice]:
    """The square of *edge* pixels around a point, moved inside a picture of *side* pixels so that none is cut off."""
    top, left = (int(np.clip(round(at - edge / 2), 0, side - edge)) for at in (row, column))
    return slice(top, top + edge), slice(left, left + edge)


def greyed(picture: Pixels, where: tuple[slice, slice], grey: float) -> Pixels:
    """A copy with one square in flat grey."""
    changed = picture.copy()
    changed[where] = grey
    return changed


def _fall(net: nn.Module, reading: Reading, case: data.Case, rng: np.random.Generator) -> Fall:
    crop, label = reading.crop, data.label_of(case)
    side = len(crop.image)
    edge = round(EDGE * side)
    grey = float(crop.image[crop.lungs > 0.5].mean())
    small = torch.from_numpy(np.ascontiguousarray(reading.activation[label]))[None, None]
    large = F.interpolate(small, size=(side, side), mode="bilinear", align_corners=False)[0, 0].numpy()
    row, column = np.unravel_index(int(large.argmax()), large.shape)
    lung = np.argwhere(crop.lungs > 0.5)
    points = [(row, column), *lung[rng.integers(len(lung), size=BESIDE)]]
    pictures = [crop.image, *(greyed(crop.image, square_at(r, c, edge, side), grey) for r, c in points)]
    with torch.inference_mode():
        logits = net(preprocess.standardised(torch.from_numpy(np.stack(pictures))[:, None])).logits[:, label]
    fall = (logits[0] - logits[1:]).double().numpy()
    return Fall(
        CLASSES[label].value,
        case.patient_id,
        float(fall[0]),
        float(fall[1:].mean()),
        bool(crop.lungs[row, column] > 0.5),
    )
