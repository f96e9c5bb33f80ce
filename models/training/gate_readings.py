"""What the engine says of every picture of a set, kept in a scratch folder so that a study can go on later."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.progress import Progress

import models.engine
from models import gate, pictures, preprocess
from models.engine import AT_ONCE, Engine, Reading
from models.training import gate_pictures
from models.training.gate_pictures import PictureSet
from triage.domain.errors import UnusableRadiograph

BY_LIMIT = "out-of-distribution"
_CODE = (models.engine, gate, preprocess, pictures, gate_pictures)
"""What was read by other code is read anew."""


@dataclass(frozen=True)
class Seen:
    """
    Of each picture of one set; NaN where the networks had nothing to look at.

    Attributes:
        patients: whose it is.
        header: why the file or its header is refused, or ''.
        pixel: why the pixels are refused before the out-of-distribution limit, or ''.
        detail: the same in words.
        score: the gate score, also of pictures without two plausible lungs.
        outside: share of the COVID activation outside the lungs.
        embedding: (n, features) float32.
    """

    patients: npt.NDArray[np.str_]
    header: npt.NDArray[np.str_]
    pixel: npt.NDArray[np.str_]
    detail: npt.NDArray[np.str_]
    score: npt.NDArray[np.float64]
    outside: npt.NDArray[np.float64]
    embedding: npt.NDArray[np.float32] = field(repr=False)

    def __len__(self) -> int:
        return len(self.pixel)

    @property
    def is_read(self) -> npt.NDArray[np.bool_]:
        """(n,) the classifier saw something, two lungs or not."""
        return np.isfinite(self.score)

    @property
    def has_lungs(self) -> npt.NDArray[np.bool_]:
        """(n,) nothing but the out-of-distribution limit is left to refuse the pixels."""
        found: npt.NDArray[np.bool_] = self.is_read & (self.pixel == "")
        return found

    def passes(self, limit: float) -> npt.NDArray[np.bool_]:
        """(n,) assessed, if the header says nothing."""
        with np.errstate(invalid="ignore"):
            return self.has_lungs & (self.score <= limit)

    def reasons(self, limit: float) -> Counter[str]:
        """How many are refused by their pixels, by reason."""
        said = np.where(self.pixel != "", self.pixel, np.where(self.passes(limit), "", BY_LIMIT))
        return Counter(str(reason) for reason in said if reason)

    def where(self, rows: npt.NDArray[np.bool_]) -> Seen:
        """Those rows alone."""
        return Seen(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


def read_sets(engine: Engine, sets: Sequence[PictureSet], scratch: Path) -> dict[str, Seen]:
    """Read every set, or find it in *scratch*, by name."""
    folder = scratch / _version(engine)
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    with Progress() as progress:
        pictures_left = progress.add_task("pictures", total=sum(map(len, sets)))
        for some in sets:
            progress.update(pictures_left, description=some.name)
            found[some.name] = _read_or_found(engine, some, folder)
            progress.advance(pictures_left, len(some))
    return found


def read_set(engine: Engine, some: PictureSet) -> Seen:
    """What *engine* says of each picture; those without plausible lungs are looked at as well."""
    features = 0
    rows: list[tuple[str, str, str, float, float, npt.NDArray[np.float32] | None]] = []
    for first in range(0, len(some), AT_ONCE):
        for header, outcome in _batch(engine, some.items[first : first + AT_ONCE]):
            match outcome:
                case Reading():
                    features = len(outcome.embedding)
                    pixel = "lungs-implausible" if outcome.implausible else ""
                    outside = np.nan if outcome.activation_outside is None else outcome.activation_outside
                    said = (header, pixel, outcome.implausible or "", outcome.gate_score, outside, outcome.embedding)
                    rows.append(said)
                case UnusableRadiograph():
                    rows.append((header, outcome.reason, outcome.detail, np.nan, np.nan, None))
    nothing = np.full(features, np.nan, dtype=np.float32)
    header_, pixel_, detail_, score, outside_, embedding = zip(*rows, strict=True) if rows else ((),) * 6
    return Seen(
        patients=np.array([i.patient for i in some.items], dtype=str),
        header=np.array(header_, dtype=str),
        pixel=np.array(pixel_, dtype=str),
        detail=np.array(detail_, dtype=str),
        score=np.array(score, dtype=np.float64),
        outside=np.array(outside_, dtype=np.float64),
        embedding=np.stack([nothing if e is None else e for e in embedding]) if rows else np.zeros((0, 0), np.float32),
    )


def _batch(engine: Engine, items: Sequence[gate_pictures.Item]) -> list[tuple[str, Reading | UnusableRadiograph]]:
    """For each item why its header is refused, and what the networks say of the pixels all the same."""
    opened: list[pictures.Picture | UnusableRadiograph] = []
    for item in items:
        try:
            opened.append(item.read())
        except UnusableRadiograph as refusal:
            opened.append(refusal)
    readable = [p for p in opened if isinstance(p, pictures.Picture)]
    outcomes = iter(engine.read([p.pixels for p in readable], despite_implausible=True))
    return [(p.refusal or "", next(outcomes)) if isinstance(p, pictures.Picture) else (p.reason, p) for p in opened]


def _read_or_found(engine: Engine, some: PictureSet, folder: Path) -> Seen:
    names = hashlib.sha256("\n".join([some.name, *(i.name for i in some.items)]).encode()).hexdigest()[:16]
    path = folder / f"{names}.npz"
    if path.is_file():
        with np.load(path) as stored:
            return Seen(**{f.name: stored[f.name] for f in fields(Seen)})
    seen = read_set(engine, some)
    beside = path.with_suffix(".part.npz")  # a run that is cut off leaves no half-written file behind
    np.savez(beside, **{f.name: getattr(seen, f.name) for f in fields(Seen)})
    beside.rename(path)
    return seen


def _version(engine: Engine) -> str:
    """Other weights or other code, other readings."""
    code = b"".join(Path(str(module.__file__)).read_bytes() for module in _CODE)
    said = f"{engine.classifier.card_sha256} {engine.segmenter.card_sha256} {engine.runtime} "
    return hashlib.sha256(said.encode() + code).hexdigest()[:16]
