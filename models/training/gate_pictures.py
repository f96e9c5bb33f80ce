"""Sets of pictures that the gates must let pass or must refuse: real ones, and real ones spoilt in a known way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom.data
from scipy import ndimage

from models.pictures import Picture, read_picture
from models.training import data
from triage.domain.eligibility import IntendedUse
from triage.domain.errors import Misconfigured

Pixels = npt.NDArray[np.float32]
Change = Callable[[Pixels, np.random.Generator], Pixels]
SLICES = (
    "CT_small.dcm",
    "693_J2KI.dcm",
    "J2K_pixelrep_mismatch.dcm",
    "MR_small.dcm",
    "examples_overlay.dcm",
    "JPEG2000.dcm",
    "liver_1frame.dcm",
)
"""CT, MR, nuclear medicine and a segmentation among pydicom's own test files; those that are not installed are left."""
OTHER_RADIOGRAPHS = ("notchest_RG2_hip_J2K.dcm", "notchest_RG3_extremity_J2K.dcm")
LATERALS = ("trap_DX_thorax_tags_but_lateral_DOG.dcm",)
CHILDREN = "children of 1-5 years (by pixels alone)"
FRONTALS = ("cxr_RG1_J2K_lossy_mono1_15bit.dcm",)


@dataclass(frozen=True)
class Item:
    """One picture, not yet read; *read* raises UnusableRadiograph where the file itself is refused."""

    name: str
    patient: str
    read: Callable[[], Picture] = field(repr=False)


@dataclass(frozen=True)
class PictureSet:
    """Pictures of one kind; *is_eligible* where the gates should let them pass."""

    name: str
    items: Sequence[Item] = field(repr=False)
    is_eligible: bool = False

    def __len__(self) -> int:
        return len(self.items)


def real_sets(
    every: Sequence[data.Case], frontal: Sequence[data.Case], corpus: Path, use: IntendedUse, most: int
) -> list[PictureSet]:
    """
    Pictures as they came.

    Args:
        every: the manifest.
        frontal: held-out frontal adults of the development sources.
        corpus: with `dicom/`.
        most: children taken.
    """
    external = [c for c in every if c.role == "external"]
    sets = [PictureSet("development fold 0, frontal adults", cases(frontal), is_eligible=True)]
    for source in sorted({c.source for c in external}):
        some = [c for c in external if c.source == source and (c.age is None or c.age >= use.minimum_age_years)]
        sets.append(PictureSet(f"external {source}, frontal adults", cases(some), is_eligible=True))
    children = [c for c in every if c.role == "paediatric"]
    folder = corpus / "dicom"
    slices = [
        Path(f) for f in (pydicom.data.get_testdata_file(n, download=False) for n in SLICES) if isinstance(f, str)
    ]
    return [
        *sets,
        PictureSet("corpus: frontal chest (DICOM)", files([folder / n for n in FRONTALS], use), is_eligible=True),
        PictureSet(CHILDREN, cases(spread(children, most))),
        PictureSet("corpus: lateral, of a dog (DICOM)", files([folder / n for n in LATERALS], use)),
        PictureSet("corpus: hip, extremity (DICOM)", files([folder / n for n in OTHER_RADIOGRAPHS], use)),
        PictureSet("CT, MR, scintigraphy, segmentation (DICOM)", files(slices, use)),
    ]


