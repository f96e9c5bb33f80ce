"""The manifest of radiographs: who may be trained on, split by patient, filtered by licence."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from triage.domain.errors import Misconfigured
from triage.domain.finding import ChestClass
from triage.domain.imaging import InstanceFacts, Radiograph

HELD_OUT_FOLD = 0
CLASSES = tuple(ChestClass)
COMMERCIAL = frozenset({"attribution", "unrestricted-with-attribution"})
"""
Licence classes whose written terms permit commercial use.

Images that a public body released "to the research community" without a licence text (Shenzhen), and images whose
author only says that they are open, are not among them: nobody who sells a product could show a permission.
"""


CONVENTION_OF = {"stirenko_manual": "manual", "nlm_manual": "manual", "v7": "v7"}
"""Lung masks by origin: manual ones leave the heart and the mediastinum out, V7's count what lies behind them."""
MASK_ORIGINS = tuple(CONVENTION_OF)


@dataclass(frozen=True)
class Case:
    """One radiograph of the manifest; *sex*, *view* and *note* as the manifest gives them, empty where unknown."""

    image_id: str
    source: str
    path: Path = field(repr=False)
    patient_id: str
    label: str
    role: str
    fold: int | None
    age: float | None
    sex: str
    view: str
    licence: str
    licence_class: str
    masks: tuple[tuple[str, Path], ...] = field(default=(), repr=False)
    """(origin, path) of each lung mask."""

    @property
    def is_commercial(self) -> bool:
        """The image's written terms permit commercial use."""
        return self.licence_class in COMMERCIAL

    def mask_of(self, *origins: str) -> Path | None:
        """The first mask made by one of *origins*."""
        return next((path for wanted in origins for origin, path in self.masks if origin == wanted), None)


def read_manifest(folder: Path) -> list[Case]:
    """Every radiograph of *folder*/manifest.csv with its masks of *folder*/masks.csv, in the file's order."""
    if not (folder / "manifest.csv").is_file():
        raise Misconfigured(f"no manifest.csv in {folder}")
    masks: dict[str, list[tuple[str, Path]]] = {}
    with (folder / "masks.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            masks.setdefault(row["image_id"], []).append((row["mask_origin"], folder / row["mask_path"]))
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return [
            Case(
                image_id=row["image_id"],
                source=row["source"],
                path=folder / row["file"],
                patient_id=row["patient_id"],
                label=row["label"],
                role=row["role"],
                fold=int(row["fold"]) if row["fold"] else None,
                age=_years(row["age"]),
                sex=row["sex"],
                view=row["view"],
                licence=row["licence"],
                licence_class=row["licence_class"],
                masks=tuple(masks.get(row["image_id"], ())),
            )
            for row in csv.DictReader(file)
        ]


def lung_cases(cases: Iterable[Case], *, held_out: bool = False, licensed: bool = True) -> list[Case]:
    """
    Cases with a lung mask, outside the external role: those to train on, or those held out.

    Held out are fold 0 and one child in twenty (children have no folds). Where *licensed*, only V7 masks of
    images whose written terms permit commercial use: children and severely ill adults.
    """
    return [
        c
        for c in cases
        if c.role in ("dev", "paediatric", "segmentation-only")
        and _is_held_out(c) is held_out
        and ((c.is_commercial and c.mask_of("v7")) if licensed else c.mask_of(*MASK_ORIGINS))
    ]


def _is_held_out(case: Case) -> bool:
    if case.role != "paediatric":
        return case.fold == HELD_OUT_FOLD
    return hashlib.sha256(case.patient_id.encode()).digest()[0] % 20 == 0


def chest_cases(cases: Iterable[Case], *, held_out: bool, licensed: bool = True) -> list[Case]:
    """
    Labelled adult development cases: folds 1 to 4, or the held-out fold 0.

    NIH patients under 18 are left out of both; where *licensed*, images without
    a written permission of commercial use as well.
    """
    return [
        c
        for c in cases
        if c.role == "dev"
        and c.label in CLASSES
        and (c.is_commercial or not licensed)
        and (c.fold == HELD_OUT_FOLD) is held_out
        and not (c.source == "nih_cxr14" and (c.age is None or c.age < 18))
    ]


def external_cases(cases: Iterable[Case]) -> list[Case]:
    """Labelled external cases: evaluation only, never for choosing anything."""
    return [c for c in cases if c.role == "external" and c.label in CLASSES]


def tuberculosis_cases(cases: Iterable[Case], *, held_out: bool) -> list[Case]:
    """Shenzhen's tuberculosis images: abnormal lungs that are neither normal nor COVID."""
    return [
        c
        for c in cases
        if c.role == "dev" and c.source == "shenzhen" and c.label == "other" and (c.fold == HELD_OUT_FOLD) is held_out
    ]


def label_of(case: Case) -> int:
    """The network's output index of the case's label; what is labelled other stands with pneumonia (`Recipe`)."""
    return CLASSES.index(ChestClass.PNEUMONIA if case.label == "other" else ChestClass(case.label))


def read_pixels(path: Path) -> npt.NDArray[np.float32]:
    """(rows, columns) float32 in [0, 1] of a grey or colour image file."""
    with Image.open(path) as image:
        return np.asarray(image.convert("L"), dtype=np.float32) / np.float32(255)


def read_mask(path: Path) -> npt.NDArray[np.bool_]:
    """(rows, columns): inside the lungs."""
    with Image.open(path) as image:
        return np.asarray(image.convert("L")) > 127


def radiograph(case: Case) -> Radiograph:
    """The case as the service would see it, with invented identity."""
    pixels = read_pixels(case.path)
    facts = InstanceFacts("1.2.3", "1.2.3.1", "1.2.3.1.1", "1.2.840.10008.5.1.4.1.1.1.1", modality="DX")
    return Radiograph(pixels, facts)


def summary(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """What a card says of its data: images and patients by source, label and licence class."""
    images = Counter((c.source, c.label, c.licence_class) for c in cases)
    patients = {k: len({c.patient_id for c in cases if (c.source, c.label, c.licence_class) == k}) for k in images}
    return [
        {"source": s, "label": label, "licence_class": lic, "images": n, "patients": patients[(s, label, lic)]}
        for (s, label, lic), n in sorted(images.items())
    ]


def _years(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
