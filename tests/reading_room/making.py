"""Small studies made in code: phantoms of a chest, a table, a protocol, and a clock that is set by hand."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from PIL import Image

from triage.domain.finding import ChestClass
from triage.reading_room.cases import TABLE, read_cases, sha256_of
from triage.reading_room.codes import hash_of
from triage.reading_room.prepared import Study, save
from triage.reading_room.standing import Event, Kind, Reading
from triage.reading_room.study import Order, plan

NOON = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
SALT, KEY = b"salt of these tests", b"key of these tests, long enough"
HEADER = ("caseID", "file", "truth_class", "p_normal", "p_pneumonia", "p_covid", "overlay")
CODES = {"R01": "AAAA-BBBB-CCCC-0001", "R02": "AAAA-BBBB-CCCC-0002"}
HASHES = {reader: hash_of(code, SALT) for reader, code in CODES.items()}
"""Made once: a hash that is cheap to make is cheap to guess."""
CERTAIN = Reading(ChestClass.COVID, (0, 5, 95))


@dataclass
class Clock:
    """An instant that moves when told to."""

    at: datetime = NOON

    def __call__(self) -> datetime:
        return self.at

    def wait(self, **how_long: float) -> None:
        self.at += timedelta(**how_long)


def phantom(path: Path, seed: int) -> Path:
    """Two dark lungs in a grey chest, noise of its own; a grey PNG that carries a text."""
    y, x = np.mgrid[0:120, 0:100] / 100
    lungs = np.minimum(np.hypot((x - 0.3) / 0.8, y - 0.55), np.hypot((x - 0.7) / 0.8, y - 0.55)) < 0.28
    noise = np.random.default_rng(seed).normal(0, 6, lungs.shape)
    grey = np.clip(np.where(lungs, 70, 170) + noise, 0, 255).astype(np.uint8)
    Image.fromarray(grey).save(path)
    return path


def mask(path: Path) -> Path:
    """A lung mask as `models predict --masks` writes it."""
    inside = np.zeros((120, 100), np.uint8)
    inside[30:90, 15:45] = inside[30:90, 55:85] = 255
    Image.fromarray(inside).save(path)
    return path


def write_table(folder: Path, rows: Sequence[Sequence[object]], header: Sequence[str] = HEADER) -> None:
    with (folder / TABLE).open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def make_folder(folder: Path, cases: int = 6, *, has_model: bool = True) -> Path:
    """A folder of cases whose names tell the truth, as a careless owner's do."""
    folder.mkdir(exist_ok=True)
    mask(folder / "lungs.png")
    rows: list[Sequence[object]] = []
    for number in range(cases):
        truth = list(ChestClass)[number % 3]
        name = phantom(folder / f"secret-{truth}-{number}.png", number).name
        model = (0.125, 0.25, 0.625, "lungs.png") if has_model else ("", "", "", "")
        rows.append((f"secret-{number}", name, truth, *model))
    write_table(folder, rows)
    return folder


@dataclass
class Prepared:
    """A study on disk, and how to tell what is in it."""

    study: Study
    truth: Mapping[str, ChestClass]
    clock: Clock = field(default_factory=Clock)


def make_study(folder: Path, cases: int = 6, *, seed: int = 3, washout: int = 28, has_model: bool = True) -> Prepared:
    """A prepared study of two readers."""
    make_folder(folder, cases, has_model=has_model)
    found, truth = read_cases(folder)
    study = Study(
        folder=folder, prepared_at=NOON, seed=seed, washout=timedelta(days=washout),
        table_sha256=sha256_of(folder / TABLE), cases={case.case_id: case for case in found},
        orders=plan(truth, list(CODES), seed, is_crossed=has_model),
        codes=HASHES, salt=SALT, key=KEY,
    )  # fmt: skip
    save(study, anew=True)
    study.readings.mkdir()
    return Prepared(study, truth)


def read_all(order: Order, start: datetime = NOON, *, washout: timedelta = timedelta(days=28)) -> list[Event]:
    """The events of a reader who takes a minute for each case and says COVID of all."""
    events: list[Event] = []
    at, session = start, 1
    for number, showing in enumerate(order):
        if showing.session != session:
            events.append(Event(Kind.CLOSED, at, number - 1))
            at, session = at + washout, showing.session
        events.append(Event(Kind.OPENED, at, number))
        at += timedelta(minutes=1)
        events.append(Event(Kind.READ, at, number, CERTAIN))
    return [*events, Event(Kind.CLOSED, at, len(order) - 1)]