def spoilt_sets(frontal: Sequence[data.Case], most: int, seed: int) -> list[PictureSet]:
    """The same *most* held-out frontal adults spoilt in every way of `CHANGES`, and pictures made of nothing."""
    chosen = spread(frontal, most)
    sets = [
        PictureSet(name, [spoilt(case, change, seed + i) for i, case in enumerate(chosen)])
        for name, change in CHANGES.items()
    ]
    rng = np.random.default_rng(seed)
    flat = {"black": 0.0, "grey": 0.5, "white": 1.0}
    sets.append(
        PictureSet(
            "black, grey, white",
            [Item(n, n, partial(Picture, np.full((320, 320), v, dtype=np.float32))) for n, v in flat.items()],
        )
    )
    for name, blur in (("white noise", 0.0), ("cloudy noise", 12.0)):
        made = [_noise(rng, blur) for _ in range(max(1, most // 2))]
        sets.append(PictureSet(name, [Item(f"{name} {i}", f"{i}", partial(Picture, p)) for i, p in enumerate(made)]))
    return sets


def cases(some: Sequence[data.Case]) -> list[Item]:
    """Each case as an item."""
    return [Item(c.image_id, c.patient_id, partial(_picture, c)) for c in some]


def files(paths: Sequence[Path], use: IntendedUse) -> list[Item]:
    """
    Each file as an item.

    Raises:
        Misconfigured: a file is not there.
    """
    missing = [p.name for p in paths if not p.is_file()]
    if missing:
        raise Misconfigured(f"not in the corpus: {', '.join(missing)}")
    return [Item(p.name, p.name, partial(read_picture, p, use)) for p in paths]


def spread(some: Sequence[data.Case], most: int) -> list[data.Case]:
    """At most *most* cases, evenly from the manifest's order, so that every source has its share."""
    if len(some) <= most:
        return list(some)
    return [some[int(i)] for i in np.linspace(0, len(some) - 1, most)]


def spoilt(case: data.Case, change: Change, seed: int) -> Item:
    """One case spoilt by one of `CHANGES`."""

    def read() -> Picture:
        changed = change(data.read_pixels(case.path), np.random.default_rng(seed))
        return Picture(np.ascontiguousarray(changed, dtype=np.float32))

    return Item(case.image_id, case.patient_id, read)


def photographed(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """
    A film on a light box as a telephone sees it, simulated.

    Seen at an angle before a dark room, unevenly lit, with a glare, the moiré of a screen, a colour cast that weighs on
    the grey values, blur and noise.
    """
    n = 384
    corners = np.array([[0, 0], [0, 1], [1, 1], [1, 0]], dtype=np.float64)
    inward = np.where(corners == 0, 1, -1)
    seen = corners + inward * rng.uniform(0.04, 0.17, (4, 2))
    y, x = (np.mgrid[0:n, 0:n] + 0.5) / n
    row, column = _through(_homography(seen, corners), y, x)
    rows, columns = pixels.shape
    film = ndimage.map_coordinates(pixels, [row * rows - 0.5, column * columns - 0.5], order=1, mode="nearest")
    light = 1 + rng.uniform(-0.35, 0.35) * (x - 0.5) + rng.uniform(-0.35, 0.35) * (y - 0.5)
    period, turn, phase = rng.uniform(3, 7) / n, rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
    moire = 1 + rng.uniform(0.03, 0.10) * np.sin(2 * np.pi * (x * np.cos(turn) + y * np.sin(turn)) / period + phase)
    picture = film ** rng.uniform(0.6, 1.5) * light * moire
    centre, size = rng.uniform(0.2, 0.8, 2), rng.uniform(0.05, 0.16)
    picture += rng.uniform(0.3, 0.9) * np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * size**2))
    picture = np.where((row >= 0) & (row < 1) & (column >= 0) & (column < 1), picture, rng.uniform(0.02, 0.12))
    cast = rng.uniform(0.7, 1.1, 3)
    picture = (np.clip(picture[..., None] * cast, 0, 1) * (0.299, 0.587, 0.114)).sum(-1)
    picture = ndimage.gaussian_filter(picture, rng.uniform(0.4, 1.2)) + 0.015 * rng.standard_normal((n, n))
    taken: Pixels = np.clip(picture, 0, 1).astype(np.float32)
    return taken


def half(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """The left or the right half."""
    middle = pixels.shape[1] // 2
    return pixels[:, :middle] if rng.random() < 0.5 else pixels[:, middle:]


CHANGES: dict[str, Change] = {
    "inverted": lambda p, _: 1 - p,
    "turned by 90 degrees": lambda p, _: np.rot90(p, 1),
    "turned by 180 degrees": lambda p, _: np.rot90(p, 2),
    "turned by 270 degrees": lambda p, _: np.rot90(p, 3),
    "upside down (mirrored)": lambda p, _: p[::-1],
    "half a chest": half,
    "lower third alone (upper abdomen)": lambda p, _: p[2 * len(p) // 3 :],
    "upper third alone (neck, shoulders)": lambda p, _: p[: len(p) // 3],
    "simulated photographs of films": photographed,
}
"""How a frontal radiograph is spoilt."""


def _picture(case: data.Case) -> Picture:
    return Picture(data.read_pixels(case.path))


def _noise(rng: np.random.Generator, blur: float) -> Pixels:
    picture = ndimage.gaussian_filter(rng.random((320, 320)), blur)
    stretched: Pixels = ((picture - picture.min()) / (picture.max() - picture.min())).astype(np.float32)
    return stretched


def _homography(origin: npt.NDArray[np.float64], target: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(3, 3): takes the four points *origin* (row, column) to *target*."""
    rows, aims = [], []
    for (y, x), (v, u) in zip(origin, target, strict=True):
        rows += [[y, x, 1, 0, 0, 0, -v * y, -v * x], [0, 0, 0, y, x, 1, -u * y, -u * x]]
        aims += [v, u]
    return np.append(np.linalg.solve(np.array(rows), np.array(aims)), 1.0).reshape(3, 3)


def _through(
    matrix: npt.NDArray[np.float64], y: npt.NDArray[np.float64], x: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    v, u, w = np.tensordot(matrix, np.stack([y, x, np.ones_like(y)]), axes=1)
    return v / w, u / w
